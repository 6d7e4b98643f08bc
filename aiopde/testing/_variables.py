"""
Variables that several tasks see: of enclosing functions, of modules, and what a name stands for.

An attribute can be hooked, a variable cannot. So each line of the program is looked at when it
runs: which variables of enclosing functions and modules it reads and writes, and which lists,
dictionaries and the like it has at hand by any name. Python 3.12 has a cheap way to see lines
(:mod:`sys.monitoring`); in 3.11 we need the place of a debugger, and if that is taken, by coverage
for example, then what we saw is not everything, and the tracker notes so.
"""

from __future__ import annotations

import dis
import io
import sys
from contextlib import contextmanager
from enum import Enum
from types import FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._codes import once
from ._containers import CONTAINERS
from ._contents import UNHOOKED
from ._names import owner_of
from ._opaque import OPAQUE, PLAIN, is_fixed
from ._programs import PACKAGE, in_own_code, is_programs_file
from ._uses import uses_of_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType, FrameType

    from ._tracker import Tracker
    from ._uses import Use

_CLOSURE_LOADS: Final = ("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF")
_CLOSURE_STORES: Final = ("STORE_DEREF", "DELETE_DEREF")
_GLOBAL_LOADS: Final = ("LOAD_GLOBAL", "LOAD_NAME")
_GLOBAL_STORES: Final = ("STORE_GLOBAL", "DELETE_GLOBAL")
_OF_CONTAINERS: Final = frozenset(
    name for kind in (*CONTAINERS, *OPAQUE, io.BytesIO, io.StringIO) for name in dir(kind)
) | {"__next__"}
_OWNERS: Final = (FunctionType, ModuleType, type, Enum)
"""What has attributes that no hook sees."""

_ABSENT: Final = object()
_BIRTHS: Final = ("__init__", "__post_init__", "__new__")
"""Where nobody else has the object yet."""
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


class Line:
    """What a line of source does with variables."""

    __slots__ = (
        "asks_the_frame",
        "bare",
        "chains",
        "closure_loads",
        "closure_stores",
        "global_loads",
        "global_stores",
        "idle",
        "local_loads",
        "local_stores",
        "parts",
        "unseen",
        "uses",
    )

    def __init__(self) -> None:
        self.local_loads: set[str] = set()
        self.local_stores: set[str] = set()
        self.closure_loads: set[str] = set()
        self.closure_stores: set[str] = set()
        self.global_loads: set[str] = set()
        self.global_stores: set[str] = set()
        self.uses: dict[str, list[Use | None]] = {}
        """What each variable that is loaded is loaded for."""
        self.parts: dict[str, list[Use] | None] = {}
        """Of each of those, which parts of its value are asked for; None if it may be any."""
        self.chains: dict[str, list[Chain]] = {}
        """What of each variable that is loaded is loaded or stored."""
        self.bare: set[str] = set()
        """Which variables are loaded for something else."""
        self.idle: dict[str, object] = {}
        """What the module's variables stand for where, once looked at, there is nothing to see."""
        self.asks_the_frame = True
        """Whether it has to do with locals, which take a while to get at."""
        self.unseen: set[str] = set()
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


def look_on(tracker: Tracker, frame: FrameType) -> None:
    """Note what a line that waits is about to do when it goes on."""
    if is_programs_file(frame.f_code.co_filename):
        # To read code makes named tuples, by lines that would be looked at themselves.
        line = tracker.look_away(rest_of, frame.f_code, frame.f_lasti)
        if line is not None:
            look(tracker, frame, line)


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


def _is_unseen(frame: FrameType) -> bool:
    """Whether it matters here: not before an object is shared, nor in a dataclass' own code."""
    code = frame.f_code
    plain = code.co_name not in _BIRTHS and code.co_filename != "<string>"
    return plain and not in_own_code(frame)


def look(tracker: Tracker, frame: FrameType, line: Line) -> None:
    """Note what a line is about to do."""
    file = frame.f_code.co_filename
    local = frame.f_locals if line.asks_the_frame else {}
    if line.unseen and _is_unseen(frame):
        tracker.notes.update(f"{what}, which passes by what we see" for what in line.unseen)
    for name in line.local_loads:
        value = local.get(name)
        if _IDLE[type(value)]:
            continue
        if isinstance(value, _OWNERS):
            _look_into(tracker, frame, line, name, value)
        else:
            tracker.see_held(value, frame, line.parts.get(name))
    for name in line.closure_loads:
        _look_at(tracker, frame, line, name, local.get(name))
    for name in line.closure_stores:
        # The first value a function gives to a variable of its own is seen by nobody yet.
        if name in local or name in frame.f_code.co_freevars:
            tracker.touch_name(file, name, write=True)
            _replaces(tracker, name, local.get(name))
    if line.global_loads:
        _look_at_globals(tracker, frame, line)
    for name in line.global_stores:
        tracker.touch_name(file, name, write=True)
        _replaces(tracker, name, frame.f_globals.get(name))


class _Idle(dict[type, bool]):
    def __missing__(self, kind: type) -> bool:
        self[kind] = idle = PLAIN[kind] and not issubclass(kind, _OWNERS)
        return idle


_IDLE: Final = _Idle()
"""Of each class, whether nothing is to be looked at in a local variable that is of it."""


