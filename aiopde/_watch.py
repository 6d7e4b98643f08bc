"""Waiting for a removal, with an eye on the clock: deadlock, hung-task report, grace."""

from __future__ import annotations

import math
from errno import EDEADLK, ETIMEDOUT
from typing import TYPE_CHECKING, Final, final

import anyio

from ._entry import KillableEntry
from ._errors import error
from ._holders import find_cycle, holders, own_sites
from ._removal import is_below
from ._trace import logger

if TYPE_CHECKING:
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
        lines = "".join(f"\n  {holder}" for holder in holders)
        why = f"removal still waits after {seconds:g} s, for {len(holders)} call(s){lines}"
        super().__init__(ETIMEDOUT, why, path)
        self.seconds = seconds
        self.holders = holders

    def __reduce__(self) -> tuple[type[RemovalTimeoutError], tuple[object, ...]]:
        return RemovalTimeoutError, (self.filename, self.seconds, self.holders)


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

    __slots__ = ("_began", "_grace", "_hung", "_killed", "_look", "_removal")

    def __init__(
        self, removal: Removal, *, grace: float | None, hung_task_timeout: float | None
    ) -> None:
        self._removal = removal
        self._grace = grace
        self._hung = hung_task_timeout
        self._killed = False
        self._look = _FIRST_LOOK
        self._began = anyio.current_time()

    async def wait(self, event: anyio.Event) -> None:
        """
        Wait for *event*, and act when one of the times is over. A checkpoint.

        Raises:
            OSError: ``EDEADLK``: the removal waits for itself; the message spells the cycle out.
            RemovalTimeoutError: The grace has ended.
        """
        while not event.is_set():
            with anyio.CancelScope(deadline=self._began + self._next()):
                await self._removal.wait(event)
                return
            self._tick(anyio.current_time() - self._began)

    async def wait_only(self, event: anyio.Event) -> None:
        """Wait for *event*, and at most log: for a removal that nobody awaits. A checkpoint."""
        self._look = math.inf
        await self.wait(event)

    def _next(self) -> float:
        times = (self._grace, self._hung, self._look)
        return min(time for time in times if time is not None)

    def _tick(self, waited: float) -> None:
        if waited >= self._look:
            self._look *= 2
            self._refuse_cycle()
        if self._hung is not None and waited >= self._hung:
            self._hung = None
            self._report(waited)
        if self._grace is not None and waited >= self._grace:
            self._end_grace(waited)

    def _refuse_cycle(self) -> None:
        cycle = find_cycle(self._removal)
        if cycle is not None:
            why = "the removal waits for itself:\n  " + "\n  ".join(cycle)
            raise error(EDEADLK, self._removal.root.path, why)

    def _report(self, waited: float) -> None:
        root = self._removal.root
        if not self._removal.reported:
            self._removal.reported = True
            inside = "".join(f"\n  {holder}" for holder in holders(root))
            logger.warning("removal of %s has waited for %.1f s, for%s", root.path, waited, inside)

    def _end_grace(self, waited: float) -> None:
        inside = holders(self._removal.root)
        if self._killed or not all(holder.killable for holder in inside):
            kill_calls(self._removal)
            left = tuple(holder for holder in inside if self._killed or not holder.killable)
            raise RemovalTimeoutError(self._removal.root.path, waited, left)
        kill_calls(self._removal)
        self._killed = True
        self._grace = waited + _UNWIND


def kill_calls(removal: Removal) -> None:
    """Cancel the calls inside what is not gone yet, where they may be. Not a checkpoint."""
    for entry in removal.remaining():
        if isinstance(entry, KillableEntry):
            for scope in entry.scopes:
                scope.cancel()
