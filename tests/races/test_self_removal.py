"""
Removals that would wait for themselves: CONTRACT.md, section 3.8, D1 to D7; and those that only
look like it.

Linux detects none of these. Here a removal that is part of a circle is told so within a second;
those which nobody can see end with their grace, and are reported until then.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, contextmanager
from errno import EDEADLK
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from anyio import Event, create_task_group, from_thread, to_thread

from aiopde import File, ProcFS, ProcOps, RemovalTimeoutError, WaitQueue, _holders, _watch
from tests.helpers import SLACK, Call, Handlers, all_blocked, refused, start, state, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from aiopde import ProcDirEntry
    from aiopde._removal import Removal

    Way = Callable[[ProcDirEntry], Awaitable[object]]

GRACE = 0.02


@contextmanager
def within_a_second() -> Generator[None]:
    began = anyio.current_time()
    yield
    assert anyio.current_time() - began < 1 + SLACK


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str] | None]:
    """What each look for a circle has found; they begin soon, and each goes through all tasks."""
    found: list[list[str] | None] = []
    find_cycle = _holders.find_cycle

    def find(removal: Removal, event: Event) -> list[str] | None:
        found.append(find_cycle(removal, event))
        return found[-1]

    monkeypatch.setattr(_watch, "_FIRST_LOOK", GRACE)
    monkeypatch.setattr(_watch, "find_cycle", find)
    monkeypatch.setattr(_holders, "_REST", 0)
    monkeypatch.setattr(_holders, "_REST_PER_LOOK", 0)
    return found


def reading(way: Way, caught: list[OSError]) -> ProcOps:
    """Handlers whose read removes its own entry in some way, and notes what comes of it."""

    async def read(file: File, size: int, pos: int) -> bytes:
        with noting(caught):
            await way(file.entry)
        return b"read"

    return ProcOps(read=read)


@contextmanager
def noting(caught: list[OSError]) -> Generator[None]:
    """Keep the OSError that the block ends with, alone or in groups of groups."""
    try:
        yield
    except* OSError as group:
        caught.extend(leaves(group))


def leaves(group: BaseExceptionGroup[OSError]) -> Generator[OSError]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from leaves(exc)
        else:
            yield exc


async def directly(entry: ProcDirEntry) -> None:
    await entry.remove()


async def through_a_child(entry: ProcDirEntry) -> None:
    async with create_task_group() as tg:
        tg.start_soon(entry.remove, name="child")


async def through_a_grandchild(entry: ProcDirEntry) -> None:
    async with create_task_group() as tg:
        tg.start_soon(through_a_child, entry, name="parent")


async def through_a_handle(entry: ProcDirEntry) -> None:
    call = Call(entry.remove)
    async with create_task_group() as tg:
        await tg.start_soon(call.run, name="child")
    assert call.result is None


async def through_asyncios_task_group(entry: ProcDirEntry) -> None:
    async with asyncio.TaskGroup() as tg:
        tg.create_task(entry.remove(), name="child")


async def through_a_task(entry: ProcDirEntry) -> None:
    await asyncio.create_task(entry.remove(), name="child")


async def through_gather(entry: ProcDirEntry) -> None:
    await asyncio.gather(asyncio.sleep(0), entry.remove())


async def through_wait_for(entry: ProcDirEntry) -> None:
    await asyncio.wait_for(entry.remove(), 10)


async def through_wait(entry: ProcDirEntry) -> None:
    done, _ = await asyncio.wait([asyncio.create_task(entry.remove(), name="child")])
    done.pop().result()


async def through_a_shield(entry: ProcDirEntry) -> None:
    await asyncio.shield(entry.remove())


async def through_a_nursery(entry: ProcDirEntry) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(entry.remove, name="child")


async def through_a_generator(entry: ProcDirEntry) -> None:
    async def generate() -> AsyncGenerator[None]:
        yield
        async with create_task_group() as tg:
            tg.start_soon(entry.remove, name="child")

    async for _ in generate():
        pass


async def is_told(way: Way) -> list[OSError]:
    """Play D1 in some way; return what the handler was told."""
    caught: list[OSError] = []
    async with ProcFS() as proc:
        entry = proc.create("x", reading(way, caught))
        file = await proc.open("x")
        with within_a_second():
            assert await file.read() == b"read"
        await entry.remove()
        assert state(entry) == "gone"
    assert [exc.errno for exc in caught] == [EDEADLK]
    return caught


class TestD1:
    """A handler removes its own entry."""

    async def test_directly(self) -> None:
        """
        It is told at once, nothing is changed, and another may remove the entry.
        """
        (told,) = await is_told(directly)
        assert told.filename == "/proc/x"

    async def test_through_a_child(self) -> None:
        """
        A task that the handler waits for is told, with the way round; the removal goes on.
        """
        (told,) = await is_told(through_a_child)
        lines = str(told).splitlines()
        assert "the removal waits for itself" in lines[0]
        assert lines[1] == "  task 'child' waits for the removal of '/proc/x'"
        assert lines[2].startswith("  which waits for the read of '/proc/x' in task ")
        assert lines[3].endswith(" waits for task 'child': '/proc/x'")

    @pytest.mark.usefixtures("looks")
    @pytest.mark.parametrize("way", [through_a_grandchild, through_a_generator, through_a_handle])
    async def test_through_others(self, way: Way) -> None:
        """
        So is a grandchild, a child of a generator that the handler goes through, and one awaited.
        """
        (told,) = await is_told(way)
        assert "task 'child' waits for the removal" in str(told)

    @pytest.mark.parametrize(
        "way",
        [
            through_asyncios_task_group,
            through_a_task,
            through_gather,
            through_wait_for,
            through_wait,
            through_a_shield,
        ],
    )
    @pytest.mark.usefixtures("looks")
    @pytest.mark.parametrize("uvloop", [False, True])
    def test_through_tasks_of_asyncio(self, way: Way, *, uvloop: bool) -> None:
        """
        The same with asyncio's own task groups, and with all else that waits for a task.
        """
        options = {"use_uvloop": uvloop}
        anyio.run(is_told, way, backend="asyncio", backend_options=options)

    @pytest.mark.trio
    async def test_through_a_nursery_of_trio(self) -> None:
        """
        The same with trio's own.
        """
        await is_told(through_a_nursery)

    @pytest.mark.usefixtures("looks")
    async def test_of_a_directory_around_it(self) -> None:
        """
        The same for a directory that the handler's entry is in.
        """

        async def way(entry: ProcDirEntry) -> None:
            await through_a_child(entry.parent)

        caught: list[OSError] = []
        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.create("d/x", reading(way, caught))
            assert await (await proc.open("d/x")).read() == b"read"
            assert [(exc.errno, exc.filename) for exc in caught] == [(EDEADLK, "/proc/d")]

    @pytest.mark.usefixtures("looks")
    async def test_of_a_directory_whose_entry_another_removes(self) -> None:
        """
        The same if it has to wait for another removal, which waits for the handler.
        """
        may_go = Event()

        async def way(entry: ProcDirEntry) -> None:
            await may_go.wait()
            await through_a_child(entry.parent)

        caught: list[OSError] = []
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            entry = proc.create("d/x", reading(way, caught))
            reader = await start(tg, (await proc.open("d/x")).read)
            other = await start(tg, entry.remove)
            may_go.set()
            await wait_until(lambda: reader.done)
            assert [exc.errno for exc in caught] == [EDEADLK]
            await directory.remove()
            assert other.result is None

    @pytest.mark.usefixtures("looks")
    async def test_a_child_that_joins(self) -> None:
        """
        A child that joins a removal which waits for its parent is told; the first remover is not.
        """
        may_go = Event()

        async def way(entry: ProcDirEntry) -> None:
            await may_go.wait()
            await through_a_child(entry)

        caught: list[OSError] = []
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", reading(way, caught))
            await start(tg, (await proc.open("x")).read)
            first = await start(tg, entry.remove)
            may_go.set()
            await wait_until(lambda: first.done)
            assert first.result is None
            assert [exc.errno for exc in caught] == [EDEADLK]

    @pytest.mark.usefixtures("looks")
    @pytest.mark.parametrize("victim", ["reader", "remover"])
    async def test_cancelled_anywhere(self, victim: str) -> None:
        """
        Whoever of a circle is cancelled, and when: nobody is inside then, and no task is left.
        """
        before = len(anyio.get_running_tasks())
        for points in range(25):
            caught: list[OSError] = []
            async with ProcFS() as proc, create_task_group() as tg:
                entry = proc.create("x", reading(through_a_child, caught))
                calls: dict[str, Call[Any]] = {
                    "reader": Call((await proc.open("x")).read),
                    "remover": Call(entry.remove),
                }
                for call in calls.values():
                    tg.start_soon(call.run)
                    for _ in range(points):
                        await anyio.lowlevel.checkpoint()
                calls[victim].cancel()
                await entry.remove()
                assert (state(entry), entry.in_use) == ("gone", 0)
            assert len(anyio.get_running_tasks()) == before


class TestD2:
    """A release handler removes its own entry."""

    @pytest.mark.parametrize("by", ["closer", "removal"])
    async def test_directly(self, by: str) -> None:
        """
        It is told at once, be it run by a close or by the removal.
        """
        caught: list[int | None] = []

        async def release(file: File) -> None:
            with refused(EDEADLK) as error:
                await file.entry.remove()
            caught.append(error.value.errno)

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=release))
            file = await proc.open("x")
            await (file.aclose if by == "closer" else entry.remove)()
        assert caught == [EDEADLK]

    @pytest.mark.parametrize("by", ["closer", "removal", "read_bytes"])
    async def test_through_a_child(self, by: str) -> None:
        """
        A child of a release handler is told within a second; the release ends, and the removal.
        """
        caught: list[OSError] = []

        async def release(file: File) -> None:
            with noting(caught):
                await through_a_child(file.entry)

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(read=lambda file, size, pos: b"", release=release))
            with within_a_second():
                if by == "read_bytes":
                    await proc.read_bytes("x")
                else:
                    file = await proc.open("x")
                    await (file.aclose if by == "closer" else entry.remove)()
            await entry.remove()
            assert state(entry) == "gone"
        assert [exc.errno for exc in caught] == [EDEADLK]
        assert "the release of '/proc/x' in task" in str(caught[0])


class Locking:
    """Handlers that need a lock."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()

    async def read(self, file: File, size: int, pos: int) -> bytes:
        async with self.lock:
            return b"read"

    async def release(self, file: File) -> None:
        async with self.lock:
            pass


