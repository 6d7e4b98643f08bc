"""Who waits in a circle is told, nobody else; and what it costs to look."""

from __future__ import annotations

from errno import EDEADLK
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import Event, create_task_group

from aiopde import File, ProcFS, ProcOps, _deadlock, _watch
from tests.cycles import GRACE, Ring, collect_looks, directly, reading, through_a_child
from tests.helpers import Handlers, all_blocked, start, state, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde import ProcDirEntry

    Way = Callable[[ProcDirEntry], Awaitable[object]]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str] | None]:
    """What each look for a circle has found."""
    return collect_looks(monkeypatch)


class TestNoDeadlock:
    """What CONTRACT.md lists as none, and what only looks like one."""

    async def test_open_files(self) -> None:
        """
        `rmmod foo </proc/foo`: an open file is none, nor is a poll that waits.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=handlers.read, poll=lambda file: 0))
            file = await proc.open("x")
            poller = await start(tg, file.poll, timeout=None)
            await entry.remove()
            await all_blocked()
            assert poller.done

    async def test_a_reader_whose_other_group_has_the_remover(
        self, looks: list[list[str] | None]
    ) -> None:
        """
        A task that reads is not waiting for its task group, whose block has not ended yet.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc:
            # With fast_acquire the reader is inside before any other task of it has begun.
            entry = proc.create("x", handlers.ops("read"), fast_acquire=True)
            file = await proc.open("x")

            async def let_go_later() -> None:
                await wait_until(lambda: len(looks) >= 3)
                handlers.let_go("read")

            async with create_task_group() as tg:
                tg.start_soon(entry.remove)
                tg.start_soon(let_go_later)
                assert await file.read() == b"content"
        assert looks == [None] * len(looks)
        assert state(entry) == "gone"

    async def test_a_handler_that_waits_for_others(self, looks: list[list[str] | None]) -> None:
        """
        A handler may wait for a task group of its own, whose tasks do something else.
        """
        may_go = Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            async with create_task_group() as tg:
                tg.start_soon(may_go.wait)
            return b"read"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            reader = await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            await wait_until(lambda: len(looks) >= 3)
            may_go.set()
            await all_blocked()
            assert (reader.result, remover.result) == (b"read", None)
        assert looks == [None] * len(looks)

    async def test_an_outsider_is_not_told(self, looks: list[list[str] | None]) -> None:
        """
        Who only waits for a circle, and is no part of it, waits until it is broken.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            ring = Ring(proc, 2, way=directly)
            for entry in ring.entries:
                tg.start_soon((await proc.open(entry)).read)
            await ring.all_inside.wait()
            outsiders = [await start(tg, entry.remove) for entry in ring.entries]
            await wait_until(lambda: ring.caught)
            ring.may_leave.set()
            await wait_until(lambda: all(outsider.done for outsider in outsiders))
            assert [outsider.result for outsider in outsiders] == [None, None]
            assert len(ring.caught) == 1

    async def test_nor_is_the_end_of_the_tree(self, looks: list[list[str] | None]) -> None:
        """
        A tree that is left with a circle inside ends well, once that is broken.
        """
        caught: list[OSError] = []
        proc = ProcFS()
        async with create_task_group() as tg, proc:
            proc.create("x", reading(through_a_child, caught))
            tg.start_soon((await proc.open("x")).read)
            await all_blocked()
        assert [exc.errno for exc in caught] == [EDEADLK]
        assert state(proc.root) == "gone"

    async def test_a_handler_that_waits_for_what_goes_first(
        self, looks: list[list[str] | None]
    ) -> None:
        """
        In a directory that goes, a later entry's handler may wait for an earlier entry's end.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        may_join = Event()
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first = proc.create("d/1st", handlers.ops("read"))

            async def read(file: File, size: int, pos: int) -> bytes:
                await may_join.wait()
                await first.remove()
                return b"read"

            proc.create("d/2nd", ProcOps(read=read))
            await start(tg, (await proc.open("d/1st")).read)
            reader = await start(tg, (await proc.open("d/2nd")).read)
            remover = await start(tg, directory.remove)
            may_join.set()
            await wait_until(lambda: len(looks) >= 4)
            assert (reader.done, remover.done) == (False, False)
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, remover.result) == (b"read", None)
        assert looks == [None] * len(looks)

    async def test_who_waits_for_a_part_of_what_goes(self, looks: list[list[str] | None]) -> None:
        """
        Who joins for a directory within another waits for no removal of what is elsewhere in it.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        may_join = Event()
        async with ProcFS() as proc, create_task_group() as tg:
            directory, part = proc.mkdir("d"), proc.mkdir("d/part")
            proc.create("d/part/x", handlers.ops("read"))

            async def read(file: File, size: int, pos: int) -> bytes:
                await may_join.wait()
                await part.remove()
                return b"read"

            other = proc.create("d/other", ProcOps(read=read))
            await start(tg, (await proc.open("d/part/x")).read)
            reader = await start(tg, (await proc.open("d/other")).read)
            removers = [await start(tg, entry.remove) for entry in (other, directory)]
            may_join.set()
            await wait_until(lambda: len(looks) >= 6)
            assert not reader.done
            handlers.let_go("read")
            await all_blocked()
            assert [remover.result for remover in removers] == [None, None]
        assert looks == [None] * len(looks)

    async def test_who_is_suspected_wrongly(
        self, looks: list[list[str] | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A task that stands between two circles is suspected, but in none: it is not told.
        """

        def everybody(look: _deadlock.Look) -> frozenset[int]:
            return frozenset(look.waiters)

        monkeypatch.setattr(_deadlock.Look, "suspects", everybody)
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            await wait_until(lambda: looks)
            handlers.let_go("read")
            await all_blocked()
            assert remover.result is None

    async def test_a_circle_that_is_left_in_time(self, looks: list[list[str] | None]) -> None:
        """
        A child that gives up before anybody looks has waited in no deadlock.
        """

        async def way(entry: ProcDirEntry) -> None:
            async with create_task_group() as tg:
                tg.start_soon(entry.remove)
                await all_blocked()
                tg.cancel_scope.cancel()

        caught: list[OSError] = []
        async with ProcFS() as proc:
            entry = proc.create("x", reading(way, caught))
            assert await (await proc.open("x")).read() == b"read"
            await entry.remove()
        assert caught == []


class TestCosts:
    async def test_nobody_looks_before_half_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Removals that end sooner never go through the tasks.
        """
        monkeypatch.setattr(_watch, "find_cycle", None)
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            handlers.let_go("read")
            await all_blocked()
            assert remover.result is None

    async def test_many_who_wait_share_a_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Any number of removals may wait at the same time: one look serves them all.
        """
        looks: list[int] = []

        class CountedLook(_deadlock.Look):
            def __init__(self) -> None:
                super().__init__()
                looks.append(len(self.waiters))

        monkeypatch.setattr(_watch, "_FIRST_LOOK", 10 * GRACE)
        monkeypatch.setattr(_deadlock, "Look", CountedLook)
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            for number in range(50):
                entry = proc.create(f"x{number}", handlers.ops("read"))
                tg.start_soon((await proc.open(entry)).read)
            await all_blocked()
            for child in proc.root._children:
                tg.start_soon(child.remove)
            await anyio.sleep(15 * GRACE)
            assert 1 <= len(looks) <= 5
            handlers.let_go("read")
