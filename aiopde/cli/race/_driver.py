"""What is raced for: the handlers of an entry and their data, which the owner frees one day."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from random import Random
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Generator

    from ._tally import Tally

REMOVING: Final = ContextVar("REMOVING", default=False)
"""Whether the code runs on behalf of a removal: a release handler keeps the remover's context."""


class Jitter:
    """Hesitates for a random while; the same seed hesitates in the same way."""

    def __init__(self, *seed: object) -> None:
        self.random = Random(repr(seed))

    async def pause(self) -> None:
        """Let others run one to three times, and now and then for up to two milliseconds."""
        for _ in range(self.random.randint(1, 3)):
            await checkpoint()
        if self.random.random() < 0.1:
            await anyio.sleep(self.random.uniform(0, 0.002))

    async def idle(self) -> None:
        """Do nothing for a moment, and now and then for up to a twentieth of a second."""
        await self.pause()
        if self.random.random() < 0.05:
            await anyio.sleep(self.random.uniform(0, 0.05))


class Driver:
    """
    The code and data behind one entry, good until :meth:`free` is called.

    It guards nothing. It only notices: whoever is in one of its handlers after :meth:`free`
    would, in a kernel, be running code that is no longer there.

    Args:
        load: How many calls make it busy; see :attr:`busy`.
    """

    def __init__(self, tally: Tally, jitter: Jitter, load: int) -> None:
        self.inside = 0
        """How many calls are in the handlers now."""
        self.busy = anyio.Event()
        """Set during the call that brings it to *load* calls, for a removal that wants company."""
        self._calls_until_busy = load
        self._tally = tally
        self._jitter = jitter
        self._content = b"42\n"
        self._freed = False

    async def open(self, file: object) -> None:
        """Take its time."""
        with self._running():
            await self._jitter.pause()

    async def read(self, file: object, size: int, pos: int) -> bytes:
        """Take its time, then return what the file contains."""
        with self._running():
            await self._jitter.pause()
            return self._content

    async def release(self, file: object) -> None:
        """Take its time."""
        self._tally.force_released += REMOVING.get()
        with self._running():
            await self._jitter.pause()

    def free(self) -> None:
        """Give up what the handlers need, as their owner does once removal has returned."""
        self._content = b""
        self._freed = True

    @contextmanager
    def _running(self) -> Generator[None]:
        self.inside += 1
        self._calls_until_busy -= 1
        if self._calls_until_busy == 0:
            self.busy.set()
        try:
            yield
        finally:
            self.inside -= 1
            # At the end, so that those count too who came in before.
            self._tally.handlers_after_removal += self._freed
