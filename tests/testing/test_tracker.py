"""What the hooks tell becomes accesses and notes: called here as the hooks would."""

from __future__ import annotations

import io
import itertools
import os
import sys
import tokenize
import types
from array import array
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from weakref import ref

import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import _hooks, _opaque, explore
from aiopde.testing._accesses import ADD, READ, WRITE, Event
from aiopde.testing._hooks import hooks
from aiopde.testing._lane import Lane
from aiopde.testing._lines import lines_of
from aiopde.testing._names import Names, owner_of
from aiopde.testing._tracker import Tracker
from aiopde.testing._variables import forget_values, look, look_on, variables

if TYPE_CHECKING:
    from collections.abc import Hashable


class Thing:
    pass


kept: list[int] = [1]


class Named(tuple[Any, ...]):
    __slots__ = ()


def step_of(tracker: Tracker, lane: str, number: int = 1) -> dict[int, int]:
    """Begin a step of a task; return where its accesses are noted."""
    tracker._event = Event(Lane(lane, 0, None, None), 0, [])
    tracker.names.begin_step(lane, number)
    tracker.accesses = tracker._event.accesses
    return tracker.accesses


def stepping(lane: str = "a") -> Tracker:
    tracker = Tracker()
    step_of(tracker, lane)
    return tracker


def keys(tracker: Tracker) -> dict[Hashable, int]:
    assert tracker.accesses is not None
    return {tracker.names.labels[key]: kinds for key, kinds in tracker.accesses.items()}


def holds(tracker: Tracker, value: object, place: Hashable = None) -> None:
    tracker.see_held(value, sys._getframe(1), None, place)


def test_garbage_counts_for_no_step() -> None:
    """While it is collected nothing is noted, but by another thread's collection."""
    tracker = stepping()
    accesses = tracker.accesses
    other = Thread(target=tracker.collecting, args=("start", {}))
    other.start()
    other.join()
    assert tracker.accesses is accesses
    tracker.collecting("start", {})
    assert tracker.accesses is None
    tracker.collecting("stop", {})
    assert tracker.accesses is accesses


class TestAtHand:
    def test_by_a_local_variable(self) -> None:
        """A container has the name of the step that met it, and of its turn in that."""
        tracker = stepping()
        holds(tracker, [1])
        assert keys(tracker) == {(("list", "a", 1, "met", 0), "[]"): READ}

    @pytest.mark.parametrize("value", [(kept,), partial(len, kept), kept.append, Named((kept,))])
    def test_by_what_holds_it(self, value: object) -> None:
        """A tuple, a partial or a bound method is at hand with what it holds."""
        tracker = stepping()
        holds(tracker, value, ("file", "x[]"))
        assert keys(tracker) == {("file", "x[]"): READ}
        assert tracker.notes == set()

    def test_nobody_moves(self) -> None:
        """Between steps nothing is noted."""
        tracker = Tracker()
        holds(tracker, [1])
        tracker.touch_name("file", "x", write=True)
        tracker.touch_task(object(), "end", write=False)
        tracker.created(Thing())
        assert tracker.names.labels == []

    def test_as_an_attribute(self) -> None:
        """What an attribute holds in a tuple has one name with it; a number has nothing."""
        tracker, thing, frame = stepping(), Thing(), sys._getframe()
        tracker.created(thing)
        tracker.see_value(thing, "x", 1, frame)
        tracker.see_value(thing, "x", (kept,), frame)
        tracker.see_value(thing, "y", [1], frame)
        name = ("Thing", "a", 1, 1)
        assert keys(tracker) == {(name, "x[]"): READ, (name, "y[]"): READ}

    def test_a_namespace_from_before(self) -> None:
        """It cannot be hooked; it is compared, and a note tells."""
        tracker = stepping()
        holds(tracker, SimpleNamespace(x=1))
        assert any("SimpleNamespace" in note for note in tracker.notes)


