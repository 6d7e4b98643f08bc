"""The removal of a directory, and what else happens to what is in it."""

from __future__ import annotations

from errno import EINVAL, EIO, ENOENT, ENOTEMPTY

import pytest

from tests.conformance._quiet import quiet

from ._stage import Stage


async def test_the_whole_subtree_is_closed_at_once() -> None:
    """
    While removal waits in the first child, its siblings refuse calls too; Linux lets them live.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        first = s.create("d/a", "read")
        last = s.create("d/z", "read")
        files = {e: await s.opened(f"file {e.name}", e) for e in (first, last)}
        s.start("reader", files[first].read, 5)
        await quiet()
        s.start("remover", top.remove)
        await quiet()
        assert [e.statistics().state for e in (top, first, last)] == [
            "releasing",
            "dying",
            "releasing",
        ]
        s.start("late", files[last].read, 5)
        s.open("late open", last)
        s.open("late open by path", "d/z")
        await quiet()
        assert s.errno("late") == EIO
        assert s.errno("late open") == s.errno("late open by path") == ENOENT


async def test_I28_children_go_before_their_directory() -> None:
    """
    Files are released depth first, siblings by length and bytes, and the root goes last.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        s.mkdir("d/b")
        entries = [s.create(name, "release") for name in ("d/b/x", "d/a", "d/cc")]
        for entry in entries:
            await s.opened(entry.path, entry)
        s.start("remover", top.remove)
        for path in ("d/a", "d/b/x", "d/cc"):
            await quiet()
            assert s.stopped == {f"remover release /proc/{path}"}
            assert top.statistics().state == "releasing"
            s.go("remover")
        await quiet()
        assert s.busy == set()


async def test_L13_removal_of_a_directory_waits_for_that_of_a_child() -> None:
    """
    A child that somebody else is removing is gone before its directory is.
    """
    async with Stage() as s:
        s.mkdir("d")
        child = s.create("d/x", "read")
        file = await s.opened("file", child)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover of x", child.remove)
        await quiet()
        assert s.proc.listdir("d") == []
        s.start("remover of d", s.proc.remove, "d")
        await quiet()
        assert s.busy == {"reader", "remover of x", "remover of d"}
        s.go("reader")
        await quiet()
        assert s.busy == set()


async def test_L13_removal_of_a_child_may_come_second() -> None:
    """
    A child removed while its directory is going is waited for by both removers.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        files = [await s.opened(n, s.create(f"d/{n}", "read")) for n in ("a", "b", "c")]
        for file in files:
            s.start(f"reader of {file.entry.name}", file.read, 5)
        await quiet()
        s.start("remover of d", top.remove)
        await quiet()
        s.start("remover of c", files[2].entry.remove)
        await quiet()
        for name in ("a", "b"):
            s.go(f"reader of {name}")
            await quiet()
        assert s.busy == {"reader of c", "remover of c", "remover of d"}
        s.go("reader of c")
        await quiet()
        assert s.busy == set()


async def test_L13_none_of_several_removals_below_is_forgotten() -> None:
    """
    One that begins while another is waited for is waited for too.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        files = {n: await s.opened(n, s.create(f"d/{n}", "read")) for n in ("a", "x", "z")}
        for name in ("x", "z"):
            s.start(f"reader of {name}", files[name].read, 5)
        await quiet()
        s.start("remover of x", files["x"].entry.remove)
        await quiet()
        s.start("remover of d", top.remove)
        await quiet()
        s.start("remover of z", files["z"].entry.remove)
        await quiet()
        s.go("reader of x")
        await quiet()
        assert s.busy == {"reader of z", "remover of z", "remover of d"}
        s.go("reader of z")
        await quiet()
        assert s.busy == set()


async def test_L13_what_was_created_and_removed_meanwhile_is_waited_for() -> None:
    """
    A child created below a directory that is going, and removed by another, is gone before it.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        old = await s.opened("old", s.create("d/a", "read"))
        s.start("reader of a", old.read, 5)
        await quiet()
        s.start("remover of d", top.remove)
        await quiet()
        entry = s.create("b", "read", parent=top)
        new = await s.opened("new", entry)
        s.start("reader of b", new.read, 5)
        await quiet()
        s.start("remover of b", entry.remove)
        await quiet()
        s.go("reader of a")
        await quiet()
        assert s.busy == {"reader of b", "remover of b", "remover of d"}
        s.go("reader of b")
        await quiet()
        assert s.busy == set()


async def test_what_is_created_meanwhile_is_swept_away() -> None:
    """
    An entry created below a directory whose turn is still to come goes with it.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        held = await s.opened("held", s.create("d/a", "read"))
        s.start("reader", held.read, 5)
        await quiet()
        s.start("remover", top.remove)
        await quiet()
        late = s.create("late", "", "release", parent=top)
        await s.opened("file", late)
        assert late.statistics().state == "live"
        s.go("reader")
        await quiet()
        assert "remover release file" in s.log
        assert late.statistics().state == "gone"


@pytest.mark.parametrize("held", ["read", "release"])
async def test_what_is_created_below_what_is_drained_is_swept_away_too(held: str) -> None:
    """
    Even below a file, and after its own calls and releases are being waited for.
    """
    async with Stage() as s:
        entry = s.create("x", held)
        file = await s.opened("file", entry)
        if held == "read":
            s.start("reader", file.read, 5)
            await quiet()
        s.start("remover", entry.remove)
        await quiet()
        late = s.create("late", "", "release", parent=entry)
        await s.opened("late file", late)
        s.go("reader" if held == "read" else "remover")
        await quiet()
        assert late.statistics().state == "gone"
        assert "remover release late file" in s.log


async def test_what_is_created_below_what_is_gone_goes_with_the_tree() -> None:
    """
    As in Linux nothing stops that; but leaving the ProcFS finds it.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        s.start("remover", top.remove)
        await quiet()
        orphan = s.create("x", "", "release", parent=top)
        await s.opened("file", orphan)
        assert orphan.statistics().state == "live"
        s.leave()
        await quiet()
        assert "host release file" in s.log
        assert orphan.statistics().state == "gone"


async def test_B8_B10_a_permanent_grandchild_keeps_everything() -> None:
    """
    A permanent entry anywhere below is found before anything is touched.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        s.create("d/a", "read")
        s.mkdir("d/m")
        s.know(s.proc.create("d/m/x", s.ops("", "read", permanent=True)))
        s.create("d/z", "read")
        s.start("remover", top.remove)
        s.start("by name", s.proc.remove_subtree, "d")
        await quiet()
        assert s.errno("remover") == s.errno("by name") == EINVAL
        assert s.proc.listdir("d") == ["a", "m", "z"]
        assert {e.statistics().state for e in s.entries} == {"live"}


async def test_remove_refuses_a_directory_with_something_in_it() -> None:
    """
    remove() of a directory that is not empty is ENOTEMPTY, and leaks nothing.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        child = s.create("d/x", "", "read")
        s.start("remover", s.proc.remove, "d")
        await quiet()
        assert s.errno("remover") == ENOTEMPTY
        assert [top.statistics().state, child.statistics().state] == ["live", "live"]
