"""
Handlers that start a task which runs at once, on top of them (asyncio.eager_task_factory).

Nothing can run beside a plain handler, so its calls are not counted and no removal waits for them.
A task that is started eagerly does run there: it must not release a file whose handler is to go on.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopde import File, ProcFS, ProcOps
from tests.helpers import state

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from aiopde import ProcDirEntry

    Call = Callable[[], Coroutine[Any, Any, None]]
    Start = Callable[[Call], object]
    Starting = Callable[[], Any]

eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="no task is eager before 3.12")
EAGER = ("eager_start", "factory")
fast = pytest.mark.parametrize("fast", [False, True], ids=["checkpoints", "fast"])


@pytest.fixture(
    params=[
        "start_soon",
        pytest.param("eager_start", marks=eager),
        pytest.param("factory", marks=eager),
    ]
)
def starting(request: pytest.FixtureRequest, anyio_backend: Any) -> Starting:
    """The ways in which a handler may start a task. Those of anyio are never eager."""
    name, options = anyio_backend
    if name == "trio" or request.param == "start_soon":
        return anyio_starts
    if options.get("use_uvloop") and (3, 13) <= sys.version_info < (3, 13, 3):  # pragma: no cover
        pytest.skip("eager_task_factory does not take what uvloop passes to it")
    return partial(asyncio_starts, factory=request.param == "factory")


@asynccontextmanager
async def anyio_starts() -> AsyncGenerator[Start]:
    async with anyio.create_task_group() as tg:
        yield tg.start_soon


@asynccontextmanager
async def asyncio_starts(*, factory: bool) -> AsyncGenerator[Start]:
    loop, tasks = asyncio.get_running_loop(), list[Any]()
    before = loop.get_task_factory()
    make = partial(vars(asyncio)["Task"], loop=loop, eager_start=True)
    if factory:
        loop.set_task_factory(vars(asyncio)["eager_task_factory"])
        make = partial(loop.create_task)
    try:
        yield lambda call: tasks.append(make(call()))
        await asyncio.gather(*tasks)
    finally:
        loop.set_task_factory(before)


class Handlers:
    """The plain handlers of an entry; one of them starts a task, and goes on."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.start: Callable[[str], object] = lambda op: None

    def _run(self, op: str) -> None:
        self.log.append(op)
        self.start(op)
        self.log.append(f"{op} is over")

    def read(self, file: File, size: int, pos: int) -> bytes:
        self._run("read")
        return b"data"

    def write(self, file: File, data: bytes, pos: int) -> int:
        self._run("write")
        return len(data)

    def release(self, file: File) -> None:
        self._run("release")


class NeverSuspends(Handlers):
    """... whose release handler is a coroutine function, and awaits nothing."""

    async def release(self, file: File) -> None:  # type: ignore[override]
        self._run("release")


RELEASE = ["release", "release is over"]


@fast
class TestRemoveInAHandler:
    @pytest.mark.parametrize("op", ["read", "write"])
    @pytest.mark.parametrize("above", [False, True], ids=["entry", "directory"])
    async def test_of_a_call(self, starting: Starting, op: str, *, above: bool, fast: bool) -> None:
        """
        The file is released after the handler that the removal was started in, and once.
        """
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc:
            directory = proc.mkdir("d")
            entry = proc.create("d/x", ProcOps.of(handlers))
            file = await proc.open("d/x", 2)
            async with starting() as start:
                remove = (directory if above else entry).remove
                handlers.start = lambda now: now == op and start(remove)
                await (file.read() if op == "read" else file.write(b"data"))
            assert handlers.log == [op, f"{op} is over", *RELEASE]
            assert (state(entry), file.closed) == ("gone", False)

    @pytest.mark.parametrize("kind", [Handlers, NeverSuspends])
    async def test_of_the_last_close(
        self, starting: Starting, kind: type[Handlers], *, fast: bool
    ) -> None:
        """
        What is being released by a close is not released again by a removal started in there.
        """
        handlers = kind()
        async with ProcFS(fast_acquire=fast) as proc:
            entry = proc.create("x", ProcOps.of(handlers))
            file = await proc.open("x")

            async def remove() -> None:
                await entry.remove()
                handlers.log.append("removed")

            async with starting() as start:
                handlers.start = lambda now: start(remove)
                await file.aclose()
            assert handlers.log == [*RELEASE, "removed"]

    @pytest.mark.parametrize("kind", [Handlers, NeverSuspends])
    async def test_of_the_removal_itself(
        self, starting: Starting, kind: type[Handlers], *, fast: bool
    ) -> None:
        """
        Joined from inside a release, a removal is over after that.
        """
        handlers = kind()
        async with ProcFS(fast_acquire=fast) as proc:
            entry = proc.create("x", ProcOps.of(handlers))
            await proc.open("x")

            async def join() -> None:
                await entry.remove()
                handlers.log.append("joined")

            async with starting() as start:
                handlers.start = lambda now: start(join)
                await entry.remove()
            assert handlers.log == [*RELEASE, "joined"]

    async def test_remove_self(self, starting: Starting, *, fast: bool) -> None:
        """
        remove_self() leaves the release for later, on whatever loop.
        """
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc, starting():
            entry = proc.create("x", ProcOps.of(handlers))
            file = await proc.open("x")
            handlers.start = lambda now: now == "read" and entry.remove_self()
            await file.read()
        assert handlers.log == ["read", "read is over", *RELEASE]


async def test_a_failing_release_is_told_to_who_removes(starting: Starting) -> None:
    """
    Left to the tree's task, a removal tells what release handlers raised, as ever.
    """
    told: list[BaseException] = []

    def release(file: File) -> None:
        raise ZeroDivisionError

    async def remove(entry: ProcDirEntry) -> None:
        try:
            await entry.remove()
        except ExceptionGroup as group:
            told.extend(group.exceptions)

    async with ProcFS() as proc, starting() as start:

        def read(file: File, size: int, pos: int) -> bytes:
            start(partial(remove, file.entry))
            return b""

        proc.create("x", ProcOps(read=read, release=release))
        await (await proc.open("x")).read()
    assert [type(exc) for exc in told] == [ZeroDivisionError]
