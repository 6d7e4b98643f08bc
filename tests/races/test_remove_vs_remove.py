"""Two removals of one entry."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.conformance._quiet import quiet

from ._stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde import ProcDirEntry

WAYS: dict[str, Callable[[Stage, ProcDirEntry], Callable[[], Awaitable[None]]]] = {
    "entry.remove": lambda _, e: e.remove,
    "remove": lambda s, e: partial(s.proc.remove, e.name),
    "remove_subtree": lambda s, e: partial(s.proc.remove_subtree, e.name),
}


@pytest.mark.parametrize("way", WAYS)
async def test_L12_B29_the_second_remover_waits_for_the_first(way: str) -> None:
    """
    Whoever comes second, by whatever way, returns when the entry is really gone.
    """
    async with Stage() as s:
        entry = s.create("x", "read release")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("first", entry.remove)
        await quiet()
        s.start("second", WAYS[way](s, entry))
        await quiet()
        assert s.busy == {"reader", "first", "second"}
        s.go("reader")
        await quiet()
        assert s.busy == {"first", "second"}  # not before the last release has ended
        s.go("first")
        await quiet()
        assert s.busy == set()


async def test_I36_no_waiting_remover_is_forgotten() -> None:
    """
    However many wait for one removal, all of them are woken.
    """
    async with Stage() as s:
        entry = s.create("x", "read")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        for number in range(5):
            s.start(f"remover {number}", entry.remove)
            await quiet()
        s.go("reader")
        await quiet()
        assert s.busy == set()


async def test_L12_once_it_is_gone_there_is_nothing_to_wait_for() -> None:
    """
    Removing what is gone succeeds at once through the entry, and is ENOENT by name.
    """
    async with Stage() as s:
        entry = s.create("x", "", "release")
        await s.opened("file", entry)
        s.start("first", entry.remove)
        await quiet()
        for way, call in WAYS.items():
            s.start(way, call(s, entry))
        await quiet()
        assert s.value("entry.remove") is None
        assert s.errno("remove") == s.errno("remove_subtree") == ENOENT
        assert [line for line in s.log if "release" in line] == ["first release file"]


async def test_L12_an_old_entry_never_removes_its_successor() -> None:
    """
    Removing through an entry that is gone leaves alone what has its name now.
    """
    async with Stage() as s:
        old = s.create("x")
        s.start("first", old.remove)
        await quiet()
        new = s.create("x")
        s.start("second", old.remove)
        await quiet()
        assert s.proc.lookup("x") is new
        assert new.statistics().state == "live"


async def test_by_name_one_joins_the_removal_that_began_last() -> None:
    """
    With two of one name going, and none there, a third removal waits for the newer one.
    """
    for _ in range(8):  # which one it was depended on the order of a set
        async with Stage() as s:
            for number in range(2):
                entry = s.create("x", "read")
                file = await s.opened(f"file {number}", entry)
                s.start(f"reader {number}", file.read, 5)
                await quiet()
                s.start(f"remover {number}", entry.remove)
                await quiet()
            s.start("joiner", s.proc.remove, "x")
            await quiet()
            s.go("reader 0")
            await quiet()
            assert s.busy == {"reader 1", "remover 1", "joiner"}
            s.go("reader 1")
            await quiet()
            assert s.busy == set()


async def test_B33_the_phases_come_one_after_the_other() -> None:
    """
    Unlinked and refusing, then drained, then released, then gone: each is seen, in this order.
    """
    async with Stage() as s:
        entry = s.create("x", "read release")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        seen = [entry.statistics().state]

        s.start("remover", entry.remove)
        await quiet()
        seen.append(entry.statistics().state)
        assert s.proc.listdir() == []
        s.go("reader")
        await quiet()
        seen.append(entry.statistics().state)
        s.go("remover")
        await quiet()
        seen.append(entry.statistics().state)
        assert seen == ["live", "dying", "releasing", "gone"]


async def test_B9_B10_a_refused_removal_changes_nothing() -> None:
    """
    I31: a permanent entry stays as it was, and so does all else.
    """
    async with Stage() as s:
        entry = s.know(s.proc.create("x", s.ops("", "read", permanent=True)))
        for way, call in WAYS.items():
            s.start(way, call(s, entry))
        await quiet()
        assert {s.errno(way) for way in WAYS} == {EINVAL}
        assert s.proc.lookup("x") is entry
        assert not entry.removing
        s.create("y")
        assert s.proc.listdir() == ["x", "y"]


async def test_the_exit_joins_what_is_being_removed() -> None:
    """
    Leaving the ProcFS waits for removals that others have begun.
    """
    async with Stage() as s:
        entry = s.create("x", "read")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        s.leave()
        await quiet()
        assert s.busy == {"host", "reader", "remover"}
        s.go("reader")
        await quiet()
        assert s.busy == set()


async def test_who_removes_during_the_exit_joins_it() -> None:
    """
    Removing an entry that the exit is removing waits for it.
    """
    async with Stage() as s:
        entry = s.create("x", "read")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        s.leave()
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        assert s.busy == {"host", "reader", "remover"}
        s.go("reader")
        await quiet()
        assert s.busy == set()
