"""A search in parts: the trees below its first choices, each of which can be searched alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from ._dpor import Explorer
from ._execution import Plan, first_come
from ._strategies import Branches
from ._tracker import Tracker
from ._watching import watching

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from ._accesses import Accesses
    from ._execution import Search
    from ._lane import Lane
    from ._schedule import Schedule


@final
@dataclass(frozen=True, slots=True)
class Shard:
    """The schedules that begin with some choices; can be sent to another process."""

    prefix: Schedule
    sleep: tuple[tuple[str, tuple[tuple[Hashable, int], ...]], ...] = ()
    """Whose next step need not be made after these choices, and what it would touch."""

    def sleeping(self, tracker: Tracker) -> dict[str, Accesses]:
        """Return the sleep set in the terms of a tracker."""
        return {
            lane: {tracker.names.number(key): kinds for key, kinds in accesses}
            for lane, accesses in self.sleep
        }


def split_depth_first(depth: int, found: list[Shard]) -> Search:
    """Find the beginnings of all schedules, up to so many choices."""
    branches = Branches()

    def choose(ready: list[Lane], last: Lane | None) -> Lane | None:
        return branches.choose(ready, last) if branches.depth < depth else None

    plan = Plan(choose)
    while True:
        execution = yield plan
        found.append(Shard(execution.schedule))
        if not branches.advance():
            return "split"


def split_reduced(depth: int, found: list[Shard], also: Collection[type] = ()) -> Search:
    """
    Find the beginnings of all schedules, up to so many choices, but for equivalent ones.

    Up to there every choice is taken, unless it sleeps; so a race whose first step is up there
    needs nothing done below.
    """
    tracker = Tracker()
    explorer = Explorer(tracker, depth=depth)
    plan = Plan(explorer.choose, tracker)
    with watching(tracker, also):
        yield Plan(first_come, tracker)  # so that the program's caches are full, as they will be
        while True:
            execution = yield plan
            if not execution.cut:
                found.append(Shard(execution.schedule))
            elif explorer.deep:
                sleep = explorer.sleep_after(len(tracker.events) - 1)
                found.append(Shard(execution.schedule, tracker.names.portable(sleep)))
            if not explorer.advance():
                return "split"
