"""Which kind of descriptor an open gives: what its methods are, chosen once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

from . import _read_write
from ._directory import Directory, Path
from ._file import ProcFile
from ._flags import readable, writable
from ._open_file import FILES
from ._trace import sinks, switches

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
    handles, key = entry.ops._handles, (mode, entry.killable, _checkpoint_of(entry))
    if key not in handles:
        handles[key] = _make_handle_class(entry, flags)
        if entry.fast_acquire and not entry.killable and mode != os.O_ACCMODE:
            entry.ops._quick_handles[mode] = (
                FILES[mode, entry.ops._release_suspends],
                handles[key],
            )
    return cast("type[ProcFile]", handles[key])


def _checkpoint_of(entry: ProcDirEntry) -> Checkpoint | None:
    """Return what its calls begin with: None if they yield only where they wait."""
    return None if entry.fast_acquire else entry._tree._checkpoint


def directory_class(entry: ProcDirEntry, flags: int) -> type[ProcFile]:
    """Return the class for what is no file: a directory, or anything opened with O_PATH."""
    base: type[ProcFile] = Path if flags & os.O_PATH else Directory
    return _variant(base, {}, _checkpoint_of(entry))


def _make_handle_class(entry: ProcDirEntry, flags: int) -> type[ProcFile]:
    ops = entry.ops
    methods = {
        "_read": _method(entry, "read", ops._reader_name) if readable(flags) else "read_bad",
        "_write": _method(entry, "write", "write") if writable(flags) else "write_bad",
    }
    chosen = {name: getattr(_read_write, method) for name, method in methods.items()}
    if entry.fast_acquire and not ops._release_suspends:
        chosen["_aclose"] = ProcFile._aclose_quick
    return _variant(ProcFile, chosen, _checkpoint_of(entry))


def _method(entry: ProcDirEntry, call: str, op: str) -> str:
    if getattr(entry.ops, op) is None:
        return f"{call}_absent"
    if op not in entry.ops._awaited:
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
    _read_write.read: _read_write.read_run,
    _read_write.read_plain: _read_write.read_run,
    _read_write.write: _read_write.write_run,
    _read_write.write_plain: _read_write.write_run,
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
