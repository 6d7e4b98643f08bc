"""Opening an entry: its open handler, and the kind of descriptor that comes of it (fs/open.c)."""

from __future__ import annotations

import os
from errno import EIO
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from ._directory import Directory, Path
from ._errors import error
from ._file import ProcFile, new_descriptor
from ._flags import readable, writable
from ._open_file import MAX_RW_COUNT, File, new_file, refuse
from ._ops import NO_OPS
from ._trace import emit, sinks, switches

if TYPE_CHECKING:
    from ._entry import Checkpoint, ProcDirEntry

_CALLS: Final = (
    "read",
    "pread",
    "readv",
    "write",
    "pwrite",
    "lseek",
    "poll",
    "ioctl",
    "compat_ioctl",
    "mmap",
    "getdents",
    "aclose",
)
_OPEN_ONLY: Final = os.O_CREAT | os.O_EXCL | os.O_NOCTTY | os.O_TRUNC | os.O_CLOEXEC
# A descriptor's methods depend on little, so that few classes serve any number of tables.
_classes: Final[dict[tuple[Any, ...], type[ProcFile]]] = {}


def handle_class(entry: ProcDirEntry, flags: int) -> type[ProcFile]:
    """
    Return the class whose methods serve this entry and access mode.

    What is fixed when an entry is created is chosen here, once for each table of handlers, and
    not by branches in each call: which handlers exist, which are plain, whether the file may be
    read or written, and whether a call yields first.
    """
    mode = flags & os.O_ACCMODE
    handles, key = entry.ops.handles, (mode, entry.killable, _checkpoint_of(entry))
    if key not in handles:
        handles[key] = _make_handle_class(entry, flags)
        if entry.fast_acquire and not entry.killable and mode != os.O_ACCMODE:
            entry.ops.quick_handles[mode] = handles[key]
    return cast("type[ProcFile]", handles[key])


def _checkpoint_of(entry: ProcDirEntry) -> Checkpoint | None:
    """Return what its calls begin with: None if they yield only where they wait."""
    return None if entry.fast_acquire else entry.tree.checkpoint


def _directory_class(entry: ProcDirEntry, flags: int) -> type[ProcFile]:
    """Return the class for what is no file: a directory, or anything opened with O_PATH."""
    base: type[ProcFile] = Path if flags & os.O_PATH else Directory
    return _variant(base, {}, _checkpoint_of(entry))


def _make_handle_class(entry: ProcDirEntry, flags: int) -> type[ProcFile]:
    ops = entry.ops
    methods = {
        "_read": _method(entry, "_read", ops.reader_name) if readable(flags) else "_read_bad",
        "_write": _method(entry, "_write", "write") if writable(flags) else "_write_bad",
    }
    if entry.fast_acquire and not ops.release_suspends:
        methods["_aclose"] = "_aclose_quick"
    chosen = {name: getattr(ProcFile, method) for name, method in methods.items()}
    return _variant(ProcFile, chosen, _checkpoint_of(entry))


def _method(entry: ProcDirEntry, call: str, op: str) -> str:
    if getattr(entry.ops, op) is None:
        return f"{call}_absent"
    if op not in entry.ops.awaited:
        return f"{call}_plain"
    return f"{call}_run" if entry.killable else call


def _variant(
    base: type[ProcFile], methods: dict[str, Any], checkpoint: Checkpoint | None
) -> type[ProcFile]:
    key = (base, checkpoint, *methods.values())
    if key not in _classes:
        if checkpoint is None:  # the call itself is what else runs after its checkpoint
            inner = {call: getattr(base, f"_{call}") for call in _CALLS}
            inner.update({name.removeprefix("_"): method for name, method in methods.items()})
            methods = {**methods, **inner}
        namespace: dict[str, Any] = {
            "__slots__": (),
            "__doc__": base.__doc__,
            "__module__": "aiopde",
        }
        if checkpoint is not None:
            namespace["_checkpoint"] = staticmethod(checkpoint)
        _classes[key] = type("ProcFile", (base,), {**namespace, **methods})
        if sinks:
            _switch_calls(on=True)
    return _classes[key]


