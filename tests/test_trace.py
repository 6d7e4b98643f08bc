"""Tracepoints: what is told, to whom, and that nobody pays or suffers for it."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group

from aiopde import (
    EntryRemovedError,
    File,
    ProcFile,
    ProcFS,
    ProcOps,
    TraceRecord,
    _read_write,
    trace,
)
from aiopde._trace import emit, sinks
from tests.helpers import Handlers, all_blocked, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

READ = [("enter", "/proc/x", "read"), ("leave", "/proc/x", "read")]


class Records(list[TraceRecord]):
    """A sink, and what it was told."""

    def __call__(self, record: TraceRecord) -> None:
        self.append(record)

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(record.event, record.path, record.call) for record in self]

    @property
    def events(self) -> list[str]:
        return [f"{record.event} {record.call}".strip() for record in self]


class Plain:
    """Handlers that are plain functions."""

    def read(self, file: File, size: int, pos: int) -> bytes:
        return b""

    def write(self, file: File, data: bytes, pos: int) -> int:
        return len(data)

    def release(self, file: File) -> None:
        pass


@pytest.fixture(autouse=True)
def nobody_listens() -> Generator[None]:
    """Before and after each test nobody does."""
    assert sinks == []
    yield
    assert sinks == []


class TestLife:
    """What a file's life tells, in order."""

    async def test_of_a_file(self) -> None:
        """
        Open, calls, close, removal, refusal: each tells what it does when it does it.
        """
        records = Records()
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("open", "read", "write", "release"), mode=0o666)
            with trace(records):
                file = await proc.open("x", os.O_RDWR)
                await file.read()
                await file.write(b"data")
                await file.aclose()
                file = await proc.open("x")
                await entry.remove()
                with pytest.raises(EntryRemovedError):
                    await file.read()
        released = ["release", "enter release", "leave release"]
        opened = ["enter open", "leave open", "open"]
        called = ["enter read", "leave read", "enter write", "leave write"]
        removed = ["unlink", "bias", "drained", *released, "gone"]
        assert records.events == [*opened, *called, *released, *opened, *removed, "refuse read"]
        assert {record.path for record in records} == {"/proc/x"}

    async def test_of_one_without_handlers(self) -> None:
        """
        Where there is no handler, nobody enters one.
        """
        records = Records()
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            with trace(records):
                await (await proc.open("x")).aclose()
                await proc.open("x")
                await entry.remove()
        removed = ["unlink", "bias", "drained", "release", "gone"]
        assert records.events == ["open", "release", "open", *removed]

    async def test_of_a_directory(self) -> None:
        """
        A subtree is shut at once and then goes entry by entry, the directory last.
        """
        records = Records()
        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.create("d/x", ProcOps())
            with trace(records):
                await proc.remove_subtree("d")
        d, x = "/proc/d", "/proc/d/x"
        begun = [("unlink", d, ""), ("bias", d, ""), ("bias", x, ""), ("unlink", x, "")]
        ended = [(event, path, "") for path in (x, d) for event in ("drained", "gone")]
        assert records.told == [*begun, *ended]

    async def test_of_a_tree(self) -> None:
        """
        The end of the whole tree is told like any removal.
        """
        records = Records()
        with trace(records):
            async with ProcFS() as proc:
                proc.create("x", ProcOps())
        assert [record.event for record in records if record.path == "/proc/x"] == [
            "bias",
            "unlink",
            "drained",
            "gone",
        ]

    async def test_drained_is_told_when_the_last_call_is_out(self) -> None:
        """
        While a call is inside there is a bias and no drain; then one drain, whatever follows.
        """
        records, handlers = Records(), Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read", "release"))
            file = await proc.open("x")
            await proc.open("x")
            handlers.hold_up("read")
            handlers.hold_up("release")
            with trace(records):
                await start(tg, file.read)
                await start(tg, entry.remove)
                assert records.events == ["enter read", "unlink", "bias"]
                handlers.let_go("read")
                await all_blocked()
                handlers.let_go("release")
                await all_blocked()
        released = ["release", "enter release", "leave release"]
        ended = ["leave read", "drained", *released, *released, "gone"]
        assert records.events == ["enter read", "unlink", "bias", *ended]


