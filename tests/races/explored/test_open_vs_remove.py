"""Opens and a removal, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import ProcDirEntry

    from ._play import Play


async def open_and_remove(p: Play) -> None:
    entry = p.create("x", "open read release")
    p.start("opener", p.open, entry)
    p.start("remover", p.remove, entry)


async def open_by_name_and_reuse(p: Play) -> None:
    entry = p.create("x", "open release")

    async def remove_and_create() -> None:
        await entry.remove()
        p.create("x", "", "open")

    p.start("opener", p.open, "x")
    p.start("remover", remove_and_create)


async def remove_by_name_and_reuse(p: Play) -> None:
    entry = p.create("x", "read", "release")
    file = await p.open(entry)

    async def remove_by_name() -> None:
        target = p.proc.lookup("x")
        await p.proc.remove("x")
        gone = [e for e in (entry, *new) if e.removing]
        assert gone == [target] if target is entry else target in gone, "another is gone (B2)"

    new: list[ProcDirEntry] = []

    async def remove_and_create() -> None:
        await entry.remove()
        new.append(p.create("x", "", "open"))

    p.start("by_name", remove_by_name)
    p.start("reader", file.read, 3)
    p.start("reuser", remove_and_create)


async def open_read_and_remove(p: Play) -> None:
    entry = p.create("x", "open", "read release")

    async def read() -> None:
        file = await p.open(entry)
        await file.read(3)

    p.start("reader", read)
    p.start("remover", p.remove, entry)


async def two_opens_and_remove(p: Play) -> None:
    entry = p.create("x", "open", "release")
    p.start("first", p.open, entry)
    p.start("second", p.open, entry)
    p.start("remover", p.remove, entry)


@everyone("opener", "remover")
def test_an_open_is_let_in_or_refused(backend: str, victim: str) -> None:
    """
    An open that came in time is waited for, and its file released once; later it is ENOENT.
    """
    seen = exhaust(open_and_remove, backend, victim)
    assert {"opener ok, remover ok", "opener ENOENT, remover ok"} <= seen


@everyone("opener", "remover")
def test_the_name_is_free_at_once(backend: str, victim: str) -> None:
    """
    Who opens by name gets the old entry, the new one, or ENOENT between the two.
    """
    seen = exhaust(open_by_name_and_reuse, backend, victim)
    assert {"opener ok, remover ok", "opener ENOENT, remover ok"} <= seen


@everyone("by_name", "reader")
def test_a_removal_is_of_the_entry_that_had_the_name(backend: str, victim: str) -> None:
    """
    While it waits, another entry may take the name: that one stays (B2).
    """
    seen = exhaust(remove_by_name_and_reuse, backend, victim)
    assert "by_name ok, reader ok, reuser ok" in seen


@everyone("first", only_on_trio=("remover",))
def test_two_opens_at_once(backend: str, victim: str) -> None:
    """
    Each open is let in or refused by itself.
    """
    seen = exhaust(two_opens_and_remove, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "ENOENT"), ("ENOENT", "ok"), ("ENOENT", "ENOENT")):
        assert f"first {first}, remover ok, second {second}" in seen


@everyone("reader", "remover")
def test_a_file_that_comes_too_late_is_dead(backend: str, victim: str) -> None:
    """
    An open that was let in before the removal gets a file, whose calls are refused after it.
    """
    seen = exhaust(open_read_and_remove, backend, victim)
    assert seen >= {"reader ok, remover ok", "reader EIO, remover ok", "reader ENOENT, remover ok"}
