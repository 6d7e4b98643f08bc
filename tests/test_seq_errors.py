"""What errors, bugs and cancellations of the handlers leave behind in a seq file."""

import asyncio
from errno import EIO
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from aiopde._seq_file import SeqFile, SeqOps
from tests.seq_helpers import ERROR, OpenFile, Reader, Walk, blocks, raises


class TestErrors:
    @pytest.mark.parametrize(
        ("place", "log", "stopped_at"),
        [
            ("start(0)", "start(0) stop", None),
            ("show(0)", "start(0) show(0) stop", 0),
            ("next(0)", "start(0) show(0) next(0) stop", None),
            ("show(1)", "start(0) show(0) next(0) show(1) stop", 1),
        ],
    )
    async def test_before_the_first_byte_are_returned(
        self, place: str, log: str, stopped_at: int | None
    ) -> None:
        """
        I39, I42: an error on the way to the first record with bytes is the reader's, after stop.
        """
        walk = Walk(b"", b"a")
        walk.hooks[place] = raises(ERROR)
        file = OpenFile(walk.ops)
        with pytest.raises(OSError, match="broken") as failure:
            await file.read(100)
        assert failure.value is ERROR
        assert walk.taken() == log
        assert walk.stopped_at == stopped_at

        walk.hooks.clear()
        assert await file.read_all() == b"a"

    @pytest.mark.parametrize("place", ["start(1)", "show(1)"])
    async def test_after_the_first_byte_wait_for_the_next_read(self, place: str) -> None:
        """
        Bytes left from the last read are returned first; the error recurs then.
        """
        walk = Walk(b"abc", b"def")
        walk.hooks[place] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        assert await file.read(100) == b"bc"
        with pytest.raises(OSError, match="broken"):
            await file.read(100)
        walk.hooks.clear()
        assert await file.read_all() == b"def"
        assert walk.balanced()

    async def test_of_show_take_its_record_back(self) -> None:
        """
        A later record that fails ends the batch before it, whole, and is tried again.
        """
        walk = Walk(b"ab", b"cd", b"ef")
        walk.hooks["show(1)"] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.read(100) == b"ab"
        assert walk.taken() == "start(0) show(0) next(0) show(1) stop"
        with pytest.raises(OSError, match="broken"):
            await file.read(100)
        walk.hooks.clear()
        assert await file.read(100) == b"cdef"

    async def test_of_next_end_the_batch(self) -> None:
        """
        A next that fails after a record counts as having moved on: nothing is shown twice.
        """
        walk = Walk(b"ab", b"cd", b"ef")
        walk.hooks["next(1)"] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.read(100) == b"abcd"
        assert walk.taken() == "start(0) show(0) next(0) show(1) next(1) stop"
        assert walk.stopped_at is None
        assert await file.read(100) == b"ef"

    @pytest.mark.parametrize("place", ["start(0)", "show(1)", "next(1)"])
    @pytest.mark.parametrize("call", ["pread", "lseek"])
    async def test_on_the_way_to_an_offset_begin_anew(self, place: str, call: str) -> None:
        """
        An error before the offset is returned; whatever was known about the position is not.
        """
        walk = Walk(b"ab", b"cd", b"ef")
        file = OpenFile(walk.ops)
        assert await file.read(3) == b"abc"
        walk.hooks[place] = raises(ERROR)
        with pytest.raises(OSError, match="broken"):
            await (file.pread(1, 5) if call == "pread" else file.lseek(5))
        assert walk.balanced()
        assert file.pos == (3 if call == "pread" else 0)
        assert repr(file.m) == "<SeqFile index=0 read_pos=0>"

        walk.hooks.clear()
        assert await file.read_all() == (b"def" if call == "pread" else b"abcdef")

    @pytest.mark.parametrize(("offset", "left"), [(1, b"b"), (2, b"")])
    async def test_beyond_the_offset_do_not_matter(self, offset: int, left: bytes) -> None:
        """
        A next that fails after the record with the offset ends that walk, and nothing else.
        """
        walk = Walk(b"ab", b"cd")
        walk.hooks["next(0)"] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.lseek(offset) == offset
        assert walk.taken() == "start(0) show(0) next(0) stop"
        assert await file.read(len(left) or 2) == left or b"cd"
        assert await file.read_all() == (b"cd" if left else b"")


