"""Where a task stands, however it comes to wait: its chain of awaits is followed to the end."""

from __future__ import annotations

import types
from contextlib import aclosing
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from anyio import Event, create_task_group

from aiopde import File, ProcFile, ProcFS, ProcOps, _holders, _stacktrace
from tests.helpers import Handlers, all_blocked, lines, ops_of, start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator

    Use = Callable[[ProcFS, ProcFile], Coroutine[Any, Any, object]]


class Awaited:
    """An object whose ``__await__`` is another's, as some libraries have it."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __await__(self) -> Generator[Any, Any, None]:
        return self._event.wait().__await__()


async def after(event: Event) -> AsyncGenerator[str]:
    await event.wait()
    yield "x"


async def through_a_coroutine(event: Event) -> None:
    await event.wait()


async def through_an_awaitable(event: Event) -> None:
    await Awaited(event)


@types.coroutine
def old_style(event: Event) -> Generator[Any, Any, None]:
    yield from event.wait().__await__()


async def through_a_generator(event: Event) -> None:
    await old_style(event)


async def through_an_async_for(event: Event) -> None:
    async for _ in after(event):
        pass


async def through_anext(event: Event) -> None:
    async with aclosing(after(event)) as generator:
        assert await anext(generator) == "x"


async def through_anext_with_a_default(event: Event) -> None:
    async with aclosing(after(event)) as generator:
        assert await anext(generator, None) == "x"


async def through_athrow(event: Event) -> None:
    async def catching() -> AsyncGenerator[str]:
        try:
            yield "x"
        finally:
            await event.wait()

    generator = catching()
    await anext(generator)
    with pytest.raises(KeyError):
        await generator.athrow(KeyError())


async def through_aclose(event: Event) -> None:
    async def closing() -> AsyncGenerator[str]:
        try:
            yield "x"
        finally:
            await event.wait()

    generator = closing()
    await anext(generator)
    await generator.aclose()


WAYS: dict[str, Callable[[Event], Awaitable[None]]] = {
    "coroutine": through_a_coroutine,
    "awaitable": through_an_awaitable,
    "generator": through_a_generator,
    "async for": through_an_async_for,
    "anext": through_anext,
    "anext with a default": through_anext_with_a_default,
    "athrow": through_athrow,
    "aclose": through_aclose,
}


class TestWaysToWait:
    """However a handler comes to wait, the chain of its awaits is followed to the end."""

    @pytest.mark.parametrize("way", WAYS)
    async def test_the_stack_is_whole(self, way: str) -> None:
        """
        The stack ends in what is waited for, the wait() of an event; and the handler is found.
        """
        may_go = Event()

        async def inner(file: File, size: int, pos: int) -> bytes:
            await WAYS[way](may_go)
            return b""

        async with ProcFS() as proc, create_task_group() as tg:
            inside = proc.create("inner", ProcOps(read=inner))
            await start(tg, proc.read_bytes, "inner")
            (holder,) = inside.holders()
            assert lines(holder)[-1] == "inner"
            assert "wait" in lines(holder)
            may_go.set()

    @pytest.mark.parametrize("way", WAYS)
    async def test_a_call_within_is_found(self, way: str) -> None:
        """
        A call that is made at the end of such a chain is told, as what it is.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            reads = SimpleNamespace(wait=partial(proc.read_bytes, "x"))
            await start(tg, WAYS[way], cast("Event", reads))
            assert ops_of(entry.holders()) == [("/proc/x", "read")]
            handlers.let_go("read")

    async def test_inside_a_seq_file(self) -> None:
        """
        Of a file made of records, the line of the generator is told.
        """
        may_go = Event()

        async def records() -> AsyncGenerator[str]:
            yield "one\n"
            await may_go.wait()

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create_seq("x", records)
            reader = await start(tg, proc.read_text, "x")
            (holder,) = entry.holders()
            assert "records" in lines(holder)
            may_go.set()
            await all_blocked()
            assert reader.result == "one\n"

    async def test_inside_a_single_file(self) -> None:
        """
        The same for a file that is one text.
        """
        may_go = Event()

        async def show() -> str:
            await may_go.wait()
            return "text"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create_single("x", show)
            reader = await start(tg, proc.read_text, "x")
            (holder,) = entry.holders()
            assert (holder.op, "show" in lines(holder)) == ("read", True)
            may_go.set()
            await all_blocked()
            assert reader.result == "text"

    async def test_a_call_that_has_not_begun(self) -> None:
        """
        A call that is yet to take its first step is inside nothing, though it has a frame.
        """
        async with ProcFS() as proc:
            proc.create("x", Handlers().ops("read"))
            call = (await proc.open("x"))._read()
            assert list(_holders.sites(_stacktrace.chain(call)[0])) == []
            call.close()
