"""An open inside its handler, while the module is unloaded."""

from __future__ import annotations

from errno import EIO, ENOENT
from typing import TYPE_CHECKING

from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import Kernel
from tests.helpers import Handlers, refused, start, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Driver:
    def __init__(self) -> None:
        self.handlers = Handlers()
        self.handlers.hold_up("open")

    async def main(self, kernel: Kernel) -> AsyncIterator[None]:
        kernel.proc.create("x", self.handlers.ops("open", "read", "release"))
        yield
        await kernel.proc.remove("x")
        self.handlers.log.append("exit ends")


async def test_open_succeeds_and_is_released_by_the_unload() -> None:
    """
    The open ends as if nothing were; its file is released before rmmod returns, and dead (g05).
    """
    driver = Driver()
    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(driver.main, "driver")
        opened = await start(tg, kernel.proc.open, "x")
        rmmod = await start(tg, kernel.rmmod, "driver")
        assert (opened.done, rmmod.done) == (False, False)
        driver.handlers.let_go("open")
        await wait_all_tasks_blocked()
        assert rmmod.done
        assert driver.handlers.log[1:] == ["open 1 goes on", "release 1", "exit ends"]
        with too_late("read", EIO):
            await opened.result.read()
        await opened.result.aclose()
        assert driver.handlers.log.count("release 1") == 1


async def test_interrupted_open_leaves_nothing() -> None:
    """
    An open that is cancelled was never open: no release, and the unload ends (g24).
    """
    driver = Driver()
    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(driver.main, "driver")
        opened = await start(tg, kernel.proc.open, "x")
        rmmod = await start(tg, kernel.rmmod, "driver")
        opened.cancel()
        await wait_all_tasks_blocked()
        assert opened.cancelled
        assert rmmod.done
        assert driver.handlers.log == ["open 1", "exit ends"]
        with refused(ENOENT):
            await kernel.proc.open("x")


async def test_open_of_a_new_life_is_not_waited_for() -> None:
    """
    The name's next owner has nothing to do with the old one's end.
    """
    driver, other = Driver(), Driver()
    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(driver.main, "driver")
        await start(tg, kernel.proc.open, "x")
        rmmod = await start(tg, kernel.rmmod, "driver")
        await kernel.insmod(other.main, "other")
        second = await start(tg, kernel.proc.open, "x")
        driver.handlers.let_go("open")
        await wait_all_tasks_blocked()
        assert (rmmod.done, second.done) == (True, False)
        other.handlers.let_go("open")
        await wait_all_tasks_blocked()
        await second.result.aclose()
