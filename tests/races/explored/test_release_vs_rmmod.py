"""A close and the unload of the module whose release it runs, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio.lowlevel import checkpoint

from ._play import KernelPlay, everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiopde import File, Kernel


async def close_and_rmmod(p: KernelPlay) -> None:
    there: list[str] = []

    async def release(file: File) -> None:
        assert there, "released by code that is gone (I45)"
        await p.step("release", file)
        assert there, "the code has gone under a release (I45)"

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        there.append("code")
        entry = p.know(kernel.proc.create("x", p.package.ProcOps(release=release)))
        yield
        await entry.remove()
        there.remove("code")

    await p.kernel.insmod(main, "driver")
    file = await p.open("x")
    p.start("closer", p.close, file)
    p.start("rmmod", p.rmmod, "driver")


async def close_and_forgetful_rmmod(p: KernelPlay) -> None:
    async def main(kernel: Kernel) -> AsyncIterator[None]:
        p.create("x", "release")
        await checkpoint()
        yield

    await p.kernel.insmod(main, "driver")
    file = await p.open("x")
    p.start("closer", p.close, file)
    p.start("rmmod", p.rmmod, "driver")


@everyone("closer", "rmmod")
def test_the_unload_waits_for_the_release(backend: str, victim: str) -> None:
    """
    Whoever releases, it is over before the module's code goes (I8, I18).
    """
    assert "closer ok, rmmod ok" in exhaust(close_and_rmmod, backend, victim, KernelPlay)


@pytest.mark.filterwarnings("ignore:module 'driver' was unloaded without removing")
@everyone("closer", "rmmod")
def test_what_exit_forgot_is_released_too(backend: str, victim: str) -> None:
    """
    An entry that exit leaves behind is found and removed, its open file released once.
    """
    assert "closer ok, rmmod ok" in exhaust(close_and_forgetful_rmmod, backend, victim, KernelPlay)