class TestD3:
    """A handler needs a lock that the remover's caller holds. Nobody can see who holds a lock."""

    async def test_is_reported(self) -> None:
        """
        The end of the grace tells where the handler stands; when the lock is free all goes on.
        """
        handlers = Locking()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=handlers.read))
            async with handlers.lock:
                reader = await start(tg, (await proc.open("x")).read)
                with pytest.raises(RemovalTimeoutError) as caught:
                    await entry.remove(grace=GRACE)
                (holder,) = caught.value.holders
                assert " in acquire" in str(holder)
                assert not reader.done
            await entry.remove()
            assert reader.result == b"read"

    async def test_is_ended(self) -> None:
        """
        If the entry is killable, the end of the grace ends it.
        """
        handlers = Locking()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=handlers.read), killable=True)
            async with handlers.lock:
                reader = await start(tg, (await proc.open("x")).read)
                await entry.remove(grace=GRACE)
            assert isinstance(reader.error, OSError)
            assert state(entry) == "gone"

    async def test_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        Without a grace it hangs, as in Linux, and the log tells where.
        """
        handlers = Locking()
        async with ProcFS(hung_task_timeout=GRACE) as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=handlers.read))
            async with handlers.lock:
                await start(tg, (await proc.open("x")).read)
                with anyio.move_on_after(3 * GRACE):
                    await entry.remove()
        # asyncio has things to say of its own when the machine is slow.
        (report,) = (each for each in caplog.records if each.name == "aiopde")
        assert report.levelno == logging.WARNING
        assert " in acquire" in report.getMessage()


class TestD4:
    """A release handler needs a lock that the remover's caller holds."""

    async def test_is_reported(self) -> None:
        """
        The release goes on in a task of its own; the remover is told, and can let the lock go.
        """
        handlers = Locking()
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=handlers.release))
            await proc.open("x")
            async with handlers.lock:
                with pytest.raises(RemovalTimeoutError) as caught:
                    await entry.remove(grace=GRACE)
                (holder,) = caught.value.holders
                assert (holder.op, " in acquire" in str(holder)) == ("release", True)
            await entry.remove()
            assert state(entry) == "gone"


