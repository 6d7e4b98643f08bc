"""A close inside the module's release handler, while the module is unloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import Kernel, ProcOps, this_module
from tests.helpers import Handlers, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def test_unload_waits_for_a_close() -> None:
    """
    A release that a close has begun is waited for, and not run again (g06).
    """
    handlers = Handlers()
    handlers.hold_up("release")

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        kernel.proc.create("x", handlers.ops("read", "release"))
        yield
        await kernel.proc.remove("x")

    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(main)
        file = await kernel.proc.open("x")
        close = await start(tg, file.aclose)
        rmmod = await start(tg, kernel.rmmod, "main")
        assert (close.done, rmmod.done) == (False, False)
        handlers.let_go("release")
        await wait_all_tasks_blocked()
        assert (close.done, rmmod.done) == (True, True)
        assert handlers.log == ["release None", "release None goes on"]


async def test_release_by_the_unload_belongs_to_its_module() -> None:
    """
    A release that the unload forces runs in the module's own task, cancelled rmmod or not.
    """
    handlers = Handlers()
    handlers.hold_up("release")
    owners: list[str] = []

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        async def release(file: object) -> None:
            owners.append(this_module().name)
            await handlers.release(handler_file)
            owners.append("released")

        kernel.proc.create("x", ProcOps(release=release))
        yield
        await kernel.proc.remove("x")

    async with Kernel() as kernel, create_task_group() as tg:
        module = await kernel.insmod(main)
        async with await kernel.proc.open("x") as file:
            handler_file = file.file
            rmmod = await start(tg, kernel.rmmod, "main")
            rmmod.cancel()
            await wait_all_tasks_blocked()
            assert (rmmod.cancelled, owners) == (True, ["main"])
            handlers.let_go("release")
            await module.wait_gone()
            assert owners == ["main", "released"]
