"""Calls side by side on one open file: who has the position, and who gets it next."""

import os

import pytest
from anyio import Event, create_task_group

from aiopde import File, ProcFS, ProcOps
from tests.helpers import Handlers, all_blocked, start


class TestPosition:
    async def test_a_second_reader_waits(self) -> None:
        """
        Two reads of one open file come one after the other, and read on where the first ended.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            first = await start(tg, file.read, 4)
            second = await start(tg, file.read, 4)
            assert handlers.log == ["read None"]
            assert file.file.in_use == 1
            handlers.let_go("read")
            await all_blocked()
            assert (first.result, second.result) == (b"cont", b"ent")

    async def test_is_shared_by_duplicates(self) -> None:
        """
        Readers of two descriptors of one open file wait for each other just so.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            first = await start(tg, file.read, 4)
            second = await start(tg, file.dup().read, 4)
            assert len(handlers.log) == 1
            handlers.let_go("read")
            await all_blocked()
            assert (first.result, second.result) == (b"cont", b"ent")

    async def test_readers_of_two_files_do_not_wait(self) -> None:
        """
        Each open has a position of its own.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            handlers.hold_up("read")
            readers = [await start(tg, (await proc.open("x")).read, 4) for _ in range(2)]
            assert len(handlers.log) == 2
            handlers.let_go("read")
            await all_blocked()
            assert [reader.result for reader in readers] == [b"cont"] * 2

    async def test_read_write_and_lseek_use_it(self) -> None:
        """
        read, readv, write and lseek wait for each other, and get in as they came.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read_iter", "write", "lseek"))
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up("lseek")
            calls = [
                await start(tg, call, *args)
                for call, *args in (
                    (file.lseek, 1),
                    (file.write, b"!"),
                    (file.readv, [1, 1]),
                    (file.lseek, 2),
                    (file.read, 1),
                )
            ]
            assert [call.done for call in calls] == [False] * 5
            handlers.let_go("lseek")
            await all_blocked()
            assert [call.result for call in calls] == [1, 1, [b"", b""], 2, b""]

    async def test_other_calls_do_not_wait(self) -> None:
        """
        pread, pwrite, poll, ioctl and mmap run beside a read that is inside.
        """
        handlers = Handlers(b"content")
        ops = handlers.ops("read", "write", "poll", "ioctl", "compat_ioctl", "mmap")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ops)
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up("read")
            reader = await start(tg, file.read, 4)
            handlers_beside = [
                await file.pwrite(b"C", 0),
                await file.poll(),
                await file.ioctl(3),
                await file.compat_ioctl(3),
                (await file.mmap(1)).value,
            ]
            assert len(handlers_beside) == 5
            second = await start(tg, file.pread, 4, 0)
            assert handlers.log[-1] == "read None"
            assert entry.in_use == 2
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, second.result, file.tell()) == (b"C", b"C", 1)

    async def test_a_reader_comes_in_beside_other_calls(self) -> None:
        """
        A read need not wait for a pread that is inside: the position is free.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read", "write"))
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up("read")
            handlers.hold_up("write")
            beside = await start(tg, file.pread, 4, 3)
            for call, argument in (("read", 1), ("write", b"!")):
                first = await start(tg, getattr(file, call), argument)
                second = await start(tg, getattr(file, call), argument)
                assert (first.done, second.done, entry.in_use) == (False, False, 2)
                first.cancel()
                second.cancel()
                await all_blocked()
            assert entry.in_use == 1
            handlers.let_go("read")
            await all_blocked()
            assert (beside.result, entry.in_use) == (b"tent", 0)
            assert await file.read(3) == b"con"

    async def test_plain_handlers_wait_for_it_too(self) -> None:
        """
        A plain handler uses the position in its turn, like any other.
        """
        handlers = Handlers(b"content")
        async with ProcFS() as proc, create_task_group() as tg:

            def write(file: File, data: bytes, pos: int) -> int:
                handlers.log.append(f"plain write at {pos}")
                return len(data)

            ops = ProcOps(open=handlers.open, read=handlers.read, write=write)
            proc.create("x", ops)
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up("read")
            await start(tg, file.read, 4)
            writer = await start(tg, file.write, b"xy")
            assert not writer.done
            handlers.let_go("read")
            await all_blocked()
            assert (writer.result, handlers.log[-1], file.tell()) == (2, "plain write at 4", 6)

    async def test_a_plain_reader_waits_too(self) -> None:
        """
        The same for a plain read behind an async write.
        """
        handlers = Handlers(b"")
        async with ProcFS() as proc, create_task_group() as tg:
            ops = ProcOps(read=lambda file, size, pos: b"x"[:size], write=handlers.write)
            proc.create("x", ops)
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up("write")
            await start(tg, file.write, b"abc")
            reader = await start(tg, file.read, 4)
            assert not reader.done
            handlers.let_go("write")
            await all_blocked()
            assert (reader.result, file.tell()) == (b"x", 4)


class TestFairness:
    async def test_first_come_first_served(self) -> None:
        """
        Who waits longest is next.
        """
        handlers = Handlers(b"0123456789")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            readers = [await start(tg, file.read, 2) for _ in range(5)]
            handlers.let_go("read")
            await all_blocked()
            assert [reader.result for reader in readers] == [b"01", b"23", b"45", b"67", b"89"]

    async def test_nobody_gets_in_between(self) -> None:
        """
        A newcomer does not overtake who was handed the position and has not run yet.
        """
        handlers = Handlers(b"0123456789")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"), fast_acquire=True)
            file = await proc.open("x")
            handlers.hold_up("read")
            order: list[bytes] = []

            async def read_twice() -> None:
                order.append(await file.read(1))
                order.append(await file.read(1))

            async def read_once() -> None:
                order.append(await file.read(1))

            await start(tg, read_twice)
            await start(tg, read_once)
            handlers.let_go("read")
            await all_blocked()
            assert order == [b"0", b"1", b"2"]

    async def test_one_who_gives_up_waiting_is_skipped(self) -> None:
        """
        A cancelled waiter leaves the queue; the others keep their order.
        """
        handlers = Handlers(b"012345")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            readers = [await start(tg, file.read, 1) for _ in range(4)]
            readers[1].cancel()
            await all_blocked()
            assert (readers[1].cancelled, entry.in_use) == (True, 1)
            handlers.let_go("read")
            await all_blocked()
            assert [readers[n].result for n in (0, 2, 3)] == [b"0", b"1", b"2"]
            assert entry.in_use == 0

    async def test_the_only_one_who_waits_gives_up(self) -> None:
        """
        After the last waiter has given up, all goes on as if nobody had waited.
        """
        handlers = Handlers(b"012345")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")
            first, second = await start(tg, file.read, 1), await start(tg, file.read, 1)
            second.cancel()
            await all_blocked()
            handlers.let_go("read")
            await all_blocked()
            assert first.result == b"0"
            assert await file.read(1) == b"1"
            assert file.file.in_use == 0

    @pytest.mark.parametrize("others", [0, 1])
    async def test_cancelled_just_before_it_is_handed_over(self, others: int) -> None:
        """
        Who is cancelled, and handed the position before it could leave the queue, passes it on.
        """
        may_go = Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            if pos == 0:
                await may_go.wait()
                calls[1].cancel()
            return b"012345"[pos : pos + size]

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            file = await proc.open("x")
            calls = [await start(tg, file.read, 1) for _ in range(2 + others)]
            may_go.set()
            await all_blocked()
            assert calls[1].cancelled
            assert [call.result for call in (calls[0], *calls[2:])] == [b"0", b"1"][: 1 + others]
            assert entry.in_use == 0
            assert len(await file.read(9)) == 5 - others

    async def test_cancelled_just_after_it_was_handed_over(self) -> None:
        """
        Who is cancelled before it could use what it was handed uses it, or passes it on.
        """
        handlers = Handlers(b"012345")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")

            async def read_and_cancel() -> None:
                await file.read(1)
                second.cancel()

            await start(tg, read_and_cancel)
            second = await start(tg, file.read, 1)
            third = await start(tg, file.read, 1)
            handlers.let_go("read")
            await all_blocked()
            assert second.done
            assert third.result == (b"1" if second.cancelled else b"2")
            assert entry.in_use == 0

    async def test_cancelled_in_between_it_releases_what_was_closed(self) -> None:
        """
        If the file was closed meanwhile, who was handed the position in vain is the last one out.
        """
        may_go = Event()
        released: list[File] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            await may_go.wait()
            second.cancel()
            return b""

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read, release=released.append))
            file = await proc.open("x")
            first = await start(tg, file.read)
            second = await start(tg, file.read)
            await file.aclose()
            may_go.set()
            await all_blocked()
            assert (first.result, second.cancelled) == (b"", True)
            assert (len(released), entry.in_use) == (1, 0)
