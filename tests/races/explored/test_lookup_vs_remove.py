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


async def look_into_what_goes(p: Play) -> None:
    directory = p.mkdir("d")
    await p.open(p.create("a", "release", parent=directory))
    p.create("z", parent=directory)  # whose turn comes when the release is over
    here = await p.open(directory)

    async def look() -> None:
        await checkpoint()
        goes = p.race.aside(lambda: directory.statistics().state != "live")
        p.proc.stat("z", dir_fd=here)
        assert not goes, "found although it is going"

    p.start("looker", look)
    p.start("remover", p.remove, directory)


@everyone("looker", "remover")
def test_what_goes_is_not_found(backend: str, victim: str) -> None:
    """
    Who has a directory open finds nothing in it from the moment its removal begins.
    """
    seen = exhaust(look_into_what_goes, backend, victim)
    assert {"looker ok, remover ok", "looker ENOENT, remover ok"} <= seen


@everyone("lister", "remover")
def test_only_the_removed_name_is_missing(backend: str, victim: str) -> None:
    """
    A listing has the name or not; its neighbour is found and opened all the while.
    """
    seen = exhaust(walk_and_remove, backend, victim)
    assert all("opener ok" in ended for ended in seen)
