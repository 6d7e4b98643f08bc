"""Cancellation, anywhere, of anybody who has to do with a removal (A1, A2, A3, I4, I15)."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.conformance._quiet import quiet

from ._stage import DATA, HOST, Stage
from ._sweep import cancel_everywhere, go_on, only_the_victim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde import ProcDirEntry

    from ._sweep import Scenario

ALL_OPS = "open read write mmap release"


async def reading(s: Stage) -> None:
    entry = s.create("x", "read release")
    file = await s.opened("file", entry)
    for name in ("reader", "second reader"):
        s.start(name, file.read, 3)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def queueing(s: Stage) -> None:
    """Three that want the position of one file, and nobody removes it before they have ended."""
    entry = s.create("x", "read write release")
    file = await s.opened("file", entry)
    for name in ("reader", "writer", "second reader"):
        call = (file.write, b"abc") if name == "writer" else (file.read, 3)
        s.start(name, *call)
        await quiet()
    await go_on(s)
    s.start("remover", entry.remove)
    await go_on(s)


async def reading_what_is_closed(s: Stage) -> None:
    """The reader is the last one inside, and so it is the reader who releases."""
    entry = s.create("x", "read release")
    file = await s.opened("file", entry)
    s.start("reader", file.read, 3)
    await quiet()
    s.start("closer", file.aclose)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def writing(s: Stage) -> None:
    entry = s.create("x", "write release")
    file = await s.opened("file", entry)
    s.start("writer", file.write, b"abc")
    s.start("second writer", file.pwrite, b"abc", 0)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def mapping(s: Stage) -> None:
    entry = s.create("x", "mmap release")
    file = await s.opened("file", entry)
    s.start("mapper", file.mmap, 1)
    await quiet()
    s.start("closer", file.aclose)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def opening(s: Stage) -> None:
    entry = s.create("x", ALL_OPS)
    s.open("opener", "x")
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def reading_all(s: Stage) -> None:
    entry = s.create("x", ALL_OPS)
    s.start("reader", s.proc.read_bytes, "x")
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def closing(s: Stage) -> None:
    """The close comes first, and removal waits for its release."""
    entry = s.create("x", "release")
    file = await s.opened("file", entry)
    s.start("closer", file.aclose)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def closing_late(s: Stage) -> None:
    """Removal comes first, and the close waits for its release."""
    entry = s.create("x", "release")
    file = await s.opened("file", entry)
    s.start("remover", entry.remove)
    await quiet()
    s.start("closer", file.aclose)
    await go_on(s)


async def removing(s: Stage) -> None:
    entry = s.create("x", "read release")
    file = await s.opened("file", entry)
    await s.opened("other", entry)
    s.start("reader", file.read, 3)
    await quiet()
    s.start("remover", entry.remove)
    await quiet()
    s.start("joiner", entry.remove)
    await go_on(s)


async def removing_what_is_idle(s: Stage) -> None:
    entry = s.create("x", "", "release")
    await s.opened("file", entry)
    s.start("remover", entry.remove)
    s.start("joiner", entry.remove)
    await go_on(s)


async def removing_a_tree(s: Stage) -> None:
    s.mkdir("d")
    s.mkdir("d/sub")
    entries = [s.create(name, "read release") for name in ("d/a", "d/sub/b", "d/cc")]
    files = [await s.opened(entry.path, entry) for entry in entries]
    s.start("reader", files[1].read, 3)
    await quiet()
    s.start("remover of b", entries[1].remove)
    await quiet()
    s.start("remover", s.proc.remove_subtree, "d")
    await quiet()
    s.start("joiner", s.proc.remove_subtree, "d")
    await go_on(s)


async def leaving(s: Stage) -> None:
    entries = [s.create(name, "read release") for name in ("a", "b")]
    files = [await s.opened(f"file {entry.name}", entry) for entry in entries]
    s.start("reader", files[0].read, 3)
    await quiet()
    s.start("remover", entries[0].remove)
    s.leave()
    await go_on(s)


@pytest.mark.parametrize(
    ("scenario", "victim"),
    [
        (reading, "reader"),
        (reading, "second reader"),
        (reading, "remover"),
        (queueing, "reader"),
        (queueing, "writer"),
        (queueing, "second reader"),
        (reading_what_is_closed, "reader"),
        (reading_what_is_closed, "closer"),
        (reading_what_is_closed, "remover"),
        (writing, "writer"),
        (writing, "second writer"),
        (mapping, "mapper"),
        (mapping, "closer"),
        (opening, "opener"),
        (opening, "remover"),
        (reading_all, "reader"),
        (reading_all, "remover"),
        (closing, "closer"),
        (closing, "remover"),
        (closing_late, "closer"),
        (closing_late, "remover"),
        (removing, "remover"),
        (removing, "joiner"),
        (removing_what_is_idle, "remover"),
        (removing_what_is_idle, "joiner"),
        (removing_a_tree, "remover"),
        (removing_a_tree, "remover of b"),
        (removing_a_tree, "joiner"),
        (leaving, HOST),
        (leaving, "remover"),
    ],
    ids=lambda value: getattr(value, "__name__", value).replace(" ", "_"),
)
async def test_whoever_is_cancelled_wherever_leaves_all_in_order(
    scenario: Scenario, victim: str
) -> None:
    """
    Cancelled at any point of the story, an actor leaves nothing counted, unreleased or waiting.
    """
    assert await cancel_everywhere(victim, scenario, only_the_victim(victim)) > 0


class TestAllOrNothing:
    async def test_a_cancelled_open_opened_nothing(self) -> None:
        """
        A cancelled open has either returned its file or run no handler to its success.
        """

        async def scenario(s: Stage) -> None:
            s.create("x", "open", "release")
            s.open("opener", "x")
            await go_on(s)

        def check(s: Stage) -> None:
            assert len(s.successes) == (not s.cancelled("opener"))

        await cancel_everywhere("opener", scenario, check)

    async def test_a_cancelled_read_read_nothing(self) -> None:
        """
        A cancelled read has either returned its data or left the position where it was.
        """

        async def scenario(s: Stage) -> None:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("reader", file.read, 3)
            await go_on(s)
            outcome = (s.cancelled("reader"), s.actors["reader"].value, file.tell())
            assert outcome in {(True, None, 0), (False, DATA[:3], 3)}

        await cancel_everywhere("reader", scenario)

    async def test_a_cancelled_close_has_closed(self) -> None:
        """
        Wherever a close is cancelled, the descriptor is closed and its release is over.
        """

        async def scenario(s: Stage) -> None:
            entry = s.create("x", "release")
            file = await s.opened("file", entry)
            s.start("closer", file.aclose)
            await go_on(s)
            assert file.closed
            assert "closer release file" in s.log
            assert entry.statistics().open_files == 0

        await cancel_everywhere("closer", scenario)

    @pytest.mark.parametrize("tree", [False, True])
    async def test_a_cancelled_removal_has_begun(self, tree: bool) -> None:
        """
        A2: wherever a removal is cancelled, what it is about is gone or going, and ends by itself.
        """

        async def scenario(s: Stage) -> None:
            top = s.mkdir("d")
            entry = s.create("d/x", "read release")
            file = await s.opened("file", entry)
            s.start("reader", file.read, 3)
            await quiet()
            going: ProcDirEntry = top if tree else entry
            s.start("remover", going.remove)
            await quiet()
            assert going.removing
            assert entry.removing
            await go_on(s)
            assert going.statistics().state == "gone"

        await cancel_everywhere("remover", scenario)

    async def test_a_removal_cancelled_before_it_begins_may_have_begun(self) -> None:
        """
        remove() in a cancelled scope has removed; what began to go never comes back.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            s.start("remover", entry.remove)
            s.cancel("remover")
            await quiet()
            assert s.cancelled("remover")
            assert entry.removing

    @pytest.mark.parametrize("victim", ["closer", "remover"])
    @pytest.mark.parametrize("first", ["closer", "remover"])
    async def test_A2_task_cancel_strands_nobody(
        self, anyio_backend_name: str, first: str, victim: str
    ) -> None:
        """
        Task.cancel() heeds no shield, so it can cut a release short; nobody waits for that in vain.
        """
        if anyio_backend_name != "asyncio":
            pytest.skip("it is asyncio's own way to cancel")

        async def until_cancelled(call: Callable[[], Awaitable[None]]) -> None:
            with suppress(asyncio.CancelledError):
                await call()

        async with Stage() as s:
            entry = s.create("x", "release")
            file = await s.opened("file", entry)
            calls = {"closer": file.aclose, "remover": entry.remove}
            for name in sorted(calls, key=lambda name: name != first):
                s.start(name, until_cancelled, calls[name])
                await quiet()
            next(task for task in asyncio.all_tasks() if task.get_name() == victim).cancel()
            await quiet()
            assert victim not in s.busy
            s.let_all_go()
            await quiet()
            assert s.busy == set()
            assert entry.statistics().state == "gone"
            assert s.log.count(f"{first} release file") == 1

    async def test_A2_the_remover_may_come_back(self) -> None:
        """
        After a cancelled removal, awaiting it again joins it.
        """
        async with Stage() as s:
            entry = s.create("x", "read release")
            file = await s.opened("file", entry, os.O_RDWR)
            s.start("reader", file.read, 3)
            await quiet()
            for number in range(3):
                s.start(f"remover {number}", entry.remove)
                await quiet()
                s.cancel(f"remover {number}")
                await quiet()
            s.start("remover", entry.remove)
            await quiet()
            assert s.busy == {"reader", "remover"}
            s.go("reader")
            await quiet()
            # In the context of whoever began it.
            assert s.stopped == {"remover 0 release file"}
            assert s.busy == {"remover"}
            s.go("remover 0")
            await quiet()
            assert s.busy == set()
