"""One execution after another: who can move, who moves, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Generator, Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, final

from ._result import Failure, Kind, Waiter
from ._schedule import CANCEL, Schedule, safe_name
from ._stacks import stack_of, waits_for

if TYPE_CHECKING:
    from ._cancel import Canceller

MAIN = "main"
"""The lane of the scenario itself."""


@final
class Lane:
    """A task under our control, from its birth to its end; or the canceller of one."""

    __slots__ = ("canceller", "cancels", "children", "index", "name", "parent", "scope", "task")

    def __init__(self, name: str, index: int, parent: Lane | None, task: Any = None) -> None:
        self.name: str = name
        self.index: int = index
        self.parent: Lane | None = parent
        self.task: Any = task
        """The loop's task; None for a canceller."""
        self.cancels: Canceller | None = None
        self.children: dict[str, int] | None = None
        """How many of each name it has started."""
        self.scope: Any = None
        """What cancels it, where a cancellation is a choice."""
        self.canceller: Lane | None = None
        """The lane that cancels this one, where that is a choice."""

    def __repr__(self) -> str:
        return f"<Lane {self.name}>"


Choose: TypeAlias = Callable[[list[Lane], "Lane | None"], "Lane | None"]
"""
Says who moves, of those who can (in the order in which they became able to), given who moved last.

Asked only where there is a choice, unless the plan has a watcher. None gives up the execution.
"""


class Watcher(Protocol):
    """Sees every step of an execution."""

    def begin(self, run: Run) -> None:
        """See that an execution begins; its first step is the scenario's own."""

    def before(self, lane: Lane, ready: list[Lane]) -> None:
        """See who moves next; *ready* has the others that could."""

    def after(self, lane: Lane, woken: list[Lane], over: bool) -> None:
        """See who moved, whom that woke or started, and whether that was its end."""

    def check_begins(self, number: int) -> None:
        """See that an invariant is checked next; *after* comes when all were."""

    def jump(self, time: float) -> None:
        """See that nobody could move, and the clock was set forward."""


@final
class Plan:
    """How one execution is to go."""

    __slots__ = ("choose", "watch")

    def __init__(self, choose: Choose, watch: Watcher | None = None) -> None:
        self.choose: Choose = choose
        self.watch: Watcher | None = watch


@final
class Execution:
    """What came of a plan."""

    __slots__ = ("choices", "cut", "failure", "lanes", "outcome", "path", "unfair")

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.path: list[Lane] = []
        """Who made each step."""
        self.choices: list[Lane] = []
        """Who made each step at which there was a choice."""
        self.failure: Failure | None = None
        self.outcome: Hashable = None
        self.cut: bool = False
        """Whether it was given up, because the plan said so."""
        self.unfair: bool = False
        """Whether it ended only after everybody was given his turn."""

    @property
    def schedule(self) -> Schedule:
        """The choices, as data."""
        return Schedule(tuple(lane.name for lane in self.choices))

    @property
    def steps_taken(self) -> int:
        """How many steps it had, the forced ones included."""
        return len(self.path)


Search: TypeAlias = Generator[Plan, Execution, str]
"""Yields plans, is sent what came of each, and returns its verdict."""


