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

from aiopde import File, ProcFS, ProcOps, RemovalTimeoutError, WaitQueue
from tests.cycles import GRACE, Ring, collect_looks, directly, noting, reading, through_a_child
from tests.helpers import SLACK, Call, all_blocked, refused, start, state, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from aiopde import ProcDirEntry

    Way = Callable[[ProcDirEntry], Awaitable[object]]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str] | None]:
    """What each look for a circle has found."""
    return collect_looks(monkeypatch)


@contextmanager
def within_a_second() -> Generator[None]:
    began = anyio.current_time()
    yield
    assert anyio.current_time() - began < 1 + SLACK


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
