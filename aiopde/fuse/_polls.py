"""Polls that the kernel wants to be told about later, when something may be ready."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, final

import anyio

from aiopde._wait import Wakeup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskGroup

    from aiopde._file import ProcFile

    from ._notifier import Notifier


@final
class Polls:
    """
    Waits for what the kernel polls: in one task for each open file.

    One is enough: the kernel wakes whoever polls the file, and they ask again.
    """

    def __init__(self, files: Mapping[int, ProcFile], notifier: Notifier, tasks: TaskGroup) -> None:
        self._files = files
        self._notifier = notifier
        self._tasks = tasks
        self._waiting: dict[int, anyio.CancelScope] = {}

    async def poll(self, number: int, events: int, handle: int) -> int:
        """Tell what is ready; if nothing is, tell the kernel by *handle* when to ask again."""
        file = self._files[number].file
        with ExitStack() as stack:
            wakeup = stack.enter_context(Wakeup(file.entry))
            ready = await file._poll_now(events, wakeup)
            # Of what is gone nothing will be ready that is not: nobody is to ask again and again.
            if not ready and not file.removing and number in self._files:
                self.stop(number)
                # Before the task has begun, so that a release finds it.
                scope = self._waiting[number] = anyio.CancelScope()
                waiting = partial(self._notify_when_woken, number, handle, wakeup, scope)
                name = f"poll of {file.entry.path}"
                self._tasks.start_soon(waiting, stack.pop_all(), name=name)
        return ready

    async def _notify_when_woken(
        self,
        number: int,
        handle: int,
        wakeup: Wakeup,
        scope: anyio.CancelScope,
        stack: ExitStack,
    ) -> None:
        with stack, scope:
            await wakeup.event.wait()
            self._notifier.poll(handle)
        if self._waiting.get(number) is scope:
            del self._waiting[number]

    def stop(self, number: int) -> None:
        """Tell the kernel no more about a file."""
        if number in self._waiting:
            self._waiting.pop(number).cancel()
