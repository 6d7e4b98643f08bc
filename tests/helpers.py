"""What several test files need: refusals, calls made by tasks, handlers that can be held up."""

from __future__ import annotations

import os
import select
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import pytest
from anyio import CancelScope, Event
from anyio.lowlevel import checkpoint

from aiopde import EntryRemovedError, ProcDirEntry, ProcFS, ProcOps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from anyio.abc import TaskGroup

    from aiopde import File, Holder, ProcFile, Stat

T = TypeVar("T")

SLACK = 3
"""Seconds that a busy machine may add to what is promised within a time."""


@contextmanager
def refused(errno: int) -> Generator[pytest.ExceptionInfo[OSError]]:
    """The block ends with an ``OSError`` of that errno."""
    with pytest.raises(OSError) as caught:
        yield caught
    assert caught.value.errno == errno


@contextmanager
def too_late(call: str, errno: int) -> Generator[None]:
    """The block ends with the refusal of *call* because of a removal."""
    with pytest.raises(EntryRemovedError) as caught:
        yield
    assert (caught.value.call, caught.value.errno) == (call, errno)


class Call(Generic[T]):
    """A call that a task of its own makes, and what came of it."""

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self._function = function
        self._results: list[T] = []
        self._scope = CancelScope()
        self.error: Exception | None = None
        self.done = False

    async def run(self) -> None:
        with self._scope:
            try:
                self._results.append(await self._function())
            except Exception as exc:  # for the test to ask for
                self.error = exc
        self.done = True

    @property
    def result(self) -> T:
        assert self.done
        if self.error is not None:
            raise self.error
        return self._results[0]

    @property
    def cancelled(self) -> bool:
        """Whether it ended by being cancelled."""
        return self.done and self._scope.cancelled_caught

    def cancel(self) -> None:
        self._scope.cancel()


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what only time brings, however slow the machine is; what hangs is ended anyway."""
    while not condition():  # noqa: ASYNC110  there is no event of it
        await anyio.sleep(0.005)


async def all_blocked() -> None:
    """Return when no other task can go any further."""
    # On asyncio, anyio naps for 0.1 s whenever it finds a task that is not blocked yet.
    for _ in range(30):
        await checkpoint()
    await anyio.wait_all_tasks_blocked()


async def start(
    tg: TaskGroup, function: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any
) -> Call[T]:
    """Make a call in a new task; return when it can go no further."""
    call = Call(partial(function, *args, **kwargs))
    tg.start_soon(call.run)
    await all_blocked()
    return call


class Handlers:
    """
    Handlers that log each call as "op n", *n* being which open of the entry it is made on.

    A call of an op that is held up waits until that is let go; one that has an error raises it.
    """

    def __init__(self, content: bytes = b"content") -> None:
        self.content = content
        self.log: list[str] = []
        self.errors: dict[str, Exception] = {}
        self._opens = 0
        self._inside = 0
        self._gates: dict[str, Event] = {}

    def ops(self, *names: str, permanent: bool = False) -> ProcOps:
        """The table of the handlers that have these names."""
        handlers: dict[str, Any] = {name: getattr(self, name) for name in names}
        return ProcOps(**handlers, permanent=permanent)

    def hold_up(self, op: str) -> None:
        self._gates[op] = Event()

    def let_go(self, op: str) -> None:
        self._gates.pop(op).set()

    @property
    def busy(self) -> bool:
        """Whether a handler is running."""
        return self._inside > 0

    async def _enter(self, op: str, file: File) -> None:
        call = f"{op} {file.private_data}"
        self.log.append(call)
        self._inside += 1
        try:
            if op in self._gates:
                await self._gates[op].wait()
                self.log.append(f"{call} goes on")
            if op in self.errors:
                raise self.errors[op]
        finally:
            self._inside -= 1

    async def open(self, file: File) -> None:
        self._opens += 1
        file.private_data = self._opens
        await self._enter("open", file)

    async def read(self, file: File, size: int, pos: int) -> bytes:
        await self._enter("read", file)
        return self.content[pos : pos + size]

    async def read_iter(self, file: File, size: int, pos: int) -> bytes:
        await self._enter("read_iter", file)
        return self.content[pos : pos + size]

    async def write(self, file: File, data: bytes, pos: int) -> int:
        await self._enter("write", file)
        self.content = self.content[:pos].ljust(pos, b"\0") + data
        return len(data)

    async def lseek(self, file: File, offset: int, whence: int) -> int:
        await self._enter("lseek", file)
        return offset + whence

    async def poll(self, file: File) -> int:
        await self._enter("poll", file)
        return select.POLLIN | select.POLLPRI

    async def ioctl(self, file: File, cmd: int, arg: Any) -> int:
        await self._enter("ioctl", file)
        return cmd + int(arg)

    async def compat_ioctl(self, file: File, cmd: int, arg: Any) -> int:
        await self._enter("compat_ioctl", file)
        return cmd - int(arg)

    async def mmap(self, file: File, length: int, prot: int, flags: int) -> object:
        await self._enter("mmap", file)
        return (length, prot, flags)

    async def release(self, file: File) -> None:
        await self._enter("release", file)


def tree(proc: ProcFS) -> dict[str, Stat]:
    """Every path of the tree, with what stat says of it."""
    found: dict[str, Stat] = {}
    todo: list[ProcDirEntry] = [proc.root]
    while todo:
        entry = todo.pop()
        found[entry.path] = entry.stat()
        todo += entry._children
    return found


@contextmanager
def unchanged(proc: ProcFS) -> Generator[None]:
    """Whatever happens in the block leaves the tree as it was, and takes no inode number."""
    before, number = tree(proc), next_number(proc)
    yield
    assert tree(proc) == before
    assert next_number(proc) == number


def next_number(proc: ProcFS) -> int:
    """The inode number the next entry would get."""
    number = proc._inodes.take()
    proc._inodes.give_back(number)
    return number


def state(entry: ProcDirEntry) -> str:
    return entry.statistics().state


class Plain:
    """The same handlers as plain functions."""

    content = b"content"

    def read(self, file: File, size: int, pos: int) -> bytes:
        return self.content[pos : pos + size]

    read_iter = read

    def write(self, file: File, data: bytes, pos: int) -> int:
        self.content = self.content[:pos] + data
        return len(data)

    def lseek(self, file: File, offset: int, whence: int) -> int:
        return offset + whence

    def poll(self, file: File) -> int:
        return select.POLLIN | select.POLLPRI

    def ioctl(self, file: File, cmd: int, arg: Any) -> int:
        return cmd + int(arg)

    def compat_ioctl(self, file: File, cmd: int, arg: Any) -> int:
        return cmd - int(arg)

    def mmap(self, file: File, length: int, prot: int, flags: int) -> object:
        return (length, prot, flags)


@asynccontextmanager
async def opened(
    ops: ProcOps | None = None, flags: int = os.O_RDWR, **how: Any
) -> AsyncGenerator[ProcFile]:
    """An open file of an entry with these handlers, in a tree of its own."""
    async with ProcFS() as proc:
        proc.create("x", ops or ProcOps(), **how)
        async with await proc.open("x", flags) as file:
            yield file


def answering(**answers: Any) -> ProcOps:
    """A table whose handlers return these values, whatever is asked."""

    def handler(answer: Any) -> Any:
        async def answering_handler(*args: object) -> Any:
            return answer

        return answering_handler

    return ProcOps(**{op: handler(answer) for op, answer in answers.items()})


def failing(exc: BaseException, *names: str) -> ProcOps:
    """A table whose handlers raise."""

    async def fail(*args: object) -> Any:
        raise exc

    handlers: dict[str, Any] = dict.fromkeys(names, fail)
    return ProcOps(**handlers)


class Busy:
    """An entry with a reader inside, who stays until it may go."""

    def __init__(self, proc: ProcFS, name: str, parent: ProcDirEntry | None = None) -> None:
        self.handlers = Handlers()
        ops = self.handlers.ops("open", "read", "release")
        self.proc = proc
        self.entry = proc.create(name, ops, parent=parent)
        self.log = self.handlers.log

    async def enter(self, tg: TaskGroup) -> None:
        self.handlers.hold_up("read")
        self.file = await self.proc.open(self.entry)
        self.reader = await start(tg, self.file.read)

    async def leave(self) -> None:
        self.handlers.let_go("read")
        await all_blocked()
        assert self.reader.result == b"content"

    @property
    def released(self) -> bool:
        return "release 1" in self.log


def ops_of(found: list[Holder]) -> list[tuple[str, str]]:
    return sorted((holder.path, holder.op) for holder in found)


def lines(holder: Holder) -> list[str]:
    """The functions of its stack, innermost first."""
    return [frame.rpartition(" in ")[2] for frame in holder.stack]
