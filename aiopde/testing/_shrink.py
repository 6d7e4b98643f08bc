"""Make a failing schedule as plain as it can be: the fewest context switches, and proven so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from ._execution import Diverged, Plan

if TYPE_CHECKING:
    from ._execution import Execution, Search
    from ._lane import Lane
    from ._result import Failure
    from ._schedule import Schedule

MOST_EXECUTIONS: Final = 2_000
"""After as many, the best schedule so far has to do, and is not called minimal."""
MOST_SECONDS: Final = 5.0
"""And so it has after that time: an execution that is hard to clear away may take long."""


@final
@dataclass(frozen=True, slots=True)
class Shrunk:
    """What became of a failing schedule."""

    schedule: Schedule
    """Of those that fail in the same way, one with the fewest switches that was found."""
    proven: bool
    """Whether every schedule with fewer switches was run, and none fails in that way."""
    tried: int
    """How many executions that took."""


@final
class Shrinker:
    """
    Branch and bound over the number of context switches.

    Goes depth first through all schedules that have fewer than the best one known; each that
    fails in the same way lowers the bound. What has too many by now is given up. So when it
    ends, every schedule with fewer switches was begun, and none of them fails.

    Merging a task's segments as long as it fails is what others do. That needs as many
    executions, and is stuck above the minimum in three cases of ten.
    """

    def __init__(self, failure: Failure, most: int = MOST_EXECUTIONS) -> None:
        self._key = failure.key
        self._most = most
        # At each choice of this execution: who is still to be chosen, and the switches by then.
        self._stack: list[list[tuple[str, int]]] = []
        self._depth = 0
        self._last = ""
        self._switches = 0
        self.best: Schedule = failure.schedule
        self.tried = 0
        self.proven = False
        self.diverged = ""
        """How the program turned out not to be deterministic, if it did."""

    @property
    def _bound(self) -> int:
        return self.best.switches - 1

    def search(self) -> Search:
        """Be driven; :attr:`best` is better then, if there is a better one."""
        ends = time.monotonic() + MOST_SECONDS
        self.proven = self._bound < 0
        while not self.proven and self.tried < self._most and time.monotonic() < ends:
            self._depth, self._last, self._switches = 0, "", 0
            self._note((yield Plan(self._choose)))
            if self.diverged:
                return "not deterministic"
            self.proven = not self._next() or self._bound < 0
        return "minimal" if self.proven else f"shrunk ({self.tried})"

    def _note(self, execution: Execution) -> None:
        self.tried += 1
        failure = execution.failure
        if failure is not None and failure.kind == "nondeterminism":
            self.diverged = failure.message
        if failure is None or failure.key != self._key:
            return
        self.best = min(self.best, failure.schedule, key=lambda schedule: schedule.switches)

    def _choose(self, lanes: list[Lane], last: Lane | None) -> Lane | None:
        del last  # the last that was chosen counts, not the last that had to move
        names = [lane.name for lane in lanes]
        if self._depth == len(self._stack):
            self._stack.append(self._branches(names))
        branches = self._stack[self._depth]
        if not branches:
            return None
        self._last, self._switches = branches[0]
        self._depth += 1
        if self._last not in names:
            can = ", ".join(names)
            msg = f"{self._last} could move after the same choices, and now only {can} can"
            raise Diverged(msg)
        return lanes[names.index(self._last)]

    def _branches(self, names: list[str]) -> list[tuple[str, int]]:
        """Return whom to choose, the cheapest first, with the switches there are then."""
        costs = [(name, self._switches + (name != self._last != "")) for name in names]
        return [b for b in sorted(costs, key=lambda b: b[1]) if b[1] <= self._bound]

    def _next(self) -> bool:
        """Go to the next branch within the bound; tell whether there is one."""
        while self._stack:
            branches = self._stack[-1]
            del branches[:1]
            if branches and branches[0][1] <= self._bound:
                return True
            del self._stack[-1]
        return False