# What has tracepoints instead of those that have none.
_TRACED: Final[dict[Any, Any]] = {
    ProcFile._read: ProcFile._read_run,
    ProcFile._read_plain: ProcFile._read_run,
    ProcFile._write: ProcFile._write_run,
    ProcFile._write_plain: ProcFile._write_run,
}


def _switch_calls(*, on: bool) -> None:
    """Have all descriptors, open ones too, make their calls with tracepoints, or without."""
    for (_, checkpoint, *methods), cls in _classes.items():
        for name, method in zip(("_read", "_write"), methods, strict=False):
            chosen = _TRACED.get(method, method) if on else method
            setattr(cls, name, chosen)
            if checkpoint is None:
                setattr(cls, name.removeprefix("_"), chosen)


switches.append(_switch_calls)


async def open_entry(entry: ProcDirEntry, flags: int) -> ProcFile:
    """
    Open an entry found and allowed: run its open handler, then make the file.

    The record that removal will see is linked before the open leaves the guard. So an open that
    is inside when removal begins, and succeeds, is released by that removal: the caller then gets
    a file that is dead on arrival. Nothing is awaited after the handler, so what has succeeded
    cannot be lost to a cancellation.

    Linux: ``proc_reg_open``.
    """
    file = new_file(entry, flags & ~_OPEN_ONLY)
    if entry.ops is NO_OPS or flags & os.O_PATH:
        entry.add_holder()  # nothing to shut, nothing to release
        return new_descriptor(_directory_class(entry, flags), file)
    if entry._in_use < 0:
        raise refuse("open", entry)
    if entry.ops.open is None:
        entry.add_file(file)
    else:
        entry._in_use += 1
        try:
            await file.run_open()
            entry.add_file(file)
        finally:
            entry.unuse()
    if sinks:
        emit("open", entry.path)
    return new_descriptor(handle_class(entry, flags), file)


async def read_entry(entry: ProcDirEntry) -> bytes:
    """Open, read to the end and release, inside the guard all the time: no record is needed."""
    if not entry.use():
        raise refuse("open", entry)
    file = new_file(entry, os.O_RDONLY)
    try:
        if entry.ops.open is not None:
            await file.run_open()
        try:
            return await _read_all(file)
        finally:
            await _release_one_shot(file)
    finally:
        entry.unuse()


async def _read_all(file: File) -> bytes:
    if file.entry.ops.reader is None:
        raise file.refuse_absent("read", EIO)
    data = await file.read_at_position(MAX_RW_COUNT)
    chunks = [data]
    while data:
        data = await file.read_at_position(MAX_RW_COUNT)
        chunks.append(data)
    return b"".join(chunks)


async def write_entry(entry: ProcDirEntry, data: bytes) -> None:
    """Open, write everything and release, inside the guard all the time."""
    if not entry.use():
        raise refuse("open", entry)
    file = new_file(entry, os.O_WRONLY)
    try:
        if entry.ops.open is not None:
            await file.run_open()
        try:
            await _write_all(file, data)
        finally:
            await _release_one_shot(file)
    finally:
        entry.unuse()


async def _write_all(file: File, data: bytes) -> None:
    if file.entry.ops.write is None:
        raise file.refuse_absent("write", EIO)
    data = data[await file.write_at_position(data) :]
    while data:
        taken = await file.write_at_position(data)
        if not taken:
            why = f"the write handler takes no more, and left {len(data)} bytes"
            raise error(EIO, file.entry.path, why)
        data = data[taken:]


async def _release_one_shot(file: File) -> None:
    ops = file.entry.ops
    if ops.release_suspends:
        with anyio.CancelScope(shield=True):
            await file.run("release")
    elif ops.release is not None:
        file.run_release_now()