class TestAliases:
    def test_of_two_tasks_in_no_order(self) -> None:
        """Both names are touched, from the meeting on and in the executions after it."""
        tracker, items = stepping("a"), [1]
        holds(tracker, items, ("file", "x[]"))
        step_of(tracker, "b")
        holds(tracker, items, ("file", "y[]"))
        holds(tracker, items, ("file", "y[]"))
        both = {("file", "x[]"): READ, ("file", "y[]"): READ}
        assert keys(tracker) == both
        tracker._contents.forget()
        accesses = step_of(tracker, "b")
        other = [1]
        holds(tracker, other, ("file", "y[]"))
        assert keys(tracker) == both
        other.append(2)
        tracker._contents.compare(accesses)
        assert keys(tracker)["file", "x[]"] == READ | WRITE

    def test_none_where_one_comes_first(self) -> None:
        """Who was started after the meeting meets it second in any order."""
        tracker, items = stepping("main"), [1]
        holds(tracker, items, ("file", "x[]"))
        tracker._contents.born("a")
        step_of(tracker, "a")
        tracker._contents.born("a/b")
        step_of(tracker, "a/b")
        holds(tracker, items, ("file", "y[]"))
        assert keys(tracker) == {("file", "x[]"): READ}

    def test_one_where_the_starter_meets_it_later(self) -> None:
        """Who was started before the meeting may come before it."""
        tracker, items = stepping("main"), [1]
        tracker._contents.born("a")
        step_of(tracker, "main", 2)
        holds(tracker, items, ("file", "x[]"))
        step_of(tracker, "a")
        holds(tracker, items, ("file", "y[]"))
        assert len(keys(tracker)) == 2

    def test_is_the_same_but_for_them(self) -> None:
        """A step touches what it did if what is new are names learnt since."""
        tracker, items = stepping("a"), [1]
        holds(tracker, items, ("file", "x[]"))
        before = dict(tracker.accesses or {})
        assert tracker.is_same(before, dict(before))
        step_of(tracker, "b")
        holds(tracker, items, ("file", "y[]"))
        learnt = tracker.names.number(("file", "y[]"))
        part = tracker.names.number(("file", ("y[]", "truth")))
        assert tracker.is_same(before, {**before, learnt: READ, part: READ})
        assert not tracker.is_same(before, {**before, tracker.names.number(("file", "z")): READ})
        assert not tracker.is_same({**before, learnt: READ}, before)


class TestInside:
    def test_each_other(self) -> None:
        """Lists that hold each other are read together, once."""
        tracker = stepping()
        left: list[Any] = []
        right: list[Any] = [left]
        left.extend((right, ([],), Thing()))
        holds(tracker, left, ("file", "x[]"))
        holds(tracker, left, ("file", "x[]"))
        assert set(keys(tracker)) == {("file", "x[]"), ("file", "x[][]")}

    def test_what_changes_unseen(self) -> None:
        """Who has a list at hand has the queue in it."""
        tracker, queues = stepping("a"), [SimpleQueue[int]()]
        holds(tracker, queues)
        step_of(tracker, "b")
        holds(tracker, queues)
        assert tracker.notes == {"a SimpleQueue that several tasks use"}


SEEN_OR_NOT: list[tuple[Any, bool]] = [
    (1, False),
    (object(), False),
    (os.environ, True),
    (partial(len), False),
    (itertools.count(), True),
    (ContextVar("empty"), False),
    (ContextVar("list", default=[1]), True),  # noqa: B039  that is what is tested
    (ContextVar("number", default=1), False),
    (ContextVar("queue", default=SimpleQueue[int]()), True),  # noqa: B039  as above
    (array("i"), True),
    (io.StringIO(), True),
]


