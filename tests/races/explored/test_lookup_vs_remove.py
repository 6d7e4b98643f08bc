"""Walking to a name, listing, and a removal, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def walk_and_remove(p: Play) -> None:
    directory = p.mkdir("d")
    child = p.create("x", "", "read", parent=directory)
    p.create("y", "", "read", parent=directory)

    async def list_it() -> None:
        await checkpoint()
        assert p.proc.listdir("d") in (["x", "y"], ["y"])

    p.start("lister", list_it)
    p.start("opener", p.open, "d/y")
    p.start("remover", p.remove, child)


@everyone("lister", "remover")
def test_only_the_removed_name_is_missing(backend: str, victim: str) -> None:
    """
    A listing has the name or not; its neighbour is found and opened all the while.
    """
    seen = exhaust(walk_and_remove, backend, victim)
    assert all("opener ok" in ended for ended in seen)
