"""Descriptors of one open file, given up in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def two_descriptors(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    other = file.dup()
    p.close_later(other)
    p.start("first", file.aclose)
    p.start("reader", other.read, 3)
    p.start("second", other.aclose)


async def close_twice_beside_a_dup(p: Play) -> None:
    file = await p.open(p.create("x", "read release"))
    other = p.close_later(file.dup())
    p.start("first", file.aclose)
    p.start("reader", other.read, 3)
    p.start("second", file.aclose)


async def dup_and_close(p: Play) -> None:
    entry = p.create("x", "release")
    file = await p.open(entry)

    async def dup() -> None:
        await checkpoint()
        p.close_later(file.dup())

    p.start("closer", file.aclose)
    p.start("dupper", dup)
    p.start("remover", p.remove, entry)


@everyone("first", "reader", "second")
def test_the_last_one_releases(backend: str, victim: str) -> None:
    """
    Release runs once, after the last descriptor and the last call, whichever is later.
    """
    seen = exhaust(two_descriptors, backend, victim)
    assert {"first ok, reader ok, second ok", "first ok, reader EBADF, second ok"} <= seen


@everyone("first", "reader")
def test_a_descriptor_is_closed_once(backend: str, victim: str) -> None:
    """
    However many close it, it counts once: who has another can read.
    """
    seen = exhaust(close_twice_beside_a_dup, backend, victim)
    assert "first ok, reader ok, second ok" in seen
    assert not any("reader E" in ended for ended in seen)


@everyone("closer", "dupper", "remover")
def test_dup_comes_in_time_or_not(backend: str, victim: str) -> None:
    """
    A descriptor made before the last one is closed keeps the file; after that it is EBADF.
    """
    seen = exhaust(dup_and_close, backend, victim)
    assert {"closer ok, dupper ok, remover ok", "closer ok, dupper EBADF, remover ok"} <= seen
