"""Threads, real I/O, processes and signals: refused, with what to do without them."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

from aiopde.testing import UncontrolledError, _selfcheck as selfcheck, explore
from aiopde.testing._turnstile import TurnstileDriver

from ._programs import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

backends = pytest.mark.parametrize("backend", BACKENDS)


async def thread_of_anyio() -> None:
    await anyio.to_thread.run_sync(len, "x")


async def thread_beside_others() -> None:
    async with anyio.create_task_group() as tg:
        tg.start_soon(checkpoint, name="a")
        tg.start_soon(thread_of_anyio, name="b")


async def name_lookup() -> None:
    await anyio.getaddrinfo("localhost", 1)


async def readable() -> None:
    one, other = socket.socketpair()
    with one, other:
        await anyio.wait_readable(one)


async def readable_by_a_task() -> None:
    wait: Any = anyio.wait_readable
    one, other = socket.socketpair()
    with one, other:
        async with anyio.create_task_group() as tg:
            tg.start_soon(wait, one, name="reader")


async def file() -> None:
    await anyio.open_file(__file__)


async def process() -> None:
    await anyio.run_process(["true"])


async def awaited_signal() -> None:
    with anyio.open_signal_receiver(signal.SIGUSR1) as received:
        await anext(aiter(received))


@backends
@pytest.mark.parametrize(
    ("scenario", "what"),
    [
        (thread_of_anyio, "main: run_sync at .*test_outside.py:.* wants a thread, "),
        (thread_beside_others, "b: run_sync at .*wants a thread, .* Call the function in the task"),
        (name_lookup, "main: getaddrinfo at .* wants real I/O"),
        (readable, "main: .*wait_readable at .* wants real I/O, .*create_memory_object_stream"),
        (readable_by_a_task, "reader: .*wait_readable wants real I/O"),
        (file, "main: open_file at .* wants a thread"),
        (process, "main: run_process at .* wants a process, .* a fake"),
        (awaited_signal, "main: .* at .*test_outside.py.* wants a signal, .* from a task"),
    ],
)
def test_what_is_no_task_is_refused(
    scenario: Callable[[], Awaitable[None]], what: str, backend: str
) -> None:
    """One hears who asks for what, where, and what to do instead; and no race is reported."""
    threads = threading.active_count()
    with pytest.raises(UncontrolledError, match=what):
        explore(scenario, backend=backend)
    assert threading.active_count() == threads


@pytest.mark.parametrize("scenario", [thread_of_anyio, readable])
def test_behind_the_turnstile(
    scenario: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By trio's public interface it is found where nobody else can move."""
    monkeypatch.setattr(selfcheck, "trio_driver", lambda: TurnstileDriver)
    with pytest.raises(UncontrolledError, match=r"main: .* wants "):
        explore(scenario, backend="trio")


def test_what_asyncio_offers_besides() -> None:
    """to_thread(), executors, transports and the loop's own calls."""

    async def in_a_thread() -> None:
        await asyncio.to_thread(len, "x")

    async def connect() -> None:
        await asyncio.open_connection("localhost", 1)

    async def loop_itself() -> None:
        await asyncio.get_running_loop().run_in_executor(None, len, "x")

    for scenario, call in (
        (in_a_thread, "to_thread at"),
        (connect, "open_connection at"),
        (loop_itself, "run_in_executor at"),
    ):
        with pytest.raises(UncontrolledError, match=f"main: {call} .*test_outside"):
            explore(scenario)


@backends
def test_whoever_catches_it(backend: str) -> None:
    """A scenario that goes on without the thread is not called explored."""

    async def scenario() -> None:
        with suppress(Exception):
            await thread_of_anyio()
        await checkpoint()

    with pytest.raises(UncontrolledError, match="wants a thread"):
        explore(scenario, backend=backend)


def test_a_callback_of_another_thread() -> None:
    """It hears that nobody will call, rather than wait; and the search ends."""
    heard: list[str] = []

    def call(loop: Any) -> None:
        try:
            loop.call_soon_threadsafe(len, "x")
        except UncontrolledError as why:
            heard.append(str(why))

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(len, "x")
        thread = threading.Thread(target=call, args=(loop,))
        thread.start()
        thread.join()

    with pytest.raises(UncontrolledError, match=r"^call_soon_threadsafe\(\) wants a thread"):
        explore(scenario)
    assert len(heard) == 1


def test_other_loops_keep_their_threads() -> None:
    """While one thread explores, another's loop may do what it likes."""
    results: list[int] = []

    def elsewhere() -> None:
        run_sync = anyio.to_thread.run_sync
        results.extend(anyio.run(run_sync, len, "four", backend=name) for name in BACKENDS)

    async def scenario() -> None:
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()  # a step like any other: nobody waits for it in a task

    for backend in BACKENDS:
        explore(scenario, backend=backend, strategy="fifo").raise_if_failed()
    assert results == [4] * 4


def test_nothing_stays_refused() -> None:
    """After a search all is as it was, also for a trio that has threads in stock."""

    async def main() -> int:
        return await trio.to_thread.run_sync(len, "four")

    assert trio.run(main) == 4
    with pytest.raises(UncontrolledError):
        explore(main, backend="trio")
    assert trio.run(main) == 4
    assert anyio.run(anyio.to_thread.run_sync, len, "four") == 4


def test_where_trio_starts_threads_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the name that is watched there is nothing to put back, and all else works."""
    module: Any = import_module("trio._threads")
    monkeypatch.delattr(module, "start_thread_soon")
    assert explore(checkpoint, backend="trio").failure is None
    assert not hasattr(module, "start_thread_soon")
