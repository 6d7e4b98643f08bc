"""
How descriptors read, write and seek: one function for each way it can be served (proc_reg_*).

Each is a method of some class of descriptors: which, is chosen once (see _descriptor.py).
"""

from __future__ import annotations

import os
from errno import EINVAL, EIO, ESPIPE
from typing import TYPE_CHECKING, Any

from ._check import check_int
from ._errors import bad_file
from ._flags import readable, writable
from ._invoke import (
    checked_bytes,
    checked_count,
    nonsense,
    read_at_position,
    run,
    write_at_position,
)
from ._open_file import DEFAULT_SIZE, MAX_RW_COUNT, check_size, no_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._file import ProcFile
    from ._open_file import File


# The hot path, written out: a helper, a context manager or a decorator would each cost more
# than the guard itself. One attribute tells a file nobody is inside of (0) from one that is
# busy or going away, and leaving is as cheap as long as nobody else came meanwhile. One shift
# tells the sizes below 2**30 from what goes the long way: more, less than 0, and what is no int,
# which cannot be shifted. (To compare with both limits takes 5 % longer, and lets a float pass. A
# slot for the reader in each file takes 3 % off, for 8 bytes more; a function made for each file,
# 8 %, for some 200.)
async def read(self: ProcFile, size: int = DEFAULT_SIZE) -> bytes:
    """Run a coroutine function."""
    file = self._file
    try:
        if file._in_use or size >> 30:
            size = await file._take_position("read", size)
        else:
            file._in_use = 1
    except TypeError:  # of a size that is no number, here or in _take_position()
        raise no_size("read", size) from None
    try:
        data: bytes = await file.entry.ops._reader(file, size, file.pos)
        if type(data) is not bytes or (count := len(data)) > size:
            raise nonsense(file, "read", data, f"0 to {size} bytes")
        file.pos += count
    finally:
        if file._in_use == 1:
            file._in_use = 0
        elif file._leave_position():
            await file._release_late()
    return data


# The long way, for calls that may be killed: those run in a cancel scope of their own.
async def read_run(self: ProcFile, size: int = DEFAULT_SIZE) -> bytes:
    """Run any handler, in the way that has tracepoints too."""
    file = self._file
    size = await file._take_position("read", size)
    try:
        return await read_at_position(file, size)
    finally:
        await file._leave_position_and_release()


# Nothing can run beside a plain function, so it needs to be let in, but not to be counted.
async def read_plain(self: ProcFile, size: int = DEFAULT_SIZE) -> bytes:
    """Call a plain function."""
    file = self._file
    try:
        if file._in_use or size >> 30:
            return await read_run(self, size)
    except TypeError:
        check_size("read", size)
        raise  # it is the handler's
    data: bytes = file.entry.ops._reader(file, size, file.pos)
    if type(data) is not bytes or (count := len(data)) > size:
        raise nonsense(file, "read", data, f"0 to {size} bytes")
    file.pos += count
    return data


async def read_absent(self: ProcFile, size: int = DEFAULT_SIZE) -> bytes:
    """Refuse: there is no such handler."""
    raise self._file._refuse_absent("read", EIO)


async def read_bad(self: ProcFile, size: int = DEFAULT_SIZE) -> bytes:
    """Refuse: it is not open for that."""
    raise bad_file("read")


async def write(self: ProcFile, data: bytes) -> int:
    """Run a coroutine function."""
    if type(data) is not bytes:
        data = as_bytes(data)
    file = self._file
    if file._in_use:
        await file._take_position("write")
    else:
        file._in_use = 1
    try:
        taken: int = await file.entry.ops._writer(file, data, file.pos)
        if type(taken) is not int or not 0 <= taken <= len(data):
            raise nonsense(file, "write", taken, f"how many bytes it took, 0 to {len(data)}")
        file.pos += taken
    finally:
        if file._in_use == 1:
            file._in_use = 0
        elif file._leave_position():
            await file._release_late()
    return taken


async def write_run(self: ProcFile, data: bytes) -> int:
    """Run any handler, in the way that has tracepoints too."""
    data = as_bytes(data)
    file = self._file
    await file._take_position("write")
    try:
        return await write_at_position(file, data)
    finally:
        await file._leave_position_and_release()


async def write_plain(self: ProcFile, data: bytes) -> int:
    """Call a plain function."""
    if type(data) is not bytes:
        data = as_bytes(data)
    file = self._file
    if file._in_use:
        return await write_run(self, data)
    taken: int = file.entry.ops._writer(file, data, file.pos)
    if type(taken) is not int or not 0 <= taken <= len(data):
        raise nonsense(file, "write", taken, f"how many bytes it took, 0 to {len(data)}")
    file.pos += taken
    return taken


