"""
What a line of source does with variables, read out of its code: once, whenever it runs.

Which variables of enclosing functions and modules it reads and writes, what of their values it asks
for, and which names it takes from its own function.
"""

from __future__ import annotations

import dis
import io
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from ._codes import once
from ._containers import CONTAINERS
from ._opaque import OPAQUE, is_fixed
from ._programs import PACKAGE, is_programs_file
from ._uses import uses_of_variables

if TYPE_CHECKING:
    from types import CodeType

    from ._uses import Use

_CLOSURE_LOADS: Final = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_CLOSURE_STORES: Final = ("STORE_DEREF", "DELETE_DEREF")
_GLOBAL_LOADS: Final = ("LOAD_GLOBAL", "LOAD_NAME")
_GLOBAL_STORES: Final = ("STORE_GLOBAL", "DELETE_GLOBAL")
_OF_CONTAINERS: Final = frozenset(
    name for kind in (*CONTAINERS, *OPAQUE, io.BytesIO, io.StringIO) for name in dir(kind)
) | {"__next__"}
_BACK_DOORS: Final = {
    "globals": "globals()",
    "vars": "vars()",
    "__dict__": "__dict__",
    "__setattr__": "object.__setattr__()",
    "__getattribute__": "object.__getattribute__()",
    "__delattr__": "object.__delattr__()",
}


class Chain(NamedTuple):
    """What follows where a variable is loaded: ``.x`` or ``.x.y``."""

    attributes: tuple[str, ...]
    writes: bool
    """Whether the last of them is written, too."""


@final
@dataclass(slots=True, eq=False)
class Line:
    """What a line of source does with variables."""

    local_loads: set[str] = field(default_factory=set[str])
    local_stores: set[str] = field(default_factory=set[str])
    closure_loads: set[str] = field(default_factory=set[str])
    closure_stores: set[str] = field(default_factory=set[str])
    global_loads: set[str] = field(default_factory=set[str])
    global_stores: set[str] = field(default_factory=set[str])
    uses: dict[str, list[Use | None]] = field(default_factory=dict[str, Any])
    """What each variable that is loaded is loaded for."""
    parts: dict[str, list[Use] | None] = field(default_factory=dict[str, Any])
    """Of each of those, which parts of its value are asked for; None if it may be any."""
    chains: dict[str, list[Chain]] = field(default_factory=dict[str, Any])
    """What of each variable that is loaded is loaded or stored."""
    bare: set[str] = field(default_factory=set[str])
    """Which variables are loaded for something else."""
    idle: dict[str, object] = field(default_factory=dict[str, Any])
    """What the module's variables stand for where, once looked at, there is nothing to see."""
    asks_the_frame: bool = True
    """Whether it has to do with locals, which take a while to get at."""
    unseen: set[str] = field(default_factory=set[str])
    """Ways to get at variables and attributes that pass by us."""

    def add(self, instructions: list[dis.Instruction], number: int) -> None:
        """Note what one instruction does."""
        operation, name = instructions[number].opname, instructions[number].argval
        if isinstance(name, str) and name in _BACK_DOORS and _is_back_door(instructions, number):
            self.unseen.add(_BACK_DOORS[name])
        if operation in _CLOSURE_STORES:
            self.closure_stores.add(name)
        elif operation in _GLOBAL_STORES:
            self.global_stores.add(name)
        elif operation.startswith(("STORE_FAST", "DELETE_FAST")):
            self.local_stores.update((name,) if isinstance(name, str) else name)
        elif (loads := self._loads(operation)) is not None:
            for variable, use in uses_of_variables(instructions, number).items():
                loads.add(variable)
                self.uses.setdefault(variable, []).append(use)
            self._add_chain(instructions, number)

    def _add_chain(self, instructions: list[dis.Instruction], number: int) -> None:
        name = instructions[number].argval
        *others, last = (name,) if isinstance(name, str) else name  # 3.13 loads two at once
        self.bare.update(others)
        chain = _chain(instructions, number + 1)
        if chain.attributes:
            self.chains.setdefault(last, []).append(chain)
        else:
            self.bare.add(last)

    def _loads(self, operation: str) -> set[str] | None:
        if operation in _CLOSURE_LOADS:
            return self.closure_loads
        if operation in _GLOBAL_LOADS:
            return self.global_loads
        return self.local_loads if operation.startswith("LOAD_FAST") else None

    def only_uses(self, name: str, value: object) -> bool:
        """Whether a variable is a function or class by that name, of which nothing is asked."""
        fixed = is_fixed(name, value) and value is not SimpleNamespace
        return fixed and name not in self.chains and not isinstance(value, ModuleType)

    @property
    def matters(self) -> bool:
        """Whether there is anything to be looked at."""
        loads = self.local_loads or self.closure_loads or self.global_loads
        return bool(loads or self.unseen or self.closure_stores or self.global_stores)

    def close(self) -> None:
        """All instructions are there: say which parts they ask for, and of whom."""
        self.asks_the_frame = bool(self.local_loads or self.closure_loads or self.closure_stores)
        for variable, uses in self.uses.items():
            # The line is looked at before it runs: what it stores first is not known yet.
            known = [use for use in uses if use is not None and use.local not in self.local_stores]
            self.parts[variable] = known if len(known) == len(uses) else None


