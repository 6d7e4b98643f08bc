"""An open file: what its removal refuses, and a release after the last call."""

import os
from errno import EBADF, EINVAL, EIO
from typing import Any

import anyio
import pytest
from anyio import Event, create_task_group

from aiopde import BIAS, EntryRemovedError, File, ProcFS, ProcOps
from aiopde._open_file import CLOSED, run_to_end
from tests.helpers import Call, Handlers, all_blocked, refused, start, state


class TestRemoval:
    async def test_who_waits_for_the_position_is_refused(self) -> None:
        """
        Waiting comes before admission: who waits when removal begins, or comes to wait then, gets
        the dead value when the call that has the position leaves. No handler is called for it.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read", "write", "lseek"))
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up("read")
            reader = await start(tg, file.read, 4)
            waiters: list[Call[Any]] = [
                await start(tg, file.read),
                await start(tg, file.write, b""),
            ]
            remover = await start(tg, entry.remove)
            waiters += [await start(tg, file.lseek, 0), await start(tg, file.readv, [1])]
            assert [waiter.done for waiter in waiters] == [False] * 4
            assert entry.in_use == 1
            handlers.let_go("read")
            await all_blocked()
            for waiter, errno in zip(waiters, (EIO, EIO, EINVAL, EIO), strict=True):
                with pytest.raises(EntryRemovedError) as caught:
                    waiter.result  # noqa: B018
                assert caught.value.errno == errno
            assert (reader.result, remover.done) == (b"cont", True)
            assert handlers.log == ["read None", "read None goes on"]

    async def test_who_does_not_want_the_position_does_not_wait(self) -> None:
        """
        A pread on a dying file that is busy is refused at once, and so is a read beside a pread.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file, other = await proc.open("x"), await proc.open("x")
            handlers.hold_up("read")
            await start(tg, file.read)
            await start(tg, other.pread, 1, 0)
            await start(tg, entry.remove)
            with refused(EIO):
                await file.pread(1, 0)
            with refused(EIO):
                await other.read()
            handlers.let_go("read")

    async def test_one_who_waits_in_vain_may_give_up(self) -> None:
        """
        A waiter of a dying file that is cancelled leaves the queue.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            await start(tg, file.read)
            waiter = await start(tg, file.read)
            remover = await start(tg, entry.remove)
            waiter.cancel()
            await all_blocked()
            assert (waiter.cancelled, remover.done) == (True, False)
            handlers.let_go("read")
            await all_blocked()
            assert remover.done

    async def test_who_was_handed_the_position_is_inside(self) -> None:
        """
        Who got the position before removal began ends with its own result, and is waited for.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            first, second = await start(tg, file.read, 4), await start(tg, file.read, 4)
            first.cancel()
            await all_blocked()
            assert (first.cancelled, entry.in_use) == (True, 1)
            remover = await start(tg, entry.remove)
            assert not remover.done
            handlers.let_go("read")
            await all_blocked()
            assert (second.result, remover.done) == (b"cont", True)

    async def test_a_waiter_cancelled_as_it_is_refused(self) -> None:
        """
        Refusal and cancellation at once: the waiter ends, and nothing is counted.
        """
        may_go = Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            await may_go.wait()
            waiter.cancel()
            return b""

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            file = await proc.open("x")
            await start(tg, file.read)
            waiter = await start(tg, file.read)
            remover = await start(tg, entry.remove)
            may_go.set()
            await all_blocked()
            assert (waiter.done, remover.done) == (True, True)
            assert (entry.in_use, state(entry)) == (0, "gone")

    async def test_a_file_with_two_calls_inside_counts_once(self) -> None:
        """
        However many calls are inside a file, removal waits until the last of them is out.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read", "poll", "ioctl"))
            file = await proc.open("x")
            for op in ("read", "poll", "ioctl"):
                handlers.hold_up(op)
            for call, *args in ((file.read,), (file.poll,), (file.ioctl, 3)):
                await start(tg, call, *args)
            remover = await start(tg, entry.remove)
            for inside, op in ((2, "poll"), (1, "read"), (0, "ioctl")):
                assert not remover.done
                handlers.let_go(op)
                await all_blocked()
                assert (entry.in_use, file.file.in_use) == (inside, inside)
            assert remover.done

    async def test_is_seen_by_handlers(self) -> None:
        """
        A handler that is inside can tell that removal has begun.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            seen = [file.file.removing]
            handlers.hold_up("read")
            await start(tg, file.read)
            await start(tg, entry.remove)
            seen.append(file.file.removing)
            assert seen == [False, True]
            handlers.let_go("read")


