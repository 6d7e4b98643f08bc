"""Removing a directory, and what is in it, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def subtree_and_child(p: Play) -> None:
    directory = p.mkdir("d")
    child = p.create("x", "release", parent=directory)
    await p.open(child)
    p.start("above", p.remove, directory)
    p.start("below", p.remove, child)


async def read_below_a_subtree(p: Play) -> None:
    directory = p.mkdir("d")
    child = p.create("x", "read", "release", parent=directory)
    file = await p.open(child)
    p.start("reader", file.read, 3)
    p.start("above", p.remove, directory)


async def subtree_and_last_child(p: Play) -> None:
    directory = p.mkdir("d")
    for name in ("a", "z"):
        child = p.create(name, "release", parent=directory)
        await p.open(child)
    p.start("above", p.remove, directory)
    p.start("below", p.remove, child)


async def read_beside_a_release(p: Play) -> None:
    directory = p.mkdir("d")
    await p.open(p.create("a", "release", parent=directory))
    file = await p.open(p.create("z", "", "read", parent=directory))

    async def read() -> None:
        await checkpoint()
        goes = p.race.aside(lambda: directory.statistics().state != "live")
        await file.pread(3, 0)
        assert not goes, "let in although the removal of all had begun"

    p.start("reader", read)
    p.start("above", p.remove, directory)


@everyone("above", "below")
def test_the_directory_goes_last(backend: str, victim: str) -> None:
    """
    Whoever removes what, the child is gone before the directory is (I28).
    """
    assert "above ok, below ok" in exhaust(subtree_and_child, backend, victim)


@everyone("below", only_on_trio=("above",))
def test_a_removal_below_that_begins_later(backend: str, victim: str) -> None:
    """
    It is waited for, too, whichever child the removal of the directory is at (L13, I28).
    """
    assert "above ok, below ok" in exhaust(subtree_and_last_child, backend, victim)


@everyone("reader", "above")
def test_all_is_shut_at_once(backend: str, victim: str) -> None:
    """
    A child whose turn to be released is still to come lets nobody in.
    """
    seen = exhaust(read_beside_a_release, backend, victim)
    assert {"above ok, reader ok", "above ok, reader EIO"} <= seen


@everyone("reader", "above")
def test_a_reader_below(backend: str, victim: str) -> None:
    """
    The removal of a directory waits for who is inside below it.
    """
    seen = exhaust(read_below_a_subtree, backend, victim)
    assert {"above ok, reader ok", "above ok, reader EIO"} <= seen
