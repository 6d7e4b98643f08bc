"""Loading and unloading one module from several tasks at once."""

from __future__ import annotations

from errno import EBUSY, EEXIST, ENOENT
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group

from aiopde import Kernel, ModuleState, ProcOps
from tests.helpers import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALLOWED = {0, EBUSY, EEXIST, ENOENT}


async def main(kernel: Kernel) -> AsyncIterator[None]:
    await anyio.lowlevel.checkpoint()
    kernel.proc.create("x", ProcOps())
    await anyio.lowlevel.checkpoint()
    yield
    await kernel.proc.remove("x")
    await anyio.lowlevel.checkpoint()


async def test_many_at_once() -> None:
    """
    Each call ends as Linux's would, and the tree and the table agree at the end.
    """
    async with Kernel() as kernel:
        calls: list[Call[object]] = []
        async with create_task_group() as tg:
            for n in range(60):
                loads = n % 2 == 0
                function: Any = (
                    partial(kernel.insmod, main) if loads else partial(kernel.rmmod, "main")
                )
                call: Call[object] = Call(function)
                calls.append(call)
                tg.start_soon(call.run)
                for _ in range(n % 5):
                    await anyio.lowlevel.checkpoint()
        assert {getattr(call.error, "errno", 0) for call in calls} <= ALLOWED
        assert 0 in {getattr(call.error, "errno", 0) for call in calls}
        loaded = kernel.find_module("main")
        assert ("x" in kernel.proc.listdir()) == (loaded is not None)


@pytest.mark.parametrize("call", ["insmod", "rmmod", "reload"])
async def test_cancelled_at_every_point(call: str) -> None:
    """
    Cancel the caller wherever it can be: the module is there whole, or not at all.
    """
    for points in range(12):
        async with Kernel() as kernel:
            if call != "insmod":
                await kernel.insmod(main)
            argument: Any = main if call == "insmod" else "main"
            async with create_task_group() as tg:
                caller: Call[object] = Call(partial(getattr(kernel, call), argument))
                tg.start_soon(caller.run)
                for _ in range(points):
                    await anyio.lowlevel.checkpoint()
                caller.cancel()
            await anyio.wait_all_tasks_blocked()
            module = kernel.find_module("main")
            if module is None:
                assert kernel.proc.listdir() == ["modules"]
            else:
                assert module.state is ModuleState.LIVE
                assert (module.refcnt, kernel.proc.listdir()) == (0, ["x", "modules"])
                assert list(module._entries)[-1].statistics().state == "live"
            assert call != "reload" or module is not None
        assert kernel.lsmod() == []