async def write_absent(self: ProcFile, data: bytes) -> int:
    """Refuse: there is no such handler."""
    raise self._file._refuse_absent("write", EIO)


async def write_bad(self: ProcFile, data: bytes) -> int:
    """Refuse: it is not open for that."""
    raise bad_file("write")


async def pread(self: ProcFile, size: int, offset: int) -> bytes:
    """Read elsewhere than at the position."""
    self._live("pread")
    if type(size) is not int or type(offset) is not int:
        check_size("pread", size)
        check_int("offset", offset)
    if size < 0 or offset < 0:
        raise self._error(EINVAL, f"pread({size}, {offset}): both must be >= 0")
    file = _for_reading(self, "pread")
    if file.removing:
        raise file._refuse("pread")
    size = min(size, MAX_RW_COUNT)
    data = await file._call(file.entry.ops._reader_name, size, offset)
    return checked_bytes(file, data, size)


async def readv(self: ProcFile, sizes: Iterable[int]) -> list[bytes]:
    """Read into several buffers."""
    try:
        sizes = list(sizes)
    except TypeError:
        raise no_size("readv", sizes) from None
    for size in sizes:
        check_size("readv", size)
    file = _for_reading(self, "readv")
    if not any(sizes):
        return [b""] * len(sizes)
    await file._take_position("readv", min(sizes))
    try:
        if file.entry.ops.read_iter is not None:
            size = min(sum(sizes), MAX_RW_COUNT)
            return _split(await read_at_position(file, size), sizes)
        return await _read_each(file, sizes)
    finally:
        await file._leave_position_and_release()


async def pwrite(self: ProcFile, data: bytes, offset: int) -> int:
    """Write elsewhere than at the position."""
    data = as_bytes(data)
    self._live("pwrite")
    if type(offset) is not int:
        check_int("offset", offset)
    if offset < 0:
        raise self._error(EINVAL, f"pwrite(..., {offset}): the offset must be >= 0")
    file = _for_pwrite(self, "pwrite")
    if file.removing:
        raise file._refuse("pwrite")
    return checked_count(file, await file._call("write", data, offset), len(data))


async def lseek(self: ProcFile, offset: int, whence: int = os.SEEK_SET) -> int:
    """Set the position to what the handler says."""
    file = self._live("lseek")
    check_int("offset", offset)
    check_int("whence, as os.SEEK_SET,", whence)
    if not 0 <= whence <= os.SEEK_HOLE:
        raise self._error(EINVAL, f"no such whence: {whence}")
    if file.entry.ops.lseek is None:
        raise self._error(ESPIPE, "the file has no lseek handler")
    await file._take_position("lseek")
    try:
        pos = await run(file, "lseek", offset, whence)
        if type(pos) is not int or pos < 0:
            raise nonsense(file, "lseek", pos, "the new position, >= 0")
        file.pos = pos
    finally:
        await file._leave_position_and_release()
    return pos


def _for_reading(self: ProcFile, call: str) -> File:
    file = self._live(call)
    if not readable(file.flags):
        raise bad_file(call)
    if file.entry.ops._reader is None:
        raise file._refuse_absent(call, EIO)
    return file


def _for_pwrite(self: ProcFile, call: str) -> File:
    file = self._live(call)
    if file.entry.ops._seq is not None:
        raise self._error(ESPIPE, "a seq file is written at its position only")
    if not writable(file.flags):
        raise bad_file(call)
    if file.entry.ops.write is None:
        raise file._refuse_absent(call, EIO)
    return file


def _split(data: bytes, sizes: list[int]) -> list[bytes]:
    buffers: list[bytes] = []
    start = 0
    for size in sizes:
        buffers.append(data[start : start + size])
        start += size
    return buffers


async def _read_each(file: File, sizes: list[int]) -> list[bytes]:
    # The kernel enters the guard anew for each buffer: once removal began, what was read is all.
    buffers: list[bytes] = []
    for size in sizes:
        if buffers and (file.removing or len(buffers[-1]) < sizes[len(buffers) - 1]):
            break
        try:
            buffers.append(await read_at_position(file, min(size, MAX_RW_COUNT)))
        except OSError:
            if not any(buffers):
                raise
            break
    return buffers + [b""] * (len(sizes) - len(buffers))


def as_bytes(data: Any) -> bytes:
    """Return *data* as ``bytes``; text is refused, since nobody said how to encode it."""
    if isinstance(data, str):
        msg = "write wants bytes, not str: pass text.encode(), or use write_text()"
        raise TypeError(msg)
    try:
        return data if type(data) is bytes else memoryview(data).tobytes()
    except TypeError:
        msg = f"write wants bytes, or a buffer of them, not {data!r:.60}"
        raise TypeError(msg) from None
