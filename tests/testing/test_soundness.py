"""The report says no more than is true: dpor finds what dfs finds, or says what it cannot see."""

from __future__ import annotations

import gc
from collections import UserDict
from contextvars import ContextVar
from functools import partial
from queue import Queue, SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from tests.testing.test_footprint import both
from tests.testing.test_variables import needs_a_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde.testing import Result

    Shared = tuple[Callable[[], Any], Callable[[Any], int], Callable[[Any, int], object]]

total = 0


async def one() -> int:
    await checkpoint()
    return 1


def searched(
    scenario: Callable[[], Awaitable[object]], backend: Any = "trio"
) -> tuple[set[Any], Result]:
    """Return what some order ends with, and what dpor says."""
    every = explore(scenario, backend=backend, strategy="dfs", keep_going=True)
    return set(every.outcomes), explore(scenario, backend=backend, strategy="dpor", keep_going=True)


# Each function on one line, or what is tested would not be.
# fmt: off
async def adds_on() -> object:
    x = 0

    async def add() -> None:
        nonlocal x
        x += await one()

    await both(add, add)
    return x


async def on_one_line() -> object:
    global total
    total = 0

    async def add() -> None:
        global total
        v = total; await checkpoint(); total = v + 1  # noqa: E702

    await both(add, add)
    return total


async def a_loop_on_one_line() -> object:
    x = 0

    async def add() -> None:
        nonlocal x
        for _ in (1, 2): v = x; await checkpoint(); x = v + 1  # noqa: E701, E702

    await both(add, add)
    return x


async def reads_after() -> object:
    places = [0]

    async def add() -> None:
        places[0] = places[0] + await one() + places[0]

    await both(add, add)
    return places[0]
# fmt: on


@needs_a_place
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("scenario", [adds_on, on_one_line, a_loop_on_one_line, reads_after])
def test_a_line_that_goes_on_after_an_await(scenario: Any, backend: Any) -> None:
    """What it reads and writes then is seen, though no line begins."""
    outcomes, result = searched(scenario, backend)
    assert result.verdict == "exhaustive"
    assert set(result.outcomes) == outcomes


def shares(
    make: Callable[[], Any], get: Callable[[Any], int], put: Callable[[Any, int], object]
) -> Callable[[], Awaitable[object]]:
    """Return a scenario in which two tasks add one to something."""

    async def scenario() -> object:
        thing = make()

        async def add() -> None:
            before = get(thing)
            await checkpoint()
            put(thing, before + 1)

        await both(add, add)
        return get(thing)

    return scenario


class Box:
    def __init__(self) -> None:
        self.n = 0


class Wrong(Exception):
    n = 0


def fill(queue: Any, size: int) -> None:
    for _ in range(size - queue.qsize()):
        queue.put(1)


def get_of_vars(box: Box) -> int:
    attributes: dict[str, int] = vars(box)
    return attributes["n"]


def put_in_vars(box: Box, value: int) -> None:
    attributes: dict[str, int] = vars(box)
    attributes["n"] = value


def counts_on() -> Any:
    def generate() -> Any:
        yield from range(10)

    return generate()


OPAQUE: dict[str, Shared] = {
    "UserDict": (lambda: UserDict(k=0), lambda o: o["k"], lambda o, v: o.update(k=v)),
    "memoryview": (
        lambda: memoryview(bytearray(1)),
        lambda o: o[0],
        lambda o, v: o.__setitem__(0, v),
    ),
    "partial": (
        lambda: partial(int),
        lambda o: getattr(o, "n", 0),
        lambda o, v: setattr(o, "n", v),
    ),
    "Wrong": (Wrong, lambda o: o.n, lambda o, v: setattr(o, "n", v)),
    "SimpleQueue": (SimpleQueue, lambda o: o.qsize(), fill),
    "Queue": (Queue, lambda o: o.qsize(), fill),
    "WeakValueDictionary": (WeakValueDictionary, len, lambda o, v: o.__setitem__(v, Box)),
    "generator": (counts_on, next, lambda o, v: next(o)),
    "ContextVar": (
        lambda: ContextVar("x", default=[0]),  # noqa: B039  that is the mistake
        lambda o: o.get()[0],
        lambda o, v: o.get().__setitem__(0, v),
    ),
    "vars()": (Box, get_of_vars, put_in_vars),
    "__dict__": (Box, lambda o: o.__dict__["n"], lambda o, v: o.__dict__.__setitem__("n", v)),
    "object.__setattr__()": (Box, lambda o: o.n, lambda o, v: object.__setattr__(o, "n", v)),
    "globals()": (
        dict,
        lambda o: globals()["total"],
        lambda o, v: globals().update(total=v),
    ),
}


