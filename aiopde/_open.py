"""Opening an entry: its open handler; and all of a file at once (fs/open.c)."""

from __future__ import annotations

import os
from errno import EIO
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from ._descriptor import directory_class, handle_class
from ._errors import error
from ._file import new_descriptor
from ._invoke import read_at_position, run, run_open, write_at_position
from ._open_file import MAX_RW_COUNT, File, new_file, refuse
from ._ops import NO_OPS
from ._trace import emit, sinks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._entry import ProcDirEntry
    from ._file import ProcFile

_T = TypeVar("_T")

_OPEN_ONLY: Final = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC


async def open_entry(entry: ProcDirEntry, flags: int) -> ProcFile:
    """
    Open an entry found and allowed: run its open handler, then make the file.

    The record that removal will see is linked before the open leaves the guard. So an open that
    is inside when removal begins, and succeeds, is released by that removal: the caller then gets
    a file that is dead on arrival. Nothing is awaited after the handler, so what has succeeded
    cannot be lost to a cancellation.

    Linux: ``proc_reg_open``.
    """
    flags &= ~_OPEN_ONLY
    if entry.ops is NO_OPS or flags & os.O_PATH:
        entry._add_holder()  # nothing to shut, nothing to release
        return new_descriptor(directory_class(entry, flags), new_file(entry, flags))
    if entry._in_use < 0:
        raise refuse("open", entry)
    file = new_file(entry, flags)
    if entry.ops.open is None:
        entry._add_file(file)
    else:
        entry._in_use += 1
        try:
            await run_open(file)
            entry._add_file(file)
        finally:
            entry.unuse()
    if sinks:
        emit("open", entry.path)
    return new_descriptor(handle_class(entry, flags), file)


def read_entry(entry: ProcDirEntry) -> Awaitable[bytes]:
    """Open, read to the end and release, inside the guard all the time."""
    return _at_once(entry, "read", os.O_RDONLY, _read_all)


def write_entry(entry: ProcDirEntry, data: bytes) -> Awaitable[None]:
    """Open, write everything and release, inside the guard all the time."""
    return _at_once(entry, "write", os.O_WRONLY, partial(_write_all, data=data))


async def _at_once(
    entry: ProcDirEntry, op: str, flags: int, work: Callable[[File], Awaitable[_T]]
) -> _T:
    # No record is needed: nobody sees the file who could leave it open. *op* is for holders().
    if not entry.use():
        raise refuse("open", entry)
    file = new_file(entry, flags)
    try:
        if entry.ops.open is not None:
            await run_open(file)
        try:
            return await work(file)
        finally:
            await _release_one_shot(file)
    finally:
        entry.unuse()


async def _read_all(file: File) -> bytes:
    if file.entry.ops._reader is None:
        raise file._refuse_absent("read", EIO)
    data = await read_at_position(file, MAX_RW_COUNT)
    chunks = [data]
    while data:
        data = await read_at_position(file, MAX_RW_COUNT)
        chunks.append(data)
    return b"".join(chunks)


async def _write_all(file: File, data: bytes) -> None:
    if file.entry.ops.write is None:
        raise file._refuse_absent("write", EIO)
    data = data[await write_at_position(file, data) :]
    while data:
        taken = await write_at_position(file, data)
        if not taken:
            why = f"the write handler takes no more, and left {len(data)} bytes"
            raise error(EIO, file.entry.path, why)
        data = data[taken:]


async def _release_one_shot(file: File) -> None:
    ops = file.entry.ops
    if ops._release_suspends:
        with anyio.CancelScope(shield=True):
            await run(file, "release")
    elif ops.release is not None:
        file._run_release_now()
