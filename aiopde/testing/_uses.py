"""
What a line does with a list, set or dictionary that it takes from an attribute or a variable.

``x in self.files`` asks for one element, ``results[name]`` for one key, ``while self.files:``
whether there is any. That can be told from the instructions around the one that loads it:
what that leaves on the stack is used up by the next one or two, and nobody else gets hold of it.
Whatever looks otherwise is taken for a use of the whole. So is ``del``: to delete a key
and to put it back changes the order of all, even where it seems to change nothing.
"""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._codes import once

if TYPE_CHECKING:
    from types import CodeType, FrameType

TRUTH: Final = ("truth",)
"""Stands for whether there is any element."""


class Use(NamedTuple):
    """What one instruction loads an attribute or a variable for."""

    field: str
    """Its name."""
    of: str
    """``truth``, ``in`` (an element) or ``[]`` (a key)."""
    local: str | None = None
    """The variable that has the element or key."""
    constant: Any = None
    """The element or key, where it is no variable."""


def use_at(frame: FrameType, field: str) -> Use | None:
    """Return what a frame, which is loading an attribute, does with its value; None: anything."""
    use = _uses(frame.f_code).get(frame.f_lasti)
    return use if use is not None and use.field == field else None


@once
def _uses(code: CodeType) -> dict[int, Use]:
    found: dict[int, Use] = {}
    instructions = list(dis.get_instructions(code))
    for number, load in enumerate(instructions[:-1]):
        if load.opname != "LOAD_ATTR":
            continue
        use = _use(instructions, number, number - 1, str(load.argval))
        if use is not None:
            # In some versions the frame stands at the caches that follow the instruction.
            for offset in range(load.offset, instructions[number + 1].offset, 2):
                found[offset] = use
    return found


def uses_of_variables(instructions: list[dis.Instruction], number: int) -> dict[str, Use | None]:
    """Return what the variables that one instruction loads are loaded for; None: anything."""
    load = instructions[number]
    if isinstance(load.argval, str):
        return {load.argval: _use(instructions, number, number, load.argval)}
    first, second = load.argval  # Python 3.13 loads two at once
    after = "" if number + 1 == len(instructions) else instructions[number + 1].opname
    if first != second and after == "CONTAINS_OP":
        return {first: None, second: Use(second, "in", first)}
    if first != second and after in _SUBSCRIPTS:
        return {first: Use(first, "[]", second), second: None}
    return {first: None, second: None}


def _use(instructions: list[dis.Instruction], number: int, first: int, name: str) -> Use | None:
    """Tell what something is for that is on the stack after some instructions, *first* to here."""
    after = instructions[number + 1 : number + 5]
    if not after:
        return None
    if after[0].opname in ("TO_BOOL", "UNARY_NOT", *_JUMPS):
        return Use(name, "truth")
    if after[0].opname == "CONTAINS_OP":
        return _element(instructions, number, first, name)
    after_key = [instruction.opname for instruction in after[1:]]
    if after_key and (after_key[0] in _SUBSCRIPTS or after_key == _UPDATE):
        return _operand(after[0], name, "[]")
    return None


_JUMPS: Final = (
    "POP_JUMP_IF_FALSE",
    "POP_JUMP_IF_TRUE",
    "POP_JUMP_FORWARD_IF_FALSE",
    "POP_JUMP_FORWARD_IF_TRUE",
    "POP_JUMP_BACKWARD_IF_FALSE",
    "POP_JUMP_BACKWARD_IF_TRUE",
)
_SUBSCRIPTS: Final = ("BINARY_SUBSCR", "STORE_SUBSCR")
_UPDATE: Final = ["COPY", "COPY", "BINARY_SUBSCR"]
"""As in ``count[name] += 1``, which keeps both on the stack for the same key."""
_LOADS: Final = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")


def _element(instructions: list[dis.Instruction], number: int, first: int, name: str) -> Use | None:
    """Tell what was loaded before that: nobody may jump between."""
    if first < 1 or any(part.is_jump_target for part in instructions[first : number + 1]):
        return None
    if first < number and instructions[first].opname == "LOAD_FAST_LOAD_FAST":
        return Use(name, "in", instructions[first].argval[0])
    if first == number or instructions[first].opname in _LOADS:
        return _operand(instructions[first - 1], name, "in")
    return None


def _operand(load: dis.Instruction, field: str, of: str) -> Use | None:
    if load.opname in _LOADS:
        return Use(field, of, load.argval)
    if load.opname == "LOAD_CONST":
        return Use(field, of, None, load.argval)
    return None
