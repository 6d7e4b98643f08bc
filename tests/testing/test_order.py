"""Happens-before: what orders two steps, which pairs race, and what makes two executions equal."""

from __future__ import annotations

from aiopde.testing._accesses import ADD, READ, WRITE, Event
from aiopde.testing._lane import Lane
from aiopde.testing._order import Order

A, B, C = (Lane(name, number, None) for number, name in enumerate("abc"))
X, Y = 1, 2


def execution(
    *steps: tuple[Lane, dict[int, int]], wakes: tuple[tuple[int, int], ...] = ()
) -> Order:
    """Make an execution of steps, each of which follows its task's last, or who woke that."""
    events: list[Event] = []
    for number, (lane, accesses) in enumerate(steps):
        after = [event for event in events if event.lane is lane][-1:]
        after += [events[cause] for cause, woken in wakes if woken == number]
        event = Event(lane, number, after)
        event.accesses = accesses
        events.append(event)
    return Order(events)


def test_what_races() -> None:
    """Two tasks, the same thing, one of them writing."""
    assert execution((A, {X: WRITE}), (B, {X: READ})).races == [(0, 1)]
    assert execution((A, {X: READ}), (B, {X: WRITE})).races == [(0, 1)]
    assert execution((A, {X: WRITE}), (A, {X: WRITE})).races == []
    assert execution((A, {X: READ}), (B, {X: READ})).races == []
    assert execution((A, {X: WRITE}), (B, {Y: WRITE})).races == []


def test_what_commutes_with_itself() -> None:
    """The ends of two tasks of one group do; with who looks at the group they race."""
    assert execution((A, {X: ADD}), (B, {X: ADD})).races == []
    assert execution((A, {X: ADD}), (B, {X: READ})).races == [(0, 1)]
    assert execution((A, {X: ADD | READ}), (B, {X: ADD | READ})).races == [(0, 1)]


def test_who_is_woken_does_not_race() -> None:
    """What made a step possible cannot come after it."""
    assert execution((A, {X: WRITE}), (B, {X: WRITE}), wakes=((0, 1),)).races == []


def test_only_the_last_one_races() -> None:
    """A step that is ordered by one in between could not come next."""
    order = execution((A, {X: WRITE}), (B, {X: WRITE}), (C, {X: WRITE}))
    assert order.races == [(0, 1), (1, 2)]


def test_what_does_not_need_a_step() -> None:
    """Of what comes after, all that neither it nor a follower of it orders."""
    order = execution((A, {X: WRITE}), (B, {X: WRITE}), (C, {Y: WRITE}), (B, {}))
    assert [event.number for event in order.without(0)] == [2]


def test_equivalence() -> None:
    """Steps that do not depend on each other may change places, others may not."""
    one = execution((A, {X: WRITE}), (B, {Y: WRITE}))
    other = execution((B, {Y: WRITE}), (A, {X: WRITE}))
    assert one.equivalence_class() == other.equivalence_class()
    one = execution((A, {X: WRITE}), (B, {X: WRITE}))
    other = execution((B, {X: WRITE}), (A, {X: WRITE}))
    assert one.equivalence_class() != other.equivalence_class()
