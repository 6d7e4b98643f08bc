"""Variables that tasks share: what a line reads and writes, and what is in the way of seeing."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from aiopde.testing._lines import Line, lines_of
from aiopde.testing._tracker import Tracker
from aiopde.testing._variables import look, variables
from tests.testing._programs import with_anyio
from tests.testing.test_footprint import both, same_ends

total = 0
box: Any = None
needs_a_place = pytest.mark.skipif(
    sys.version_info < (3, 12) and sys.gettrace() is not None, reason="coverage has the place"
)


def here(function: Any) -> Line:
    """Return what the only line of a function does."""
    (line,) = lines_of(function.__code__).values()
    return line


# As text, since they are looked at and never run.
_FUNCTIONS = """
def outer():
    count = 0
    def read():
        return count
    def write():
        nonlocal count
        count = 1
    def read_global():
        return total
    def write_global():
        global total
        total = 1
    return read, write, read_global, write_global

def hold(thing):
    thing.append(1)

def ask(self):
    return self.nothing_a_container_has
"""


def test_what_a_line_does() -> None:
    """Reads and writes of variables of enclosing functions and of modules, and what is at hand."""
    names: dict[str, Any] = {}
    exec(_FUNCTIONS, names)
    read, write, read_global, write_global = names["outer"]()
    assert here(read).closure_loads == {"count"}
    assert here(write).closure_stores == {"count"}
    assert here(read_global).global_loads == {"total"}
    assert here(write_global).global_stores == {"total"}
    assert here(names["hold"]).local_loads == {"thing"}
    assert lines_of(names["ask"].__code__) == {}


@needs_a_place
def test_a_variable_of_the_module() -> None:
    """A lost update on it is found."""

    async def scenario() -> object:
        global total
        total = 0

        async def add() -> None:
            global total
            before = total
            await checkpoint()
            total = before + 1

        await both(add, add)
        return total

    assert same_ends(scenario).verdict == "exhaustive"


@needs_a_place
def test_a_variable_that_goes_away() -> None:
    """That it is deleted is a write."""

    async def scenario() -> object:
        here = 1
        found: object = None

        async def delete() -> None:
            nonlocal here
            await checkpoint()
            del here

        async def look() -> None:
            nonlocal found
            await checkpoint()
            try:
                found = here
            except NameError:
                found = "gone"

        await both(delete, look)
        return found

    same_ends(scenario)


@needs_a_place
def test_keys_and_places_of_variables() -> None:
    """What each task has a key or a place for, in a variable they share, has one order."""

    async def scenario() -> object:
        table: dict[str, int] = dict.fromkeys("ab", 0)
        slots = [0, 0]

        async def put(name: str, number: int) -> None:
            table[name] += number
            from_end = number - 2
            await checkpoint()
            slots[number] = table[name]
            slots[from_end] += 1

        await both(lambda: put("a", 0), lambda: put("b", 1))
        return tuple(table.values()), tuple(slots)

    assert explore(scenario, strategy="dpor").schedules == 1


@needs_a_place
def test_a_key_that_its_line_has_just_found() -> None:
    """It is not known yet when the line is looked at, so it may be any."""

    async def scenario() -> object:
        table: dict[str, int] = {}
        key = "b"
        found = 0

        async def put(name: str) -> None:
            await checkpoint()
            table[name] = 1

        async def get() -> None:
            nonlocal found
            key = "a"
            await checkpoint()
            found = len(key := "b") and key in table

        await both(lambda: put(key), get)
        return found

    same_ends(scenario)


@needs_a_place
def test_a_namespace() -> None:
    """Each attribute of a SimpleNamespace counts for itself; its repr() stays what it is."""

    async def scenario() -> object:
        shared = SimpleNamespace(a=0, b=0)

        async def add(name: str) -> None:
            await checkpoint()
            setattr(shared, name, getattr(shared, name) + 1)

        await both(lambda: add("a"), lambda: add("b"))
        return repr(shared)

    result = explore(scenario, strategy="dpor")
    assert str(result).startswith("exhaustive: 1 schedule")
    assert set(result.outcomes) == {"namespace(a=1, b=1)"}
    restored: Any = SimpleNamespace
    assert restored is type(sys.implementation)


@needs_a_place
def test_a_namespace_from_before() -> None:
    """One that was made before the search has no hooks; the verdict says so."""
    made = SimpleNamespace(count=0)
    make = SimpleNamespace

    async def looks() -> None:
        await checkpoint()
        made.count = 0

    async def makes() -> None:
        make(x=1)
        await checkpoint()

    for scenario in (looks, makes):
        result = explore(scenario, strategy="dpor")
        assert result.verdict == "bounded (not every access can be seen)"
        assert any("SimpleNamespace" in note for note in result.notes)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has no sys.monitoring")
def test_all_places_are_taken() -> None:
    """Where nobody can look at lines any more, the verdict is no proof, and says why."""
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009  mypy looks at it as 3.11
    free = [tool for tool in range(6) if monitoring.get_tool(tool) is None]
    for tool in free:
        monitoring.use_tool_id(tool, "somebody else")
    try:
        result = explore(with_anyio(2, 1), strategy="dpor")
    finally:
        for tool in free:
            monitoring.free_tool_id(tool)
    assert any("no place left" in note for note in result.notes)
    assert result.verdict != "exhaustive"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="3.12 needs no debugger's place")
def test_a_debugger_has_the_place() -> None:  # pragma: no cover  measured on a newer one
    """Where something else traces, the verdict is no proof, and says why."""

    def trace(frame: object, event: str, arg: object) -> None: ...

    tracker = Tracker()
    before = sys.gettrace()
    sys.settrace(before or trace)
    try:
        with variables(tracker):
            pass
    finally:
        sys.settrace(before)
    assert any("something else traces" in note for note in tracker.notes)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 has no sys.monitoring")
def test_what_is_called_at_each_line() -> None:
    """Lines of the program are looked at while a task moves; others never again."""
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009
    tracker = Tracker()
    with variables(tracker):
        (tool,) = (i for i in range(6) if monitoring.get_tool(i) == "aiopde.testing")
        see = monitoring.register_callback(tool, monitoring.events.LINE, None)
    code = sys._getframe().f_code
    (number,) = (n for n, line in lines_of(code).items() if "needs_a_place" in line.global_loads)
    assert see(code, number) is None
    assert tracker.names.labels == []
    tracker.accesses = {}
    assert see(code, number) is None
    assert tracker.names.labels == [(__file__, "needs_a_place")]
    repr(needs_a_place)
    assert see(pytest.fixture.__code__, 1) is monitoring.DISABLE


def test_a_look_at_a_line() -> None:
    """What a line is about to do becomes accesses, named by file and variable."""
    tracker = Tracker()
    tracker.accesses = {}
    count, shared = 0, [1]

    def deeper() -> object:
        nonlocal count
        frame = sys._getframe()
        line = Line()
        line.closure_loads = {"count", "deeper", "elsewhere"}
        line.closure_stores = {"count", "elsewhere"}
        line.global_loads = {"total", "Line", "no such"}
        line.global_stores = {"box"}
        line.local_loads = {"line"}
        look(tracker, frame, line)
        count = 1
        return shared, deeper

    deeper()
    seen = {
        (name, tracker.accesses[tracker.names.number((__file__, name))])
        for name in ("total", "box")
    }
    assert seen == {("total", 1), ("box", 2)}
    assert {name for _, name in tracker.names.labels} == {"count", "elsewhere", "total", "box"}
    assert tracker.accesses[tracker.names.number((__file__, "count"))] == 3


def test_nothing_is_left() -> None:
    """The place is free again."""
    before = sys.gettrace()
    with variables(Tracker()):
        pass
    assert sys.gettrace() is before
