"""Removing a directory, and what is in it, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


@everyone("above", "below")
def test_the_directory_goes_last(backend: str, victim: str) -> None:
    """
    Whoever removes what, the child is gone before the directory is (I28).
    """
    assert "above ok, below ok" in exhaust(subtree_and_child, backend, victim)


@everyone("reader", "above")
def test_a_reader_below(backend: str, victim: str) -> None:
    """
    The removal of a directory waits for who is inside below it.
    """
    seen = exhaust(read_below_a_subtree, backend, victim)
    assert {"above ok, reader ok", "above ok, reader EIO"} <= seen
