"""
Unix sockets that any loop can wait for.

Not anyio's streams: on asyncio, one of those logs an error when it is cancelled in the very step in
which data comes for it, as happens when a server and its clients end together. What waits below
is anyio's all the same.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final, final

import anyio
from anyio.abc import AsyncResource
from anyio.lowlevel import checkpoint

_PIECE: Final = 1 << 16
_REST: Final = 0.05  # seconds


@final
class Stream(AsyncResource):
    """A connection, of which one task reads and one task writes."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket: socket.socket = connection

    async def receive(self) -> bytes:
        """Return what has come, as soon as there is any; nothing when the other end has gone."""
        while True:
            await anyio.wait_readable(self.socket)
            with suppress(BlockingIOError):
                try:
                    return self.socket.recv(_PIECE)
                except ConnectionResetError:  # it did not read what we have sent
                    return b""

    async def send(self, data: bytes) -> None:
        """
        Send all of it. Cancelled, it has sent a part.

        Raises:
            ConnectionError: The other end has gone.
        """
        await checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self.socket)

    def send_eof(self) -> None:
        """Send no more."""
        self.socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Hang up."""
        self.socket.close()
        await checkpoint()


async def accept(listener: socket.socket) -> Stream:
    """
    Take in who connects next.

    Raises:
        OSError: There is no room for him, as ``EMFILE``; he goes on waiting.
    """
    while True:
        await anyio.wait_readable(listener)
        with suppress(BlockingIOError, ConnectionAbortedError):  # he went away again
            return Stream(listener.accept()[0])


async def connect_to(path: str) -> Stream:
    """
    Connect to the socket at *path*, or wait for a place in its queue.

    Raises:
        OSError: ``ENOENT``, ``ECONNREFUSED``, ``EACCES``, and so on.
    """
    await checkpoint()
    stream = Stream(socket.socket(socket.AF_UNIX))
    try:
        while True:
            with suppress(BlockingIOError):
                stream.socket.connect(path)
                return stream
            await anyio.sleep(_REST)
    except BaseException:
        stream.socket.close()
        raise
