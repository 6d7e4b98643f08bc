"""A recorded execution as lanes and rows: who was where, and which steps matter."""

from __future__ import annotations

import pytest

from aiopde.testing import Failure, Schedule, Step, Touch
from aiopde.testing._timeline import ABSENT, READY, RUNS, WAITS, timeline

from ._failures import DEADLOCK

ROWS = timeline(DEADLOCK, "title").rows


def test_there_is_a_lane_for_each_task_and_none_for_a_canceller() -> None:
    """
    Lanes are in the order in which one hears of the tasks; a cancellation is in its victim's.
    """
    picture = timeline(DEADLOCK, "title")
    assert picture.lanes == ("main", "reader", "remover")
    assert (picture.title, picture.failure) == ("title", "deadlock: nobody can move: main waits")
    assert [(row.lane, row.cancels) for row in ROWS] == [
        (0, False),
        (1, False),
        (2, False),
        (2, True),
        (2, False),
        (1, False),
    ]


def test_each_lane_says_what_its_task_does() -> None:
    """
    A task is absent until it is started and after its end; else it runs, is ready, or waits.
    """
    assert [row.states for row in ROWS] == [
        (RUNS, ABSENT, ABSENT),
        (WAITS, RUNS, READY),
        (WAITS, READY, RUNS),
        (WAITS, READY, RUNS),
        (WAITS, READY, RUNS),
        (READY, RUNS, ABSENT),
    ]


def test_a_switch_that_was_a_choice_is_told_from_one_that_was_not() -> None:
    """
    The task before could have gone on, or it could not.
    """
    assert [(row.switch, row.preempts) for row in ROWS] == [
        (False, False),
        (True, False),
        (True, True),
        (True, True),
        (True, False),
        (True, False),
    ]


def test_places() -> None:
    """
    A row shows where the task stands after the step, with the line's text.
    """
    assert [row.where for row in ROWS] == [
        "_failures.py:12 in guard",
        "_failures.py:12 in guard",
        "_failures.py:13 in guard",
        "is cancelled",
        "_failures.py:13 in guard, to its end",
        "_failures.py:13 in guard",
    ]
    assert ROWS[0].source == "in_use = len(names)  # line 12"
    assert ROWS[3].source == ""
    rootless = Failure("livelock", "", Schedule(), steps=(Step("a", (), None, None),))
    assert timeline(rootless, "").rows[0].where == "to its end"


def test_accesses_that_conflict_are_noted() -> None:
    """
    What another task has touched before, one of them writing, is said with the step it was in.
    """
    assert [row.notes for row in ROWS] == [
        (),
        (),
        ("writes count.in_use, read by reader in step 2",),
        (),
        ("raises ValueError('x')",),
        ("writes count.in_use, written by remover in step 3",),
    ]


@pytest.mark.parametrize("writes", [False, True])
def test_two_reads_do_not_conflict(writes: bool) -> None:
    """
    Nor do two accesses of one task; of many conflicts only some are told.
    """
    touches = tuple(Touch(f"field {i}", writes) for i in range(5))
    steps = tuple(Step(name, (), None, None, touched=touches) for name in ("a", "a", "b"))
    rows = timeline(Failure("invariant", "", Schedule(), steps=steps), "").rows
    assert [len(row.notes) for row in rows] == [0, 0, 4 if writes else 0]
    assert rows[2].notes[3:] == (("and 2 more conflicts",) if writes else ())


def test_without_steps_there_is_nothing_to_draw() -> None:
    """
    A failure that was not looked at in detail has an empty picture.
    """
    picture = timeline(Failure("livelock", "", Schedule()), "")
    assert (picture.lanes, picture.rows) == ((), ())


def test_what_came_before_a_task_was_started_is_no_conflict() -> None:
    """
    The order of those two could not have been another.
    """
    touched = (Touch("field", True),)
    steps = (
        Step("main", (), None, None, ("a",), touched),
        Step("a", (), None, None, ("b",), touched),
        Step("b", (), None, None, (), touched),
    )
    rows = timeline(Failure("invariant", "", Schedule(), steps=steps), "").rows
    assert [row.notes for row in rows] == [(), (), ()]
