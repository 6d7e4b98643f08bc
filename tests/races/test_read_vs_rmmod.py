"""A call inside a module's entry, while the module is unloaded."""

from __future__ import annotations

import os
from errno import EBUSY, EIO
from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import Kernel, ModuleState
from tests.helpers import Handlers, refused, start, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FORCE = os.O_TRUNC | os.O_NONBLOCK


class Driver:
    """A module with one entry and data that its exit destroys."""

    def __init__(self) -> None:
        self.handlers = Handlers(b"data")

    async def main(self, kernel: Kernel) -> AsyncIterator[None]:
        self.handlers.content = b"data"
        kernel.proc.create("x", self.handlers.ops("read", "release"))
        yield
        await kernel.proc.remove("x")
        assert not self.handlers.busy
        self.handlers.content = b"freed"


@pytest.mark.parametrize("flags", [os.O_NONBLOCK, 0, FORCE])
async def test_unload_waits_for_the_call(flags: int) -> None:
    """
    rmmod waits for a read that is inside, forced or not; nobody gets in meanwhile (g03, g25).
    """
    driver = Driver()
    driver.handlers.hold_up("read")
    async with Kernel() as kernel, create_task_group() as tg:
        module = await kernel.insmod(driver.main, "driver")
        file = await kernel.proc.open("x")
        read = await start(tg, file.read)
        rmmod = await start(tg, kernel.rmmod, "driver", flags)
        assert (rmmod.done, module.state) == (False, ModuleState.GOING)
        for again in (0, os.O_NONBLOCK, FORCE):
            with refused(EBUSY):
                await kernel.rmmod("driver", again)
        with refused(EBUSY):
            await kernel.insmod(driver.main, "driver")
        assert kernel.proc.listdir() == ["modules"]
        driver.handlers.let_go("read")
        await wait_all_tasks_blocked()
        assert read.result == b"data"
        assert rmmod.done
        with too_late("read", EIO):
            await file.read()
        await file.aclose()
        assert driver.handlers.log[-1] == "release None"


async def test_cancelled_rmmod_goes_on() -> None:
    """
    Who waits in rmmod may be cancelled, at once; the unload is not (g17).
    """
    driver = Driver()
    driver.handlers.hold_up("read")
    async with Kernel() as kernel, create_task_group() as tg:
        module = await kernel.insmod(driver.main, "driver")
        read = await start(tg, kernel.proc.read_bytes, "x")
        rmmod = await start(tg, kernel.rmmod, "driver")
        rmmod.cancel()
        await wait_all_tasks_blocked()
        assert rmmod.cancelled
        assert module.state is ModuleState.GOING
        joined = await start(tg, module.wait_gone)
        assert not joined.done
        driver.handlers.let_go("read")
        await wait_all_tasks_blocked()
        assert (read.result, joined.done) == (b"data", True)
        await kernel.insmod(driver.main, "driver")


async def test_cancelled_reader_lets_it_end() -> None:
    """
    A reader that is cancelled has left; the unload ends, and its file is released once.
    """
    driver = Driver()
    driver.handlers.hold_up("read")
    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(driver.main, "driver")
        file = await kernel.proc.open("x")
        read = await start(tg, file.read)
        rmmod = await start(tg, kernel.rmmod, "driver")
        read.cancel()
        await wait_all_tasks_blocked()
        assert read.cancelled
        assert rmmod.done
        await file.aclose()
        assert driver.handlers.log.count("release None") == 1


async def test_order_of_the_four_phases() -> None:
    """
    An unload refuses, waits, looks again, and only then destroys (B33).
    """
    driver = Driver()
    driver.handlers.hold_up("read")
    order: list[str] = []

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = kernel.proc.create("x", driver.handlers.ops("read"))
        yield
        order.append(f"in use {entry.in_use}")
        await entry.remove()
        order.append(f"in use {entry.in_use}")
        kernel.proc.mkdir("late")

    async def finish() -> None:
        driver.handlers.let_go("read")
        await wait_all_tasks_blocked()

    async with Kernel() as kernel, create_task_group() as tg:
        module = await kernel.insmod(main)
        await start(tg, kernel.proc.read_bytes, "x")
        rmmod = await start(tg, kernel.rmmod, "main")
        assert (order, module._text is None) == (["in use 1"], False)
        with pytest.warns(ResourceWarning, match="/proc/late"):
            await finish()
        assert rmmod.done
        assert order == ["in use 1", "in use 0"]
        assert module._text is None
