"""Waiting for a removal, with an eye on the clock: deadlock, hung-task report, grace."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from errno import EDEADLK, ETIMEDOUT
from typing import TYPE_CHECKING, Final, final

import anyio

from ._deadlock import find_cycle, goal_of
from ._errors import error
from ._holders import holders, in_any_handler, own_sites
from ._kinds import KillableEntry
from ._removal import is_below
from ._trace import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._entry import ProcDirEntry
    from ._holders import Holder
    from ._removal import Removal

# A removal that waits is looked at for a deadlock after this time, and again each time it has
# waited twice as long: a look goes through all tasks.
_FIRST_LOOK: Final = 0.5
# How long a call that was cancelled at the end of the grace has to end.
UNWIND: Final = 1.0


@final
class RemovalTimeoutError(TimeoutError):
    """
    The grace of a removal has ended with calls still inside; *holders* tells who and where.

    The entry goes on dying: it refuses every call, it never comes back, and awaiting its removal
    again joins it. *errno* is ``ETIMEDOUT``.
    """

    def __init__(self, path: str, seconds: float, holders: tuple[Holder, ...]) -> None:
        why = f"removal still waits after {seconds:.3g} s, for {list_of(holders)}"
        super().__init__(ETIMEDOUT, why, path)
        self.seconds = seconds
        self.holders = holders

    def __reduce__(self) -> tuple[type[RemovalTimeoutError], tuple[object, ...]]:
        return RemovalTimeoutError, (self.filename, self.seconds, self.holders)


def list_of(holders: Sequence[Holder]) -> str:
    # A use() by hand is not seen, nor who is inside from another loop.
    if not holders:
        return "what is no call in a task of this loop"
    return f"{len(holders)} call(s)" + "".join(f"\n  {holder}" for holder in holders)


def refuse_self_removal(entry: ProcDirEntry) -> bool:
    """
    Raise ``EDEADLK`` if the running call is inside what is to be removed.

    Nothing was changed then. Linux hangs for ever.

    Returns:
        True if the removal may be begun here, but not gone on with: a plain handler, for which
        it would not wait, has started this task eagerly and is to run on.
    """
    if entry._in_use == 0 and entry._newest is None and entry._rare.children is None:
        return False  # nobody is inside: to see that is a tenth of what a look at the stack takes
    if not in_any_handler():
        return False
    for inside in own_sites():
        if is_below(inside, entry):
            why = "its removal would wait for this very call: use remove_self()"
            raise error(EDEADLK, inside.path, why)
    return in_any_handler(plain=True)


class Vigil(ABC):
    """
    One task's waiting for an event that may not come: it is awake now and then, and acts.

    What it looks for then, what it logs, and what it does when the grace has ended, is said by
    the classes for a removal and for a module's unload.

    Args:
        grace: Seconds until calls inside are cancelled or reported; None for ever.
        hung_task_timeout: Seconds until it is logged who is waited for; None for never.
    """

    __slots__ = ("_began", "_grace_at", "_hung_at", "_look_at")

    def __init__(self, *, grace: float | None, hung_task_timeout: float | None) -> None:
        self._began = now = anyio.current_time()
        self._look_at = now + _FIRST_LOOK
        self._grace_at = math.inf if grace is None else now + grace
        self._hung_at = math.inf if hung_task_timeout is None else now + hung_task_timeout

    async def wait(self, event: anyio.Event) -> None:
        """
        Wait for *event*, and act when one of the times is over. A checkpoint.

        Raises:
            OSError: ``EDEADLK``: the event waits for this task; the message spells the cycle out.
            RemovalTimeoutError: The grace has ended.
        """
        while not event.is_set():
            deadline = min(self._look_at, self._grace_at, self._hung_at)
            with anyio.CancelScope(deadline=deadline):
                await self._wait(event)
                return
            # It may have been set on the way out: then there is nothing left to complain about.
            if not event.is_set():
                self._tick(event, anyio.current_time())

    def _tick(self, event: anyio.Event, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + (now - self._began)
            self._refuse_cycle(event)
        if now >= self._hung_at:
            self._hung_at = math.inf
            self._report(now - self._began)
        if now >= self._grace_at:
            self._end_grace(event, now)

    @abstractmethod
    async def _wait(self, event: anyio.Event) -> None:
        """Wait, in a function that is known by those who look for a cycle."""

    @abstractmethod
    def _refuse_cycle(self, event: anyio.Event) -> None:
        """Raise ``EDEADLK`` if there is one."""

    @abstractmethod
    def _report(self, waited: float) -> None:
        """Log who is waited for."""

    @abstractmethod
    def _end_grace(self, event: anyio.Event, now: float) -> None:
        """Cancel who may be cancelled and give more time for that, or raise."""


@final
class Watch(Vigil):
    """One task's waiting for one removal."""

    __slots__ = ("_killed", "_removal")

    def __init__(
        self, removal: Removal, *, grace: float | None, hung_task_timeout: float | None
    ) -> None:
        super().__init__(grace=grace, hung_task_timeout=hung_task_timeout)
        self._removal = removal
        self._killed = False
        if removal.began is None:
            removal.began = self._began

    async def wait_only(self, event: anyio.Event) -> None:
        """Wait for *event*, and at most log: for a removal that nobody awaits. A checkpoint."""
        self._look_at = math.inf
        await self.wait(event)

    async def _wait(self, event: anyio.Event) -> None:
        await self._removal.wait(event)

    def _refuse_cycle(self, event: anyio.Event) -> None:
        cycle = find_cycle(self._removal, event)
        if cycle is not None:
            why = "the removal waits for itself:\n  " + "\n  ".join(cycle)
            raise error(EDEADLK, goal_of(self._removal, event).path, why)

    def _report(self, waited: float) -> None:
        root = self._removal.root
        if not self._removal.reported:
            self._removal.reported = True
            inside = list_of(holders(root))
            logger.warning("removal of %s has waited for %.1f s, for %s", root.path, waited, inside)

    def _end_grace(self, event: anyio.Event, now: float) -> None:
        goal = goal_of(self._removal, event)
        inside = holders(goal)
        stubborn = tuple(holder for holder in inside if self._killed or not holder.killable)
        kill_calls(self._removal, goal)
        if stubborn or self._killed:
            raise RemovalTimeoutError(goal.path, now - self._began, stubborn)
        # Also if nobody is inside: a release may just be about to begin, in another task.
        self._killed = True
        self._grace_at = now + UNWIND


def kill_calls(removal: Removal, goal: ProcDirEntry | None = None) -> None:
    """
    Cancel the calls inside what is not gone yet, where they may be. Not a checkpoint.

    With *goal* only those inside of that, and below it.
    """
    for entry in removal.remaining():
        if is_below(entry, goal or removal.root):
            cancel_calls(entry)


def cancel_calls(entry: ProcDirEntry) -> None:
    """Cancel the calls inside an entry, if they may be. Not a checkpoint."""
    if isinstance(entry, KillableEntry):
        for scope in entry._scopes:
            scope.cancel()
