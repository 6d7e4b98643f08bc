"""Programs of many kinds in which two tasks add one: no end of theirs is lost, or it is told."""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from tests.testing._programs import BACKENDS
from tests.testing.test_footprint import both
from tests.testing.test_variables import needs_a_place

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


async def two(call: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Have two tasks make a call, each with its number."""
    await both(functools.partial(call, 0), functools.partial(call, 1))


class Descriptor:
    def __get__(self, thing: Any, owner: type | None = None) -> Any:
        return thing.hidden

    def __set__(self, thing: Any, value: int) -> None:
        thing.hidden = value


class Described:
    shown = Descriptor()

    def __init__(self) -> None:
        self.hidden = 0


class WithSlot:
    __slots__ = ("__dict__", "slot")

    def __init__(self) -> None:
        self.slot = 0
        self.loose = 0


class Cached:
    def __init__(self) -> None:
        self.made = 0

    @functools.cached_property
    def value(self) -> list[int]:
        self.made += 1
        return []


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count

    def __enter__(self) -> int:
        return self()

    def __exit__(self, *exc: object) -> None:
        self.count -= 1


def longer(kept: list[int] = []) -> int:  # noqa: B006  that is what is tested
    kept.append(1)
    return len(kept)


async def descriptor() -> object:
    thing = Described()

    async def add(number: int) -> None:
        before = thing.shown
        await checkpoint()
        thing.shown = before + 1

    await two(add)
    return thing.shown


async def slot_beside_a_dictionary() -> object:
    thing = WithSlot()

    async def add(number: int) -> None:
        before = thing.loose
        await checkpoint()
        thing.loose = before + 1

    await two(add)
    return thing.loose


async def cached_property() -> object:
    thing, found = Cached(), [0, 0]

    async def add(number: int) -> None:
        value = thing.value
        await checkpoint()
        found[number] = len(value)
        value.append(number)

    await two(add)
    return tuple(found)


async def default_argument() -> object:
    assert longer.__defaults__
    longer.__defaults__[0].clear()
    found = [0, 0]

    async def add(number: int) -> None:
        await checkpoint()
        found[number] = longer()

    await two(add)
    return tuple(found)


async def dictionary_view() -> object:
    table = {"x": 0}
    view = table.values()

    async def add(number: int) -> None:
        before = sum(view)
        await checkpoint()
        table["x"] = before + 1

    await two(add)
    return table["x"]


async def heap() -> object:
    queue: list[int] = []
    found = [0, 0]

    async def add(number: int) -> None:
        heapq.heappush(queue, number)
        await checkpoint()
        found[number] = heapq.heappop(queue)

    await two(add)
    return tuple(found)


async def rotated() -> object:
    ring = collections.deque([1, 2, 3])

    async def turn(number: int) -> None:
        await checkpoint()
        if number:
            ring.rotate(1)
        else:
            ring.appendleft(9)

    await two(turn)
    return tuple(ring)


async def called() -> object:
    counter, found = Counter(), [0, 0]

    async def add(number: int) -> None:
        await checkpoint()
        found[number] = counter()

    await two(add)
    return tuple(found)


async def entered() -> object:
    counter, found = Counter(), [0, 0]

    async def add(number: int) -> None:
        with counter as depth:
            found[number] = depth
            await checkpoint()

    await two(add)
    return tuple(found)


async def left_by_a_stack() -> object:
    log: list[int] = []

    async def add(number: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(log.append, number)
            await checkpoint()

    await two(add)
    return tuple(log)


async def loop_variable() -> object:
    found: list[int] = []

    async def look(number: int) -> None:
        await checkpoint()
        found.append(turn)

    turn = 0
    async with anyio.create_task_group() as tg:
        for turn in range(2):
            tg.start_soon(look, turn, name=f"t{turn}")
            await checkpoint()
    return tuple(found)


async def tokens() -> object:
    limiter = anyio.CapacityLimiter(1)

    async def add(number: int) -> None:
        before = limiter.total_tokens
        await checkpoint()
        limiter.total_tokens = before + 1

    await two(add)
    return limiter.total_tokens


async def buffer() -> object:
    send, receive = anyio.create_memory_object_stream[int](1)
    refused: list[int] = []

    async def put(number: int) -> None:
        await checkpoint()
        try:
            send.send_nowait(number)
        except anyio.WouldBlock:
            refused.append(number)

    with send, receive:
        await two(put)
        return receive.receive_nowait(), tuple(refused)


async def deadlines_that_tie() -> object:
    found: list[int] = []

    async def wait(number: int) -> None:
        with anyio.move_on_after(1):
            await anyio.sleep_forever()
        found.append(number)

    await two(wait)
    return tuple(found)


@needs_a_place
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "scenario",
    [
        descriptor,
        slot_beside_a_dictionary,
        cached_property,
        default_argument,
        dictionary_view,
        heap,
        rotated,
        called,
        entered,
        left_by_a_stack,
        loop_variable,
        tokens,
        buffer,
        deadlines_that_tie,
    ],
)
def test_every_end_is_found(scenario: Any, backend: Any) -> None:
    """The reduced search ends in each way in which some order ends, and says that it does."""
    every = explore(scenario, backend=backend, strategy="dfs", keep_going=True)
    reduced = explore(scenario, backend=backend, strategy="dpor", keep_going=True)
    assert len(every.outcomes) > 1
    assert set(reduced.outcomes) == set(every.outcomes)
    assert reduced.verdict == "exhaustive", str(reduced)
