"""What goes over the socket: lines of JSON, and errors as part of them. No I/O."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, fields
from errno import EBADMSG, EIO
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast, final

import aiopde
from aiopde import Holder, RemovalTimeoutError
from aiopde._errors import error

if TYPE_CHECKING:
    from collections.abc import Mapping

    Message = dict[str, Any]

MAX_REQUEST: Final = 1 << 20
"""Bytes in the longest line to the kernel."""
MAX_REPLY: Final = 16 << 20
"""Bytes in the longest line from it."""
_NOT_THEIRS: Final = (str(Path(aiopde.__file__).parent), contextlib.__file__, "<frozen ")
"""What the file names of code begin with that no module's author has written."""


@final
class Lines:
    """
    Cuts what comes in pieces into lines, and keeps no more than *limit* bytes of one.

    Args:
        limit: Bytes in a line, without its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the lines that end in *data*, and None for each that gets too long in it."""
        found: list[bytes | None] = []
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._add(end, found)
            if not self._skipping:
                found.append(bytes(self._rest))
            self._rest.clear()
            self._skipping = False
        self._add(rest, found)
        return found

    def _add(self, piece: bytes, found: list[bytes | None]) -> None:
        if self._skipping:
            return
        self._rest += piece
        if len(self._rest) > self._limit:
            self._rest.clear()
            self._skipping = True
            found.append(None)


def encode(message: Mapping[str, Any]) -> bytes:
    """Make a line of a message. Names that are no text survive: JSON escapes what they become."""
    try:
        return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as exc:
        msg = f"a message is made of text, finite numbers, lists and dicts by text: {exc}"
        raise TypeError(msg) from None


def decode(line: bytes) -> Message:
    """
    Read a line.

    Raises:
        OSError: ``EBADMSG``: it is no JSON object.
    """
    try:
        message = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError among them
        raise error(EBADMSG, "", f"no JSON: {str(exc) or type(exc).__name__:.100}") from None
    if not isinstance(message, dict):
        raise error(EBADMSG, "", f"a message is a JSON object, not {message!r:.40}")
    return cast("Message", message)


def _refuse_constant(name: str) -> NoReturn:
    msg = f"{name} is no number"
    raise ValueError(msg)


@final
@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants."""

    id: int | str | None
    method: str
    params: Message


def parse_request(message: Message) -> Request:
    """
    Take a message for a request.

    Raises:
        OSError: ``EBADMSG``: it is none.
    """
    method, params = message.get("method"), message.get("params", {})
    if not isinstance(method, str):
        raise error(EBADMSG, "", f"a request has a method, a string, not {method!r:.40}")
    if not isinstance(params, dict):
        raise error(EBADMSG, method, f"params are an object, not {params!r:.40}")
    unknown = message.keys() - {"id", "method", "params"}
    if unknown:
        raise error(EBADMSG, method, f"a request has no {min(unknown)!r:.40}")
    return Request(id_of(message), method, cast("Message", params))


def id_of(message: Message) -> int | str | None:
    """Return the id of a request, and None for what can be none."""
    found = message.get("id")
    if isinstance(found, (int, str)) and not isinstance(found, bool):
        return found
    return None


# -- errors -------------------------------------------------------------------------------------


@final
class RemoteError(Exception):
    """
    An error that is no OSError, as the kernel's program tells it.

    Args:
        kind: The name of its class there.
        message: What it said.
        where: Which line raised it, as ``"hello.py:3 in module_main"``; "" if that is not known.
    """

    def __init__(self, kind: str, message: str, where: str = "") -> None:
        super().__init__(kind, message, where)
        self.kind = kind
        self.message = message
        self.where = where

    def __str__(self) -> str:
        text = f"{self.kind}: {self.message}" if self.message else self.kind
        return f"{text} ({self.where})" if self.where else text


def tell_error(exc: BaseException) -> Message:
    """Turn an error into what goes over the socket."""
    told: Message = {"class": type(exc).__name__, "message": str(exc)}
    if isinstance(exc, OSError) and exc.errno is not None:
        told |= {"errno": exc.errno, "message": exc.strerror or "", "path": _text(exc.filename)}
    elif isinstance(exc, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exc)
        told |= {"message": group.message, "errors": [tell_error(e) for e in group.exceptions]}
    else:
        told["where"] = _where(exc)
    if isinstance(exc, RemovalTimeoutError):
        told |= {"seconds": exc.seconds, "holders": [asdict(holder) for holder in exc.holders]}
    return told


def _text(filename: object) -> str | None:
    return str(filename) if filename else None


def _where(exc: BaseException) -> str:
    """Find the line of a module, or of what it calls, at which it was raised."""
    steps = [(frame.f_code, line) for frame, line in walk_tb(exc.__traceback__)]
    theirs = [step for step in steps if not step[0].co_filename.startswith(_NOT_THEIRS)]
    if not theirs:
        return ""
    code, line = theirs[-1]
    return f"{code.co_filename}:{line} in {code.co_name}"


def make_error(told: Message) -> Exception:
    """Make an error of what came over the socket: the one that a call in place would raise."""
    if "errors" in told:
        return ExceptionGroup(told["message"], [make_error(each) for each in told["errors"]])
    if "holders" in told:
        return RemovalTimeoutError(told["path"], told["seconds"], _holders(told["holders"]))
    if "errno" in told:
        return OSError(told["errno"], told["message"], told["path"])
    return RemoteError(told["class"], told["message"], told.get("where", ""))


def _holders(told: list[Message]) -> tuple[Holder, ...]:
    names = [each.name for each in fields(Holder)]
    known = [{name: holder[name] for name in names} for holder in told]
    make: Any = Holder
    return tuple(make(**holder | {"stack": tuple(holder["stack"])}) for holder in known)


def broken(path: str) -> OSError:
    """Make the error for a kernel that went away with a request."""
    return error(EIO, path, "the kernel has gone before it answered")
