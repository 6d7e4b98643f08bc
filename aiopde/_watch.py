"""Waiting for a removal, with an eye on the clock: deadlock, hung-task report, grace."""

from __future__ import annotations

import math
from errno import EDEADLK, ETIMEDOUT
from typing import TYPE_CHECKING, Final, final

import anyio

from ._entry import KillableEntry
from ._errors import error
from ._holders import find_cycle, goal_of, holders, own_sites
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
_UNWIND: Final = 1.0


@final
class RemovalTimeoutError(TimeoutError):
    """
    The grace of a removal has ended with calls still inside; *holders* tells who and where.

    The entry goes on dying: it refuses every call, it never comes back, and awaiting its removal
    again joins it. *errno* is ``ETIMEDOUT``.
    """

    def __init__(self, path: str, seconds: float, holders: tuple[Holder, ...]) -> None:
        why = f"removal still waits after {seconds:.3g} s, for {_list(holders)}"
        super().__init__(ETIMEDOUT, why, path)
        self.seconds = seconds
        self.holders = holders

    def __reduce__(self) -> tuple[type[RemovalTimeoutError], tuple[object, ...]]:
        return RemovalTimeoutError, (self.filename, self.seconds, self.holders)


def _list(holders: Sequence[Holder]) -> str:
    # A use() by hand is not seen, nor who is inside from another loop.
    if not holders:
        return "what is no call in a task of this loop"
    return f"{len(holders)} call(s)" + "".join(f"\n  {holder}" for holder in holders)


def refuse_self_removal(entry: ProcDirEntry) -> None:
    """
    Raise ``EDEADLK`` if the running call is inside what is to be removed.

    Nothing was changed then. Linux hangs for ever.
    """
    for inside in own_sites():
        if is_below(inside, entry):
            why = "its removal would wait for this very call: use remove_self()"
            raise error(EDEADLK, inside.path, why)


@final
class Watch:
    """
    One task's waiting for one removal.

    Args:
        grace: Seconds until calls inside are cancelled or reported; None for ever.
        hung_task_timeout: Seconds until it is logged who is waited for; None for never.
    """

    __slots__ = ("_began", "_grace_at", "_hung_at", "_killed", "_look_at", "_removal")

    def __init__(
        self, removal: Removal, *, grace: float | None, hung_task_timeout: float | None
    ) -> None:
        self._removal = removal
        self._killed = False
        self._began = now = anyio.current_time()
        if removal.began is None:
            removal.began = now
        self._look_at = now + _FIRST_LOOK
        self._grace_at = math.inf if grace is None else now + grace
        self._hung_at = math.inf if hung_task_timeout is None else now + hung_task_timeout

    async def wait(self, event: anyio.Event) -> None:
        """
        Wait for *event*, and act when one of the times is over. A checkpoint.

        Raises:
            OSError: ``EDEADLK``: the removal waits for itself; the message spells the cycle out.
            RemovalTimeoutError: The grace has ended.
        """
        while not event.is_set():
            deadline = min(self._look_at, self._grace_at, self._hung_at)
            with anyio.CancelScope(deadline=deadline):
                await self._removal.wait(event)
                return
            # It may have been set on the way out: then there is nothing left to complain about.
            if not event.is_set():
                self._tick(event, anyio.current_time())

    async def wait_only(self, event: anyio.Event) -> None:
        """Wait for *event*, and at most log: for a removal that nobody awaits. A checkpoint."""
        self._look_at = math.inf
        await self.wait(event)

    def _tick(self, event: anyio.Event, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + (now - self._began)
            self._refuse_cycle(event)
        if now >= self._hung_at:
            self._hung_at = math.inf
            self._report(now - self._began)
        if now >= self._grace_at:
            self._end_grace(goal_of(self._removal, event), now)

    def _refuse_cycle(self, event: anyio.Event) -> None:
        cycle = find_cycle(self._removal, event)
        if cycle is not None:
            why = "the removal waits for itself:\n  " + "\n  ".join(cycle)
            raise error(EDEADLK, goal_of(self._removal, event).path, why)

    def _report(self, waited: float) -> None:
        root = self._removal.root
        if not self._removal.reported:
            self._removal.reported = True
            inside = _list(holders(root))
            logger.warning("removal of %s has waited for %.1f s, for %s", root.path, waited, inside)

    def _end_grace(self, goal: ProcDirEntry, now: float) -> None:
        inside = holders(goal)
        stubborn = tuple(holder for holder in inside if self._killed or not holder.killable)
        kill_calls(self._removal, goal)
        if stubborn or self._killed:
            raise RemovalTimeoutError(goal.path, now - self._began, stubborn)
        # Also if nobody is inside: a release may just be about to begin, in another task.
        self._killed = True
        self._grace_at = now + _UNWIND


def kill_calls(removal: Removal, goal: ProcDirEntry | None = None) -> None:
    """
    Cancel the calls inside what is not gone yet, where they may be. Not a checkpoint.

    With *goal* only those inside of that, and below it.
    """
    for entry in removal.remaining():
        if isinstance(entry, KillableEntry) and is_below(entry, goal or removal.root):
            for scope in entry.scopes:
                scope.cancel()
