"""Where a coroutine stands, whatever it is made of."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

import pytest

from aiopde.testing._stacks import place_of, stack_of, waits_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator


@types.coroutine
def trap() -> Generator[str]:
    yield "here"


async def produce() -> AsyncGenerator[int]:
    await trap()
    yield 1


async def consume() -> list[int]:
    return [number async for number in produce()]


async def outer() -> None:
    await trap()


def test_outermost_first() -> None:
    """Coroutines, generators that are awaited, down to what traps."""
    coroutine = outer()
    coroutine.send(None)
    assert [place.function for place in stack_of(coroutine)] == ["outer", "trap"]
    assert str(place_of(coroutine)).endswith(":trap")
    coroutine.close()


def test_through_an_asynchronous_generator() -> None:
    """Its frame is on the stack as far as Python tells, and nothing is guessed beyond that."""
    coroutine = consume()
    coroutine.send(None)
    functions = [place.function for place in stack_of(coroutine)]
    assert functions in (["consume"], ["consume", "<listcomp>"])  # a frame of its own in 3.11
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == [1]


def test_one_that_is_over() -> None:
    """It stands nowhere and waits for nothing."""
    coroutine = outer()
    coroutine.send(None)
    coroutine.close()
    assert place_of(coroutine) is None
    assert stack_of(coroutine) == ()
    assert waits_for(coroutine) == "nothing"


def test_what_it_waits_for() -> None:
    """The library's call, and the program's line that makes it."""

    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> str:
        task: asyncio.Task[Any] = asyncio.create_task(wait(asyncio.Event()))
        await asyncio.sleep(0)
        words = waits_for(task.get_coro())
        task.cancel()
        return words

    words = asyncio.run(main())
    assert words.startswith("Event.wait at ")
    assert words.endswith(":wait")
