"""A directory that is listed step by step while it changes."""

from __future__ import annotations

import os

from tests.conformance._quiet import quiet

from ._stage import Stage


async def names(s: Stage, step: str, count: int | None = None) -> list[str]:
    """Read on in the directory that the actor "directory" has opened."""
    s.start(step, s.value("directory").getdents, count)
    await quiet()
    return [line.name for line in s.value(step)]


async def remove(s: Stage, name: str) -> None:
    s.start(f"remover of {name}", s.proc.remove_subtree, name)
    await quiet()


async def test_I30_a_listing_of_an_unchanged_directory_has_every_name_once() -> None:
    """
    However small the steps, dots come first, then every name, then the end.
    """
    async with Stage() as s:
        for name in ("c", "a", "bb", "b"):
            s.create(name)
        await s.opened("directory", "", os.O_RDONLY)
        found = [await names(s, f"step {number}", 1) for number in range(7)]
        assert found == [["."], [".."], ["a"], ["b"], ["c"], ["bb"], []]


async def test_B16_what_was_listed_and_its_neighbours_may_go() -> None:
    """
    Removing the current name and the one after it between two steps does no harm.
    """
    async with Stage() as s:
        for number in range(6):
            s.create(f"tun{number}", "", "read")
        await s.opened("directory", "", os.O_RDONLY)
        assert await names(s, "first", 4) == [".", "..", "tun0", "tun1"]
        await remove(s, "tun1")
        await remove(s, "tun2")
        # By position, as in Linux: one that is there, tun3, is skipped.
        assert await names(s, "second") == ["tun4", "tun5"]
        assert await names(s, "third") == []


async def test_I30_a_listing_ends_although_names_keep_coming() -> None:
    """
    A listing that is added to at each step still ends, and repeats no name that stayed in place.
    """
    async with Stage() as s:
        s.create("n0")
        await s.opened("directory", "", os.O_RDONLY)
        found: list[str] = []
        for number in range(1, 6):
            found += await names(s, f"step {number}", 1)
            s.create(f"n{number}")
        found += await names(s, "rest")
        assert found == [".", "..", *(f"n{number}" for number in range(6))]
        assert await names(s, "end") == []


async def test_a_listing_goes_on_while_the_directory_is_going() -> None:
    """
    A directory whose removal has begun can still be read: what is left in it, then nothing.
    """
    async with Stage() as s:
        s.mkdir("d")
        entry = s.create("d/a", "read")
        s.create("d/b")
        file = await s.opened("file", entry)
        await s.opened("directory", "d", os.O_RDONLY)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", s.proc.remove_subtree, "d")
        await quiet()
        assert await names(s, "first") == [".", "..", "b"]
        s.go("reader")
        await quiet()
        s.start("rewind", s.value("directory").lseek, 0)
        await quiet()
        assert await names(s, "second") == [".", ".."]


async def test_I30_two_who_list_by_one_descriptor_share_its_position() -> None:
    """
    However they take turns, each name is told to one of them, and once.
    """
    async with Stage() as s:
        for name in "abcd":
            s.create(name)
        await s.opened("directory", "", os.O_RDONLY)
        for lister in ("first", "second"):
            s.start(lister, s.value("directory").getdents, 4)
        await quiet()
        told = [line.name for lister in ("first", "second") for line in s.value(lister)]
        assert sorted(told) == [".", "..", *"abcd"]
