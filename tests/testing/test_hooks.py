"""Hooks on classes: in place during a search, on the program's own, and gone without a trace."""

from __future__ import annotations

import asyncio
import builtins
import enum
import gc
import sys
from collections import OrderedDict
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import ref

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aiopde import _entry
from aiopde.testing import _run, explore
from aiopde.testing._hooks import hooks
from aiopde.testing._programs import is_programs, is_programs_file
from aiopde.testing._tracker import Tracker
from tests.testing._programs import BACKENDS, with_anyio


class Plain:
    kind = "plain"

    def __init__(self) -> None:
        self.x = 1

    @property
    def double(self) -> int:
        return self.x * 2

    def method(self) -> int:
        return self.x


class Slotted:
    __slots__ = ("x",)

    def __init__(self) -> None:
        self.x = 1


class OnlyNew:
    """Called with arguments that object.__init__ does not take."""

    x: int

    def __new__(cls, x: int) -> OnlyNew:
        self = super().__new__(cls)
        self.x = x
        return self


class Colour(enum.Enum):
    RED = 1


def accesses(tracker: Tracker, call: Any) -> set[tuple[str, int]]:
    """Return the names of the attributes that a call touches, and how."""
    tracker.accesses = {}
    call()
    seen, tracker.accesses = tracker.accesses, None
    return {(tracker.names.labels[key][1], kinds) for key, kinds in seen.items()}


@pytest.mark.parametrize("kind", [Plain, Slotted])
def test_reads_writes_and_deletions(kind: Any) -> None:
    """Of attributes in a dictionary as of those in slots."""
    tracker = Tracker()
    thing = kind()
    with hooks(tracker):
        assert accesses(tracker, lambda: thing.x) == {("x", 1)}
        assert accesses(tracker, lambda: setattr(thing, "x", 2)) == {("x", 2)}
        assert accesses(tracker, lambda: delattr(thing, "x")) == {("x", 2)}
        assert accesses(tracker, lambda: hasattr(thing, "x")) == {("x", 1)}
    assert not hasattr(thing, "x")


def test_what_is_no_state() -> None:
    """A method or property is code: what counts is what it touches."""
    tracker = Tracker()
    thing = Plain()
    with hooks(tracker):
        assert accesses(tracker, lambda: thing.method()) == {("x", 1)}
        assert accesses(tracker, lambda: thing.double) == {("x", 1)}
        assert accesses(tracker, lambda: thing.kind) == {("kind", 1)}
        assert accesses(tracker, lambda: thing.__class__) == set()
        assert accesses(tracker, lambda: Colour.RED.value) == set()


def test_nothing_counts_between_steps() -> None:
    """While no task moves, the hooks do what the class does, and note nothing."""
    tracker = Tracker()
    with hooks(tracker):
        for thing in (Plain(), Slotted()):
            thing.x = 5
            assert thing.x == 5
            del thing.x
        assert OnlyNew(3).x == 3
        assert type(getattr(Slotted, "x")).__name__ == "Slot"  # noqa: B009
    assert tracker.names.labels == []


def test_a_library_s_class_in_part() -> None:
    """Of an event counts whether it is set; what else it has, or is given, does not."""
    tracker = Tracker()
    event: Any = asyncio.Event()
    with hooks(tracker):
        assert accesses(tracker, event.set) == {("_value", 3)}
        assert accesses(tracker, lambda: setattr(event, "note", 1)) == set()
        assert accesses(tracker, lambda: delattr(event, "note")) == set()


def test_a_library_s_class_on_request() -> None:
    """track= takes classes that are not the program's."""
    tracker = Tracker()
    kind: Any = type("Mine", (OrderedDict,), {"__module__": "json"})
    thing = kind()
    assert not is_programs("json")
    with hooks(tracker):
        assert accesses(tracker, lambda: setattr(thing, "x", 2)) == set()
    with hooks(tracker, [kind]):
        assert accesses(tracker, lambda: setattr(thing, "x", 2)) == {("x", 2)}