class TestD5:
    """A handler waits for something that comes only after the removal."""

    @pytest.mark.parametrize("how", ["wait_event", "removed"])
    async def test_is_no_deadlock_if_it_waits_for_its_removal_too(self, how: str) -> None:
        """
        A handler that waits with wait_event(), or for file.removed, is woken by the removal.
        """
        queue = WaitQueue()
        unloaded: list[bool] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            if how == "removed":
                await file.removed.wait()
            else:
                await file.wait_event(queue, lambda: unloaded)
            return b"read"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            reader = await start(tg, (await proc.open("x")).read)
            await entry.remove()
            unloaded.append(True)
            queue.wake_up()
            await all_blocked()
            assert reader.done

    async def test_is_reported_if_not(self) -> None:
        """
        With an event of its own it hangs until the grace ends.
        """
        unloaded = Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            await unloaded.wait()
            return b"read"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            reader = await start(tg, (await proc.open("x")).read)
            with pytest.raises(RemovalTimeoutError):
                await entry.remove(grace=GRACE)
            unloaded.set()
            await entry.remove()
            assert reader.result == b"read"


class Ring:
    """Entries each of whose handlers removes the next one, and the last the first."""

    def __init__(self, proc: ProcFS, size: int, *, way: Way, nested: bool = False) -> None:
        self.caught: list[OSError] = []
        self.all_inside = Event()
        self.may_leave = Event()
        self._inside = 0
        self._way = way
        self.targets: list[ProcDirEntry] = []
        self.entries: list[ProcDirEntry] = []
        for number in range(size):
            parent = proc.mkdir(f"d{number}") if nested else None
            entry = proc.create(f"x{number}", ProcOps(read=self.read), parent=parent, data=number)
            self.entries.append(entry)
            self.targets.append(parent or entry)

    async def read(self, file: File, size: int, pos: int) -> bytes:
        self._inside += 1
        if self._inside == len(self.entries):
            self.all_inside.set()
        await self.all_inside.wait()
        number: int = file.data
        target = self.targets[(number + 1) % len(self.targets)]
        with noting(self.caught):
            await self._way(target)
        await self.may_leave.wait()
        return b"read"

    async def play(self, proc: ProcFS) -> None:
        """Read all of them at once; let go when one was told."""
        readers = [Call((await proc.open(entry)).read) for entry in self.entries]
        async with create_task_group() as tg:
            for number, reader in enumerate(readers):
                tg.start_soon(reader.run, name=f"reader {number}")
            await wait_until(lambda: self.caught)
            self.may_leave.set()
        assert [reader.result for reader in readers] == [b"read"] * len(readers)
        for target in self.targets:
            await target.remove()
            assert state(target) == "gone"


