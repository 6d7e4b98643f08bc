"""One conversation with the kernel: read requests, have them answered, reply."""

from __future__ import annotations

import os
import sys
from errno import EINTR, EIO, ENODEV, ENOENT, ENOSYS, ENOTCONN, EPROTO
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
from anyio import CancelScope, wait_readable

from aiopde._trace import logger

from ._protocol import (
    IN_HEADER,
    INIT_IN,
    INIT_OUT,
    INTERRUPT_IN,
    MAJOR,
    MAX_PAGES,
    MAX_REQUEST,
    MAX_WRITE,
    MINOR,
    MINOR_AT_LEAST,
    OUT_HEADER,
    Init,
    Opcode,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import FrameType

    from anyio.abc import TaskGroup

    from ._operations import Operation

_WANTED: Final = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC
    | Init.BIG_WRITES
    | Init.ASYNC_DIO
    | Init.PARALLEL_DIROPS
    | Init.MAX_PAGES
)
# Of those nobody waits for (releases, and reads by io_uring and the like), so many may be under
# way before the kernel holds back others: any number of handlers may block.
_MAX_BACKGROUND: Final = 0xFFFF
# After so many requests that were there already, other tasks have their turn.
_BATCH: Final = 64
# The kernel takes no larger errno; what is above is for its own use.
_LAST_ERRNO: Final = 511


# What runs handlers: no more so, once the mount is about to go.
_CALLS: Final = (
    Opcode.OPEN,
    Opcode.READ,
    Opcode.WRITE,
    Opcode.LSEEK,
    Opcode.POLL,
    Opcode.IOCTL,
)


def _gone(nodeid: int, body: memoryview) -> bytes:
    raise OSError(ENOTCONN, os.strerror(ENOTCONN))


@final
class Waiting:
    """
    The rest of a coroutine that has come to its first wait; await it to go on.

    It tells its frames like any coroutine, for :func:`holders` and for debuggers.
    """

    __slots__ = ("_coroutine", "_first", "_started", "pid", "unique")

    def __init__(
        self, unique: int, pid: int, coroutine: Coroutine[Any, Any, bytes], first: Any
    ) -> None:
        self.unique = unique
        self.pid = pid
        self._coroutine: Any = coroutine
        self._first = first
        self._started = False

    @property
    def cr_frame(self) -> FrameType | None:
        """The frame of the coroutine."""
        frame: FrameType | None = self._coroutine.cr_frame
        return frame

    @property
    def cr_await(self) -> Any:
        """What the coroutine awaits."""
        return self._coroutine.cr_await

    def __await__(self) -> Generator[Any, Any, bytes]:
        return cast("Generator[Any, Any, bytes]", self)

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        if self._started:
            return self._coroutine.send(value)
        self._started = True
        return self._first

    def throw(self, *exc: Any) -> Any:
        return self._coroutine.throw(*exc)

    def close(self) -> None:
        self._coroutine.close()


