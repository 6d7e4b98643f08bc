"""
What a line does with a list, set or dictionary that it takes from an attribute.

``x in self.files`` asks for one element, ``self.files[name]`` for one key, ``while self.files:``
whether there is any. That can be told from the instructions around the one that loads the
attribute: what that leaves on the stack is used up by the next one or two, and nobody else gets
hold of it. Whatever looks otherwise is taken for a use of the whole. So is ``del``: to delete a key
and to put it back changes the order of all, even where it seems to change nothing.
"""

from __future__ import annotations

import dis
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from types import CodeType, FrameType

TRUTH: Final = ("truth",)
"""Stands for whether there is any element."""


class Use(NamedTuple):
    """What one instruction loads an attribute for."""

    field: str
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


@cache
def _uses(code: CodeType) -> dict[int, Use]:
    found: dict[int, Use] = {}
    instructions = list(dis.get_instructions(code))
    for number, load in enumerate(instructions[:-1]):
        if load.opname != "LOAD_ATTR":
            continue
        use = _use(instructions, number)
        if use is not None:
            # In some versions the frame stands at the caches that follow the instruction.
            for offset in range(load.offset, instructions[number + 1].offset, 2):
                found[offset] = use
    return found


def _use(instructions: list[dis.Instruction], number: int) -> Use | None:
    field = str(instructions[number].argval)
    after = instructions[number + 1]
    if after.opname in ("TO_BOOL", "UNARY_NOT", *_JUMPS):
        return Use(field, "truth")
    if after.opname == "CONTAINS_OP":
        return _element(instructions, number, field)
    if number + 2 < len(instructions) and instructions[number + 2].opname in _SUBSCRIPTS:
        return _operand(after, field, "[]")
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
_LOADS: Final = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW")


def _element(instructions: list[dis.Instruction], number: int, field: str) -> Use | None:
    """Tell what was loaded before the object whose attribute this is: nobody may jump between."""
    owner = instructions[number - 1]
    if number < 2 or instructions[number].is_jump_target or owner.is_jump_target:
        return None
    if owner.opname == "LOAD_FAST_LOAD_FAST":
        return Use(field, "in", owner.argval[0])
    if owner.opname in _LOADS:
        return _operand(instructions[number - 2], field, "in")
    return None


def _operand(load: dis.Instruction, field: str, of: str) -> Use | None:
    if load.opname in _LOADS:
        return Use(field, of, load.argval)
    if load.opname == "LOAD_CONST":
        return Use(field, of, None, load.argval)
    return None
