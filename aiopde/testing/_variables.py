"""
Variables that several tasks see: of enclosing functions, of modules, and what a name stands for.

An attribute can be hooked, a variable cannot. So each line of the program is looked at when it
runs: which variables of enclosing functions and modules it reads and writes, and which lists,
dictionaries and the like it has at hand by any name. Python 3.12 has a cheap way to see lines
(:mod:`sys.monitoring`); in 3.11 we need the place of a debugger, and if that is taken, by coverage
for example, then what we saw is not everything, and the tracker notes so.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from enum import Enum
from types import FunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from ._contents import UNHOOKED
from ._lines import lines_of, rest_of
from ._names import owner_of
from ._opaque import PLAIN, is_fixed
from ._programs import in_own_code, is_programs_file

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType, FrameType

    from ._lines import Chain, Line
    from ._tracker import Tracker

_OWNERS: Final = (FunctionType, ModuleType, type, Enum)
"""What has attributes that no hook sees."""

_ABSENT: Final = object()
_BIRTHS: Final = ("__init__", "__post_init__", "__new__")
"""Where nobody else has the object yet."""


def look_on(tracker: Tracker, frame: FrameType) -> None:
    """Note what a line that waits is about to do when it goes on."""
    if is_programs_file(frame.f_code.co_filename):
        # To read code makes named tuples, by lines that would be looked at themselves.
        line = tracker.look_away(rest_of, frame.f_code, frame.f_lasti)
        if line is not None:
            look(tracker, frame, line)


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
