"""A directory listed step by step while it changes, in every order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import ProcFile

    from ._play import Play


async def listing(directory: ProcFile, count: int) -> list[str]:
    found: list[str] = []
    while names := await directory.getdents(count):
        found += [name.name for name in names]
    return found


async def two_listers(p: Play) -> None:
    parent = p.mkdir("d")
    p.create("a", "", "read", parent=parent)
    directory = await p.open("d", os.O_RDONLY | os.O_DIRECTORY)
    found: list[str] = []

    async def list_it() -> None:
        found.extend(await listing(directory, 1))
        assert len(set(found)) == len(found), "a name was told twice (I30)"

    p.start("first", list_it)
    p.start("second", list_it)


async def list_and_remove(p: Play) -> None:
    parent = p.mkdir("d")
    a, b, _ = (p.create(name, "", "read", parent=parent) for name in "abc")
    directory = await p.open("d", os.O_RDONLY | os.O_DIRECTORY)

    async def list_it() -> None:
        found = await listing(directory, 3)
        assert found == sorted(set(found)), "a name twice, or out of order (I23, I30)"
        # By position, as in Linux: an entry that goes makes the next one be skipped.
        assert set(found) <= {".", "..", "a", "b", "c"}

    p.start("lister", list_it)
    p.start("first", p.remove, a)
    p.start("second", p.remove, b)


async def list_and_remove_all(p: Play) -> None:
    parent = p.mkdir("d")
    for name in "ab":
        p.create(name, "", "read", parent=parent)
    directory = await p.open("d", os.O_RDONLY | os.O_DIRECTORY)

    async def list_it() -> None:
        found = await listing(directory, 1)
        assert found[:2] == [".", ".."]
        assert found[2:] in ([], ["a"], ["a", "b"])

    p.start("lister", list_it)
    p.start("remover", p.remove, parent)


async def list_and_create(p: Play) -> None:
    parent = p.mkdir("d")
    p.create("b", "", "read", parent=parent)
    directory = await p.open("d", os.O_RDONLY | os.O_DIRECTORY)

    async def list_it() -> None:
        found = await listing(directory, 3)
        assert {".", "..", "b"} <= set(found), "what was there all the time is missing (I30)"

    async def replace() -> None:
        a = p.create("a", "", "read", parent=parent)
        await p.remove(a)
        p.create("a", "", "read", parent=parent)

    p.start("lister", list_it)
    p.start("maker", replace)


@everyone("lister", only_on_trio=("first", "second"))
def test_what_is_listed_may_go(backend: str, victim: str) -> None:
    """
    Whatever goes between two steps of a listing, it ends, and has no name twice (B16).
    """
    assert "first ok, lister ok, second ok" in exhaust(list_and_remove, backend, victim)


@everyone("lister", "remover")
def test_the_directory_itself_may_go(backend: str, victim: str) -> None:
    """
    An open directory can be listed after its removal: nothing is in it.
    """
    assert "lister ok, remover ok" in exhaust(list_and_remove_all, backend, victim)


@everyone("lister", "maker")
def test_a_name_may_come_and_go(backend: str, victim: str) -> None:
    """
    What comes before the position may repeat a name, and hides none.
    """
    assert "lister ok, maker ok" in exhaust(list_and_create, backend, victim)


@everyone("first")
def test_two_who_share_a_position_share_the_names(backend: str, victim: str) -> None:
    """
    Each name is told to one of those who list by one descriptor.
    """
    assert "first ok, second ok" in exhaust(two_listers, backend, victim)