@needs_a_place
@pytest.mark.parametrize("word", OPAQUE)
def test_what_is_not_seen_is_named(word: str) -> None:
    """What changes unseen makes the verdict bounded, and a note says what it is."""
    result = explore(shares(*OPAQUE[word]), backend="trio", strategy="dpor")
    assert result.verdict == "bounded (not every access can be seen)"
    assert any(word in note for note in result.notes)


NESTED: dict[str, Shared] = {
    "list": (lambda: [[0]], lambda o: o[0][0], lambda o, v: o[0].__setitem__(0, v)),
    "tuple": (
        lambda: ({"k": [0]},),
        lambda o: o[0]["k"][0],
        lambda o, v: o[0]["k"].__setitem__(0, v),
    ),
    "added": (list, lambda o: o[0][0] if o else 0, lambda o, v: o.insert(0, [v])),
}


@needs_a_place
@pytest.mark.parametrize("what", NESTED)
def test_containers_in_others(what: str) -> None:
    """Who has the outer one at hand has the inner ones."""
    outcomes, result = searched(shares(*NESTED[what]))
    assert result.verdict == "exhaustive"
    assert set(result.outcomes) == outcomes


class Counted:
    count = 0


async def counts_in_the_class() -> object:
    Counted.count = 0

    async def add() -> None:
        count = Counted.count
        await checkpoint()
        Counted.count = count + 1

    await both(add, add)
    return Counted.count


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_changes_in_a_class_is_told(backend: Any) -> None:
    """No hook sees it, so the space is not said to be exhausted, and the note says why."""
    _, result = searched(counts_in_the_class, backend)
    assert result.verdict == "bounded (not every access can be seen)"
    assert any("Counted.count, which belongs to the class" in note for note in result.notes)


class Leftover:
    def __init__(self) -> None:
        self.closed = False

    def __del__(self) -> None:
        assert not self.closed


def test_garbage_of_the_time_before_is_no_unseen_object() -> None:
    """What is thrown away while a task moves has a ``__del__``, which is no access of that task."""

    async def scenario() -> object:
        found: list[int] = []

        async def collect() -> None:
            await checkpoint()
            found.append(gc.collect())

        await both(collect, collect)
        return len(found)

    gc.disable()  # until the scenario asks for it
    try:
        circle: list[object] = [Leftover()]  # which nothing else ends
        circle.append(circle)
        del circle
        result = explore(scenario, backend="trio", strategy="dpor")
    finally:
        gc.enable()
    assert result.verdict == "exhaustive", str(result)


class Registry:
    def __init__(self) -> None:
        self.gone = 0


class Slots:
    __slots__ = ("gone",)

    def __init__(self) -> None:
        self.gone = 0


class Member:
    """Tells where it is registered that it goes, as no one should."""

    def __init__(self, registry: Any) -> None:
        self.registry = registry
        self.me = self  # which only the garbage collector ends

    def __del__(self) -> None:
        self.registry.gone += 1


class Alone(Member):
    """Writes only to itself."""

    def __del__(self) -> None:
        self.registry = None


@pytest.mark.parametrize(
    ("member", "registry", "verdict"),
    [
        (Member, Registry, "bounded (not every access can be seen)"),
        (Member, Slots, "bounded (not every access can be seen)"),
        (Alone, Registry, "exhaustive"),
    ],
)
def test_what_a_finalizer_changes_is_told(member: Any, registry: Any, verdict: str) -> None:
    """Nobody knows at which step garbage is collected: what tasks share must not hang on it."""
    shared = registry()
    garbage = [member(shared)]

    async def scenario() -> object:
        async def collect() -> None:
            await checkpoint()
            assert shared.gone < 2
            garbage.clear()
            gc.collect()

        await both(collect, collect)
        return None

    result = explore(scenario, backend="trio", strategy="dpor")
    assert result.verdict == verdict, str(result)
    told = any(f"{registry.__name__}.gone, written by a finalizer" in n for n in result.notes)
    assert told == (verdict != "exhaustive")
