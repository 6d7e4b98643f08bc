"""Shrinking: the fewest context switches, by going through all that have fewer."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from aiopde.testing import _shrink
from aiopde.testing._execution import Execution
from aiopde.testing._lane import Lane
from aiopde.testing._result import Failure
from aiopde.testing._schedule import Schedule
from aiopde.testing._shrink import Shrinker

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopde.testing._execution import Choose, Search

    Fails = Callable[[tuple[str, ...]], bool]


def orders(steps: dict[str, int]) -> set[tuple[str, ...]]:
    """Every order of tasks that make so many steps each."""
    return set(permutations([name for name, number in steps.items() for _ in range(number)]))


def play(steps: dict[str, int], choose: Choose, fails: Fails) -> Execution:
    """Let tasks of so many steps be scheduled, as the explorer would."""
    execution = Execution()
    lanes = {name: Lane(name, index, None) for index, name in enumerate(steps)}
    left = dict(steps)
    last = None
    while any(left.values()):
        ready = [lanes[name] for name, number in left.items() if number]
        lane: Lane | None = ready[0]
        if len(ready) > 1:
            lane = choose(ready, last)
            if lane is None:
                execution.cut = True
                return execution
            execution.choices.append(lane)
        assert lane is not None
        execution.path.append(lane)
        left[lane.name] -= 1
        last = lane
    if fails(tuple(lane.name for lane in execution.path)):
        execution.failure = Failure("exception", "it fails", execution.schedule)
    return execution


def drive(steps: dict[str, int], search: Search, fails: Fails) -> str:
    plan = next(search)
    while True:
        try:
            plan = search.send(play(steps, plan.choose, fails))
        except StopIteration as stop:
            return str(stop.value)


def choices(order: tuple[str, ...]) -> Schedule:
    """Leave out the steps at the end at which only one task is left."""
    while len(set(order[-2:])) == 1 and len(order) > 1:
        order = order[:-1]
    return Schedule(order[:-1])


@given(
    order=st.permutations(["a", "a", "b", "b", "c", "c"]),
    bad=st.sets(st.integers(0, 89), min_size=1, max_size=30),
)
def test_no_failing_schedule_has_fewer_switches(order: list[str], bad: set[int]) -> None:
    """
    Whatever the set of failing orders, one with the fewest switches is found, and proven.
    """
    steps = {"a": 2, "b": 2, "c": 2}
    everything = sorted(orders(steps))
    failing = {everything[i] for i in bad} | {tuple(order)}
    shrinker = Shrinker(Failure("exception", "it fails", choices(tuple(order))))
    assert drive(steps, shrinker.search(), failing.__contains__) == "minimal"
    assert shrinker.proven
    assert shrinker.best.switches == min(choices(o).switches for o in failing)


def test_only_the_same_failure_counts() -> None:
    """
    A schedule with fewer switches that fails in another way is another bug.
    """
    found = Failure("deadlock", "they wait", Schedule(("a", "b", "a", "b")))
    shrinker = Shrinker(found)
    drive({"a": 3, "b": 3}, shrinker.search(), lambda _: True)
    assert shrinker.best == found.schedule
    assert shrinker.proven


@pytest.mark.parametrize(("most", "proven"), [(3, False), (1000, True)])
def test_says_no_more_than_it_has_seen(most: int, proven: bool) -> None:
    """
    Where the search was cut short, the schedule is not called minimal.
    """
    shrinker = Shrinker(Failure("exception", "", Schedule(("a", "b") * 3)), most)
    verdict = drive({"a": 4, "b": 4}, shrinker.search(), lambda _: False)
    assert shrinker.proven is proven
    assert verdict == ("minimal" if proven else "shrunk (3)")
    assert shrinker.tried <= most


def test_a_schedule_without_a_switch_needs_no_search() -> None:
    """
    What fails in the plainest order is minimal as it is.
    """
    shrinker = Shrinker(Failure("exception", "", Schedule(("a", "a"))))
    search = shrinker.search()
    with pytest.raises(StopIteration, match="minimal"):
        next(search)
    assert (shrinker.proven, shrinker.tried) == (True, 0)


def test_has_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where executions take long, the time is what ends it, and nothing is called proven.
    """
    monkeypatch.setattr(_shrink, "MOST_SECONDS", -1.0)
    shrinker = Shrinker(Failure("exception", "", Schedule(("a", "b") * 3)))
    with pytest.raises(StopIteration, match=r"shrunk \(0\)"):
        next(shrinker.search())
    assert not shrinker.proven