class TestCloseWithCallsInside:
    async def test_the_last_one_out_releases(self) -> None:
        """
        A close does not wait for calls inside; the last of them releases the file when it leaves.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("open", "read", "poll", "release"))
            file = await proc.open("x")
            handlers.hold_up("read")
            handlers.hold_up("poll")
            reader, poller = await start(tg, file.read), await start(tg, file.poll)
            await file.aclose()
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, "release 1" in handlers.log) == (b"content", False)
            handlers.let_go("poll")
            await all_blocked()
            assert poller.done
            assert handlers.log[-1] == "release 1"

    @pytest.mark.parametrize("op", ["read", "readv", "pread", "write", "pwrite", "lseek", "ioctl"])
    async def test_whatever_call_it_is(self, op: str) -> None:
        """
        Every kind of call releases when it was the last one out.
        """
        handlers = Handlers(b"content")
        ops = handlers.ops("open", "read", "write", "lseek", "ioctl", "release")
        arguments: dict[str, list[Any]] = {
            "read": [1],
            "readv": [[1]],
            "pread": [1, 0],
            "write": [b"!"],
            "pwrite": [b"!", 0],
            "lseek": [0],
            "ioctl": [3],
        }
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", ops)
            file = await proc.open("x", os.O_RDWR)
            handler = op.strip("pv") if op in {"pread", "pwrite", "readv"} else op
            handlers.hold_up(handler)
            call = await start(tg, getattr(file, op), *arguments[op])
            await file.aclose()
            assert (call.done, handlers.log[-1]) == (False, f"{handler} 1")
            handlers.let_go(handler)
            await all_blocked()
            assert call.error is None
            assert handlers.log[-1] == "release 1"

    async def test_plain_handlers_behind_it(self) -> None:
        """
        A plain read or write that waited for the position may be the last one out as well.
        """
        released: list[File] = []
        handlers = Handlers()
        for flags, call in ((os.O_RDONLY, "read"), (os.O_WRONLY, "write")):
            ops = ProcOps(
                read=lambda file, size, pos: b"",
                write=lambda file, data, pos: 0,
                lseek=handlers.lseek,
                release=released.append,
            )
            async with ProcFS() as proc, create_task_group() as tg:
                proc.create("x", ops)
                file = await proc.open("x", flags)
                handlers.hold_up("lseek")
                await start(tg, file.lseek, 0)
                waiter = await start(tg, getattr(file, call), *([b""] if call == "write" else []))
                await file.aclose()
                handlers.let_go("lseek")
                await all_blocked()
                assert (waiter.done, waiter.error, len(released)) == (True, None, 1)
            released.clear()

    async def test_who_waits_for_the_position_gets_it_still(self) -> None:
        """
        A call that waits when its descriptor is closed has its turn, and then releases.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("open", "read", "release"))
            file = await proc.open("x")
            handlers.hold_up("read")
            first, second = await start(tg, file.read, 4), await start(tg, file.read, 4)
            await file.aclose()
            handlers.let_go("read")
            await all_blocked()
            assert (first.result, second.result) == (b"cont", b"ent")
            assert handlers.log == ["open 1", "read 1", "read 1 goes on", "read 1", "release 1"]

    async def test_one_that_gives_up_waiting_releases_nothing(self) -> None:
        """
        A waiter cancelled after the close leaves the release to who is inside.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("open", "read", "release"))
            file = await proc.open("x")
            handlers.hold_up("read")
            await start(tg, file.read, 4)
            second = await start(tg, file.read, 4)
            await file.aclose()
            second.cancel()
            await all_blocked()
            assert handlers.log == ["open 1", "read 1"]
            handlers.let_go("read")
            await all_blocked()
            assert handlers.log == ["open 1", "read 1", "read 1 goes on", "release 1"]

    async def test_a_cancelled_call_releases_too(self) -> None:
        """
        A call that is cancelled, and was the last one out, runs the release to its end.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("open", "read", "release"))
            file = await proc.open("x")
            handlers.hold_up("read")
            handlers.hold_up("release")
            reader = await start(tg, file.read)
            await file.aclose()
            reader.cancel()
            await all_blocked()
            assert (reader.done, handlers.log[-1]) == (False, "release 1")
            handlers.let_go("release")
            await all_blocked()
            assert (reader.cancelled, handlers.log[-1]) == (True, "release 1 goes on")

    async def test_a_duplicate_keeps_it_open(self) -> None:
        """
        With a duplicate left, the call that leaves releases nothing.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("open", "read", "release"))
            file = await proc.open("x")
            other = file.dup()
            handlers.hold_up("read")
            await start(tg, file.read)
            await file.aclose()
            handlers.let_go("read")
            await all_blocked()
            assert "release 1" not in handlers.log
            await other.aclose()
            assert handlers.log[-1] == "release 1"

    async def test_a_handler_may_close_its_own_file(self) -> None:
        """
        A close from inside a call is released by that call, when it leaves.
        """
        log: list[str] = []

        class Table:
            async def read(self, file: File, size: int, pos: int) -> bytes:
                await descriptor.aclose()
                log.append("closed")
                return b"last words"

            async def release(self, file: File) -> None:
                log.append("released")

        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(Table()))
            descriptor = await proc.open("x")
            assert await descriptor.read() == b"last words"
            assert log == ["closed", "released"]
            with refused(EBADF):
                await descriptor.read()

    async def test_a_removal_meanwhile(self) -> None:
        """
        The last one out of a closed file of a dying entry releases it; the removal waits for that.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read", "release"))
            file = await proc.open("x")
            handlers.hold_up("read")
            handlers.hold_up("release")
            reader = await start(tg, file.read)
            await file.aclose()
            remover = await start(tg, entry.remove)
            handlers.let_go("read")
            await all_blocked()
            assert (reader.done, remover.done, handlers.log[-1]) == (False, False, "release 1")
            handlers.let_go("release")
            await all_blocked()
            assert (reader.result, remover.done) == (b"content", True)
            assert handlers.log.count("release 1") == 1


class TestClosedFile:
    def test_is_nobodys(self) -> None:
        """
        What closed descriptors share has nobody inside, and refuses everybody.
        """
        assert (CLOSED.in_use, CLOSED.removing) == (0, True)
        assert CLOSED._in_use == BIAS  # pyright: ignore[reportPrivateUsage]
        assert repr(CLOSED) == "<closed>"


class TestRunToEnd:
    def test_runs_what_awaits_nothing(self) -> None:
        """
        A coroutine without any await is run as a plain call is.
        """
        done: list[bool] = []

        async def body() -> None:
            done.append(True)

        run_to_end(body())
        assert done == [True]

    async def test_refuses_to_wait(self) -> None:
        """
        One that waits all the same is closed, and that is an error.
        """
        coroutine: Any = anyio.sleep_forever()
        with pytest.raises(RuntimeError, match="was to await nothing, and did"):
            run_to_end(coroutine)
        assert coroutine.cr_frame is None

    def test_an_error_passes(self) -> None:
        """
        What it raises reaches the caller.
        """

        async def body() -> None:
            raise EntryRemovedError("read", "/proc/x")

        with refused(EIO):
            run_to_end(body())