class TestOpaque:
    def test_of_one_task(self) -> None:
        """What one task has for itself is its own business."""
        tracker = stepping()
        holds(tracker, SimpleQueue[int]())
        assert tracker.notes == set()

    def test_what_it_works_on(self) -> None:
        """An iterator is at hand with the list it goes through."""
        tracker = stepping()
        holds(tracker, iter([1]), ("file", "x[]"))
        assert keys(tracker) == {("file", "x[]"): READ}

    def test_an_error(self) -> None:
        """One that got an attribute after a task had it is noted with the second task."""
        tracker, error = stepping("a"), ValueError([])
        holds(tracker, error, ("file", "x[]"))
        assert keys(tracker) == {("file", "x[]"): READ}
        error.add_note("new")
        step_of(tracker, "b")
        holds(tracker, error)
        assert tracker.notes == {"a ValueError that several tasks use"}

    def test_a_weak_reference(self) -> None:
        """One task is enough: what it refers to goes unseen."""
        tracker, thing = stepping(), Thing()
        holds(tracker, ref(thing))
        assert any("ReferenceType, whose object goes" in note for note in tracker.notes)

    @pytest.mark.parametrize(("value", "opaque"), SEEN_OR_NOT)
    def test_what_is(self, value: object, opaque: bool) -> None:
        """Whatever is not known to be harmless."""
        assert _opaque.is_opaque(value) is opaque

    def test_what_is_plain_is_judged_once(self) -> None:
        """By its class; what could hold something is not, nor what is an array or a stream."""
        assert _opaque.PLAIN[str]
        holders: tuple[Any, ...] = ((), [], Named(), ValueError(), os.getenv, len, os.environ)
        for value in holders:
            assert not _opaque.PLAIN[type(value)]

    @pytest.mark.parametrize(
        ("value", "held"),
        [
            (os.getenv, (os.environ,)),
            (os.putenv, (os.environ,)),
            (kept.append, (kept,)),
            ("x".__add__, ("x",)),
            (Named((1,)), (1,)),
            (Thing(), ()),
            ({"x": 1}.keys(), ({"x": 1},)),
            (types.MappingProxyType({"x": 1}), ({"x": 1},)),
        ],
    )
    def test_what_is_behind_something(self, value: object, held: tuple[object, ...]) -> None:
        """Functions for the environment, bound methods, tuples, views of dictionaries."""
        assert _opaque.held_by(value) == held

    @pytest.mark.parametrize(
        ("name", "value", "fixed"),
        [
            ("os", os, True),
            ("path", types.ModuleType("os.path"), True),
            ("system", os, False),
            ("Thing", Thing, True),
            ("stepping", stepping, True),
            ("callback", stepping, False),
            ("anything", len, True),
            ("push", kept.append, False),
            ("getenv", os.getenv, False),
            ("x", 1, False),
        ],
    )
    def test_what_is_fixed(self, name: str, value: object, fixed: bool) -> None:
        """What ``def``, ``class`` and ``import`` have named, unless it is a way to something."""
        assert _opaque.is_fixed(name, value) is fixed


class TestNames:
    def test_of_anything(self) -> None:
        """A text is itself; an object of this execution has its name, any other its class'."""
        names, thing = Names(), Thing()
        names.created(thing)
        assert names.of_any("x") == ("'x'",)
        assert names.of_any(thing) == names.of(thing)
        assert names.of_any(Thing()) == ("Thing",)

    def test_of_owners(self) -> None:
        """A module is its file, or its name if it has none; a function is where it stands."""
        assert owner_of(os) == os.__file__
        assert owner_of(types.ModuleType("shop")) == "shop"
        first = stepping.__code__.co_firstlineno
        assert owner_of(stepping) == ("stepping", __file__, first)

    def test_what_nobody_saw_being_made(self) -> None:
        """What was taken for old, and that nobody else has at the end, was new."""
        names, kept = Names(), Thing()
        names.key(kept, "x")
        names.key(Thing(), "x")
        assert names.forget() == {"Thing"}
        assert names.forget() == set()

    def test_carried_to_another_process(self) -> None:
        """What sleeps is told by names; if one of them is an old object's, it is left out."""
        names, thing = Names(), Thing()
        there = {names.number(("file", "x")): READ}
        here = {names.key(thing, "x"): WRITE}
        assert names.portable({"a": there, "b": here}) == (("a", ((("file", "x"), READ),)),)

    def test_for_people(self) -> None:
        """What was touched of the program's own, without tasks and the machinery."""
        names, thing = Names(), Thing()
        names.created(thing)
        accesses = {
            names.key(thing, "x"): READ,
            names.number((names.of(thing), ("x", 1))): WRITE,
            names.number(("a", "wake")): WRITE,
            names.number(("file", "files[]")): ADD,
            names.number((("list", "a", 1, "met", 0), "[]")): READ,
            names.number((("scope", "main"), "_cancel_called")): READ,
        }
        assert [touch.what for touch in names.touches(accesses)] == [
            *("Thing#1.x", "files", "list#1"),
        ]
        assert [touch.write for touch in names.touches(accesses)] == [True, True, False]


