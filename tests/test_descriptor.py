"""Which kind of descriptor an open gives: few kinds, that serve any number of entries."""

import os
from typing import Any

import pytest

from aiopde import ProcFS, ProcOps, _descriptor, _read_write, trace
from aiopde._descriptor import directory_class, handle_class
from tests.helpers import Handlers

KINDS: dict[str, tuple[ProcOps, dict[str, Any], str, str]] = {
    "a coroutine function": (ProcOps.of(Handlers()), {}, "read", "write"),
    "a plain one": (
        ProcOps(read=lambda file, size, pos: b"", write=lambda file, data, pos: 0),
        {},
        "read_plain",
        "write_plain",
    ),
    "none": (ProcOps(), {}, "read_absent", "write_absent"),
    "one that may be killed": (ProcOps.of(Handlers()), {"killable": True}, "read_run", "write_run"),
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("ops", "how", "read", "write"), KINDS.values(), ids=list(KINDS))
async def test_calls_are_chosen_once(
    ops: ProcOps, how: dict[str, Any], read: str, write: str, fast: bool
) -> None:
    """
    The handlers and the access mode say what a call does; nothing of it is asked in the call.
    """
    async with ProcFS(fast_acquire=fast) as proc:
        entry = proc.create("x", ops, **how)
        both = handle_class(entry, os.O_RDWR)
        assert both._read is getattr(_read_write, read)
        assert both._write is getattr(_read_write, write)
        assert (both.read is both._read) == fast  # without a checkpoint, the call is all there is
        assert handle_class(entry, os.O_RDONLY)._write is _read_write.write_bad
        assert handle_class(entry, os.O_WRONLY)._read is _read_write.read_bad


async def test_entries_share_them() -> None:
    """
    Tables of handlers that are alike in this have one class, and so have all directories.
    """
    async with ProcFS() as proc:
        one, two = (proc.create(name, Handlers().ops("read", "write")) for name in "ab")
        assert handle_class(one, os.O_RDWR) is handle_class(two, os.O_RDWR)
        assert handle_class(one, os.O_RDWR) is not handle_class(one, os.O_RDONLY)
        kinds = {directory_class(entry, os.O_RDONLY) for entry in (proc.root, proc.mkdir("d"))}
        assert len(kinds) == 1
        assert directory_class(proc.root, os.O_PATH) is directory_class(one, os.O_PATH)


async def test_a_kind_that_comes_while_calls_are_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The first descriptor of its kind tells what it does to who was listening before.
    """
    monkeypatch.setattr(_descriptor, "_classes", {})
    async with ProcFS() as proc:
        entry = proc.create("x", ProcOps.of(Handlers()))
        with trace(lambda record: None):
            kind = handle_class(entry, os.O_RDWR)
            assert (kind._read, kind._write) == (_read_write.read_run, _read_write.write_run)
        assert (kind._read, kind._write) == (_read_write.read, _read_write.write)
