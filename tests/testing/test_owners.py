"""Attributes of modules and functions are seen; and what is like that but not seen is told."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import sys
import types
from enum import Enum
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from anyio.lowlevel import checkpoint

from tests.testing.test_footprint import both
from tests.testing.test_soundness import Box, searched
from tests.testing.test_variables import needs_a_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = needs_a_place

shop: Any = types.ModuleType("shop")
shop.inner = types.ModuleType("inner")
market = shop


def clerk() -> None:
    """Has attributes."""


def other() -> int:
    return 1


clerks: Any = clerk
callback: Any = None


class Colour(Enum):
    RED = 1


async def one() -> int:
    await checkpoint()
    return 1


async def module() -> object:
    shop.count = 0

    async def add() -> None:
        count = shop.count
        await checkpoint()
        shop.count = count + 1

    await both(add, add)
    return shop.count


async def module_in_a_module() -> object:
    shop.inner.count = 0

    async def add() -> None:
        shop.inner.count += await one()

    await both(add, add)
    return shop.inner.count


async def module_of_a_library() -> object:
    sys.count = 0  # type: ignore[attr-defined]

    async def add() -> None:
        import sys

        count = sys.count  # type: ignore[attr-defined]
        await checkpoint()
        sys.count = count + 1  # type: ignore[attr-defined]

    await both(add, add)
    return sys.count  # type: ignore[attr-defined]


async def list_of_a_module() -> object:
    items: list[str] = []
    shop.items = items

    async def add(word: str) -> None:
        shop.items.append(word)
        await checkpoint()
        shop.items.append(word)

    await both(lambda: add("a"), lambda: add("b"))
    return tuple(items)


async def function() -> object:
    clerks.count = 0

    async def add() -> None:
        count = clerks.count
        await checkpoint()
        clerks.count = count + 1

    await both(add, add)
    return clerks.count


async def function_of_the_scenario() -> object:
    def mine() -> None:
        """Has attributes."""

    there: Any = mine
    there.count = 0

    async def add(clerk: Any) -> None:
        count = clerk.count
        await checkpoint()
        clerk.count = count + 1

    await both(lambda: add(mine), lambda: add(mine))
    return there.count


async def function_that_is_gone() -> object:
    clerks.mark = 1
    found = Box()

    async def delete() -> None:
        del clerks.mark

    async def look() -> None:
        found.n = hasattr(clerks, "mark") and clerks.mark

    await both(delete, look)
    return found.n


async def callback_of_the_module() -> object:
    global callback
    callback = None
    found = Box()

    async def put() -> None:
        global callback
        callback = other

    async def call() -> None:
        found.n = callback() if callback else -1

    await both(put, call)
    return found.n


async def callback_of_the_scenario() -> object:
    call_back: Any = None
    found = Box()

    async def put() -> None:
        nonlocal call_back
        call_back = other

    async def call() -> None:
        found.n = call_back() if call_back else -1

    await both(put, call)
    return found.n


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "scenario",
    [
        *(module, module_in_a_module, module_of_a_library, list_of_a_module),
        *(function, function_of_the_scenario, function_that_is_gone),
        *(callback_of_the_module, callback_of_the_scenario),
    ],
)
def test_seen(scenario: Any, backend: Any) -> None:
    """A lost update on an attribute of a module or a function, and a callback that may be there."""
    outcomes, result = searched(scenario, backend)
    assert len(outcomes) > 1
    assert set(result.outcomes) == outcomes
    assert result.verdict == "exhaustive"


async def by_another_name() -> object:
    shop.count = 0

    async def add() -> None:
        place = market
        count = getattr(place, "count")  # noqa: B009  that is what is tested
        await checkpoint()
        setattr(place, "count", count + 1)  # noqa: B010  as above

    await both(add, add)
    return shop.count


def replaceable() -> int:
    return 0


ORIGINAL = replaceable


async def replaced() -> object:
    global replaceable
    replaceable = ORIGINAL
    found = Box()

    async def put() -> None:
        global replaceable
        replaceable = other

    async def call() -> None:
        found.n = replaceable()

    await both(put, call)
    return found.n


async def environment() -> object:
    os.environ["AIOPDE"] = "0"

    async def add() -> None:
        count = int(os.environ["AIOPDE"])
        await checkpoint()
        os.environ["AIOPDE"] = str(count + 1)

    await both(add, add)
    return os.environ.pop("AIOPDE")


async def environment_by_function() -> object:
    os.environ["AIOPDE"] = "0"
    found = Box()

    async def put() -> None:
        os.environ["AIOPDE"] = "1"

    async def look() -> None:
        found.n = int(os.getenv("AIOPDE", ""))

    await both(put, look)
    del os.environ["AIOPDE"]
    return found.n


async def chance() -> object:
    random.seed(1)
    found = Box()

    async def first() -> None:
        found.n = random.randint(1, 1000)  # noqa: S311  no secret

    async def second() -> None:
        random.random()  # noqa: S311  no secret

    await both(first, second)
    return found.n


async def queue_as_argument() -> object:
    async def put(queue: SimpleQueue[str], word: str) -> None:
        queue.put(word)

    queue: SimpleQueue[str] = SimpleQueue()
    await both(lambda: put(queue, "a"), lambda: put(queue, "b"))
    return queue.get()


async def queue_in_a_list() -> object:
    queues: list[SimpleQueue[str]] = [SimpleQueue()]

    async def put(word: str) -> None:
        queues[0].put(word)

    await both(lambda: put("a"), lambda: put("b"))
    return queues[0].get()


async def method_of_a_queue() -> object:
    count = itertools.count()
    number = count.__next__
    found = Box()

    async def first() -> None:
        found.n = number()

    async def second() -> None:
        number()

    await both(first, second)
    return found.n


async def reference() -> object:
    holder, found = [Box()], Box()
    weak = ref(holder[0])

    async def drop() -> None:
        holder.clear()

    async def look() -> None:
        found.n = weak() is None

    await both(drop, look)
    return found.n


async def note_of_an_error() -> object:
    error = ValueError()

    async def add(word: str) -> None:
        error.add_note(word)

    await both(lambda: add("a"), lambda: add("b"))
    return tuple(error.__notes__)


async def member_of_an_enum() -> object:
    red: Any = Colour.RED
    red.count = 0

    async def add() -> None:
        count = Colour.RED.count  # type: ignore[attr-defined]
        await checkpoint()
        Colour.RED.count = count + 1  # type: ignore[attr-defined]

    await both(add, add)
    return red.count


async def copied() -> object:
    box: Box = pickle.loads(pickle.dumps(Box()))  # noqa: S301  our own

    async def add() -> None:
        count = box.n
        await checkpoint()
        box.n = count + 1

    await both(add, add)
    return box.n


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("scenario", "word"),
    [
        (by_another_name, "shop.count"),
        (replaced, "replaceable"),
        (environment, "_Environ"),
        (environment_by_function, "_Environ"),
        (chance, "Random"),
        (queue_as_argument, "SimpleQueue"),
        (queue_in_a_list, "SimpleQueue"),
        (method_of_a_queue, "count"),
        (reference, "ReferenceType"),
        (note_of_an_error, "ValueError"),
        (member_of_an_enum, "Colour.RED.count"),
        (copied, "Box"),
    ],
)
def test_told(scenario: Callable[[], Awaitable[object]], word: str, backend: Any) -> None:
    """What may be missed is not called exhausted, and a note names it."""
    outcomes, result = searched(scenario, backend)
    assert len(outcomes) > 1
    assert result.verdict == "bounded (not every access can be seen)"
    assert any(word in note for note in result.notes)