_LEARNT: Final[list[dict[str, object]]] = []
"""Of the lines of which something was learnt, what that is."""


def forget_values() -> None:
    """Forget what was met: a search is over, and it may go when the program does."""
    _IDLE.clear()
    for idle in _LEARNT:
        idle.clear()
    _LEARNT.clear()


def _look_at_globals(tracker: Tracker, frame: FrameType, line: Line) -> None:
    variables, idle = frame.f_globals, line.idle
    for name in line.global_loads:
        value = variables.get(name, _ABSENT)
        if value is _ABSENT or idle.get(name, _ABSENT) is value:
            continue
        _look_at(tracker, frame, line, name, value)
        if line.only_uses(name, value):
            if not idle:
                _LEARNT.append(idle)
            idle[name] = value


def _look_at(tracker: Tracker, frame: FrameType, line: Line, name: str, value: object) -> None:
    """Note that a line has at hand what a variable of a module or enclosing function holds."""
    if isinstance(value, _OWNERS):
        _look_into(tracker, frame, line, name, value)
        if value is SimpleNamespace:
            tracker.notes.add(UNHOOKED)
    if not is_fixed(name, value):
        file = frame.f_code.co_filename
        tracker.touch_name(file, name, write=False)
        if not PLAIN[type(value)]:
            tracker.see_held(value, frame, line.parts.get(name), (file, f"{name}[]"))


def _replaces(tracker: Tracker, name: str, before: object) -> None:
    """Note that something else is put where tasks look for what does not change."""
    if is_fixed(name, before):
        tracker.notes.add(f"{name}, a function, class or module, being replaced")


def _look_into(tracker: Tracker, frame: FrameType, line: Line, name: str, value: object) -> None:
    """Note what a line does with the attributes of a module, function or class."""
    for chain in line.chains.get(name, ()):
        _follow(tracker, frame, value, chain)
    if name in line.bare and isinstance(value, ModuleType):
        tracker.see_module(value)


def _follow(tracker: Tracker, frame: FrameType, value: Any, chain: Chain) -> None:
    last = len(chain.attributes) - 1
    for place, name in enumerate(chain.attributes):
        writes = chain.writes and place == last
        if isinstance(value, (type, Enum)):
            if writes:
                kind = value.__qualname__ if isinstance(value, type) else value
                of_class = f"{kind}.{name}, which belongs to the class"
                tracker.notes.add(f"{of_class}: give it to an object")
            value = vars(value).get(name)
            if isinstance(value, Enum):
                continue
            return
        if name not in vars(value) and "__getattr__" in vars(value) and not writes:
            return  # imported when it is asked for: it is the module that does that
        owner, value = owner_of(value), vars(value).get(name)
        if writes:
            tracker.touch_name(owner, name, write=True)
            _replaces(tracker, name, value)
        elif not is_fixed(name, value):
            tracker.touch_name(owner, name, write=False)
            if not PLAIN[type(value)]:
                tracker.see_held(value, frame, None, (owner, f"{name}[]"))
        if not isinstance(value, _OWNERS):
            return


if sys.version_info >= (3, 12):

    @contextmanager
    def variables(tracker: Tracker) -> Generator[None]:
        """Look at each line of the program, and tell the tracker."""
        monitoring = sys.monitoring
        tool = next((i for i in (4, 3, 2, 0, 1, 5) if monitoring.get_tool(i) is None), None)
        if tool is None:
            tracker.notes.add("variables are not watched, as sys.monitoring has no place left")
            yield
            return

        def see_line(code: CodeType, number: int, depth: int = 1) -> Any:
            line = lines_of(code).get(number)
            if line is None:
                return monitoring.DISABLE
            if tracker.accesses is not None:
                look(tracker, sys._getframe(depth), line)
            return None

        def see_start(code: CodeType, offset: int) -> Any:
            return see_line(code, code.co_firstlineno, 2)

        events = monitoring.events
        # From 3.13 on, no line begins where a function is written on the line of its ``def``.
        starts = events.PY_START if sys.version_info >= (3, 13) else 0
        monitoring.use_tool_id(tool, "aiopde.testing")
        tracker.look_on = look_on
        try:
            monitoring.register_callback(tool, events.LINE, see_line)
            monitoring.register_callback(tool, events.PY_START, see_start)
            monitoring.set_events(tool, events.LINE | starts)
            monitoring.restart_events()
            yield
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, events.LINE, None)
            monitoring.register_callback(tool, events.PY_START, None)
            monitoring.free_tool_id(tool)

else:  # pragma: no cover  coverage is measured on a newer Python; here it would take the place

    @contextmanager
    def variables(tracker: Tracker) -> Generator[None]:
        """Look at each line of the program, and tell the tracker."""
        if sys.gettrace() is not None:
            tracker.notes.add("variables are not watched, as something else traces (coverage?)")
            yield
            return

        def see_call(frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
            return see_line if lines_of(frame.f_code) else None

        def see_line(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
            if event == "line" and tracker.accesses is not None:
                line = lines_of(frame.f_code).get(frame.f_lineno)
                if line is not None:
                    look(tracker, frame, line)
            return see_line

        sys.settrace(see_call)
        tracker.look_on = look_on
        try:
            yield
        finally:
            sys.settrace(None)