CALLS: dict[str, tuple[str, Callable[[ProcFile], Awaitable[object]]]] = {
    "read": ("read", lambda file: file.read()),
    "pread": ("read", lambda file: file.pread(1, 0)),
    "readv": ("read", lambda file: file.readv([9])),
    "write": ("write", lambda file: file.write(b"x")),
    "pwrite": ("write", lambda file: file.pwrite(b"x", 0)),
    "lseek": ("lseek", lambda file: file.lseek(0)),
    "poll": ("poll", lambda file: file.poll()),
    "ioctl": ("ioctl", lambda file: file.ioctl(100)),
    "compat_ioctl": ("compat_ioctl", lambda file: file.compat_ioctl(100)),
    "mmap": ("mmap", lambda file: file.mmap(1)),
}
OPS = ("read", "write", "lseek", "poll", "ioctl", "compat_ioctl", "mmap")


class TestCalls:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("how", ["", "fast_acquire", "killable"])
    async def test_of_each_kind(self, call: str, how: str) -> None:
        """
        Every call tells when its handler is entered and left, in each kind of entry.
        """
        op, use = CALLS[call]
        records = Records()
        options: dict[str, Any] = {how: True} if how else {}
        async with ProcFS() as proc:
            proc.create("x", Handlers().ops(*OPS), mode=0o666, **options)
            file = await proc.open("x", os.O_RDWR)
            with trace(records):
                await use(file)
            assert records.told == [("enter", "/proc/x", op), ("leave", "/proc/x", op)]

    @pytest.mark.parametrize("fast", [False, True])
    async def test_by_plain_handlers(self, *, fast: bool) -> None:
        """
        Plain handlers are told as well, though without tracing nothing is noted of them.
        """
        records = Records()
        async with ProcFS(fast_acquire=fast) as proc:
            proc.create("x", ProcOps.of(Plain()), mode=0o666)
            file = await proc.open("x", os.O_RDWR)
            with trace(records):
                await file.read()
                await file.write(b"x")
                await file.aclose()
        called = ["enter read", "leave read", "enter write", "leave write"]
        assert records.events == [*called, "release", "enter release", "leave release"]

    async def test_in_one_go(self) -> None:
        """
        read_bytes() and write_bytes() tell of each handler they run.
        """
        records = Records()
        async with ProcFS() as proc:
            proc.create("x", Handlers(b"").ops("open", "read", "write", "release"), mode=0o666)
            with trace(records):
                await proc.read_bytes("x")
                await proc.write_bytes("x", b"data")
        expected = ["open", "read", "release", "open", "write", "release"]
        assert records.events == [f"{what} {op}" for op in expected for what in ("enter", "leave")]

    async def test_that_fail(self) -> None:
        """
        A handler that raises has left; an open that failed did not succeed.
        """
        records, handlers = Records(), Handlers()
        handlers.errors = {"open": KeyError("open"), "read": KeyError("read")}
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open"))
            proc.create("y", handlers.ops("read"))
            file = await proc.open("y")
            with trace(records):
                with pytest.raises(KeyError):
                    await proc.open("x")
                with pytest.raises(KeyError):
                    await file.read()
        assert records.events == ["enter open", "leave open", "enter read", "leave read"]

    async def test_that_are_cancelled(self) -> None:
        """
        So has one that is cancelled.
        """
        records, handlers = Records(), Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            with trace(records):
                reader = await start(tg, file.read)
                reader.cancel()
                await all_blocked()
        assert records.told == READ

    @pytest.mark.parametrize(
        "call", ["read", "pread", "readv", "write", "pwrite", "lseek", "ioctl", "mmap"]
    )
    async def test_that_are_refused(self, call: str) -> None:
        """
        A call that comes too late tells so, by its own name, and of no handler.
        """
        records = Records()
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops(*OPS), mode=0o666)
            file = await proc.open("x", os.O_RDWR)
            await entry.remove()
            with trace(records), pytest.raises(EntryRemovedError):
                await CALLS[call][1](file)
            assert records.told == [("refuse", "/proc/x", call)]

    async def test_opens_that_are_refused(self) -> None:
        """
        An open of an entry that is going is refused; of a name that is gone there is none.
        """
        records = Records()
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            await entry.remove()
            with trace(records):
                for use in (proc.open, proc.read_bytes):
                    with pytest.raises(EntryRemovedError):
                        await use(entry)
                with pytest.raises(FileNotFoundError):
                    await proc.open("x")
        assert records.told == [("refuse", "/proc/x", "open")] * 2


