"""A schedule as text: short, readable, and the same when read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from aiopde.testing import Schedule
from aiopde.testing._schedule import safe_name

names = st.text(min_size=1, max_size=8).map(safe_name)
choices = st.lists(st.tuples(st.booleans(), names).map(lambda x: "!" * x[0] + x[1]))


@given(choices)
def test_text_and_back(chosen: list[str]) -> None:
    """Whatever the tasks are called, the text means the same schedule."""
    schedule = Schedule(tuple(chosen))
    assert Schedule.parse(str(schedule)) == schedule


def test_how_it_reads() -> None:
    """Who moves several times in a row is written once; a cancellation has its mark."""
    schedule = Schedule(("reader", "reader", "remover", "!reader"))
    assert str(schedule) == "reader*2.remover.!reader"
    assert schedule.switches == 2


@pytest.mark.parametrize("text", ["", "-", "  "])
def test_where_nothing_was_to_be_chosen(text: str) -> None:
    """No choice is a schedule, too, and its text is no empty argument."""
    assert Schedule.parse(text) == Schedule()
    assert str(Schedule()) == "-"


@pytest.mark.parametrize("text", ["a..b", "a*0", "a*", "a b", "!", "a*-1"])
def test_what_is_none(text: str) -> None:
    """The error shows the text, the place and how one looks."""
    with pytest.raises(ValueError, match=r"not a schedule: .* one looks like reader\*2\.remover"):
        Schedule.parse(text)


def test_a_task_called_as_no_choice_is() -> None:
    """It is told from that."""
    assert Schedule.parse(str(Schedule(("-",)))) == Schedule(("-",))


def test_what_is_no_text_or_names() -> None:
    """The one is taken for the other: the error says which is which."""
    wrong: Any = "a.b"
    with pytest.raises(TypeError, match=r"names of tasks: Schedule\.parse\('a\.b'\) reads text"):
        Schedule(wrong)
    wrong = ("a", "b")
    with pytest.raises(TypeError, match=r"wants a string, .* not \('a', 'b'\)"):
        Schedule.parse(wrong)


def test_names_are_made_fit() -> None:
    """What a schedule's text needs for itself cannot be in a name."""
    assert safe_name("removal of /proc/x.y*2!") == "removal_of_/proc/x_y_2"
    assert safe_name("...") == "task"
