"""Loading and unloading of one module, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import KernelPlay, everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiopde import Kernel


def driver(p: KernelPlay) -> Callable[[Kernel], AsyncIterator[None]]:
    loaded: list[str] = []

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        assert not loaded, "two of one name"
        loaded.append("init")
        try:
            entry = p.create("x", "", "read")
            await checkpoint()
            yield
            await entry.remove()
        finally:
            loaded.remove("init")

    return main


async def load_and_unload(p: KernelPlay) -> None:
    p.start("insmod", p.kernel.insmod, driver(p), "driver")
    p.start("rmmod", p.kernel.rmmod, "driver")


async def two_loads(p: KernelPlay) -> None:
    main = driver(p)
    p.start("first", p.kernel.insmod, main, "driver")
    p.start("second", p.kernel.insmod, main, "driver")


async def unload_and_load_again(p: KernelPlay) -> None:
    main = driver(p)
    await p.kernel.insmod(main, "driver")
    p.start("insmod", p.kernel.insmod, main, "driver")
    p.start("rmmod", p.kernel.rmmod, "driver")


async def reload_and_unload(p: KernelPlay) -> None:
    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = p.create("x", "", "read")
        yield
        await entry.remove()

    await p.kernel.insmod(main, "driver")
    p.start("reload", p.kernel.reload, "driver")
    p.start("rmmod", p.kernel.rmmod, "driver")


@everyone(only_on_trio=("rmmod",))
def test_a_reload_is_not_unloaded_half_way(backend: str, victim: str) -> None:
    """
    One is EBUSY or comes after the other.
    """
    seen = exhaust(reload_and_unload, backend, victim, KernelPlay)
    assert {"reload ok, rmmod EBUSY", "reload ENOENT, rmmod ok"} <= seen


@everyone("insmod", "rmmod")
def test_an_unload_comes_in_time_or_not(backend: str, victim: str) -> None:
    """
    A module that is not there is ENOENT, one whose init runs is EBUSY, one that is there goes.
    """
    seen = exhaust(load_and_unload, backend, victim, KernelPlay)
    assert {"insmod ok, rmmod ENOENT", "insmod ok, rmmod EBUSY", "insmod ok, rmmod ok"} <= seen


@everyone("first")
def test_one_of_two_loads_wins(backend: str, victim: str) -> None:
    """
    Init runs once; the other is told that the name is taken.
    """
    seen = exhaust(two_loads, backend, victim, KernelPlay)
    assert {"first ok, second EEXIST", "first EEXIST, second ok"} <= seen


@everyone("insmod", "rmmod")
def test_the_name_is_free_after_exit(backend: str, victim: str) -> None:
    """
    Until exit is over the name is taken, by what lives (EEXIST) or by what goes (EBUSY).
    """
    seen = exhaust(unload_and_load_again, backend, victim, KernelPlay)
    assert {"insmod EEXIST, rmmod ok", "insmod EBUSY, rmmod ok", "insmod ok, rmmod ok"} <= seen