@pytest.mark.parametrize("backend", BACKENDS)
def test_they_are_gone(backend: str) -> None:
    """After a search, every class has exactly what it had before."""
    classes: list[Any] = [Plain, Slotted, OnlyNew, anyio.Event, asyncio.Lock, asyncio.TaskGroup]
    before: list[dict[str, Any]] = [dict(cls.__dict__) for cls in classes]
    explore(with_anyio(2, 1), backend=backend, strategy="dpor")
    assert [dict(cls.__dict__) for cls in classes] == before


class Sealed(type):
    """A metaclass that lets nobody change its classes."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise TypeError


def test_a_class_that_cannot_be_hooked() -> None:
    """A class of the program's that refuses is left as it is, and the notes tell."""
    sealed = Sealed("Vault", (), {"__module__": __name__})
    tracker = Tracker()
    with hooks(tracker):
        assert "__getattribute__" not in vars(sealed)
    assert tracker.notes == {"Vault, which does not let itself be hooked"}
    del sealed
    gc.collect()  # or every later search meets it, too


class Settled(SimpleNamespace):
    """A class of the program's whose __init__ is one of C."""


def test_objects_made_by_an_init_of_c_have_names() -> None:
    """Where it was made names an object, also where its class has no __init__ of its own."""

    async def scenario() -> object:
        shared = Settled(count=0)

        async def add() -> None:
            before = shared.count
            await checkpoint()
            shared.count = before + 1

        async with anyio.create_task_group() as tg:
            for name in "abc":
                tg.start_soon(add, name=name)
        return shared.count

    assert set(explore(scenario, strategy="dpor").outcomes) == {1, 2, 3}


def test_they_are_gone_after_an_error() -> None:
    """Also if a class cannot be hooked."""
    before = dict(vars(Plain))
    with pytest.raises(TypeError, match="immutable type"):
        hooks(Tracker(), [int]).__enter__()
    assert dict(vars(Plain)) == before


def test_whose_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's: what is no library's, what was typed in, and aiopde itself but for this."""
    assert is_programs(__name__)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    assert is_programs("__main__")
    assert is_programs("aiopde._entry")
    assert not is_programs("aiopde.testing._run")
    assert not is_programs("asyncio")
    assert not is_programs("no such module")
    assert is_programs_file(__file__)
    assert is_programs_file(_entry.__file__)
    assert not is_programs_file(_run.__file__)
    assert is_programs_file("<string>")
    assert is_programs_file("<stdin-1>")
    assert not is_programs_file(asyncio.__file__)
    assert not is_programs_file("<frozen importlib>")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_class_that_comes_too_late_is_told(backend: str) -> None:
    """What the scenario makes itself is not watched, so its space is not said to be exhausted."""

    async def scenario(_: object) -> int:
        class Counter:
            count = 0

        counter = Counter()

        async def add() -> None:
            count = counter.count
            await checkpoint()
            counter.count = count + 1

        async with anyio.create_task_group() as tg:
            tg.start_soon(add, name="a")
            tg.start_soon(add, name="b")
        return counter.count

    build = builtins.__build_class__
    result = explore(scenario, backend=backend, strategy="dpor")
    assert result.verdict == "bounded (not every access can be seen)"
    assert any("Counter, made (or imported) by the scenario" in note for note in result.notes)
    assert builtins.__build_class__ is build


@pytest.mark.parametrize("strategy", ["dpor", "auto"])
def test_nothing_of_the_program_is_kept(strategy: str) -> None:
    """A class, a module's function and its code go when the program lets them go."""
    name = "a_program"
    module = ModuleType(name)
    module.__file__ = __file__
    sys.modules[name] = module
    exec(compile(PROGRAM, __file__, "exec"), vars(module))
    assert explore(module.scenario, strategy=strategy).failure is None
    there = [ref(thing) for thing in (module.Counter, module.add, module.add.__code__)]
    del sys.modules[name], module
    gc.collect()
    assert [look() for look in there] == [None] * 3


PROGRAM = """
import anyio
from anyio.lowlevel import checkpoint

class Counter:
    count = 0

async def add(counter):
    await checkpoint()
    counter.count = counter.count + 1

def made(kind):
    return kind()

async def scenario():
    counter = made(Counter)
    async with anyio.create_task_group() as tg:
        for name in "abc":
            tg.start_soon(add, counter, name=name)
"""
