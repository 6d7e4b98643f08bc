"""Inode numbers: the lowest free one, held for as long as anything is open."""

import os
from collections.abc import Awaitable, Callable

import pytest
from anyio import create_task_group

from aiopde import Mapping, ProcDirEntry, ProcFile, ProcFS, ProcOps
from tests.helpers import Handlers, start

Opener = Callable[[ProcFS, ProcDirEntry], Awaitable[ProcFile | Mapping]]


async def open_file(proc: ProcFS, entry: ProcDirEntry) -> ProcFile:
    return await proc.open(entry)


async def open_path(proc: ProcFS, entry: ProcDirEntry) -> ProcFile:
    return await proc.open(entry, os.O_PATH)


async def duplicate(proc: ProcFS, entry: ProcDirEntry) -> ProcFile:
    async with await proc.open(entry) as file:
        return file.dup()


async def map_file(proc: ProcFS, entry: ProcDirEntry) -> Mapping:
    async with await proc.open(entry) as file:
        return await file.mmap(1)


class TestInodeNumbers:
    async def test_many(self) -> None:
        """
        They go on one by one, for as many entries as there are.
        """
        async with ProcFS() as proc:
            top = proc.mkdir("d")
            entries = [proc.create(f"e{n}", ProcOps(), parent=top) for n in range(1000)]
            assert [entry.ino for entry in entries] == [top.ino + 1 + n for n in range(1000)]
            await proc.remove_subtree("d")
            assert proc.create("x", ProcOps()).ino == top.ino

    async def test_holes(self) -> None:
        """
        Numbers that a removal of many gave back are given out again, the lowest first.
        """
        async with ProcFS() as proc:
            top = proc.mkdir("d")
            lost = proc.mkdir("lost", parent=top)
            for n in range(300):
                proc.create(f"e{n}", ProcOps(), parent=lost)
            last = proc.create("last", ProcOps(), parent=top)
            await lost.remove()
            numbers = [proc.create(f"e{n}", ProcOps(), parent=top).ino for n in range(302)]
            assert numbers == [*range(lost.ino, lost.ino + 301), last.ino + 1]

    async def test_begin_at_0xf0000000(self) -> None:
        """
        Numbers are given out from 0xF0000000, and stat shows them.
        """
        async with ProcFS() as proc:
            entries = [proc.create("x", ProcOps()), proc.mkdir("d"), proc.symlink("l", "x")]
            assert [entry.ino for entry in entries] == [0xF0000000, 0xF0000001, 0xF0000002]
            assert proc.stat("d").st_ino == 0xF0000001

    async def test_the_lowest_free_one_is_next(self) -> None:
        """
        What was given back first goes out again, the lowest number first.
        """
        async with ProcFS() as proc:
            inos = [proc.create(name, ProcOps()).ino for name in "abcd"]
            for name in "cab":
                await proc.remove(name)
            assert [proc.create(name, ProcOps()).ino for name in "xyzu"] == [*inos[:3], inos[3] + 1]

    @pytest.mark.parametrize("hold", [open_file, open_path, duplicate, map_file])
    async def test_is_kept_by_what_is_open(self, hold: Opener) -> None:
        """
        A file left open (or its duplicate, an O_PATH descriptor, a mapping) keeps the number.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("open", "read", "mmap", "release"))
            holder = await hold(proc, entry)
            await entry.remove()
            other = proc.create("other", ProcOps())
            assert other.ino != entry.ino
            await holder.aclose()
            assert proc.create("reused", ProcOps()).ino == entry.ino

    async def test_is_kept_by_an_open_directory(self) -> None:
        """
        A directory left open keeps its number too.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            holder = await proc.open("d")
            await entry.remove()
            assert proc.create("other", ProcOps()).ino != entry.ino
            await holder.aclose()
            assert proc.create("reused", ProcOps()).ino == entry.ino

    async def test_is_kept_until_the_last_holder_is_gone(self) -> None:
        """
        Of several holders, of several kinds, the last one frees the number.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("read", "mmap"))
            opened = await proc.open("x")
            mapping = await opened.mmap(1)
            holders = [opened, opened.dup(), mapping, await proc.open("x", os.O_PATH)]
            await entry.remove()
            for n, holder in enumerate(holders):
                assert proc.create(f"other{n}", ProcOps()).ino != entry.ino
                await holder.aclose()
            assert proc.create("reused", ProcOps()).ino == entry.ino

    async def test_closed_before_the_end_holds_nothing(self) -> None:
        """
        A file that is closed while the removal still waits does not keep the number.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("read"))
            reader, other = await proc.open("x"), await proc.open("x")
            handlers.hold_up("read")
            async with create_task_group() as tg:
                await start(tg, reader.read)
                await start(tg, entry.remove)
                await other.aclose()
                await reader.aclose()
                assert proc.create("other", ProcOps()).ino != entry.ino
                handlers.let_go("read")
            assert proc.create("reused", ProcOps()).ino == entry.ino

    async def test_is_given_out_once(self) -> None:
        """
        Opening what is gone already, and closing it, does not free its number a second time.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            await entry.remove()
            await (await proc.open(entry)).aclose()
            first, second = proc.mkdir("first"), proc.mkdir("second")
            assert first.ino != second.ino

    async def test_a_reopened_one_keeps_it(self) -> None:
        """
        What was opened through a descriptor that outlived the entry keeps the number as well.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            first = await proc.open("x")
            await entry.remove()
            second = await proc.open(first.entry, os.O_PATH)
            await first.aclose()
            assert proc.create("other", ProcOps()).ino != entry.ino
            await second.aclose()
            assert proc.create("reused", ProcOps()).ino == entry.ino

    async def test_each_tree_has_its_own(self) -> None:
        """
        Two trees in one program have nothing to do with each other.
        """
        async with ProcFS() as one, ProcFS() as two:
            assert one.create("x", ProcOps()).ino == two.create("x", ProcOps()).ino
