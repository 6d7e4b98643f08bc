"""Who wants to know what changes in any tree is told, of each change once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aiopde import ProcFS, ProcOps
from aiopde._fsnotify import observers

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiopde import ProcDirEntry


class Noting:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []

    def unlinked(self, entry: ProcDirEntry) -> None:
        self.log.append(("unlinked", entry.name))

    def changed(self, entry: ProcDirEntry) -> None:
        self.log.append(("changed", entry.name))


@pytest.fixture
def told() -> Generator[list[tuple[str, str]]]:
    observer = Noting()
    observers.append(observer)
    yield observer.log
    observers.remove(observer)


async def test_attributes(told: list[tuple[str, str]]) -> None:
    """
    Each attribute that is set is told, by whatever way; a file that comes is no change.
    """
    async with ProcFS() as proc:
        entry = proc.create("x", ProcOps())
        assert told == []
        entry.mode, entry.uid, entry.gid, entry.size = 0o600, 1, 2, 3
        proc.chmod("x", 0o644)
        proc.chown("x", 4, 5)
        assert told == 6 * [("changed", "x")]
        with pytest.raises(ValueError, match="size is 0 to"):
            entry.size = -1
        assert len(told) == 6


async def test_names(told: list[tuple[str, str]]) -> None:
    """
    A name that goes is told, before its parent's links are fewer; so is a directory that comes.
    """
    async with ProcFS() as proc:
        proc.mkdir("d")
        proc.create("d/x", ProcOps())
        assert told == [("changed", "/proc")]
        del told[:]
        await proc.remove("d/x")
        assert told == [("unlinked", "x")]
        await proc.remove("d")
        assert told[1:] == [("changed", "/proc"), ("unlinked", "d")]
