"""The strategies by their names, and the default: cheap ones first, then all of it, or a sample."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, final

from ._dpor import Explorer
from ._footprint import Tracker
from ._hooks import hooks
from ._order import Order
from ._run import Plan, first_come
from ._strategies import (
    DEPTHS,
    Bounded,
    Priorities,
    bounded,
    delays,
    depth_first,
    fifo,
    pct,
    preemptions,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

    from ._order import Class
    from ._run import Execution, Lane, Search

DELAYS: Final = 3
"""Up to how many delays `auto` runs every schedule there is."""
AUDITS: Final = 16
"""How many schedules taken at random are compared with what the reduced search has found."""


@final
class Untracked(Exception):
    """Two equivalent executions differ: something is touched that is not seen."""

    def __init__(self, message: str, execution: Execution) -> None:
        super().__init__(message)
        self.execution = execution


@final
class Classes:
    """The classes of equivalent executions that were met, and how they ended."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._ends: dict[Class, tuple[Hashable, str, tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return len(self._ends)

    def meet(self, order: Order, execution: Execution) -> bool:
        """
        Note an execution; return whether its class is new.

        Raises:
            Untracked: An equivalent one ended otherwise.
        """
        ends = execution.outcome, str(execution.schedule), self._places(order)
        key = order.equivalence_class()
        before = self._ends.setdefault(key, ends)
        if before is ends:
            return True
        if before[0] != ends[0] or before[2] != ends[2]:
            raise Untracked(self._explain(before, ends), execution)
        return False

    def _places(self, order: Order) -> tuple[str, ...]:
        return tuple(sorted(event.place for event in order.events if event.real))

    def _explain(self, before: Any, now: Any) -> str:
        where = sorted(set(before[2]) ^ set(now[2]))
        at = f"; they part at {', '.join(where)}" if where else ""
        return (
            f"the schedules {before[1]} and {now[1]} differ only in the order of steps that touch "
            f"nothing in common, yet one ends with {before[0]!r} and the other with {now[0]!r}"
            f"{at}. {self._tracker.suspects()}"
        )


def reduced(also: Collection[type] = ()) -> Search:
    """Run one schedule of each class of equivalent ones."""
    tracker = Tracker()
    with hooks(tracker, also):
        if (yield from _reduce(tracker, Classes(tracker))):
            return _exhaustive(tracker)
    return "bounded (loops cut short)"


def _exhaustive(tracker: Tracker) -> str:
    return "bounded (not every access can be seen)" if tracker.notes else "exhaustive"


def _reduce(tracker: Tracker, classes: Classes, most: int | None = None) -> Any:
    explorer = Explorer(tracker)
    plan = Plan(explorer.choose, tracker)
    complete = True
    while most is None or most > 0:
        execution = yield plan
        if most is not None:
            most -= 1
        complete = complete and not execution.unfair
        order = Order(tracker.complete_events())
        if not execution.cut:
            classes.meet(order, execution)
        explorer.plan(order)
        if not explorer.advance():
            return complete
    return False


def auto(seed: int, count: int, also: Collection[type] = ()) -> Search:
    """
    Look where most bugs are, and then everywhere.

    The plain order, then every schedule of at most three delays; then one schedule of each class
    of equivalent ones, if all that tasks share can be seen; else a sample, till *count* is used up.
    """
    yield Plan(first_come)
    tree = Bounded(delays)
    plan = Plan(tree.choose)
    run = 1
    while run < count and tree.advance(DELAYS):
        yield plan
        run += 1
    if tree.complete:
        return "exhaustive"
    if run >= count:
        return f"sampled ({run})"
    verdict = yield from _the_rest(seed, count - run, also)
    return verdict or f"bounded (≤ {DELAYS} delays)"


def _the_rest(seed: int, count: int, also: Collection[type]) -> Any:
    tracker = Tracker()
    with hooks(tracker, also):
        classes = Classes(tracker)
        complete = yield from _reduce(tracker, classes, count - AUDITS)
        if complete and not tracker.notes:
            yield from _audit(tracker, classes, seed)
            return "exhaustive"
    return (yield from _mixed(seed, count // 2))


def _audit(tracker: Tracker, classes: Classes, seed: int) -> Any:
    """Check that what is taken at random is equivalent to something that was run."""
    rng = random.Random(seed)

    def choose(ready: list[Lane], last: Lane | None) -> Lane:
        return rng.choice(ready)

    plan = Plan(choose, tracker)
    for _ in range(AUDITS):
        execution = yield plan
        if classes.meet(Order(tracker.complete_events()), execution):
            message = (
                f"the schedule {execution.schedule} is equivalent to none that was run, though "
                f"all should have been. {tracker.suspects()}"
            )
            raise Untracked(message, execution)


def _mixed(seed: int, count: int) -> Any:
    """Sample alike by chance and by priorities."""
    rng = random.Random(seed)
    priorities = Priorities(rng)

    def choose(ready: list[Lane], last: Lane | None) -> Lane:
        return rng.choice(ready)

    plans = Plan(choose), Plan(priorities.choose)
    for number in range(count):
        priorities.begin(DEPTHS[number % len(DEPTHS)])
        yield plans[number % 2]
    return ""


def make(strategy: str, seed: int, count: int, also: Collection[type] = ()) -> Search:
    """
    Make a search from its name; a number after a colon is its bound.

    Raises:
        ValueError: There is no such strategy.
    """
    name, colon, number = strategy.partition(":")
    if colon and not number.isdecimal():
        msg = f"no strategy {strategy!r}: after the colon comes a number, as in 'delay:2'"
        raise ValueError(msg)
    bound = int(number) if colon else None
    if name == "pct":
        return pct(seed, count, DEPTHS if bound is None else (bound,))
    if name == "delay":
        return bounded(DELAYS if bound is None else bound, delays, "delays")
    if name == "preemption":
        return bounded(2 if bound is None else bound, preemptions, "preemptions")
    plain: dict[str, Callable[[], Search]] = {
        "auto": lambda: auto(seed, count, also),
        "fifo": fifo,
        "random": lambda: sample(seed, count),
        "dfs": depth_first,
        "dpor": lambda: reduced(also),
    }
    if name not in plain or bound is not None:
        msg = (
            f"no strategy {strategy!r}: there are auto, fifo, random, pct, dfs, dpor, and "
            "pct:N, delay:N and preemption:N with a bound"
        )
        raise ValueError(msg)
    return plain[name]()
