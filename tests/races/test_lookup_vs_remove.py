"""Paths, symlinks and directories that are walked while something on the way is removed."""

from __future__ import annotations

import gc
import os
import weakref
from errno import ENOENT

import pytest

from aiopde import ProcFS, ProcOps
from aiopde._ops import NO_OPS
from tests.conformance._quiet import quiet

from ._stage import DATA, Stage


async def test_L14_B12_an_entry_found_before_its_removal_cannot_be_opened_after() -> None:
    """
    Between look-up and open the whole removal fits: the open is refused, and needs no handler.
    """
    async with Stage() as s:
        s.create("x", "open read release")
        found = s.proc.lookup("x")
        s.start("remover", found.remove)
        await quiet()
        object.__setattr__(found, "ops", None)  # as if their module were gone
        s.open("late", found)
        await quiet()
        assert s.errno("late") == ENOENT
        found.ops = s.ops()


class Data:
    """What an entry refers to, and can be seen to be freed."""


async def test_B15_a_directory_has_no_table_to_be_taken_for_another() -> None:
    """
    What a directory, link or mount point has for handlers is the empty table, in any state.
    """
    async with ProcFS() as proc:
        entries = [proc.mkdir("d"), proc.symlink("l", "d"), proc.create_mount_point("m")]
        for entry in entries:
            assert entry.ops is NO_OPS
            assert not entry.killable
            await entry.remove()
            assert entry.ops is NO_OPS


async def test_B4_B19_what_is_gone_is_freed_once_and_by_the_last_who_knows_it() -> None:
    """
    A walk that holds an entry finds it whole after its removal; when nobody does, it is freed.
    """
    async with ProcFS() as proc:
        data = [Data(), Data()]
        freed = [weakref.ref(each) for each in data]
        directory = proc.mkdir("d", data=data.pop())
        child = proc.create("d/x", ProcOps(), data=data.pop())
        numbers = {directory.ino, child.ino}
        async with await proc.open("d") as here:
            await directory.remove()
            del directory, child
            assert here.entry.statistics().state == "gone"
            assert proc.lookup("..", dir_fd=here) is proc.root
            assert [each.name for each in await here.getdents()] == [".", ".."]
        del here
        gc.collect()
        assert [each() for each in freed] == [None, None]
        assert {proc.mkdir("d").ino, proc.create("d/x", ProcOps()).ino} == numbers


async def test_L14_an_open_looks_the_path_up_after_its_checkpoint() -> None:
    """
    An open and a removal that start together: who is first decides, and there is no third way.
    """
    for order in (("file", "remover"), ("remover", "file")):
        async with Stage() as s:
            entry = s.create("x", "", "read")
            for name in order:
                if name == "file":
                    s.open(name, "x")
                else:
                    s.start(name, entry.remove)
            await quiet()
            assert s.busy == set()
            refused = s.actors["file"].error
            assert refused is None or s.errno("file") == ENOENT


async def test_I24_a_path_through_what_is_going_leads_nowhere() -> None:
    """
    As soon as a directory's removal begins, nothing in it is found by path any more.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        s.mkdir("d/sub")
        entry = s.create("d/sub/x", "read")
        s.create("d/sub/y")
        file = await s.opened("file", entry)
        directory = await s.opened("directory", "d/sub", os.O_RDONLY)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", top.remove)
        await quiet()
        for path in ("d", "d/sub", "d/sub/x"):
            with pytest.raises(OSError) as caught:
                s.proc.lookup(path)
            assert caught.value.errno == ENOENT
        # Not even what the directory still lists, as its turn has not come.
        s.start("lister", directory.getdents)
        await quiet()
        assert [line.name for line in s.value("lister")] == [".", "..", "y"]
        for name in ("x", "y"):
            with pytest.raises(OSError) as caught:
                s.proc.lookup(name, dir_fd=directory)
            assert caught.value.errno == ENOENT


async def test_L16_a_symlink_leads_to_what_is_there_now() -> None:
    """
    A symlink outlives what it leads to, leads to its successor, and can be removed itself.
    """
    async with Stage() as s:
        link = s.know(s.proc.symlink("link", "x"))
        old = s.create("x", "", "read")
        s.start("remover", old.remove)
        s.open("late", "link")
        await quiet()
        s.create("x", "", "read")
        s.start("reader", s.proc.read_bytes, "link")
        await quiet()
        assert s.value("reader") == DATA
        s.start("remover of link", link.remove)
        await quiet()
        with pytest.raises(OSError) as caught:
            s.proc.readlink("link")
        assert caught.value.errno == ENOENT
