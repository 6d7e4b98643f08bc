"""Descriptors of directories, and of anything opened with O_PATH."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EFAULT, EINVAL, EISDIR, ENODEV, ENOENT, ENOTDIR, ENOTTY
from typing import Any

import pytest

from aiopde import DEFAULT_POLLMASK, DirEntry, ProcFS, ProcOps
from tests.helpers import Handlers, opened, refused, state, too_late


class TestDirectory:
    async def test_getdents_lists_it(self) -> None:
        """
        The dots come first, then the names in order, each with its type and inode number.
        """
        async with ProcFS() as proc:
            here = proc.mkdir("d")
            entries = [proc.symlink("d/l", "x"), proc.create("d/x", ProcOps()), proc.mkdir("d/sub")]
            async with await proc.open("d") as file:
                assert await file.getdents() == [
                    DirEntry(".", stat.S_IFDIR, here.ino),
                    DirEntry("..", stat.S_IFDIR, proc.root.ino),
                    *(DirEntry(entry.name, entry.type, entry.ino) for entry in entries),
                ]
                assert await file.getdents() == []
            assert proc.listdir("d") == ["l", "x", "sub"]

    async def test_of_the_root(self) -> None:
        """
        The root is above itself.
        """
        async with ProcFS() as proc, await proc.open("") as file:
            dots = [(".", stat.S_IFDIR, 1), ("..", stat.S_IFDIR, 1)]
            assert await file.getdents() == dots

    async def test_step_by_step(self) -> None:
        """
        With a count the listing goes on where it stopped; the position counts names.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            for name in "abc":
                proc.create(f"d/{name}", ProcOps())
            async with await proc.open("d") as file:
                steps = [[name.name for name in await file.getdents(2)] for _ in range(4)]
                assert steps == [[".", ".."], ["a", "b"], ["c"], []]
                assert file.tell() == 5
                await file.lseek(3)
                assert [name.name for name in await file.getdents(1)] == ["b"]

    async def test_while_names_come_and_go(self) -> None:
        """
        A name removed in front makes the next one be skipped, a new one is seen, as in Linux.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            for name in "abcd":
                proc.create(f"d/{name}", ProcOps())
            async with await proc.open("d") as file:
                await file.getdents(3)
                await proc.remove("d/a")
                proc.create("d/long", ProcOps())
                assert [name.name for name in await file.getdents()] == ["c", "d", "long"]

    async def test_one_that_is_gone_lists_the_dots(self) -> None:
        """
        A removed directory is empty, and no error; so it is if opened again.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            proc.create("d/x", ProcOps())
            async with await proc.open("d") as file:
                await entry.remove()
                assert [name.name for name in await file.getdents()] == [".", ".."]
                assert file.stat().st_nlink == 2
                async with await proc.open(file.entry) as again:
                    assert [name.name for name in await again.getdents()] == [".", ".."]

    async def test_a_mount_point_lists_the_dots(self) -> None:
        """
        A mount point is a directory that stays empty.
        """
        async with ProcFS() as proc:
            proc.create_mount_point("m")
            async with await proc.open("m") as file:
                assert [name.name for name in await file.getdents()] == [".", ".."]

    @pytest.mark.parametrize("count", [0, -1])
    async def test_a_count_below_one(self, count: int) -> None:
        """
        A listing in steps of nothing never ends: EINVAL.
        """
        async with ProcFS() as proc, await proc.open("") as file:
            with refused(EINVAL):
                await file.getdents(count)

    async def test_of_a_file(self) -> None:
        """
        A file has no listing: ENOTDIR.
        """
        async with opened() as file:
            with refused(ENOTDIR):
                await file.getdents()

    @pytest.mark.parametrize(
        ("call", "args", "errno"),
        [
            ("read", [], EISDIR),
            ("pread", [1, 0], EISDIR),
            ("readv", [[1]], EISDIR),
            ("write", [b""], EBADF),
            ("pwrite", [b"", 0], EBADF),
            ("mmap", [1], ENODEV),
            ("ioctl", [3], ENOTTY),
            ("ioctl", [1], ENOTTY),  # FIBMAP and FIONREAD are for regular files
            ("ioctl", [0x541B], ENOTTY),
            ("ioctl", [0x5460], EFAULT),
            ("compat_ioctl", [3], ENOTTY),
            ("lseek", [-1], EINVAL),
            ("lseek", [0, os.SEEK_DATA], EINVAL),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("removed", [False, True])
    async def test_is_no_file(self, call: str, args: list[Any], errno: int, removed: bool) -> None:
        """
        What makes no sense on a directory has the VFS's errno, there or gone.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            async with await proc.open("d") as file:
                if removed:
                    await file.entry.remove()
                with refused(errno):
                    await getattr(file, call)(*args)

    async def test_lseek_and_poll(self) -> None:
        """
        A directory can seek, to any name, and is always ready.
        """
        async with ProcFS() as proc, await proc.open("") as file:
            assert await file.lseek(7) == 7
            assert await file.lseek(-5, os.SEEK_CUR) == 2
            assert await file.lseek(0, os.SEEK_END) == 0
            assert await file.poll() == DEFAULT_POLLMASK

    async def test_does_not_delay_its_removal(self) -> None:
        """
        An open directory is nothing a removal waits for.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            async with await proc.open("d") as file:
                await proc.remove("d")
                assert (state(entry), file.entry) == ("gone", entry)


class TestPathDescriptor:
    """O_PATH: a descriptor that names an entry, and that is all."""

    async def test_calls_no_handler(self) -> None:
        """
        Neither opening nor closing it is any handler's business, nor a removal's.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "read", "release"))
            async with await proc.open("x", os.O_PATH) as file:
                assert file.entry is entry
                async with file.dup():
                    pass
            file = await proc.open("x", os.O_PATH)
            await entry.remove()
            await file.aclose()
        assert handlers.log == []

    async def test_can_be_looked_at(self) -> None:
        """
        It knows its entry, its flags and its position, there or gone.
        """
        async with opened(Handlers().ops("read"), os.O_PATH) as file:
            for _ in range(2):
                assert file.stat() == file.entry.stat()
                assert (file.flags, file.tell()) == (os.O_PATH, 0)
                await file.entry.remove()

    @pytest.mark.parametrize(
        ("call", "args"),
        [("fsync", []), ("truncate", [0]), ("chmod", [0o600]), ("chown", [1, 1])],
        ids=str,
    )
    async def test_cannot_be_changed(self, call: str, args: list[int]) -> None:
        """
        Changes need a file that is open: EBADF.
        """
        async with opened(flags=os.O_PATH) as file:
            before = file.stat()
            with refused(EBADF):
                getattr(file, call)(*args)
            assert file.stat() == before

    async def test_has_no_poll_and_no_listing(self) -> None:
        """
        Even what any file or directory can do is EBADF.
        """
        async with ProcFS() as proc, await proc.open("", os.O_PATH) as file:
            for call in (file.poll, file.getdents):
                with refused(EBADF):
                    await call()

    async def test_can_be_opened(self) -> None:
        """
        Its entry can be opened through it, as by /proc/self/fd, while it is there.
        """
        async with ProcFS() as proc:
            proc.create("x", Handlers(b"content").ops("read"))
            async with await proc.open("x", os.O_PATH) as file:
                async with await proc.open(file.entry) as other:
                    assert await other.read() == b"content"
                await file.entry.remove()
                with too_late("open", ENOENT):
                    await proc.open(file.entry)

    async def test_of_a_symlink(self) -> None:
        """
        With O_NOFOLLOW it names the link itself.
        """
        async with ProcFS() as proc:
            link = proc.symlink("link", "nowhere")
            async with await proc.open("link", os.O_PATH | os.O_NOFOLLOW) as file:
                assert file.entry is link
                assert file.stat().st_size == len("nowhere")
