"""
What one may ask of anything that is taken away while it is in use: one test for each question.

The questions are the columns of PEERS.md, section 2, where eleven peers answer them: locks, task
groups, schedulers, counters with an event. Here is the row of aiopde.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from errno import EDEADLK, EIO, ENOENT
from typing import TYPE_CHECKING

import anyio
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from aiopde import File, ProcDirEntry, ProcFile, ProcFS, ProcOps
from tests.helpers import Handlers, all_blocked, refused, start, state, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup


class Resource:
    """The resource, with a handler that can be held up; and a task group for its users."""

    def __init__(
        self, proc: ProcFS, entry: ProcDirEntry, handlers: Handlers, tg: TaskGroup
    ) -> None:
        self.proc = proc
        self.entry = entry
        self.handlers = handlers
        self.tg = tg

    async def use(self) -> bytes:
        async with await self.proc.open(self.entry) as file:
            return await file.read()


@asynccontextmanager
async def resource(*, held: bool = True) -> AsyncGenerator[Resource]:
    handlers = Handlers()
    if held:
        handlers.hold_up("read")
    async with ProcFS() as proc, create_task_group() as tg:
        entry = proc.create("x", handlers.ops("open", "read", "release"))
        yield Resource(proc, entry, handlers, tg)


class TestMatrix:
    """The behaviour matrix."""

    async def test_trio_too(self) -> None:
        """
        It works on this loop, and on each of the others that this test is run on.
        """
        async with resource(held=False) as x:
            assert await x.use() == b"content"
            await x.entry.remove()
            assert state(x.entry) == "gone"

    async def test_concurrent_calls(self) -> None:
        """
        Any number of calls are inside at the same time.
        """
        async with resource() as x:
            users = [await start(x.tg, x.use) for _ in range(3)]
            assert x.entry.in_use == 3
            x.handlers.let_go("read")
            await all_blocked()
            assert [user.result for user in users] == [b"content"] * 3

    async def test_a_new_call_after_remove_began(self) -> None:
        """
        It is refused at once, and does not wait for anything.
        """
        async with resource() as x:
            file = await x.proc.open(x.entry)
            await start(x.tg, x.use)
            remover = await start(x.tg, x.entry.remove)
            with too_late("open", ENOENT):
                await x.use()
            with too_late("read", EIO):
                await file.read()
            assert not remover.done
            x.handlers.let_go("read")

    async def test_remove_waits_for_calls_in_flight(self) -> None:
        """
        remove() returns after the last call that was inside, and lets that come to its end.
        """
        async with resource() as x:
            user = await start(x.tg, x.use)
            remover = await start(x.tg, x.entry.remove)
            assert not remover.done
            x.handlers.let_go("read")
            await all_blocked()
            assert user.result == b"content"
            assert remover.done

    async def test_two_removers(self) -> None:
        """
        Both return, neither before the call inside has left.
        """
        async with resource() as x:
            await start(x.tg, x.use)
            removers = [await start(x.tg, x.entry.remove) for _ in range(2)]
            assert [remover.done for remover in removers] == [False, False]
            x.handlers.let_go("read")
            await all_blocked()
            assert [remover.result for remover in removers] == [None, None]

    async def test_a_user_cancelled_in_mid_call(self) -> None:
        """
        It has left, and the removal that waited for it ends.
        """
        async with resource() as x:
            user = await start(x.tg, x.use)
            remover = await start(x.tg, x.entry.remove)
            user.cancel()
            await all_blocked()
            assert user.cancelled
            assert (remover.result, state(x.entry)) == (None, "gone")

    async def test_the_remover_cancelled_and_a_later_call(self) -> None:
        """
        What began to go never comes back: the call is refused.
        """
        async with resource() as x:
            await start(x.tg, x.use)
            remover = await start(x.tg, x.entry.remove)
            remover.cancel()
            await all_blocked()
            assert remover.cancelled
            with too_late("open", ENOENT):
                await x.use()
            x.handlers.let_go("read")

    async def test_the_remover_cancelled_and_a_later_remove(self) -> None:
        """
        It joins the removal that goes on, and returns when that is over.
        """
        async with resource() as x:
            await start(x.tg, x.use)
            remover = await start(x.tg, x.entry.remove)
            remover.cancel()
            await all_blocked()
            joiner = await start(x.tg, x.entry.remove)
            assert not joiner.done
            x.handlers.let_go("read")
            await all_blocked()
            assert joiner.result is None

    async def test_self_removal_in_a_handler(self) -> None:
        """
        EDEADLK at once, with the cure in its message; which then works.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            with refused(EDEADLK) as caught:
                await file.entry.remove()
            assert "remove_self()" in str(caught.value)
            assert file.entry.remove_self()
            return b"bye"

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(read=read))
            assert await (await proc.open("x")).read() == b"bye"
            await entry.remove()
            assert state(entry) == "gone"

    async def test_a_nested_call_by_a_holder_while_removing(self) -> None:
        """
        It is refused like any other; the call it is made from goes on.
        """
        inside, removing = anyio.Event(), anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            inside.set()
            await removing.wait()
            with too_late("open", ENOENT):
                await proc.read_bytes(file.entry)
            return b"outer"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            user = await start(tg, (await proc.open("x")).read)
            assert inside.is_set()
            remover = await start(tg, entry.remove)
            removing.set()
            await all_blocked()
            assert (user.result, remover.result) == (b"outer", None)

    async def test_endless_readers(self) -> None:
        """
        Users that never stop coming, so that there is always one inside, do not hold it up.
        """
        served = 0

        async def read(file: File, size: int, pos: int) -> bytes:
            nonlocal served
            for _ in range(3):
                await checkpoint()
            served += 1
            return b"x"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))

            async def reader(file: ProcFile) -> None:
                with too_late("read", EIO):
                    while True:
                        await file.read()

            for _ in range(5):
                tg.start_soon(reader, await proc.open("x"))
            while served < 20:
                await checkpoint()
            await entry.remove()
            assert state(entry) == "gone"


