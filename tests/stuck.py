"""An entry with a call inside that stays there: for the tests of who waits, and for how long."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from anyio import CancelScope, create_task_group

from aiopde import ProcDirEntry, ProcFile, ProcFS, RemovalTimeoutError
from tests.helpers import Call, Handlers, all_blocked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Use = Callable[[ProcFS, ProcFile], Awaitable[object]]

GRACE = 0.02
OPS = ("open", "read", "write", "lseek", "poll", "ioctl", "compat_ioctl", "mmap", "release")
CALLS: dict[str, tuple[str, Use]] = {
    "open": ("open", lambda proc, _: proc.open("x")),
    "read": ("read", lambda _, file: file.read()),
    "pread": ("read", lambda _, file: file.pread(1, 0)),
    "readv": ("read", lambda _, file: file.readv([1])),
    "write": ("write", lambda _, file: file.write(b"x")),
    "pwrite": ("write", lambda _, file: file.pwrite(b"x", 0)),
    "lseek": ("lseek", lambda _, file: file.lseek(0)),
    "poll": ("poll", lambda _, file: file.poll()),
    "poll that waits": ("poll", lambda _, file: file.poll(timeout=None)),
    "ioctl": ("ioctl", lambda _, file: file.ioctl(100)),
    "compat_ioctl": ("compat_ioctl", lambda _, file: file.compat_ioctl(100)),
    "mmap": ("mmap", lambda _, file: file.mmap(1)),
    "read_bytes, opening": ("open", lambda proc, _: proc.read_bytes("x")),
    "read_bytes": ("read", lambda proc, _: proc.read_bytes("x")),
    "write_bytes": ("write", lambda proc, _: proc.write_bytes("x", b"x")),
}


class Stuck:
    """An entry with a call inside, which stays there until it is let go."""

    def __init__(self, proc: ProcFS, handlers: Handlers, entry: ProcDirEntry) -> None:
        self.proc = proc
        self.handlers = handlers
        self.entry = entry
        self.reader: Call[bytes]
        self._held = True

    def let_go(self) -> None:
        """Let all calls that are stuck go on; once is enough."""
        if self._held:
            self._held = False
            self.handlers.let_go("read")


@asynccontextmanager
async def stuck(killable: bool = False, **how: Any) -> AsyncGenerator[Stuck]:
    """A tree with such an entry, and its reader, called "reader"."""
    handlers = Handlers()
    handlers.hold_up("read")
    async with ProcFS(**how) as proc, create_task_group() as tg:
        entry = proc.create("x", handlers.ops("read", "release"), killable=killable)
        it = Stuck(proc, handlers, entry)
        it.reader = Call((await proc.open("x")).read)
        tg.start_soon(it.reader.run, name="reader")
        await all_blocked()
        try:
            yield it
        finally:
            it.let_go()


def tasks_and_ops(exc: RemovalTimeoutError) -> list[tuple[str, str]]:
    return [(holder.task, holder.op) for holder in exc.holders]


async def begin(entry: ProcDirEntry, how: str) -> None:
    """Begin a removal that nobody awaits, or none."""
    match how:
        case "cancelled":
            with CancelScope() as scope:
                scope.cancel()
                await entry.remove()
        case "timed out":
            with pytest.raises(RemovalTimeoutError):
                await entry.remove(grace=0)
        case "remove_self":
            entry.remove_self()
        case _:
            pass