@final
class Race:
    """
    What a scenario may ask of the explorer that runs it.

    A scenario that takes an argument is given one::

        async def scenario(race: Race) -> None:
            race.always(lambda: entry.in_use >= 0)
    """

    __slots__ = ("_invariants", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._invariants: list[tuple[Callable[[], object], str]] = []

    def always(self, holds: Callable[[], object], name: str = "") -> None:
        """
        Check after every step from now on that something holds. Not a checkpoint.

        Args:
            holds: A plain function; what it raises, or a result of False, fails the execution.
            name: What to call it in the report; by default, where it is.

        Raises:
            TypeError: It is no function, or one that would have to be awaited.
        """
        if iscoroutinefunction(holds) or not callable(cast("object", holds)):
            msg = (
                f"always() wants a plain function, as in always(lambda: n >= 0), not {holds!r:.60}"
            )
            raise TypeError(msg)
        code = getattr(holds, "__code__", None)
        where = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(holds)
        self._run.invariants.append((holds, name or where))

    def touch(self, thing: object, field: str = "", *, write: bool = False) -> None:
        """
        Say that this step reads or writes something the explorer cannot see. Not a checkpoint.

        Args:
            thing: Any object: what is shared.
            field: Which part of it; accesses to different fields do not conflict.
            write: Whether it is changed.
        """
        watch = self._run.watch
        touch = getattr(watch, "touch", None)
        if touch is not None:
            touch(thing, field, write)


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every execution of a search."""

    backend: str = "asyncio"
    max_steps: int = 1_000
    cancel: Collection[str] = ()


class Diverged(Exception):
    """A plan cannot be followed: the execution goes another way than it did."""


class Abandoned(BaseException):
    """Thrown into what is left of an execution that is over; not to be caught."""


class Backend(Protocol):
    """What a run needs of the loop it is on."""

    def is_over(self, task: Any) -> bool:
        """Whether a task has ended; a canceller has none, and is over."""
        ...

    def coroutine(self, task: Any) -> Any:
        """The outermost coroutine of a task."""

    def task_name(self, task: Any) -> str:
        """The name the task was given, or its function's."""
        ...

    def can_cancel(self, lane: Lane) -> None:
        """Prepare a new task, so that it can be cancelled."""

    def scopes(self, task: Any) -> Iterator[Any]:
        """Yield the cancel scopes a task is in that can reach it, innermost first."""
        ...

    def group(self, task: Any) -> Any:
        """Return the task group a task is in; None if it is in none."""

    def ended_group(self, group: Any) -> Any:
        """Return the task that waited for a group, if its last task has just ended."""


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
        self.ready: list[Lane] = []
        self.last: Lane | None = None
        self.by_task: dict[Any, Lane] = {}
        self._cancellers: list[Lane] = []
        self._woken: list[Lane] = []
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
        self._woken = []
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
        return all(is_over(lane.task) for lane in self.lanes[1:])

    def finish(self, outcome: Hashable, error: BaseException | None) -> None:
        """Close the execution, and go on with the search."""
        execution = self.execution
        if error is not None and not execution.cut and execution.failure is None:
            error = _sole(error)
            self.fail("exception", _describe(error), error)
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
        self.going = False
        if self.execution.failure is None:
            self.execution.failure = Failure(
                kind, message, self.execution.schedule, exception, waiting=tuple(waiting)
            )

    def break_off(self, error: BaseException) -> None:
        """Note that the explorer itself, or a strategy, raised; the search ends with that."""
        self.error = error
        self.going = False

    # -- steps ------------------------------------------------------------------------------------

    def wake(self, tasks: list[Any]) -> None:
        """Note that tasks can move: those we know, and those that were just started."""
        by_task, ready = self.by_task, self.ready
        for task in tasks:
            lane = by_task.get(task)
            if lane is None:
                lane = self._adopt(task)
            ready.append(lane)
            if self.watch is not None:
                self._woken.append(lane)

    def pick(self) -> Lane | None:
        """
        Say who moves next; None if nobody can.

        Called after each step, once all that it woke has been told. A canceller that is picked
        has made its step when this returns; tell what that woke, and pick again.
        """
        if self.watch is not None or self.invariants:
            self._stepped(over=False)
            if not self.going:
                return None
        ready = self.ready
        if self._cancellers and ready:
            ready = ready + self._live_cancellers()
        if len(ready) > 1 or (ready and self.watch is not None):
            try:
                lane = self.choose(ready, self.last)
            except Diverged as why:
                self.fail("nondeterminism", str(why))
                return None
            if lane is None:
                self.execution.cut = True
                self.going = False
                return None
            if len(ready) > 1:
                self.choices.append(lane)
            if lane.cancels is None:
                self.ready.remove(lane)
        elif ready:
            lane = self.ready.pop()
        else:
            return None
        self.path.append(lane)
        if len(self.path) > self._limit:
            self._too_long()
        self.last = lane
        if self.watch is not None:
            self.watch.before(lane, ready)
        if lane.cancels is not None:
            lane.cancels.deliver()
        return lane

    def _too_long(self) -> None:
        """Give everybody his turn, before we say that this goes on for ever."""
        execution = self.execution
        if execution.unfair:
            # The choices up to the fair turns are enough: a replay takes these turns again.
            del self.choices[self._fair_from :]
            message = f"still moving after {len(self.path)} steps, half of them in fair turns"
            self.fail("livelock", message, waiting=self._waiters())
        else:
            execution.unfair = True
            self._fair_from = len(self.choices)
            self._limit *= 2
            self.choose = first_come

    def _stepped(self, *, over: bool) -> None:
        lane, watch = self.last, self.watch
        assert lane is not None
        for number, (holds, name) in enumerate(self.invariants):
            if watch is not None:
                watch.check_begins(number)
            self._check(holds, name)
        if watch is not None:
            over = over or (lane.task is not None and self._is_over(lane))
            woken, self._woken = self._woken, []
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
        waiting = self._waiters()
        what = "; ".join(f"{w.task} waits for {w.what}" for w in waiting)
        self.fail("deadlock", f"nobody can move: {what}", waiting=waiting)

    def coroutine(self, lane: Lane) -> Any:
        """Return the outermost coroutine of a task."""
        return self.backend.coroutine(lane.task)

    # -- lanes ------------------------------------------------------------------------------------

    def _adopt(self, task: Any) -> Lane:
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


def _leaves(error: BaseException) -> tuple[BaseException, ...]:
    """Return what a group of errors consists of; of another error, nothing."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def _sole(error: BaseException) -> BaseException:
    """Unwrap what task groups have wrapped, if it is one error."""
    while len(leaves := _leaves(error)) == 1:
        error = leaves[0]
    return error


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody wants it all to end."""
    return isinstance(error, KeyboardInterrupt) or any(map(is_interrupt, _leaves(error)))


def _describe(error: BaseException) -> str:
    what = ", ".join(type(_sole(leaf)).__name__ for leaf in _leaves(error)) or str(error)
    return f"{type(error).__name__}: {what}".removesuffix(": ")


def first_come(ready: list[Lane], last: Lane | None) -> Lane:
    """Choose who has been able to move for longest: what asyncio does."""
    return ready[0]


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
