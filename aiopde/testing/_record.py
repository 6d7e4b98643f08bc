"""The steps of one execution, in all detail: where they began and ended, and what they woke."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._result import Step
from ._stacks import place_of

if TYPE_CHECKING:
    from ._result import Location
    from ._run import Lane, Run


@final
class Recorder:
    """A watcher that writes down what it sees."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._run: Run | None = None
        self._others: tuple[str, ...] = ()
        self._began: Location | None = None
        self._marks: list[str] = []

    def begin(self, run: Run) -> None:
        """See that an execution begins."""
        self._run = run
        self.steps = []
        self._marks = []

    def before(self, lane: Lane, ready: list[Lane]) -> None:
        """Write down where a task stands, and who else could move."""
        self._others = tuple(other.name for other in ready if other is not lane)
        self._began = self._place(lane) if self.steps else None

    def after(self, lane: Lane, woken: list[Lane], over: bool) -> None:
        """Write down where a task stands now, and whom it woke."""
        woke = tuple(other.name for other in woken if other is not lane)
        ended = None if over else self._place(lane)
        marks = [*self._marks, "ends"] if over else self._marks
        self._marks = []
        self.steps.append(
            Step(
                lane.name,
                self._others,
                self._began,
                ended,
                woke,
                marks=tuple(marks),
                choice=bool(self._others),
            )
        )

    def check_begins(self, number: int) -> None:
        """Nothing to write down."""

    def jump(self, time: float) -> None:
        """Write down that the clock was set forward, before the next step."""
        self._marks.append(f"time {time:g}")

    def _place(self, lane: Lane) -> Location | None:
        assert self._run is not None
        return None if lane.task is None else place_of(self._run.coroutine(lane))
