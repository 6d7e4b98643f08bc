"""The demonstration module: a clock, a greeting, and a file that takes its time."""

import select

import anyio
import pytest
from anyio import create_task_group

from aiopde import Kernel
from aiopde.cli._demo import module_main
from tests.helpers import start


async def test_it_tells_the_time() -> None:
    """
    The clock goes on, and tells who has read it that there is a new number.
    """
    async with Kernel() as kernel:
        await kernel.insmod(module_main, "demo", interval=0.001)
        clock = await kernel.proc.open("demo/time")
        first = await clock.pread(100, 0)
        with anyio.fail_after(10):
            assert await clock.poll(select.POLLPRI, timeout=None) == select.POLLPRI
        assert await clock.pread(100, 0) != first
        await clock.aclose()


async def test_it_can_be_written_to() -> None:
    """
    The greeting is what was written last.
    """
    async with Kernel() as kernel:
        await kernel.insmod(module_main, "demo")
        assert await kernel.proc.read_text("demo/greeting") == "hello\n"
        await kernel.proc.write_text("demo/greeting", "hi\n")
        assert await kernel.proc.read_text("demo/greeting") == "hi\n"


async def test_it_waits_for_a_slow_reader() -> None:
    """
    A read of the slow file takes as long as it was told to, and rmmod waits for it.
    """
    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(module_main, "demo", slow=0.01)
        read = await start(tg, kernel.proc.read_text, "demo/slow")
        await kernel.rmmod("demo")
        assert read.result == "at last\n"


@pytest.mark.parametrize(("name", "value"), [("interval", 0), ("slow", "long"), ("slow", -1)])
async def test_it_takes_only_times(name: str, value: object) -> None:
    """
    A clock that cannot go is refused when the module is loaded, not in its background.
    """
    async with Kernel() as kernel:
        with pytest.raises(ValueError, match=f"{name} is a number of seconds > 0, not {value!r}"):
            await kernel.insmod(module_main, "demo", **{name: value})
        assert kernel.lsmod() == []