class TestStop:
    async def test_gets_the_last_item(self) -> None:
        """
        stop gets the item shown last but one when there are more, None at the end.
        """
        walk = Walk(b"a", b"b")
        file = OpenFile(walk.ops)
        await file.read(1)
        assert walk.stopped_at == 1
        await file.read(1)
        assert walk.stopped_at is None

    @pytest.mark.parametrize("size", [1, 100])
    async def test_its_error_undoes_the_read(self, size: int) -> None:
        """
        What stop raises is the reader's, also after good bytes; these come again.
        """
        walk = Walk(b"ab", b"cd")
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        walk.hooks["stop"] = raises(ERROR)
        with pytest.raises(OSError, match="broken"):
            await file.read(size)
        walk.hooks.clear()
        assert await file.read_all() == b"bcd"

    @pytest.mark.parametrize("kind", [OSError, ZeroDivisionError])
    async def test_its_error_does_not_hide_another(self, kind: type[Exception]) -> None:
        """
        After an error of start, next or show, that of stop is but a note on it.
        """
        walk = Walk(b"a")
        walk.hooks = {"show(0)": raises(kind("first")), "stop": raises(ERROR)}
        with pytest.raises(kind, match="first") as failure:
            await OpenFile(walk.ops).read(1)
        assert failure.value.__notes__ == [
            "stop= handler Walk.stop then raised OSError(5, 'broken')"
        ]

    async def test_nothing_is_kept_after_it(self) -> None:
        """
        Between reads the file holds on to no item.
        """
        file = OpenFile(Walk(b"a", b"b").ops)
        await file.read(1)
        assert file.private_data._item is None


PLACES = ["start(1)", "show(1)", "next(1)", "show(2)", "next(2)"]


class TestBugs:
    @pytest.mark.parametrize("place", PLACES)
    async def test_are_raised_at_once_and_undone(self, place: str) -> None:
        """
        An exception that is no OSError is never deferred; the file is where it was, and whole.
        """
        walk = Walk(b"abc", b"def", b"ghi")
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        walk.hooks[place] = raises(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await file.read(100)
        assert walk.balanced()
        assert file.pos == 1
        walk.hooks.clear()
        assert await file.read_all() == b"bcdefghi"

    async def test_in_a_seek_leave_it_where_it_was(self) -> None:
        """
        The same for a seek: the bytes left of a record are still there.
        """
        walk = Walk(b"abc", b"def")
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        walk.hooks["show(0)"] = raises(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await file.lseek(5)
        walk.taken()
        assert await file.read(2) == b"bc"
        assert walk.taken() == "start(1) show(1) next(1) stop"

    @pytest.mark.parametrize("got", ["text", 2, -EIO, True, b""])
    async def test_show_must_not_return_text(self, got: object) -> None:
        """
        A show that returns what has no meaning is named, with what it should do.
        """
        walk = Walk(b"a")

        def show(m: SeqFile, item: int) -> Any:
            return got

        ops = SeqOps(start=walk.start, next=walk.next, stop=walk.stop, show=show)
        with pytest.raises(TypeError, match=r"show= handler .*show returned .*m\.puts\(\)"):
            await OpenFile(ops).read(10)
        assert walk.balanced()

    @pytest.mark.parametrize("got", [None, 1, (1, 2, 3), (1,), (1, "2"), [1, 2]])
    async def test_next_must_return_a_pair(self, got: object) -> None:
        """
        A next that returns something else is named, with what it should return.
        """
        walk = Walk(b"a")

        async def wrong(m: SeqFile, item: int, pos: int) -> Any:
            return got

        ops = SeqOps(start=walk.start, next=wrong, stop=walk.stop, show=walk.show)
        with pytest.raises(TypeError, match=r"next= handler .*wrong returned .*its position"):
            await OpenFile(ops).read(10)
        assert walk.log == ["start(0)", "show(0)", "stop"]

    @pytest.mark.parametrize("field", ["start", "next", "stop", "show"])
    async def test_a_coroutine_behind_a_plain_function_is_named(self, field: str) -> None:
        """
        A plain function that returns a coroutine is an error, not an item.
        """
        walk = Walk(b"a")
        fields: dict[str, Any] = {
            name: getattr(walk, name) for name in ("start", "next", "stop", "show")
        }
        hidden = fields[field]

        def plain(*args: Any) -> Any:
            return hidden(*args)

        fields[field] = plain
        with pytest.raises(TypeError, match=f"{field}= .*plain .* no coroutine .*async function"):
            await OpenFile(SeqOps(**fields)).read(10)


class TestCancellation:
    @pytest.mark.parametrize("place", PLACES)
    async def test_is_undone_after_stop(self, place: str) -> None:
        """
        Cancelled in any handler, a read still runs stop to its end, and leaves the file as it was.
        """
        walk = Walk(b"abc", b"def", b"ghi")
        file, done = OpenFile(walk.ops), list[str]()
        assert await file.read(1) == b"a"
        walk.taken()

        async def stop() -> None:
            await checkpoint()
            done.append("stopped")

        walk.hooks = {place: blocks, "stop": stop}
        reader = Reader(file, "reader", done)
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 1)
            await wait_all_tasks_blocked()
            assert walk.log[-1] == place
            reader.scope.cancel()
        assert reader.scope.cancelled_caught
        assert done == ["stopped"]
        assert walk.log.count("stop") == 1
        assert walk.stopped_at == (int(place[5]) if place.startswith("show") else None)

        walk.hooks.clear()
        assert await file.read_all() == b"bcdefghi"

    async def test_in_stop_calls_it_no_second_time(self) -> None:
        """
        stop itself may be cancelled: it was called, and the read is undone.
        """
        walk = Walk(b"abc")
        file = OpenFile(walk.ops)
        walk.hooks["stop"] = blocks
        reader = Reader(file, "reader", [])
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 0)
            await wait_all_tasks_blocked()
            reader.scope.cancel()
        assert reader.scope.cancelled_caught
        assert walk.taken() == "start(0) show(0) next(0) stop"
        walk.hooks.clear()
        assert await file.read_all() == b"abc"

    async def test_is_not_lost_in_a_failing_stop(self) -> None:
        """
        A stop that raises after a cancellation does not turn it into an error.
        """
        walk = Walk(b"abc")
        walk.hooks = {"show(0)": blocks, "stop": raises(ERROR)}
        reader = Reader(OpenFile(walk.ops), "reader", [])
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 0)
            await wait_all_tasks_blocked()
            reader.scope.cancel()
        assert reader.scope.cancelled_caught

    async def test_in_a_seek_leaves_the_position(self) -> None:
        """
        A cancelled seek did not happen.
        """
        walk = Walk(b"abc", b"def")
        file = OpenFile(walk.ops)
        await file.read(1)
        walk.hooks["show(1)"] = blocks
        with CancelScope() as scope:
            async with create_task_group() as tg:
                tg.start_soon(file.lseek, 5)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert file.pos == 1
        walk.hooks.clear()
        assert await file.read_all() == b"bcdef"

    async def test_by_asyncio_itself_is_undone_too(self, anyio_backend_name: str) -> None:
        """
        A task cancelled without a cancel scope leaves the file as it was.
        """
        if anyio_backend_name != "asyncio":
            pytest.skip("trio knows no other cancellation than that of scopes")
        walk = Walk(b"abc", b"def")
        file = OpenFile(walk.ops)
        walk.hooks["show(1)"] = blocks
        task = asyncio.create_task(file.read(100))
        await wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        walk.hooks.clear()
        assert walk.balanced()
        assert await file.read_all() == b"abcdef"


