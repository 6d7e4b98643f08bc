"""The README's table of differences from Linux: one test for each row."""

from __future__ import annotations

import select
from errno import EDEADLK, EEXIST, EINVAL, EIO, ENAMETOOLONG, ENOENT, ENOTEMPTY
from typing import TYPE_CHECKING

import anyio
import pytest

from aiopde import (
    DEFAULT_POLLMASK,
    EntryRemovedError,
    File,
    HandlerError,
    Kernel,
    ProcFS,
    ProcOps,
    UseAfterFreeError,
    WaitQueue,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Gated:
    """An entry's handlers; reads wait until they may go."""

    def __init__(self) -> None:
        self.may_go = anyio.Event()
        self.released = 0

    async def read(self, file: File, size: int, pos: int) -> bytes:
        await self.may_go.wait()
        return b"data"[pos : pos + size]

    async def release(self, file: File) -> None:
        self.released += 1


class TestRefusedInsteadOfWarned:
    """1a: where Linux WARNs and carries on, an OSError, and nothing is changed."""

    async def test_duplicate(self) -> None:
        """A name that is taken is EEXIST; what has it stays."""
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            with pytest.raises(OSError) as caught:
                proc.mkdir("x")
            assert caught.value.errno == EEXIST
            assert proc.lookup("x") is entry

    @pytest.mark.parametrize(
        ("name", "errno"),
        [("", EINVAL), (".", EINVAL), ("..", EINVAL), ("7", EINVAL), ("x" * 256, ENAMETOOLONG)],
    )
    async def test_bad_name(self, name: str, errno: int) -> None:
        """A name no entry can have is refused, and nothing is registered."""
        async with ProcFS() as proc:
            with pytest.raises(OSError) as caught:
                proc.create(name, ProcOps())
            assert caught.value.errno == errno
            assert proc.listdir() == []

    async def test_missing(self) -> None:
        """Removing what is not there is ENOENT."""
        async with ProcFS() as proc:
            with pytest.raises(OSError) as caught:
                await proc.remove("nope")
            assert caught.value.errno == ENOENT

    async def test_permanent(self) -> None:
        """Removing a permanent entry is EINVAL; it stays."""
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(permanent=True))
            for remove in (proc.remove, proc.remove_subtree):
                with pytest.raises(OSError) as caught:
                    await remove("x")
                assert caught.value.errno == EINVAL
            assert entry.statistics().state == "live"


async def test_nonsense_of_a_handler_is_its_calls_error() -> None:
    """1b: what no caller can use is an error that names the handler."""

    async def numbers(file: File, size: int, pos: int) -> bytes:
        return 7  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    async with ProcFS() as proc:
        proc.create("x", ProcOps(read=numbers))
        async with await proc.open("x") as file:
            with pytest.raises(HandlerError, match=r"numbers returned 7") as caught:
                await file.read()
        assert caught.value.errno == EIO


async def test_a_directory_with_something_in_it_is_not_removed() -> None:
    """1c: ENOTEMPTY instead of a leak; the directory and its children stay."""
    async with ProcFS() as proc:
        proc.mkdir("d")
        child = proc.create("d/x", ProcOps())
        with pytest.raises(OSError) as caught:
            await proc.remove("d")
        assert caught.value.errno == ENOTEMPTY
        assert proc.lookup("d/x") is child


async def test_a_subtree_is_shut_before_anything_is_waited_for() -> None:
    """2a: while the first child is waited for, the others refuse already."""
    first, second = Gated(), Gated()
    async with ProcFS() as proc:
        proc.mkdir("d")
        proc.create("d/a", ProcOps.of(first))
        proc.create("d/b", ProcOps.of(second))
        a, b = await proc.open("d/a"), await proc.open("d/b")
        async with anyio.create_task_group() as tg:
            tg.start_soon(a.read)
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(proc.remove_subtree, "d")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(EntryRemovedError):
                await b.read()
            assert second.released == 0  # in Linux's order: after the first
            first.may_go.set()
        assert (first.released, second.released) == (1, 1)


async def test_a_permanent_entry_inside_is_found_first() -> None:
    """2b: nothing of a subtree is touched if something in it is permanent."""
    async with ProcFS() as proc:
        proc.mkdir("d")
        other = proc.create("d/a", ProcOps())
        proc.mkdir("d/sub")
        proc.create("d/sub/x", ProcOps(permanent=True))
        with pytest.raises(OSError) as caught:
            await proc.remove_subtree("d")
        assert caught.value.errno == EINVAL
        assert other.statistics().state == "live"
        assert proc.lookup("d/sub/x").permanent