class TestD6:
    """Handlers that wait for the removal of each other's entries."""

    async def test_two(self) -> None:
        """
        One of two handlers that remove each other's entries is told, within a second.
        """
        async with ProcFS() as proc:
            ring = Ring(proc, 2, way=directly)
            with within_a_second():
                await ring.play(proc)
        (told,) = ring.caught
        assert told.errno == EDEADLK
        a, b = ("x0", "x1") if told.filename == "/proc/x0" else ("x1", "x0")
        reader_a, reader_b = f"'reader {a[1:]}'", f"'reader {b[1:]}'"
        assert str(told).splitlines()[1:] == [
            f"  task {reader_b} waits for the removal of '/proc/{a}'",
            f"  which waits for the read of '/proc/{a}' in task {reader_a}",
            f"  task {reader_a} waits for the removal of '/proc/{b}'",
            f"  which waits for the read of '/proc/{b}' in task {reader_b}: '/proc/{a}'",
        ]

    @pytest.mark.usefixtures("looks")
    @pytest.mark.parametrize("size", [3, 10])
    @pytest.mark.parametrize("way", [directly, through_a_child])
    @pytest.mark.parametrize("nested", [False, True])
    async def test_a_ring(self, size: int, way: Way, *, nested: bool) -> None:
        """
        The same for longer rings, through children, and for the directories around the entries.
        """
        async with ProcFS() as proc:
            ring = Ring(proc, size, way=way, nested=nested)
            await ring.play(proc)
        assert {exc.errno for exc in ring.caught} == {EDEADLK}

    async def test_only_one_is_told(self, looks: list[list[str] | None]) -> None:
        """
        When one of them was told, and does something else, the others wait on: there is no circle.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            ring = Ring(proc, 2, way=directly)
            readers = [await start(tg, (await proc.open(entry)).read) for entry in ring.entries]
            await wait_until(lambda: ring.caught and looks[-1] is None)
            assert len(ring.caught) == 1
            assert [reader.done for reader in readers] == [False, False]
            ring.may_leave.set()
            await wait_until(lambda: readers[0].done and readers[1].done)
            assert len(ring.caught) == 1


class TestD7:
    """Removal where one must not sleep: in a plain function."""

    async def test_is_remove_self(self) -> None:
        """
        A plain handler cannot await, and need not: it has remove_self().
        """

        def read(file: File, size: int, pos: int) -> bytes:
            assert file.entry.remove_self()
            return b"read"

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(read=read))
            assert await (await proc.open("x")).read() == b"read"
            await entry.remove()
            assert state(entry) == "gone"

    async def test_in_another_thread(self) -> None:
        """
        A thread has no loop to end it in: that is said before anything is begun, with the cure.
        """

        def in_vain() -> None:
            with pytest.raises(RuntimeError, match=r"from_thread\.run_sync\(entry\.remove_self\)"):
                entry.remove_self()

        async def in_another_loop() -> None:
            in_vain()

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            await to_thread.run_sync(in_vain)
            await to_thread.run_sync(anyio.run, in_another_loop)
            assert state(entry) == "live"
            assert await to_thread.run_sync(from_thread.run_sync, entry.remove_self)
            await entry.remove()


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

        def everybody(look: _holders.Look) -> frozenset[int]:
            return frozenset(look.waiters)

        monkeypatch.setattr(_holders.Look, "suspects", everybody)
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


class TestTheTreeItself:
    async def test_a_handler_that_leaves_its_tree(self) -> None:
        """
        A handler that leaves the tree it is in waits for itself too, and is told.
        """
        errors: list[BaseException] = []
        stack = AsyncExitStack()

        async def read(file: File, size: int, pos: int) -> bytes:
            try:
                await stack.aclose()
            except ExceptionGroup as group:
                errors.extend(group.exceptions)
            return b"read"

        async with create_task_group():
            proc = await stack.enter_async_context(ProcFS())
            proc.create("x", ProcOps(read=read))
            file = await proc.open("x")
            with within_a_second():
                assert await file.read() == b"read"
        assert [getattr(exc, "errno", None) for exc in errors] == [EDEADLK]


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

        class CountedLook(_holders.Look):
            def __init__(self) -> None:
                super().__init__()
                looks.append(len(self.waiters))

        monkeypatch.setattr(_watch, "_FIRST_LOOK", 10 * GRACE)
        monkeypatch.setattr(_holders, "Look", CountedLook)
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            for number in range(50):
                entry = proc.create(f"x{number}", handlers.ops("read"))
                tg.start_soon((await proc.open(entry)).read)
            await all_blocked()
            for child in proc.root.children:
                tg.start_soon(child.remove)
            await anyio.sleep(15 * GRACE)
            assert 1 <= len(looks) <= 5
            handlers.let_go("read")
