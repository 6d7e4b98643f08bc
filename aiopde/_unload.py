"""Waiting for a module to be gone, with an eye on the clock: grace, deadlock, report."""

from __future__ import annotations

from errno import EDEADLK
from typing import TYPE_CHECKING, final

import anyio

from . import _watch
from ._deadlock import Look
from ._errors import error
from ._module import EXIT, Module
from ._trace import logger
from ._watch import RemovalTimeoutError, Vigil, list_of

if TYPE_CHECKING:
    from types import FrameType

    from ._removal import Removal


@final
class UnloadWatch(Vigil):
    """
    One task's waiting for the unload of one module.

    The removals in it have watches of their own. But those are the module's: told of a deadlock,
    its exit could do nothing but fail, and code would go that is still called. So who waits for
    the unload is told.
    """

    __slots__ = ("_killed", "_module")

    def __init__(
        self, module: Module, *, grace: float | None, hung_task_timeout: float | None
    ) -> None:
        super().__init__(grace=grace, hung_task_timeout=hung_task_timeout)
        self._module = module
        self._killed: set[Removal] = set()

    async def _wait(self, event: anyio.Event) -> None:
        del event
        await self._module._join()

    def _refuse_cycle(self, event: anyio.Event) -> None:
        del event
        me = anyio.get_current_task().id
        look = Look(_awaited_module)
        # Who asks is awake, and so does not seem to wait for what it does wait for.
        look.waiters[me].tasks = _exit_of(self._module)
        way = look.way_round(me)
        if way is not None:
            why = "the unload waits for itself:\n  " + "\n  ".join(way)
            raise error(EDEADLK, self._module.name, why)

    def _report(self, waited: float) -> None:
        module = self._module
        if not module._reported and not module._removals():  # those report themselves
            module._reported = True
            stands = list_of(module._standing())
            logger.warning(
                "unload of %s has waited for %.1f s, for %s", module.name, waited, stands
            )

    def _end_grace(self, event: anyio.Event, now: float) -> None:
        del event
        removals, inside = self._module._removals(), self._module.holders()
        stubborn = [holder for holder in inside if not holder.killable]
        # Not only in what exit removes by now: it comes to the rest.
        self._module._kill_calls()
        # As long as it gets on, there may be others to kill, who came in meanwhile.
        if stubborn or removals == self._killed:
            holders = stubborn or inside or self._module._standing()
            raise RemovalTimeoutError(self._module.name, now - self._began, tuple(holders))
        self._killed = removals
        self._grace_at = now + _watch.UNWIND


def _awaited_module(frame: FrameType) -> set[int]:
    """Tell which task a frame waits for that waits for a module's end."""
    if frame.f_code is not Module._join.__code__:
        return set()
    return _exit_of(frame.f_locals["self"])


def _exit_of(module: Module) -> set[int]:
    # Not the tasks in background: those are cancelled, and hold nothing up.
    return {number for number, what in module._kthreads.items() if what == EXIT}