class TestBeyond:
    """The promises beyond the matrix."""

    async def test_forced_release_of_open_handles(self) -> None:
        """
        Exactly once, by the removal; closing them later releases nothing.
        """
        async with resource(held=False) as x:
            files = [await x.proc.open(x.entry) for _ in range(3)]
            await x.entry.remove()
            released = ["release 3", "release 2", "release 1"]
            assert x.handlers.log[3:] == released
            for file in files:
                await file.aclose()
            assert x.handlers.log[3:] == released

    async def test_an_idle_open_handle(self) -> None:
        """
        It does not hold a removal up.
        """
        async with resource() as x:
            file = await x.proc.open(x.entry)
            await x.entry.remove()
            assert state(x.entry) == "gone"
            await file.aclose()

    async def test_open_in_one_task_and_close_in_another(self) -> None:
        """
        A file belongs to no task.
        """
        async with resource(held=False) as x:
            opener = await start(x.tg, x.proc.open, x.entry)
            closer = await start(x.tg, opener.result.aclose)
            assert closer.done
            assert x.handlers.log == ["open 1", "release 1"]

    async def test_a_deadline_then_cancel(self) -> None:
        """
        A grace, and then calls that may be killed get EIO.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"), killable=True)
            user = await start(tg, (await proc.open("x")).read)
            await entry.remove(grace=0.01)
            await all_blocked()
            with refused(EIO):
                _ = user.result

    async def test_names_who_holds(self) -> None:
        """
        It tells the task and where it stands, though no call has noted anything.
        """
        async with resource() as x:
            x.tg.start_soon(x.use, name="user")
            await all_blocked()
            (holder,) = x.entry.holders()
            assert (holder.task, holder.op) == ("user", "read")
            assert holder.stack[-1].endswith(" in read")
            x.handlers.let_go("read")

    async def test_name_reuse(self) -> None:
        """
        The name is free the moment the removal begins; old and new do not meet.
        """
        async with resource() as x:
            user = await start(x.tg, x.use)
            await start(x.tg, x.entry.remove)
            x.proc.create_single("x", lambda: "new")
            assert await x.proc.read_text("x") == "new"
            x.handlers.let_go("read")
            await all_blocked()
            assert user.result == b"content"

    async def test_tree_removal(self) -> None:
        """
        A directory goes with all that is in it, children first.
        """
        async with ProcFS() as proc:
            released: list[str] = []
            ops = ProcOps(release=lambda file: released.append(file.entry.path))
            directory = proc.mkdir("d")
            proc.mkdir("d/sub")
            for path in ("d/sub/x", "d/y"):
                proc.create(path, ops)
                await proc.open(path)
            await directory.remove()
            assert sorted(released) == ["/proc/d/sub/x", "/proc/d/y"]
            assert proc.listdir() == []
