"""What a list, set or dictionary is loaded for, as told from the instructions around the load."""

from __future__ import annotations

import dis
import sys
from typing import Any, NamedTuple

import pytest

from aiopde.testing._uses import Use, _uses, uses_of_variables


class Instruction(NamedTuple):
    """What is looked at of an instruction; those of newer Pythons, too."""

    opname: str
    argval: Any = None
    is_jump_target: bool = False


def uses(*instructions: Instruction, at: int = 0) -> dict[str, Use | None]:
    """Look at one of them."""
    listed: Any = list(instructions)
    return uses_of_variables(listed, at)


def seen(function: Any, name: str) -> list[Use | None]:
    """Return what a function does with a variable, by the instructions of this Python."""
    code = list(dis.get_instructions(function))
    loads = [n for n, load in enumerate(code) if load.opname.startswith("LOAD_DEREF")]
    return [
        use for n in loads for found, use in uses_of_variables(code, n).items() if found == name
    ]


@pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="its subscripts look otherwise: each is taken for a use of the whole",
)
def test_uses_in_this_python() -> None:
    """A key, an element, whether there is any; and what may be anything."""
    table = {"b": 1}

    def use(key: str) -> object:
        if key in table and table:
            return not table
        table[key] = table["b"]
        table[key] += 1
        return table

    assert use("a") == {"a": 2, "b": 1}
    assert use("a") is False
    b, key = Use("table", "[]", None, "b"), Use("table", "[]", "key")
    element, truth = Use("table", "in", "key"), Use("table", "truth")
    assert seen(use, "table") == [element, truth, truth, b, key, key, None]


def test_two_variables_loaded_at_once() -> None:
    """As Python 3.13 does: one is the container, the other the element or key."""
    both = Instruction("LOAD_FAST_LOAD_FAST", ("a", "b"))
    element = {"a": None, "b": Use("b", "in", "a")}
    key = {"a": Use("a", "[]", "b"), "b": None}
    assert uses(both, Instruction("CONTAINS_OP")) == element
    assert uses(both, Instruction("BINARY_SUBSCR")) == key
    assert uses(both, Instruction("CALL")) == {"a": None, "b": None}
    assert uses(both) == {"a": None, "b": None}
    assert uses(both._replace(argval=("a", "a")), Instruction("CONTAINS_OP")) == {"a": None}


def test_what_cannot_be_told() -> None:
    """At the ends of a function, and where somebody jumps between."""
    load, after = Instruction("LOAD_FAST", "a"), Instruction("CONTAINS_OP")
    assert uses(load) == {"a": None}
    assert uses(load, after) == {"a": None}
    element = Instruction("LOAD_FAST", "x")
    assert uses(element, load, after, at=1) == {"a": Use("a", "in", "x")}
    assert uses(element, load._replace(is_jump_target=True), after, at=1) == {"a": None}
    assert uses(load, Instruction("CALL"), Instruction("BINARY_SUBSCR")) == {"a": None}


def test_an_element_that_a_call_returns() -> None:
    """What is loaded before the call may be anything."""
    assert _uses(compile("x in f().names", "<test>", "eval")) == {}
    assert [use.field for use in _uses(compile("not f().names", "<test>", "eval")).values()]
