"""One execution after another: who can move, who moves, and what came of it."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, final

from ._causes import describe, sole
from ._execution import Diverged, Execution, first_come
from ._lane import MAIN, Lane
from ._outside import outside_of
from ._race import Race
from ._result import Failure, Kind, Waiter
from ._schedule import CANCEL, safe_name
from ._stacks import call_among, frames_of, stack_of, waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ._backend import Backend
    from ._execution import Choose, Plan, Search, Settings, Watcher
    from ._outside import UncontrolledError


@final
class Run:
    """
    The state of the execution that is going on; the loop's driver asks it who moves next.

    The rules that keep it exact: nobody moves but by :meth:`pick`; everything a step wakes is
    handed to :meth:`wake` before the next pick, in the order in which the loop noted it; nothing
    else here depends on ids, hashes or time.
    """

    def __init__(self, search: Search, settings: Settings, backend: Backend) -> None:
        self._search = search
        self._settings = settings
        self.backend: Backend = backend
        self._victims = frozenset(settings.cancel)
        self.verdict: str = ""
        self.error: BaseException | None = None
        """What the search itself raised: a mistake in a strategy, or an interrupt."""
        self.race: Race = Race(self)
        self.going: bool = False
        """Whether an execution is going on; False while one is being cleared away."""
        self.idle: bool = True
        """Whether there is no execution, not even one to be cleared away."""
        self.execution: Execution = Execution()
        self.choose: Choose = first_come
        self.path: list[Lane] = []
        self.choices: list[Lane] = []
        self.lanes: list[Lane] = []
        self.invariants: list[tuple[Callable[[], object], str]] = []
        self.watch: Watcher | None = None
        self._plainly = self._pick_plainly
        self.pick: Callable[[], Lane | None] = self._plainly
        """
        Says who moves next; None if nobody can.

        Called after each step, once all that it woke has been told. A canceller that is picked
        has made its step when this returns; tell what that woke, and pick again.
        """
        self.ready: list[Lane] = []
        self.last: Lane | None = None
        self.by_task: dict[Any, Lane] = {}
        self._cancellers: list[Lane] = []
        self.woken: list[Lane] = []
        self._limit = 0
        self._fair_from = 0
        self._plan: Plan | None = None
        self._advance(None)

    # -- from one execution to the next -----------------------------------------------------------

    def _advance(self, execution: Execution | None) -> None:
        """Ask the search for its next plan."""
        try:
            self._plan = next(self._search) if execution is None else self._search.send(execution)
        except StopIteration as stop:
            self._plan, self.verdict = None, stop.value

    @property
    def over(self) -> bool:
        """Whether the search has ended."""
        return self._plan is None

    @property
    def upcoming_watch(self) -> Watcher | None:
        """Who will watch the next execution."""
        return None if self._plan is None else self._plan.watch

    def begin(self, main: Any) -> None:
        """Begin an execution, whose first step the task *main* makes at once."""
        plan = self._plan
        assert plan is not None
        self.execution = execution = Execution()
        self.invariants = []
        self.ready = []
        self._cancellers = []
        self.woken = []
        self._limit = self._settings.max_steps
        self.choose = plan.choose
        self.path = execution.path
        self.choices = execution.choices
        self.lanes = execution.lanes
        self.watch = plan.watch
        self.last = lane = Lane(MAIN, 0, None, main)
        self.lanes.append(lane)
        self.path.append(lane)
        self.by_task = {main: lane}
        self.going = True
        self.idle = False
        if MAIN in self._victims:
            self._add_canceller(lane)
        if plan.watch is None and not self._victims:
            self.pick = self._plainly
        else:
            self.be_careful()
        if plan.watch is not None:
            plan.watch.begin(self)
            plan.watch.before(lane, [])

    def end(self) -> bool:
        """The scenario has returned or raised; say whether everything it started is over."""
        if self.going and (self.watch is not None or self.invariants):
            self._stepped(over=True)
        over = self._all_over()
        if self.going and not over:
            left = [waiter for waiter in self._waiters() if waiter.task != MAIN]
            message = "the scenario has returned, but not " + ", ".join(w.task for w in left)
            self.fail("left behind", message, waiting=left)
        self.going = False
        return over

    def _all_over(self) -> bool:
        is_over = self.backend.is_over
        for lane in self.lanes:  # noqa: SIM110  no generator for each execution
            if lane.parent is not None and not is_over(lane.task):
                return False
        return True

    def finish(self, outcome: Hashable, error: BaseException | None) -> None:
        """Close the execution, and go on with the search."""
        execution = self.execution
        if error is not None and not execution.cut and execution.failure is None:
            error = sole(error)
            self.fail("exception", describe(error), error)
        failure = execution.failure
        execution.outcome = (failure.kind, failure.message) if failure else _hashable(outcome)
        self.watch = None
        self.idle = True
        self._advance(execution)

    def fail(
        self,
        kind: Kind,
        message: str,
        exception: BaseException | None = None,
        waiting: list[Waiter] | tuple[Waiter, ...] = (),
    ) -> None:
        """Note how the execution failed; the first failure counts."""
        if self.going and kind not in ("deadlock", "left behind"):
            self.execution.broken_off = True
        self.going = False
        if self.execution.failure is None:
            self.execution.failure = Failure(
                kind, message, self.execution.schedule, exception, waiting=tuple(waiting)
            )

    def break_off(self, error: BaseException) -> None:
        """Note that the explorer itself, or a strategy, raised; the search ends with the first."""
        self.error = self.error or error
        self.going = False

    # -- steps ------------------------------------------------------------------------------------

    def wake(self, tasks: list[Any]) -> None:
        """Note that tasks can move: those we know, and those that were just started."""
        known = self.by_task.get
        lanes = [known(task) or self.adopt(task) for task in tasks]
        self.ready += lanes
        if self.watch is not None:
            self.woken += lanes

    def be_careful(self) -> None:
        """Look at each step from now on; who takes the plain way does not look for a reason to."""
        self.pick = self._pick_carefully

    # Most schedules have no watcher, invariant or victim, and then this is half of what a step
    # costs: so what is asked once for an execution, in begin(), is not asked here again.
    def _pick_plainly(self) -> Lane | None:
        ready = self.ready
        lane: Lane | None
        if len(ready) == 1:
            lane = ready.pop()
        elif ready:
            try:
                lane = self.choose(ready, self.last)
            except Diverged as why:
                self.fail("nondeterminism", str(why))
                return None
            if lane is None:
                self._give_up()
                return None
            self.choices.append(lane)
            ready.remove(lane)
        else:
            return None
        path = self.path
        path.append(lane)
        if len(path) > self._limit and self._too_long(lane):
            return None
        self.last = lane
        return lane

    def _pick_carefully(self) -> Lane | None:
        self._stepped(over=False)
        if not self.going:
            return None
        ready = self.ready
        if self._cancellers and ready:
            ready = ready + self._live_cancellers()
        if not ready:
            return None
        lane = self._chosen(ready) if len(ready) > 1 or self.watch is not None else ready[0]
        if lane is None:
            return None
        if lane.cancels is None:
            self.ready.remove(lane)
        self.path.append(lane)
        if len(self.path) > self._limit and self._too_long(lane):
            return None
        self.last = lane
        if self.watch is not None:
            self.watch.before(lane, ready)
        if lane.cancels is not None:
            lane.cancels.deliver()
        return lane

    def _chosen(self, ready: list[Lane]) -> Lane | None:
        try:
            lane = self.choose(ready, self.last)
        except Diverged as why:
            self.fail("nondeterminism", str(why))
            return None
        if lane is None:
            self._give_up()
        elif len(ready) > 1:
            self.choices.append(lane)
        return lane

    def _give_up(self) -> None:
        self.execution.cut = True
        self.going = False

    def _too_long(self, lane: Lane) -> bool:
        """Give everybody his turn; then say that this goes on for ever, and return true."""
        execution = self.execution
        if execution.unfair:
            # The choices up to the fair turns are enough: a replay takes these turns again.
            del self.choices[self._fair_from :]
            why = "nobody ends that, or max_steps= is too small"
            message = f"still moving after {len(self.path)} steps, half in fair turns: {why}"
            self.fail("livelock", message, waiting=self._waiters())
            self.ready.append(lane)  # so that it is not forgotten when all is cleared away
            return True
        execution.unfair = True
        self._fair_from = len(self.choices)
        self._limit *= 2
        self.choose = first_come
        return False

    def _stepped(self, *, over: bool) -> None:
        lane, watch = self.last, self.watch
        assert lane is not None
        for number, (holds, name) in enumerate(self.invariants):
            if watch is not None:
                watch.check_begins(number)
            self._check(holds, name)
        if watch is not None:
            over = over or (lane.task is not None and self._is_over(lane))
            woken, self.woken = self.woken, []
            watch.after(lane, woken, over)

    def _check(self, holds: Callable[[], object], name: str) -> None:
        error = None
        try:
            if holds() is not False:
                return
        except Exception as exc:
            error = exc
        lane = self.last
        assert lane is not None
        why = f": {error!r}" if error else ""
        self.fail("invariant", f"after a step of {lane.name}, {name} does not hold{why}", error)

    def deadlock(self) -> None:
        """Note that nobody can move, and nothing will change that."""
        outside = self._outside()
        if outside is not None:
            self.break_off(outside)
            return
        waiting = self._waiters()
        # A cancellation is no choice where nobody can move; it might have come a step before.
        self.execution.broken_off = bool(self._live_cancellers())
        what = "; ".join(f"{w.task} waits for {w.what}" for w in waiting)
        self.fail("deadlock", f"nobody can move: {what}", waiting=waiting)

    def _outside(self) -> UncontrolledError | None:
        """Say if somebody waits for more than tasks: then it cannot be told whether all is over."""
        for lane in self.lanes:
            if not self._is_over(lane):
                frames = list(frames_of(self.coroutine(lane)))
                outside = outside_of(frames)
                if outside is not None:
                    return outside.asked_for(f"{lane.name}: {call_among(frames)}")
        return None

    def coroutine(self, lane: Lane) -> Any:
        """Return the outermost coroutine of a task."""
        return self.backend.coroutine(lane.task)

    # -- lanes ------------------------------------------------------------------------------------

    def adopt(self, task: Any) -> Lane:
        """Give a task that was just started its lane, and its name in schedules."""
        parent = self.last
        assert parent is not None
        base = _base_name(self.backend.task_name(task))
        children = parent.children
        if children is None:
            children = parent.children = {}
        number = children[base] = children.get(base, 0) + 1
        name = base if number == 1 else f"{base}-{number}"
        if parent.parent is not None:
            name = f"{parent.name.removeprefix(CANCEL)}/{name}"
        lanes = self.lanes
        lane = self.by_task[task] = Lane(name, len(lanes), parent, task)
        lanes.append(lane)
        if name in self._victims:
            self._add_canceller(lane)
        return lane

    def _add_canceller(self, victim: Lane) -> None:
        from ._cancel import Canceller

        self.backend.can_cancel(victim)
        lane = Lane(CANCEL + victim.name, len(self.lanes), victim)
        lane.cancels = Canceller(victim)
        victim.canceller = lane
        self.lanes.append(lane)
        self._cancellers.append(lane)

    def _live_cancellers(self) -> list[Lane]:
        return [
            lane
            for lane in self._cancellers
            if lane.cancels is not None
            and not lane.cancels.delivered
            and not self._is_over(lane.cancels.victim)
        ]

    def _is_over(self, lane: Lane) -> bool:
        return self.backend.is_over(lane.task)

    def _waiters(self) -> list[Waiter]:
        found: list[Waiter] = []
        for lane in self.lanes:
            if not self._is_over(lane):
                coroutine = self.coroutine(lane)
                stack = stack_of(coroutine)
                found.append(Waiter(lane.name, waits_for(coroutine), stack))
        return found


@cache
def _base_name(name: str) -> str:
    """Leave out the module and the enclosing functions of a name made from a function's."""
    head, _, tail = name.rpartition(".")
    if head and (head.partition(".")[0] in sys.modules or "<locals>" in head):
        name = tail
    return safe_name(name)


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value  # type: ignore[no-any-return]