def _chain(instructions: list[dis.Instruction], number: int) -> Chain:
    attributes: list[str] = []
    copied = False
    while True:
        instruction = instructions[number]
        number += 1
        if instruction.opname in ("STORE_ATTR", "DELETE_ATTR"):
            return Chain((*attributes, instruction.argval), writes=True)
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.append(instruction.argval)
            if copied:  # as in ``mod.x += 1``
                return Chain(tuple(attributes), writes=True)
        elif instruction.opname == "COPY":
            copied = True
        else:
            return Chain(tuple(attributes), writes=False)


def _is_back_door(instructions: list[dis.Instruction], number: int) -> bool:
    load = instructions[number]
    if load.opname in _GLOBAL_LOADS:
        return load.argval in ("globals", "vars")
    if load.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
        return False
    return bool(load.argval == "__dict__" or instructions[number - 1].argval == "object")


@once
def lines_of(code: CodeType) -> dict[int, Line]:
    """Return what the lines of a function of the program do with variables."""
    if not is_programs_file(code.co_filename):
        return {}
    lines: dict[int, Line] = {}
    instructions = list(dis.get_instructions(code))
    for number, line in enumerate(_lines(code, instructions)):
        if not _only_asks(code, instructions, number):
            lines.setdefault(line, Line()).add(instructions, number)
    for found in lines.values():
        found.close()
    return {number: found for number, found in lines.items() if found.matters}


def _lines(code: CodeType, instructions: list[dis.Instruction]) -> list[int]:
    """Return the line of each instruction; one that has none is of that before."""
    lines = [code.co_firstlineno]
    for instruction in instructions:
        at = None if instruction.positions is None else instruction.positions.lineno
        lines.append(lines[-1] if at is None else at)
    return lines[1:]


@once
def _rests_of(code: CodeType) -> dict[int, Line | None]:
    """Return what is left of the lines of a function that wait, as far as it was asked for."""
    return {}


def rest_of(code: CodeType, last: int) -> Line | None:
    """
    Return what is left of a line that waits; None if that is nothing to be looked at.

    A line that goes on after an await is not seen again: only that another one begins is.
    """
    rests = _rests_of(code)
    if last not in rests:
        rests[last] = _rest_of(code, last)
    return rests[last]


def _rest_of(code: CodeType, last: int) -> Line | None:
    instructions = list(dis.get_instructions(code))
    here = _line_at(code, last)
    lines = enumerate(_lines(code, instructions))
    numbers = [number for number, line in lines if line == here]
    left = [number for number in numbers if instructions[number].offset > last]
    if any(instructions[number].opname in ("JUMP_BACKWARD", "STORE_ATTR") for number in left):
        left = numbers  # a loop in one line, or ``mod.x += await ...``: what mod is stands before
    rest = Line()
    for number in left:
        if not _only_asks(code, instructions, number):
            rest.add(instructions, number)
    rest.close()
    return rest if rest.matters else None


def _line_at(code: CodeType, offset: int) -> int | None:
    lines = (line for start, end, line in code.co_lines() if start <= offset < end)
    return next(lines, None)


def _only_asks(code: CodeType, instructions: list[dis.Instruction], number: int) -> bool:
    """
    Whether a local is only asked if it is None, or for an attribute that no list or the like has.

    A hook sees that attribute where it is ``self``, and in aiopde; else it may be a module's.
    """
    load = instructions[number]
    if not load.opname.startswith("LOAD_FAST") or not isinstance(load.argval, str):
        return False
    after = instructions[number + 1]
    if after.opname.startswith("POP_JUMP"):
        return after.opname.endswith("NONE")
    if load.argval != "self" and not code.co_filename.startswith(PACKAGE):
        return False
    asks = after.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR")
    return asks and after.argval not in _OF_CONTAINERS
