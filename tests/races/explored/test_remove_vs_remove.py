"""Two removals of one entry, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import ProcDirEntry

    from ._play import Play


async def two_removes(p: Play) -> None:
    entry = p.create("x", "read release")
    await p.open(entry)
    p.start("first", p.remove, entry)
    p.start("second", p.remove, entry)


async def read_and_two_removes(p: Play) -> None:
    entry = p.create("x", "read", "release")
    file = await p.open(entry)
    p.start("reader", file.read, 3)
    p.start("first", p.remove, entry)
    p.start("second", p.remove, entry)


async def four_removes(p: Play) -> None:
    entry = p.create("x", "read", "release")
    file = await p.open(entry)
    p.start("reader", file.pread, 3, 0)
    p.start("first", p.remove, entry)
    p.start("second", p.remove, entry)
    p.start("third", p.remove, entry)


async def by_name_and_by_entry(p: Play) -> None:
    entry = p.create("x", "release")
    await p.open(entry)
    p.start("by_name", p.proc.remove, "x")
    p.start("by_entry", p.remove, entry)


async def two_of_a_name_and_remove(p: Play) -> None:
    async def remove_another() -> ProcDirEntry:
        entry = p.create("x", "release")
        await p.open(entry)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await entry.remove()  # which goes on by itself
        return entry

    async def remove_by_name() -> None:
        await p.proc.remove("x")
        assert newer.statistics().state == "gone", "it has joined the older removal"

    await remove_another()
    newer = await remove_another()
    p.start("by_name", remove_by_name)


@everyone("first")
def test_both_return_when_it_is_gone(backend: str, victim: str) -> None:
    """
    The second remover joins the first; cancelling either leaves the removal going.
    """
    assert "first ok, second ok" in exhaust(two_removes, backend, victim)


@everyone("reader", "first")
def test_both_wait_for_the_reader(backend: str, victim: str) -> None:
    """
    No wake-up of a remover is lost, however many wait (I36).
    """
    seen = exhaust(read_and_two_removes, backend, victim)
    assert {"first ok, reader ok, second ok", "first ok, reader EIO, second ok"} <= seen


@everyone("reader", only_on_trio=("first",))
def test_however_many_wait(backend: str, victim: str) -> None:
    """
    All who wait for one removal are woken.
    """
    assert "first ok, reader ok, second ok, third ok" in exhaust(four_removes, backend, victim)


@everyone(only_on_trio=("by_name",))
def test_the_latest_of_a_name(backend: str, victim: str) -> None:
    """
    Of two that had the name and are going, it is the one unlinked last that is waited for.
    """
    seen = exhaust(two_of_a_name_and_remove, backend, victim)
    assert "by_name ok" in seen


@everyone("by_name", "by_entry")
def test_by_name(backend: str, victim: str) -> None:
    """
    A removal by name joins the one under way, or finds that nothing has the name.
    """
    seen = exhaust(by_name_and_by_entry, backend, victim)
    assert {"by_entry ok, by_name ok", "by_entry ok, by_name ENOENT"} <= seen