SHOP: Any = types.ModuleType("SHOP")
SHOP.inner = types.ModuleType("inner")
SHOP.items = [1]
LAZY: Any = types.ModuleType("LAZY")
vars(LAZY)["__getattr__"] = stepping

# As text, since they are looked at and hardly run.
FILE = "lines.py"
_FUNCTIONS = """
from types import SimpleNamespace as Space

from enum import Enum

count = 0
table = {}

class Colour(Enum):
    RED = 1

class Kind:
    level = 0

def clerk():
    pass

def modules():
    yield SHOP.items
    yield SHOP.inner.x
    SHOP.x = 1
    SHOP.y += 1
    del SHOP.z
    yield os.fspath
    yield LAZY.anything

def classes():
    yield Kind.level
    Kind.level = 1

def members():
    yield Colour.RED.level
    Colour.RED.level = 1

def passed_on():
    yield SHOP

def replaces():
    global clerk, count
    clerk = None
    count = 1
    yield

def namespaces():
    yield Space

def back_doors():
    yield globals()
    yield vars(count)
    yield count.__dict__
    yield object.__setattr__
    yield count.__setattr__
    count.__dict__ = {}

def __init__():
    yield globals()

def once():
    (yield), count

def again():
    for _ in (1, 2): count + (yield)

def at_the_end():
    (yield)

def asks_self(self=None):
    (yield), self.nothing_a_container_has

def asks_for_a_key(key="x"):
    yield table[key]

def stores_the_key(key="x"):
    key = "y"; yield table[key]

def asks_if_none(items=table):
    yield 1 if items is None else 2

def has_at_hand(shop=SHOP, items=table):
    yield shop.x, items

def stops_at_a_module():
    yield SHOP.inner

def one_line(): yield count
"""


def function_of(name: str) -> Any:
    names = {"SHOP": SHOP, "LAZY": LAZY, "os": os, "__name__": __name__}
    exec(compile(_FUNCTIONS, FILE, "exec"), names)
    return names[name]


def looked_at(name: str) -> Tracker:
    """Look at each line of a function, as it would be looked at when it ran."""
    tracker, function = stepping(), function_of(name)
    frame = function().gi_frame
    for line in lines_of(function.__code__).values():
        look(tracker, frame, line)
    return tracker


