"""Reads and a removal, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def read_and_remove(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    p.start("reader", file.read, 3)
    p.start("remover", p.remove, entry)


async def two_reads_and_remove(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    p.start("first", file.read, 3)
    p.start("second", file.read, 3)
    p.start("remover", p.remove, entry)


async def preads_and_remove(p: Play) -> None:
    entry = p.create("x", "read", "release")
    file = await p.open(entry)
    p.start("first", file.pread, 3, 0)
    p.start("second", file.pread, 3, 2)
    p.start("remover", p.remove, entry)


@everyone("reader", "remover")
def test_a_read_is_let_in_or_refused(backend: str, victim: str) -> None:
    """
    The read answers or is refused; the removal ends; nothing is left, whoever is cancelled.
    """
    seen = exhaust(read_and_remove, backend, victim)
    assert {"reader ok, remover ok", "reader EIO, remover ok"} <= seen


@everyone("first", "second", "remover")
def test_who_waits_for_the_position_is_refused(backend: str, victim: str) -> None:
    """
    Of two reads that share a position, either may get in before the removal, or both, or none.
    """
    seen = exhaust(two_reads_and_remove, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, remover ok, second {second}" in seen


@everyone("first", "second", "remover")
def test_reads_side_by_side(backend: str, victim: str) -> None:
    """
    Reads that share no position are inside together, and the removal waits for the last.
    """
    seen = exhaust(preads_and_remove, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, remover ok, second {second}" in seen
