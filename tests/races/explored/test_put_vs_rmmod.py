"""References on a module and its unload, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import KernelPlay, everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiopde import Kernel


async def references_and_rmmod(p: KernelPlay, users: tuple[str, ...] = ("first", "second")) -> None:
    there: list[str] = []

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        there.append("code")
        yield
        await checkpoint()
        there.remove("code")

    async def use() -> None:
        await checkpoint()
        if not p.kernel.try_module_get(module):
            return
        try:
            assert module.refcnt > 0, "a reference that is not counted (I44)"
            await checkpoint()
            assert there, "unloaded under a reference (I44)"
        finally:
            p.kernel.module_put(module)

    module = await p.kernel.insmod(main, "driver")
    for user in users:
        p.start(user, use)
    p.start("rmmod", p.kernel.rmmod, "driver")


async def reference_and_rmmod(p: KernelPlay) -> None:
    await references_and_rmmod(p, ("first",))


@everyone("first", only_on_trio=("rmmod",))
def test_the_unload_wins_or_a_reference_does(backend: str, victim: str) -> None:
    """
    While somebody has a reference it is EWOULDBLOCK; once the unload has begun nobody gets one.
    """
    seen = exhaust(references_and_rmmod, backend, victim, KernelPlay)
    assert {"first ok, rmmod ok, second ok", "first ok, rmmod EAGAIN, second ok"} <= seen
