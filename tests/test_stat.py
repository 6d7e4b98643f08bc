"""What stat and getdents return."""

import os
import stat

import pytest

from aiopde import DirEntry, ProcFS, Stat


class TestStat:
    def test_has_names_of_os_stat(self) -> None:
        """
        Code written for ``os.stat`` finds the attributes under their names.
        """
        assert all(hasattr(os.stat_result, name) for name in Stat._fields)

    def test_is_a_value(self) -> None:
        """
        Two snapshots are equal if they say the same.
        """
        assert Stat(stat.S_IFREG, 1, 1, 0, 0, 0) == Stat(stat.S_IFREG, 1, 1, 0, 0, 0)

    async def test_does_not_change_with_the_entry(self) -> None:
        """
        A snapshot stays what it was; the next one tells what is true then.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            before = proc.stat("d")
            entry.mode = 0o700
            assert (before.st_mode, proc.stat("d").st_mode) == (0o40555, 0o40700)


class TestDirEntry:
    @pytest.mark.parametrize(
        ("kind", "is_dir"), [(stat.S_IFDIR, True), (stat.S_IFREG, False), (stat.S_IFLNK, False)]
    )
    def test_is_dir(self, kind: int, is_dir: bool) -> None:
        """
        is_dir() tells directories from the rest.
        """
        assert DirEntry("x", kind, 7).is_dir() == is_dir
