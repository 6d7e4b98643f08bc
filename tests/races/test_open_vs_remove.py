"""An open and the removal of the entry it opens."""

from __future__ import annotations

import os
from errno import EACCES, EIO, ENOENT

import pytest

from aiopde import EntryRemovedError
from tests.conformance._quiet import quiet

from ._stage import DATA, Stage


async def test_L2_an_open_after_removal_began_is_refused() -> None:
    """
    Opens get ENOENT as soon as removal has begun, by path and by entry; no handler runs.
    """
    async with Stage() as s:
        entry = s.create("x", "open read")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        log = list(s.log)
        s.open("by path", "x")
        s.open("by entry", entry)
        s.start("one-shot", s.proc.read_bytes, entry)
        await quiet()
        for late in ("by path", "by entry", "one-shot"):
            assert s.errno(late) == ENOENT
        assert isinstance(s.actors["by entry"].error, EntryRemovedError)
        assert set(s.log) - set(log) == {"by path done", "by entry done", "one-shot done"}


async def test_L5_A7_an_open_that_succeeds_too_late_is_dead_on_arrival() -> None:
    """
    An open inside its handler is waited for; its file is released by the removal, exactly once.
    """
    async with Stage() as s:
        entry = s.create("x", "open read", "release")
        s.open("file", entry)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        assert s.busy == {"file", "remover"}
        s.go("file")
        await quiet()
        file = s.value("file")
        assert s.log == ["file open x", "file done", "remover release file", "remover done"]

        s.start("reader", file.read, 5)
        await quiet()
        assert s.errno("reader") == EIO
        s.start("closer", file.aclose)
        await quiet()
        assert s.log[4:] == ["reader done", "closer done"]


async def test_a_path_descriptor_neither_holds_up_a_removal_nor_ends_with_it() -> None:
    """
    What is open with O_PATH alone is no opener: removal has nothing of it to wait for or release.
    """
    async with Stage() as s:
        entry = s.create("x", "open read release")
        file = await s.opened("file", entry, os.O_PATH)
        s.start("remover", entry.remove)
        await quiet()
        assert s.log == ["file done", "remover done"]
        s.start("closer", file.aclose)
        await quiet()
        assert s.log[2:] == ["closer done"]


async def test_L5_removal_waits_for_the_release_of_such_a_file() -> None:
    """
    Removal returns after the release of a file that was opened during its drain.
    """
    async with Stage() as s:
        entry = s.create("x", "open release")
        s.open("file", entry)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        s.go("file")
        await quiet()
        assert s.stopped == {"remover release file"}
        assert s.busy == {"remover"}
        assert entry.statistics().state == "releasing"
        s.go("remover")
        await quiet()
        assert s.busy == set()


async def test_A3_removal_may_come_at_any_turn_of_an_open() -> None:
    """
    Wherever removal meets an open, the open is inside and waited for, or refused; never both.
    """
    for turns in range(6):
        async with Stage() as s:
            entry = s.create("x", "open release")
            s.open("file", entry)
            await s.start_after(turns, "remover", entry.remove)
            await quiet()
            inside = "file open x" in s.stopped
            assert s.busy == ({"file", "remover"} if inside else set())
            assert entry.statistics().in_use == inside
            assert inside or s.errno("file") == ENOENT


async def test_L6_an_open_that_fails_too_late_leaves_nothing() -> None:
    """
    An open whose handler fails while the entry is going gets that error; nothing is released.
    """
    async with Stage() as s:
        entry = s.create("x", "open release")
        s.open("file", entry)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        s.go("file", error=OSError(EACCES, "no"))
        await quiet()
        assert s.errno("file") == EACCES
        assert s.log == ["file open x", "file done", "remover done"]


async def test_A1_a_cancelled_open_leaves_nothing() -> None:
    """
    An open cancelled in its handler opened nothing, and removal goes on.
    """
    async with Stage() as s:
        entry = s.create("x", "open release")
        s.open("file", entry)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        s.cancel("file")
        await quiet()
        assert s.cancelled("file")
        assert s.busy == set()


@pytest.mark.parametrize("what", ["x", "entry"])
async def test_B3_what_can_be_opened_is_whole(what: str) -> None:
    """
    An open started before the entry is there finds nothing, or all of it: handlers and data.
    """
    async with Stage() as s:
        if what == "x":
            s.start("file", s.proc.read_bytes, "x")
        entry = s.create("x", "", "read")
        if what == "entry":
            s.start("file", s.proc.read_bytes, entry)
        assert entry.data == "x"
        await quiet()
        assert s.value("file") == DATA


async def test_B13_a_refused_open_touches_no_handler() -> None:
    """
    Looking at the handlers comes after admission: a refused open does not need them.
    """
    async with Stage() as s:
        entry = s.create("x", "open read lseek")
        s.start("remover", entry.remove)
        await quiet()
        object.__setattr__(entry, "ops", None)  # as if their module were gone
        s.open("late", entry)
        await quiet()
        assert s.errno("late") == ENOENT
        entry.ops = s.ops()


async def test_a_one_shot_read_is_one_call() -> None:
    """
    read_bytes is inside from its open to its release, and removal waits for all of it.
    """
    async with Stage() as s:
        entry = s.create("x", "open read release")
        s.start("reader", s.proc.read_bytes, entry)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        # The open, a read, the end of the file, the release.
        for _ in range(4):
            assert s.busy == {"reader", "remover"}
            assert entry.statistics().in_use == 1
            s.go("reader")
            await quiet()
        assert s.value("reader") == DATA
        assert s.log[-2:] == ["reader done", "remover done"]
