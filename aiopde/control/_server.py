"""The kernel's side: accepts connections, and answers requests beside each other."""

from __future__ import annotations

import os
import select
from contextlib import AsyncExitStack, suppress
from errno import EAGAIN, EMSGSIZE
from typing import TYPE_CHECKING, Final, final

import anyio

from aiopde._errors import error
from aiopde._kernel import Kernel
from aiopde._trace import logger

from ._methods import Session
from ._mounts import Mounts
from ._place import default_socket, listening, make_private, peer_of, refuse_stranger
from ._stream import accept
from ._views import Looks
from ._wire import MAX_REPLY, MAX_REQUEST, Lines, decode, encode, id_of, parse_request, tell_error

if TYPE_CHECKING:
    import socket

    from anyio.abc import TaskGroup, TaskStatus

    from ._stream import Stream
    from ._wire import Message, Request

MAX_IN_FLIGHT: Final = 64
"""Requests of one connection that run beside each other."""
_REST: Final = 0.1  # seconds


async def serve_control(
    kernel: Kernel,
    path: str | os.PathLike[str] | None = None,
    mounts: Mounts | None = None,
    *,
    task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """
    Answer whoever connects to the control socket, until cancelled.

    Start it in a task group that the kernel is inside of, so that it can tell what the kernel
    waits for also while that is left. A checkpoint. Cancelled, it cancels the requests, closes the
    files of its clients, and removes the socket.

    Args:
        kernel: An entered :class:`Kernel`.
        path: Where the socket is to be; by default where clients of this user look for it,
            see :func:`default_socket`.
        mounts: What clients mount the tree by; by default it has its own, and what they have
            mounted is unmounted when this ends.
        task_status: Told the path once clients can connect.

    Raises:
        OSError: ``EADDRINUSE``: a kernel is running there (a socket that nobody listens on is
            replaced); ``EEXIST``: there is something else than a socket; ``EPERM``: the folder
            of the default path is not this user's alone; ``EAGAIN``: another kernel is just
            starting there; ``ENAMETOOLONG``; those of making a file.
        TypeError: *kernel* is no :class:`Kernel`, or *mounts* no :class:`Mounts`.
        ValueError: *mounts* mount another tree.
    """
    await anyio.lowlevel.checkpoint()
    _check_kernel(kernel, mounts)
    place = _prepare(path)
    looks, began = Looks(), anyio.current_time()
    with listening(place) as listener:
        async with AsyncExitStack() as stack:
            if mounts is None:
                mounts = await stack.enter_async_context(Mounts(kernel.proc))
            tg = await stack.enter_async_context(anyio.create_task_group())
            task_status.started(place)
            while True:
                stream = await _accept(listener)
                tg.start_soon(_serve, stream, Session(kernel, mounts, looks, began))


def _check_kernel(kernel: object, mounts: object) -> None:
    if not isinstance(kernel, Kernel):
        msg = f"serve_control() wants a Kernel, not {kernel!r:.60}"
        raise TypeError(msg)
    if mounts is None:
        return
    if not isinstance(mounts, Mounts):
        msg = f"mounts are a Mounts, as Mounts(kernel.proc), not {mounts!r:.60}"
        raise TypeError(msg)
    if mounts.proc is not kernel.proc:
        msg = f"these mounts are of {mounts.proc!r}, which is not the kernel's: Mounts(kernel.proc)"
        raise ValueError(msg)


def _prepare(path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        return os.path.abspath(path)
    place = default_socket()
    make_private(os.path.dirname(place))
    return place


async def _accept(listener: socket.socket) -> Stream:
    while True:
        try:
            return await accept(listener)
        except OSError as exc:  # no more descriptors: those who are connected go on
            logger.warning("the control socket takes nobody in: %s", exc)
            await anyio.sleep(_REST)


async def _serve(stream: Stream, session: Session) -> None:
    connection = _Connection(stream, session)
    async with stream:
        try:
            await connection.serve()
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close_files()


@final
class _Connection:
    """One client: reads its requests, and answers each in a task of its own."""

    def __init__(self, stream: Stream, session: Session) -> None:
        self._stream = stream
        self._session = session
        self._peer = peer_of(stream.socket)
        self._in_flight = 0
        # A reply is one line, also if it goes out in pieces.
        self._sending = anyio.Lock()

    async def serve(self) -> None:
        """Serve until the client has gone."""
        try:
            refuse_stranger(self._peer)
        except OSError as exc:
            await self._send({"id": None, "error": tell_error(exc)})
            return
        async with anyio.create_task_group() as tg:
            await self._read_requests(tg)
            await self._wait_hung_up()
            tg.cancel_scope.cancel()

    async def close_files(self) -> None:
        """Close what the client has left open; it is gone, and the log is told of errors."""
        try:
            await self._session.aclose()
        except ExceptionGroup as exc:
            logger.warning("%s", exc, exc_info=exc)

    async def _read_requests(self, tg: TaskGroup) -> None:
        lines = Lines(MAX_REQUEST)
        while data := await self._stream.receive():
            for line in lines.feed(data):
                await self._begin(line, tg)

    async def _wait_hung_up(self) -> None:
        """Let requests go on of who will send no more, as long as he is there to read."""
        poll = select.poll()
        poll.register(self._stream.socket, 0)
        # No loop can wait for a hang-up alone.
        while self._in_flight and not poll.poll(0):  # noqa: ASYNC110
            await anyio.sleep(_REST)

    async def _begin(self, line: bytes | None, tg: TaskGroup) -> None:
        message: Message = {}
        try:
            if line is None:
                raise error(EMSGSIZE, "", f"a request has at most {MAX_REQUEST} bytes")
            message = decode(line)
            request = parse_request(message)
            if self._in_flight >= MAX_IN_FLIGHT:
                raise error(EAGAIN, "", f"{MAX_IN_FLIGHT} requests are running: await some")
        except OSError as exc:
            await self._send({"id": id_of(message), "error": tell_error(exc)})
            return
        self._in_flight += 1
        tg.start_soon(self._answer, request, name=f"control pid {self._peer.pid}")

    async def _answer(self, request: Request) -> None:
        try:
            result = await self._session.call(request.method, request.params)
            reply: Message = {"id": request.id, "result": result}
        except Exception as exc:  # whatever a module does, it is its caller who is told
            reply = {"id": request.id, "error": tell_error(exc)}
        await self._send(reply)
        # Not before: who waits for the last one would hang up then.
        self._in_flight -= 1

    async def _send(self, message: Message) -> None:
        line = encode(message)
        if len(line) > MAX_REPLY:
            exc = error(EMSGSIZE, "", f"the reply has {len(line)} bytes: ask for less")
            line = encode({"id": message["id"], "error": tell_error(exc)})
        async with self._sending:
            # Who reads the requests is told so too.
            with suppress(ConnectionError):
                await self._stream.send(line)
