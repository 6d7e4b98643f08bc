"""A mapping, a close and a removal, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def map_close_and_remove(p: Play) -> None:
    entry = p.create("x", "mmap release")
    file = await p.open(entry)

    async def map_it() -> None:
        there = file.file
        mapping = await file.mmap(1)
        p.close_later(mapping)
        released = p.race.aside(lambda: p.notes.released[there])
        assert entry.removing or not released, "a mapping keeps the file"

    p.start("closer", file.aclose)
    p.start("mapper", map_it)
    p.start("remover", p.remove, entry)


@everyone("closer", "mapper", only_on_trio=("remover",))
def test_a_mapping_keeps_the_file(backend: str, victim: str) -> None:
    """
    A mapping is made or refused; the file is released once, by whoever comes last.
    """
    seen = exhaust(map_close_and_remove, backend, victim)
    for mapper in ("ok", "EIO", "EBADF"):
        assert f"closer ok, mapper {mapper}, remover ok" in seen
