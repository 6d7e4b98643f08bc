"""Creating below a directory that is being removed, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def create_and_remove(p: Play) -> None:
    directory = p.mkdir("d")
    child = p.create("x", "read", "release", parent=directory)
    file = await p.open(child)

    async def create() -> None:
        await checkpoint()
        p.create("yy", "", "release", parent=directory)

    p.start("creator", create)
    p.start("reader", file.read, 3)
    p.start("remover", p.remove, directory)


async def create_by_path_and_remove(p: Play) -> None:
    directory = p.mkdir("d")

    async def create() -> None:
        await checkpoint()
        p.know(p.proc.create("d/x", p.ops("", "release")))

    p.start("creator", create)
    p.start("remover", p.remove, directory)


@everyone("creator", "reader", "remover")
def test_what_comes_late_is_swept_away(backend: str, victim: str) -> None:
    """
    What is created below a dying directory goes with it, or with the tree.
    """
    seen = exhaust(create_and_remove, backend, victim)
    assert {"creator ok, reader ok, remover ok", "creator ok, reader EIO, remover ok"} <= seen


@everyone("creator", "remover")
def test_a_path_leads_nowhere_any_more(backend: str, victim: str) -> None:
    """
    By its path nothing can be created below a directory whose removal has begun.
    """
    seen = exhaust(create_by_path_and_remove, backend, victim)
    assert {"creator ok, remover ok", "creator ENOENT, remover ok"} <= seen