class TestLines:
    def test_attributes_of_modules(self) -> None:
        """Read, written, both, deleted, and of a module in a module; what is fixed is not noted."""
        tracker = looked_at("modules")
        assert keys(tracker) == {
            ("SHOP", "items"): READ,
            ("SHOP", "items[]"): READ,
            ("inner", "x"): READ,
            ("SHOP", "x"): WRITE,
            ("SHOP", "y"): WRITE,
            ("SHOP", "z"): WRITE,
        }
        assert tracker.notes == set()

    def test_attributes_of_classes(self) -> None:
        """That one is written is noted."""
        assert any("Kind.level" in note for note in looked_at("classes").notes)
        assert any("Colour.RED.level" in note for note in looked_at("members").notes)

    def test_a_module_with_another_name(self) -> None:
        """It is watched from then on."""
        tracker = looked_at("passed_on")
        _, before = tracker._modules[id(SHOP)]
        assert before == vars(SHOP)
        tracker.see_module(SHOP)
        assert len(tracker._modules) == 1

    def test_what_is_replaced(self) -> None:
        """A function, class or module that a variable stands for is noted; a number is not."""
        assert looked_at("replaces").notes == {"clerk, a function, class or module, being replaced"}

    def test_what_is_no_function_any_more(self) -> None:
        """A line of which there was nothing to see is looked at when that is replaced."""
        variables: dict[str, Any] = {}
        exec("def call(what): ...\ndef calls():\n    yield\n    call(calls)", variables)
        frame, line = variables["calls"]().gi_frame, lines_of(variables["calls"].__code__)[4]
        tracker = stepping()
        look(tracker, frame, line)
        look(tracker, frame, line)
        assert keys(tracker) == {}
        variables["call"] = [1]
        look(tracker, frame, line)
        assert keys(tracker) == {("<string>", "call"): READ, ("<string>", "call[]"): READ}
        assert set(line.idle) == {"call", "calls"}
        forget_values()  # as at the end of a search
        assert not line.idle

    def test_a_namespace_by_another_name(self) -> None:
        """A class that makes what cannot be hooked."""
        assert any("SimpleNamespace" in note for note in looked_at("namespaces").notes)

    def test_back_doors(self) -> None:
        """They are noted, but not where a thing is made, nor for an ordinary attribute."""
        assert len(looked_at("back_doors").notes) == 4
        assert looked_at("__init__").notes == set()

    @pytest.mark.parametrize("name", ["once", "again", "at_the_end", "asks_self"])
    def test_a_line_that_waits(self, name: str) -> None:
        """What is behind the place it waits at is looked at; if it is in a loop, all of it."""
        waiting = function_of(name)()
        next(waiting)
        tracker = stepping()
        look_on(tracker, waiting.gi_frame)
        assert keys(tracker) == ({(FILE, "count"): READ} if name in ("once", "again") else {})

    def test_a_key(self) -> None:
        """Who asks for one key depends on that; for any, if the line gives it another value."""
        table = (FILE, "table[]")
        assert (FILE, ("table[]", "x")) in keys(looked_at("asks_for_a_key"))
        assert table not in keys(looked_at("asks_for_a_key"))
        assert table in keys(looked_at("stores_the_key"))

    def test_locals(self) -> None:
        """What they hold is looked at, but not where a line only asks whether that is None."""
        assert keys(looked_at("asks_if_none")) == {}
        touched = keys(looked_at("has_at_hand"))
        assert touched.pop(("SHOP", "x")) == READ
        assert len(touched) == 1  # the dictionary
        assert keys(looked_at("stops_at_a_module")) == {}

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="every function has a line there")
    def test_a_function_on_one_line(self) -> None:
        """No line of it begins: it is looked at when it is called; a library's is not."""
        monitoring: Any = sys.__dict__["monitoring"]
        start = monitoring.events.PY_START
        tracker = Tracker()
        with variables(tracker):
            tool = next(n for n in range(6) if monitoring.get_tool(n) == "aiopde.testing")
            see_start = monitoring.register_callback(tool, start, None)
            assert see_start(function_of("one_line").__code__, 0) is None
            assert see_start(tokenize.generate_tokens.__code__, 0) is monitoring.DISABLE

    def test_a_library_that_waits(self) -> None:
        """It is not looked at."""
        tracker = stepping()
        look_on(tracker, cast("Any", contextmanager_of_a_library()).gi_frame)
        assert keys(tracker) == {}


def contextmanager_of_a_library() -> object:
    """A generator that a library's function has made."""
    return tokenize.generate_tokens(iter(["x"]).__next__)


def test_a_class_made_between_steps() -> None:
    """It is nobody's doing."""
    tracker = Tracker()
    with hooks(tracker):

        class Late:
            pass

    assert tracker.notes == set()
    assert Late.__module__ == __name__


def test_what_may_be_to_blame() -> None:
    """What was noted; else what to do is said."""
    tracker = Tracker()
    assert "race.touch()" in tracker.suspects()
    tracker.notes |= {"a Queue", "a Lock"}
    assert tracker.suspects() == "It may be a Lock; a Queue"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_scenario_itself_as_the_victim(backend: Any) -> None:
    """Its scope is known before its first step."""
    ended: list[bool] = []

    async def scenario() -> object:
        ended.clear()
        await checkpoint()
        ended.append(True)
        return len(ended)

    full = explore(scenario, backend=backend, strategy="dfs", cancel=["main"])
    result = explore(scenario, backend=backend, strategy="dpor", cancel=["main"])
    assert result.verdict == "exhaustive"
    assert set(result.outcomes) == set(full.outcomes) == {None, 1}


def test_a_task_that_is_none_of_ours() -> None:
    """What is done to it is not noted."""
    tracker = stepping()
    tracker._run = cast("Any", SimpleNamespace(by_task={}))
    tracker.touch_task(object(), "end", write=True)
    assert keys(tracker) == {}


def test_modules_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not imported has nothing to be hooked."""
    monkeypatch.setitem(_hooks._MEETING_PLACES, "no.such", ("Lock",))
    monkeypatch.setitem(_hooks._ONLY, ("no.such", "Event"), frozenset())
    monkeypatch.setattr(_hooks, "_WAITS_FOR_GROUP", (("no.such", "Group", "wait"),))
    with hooks(Tracker()) as nothing:
        assert nothing is None
