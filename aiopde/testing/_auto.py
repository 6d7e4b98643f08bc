"""The strategies by their names, and the default: cheap ones first, then all of it, or a sample."""

from __future__ import annotations

import random
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, final

from ._causes import refused
from ._dpor import Explorer
from ._execution import Plan, first_come
from ._order import Order
from ._strategies import (
    DEPTHS,
    Bounded,
    Priorities,
    all_of_it,
    at_random,
    bounded,
    delays,
    depth_first,
    fifo,
    pct,
    preemptions,
    sample,
)
from ._tracker import Tracker
from ._watching import watching

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Hashable

    from ._execution import Execution, Search
    from ._order import Class
    from ._split import Shard

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
        return tuple(sorted(event.place for event in order.events if event.lane.cancels is None))

    def _explain(self, before: Any, now: Any) -> str:
        where = sorted(set(before[2]) ^ set(now[2]))
        at = f"; they part at {', '.join(where)}" if where else ""
        return (
            f"the schedules {before[1]} and {now[1]} differ only in the order of steps that touch "
            f"nothing in common, yet one ends with {before[0]!r} and the other with {now[0]!r}"
            f"{at}. {self._tracker.suspects()}"
        )


def reduced(also: Collection[type] = (), shard: Shard | None = None) -> Search:
    """Run one schedule of each class of equivalent ones, or of those in a shard."""
    tracker = Tracker()
    if shard is None:
        explorer = Explorer(tracker)
    else:
        explorer = Explorer(tracker, shard.prefix.choices, shard.sleeping(tracker))
    with watching(tracker, also):
        if (yield from _reduce(explorer, Classes(tracker))):
            return _exhaustive(tracker)
    return "bounded (executions cut short)"


def _exhaustive(tracker: Tracker) -> str:
    return "bounded (not every access can be seen)" if tracker.notes else "exhaustive"


def _reduce(
    explorer: Explorer, classes: Classes, most: int | None = None
) -> Generator[Plan, Execution, bool]:
    """Run one schedule of each class; return whether that was all of them."""
    tracker = explorer.tracker
    plan = Plan(explorer.choose, tracker)
    complete = True
    for _ in repeat(None) if most is None else repeat(None, most):
        execution = yield plan
        complete = complete and execution.whole
        order = Order(tracker.complete_events())
        if not execution.cut:
            classes.meet(order, execution)
        explorer.plan(order, execution)
        if not explorer.advance():
            return complete
    return False


def auto(seed: int | str, count: int, also: Collection[type] = ()) -> Search:
    """
    Look where most bugs are, and then everywhere.

    The plain order, then every schedule of at most three delays; then one schedule of each class
    of equivalent ones, if all that tasks share can be seen; else a sample, till *count* is used up.
    """
    yield Plan(first_come)
    tree = Bounded(delays)
    plan = Plan(tree.choose)
    left = count - 1
    complete = True
    while left and tree.advance(DELAYS):
        execution = yield plan
        complete = complete and not execution.unfair
        left -= 1
    if tree.complete:
        return all_of_it(complete)
    if not left:
        return f"sampled ({count})"
    if (yield from _everywhere(seed, left // 2, also)):
        return "exhaustive"
    yield from _mixed(seed, left - left // 2)
    return f"bounded (≤ {DELAYS} delays)"


def _everywhere(
    seed: int | str, most: int, also: Collection[type]
) -> Generator[Plan, Execution, bool]:
    tracker = Tracker()
    classes = Classes(tracker)
    with watching(tracker, also):
        complete = yield from _reduce(Explorer(tracker), classes, most)
        if not complete or tracker.notes:
            return False
        yield from _audit(tracker, classes, seed)
    return True


def _audit(tracker: Tracker, classes: Classes, seed: int | str) -> Generator[Plan, Execution, None]:
    """Check that what is taken at random is equivalent to something that was run."""
    plan = Plan(at_random(random.Random(seed)), tracker)
    for _ in range(AUDITS):
        execution = yield plan
        if classes.meet(Order(tracker.complete_events()), execution):
            message = (
                f"the schedule {execution.schedule} is equivalent to none that was run, though "
                f"all should have been. {tracker.suspects()}"
            )
            raise Untracked(message, execution)


def _mixed(seed: int | str, count: int) -> Generator[Plan, Execution, None]:
    """Sample alike by chance and by priorities."""
    rng = random.Random(seed)
    priorities = Priorities(rng)
    plans = Plan(at_random(rng)), Plan(priorities.choose)
    for number in range(count):
        priorities.begin(DEPTHS[number % len(DEPTHS)])
        yield plans[number % 2]


def make(
    strategy: str,
    seed: int | str,
    count: int,
    also: Collection[type] = (),
    shard: Shard | None = None,
) -> Search:
    """
    Make a search from its name; a number after a colon is its bound.

    Raises:
        ValueError: There is no such strategy.
    """
    name, colon, number = strategy.partition(":")
    if shard is not None and name not in ("dfs", "dpor"):
        msg = f"strategy {strategy!r} has no parts: a shard is for dfs and dpor"
        raise refused(ValueError(msg))
    if colon and not number.isdecimal():
        msg = f"no strategy {strategy!r}: after the colon comes a number, as in 'delay:2'"
        raise refused(ValueError(msg))
    bound = int(number) if colon else None
    if name == "pct":
        if bound == 0:
            msg = "no strategy 'pct:0': a bug needs at least one ordering, as in 'pct:3'"
            raise refused(ValueError(msg))
        return pct(seed, count, DEPTHS if bound is None else (bound,))
    if name == "delay":
        return bounded(DELAYS if bound is None else bound, delays, "delays")
    if name == "preemption":
        return bounded(2 if bound is None else bound, preemptions, "preemptions")
    plain: dict[str, Callable[[], Search]] = {
        "auto": lambda: auto(seed, count, also),
        "fifo": fifo,
        "random": lambda: sample(seed, count),
        "dfs": lambda: depth_first(shard.prefix.choices if shard else ()),
        "dpor": lambda: reduced(also, shard),
    }
    if name not in plain or bound is not None:
        msg = (
            f"no strategy {strategy!r}: there are auto, fifo, random, pct, dfs, dpor, and "
            "pct:N, delay:N and preemption:N with a bound"
        )
        raise refused(ValueError(msg))
    return plain[name]()
