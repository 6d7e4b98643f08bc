"""The other side: asks one thing after the other."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import ECONNREFUSED, ENOENT, ENOTSOCK
from itertools import count
from typing import TYPE_CHECKING, Any, Final, final

import anyio
from anyio.abc import AsyncResource

from aiopde._errors import error

from ._place import check_length, check_private, default_socket
from ._stream import connect_to
from ._wire import MAX_REPLY, Lines, broken, decode, encode, make_error

if TYPE_CHECKING:
    from ._stream import Stream
    from ._wire import Message

NOBODY: Final = "no kernel is running there: start one with 'aiopde run'"
"""What is said where nobody listens."""


async def connect(path: str | os.PathLike[str] | None = None) -> Client:
    """
    Connect to a kernel's control socket. A checkpoint.

    Args:
        path: Where the socket is; by default where a kernel of this user has it.

    Raises:
        OSError: ``ENOENT``, ``ECONNREFUSED``: no kernel is running there; ``EACCES``: it is
            somebody else's; ``EPERM``: others could have put it there; ``ENAMETOOLONG``.
    """
    place = os.fspath(path) if path is not None else default_socket()
    check_length(place)
    try:
        if path is None:
            check_private(os.path.dirname(place))
        return Client(await connect_to(place), place)
    except OSError as exc:
        if exc.errno in {ENOENT, ECONNREFUSED, ENOTSOCK}:
            raise error(exc.errno, place, NOBODY) from None
        raise


@final
class Client(AsyncResource):
    """
    A connection to a running kernel; made by :func:`connect`, an async context manager.

    Any task may ask, one at a time. What a client has asked for is taken back when it is closed.
    """

    def __init__(self, stream: Stream, path: str) -> None:
        self._stream = stream
        self._path = path
        self._turn = anyio.Lock()
        self._ids = count(1)
        self._lines = Lines(MAX_REPLY)
        self._replies: list[Message] = []

    async def ask(self, method: str, /, **params: Any) -> Any:
        """
        Ask for something, and return what comes back; the protocol says what there is.

        A checkpoint. Cancelled, it leaves the request running: close the client to take it back.

        Raises:
            OSError: What the kernel answered, if that is one, a :class:`RemovalTimeoutError` with
                its holders among them; ``EIO``: it went away before it did.
            ExceptionGroup: It was several.
            RemoteError: Any other error.
            TypeError: JSON has no words for a parameter.
        """
        async with self._turn:
            number = next(self._ids)
            await self._send({"id": number, "method": method, "params": params})
            reply = await self._receive()
            while reply["id"] not in {number, None}:  # of who was cancelled before it came
                reply = await self._receive()
        if "error" in reply:
            raise make_error(reply["error"])
        return reply["result"]

    async def aclose(self) -> None:
        """Hang up, which takes back what was asked for. A checkpoint; twice does nothing."""
        await self._stream.aclose()

    async def _send(self, message: Message) -> None:
        with suppress(ConnectionError):  # it may have said why before it went
            await self._stream.send(encode(message))

    async def _receive(self) -> Message:
        while not self._replies:
            data = await self._stream.receive()
            if not data:
                raise broken(self._path)
            self._replies += [decode(line or b"") for line in self._lines.feed(data)]
        return self._replies.pop(0)
