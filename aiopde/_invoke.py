"""Runs a handler of an open file, and refuses what it must not return (pde_read and its like)."""

from __future__ import annotations

import inspect
from errno import EIO
from typing import TYPE_CHECKING, Any, cast

import anyio

from ._errors import HandlerError, error
from ._kinds import KillableEntry
from ._trace import emit, sinks

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._open_file import File


async def run(file: File, op: str, *args: Any) -> Any:
    """Call a handler that is there, plain or not."""
    if sinks or file.entry.killable:
        return await _run_watched(file, op, *args)
    ops = file.entry.ops
    result = getattr(ops, op)(file, *args)
    return await result if op in ops._awaited else result


async def _run_watched(file: File, op: str, *args: Any) -> Any:
    entry = file.entry
    if sinks:
        emit("enter", entry.path, op)
    try:
        result = getattr(entry.ops, op)(file, *args)
        if op not in entry.ops._awaited:
            return result
        if isinstance(entry, KillableEntry) and op != "release":
            return await _run_killable(entry, result)
        return await result
    finally:
        if sinks:
            emit("leave", entry.path, op)


async def _run_killable(entry: KillableEntry, handler: Awaitable[object]) -> object:
    with anyio.CancelScope() as scope:
        entry._scopes.add(scope)
        try:
            return await handler
        finally:
            entry._scopes.discard(scope)
    why = "the call was cancelled, as the grace of the entry's removal has ended"
    raise error(EIO, entry.path, why)


async def run_open(file: File) -> None:
    """Run the open handler, which is there."""
    result = await run(file, "open")
    if result is not None and result != 0:
        raise nonsense(file, "open", result, "None")


async def read_at_position(file: File, size: int) -> bytes:
    """Run the read handler once more for a call that has taken the position."""
    data = await run(file, file.entry.ops._reader_name, size, file.pos)
    file.pos += len(checked_bytes(file, data, size))
    return cast("bytes", data)


async def write_at_position(file: File, data: bytes) -> int:
    """Run the write handler once more for a call that has taken the position."""
    taken = checked_count(file, await run(file, "write", data, file.pos), len(data))
    file.pos += taken
    return taken


def checked_bytes(file: File, data: object, size: int) -> bytes:
    """Return what a read handler returned, if it is what it must be."""
    if type(data) is not bytes or len(data) > size:
        raise nonsense(file, "read", data, f"0 to {size} bytes")
    return data


def checked_count(file: File, taken: object, size: int) -> int:
    """Return what a write handler returned, if it is what it must be."""
    if type(taken) is not int or not 0 <= taken <= size:
        raise nonsense(file, "write", taken, f"how many bytes it took, 0 to {size}")
    return taken


def nonsense(file: File, op: str, got: object, want: str) -> HandlerError:
    """Make the error of a handler that returned what no caller can use."""
    ops = file.entry.ops
    if op == "read":
        op = ops._reader_name
    handler = getattr(ops, op)
    if inspect.iscoroutine(got):  # nobody has awaited it
        got.close()
        want = f"{want} (is it an async function behind a plain one?)"
    name = getattr(handler, "__qualname__", repr(handler))
    why = f"the {op} handler {name} returned {got!r:.100}: it must return {want}"
    return HandlerError(op, file.entry.path, why)
