"""What went wrong in a kernel, as a command tells it."""

from __future__ import annotations

from typing import cast

from aiopde.control import RemoteError
from aiopde.control._wire import make_error, tell_error

from ._errors import CommandError


class Failure(CommandError):
    """What the kernel refused, or code of a module failed at: exit code 1."""

    code = 1

    def __init__(self, error: Exception) -> None:
        super().__init__(describe(error))


def describe(error: Exception) -> str:
    """Say an error to a user: what it is about, and what is wrong, without the errno's number."""
    if isinstance(error, OSError) and error.strerror:
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror}"
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return f"{group.message}: {'; '.join(map(describe, group.exceptions))}"
    if isinstance(error, RemoteError):
        return str(error)
    # As if it came over the socket: with its class, and the line that raised it.
    return str(make_error(tell_error(error)))


def only_one(error: Exception) -> Exception:
    """Take an error out of the groups that it is alone in."""
    if not isinstance(error, ExceptionGroup):
        return error
    inner = cast("ExceptionGroup[Exception]", error).exceptions
    return only_one(inner[0]) if len(inner) == 1 else cast("Exception", error)