class TestOneAtATime:
    async def test_reads_of_one_file_wait_for_each_other(self) -> None:
        """
        Between a start and its stop nobody else gets in; who came first is next.
        """
        walk, gate, done = Walk(b"abc", b"def"), Event(), list[str]()
        walk.hooks["show(0)"] = gate.wait
        file = OpenFile(walk.ops)
        async with create_task_group() as tg:
            for name, pos in (("first", 0), ("second", 4), ("third", 1)):
                tg.start_soon(Reader(file, name, done).pread, 2, pos)
                await wait_all_tasks_blocked()
            assert walk.log == ["start(0)", "show(0)"]
            gate.set()
        assert done == ["first ab", "second ef", "third bc"]
        assert walk.balanced()

    async def test_who_gives_up_waiting_disturbs_nobody(self) -> None:
        """
        A reader cancelled while another one reads leaves that one, and the next, alone.
        """
        walk, gate, done = Walk(b"abc"), Event(), list[str]()
        walk.hooks["show(0)"] = gate.wait
        file = OpenFile(walk.ops)
        second = Reader(file, "second", done)
        async with create_task_group() as tg:
            tg.start_soon(Reader(file, "first", done).pread, 2, 0)
            await wait_all_tasks_blocked()
            tg.start_soon(second.pread, 2, 1)
            await wait_all_tasks_blocked()
            second.scope.cancel()
            tg.start_soon(file.lseek, 2)
            await wait_all_tasks_blocked()
            gate.set()
        assert done == ["first ab"]
        assert file.pos == 2
        assert await file.read(5) == b"c"

    @pytest.mark.parametrize("failure", [ERROR, ZeroDivisionError()])
    async def test_an_error_lets_the_next_one_in(self, failure: Exception) -> None:
        """
        However a read ends, the file can be read again.
        """
        walk = Walk(b"abc")
        walk.hooks["show(0)"] = raises(failure)
        file = OpenFile(walk.ops)
        for _ in range(2):
            with pytest.raises(type(failure)):
                await file.read(1)