@pytest.mark.parametrize("below", ["d", "new"])
async def test_nothing_permanent_begins_in_what_goes(below: str) -> None:
    """2b: nor is a permanent entry created where a removal is under way, at whatever depth."""
    gated = Gated()
    async with ProcFS() as proc, anyio.create_task_group() as tg:
        where = {"d": proc.mkdir("d")}
        proc.create("d/a", ProcOps.of(gated))
        tg.start_soon((await proc.open("d/a")).read)
        await anyio.wait_all_tasks_blocked()
        tg.start_soon(where["d"].remove)
        await anyio.wait_all_tasks_blocked()
        where["new"] = proc.mkdir("new", parent=where["d"])
        with pytest.raises(OSError) as caught:
            proc.create("x", ProcOps(permanent=True), parent=where[below])
        assert caught.value.errno == EINVAL
        proc.create("x", ProcOps(), parent=where[below])
        gated.may_go.set()
        await where["d"].remove()
        # Where it is over there is nothing to take it along but the end of the tree.
        proc.create("p", ProcOps(permanent=True), parent=where["d"])


async def test_the_second_remover_joins() -> None:
    """3: it returns when the entry is gone, not at once."""
    ops = Gated()
    order: list[str] = []
    async with ProcFS() as proc:
        entry = proc.create("x", ProcOps.of(ops))
        file = await proc.open("x")

        async def second() -> None:
            await proc.remove("x")
            order.append(entry.statistics().state)

        async with anyio.create_task_group() as tg:
            tg.start_soon(file.read)
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(proc.remove, "x")
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            assert order == []
            ops.may_go.set()
        assert order == ["gone"]


async def test_the_directorys_remover_waits_for_the_childs() -> None:
    """3: who removes a directory returns after what somebody else removes in it is gone."""
    ops = Gated()
    async with ProcFS() as proc:
        directory = proc.mkdir("d")
        child = proc.create("d/x", ProcOps.of(ops))
        file = await proc.open("d/x")
        async with anyio.create_task_group() as tg:
            tg.start_soon(file.read)
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(child.remove)
            await anyio.wait_all_tasks_blocked()
            tg.start_soon(proc.remove, "d")
            await anyio.wait_all_tasks_blocked()
            assert directory.statistics().state != "gone"
            ops.may_go.set()
        assert directory.statistics().state == "gone"


async def test_attributes_tell_what_is_true_now() -> None:
    """4: a size or owner set after the first look is seen by the next."""
    async with ProcFS() as proc:
        entry = proc.create("x", ProcOps())
        file = await proc.open("x")
        assert proc.stat("x").st_size == 0
        entry.size, entry.uid = 100, 1000
        assert proc.stat("x") == file.stat()
        assert (file.stat().st_size, file.stat().st_uid) == (100, 1000)


async def test_a_handler_that_removes_its_own_entry_is_told() -> None:
    """5: EDEADLK, and nothing was changed; remove_self() removes it once the handler has left."""

    async def read(file: File, size: int, pos: int) -> bytes:
        with pytest.raises(OSError) as caught:
            await file.entry.remove()
        assert caught.value.errno == EDEADLK
        assert file.entry.statistics().state == "live"
        assert file.entry.remove_self()
        return b""

    async with ProcFS() as proc:
        entry = proc.create("x", ProcOps(read=read))
        assert await proc.read_bytes("x") == b""
        await entry.remove()
        assert entry.statistics().state == "gone"


async def test_a_removal_wakes_a_poll() -> None:
    """6: a poll that waits for something wakes up, and says readable and writable."""
    queue = WaitQueue()
    ready: list[int] = []

    async def poll(file: File) -> int:
        file.poll_wait(queue)
        return 0

    async def poller() -> None:
        ready.append(await file.poll(timeout=None))

    async with ProcFS() as proc:
        entry = proc.create("x", ProcOps(poll=poll))
        file = await proc.open("x")
        async with anyio.create_task_group() as tg:
            tg.start_soon(poller)
            await anyio.wait_all_tasks_blocked()
            await entry.remove()
        assert ready == [DEFAULT_POLLMASK]
        assert ready[0] & select.POLLIN


async def test_what_an_exit_forgets_is_removed() -> None:
    """7: with a warning that names it; nothing is left of an init that fails, either."""

    async def forgetful(kernel: Kernel, fail: bool = False) -> AsyncIterator[None]:
        kernel.proc.create("forgotten", ProcOps())
        if fail:
            raise ZeroDivisionError
        yield

    async with Kernel() as kernel:
        await kernel.insmod(forgetful)
        with pytest.warns(ResourceWarning, match="/proc/forgotten"):
            await kernel.rmmod("forgetful")
        with pytest.raises(ZeroDivisionError):
            await kernel.insmod(forgetful, fail=True)
        assert kernel.proc.listdir() == ["modules"]


async def test_code_that_is_gone_is_an_error() -> None:
    """8: one that names module, entry and handler; nobody dies of it."""

    async def mistaken(kernel: Kernel) -> AsyncIterator[None]:
        ops = ProcOps(read=lambda file, size, pos: b"")
        kernel.dev.register("x", ops, owner=None)
        yield
        kernel.dev.unregister("x")

    async with Kernel() as kernel:
        await kernel.insmod(mistaken)
        async with await kernel.dev.open("x") as file:
            await kernel.rmmod("mistaken")
            with pytest.raises(UseAfterFreeError, match=r"read of '/dev/x' is code of .*mistaken"):
                await file.read()
        assert kernel.uses_after_free == 1
