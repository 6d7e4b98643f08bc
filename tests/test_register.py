"""Registration: names, modes and tables that are taken, and those that are refused."""

from __future__ import annotations

import stat
from errno import EEXIST, EINVAL, ENOENT
from typing import Any

import pytest

from aiopde import ProcDirEntry, ProcFS, ProcOps
from tests.helpers import Handlers, refused, unchanged


class TestCreate:
    @pytest.mark.parametrize(
        ("mode", "then"),
        [(0, 0o444), (0o600, 0o600), (stat.S_IFREG, 0o444), (stat.S_IFREG | 0o640, 0o640)],
    )
    async def test_mode(self, mode: int, then: int) -> None:
        """
        Without permission bits it is 0444; the bits of a regular file may be there.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), mode=mode)
            assert (entry.mode, entry.type) == (then, stat.S_IFREG)

    @pytest.mark.parametrize("mode", [0o4000, 0o2000, 0o1000])
    async def test_a_mode_of_special_bits_is_one(self, mode: int) -> None:
        """
        Any of the twelve bits counts as a permission bit.
        """
        async with ProcFS() as proc:
            assert proc.create("x", ProcOps(), mode=mode).mode == mode

    @pytest.mark.parametrize(
        "mode", [stat.S_IFDIR | 0o755, stat.S_IFLNK, stat.S_IFCHR | 0o600, -1, 1 << 20, 1 << 40]
    )
    async def test_modes_that_are_refused(self, mode: int) -> None:
        """
        The type of something else, or what is no mode at all, is EINVAL.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(EINVAL):
                proc.create("x", ProcOps(), mode=mode)
            with unchanged(proc), refused(EINVAL):
                proc.create_single("x", lambda: "", mode=mode)

    @pytest.mark.parametrize("mode", ["0644", 6.44, b"r"])
    async def test_modes_that_are_no_numbers(self, mode: Any) -> None:
        """
        What is no int is a TypeError that shows what is one.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError, match="as 0o644, not"):
                proc.create("x", ProcOps(), mode=mode)
            with unchanged(proc), pytest.raises(TypeError, match="as 0o644, not"):
                proc.mkdir("x", mode=mode)

    @pytest.mark.parametrize(
        ("ops", "cure"),
        [
            (None, "pass ProcOps("),
            (Handlers(), "ProcOps.of("),
            (Handlers, "pass ProcOps.of(Handlers()), not Handlers"),
            (Handlers().read, "pass ProcOps(read=...)"),
        ],
        ids=["None", "instance", "class", "function"],
    )
    async def test_wants_a_table(self, ops: Any, cure: str) -> None:
        """
        B31: anything else than a ProcOps is a TypeError with the cure in it.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError) as caught:
                proc.create("x", ops)
            assert cure in str(caught.value)

    async def test_can_be_opened_at_once(self) -> None:
        """
        From the moment it is registered it is listed, found and opened, with all it has.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("read"), data="data")
            assert (proc.listdir(), proc.lookup("x")) == (["x"], entry)
            async with await proc.open("x") as file:
                assert file.file.data == "data"

    async def test_a_name_can_be_used_again(self) -> None:
        """
        After a removal the name is free.
        """
        async with ProcFS() as proc:
            entries = set[ProcDirEntry]()
            for _ in range(3):
                entries.add(proc.create("x", ProcOps()))
                await proc.remove("x")
            assert len(entries) == 3

    async def test_a_refused_duplicate_changes_nothing(self) -> None:
        """
        Who has the name keeps it, and one removal is enough.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers(b"first").ops("read"))
            with unchanged(proc), refused(EEXIST):
                proc.create("x", Handlers(b"second").ops("read"))
            assert proc.lookup("x") is entry
            assert await proc.read_bytes("x") == b"first"
            await proc.remove("x")
            assert proc.listdir() == []


class TestOtherCreators:
    @pytest.mark.parametrize(("mode", "then"), [(0, 0o555), (0o700, 0o700), (0o1777, 0o1777)])
    async def test_mkdir(self, mode: int, then: int) -> None:
        """
        A directory is 0555 unless told otherwise; it may have data.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d", mode, data="data")
            assert (entry.mode, entry.data, entry.nlink) == (then, "data", 2)

    @pytest.mark.parametrize("mode", [-1, stat.S_IFDIR | 0o755, 0o10000, 1 << 40])
    async def test_mkdir_takes_permission_bits(self, mode: int) -> None:
        """
        Anything else is EINVAL.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(EINVAL):
                proc.mkdir("d", mode)

    async def test_symlink(self) -> None:
        """
        A symlink is 0777, and as long as its target in bytes.
        """
        async with ProcFS() as proc:
            entry = proc.symlink("link", "../größe")
            found = proc.stat("link", follow_symlinks=False)
            assert found == entry.stat()
            assert (found.st_mode, found.st_size) == (stat.S_IFLNK | 0o777, 10)
            assert proc.readlink("link") == "../größe"

    async def test_symlink_to_nothing(self) -> None:
        """
        An empty target is ENOENT, as in Linux.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(ENOENT):
                proc.symlink("link", "")

    @pytest.mark.parametrize("target", [7, b"x"], ids=repr)
    async def test_symlink_to_what_is_no_path(self, target: Any) -> None:
        """
        A target is text; anything else is a TypeError, and nothing is registered.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError):
                proc.symlink("link", target)
