"""
The module that ``aiopde run`` shows if it is given none: a clock, a slow file, one to write to.

It is also an example of a module in a file: what ``insmod`` calls is ``module_main``.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import anyio

from aiopde import File, Kernel, ProcOps, WaitQueue, this_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock:
    """Counts seconds; who has read it is told when there is a new number."""

    def __init__(self) -> None:
        self.seconds = 0
        self._news = WaitQueue()

    async def tick(self, interval: float) -> None:
        """Count, for as long as the module is there."""
        while True:
            await anyio.sleep(interval)
            self.seconds += 1
            self._news.wake_up()

    async def read(self, file: File, size: int, pos: int) -> bytes:
        """Tell the number, and note that it was told."""
        file.private_data = self.seconds
        return f"{self.seconds} s\n".encode()[pos : pos + size]

    async def poll(self, file: File) -> int:
        """Always readable; POLLPRI when the number is another one, as in /proc/mounts."""
        file.poll_wait(self._news)
        news = file.private_data != self.seconds
        return select.POLLIN | (select.POLLPRI if news else 0)


class Greeting:
    """What was written last."""

    def __init__(self) -> None:
        self._text = b"hello\n"

    async def read(self, file: File, size: int, pos: int) -> bytes:
        """Give it back."""
        return self._text[pos : pos + size]

    async def write(self, file: File, data: bytes, pos: int) -> int:
        """Keep it."""
        self._text = self._text[:pos] + data
        return len(data)


async def module_main(
    kernel: Kernel, *, interval: float = 1.0, slow: float = 30.0
) -> AsyncIterator[None]:
    """
    Serve /proc/demo: a clock, a greeting, and a file that takes its time.

    *interval* is how long a second of the clock is, *slow* how long a read of the slow file takes,
    each > 0.
    """

    async def take_time(file: File, size: int, pos: int) -> bytes:
        await anyio.sleep(slow)
        return b"at last\n"[pos : pos + size]

    times: dict[str, object] = {"interval": interval, "slow": slow}
    for name, seconds in times.items():
        if not isinstance(seconds, int | float) or seconds <= 0:
            msg = f"{name} is a number of seconds > 0, not {seconds!r}"
            raise ValueError(msg)
    clock = Clock()
    this_module().start_soon(clock.tick, interval)
    directory = kernel.proc.mkdir("demo")
    kernel.proc.create("clock", ProcOps.of(clock), parent=directory)
    kernel.proc.create("greeting", ProcOps.of(Greeting()), parent=directory, mode=0o644)
    kernel.proc.create("slow", ProcOps(read=take_time), parent=directory)
    kernel.proc.symlink("time", "clock", parent=directory)
    yield  # noqa: ASYNC911  as any init that only registers
    await directory.remove()