class TestRecords:
    async def test_say_who_and_when(self) -> None:
        """
        A record has the task it happened in, and the time of the loop's clock.
        """
        records, handlers = Records(), Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            before = anyio.current_time()
            with trace(records):
                async with create_task_group() as tg:
                    tg.start_soon(file.read, name="reader")
            after = anyio.current_time()
        assert [record.task for record in records] == ["reader"] * 2
        assert before <= records[0].time <= records[1].time <= after

    def test_outside_of_a_loop(self) -> None:
        """
        Where no loop runs there is neither task nor time.
        """
        records = Records()
        with trace(records):
            emit("bias", "/proc/x")
        assert records == [TraceRecord("bias", "/proc/x", "", "", 0.0)]

    def test_in_a_callback_of_an_older_anyio(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Before 4.16, anyio could not tell the task where none runs, and said so in its own way.
        """

        def get_current_task() -> None:
            msg = "cannot create weak reference to 'NoneType' object"
            raise TypeError(msg)

        records = Records()
        monkeypatch.setattr(anyio, "get_current_task", get_current_task)
        with trace(records):
            emit("bias", "/proc/x")
        assert [record.task for record in records] == [""]

    def test_are_fixed(self) -> None:
        """
        A record cannot be changed, whoever has it.
        """
        record = TraceRecord("open", "/proc/x", "", "", 0.0)
        with pytest.raises(FrozenInstanceError):
            record.event = "close"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


class TestSinks:
    def test_can_be_called(self) -> None:
        """
        What cannot is refused at once, and not each time something happens.
        """
        number: Any = 5
        with pytest.raises(TypeError, match=r"wants a function, .* not 5"):
            trace(number)

    async def test_may_be_several(self) -> None:
        """
        Each listens for the time of its own block.
        """
        outer, inner = Records(), Records()
        async with ProcFS() as proc:
            proc.create("x", Handlers().ops("read"))
            file = await proc.open("x")
            with trace(outer):
                with trace(inner):
                    await file.read()
                await file.read()
            await file.read()
        assert outer.told == READ * 2
        assert inner.told == READ

    def test_that_are_equal_are_not_the_same(self) -> None:
        """
        Of two sinks that compare equal, the one whose block ends is no longer told.
        """
        outer, inner = Records(), Records()
        with trace(outer):
            with trace(inner):
                assert outer == inner
            emit("open", "/proc/x")
        assert (outer.events, inner.events) == (["open"], [])

    async def test_may_leave_in_any_order(self) -> None:
        """
        Blocks of different tasks need not be nested.
        """
        first, second = Records(), Records()
        async with ProcFS() as proc:
            proc.create("x", Handlers().ops("read"))
            file = await proc.open("x")
            one, two = trace(first.append), trace(second.append)
            one.__enter__()
            with two:
                one.__exit__(None, None, None)
                await file.read()
            await file.read()
        assert first.told == []
        assert second.told == READ

    def test_one_may_listen_twice(self) -> None:
        """
        The same sink in two blocks is told twice, and once when one of them is left.
        """
        records = Records()
        with trace(records):
            with trace(records):
                emit("open", "/proc/x")
            emit("gone", "/proc/x")
        assert records.events == ["open", "open", "gone"]

    async def test_one_that_raises_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        A sink that fails fails nobody's call, and no other sink; its traceback is logged.
        """

        def broken(record: TraceRecord) -> None:
            raise ZeroDivisionError

        records, handlers = Records(), Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            with trace(broken), trace(records), caplog.at_level(logging.ERROR, "aiopde"):
                assert await file.read() == b"content"
                await entry.remove()
        assert records.events[:2] == ["enter read", "leave read"]
        # asyncio has things to say of its own when the machine is slow.
        ours = [each for each in caplog.records if each.name == "aiopde"]
        assert len(ours) == len(records)
        assert "a trace sink failed on TraceRecord(event='enter'" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    def test_one_may_stop_listening_in_the_midst(self) -> None:
        """
        A block that ends while its sink is being told takes nothing from the others.
        """
        records, block = Records(), ExitStack()
        with block, trace(records):
            block.enter_context(trace(lambda _: block.close()))
            emit("open", "/proc/x")
            emit("gone", "/proc/x")
            assert sinks == [records]
        assert records.events == ["open", "gone"]


class TestSwitching:
    """The hot path has no tracepoints: while somebody listens, another one is taken."""

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("plain", [False, True])
    async def test_nothing_is_told_after_the_block(self, *, fast: bool, plain: bool) -> None:
        """
        Files opened before, in and after the block are back to what they were.
        """
        records = Records()
        ops = ProcOps.of(Plain()) if plain else Handlers(b"").ops("read", "write")
        async with ProcFS(fast_acquire=fast) as proc:
            proc.create("x", ops, mode=0o666)
            files = [await proc.open("x", os.O_RDWR)]
            with trace(records):
                files.append(await proc.open("x", os.O_RDWR))
                files.append(await proc.open("x", os.O_RDONLY))
            files.append(await proc.open("x", os.O_WRONLY))
            told = len(records)
            for file in (files[0], files[1], files[2]):
                await file.read()
            for file in (files[0], files[1], files[3]):
                await file.write(b"x")
        assert len(records) == told

    async def test_the_hot_path_has_no_tracepoints(self) -> None:
        """
        While nobody listens, reads and writes take the short way; while somebody does, the long.
        """
        async with ProcFS(fast_acquire=True) as proc:
            proc.create("x", Handlers().ops("read", "write"), mode=0o666)
            proc.create("plain", ProcOps.of(Plain()), mode=0o666)
            kinds = [type(await proc.open(name, os.O_RDWR)) for name in ("x", "plain")]
            short = [(kind.read, kind._read, kind.write, kind._write) for kind in kinds]
            with trace(bool):
                for kind in kinds:
                    assert {kind.read, kind._read} == {_read_write.read_run}
                    assert {kind.write, kind._write} == {_read_write.write_run}
            assert [(kind.read, kind._read, kind.write, kind._write) for kind in kinds] == short
            assert short[0][:2] == (_read_write.read, _read_write.read)
            assert short[1][:2] == (_read_write.read_plain, _read_write.read_plain)

    async def test_a_kind_of_file_made_meanwhile_is_told(self) -> None:
        """
        A combination of handlers that nobody has opened before is traced like any other.
        """
        records = Records()
        async with ProcFS() as proc:
            with trace(records):
                proc.create("x", ProcOps(read=Plain().read), mode=0o666, fast_acquire=True)
                for flags in (os.O_RDWR, os.O_RDONLY):
                    await (await proc.open("x", flags)).read()
        assert [event for event in records.events if "read" in event] == [
            "enter read",
            "leave read",
        ] * 2

    async def test_switched_on_while_a_call_is_inside(self) -> None:
        """
        A call that is inside already is not told; it leaves as it came, and the next one is told.
        """
        records, handlers = Records(), Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            reader = await start(tg, file.read)
            with trace(records):
                waiting = await start(tg, file.read)
                assert not waiting.done
                handlers.let_go("read")
                await all_blocked()
                assert (reader.result, waiting.result) == (b"content", b"")
                assert records.told == READ
                assert (entry.in_use, file.tell()) == (0, 7)

    async def test_switched_off_while_a_call_is_inside(self) -> None:
        """
        A call that was told of its entering leaves silently, and leaves nothing counted.
        """
        records, handlers = Records(), Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            with trace(records):
                reader = await start(tg, file.read)
            waiting = await start(tg, file.read)
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, waiting.result) == (b"content", b"")
            assert records.told == READ[:1]
            assert (entry.in_use, file.tell()) == (0, 7)

    @pytest.mark.parametrize("on", [False, True])
    async def test_a_removal_meanwhile(self, *, on: bool) -> None:
        """
        The count that a removal waits for is right, however the way was switched in between.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            block = trace(bool)
            if not on:
                block.__enter__()
            await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            if on:
                block.__enter__()
            else:
                block.__exit__(None, None, None)
            assert (remover.done, entry.in_use) == (False, 1)
            handlers.let_go("read")
            await all_blocked()
            assert (remover.done, entry.in_use) == (True, 0)
            if on:
                block.__exit__(None, None, None)


def test_silent_by_default() -> None:
    """
    Who has not set up logging sees none of our reports: the logger has a handler that drops them.
    """
    handlers = logging.getLogger("aiopde").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
