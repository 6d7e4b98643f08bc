"""The steps of one execution, in all detail: where they began and ended, what they touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._result import Step
from ._stacks import place_of
from ._tracker import Tracker

if TYPE_CHECKING:
    from ._lane import Lane
    from ._result import Location
    from ._run import Run


@final
class Recorder:
    """A watcher that writes down what it and a tracker see."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.tracker = Tracker()
        self._run: Run | None = None
        self._others: tuple[str, ...] = ()
        self._began: Location | None = None
        self._marks: list[str] = []

    def begin(self, run: Run) -> None:
        """See that an execution begins."""
        self._run = run
        self.steps = []
        self._marks = []
        self.tracker.begin(run)

    def before(self, lane: Lane, ready: list[Lane]) -> None:
        """Write down where a task stands, and who else could move."""
        self._others = tuple(other.name for other in ready if other is not lane)
        self._began = self._place(lane) if self.steps else None
        self.tracker.before(lane, ready)

    def after(self, lane: Lane, woken: list[Lane], over: bool) -> None:
        """Write down where a task stands now, whom it woke and what it touched."""
        self.tracker.after(lane, woken, over)
        woke = tuple(other.name for other in woken if other is not lane)
        ended = None if over else self._place(lane)
        marks = (*self._marks, "ends") if over else tuple(self._marks)
        self._marks = []
        touched = self.tracker.touched()
        self.steps.append(
            Step(
                lane.name,
                self._others,
                self._began,
                ended,
                woke,
                touched,
                marks,
                choice=bool(self._others),
            )
        )

    def touch_thing(self, thing: object, field: str, write: bool) -> None:
        """Pass on what the scenario says it touches."""
        self.tracker.touch_thing(thing, field, write)

    def check_begins(self, number: int) -> None:
        """Pass on that what follows is no part of the step."""
        self.tracker.check_begins(number)

    def jump(self, time: float) -> None:
        """Write down that the clock was set forward, before the next step."""
        self._marks.append(f"time {time:g}")
        self.tracker.jump(time)

    def _place(self, lane: Lane) -> Location | None:
        assert self._run is not None
        return None if lane.task is None else place_of(self._run.coroutine(lane))
