"""Calls on a module's entries while it is unloaded, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._play import KernelPlay, everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiopde import Kernel


async def read_and_rmmod(p: KernelPlay) -> None:
    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = p.create("x", "read", "release")
        yield
        await entry.remove()

    await p.kernel.insmod(main, "driver")
    file = await p.open("x")
    p.start("reader", file.read, 3)
    p.start("rmmod", p.kernel.rmmod, "driver")


async def open_and_rmmod(p: KernelPlay) -> None:
    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = p.create("x", "open", "release")
        yield
        await entry.remove()

    await p.kernel.insmod(main, "driver")
    p.start("opener", p.open, "x")
    p.start("rmmod", p.kernel.rmmod, "driver")


async def two_rmmods(p: KernelPlay) -> None:
    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = p.create("x", "", "read")
        yield
        await entry.remove()

    await p.kernel.insmod(main, "driver")
    won: list[str] = []

    async def rmmod(name: str) -> None:
        await p.rmmod("driver")
        won.append(name)
        assert won == [name], "unloaded twice (I43)"

    p.start("first", rmmod, "first")
    p.start("second", rmmod, "second")


@everyone("reader", "rmmod")
def test_a_read_is_let_in_or_refused(backend: str, victim: str) -> None:
    """
    The unload waits for the read inside, and refuses the one that comes later.
    """
    seen = exhaust(read_and_rmmod, backend, victim, KernelPlay)
    assert {"reader ok, rmmod ok", "reader EIO, rmmod ok"} <= seen


@everyone("opener", "rmmod")
def test_an_open_is_let_in_or_refused(backend: str, victim: str) -> None:
    """
    An open inside its handler is waited for, and its file released by the unload.
    """
    seen = exhaust(open_and_rmmod, backend, victim, KernelPlay)
    assert {"opener ok, rmmod ok", "opener ENOENT, rmmod ok"} <= seen


@everyone("first")
def test_one_of_two_unloads_wins(backend: str, victim: str) -> None:
    """
    Exit runs once (I43); the other is told that the module is going, or gone.
    """
    seen = exhaust(two_rmmods, backend, victim, KernelPlay)
    assert {"first ok, second EBUSY", "first EBUSY, second ok"} <= seen
