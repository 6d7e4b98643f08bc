"""What the executions of a search came to: how many, how they ended, what limits what they show."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final, final

from ._auto import Untracked
from ._causes import refused
from ._result import Failure, Progress, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from ._execution import Execution, Search, Watcher
    from ._schedule import Schedule

PROGRESS_EVERY: Final = 0.2
"""Seconds."""


@final
class Tally:
    """Counts executions and their ends, and says when it is enough."""

    def __init__(
        self,
        most: int,
        keep_going: bool,
        progress: Callable[[Progress], object] | None,
        strategy: str,
        victims: Collection[str] = (),
    ) -> None:
        self._most = most
        self._missing = set(victims)
        """Who is to be cancelled, and was no task in any execution yet."""
        self._names: dict[str, None] = {}
        self._keep_going = keep_going
        self._progress = progress
        self._began = self._told = time.perf_counter()
        self.strategy = strategy
        self.schedules = self.failures = self.blocked = 0
        self._unfair = self._broken_off = False
        """Whether executions were cut short, as a loop's or as failing ones."""
        self.failure: Failure | None = None
        self.passed: Schedule | None = None
        """The schedule of the first execution, if that did not fail."""
        self.path: list[str] = []
        """Who made each step of the first execution that failed."""
        self.outcomes: Counter[Hashable] = Counter()
        self.notes: set[str] = set()

    def supervise(self, search: Search) -> Search:
        """Pass on plans and executions, as long as it makes sense."""
        plan = next(search)
        while True:
            execution = yield plan
            watch = plan.watch
            self._note(execution)
            if self.failure is not None and not self._keep_going:
                self._hear(watch)
                search.close()
                return f"sampled ({self.schedules})"
            try:
                plan = search.send(execution)
            except StopIteration as stop:
                return str(stop.value)
            except Untracked as why:
                failure = Failure("untracked", str(why), why.execution.schedule)
                self._fail(failure, why.execution)
                return f"sampled ({self.schedules})"
            finally:
                self._hear(watch)  # what was planned last may have found something, too
            if self.schedules >= self._most:
                search.close()
                return f"sampled ({self.schedules})"

    def _hear(self, watch: Watcher | None) -> None:
        if watch is not None:
            self.notes |= getattr(watch, "notes", frozenset[str]())

    def _note(self, execution: Execution) -> None:
        self.schedules += 1
        if self._missing:
            self._names |= {lane.name: None for lane in execution.lanes if lane.cancels is None}
            self._missing -= set(self._names)
        if self.schedules == 1 and execution.failure is None:
            self.passed = execution.schedule
        self._unfair |= execution.unfair
        self._broken_off |= execution.broken_off
        if execution.cut:
            self.blocked += 1
        else:
            self.outcomes[execution.outcome] += 1
        if execution.failure is not None:
            self._fail(execution.failure, execution)
        if self._progress is not None and not self.schedules & 15:
            self._tell()

    def judge(self, verdict: str, *, part: bool) -> None:
        """
        Note what limits the verdict.

        Args:
            part: Whether only a part of the schedules was to be seen.

        Raises:
            ValueError: What was to be cancelled was no task in any of them.
        """
        if not part and self.failure is None:
            self.notes |= check_victims(self._missing, self._names, verdict)
        if verdict.startswith("bounded"):
            self._say_why()

    def result(
        self, backend: str, verdict: str, failure: Failure | None, seed: int | str
    ) -> Result:
        """Return what was found."""
        return Result(
            backend,
            self.strategy,
            verdict,
            self.schedules,
            failure,
            self.failures,
            self.blocked,
            outcomes=dict(self.outcomes),
            notes=tuple(sorted(self.notes)),
            seconds=time.perf_counter() - self._began,
            seed=seed,
            met=tuple(self._names),
        )

    def _say_why(self) -> None:
        """Note why not every order was seen, as far as it shows in the executions."""
        if self._unfair:
            self.notes.add(
                "a loop went on until everybody was given his turn, and what other turns it could "
                "take was not tried: give it an end, or raise max_steps="
            )
        if self._broken_off:
            self.notes.add(
                "failures ended executions whose tasks could still have moved, and which orders "
                "those would have led to was not seen: mend what fails, and explore again"
            )
        if self.schedules >= self._most:
            self.notes.add(
                f"after {self._most} schedules there was more to try: raise max_schedules="
            )

    def _fail(self, failure: Failure, execution: Execution) -> None:
        self.failures += 1
        if self.failure is None:
            self.failure = failure
            self.path = [lane.name for lane in execution.path]

    def _tell(self) -> None:
        now = time.perf_counter()
        if self._progress is not None and now - self._told >= PROGRESS_EVERY:
            self._told = now
            since = now - self._began
            self._progress(
                Progress(self.strategy, self.schedules, self._most, self.failures, since)
            )


def check_victims(missing: Collection[str], met: Collection[str], verdict: str) -> set[str]:
    """
    Say so if names of *cancel* were no task's: most are misspelt, and nothing was cancelled.

    Args:
        missing: Those names.
        met: The names of the tasks there were.

    Raises:
        ValueError: It was not a sample only, which may have missed them.
    """
    if not missing:
        return set()
    listed, there = ", ".join(sorted(missing)), ", ".join(met)
    msg = f"cancel= names {listed}, and no task was called that: there are {there}"
    if verdict.startswith("sampled"):
        return {msg}
    raise refused(ValueError(msg))