def _name_task(name: str) -> None:
    """Name the running task anew, which anyio has no way to."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        trio.lowlevel.current_task().name = name
    else:
        sys.modules["asyncio"].current_task().set_name(name)


@final
class Session:
    """
    Reads requests from /dev/fuse and answers them, until the mount is gone.

    One task reads. It runs each handler itself, up to its first wait: most answers need none, and
    so no task of their own. When one does wait, that task stays with it, as it must (what waits
    belongs to the task it began in), and a new one reads on. So there are as many tasks as there
    are calls that wait, and one more.

    An interrupt, which the kernel sends when the caller gets a signal, cancels the task's scope.

    Args:
        fd: The device, not blocking.
        table: What answers each kind of request.
        tasks: Where :meth:`run` was started, and its successors will be.
        ended: Set once the mount is gone.
    """

    def __init__(
        self, fd: int, table: dict[int, Operation], tasks: TaskGroup, ended: anyio.Event
    ) -> None:
        self.inside: dict[int, CancelScope] = {}
        """The calls that wait, by the number the kernel gave them."""
        # Set once kernel and server have agreed on the protocol, or have not, and why.
        self._ready = anyio.Event()
        self._refused: OSError | None = None
        self._leaving = False
        self._fd = fd
        self._tasks = tasks
        self._ended = ended
        self._buffer = bytearray(MAX_REQUEST)
        self._buffers = [self._buffer]
        self._view = memoryview(self._buffer)
        self._table = {**table, Opcode.INIT: self._init, Opcode.INTERRUPT: self._interrupt}

    async def agreed(self) -> None:
        """
        Wait until kernel and server have agreed on the protocol.

        Raises:
            OSError: ``EPROTO``: they cannot.
        """
        await self._ready.wait()
        if self._refused is not None:
            raise self._refused

    async def run(self) -> None:
        """Read and answer requests; stay with the first one that waits."""
        waiting: Waiting | None = None
        with CancelScope() as scope:
            waiting = await self._read_on()
            if waiting is None:
                self._ended.set()
                return
            self._tasks.start_soon(self.run, name="aiopde fuse")
            self.inside[waiting.unique] = scope
            # For ps and holders(). A release is nobody's any more: the kernel says 0.
            _name_task(f"fuse pid {waiting.pid}" if waiting.pid else "fuse release")
            try:
                await self._stay(waiting)
            finally:
                del self.inside[waiting.unique]
        if scope.cancelled_caught and waiting is not None:
            self._refuse(waiting.unique, ENOTCONN if self._leaving else EINTR)

    def leave(self) -> None:
        """Fail the calls that wait, and those to come, with ``ENOTCONN``; answer the rest."""
        self._leaving = True
        self._table.update(dict.fromkeys(_CALLS, _gone))
        for scope in self.inside.values():
            scope.cancel()

    async def _stay(self, waiting: Waiting) -> None:
        try:
            answer = await waiting
        except Exception as exc:
            self._fail(waiting.unique, exc)
        else:
            self._reply(waiting.unique, answer)

    async def _read_on(self) -> Waiting | None:
        """Answer requests until one waits, and return that; None: there will be no more."""
        while True:
            for _ in range(_BATCH):
                try:
                    size = os.readv(self._fd, self._buffers)
                except BlockingIOError:
                    break
                except OSError as exc:
                    if exc.errno == ENODEV:
                        return None
                    if exc.errno == ENOENT:  # its caller was killed while we read it
                        continue
                    raise
                waiting = self._serve(size)
                if waiting is not None:
                    return waiting
            await wait_readable(self._fd)

    def _serve(self, size: int) -> Waiting | None:
        """Answer the request in the buffer, or begin to."""
        _, opcode, unique, nodeid, _, _, pid, _ = IN_HEADER.unpack_from(self._buffer)
        operation = self._table.get(opcode)
        if operation is None:
            self._refuse(unique, ENOSYS)
            return None
        try:
            answer = operation(nodeid, self._view[IN_HEADER.size : size])
            if answer is None:
                return None
            if not isinstance(answer, bytes):
                return Waiting(unique, pid, answer, answer.send(None))
        except StopIteration as result:
            answer = result.value
        except Exception as exc:
            self._fail(unique, exc)
            return None
        self._reply(unique, answer)
        return None

    def _reply(self, unique: int, body: bytes) -> None:
        self._send(OUT_HEADER.pack(OUT_HEADER.size + len(body), 0, unique), body)

    def _refuse(self, unique: int, errno: int) -> None:
        self._send(OUT_HEADER.pack(OUT_HEADER.size, -errno, unique), b"")

    def _fail(self, unique: int, exc: Exception) -> None:
        if isinstance(exc, OSError) and exc.errno and 0 < exc.errno <= _LAST_ERRNO:
            self._refuse(unique, exc.errno)
            return
        # A caller in another process cannot be shown a traceback, so it goes to the log.
        logger.error("a handler failed, and its caller got EIO", exc_info=exc)
        self._refuse(unique, EIO)

    def _send(self, header: bytes, body: bytes) -> None:
        try:
            os.writev(self._fd, (header, body))
        except OSError as exc:
            # Its caller has been let go, by an abort, or the mount is gone.
            if exc.errno not in {ENOENT, ENODEV}:
                raise

    # -- the protocol's own requests --------------------------------------------------------------

    def _init(self, nodeid: int, body: memoryview) -> bytes:
        major, minor, readahead, flags = INIT_IN.unpack_from(body)
        self._ready.set()
        if major != MAJOR or minor < MINOR_AT_LEAST:
            why = f"the kernel speaks FUSE {major}.{minor}, and {MAJOR}.{MINOR_AT_LEAST} is needed"
            self._refused = OSError(EPROTO, why)
            raise self._refused
        background = (_MAX_BACKGROUND, _MAX_BACKGROUND * 3 // 4)
        agreed = (MAJOR, min(minor, MINOR), readahead, flags & _WANTED)
        return INIT_OUT.pack(*agreed, *background, MAX_WRITE, 1, MAX_PAGES)

    def _interrupt(self, nodeid: int, body: memoryview) -> None:
        (unique,) = INTERRUPT_IN.unpack_from(body)
        scope = self.inside.get(unique)
        if scope is not None:  # else it has been answered meanwhile
            scope.cancel()
