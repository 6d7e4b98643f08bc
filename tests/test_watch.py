"""Removal with an eye on the clock: grace, what it kills, what it reports, and self-removal."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
from contextlib import asynccontextmanager, suppress
from errno import EDEADLK, EINVAL, EIO, ETIMEDOUT
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import (
    File,
    Holder,
    ProcDirEntry,
    ProcFile,
    ProcFS,
    ProcOps,
    RemovalTimeoutError,
    SeqFile,
    SeqOps,
    _deadlock,
    _watch,
)
from aiopde._entry import KillableEntry
from aiopde._removal import Removal
from tests.helpers import SLACK, Call, Handlers, all_blocked, refused, start, state, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from trio.testing import MockClock

    Use = Callable[[ProcFS, ProcFile], Awaitable[object]]

GRACE = 0.02
OPS = ("open", "read", "write", "lseek", "poll", "ioctl", "compat_ioctl", "mmap", "release")
CALLS: dict[str, tuple[str, Use]] = {
    "open": ("open", lambda proc, _: proc.open("x")),
    "read": ("read", lambda _, file: file.read()),
    "pread": ("read", lambda _, file: file.pread(1, 0)),
    "readv": ("read", lambda _, file: file.readv([1])),
    "write": ("write", lambda _, file: file.write(b"x")),
    "pwrite": ("write", lambda _, file: file.pwrite(b"x", 0)),
    "lseek": ("lseek", lambda _, file: file.lseek(0)),
    "poll": ("poll", lambda _, file: file.poll()),
    "poll that waits": ("poll", lambda _, file: file.poll(timeout=None)),
    "ioctl": ("ioctl", lambda _, file: file.ioctl(100)),
    "compat_ioctl": ("compat_ioctl", lambda _, file: file.compat_ioctl(100)),
    "mmap": ("mmap", lambda _, file: file.mmap(1)),
    "read_bytes, opening": ("open", lambda proc, _: proc.read_bytes("x")),
    "read_bytes": ("read", lambda proc, _: proc.read_bytes("x")),
    "write_bytes": ("write", lambda proc, _: proc.write_bytes("x", b"x")),
}


@pytest.fixture
def unwind_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that were cancelled have less time to end than a real second."""
    monkeypatch.setattr(_watch, "UNWIND", GRACE)


@pytest.fixture
def reports() -> Generator[list[logging.LogRecord]]:
    """What is logged."""
    found: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Collector()
    logging.getLogger("aiopde").addHandler(handler)
    yield found
    logging.getLogger("aiopde").removeHandler(handler)


class Stuck:
    """An entry with a call inside, which stays there until it is let go."""

    def __init__(self, proc: ProcFS, handlers: Handlers, entry: ProcDirEntry) -> None:
        self.proc = proc
        self.handlers = handlers
        self.entry = entry
        self.reader: Call[bytes]
        self._held = True

    def let_go(self) -> None:
        """Let all calls that are stuck go on; once is enough."""
        if self._held:
            self._held = False
            self.handlers.let_go("read")


@asynccontextmanager
async def stuck(killable: bool = False, **how: Any) -> AsyncGenerator[Stuck]:
    """A tree with such an entry, and its reader, called "reader"."""
    handlers = Handlers()
    handlers.hold_up("read")
    async with ProcFS(**how) as proc, create_task_group() as tg:
        entry = proc.create("x", handlers.ops("read", "release"), killable=killable)
        it = Stuck(proc, handlers, entry)
        it.reader = Call((await proc.open("x")).read)
        tg.start_soon(it.reader.run, name="reader")
        await all_blocked()
        try:
            yield it
        finally:
            it.let_go()


def tasks_and_ops(exc: RemovalTimeoutError) -> list[tuple[str, str]]:
    return [(holder.task, holder.op) for holder in exc.holders]


class TestGrace:
    @pytest.mark.parametrize("killable", [False, True])
    async def test_calls_that_end_in_time(self, *, killable: bool) -> None:
        """
        A removal whose calls end before its grace does is like any other.
        """
        async with stuck(killable) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=3600)
            it.let_go()
            await all_blocked()
            assert remover.result is None
            assert (it.reader.result, state(it.entry)) == (b"content", "gone")

    async def test_a_stuck_call_is_reported(self) -> None:
        """
        When the grace has ended the remover gets an error that tells who is inside, and where.
        """
        async with stuck() as it:
            with pytest.raises(RemovalTimeoutError) as caught:
                await it.entry.remove(grace=GRACE)
            (holder,) = caught.value.holders
            assert (holder.task, holder.path, holder.op) == ("reader", "/proc/x", "read")
            assert holder.stack[-1].endswith(" in read")
            assert holder.waited == pytest.approx(caught.value.seconds, abs=0.1)
            assert caught.value.seconds > 0.9 * GRACE  # uvloop's clock has milliseconds only
            assert str(holder) in str(caught.value)

    async def test_what_was_reported_goes_on_dying(self) -> None:
        """
        After that the entry refuses every call; it is gone when the call has ended by itself.
        """
        async with stuck() as it:
            file = await it.proc.open("x")
            with pytest.raises(RemovalTimeoutError):
                await it.entry.remove(grace=GRACE)
            assert state(it.entry) == "dying"
            with refused(EIO):
                await file.read()
            it.let_go()
            await it.entry.remove()
            assert state(it.entry) == "gone"
            assert it.reader.result == b"content"
            assert it.handlers.log.count("release None") == 2

    async def test_a_later_removal_joins(self) -> None:
        """
        Whoever awaits it again waits for the same removal, with a grace of its own.
        """
        async with stuck() as it, create_task_group() as tg:
            for _ in range(3):
                with pytest.raises(RemovalTimeoutError):
                    await it.entry.remove(grace=GRACE)
            joiner = await start(tg, it.entry.remove)
            assert not joiner.done
            it.let_go()
            await all_blocked()
            assert joiner.result is None

    async def test_a_killable_call_gets_eio(self) -> None:
        """
        B27: if it is killable the handler is cancelled, its caller gets EIO, the removal succeeds.
        """
        async with stuck(killable=True) as it:
            await it.entry.remove(grace=GRACE)
            await all_blocked()
            assert state(it.entry) == "gone"
            with refused(EIO) as caught:
                _ = it.reader.result
            assert not it.reader.cancelled
            assert "grace" in str(caught.value)
            assert caught.value.filename == "/proc/x"
            assert not it.handlers.busy

    async def test_not_before_its_time(self) -> None:
        """
        A killable call is let be until the grace has ended.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=3600)
            assert (remover.done, it.reader.done) == (False, False)
            it.let_go()

    async def test_of_a_mixture(self) -> None:
        """
        Of calls of both kinds, the killable ones are cancelled, and the others reported.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            readers: dict[str, Call[bytes]] = {}
            for name in ("a", "b", "c"):
                proc.create(f"d/{name}", handlers.ops("read"), killable=name != "b")
                readers[name] = await start(tg, proc.read_bytes, f"d/{name}")
            with pytest.raises(RemovalTimeoutError) as caught:
                await directory.remove(grace=GRACE)
            await all_blocked()
            assert [holder.path for holder in caught.value.holders] == ["/proc/d/b"]
            assert [readers[name].done for name in "abc"] == [True, False, True]
            handlers.let_go("read")
            await directory.remove()
            assert readers["b"].result == b"content"

    async def test_nobody_else_is_killed(self) -> None:
        """
        Calls in killable entries that stay are let be.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            readers: list[Call[bytes]] = []
            for name in ("x", "y"):
                proc.create(name, handlers.ops("read"), killable=True)
                readers.append(await start(tg, proc.read_bytes, name))
            await proc.remove("x", grace=GRACE)
            await all_blocked()
            assert [reader.done for reader in readers] == [True, False]
            handlers.let_go("read")

    @pytest.mark.parametrize("how", ["entry", "remove", "remove_subtree", "tree"])
    async def test_wherever_it_is_said(self, how: str) -> None:
        """
        remove(), remove_subtree() and the entry's own remove() take it; the tree has a default.
        """
        async with stuck(grace=GRACE if how == "tree" else None) as it:
            removals = {
                "entry": lambda: it.entry.remove(grace=GRACE),
                "remove": lambda: it.proc.remove("x", grace=GRACE),
                "remove_subtree": lambda: it.proc.remove_subtree("x", grace=GRACE),
                "tree": lambda: it.proc.remove("x"),
            }
            with pytest.raises(RemovalTimeoutError):
                await removals[how]()
            it.let_go()

    async def test_the_trees_can_be_overridden(self) -> None:
        """
        Infinity stands for no grace at all, where the tree has one.
        """
        async with stuck(grace=GRACE) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=math.inf)
            await anyio.sleep(2 * GRACE)
            assert not remover.done
            it.let_go()

    @pytest.mark.parametrize("killable", [False, True])
    async def test_of_nothing(self, *, killable: bool) -> None:
        """
        With a grace of 0 the calls that are inside are dealt with at once.
        """
        async with stuck(killable) as it:
            if killable:
                await it.entry.remove(grace=0)
                assert state(it.entry) == "gone"
            else:
                with pytest.raises(RemovalTimeoutError):
                    await it.entry.remove(grace=0)

    async def test_of_nothing_with_nobody_inside(self) -> None:
        """
        There is nothing to time out where there is nothing to wait for.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("release"))
            await proc.open("x")
            await entry.remove(grace=0)
            assert state(entry) == "gone"

    async def test_cancelled_before_its_end(self) -> None:
        """
        A remover that is cancelled gets its cancellation, and the grace is forgotten with it.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=0.5)
            remover.cancel()
            await all_blocked()
            assert remover.cancelled
            await anyio.sleep(0.6)
            assert not it.reader.done

    @pytest.mark.parametrize("grace", [-1, math.nan])
    async def test_that_is_no_time(self, grace: float) -> None:
        """
        Less than nothing is a ValueError, of a tree as of a removal, which then has not begun.
        """
        for name in ("grace", "hung_task_timeout"):
            options: dict[str, Any] = {name: grace}
            with pytest.raises(ValueError, match=f"{name} is a number of seconds >= 0"):
                ProcFS(**options)
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            with pytest.raises(ValueError, match="grace is a number of seconds >= 0"):
                await entry.remove(grace=grace)
            assert state(entry) == "live"

    async def test_that_is_no_number(self) -> None:
        """
        It is a TypeError with the same words.
        """
        grace: Any = "soon"
        with pytest.raises(TypeError, match=r"grace is a number of .* not 'soon'"):
            ProcFS(grace=grace)

    @pytest.mark.usefixtures("unwind_soon")
    async def test_of_what_no_task_shows(self) -> None:
        """
        What was let in by hand is in no task: the error says that much.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), killable=True)
            entry.use()
            with pytest.raises(RemovalTimeoutError, match="no call in a task") as caught:
                await entry.remove(grace=GRACE)
            assert caught.value.holders == ()
            entry.unuse()


class TestJoiners:
    async def test_a_joiners_grace_is_its_own(self) -> None:
        """
        The grace of one who joins ends for that one only; the first goes on waiting.
        """
        async with stuck() as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            with pytest.raises(RemovalTimeoutError):
                await it.entry.remove(grace=GRACE)
            assert not remover.done
            it.let_go()
            await all_blocked()
            assert remover.result is None

    async def test_a_joiners_grace_kills_for_all(self) -> None:
        """
        In a killable entry it ends the removal for everybody.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            await it.entry.remove(grace=GRACE)
            await all_blocked()
            assert remover.result is None
            with refused(EIO):
                _ = it.reader.result

    async def test_one_that_joins_for_a_child(self) -> None:
        """
        Who joins the removal of a directory for one entry in it ends what is inside of that only.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            readers: dict[str, Call[bytes]] = {}
            for name in ("d/x", "d/y"):
                proc.create(name, handlers.ops("read"), killable=True)
                readers[name] = await start(tg, proc.read_bytes, name)
            child = proc.lookup("d/x")
            remover = await start(tg, directory.remove)
            await child.remove(grace=GRACE)
            await all_blocked()
            assert (state(child), remover.done) == ("gone", False)
            assert [reader.done for reader in readers.values()] == [True, False]
            handlers.let_go("read")

    async def test_one_that_joins_for_a_child_is_told_of_that(self) -> None:
        """
        Its error is about that entry, and the calls inside of it.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            for name in ("d/x", "d/y"):
                proc.create(name, handlers.ops("read"))
                await start(tg, proc.read_bytes, name)
            child = proc.lookup("d/x")
            await start(tg, directory.remove)
            with pytest.raises(RemovalTimeoutError) as caught:
                await child.remove(grace=GRACE)
            assert caught.value.filename == "/proc/d/x"
            assert [holder.path for holder in caught.value.holders] == ["/proc/d/x"]
            handlers.let_go("read")

    async def test_kills_where_others_still_remove(self) -> None:
        """
        What was removed by somebody else, and is gone, is no matter when the grace ends.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            for name in ("x", "y"):
                proc.create(f"d/{name}", handlers.ops("read"), killable=True)
            first, second = [await start(tg, proc.read_bytes, f"d/{name}") for name in "xy"]
            for name in ("x", "y"):
                await start(tg, proc.remove, f"d/{name}")
            remover = await start(tg, directory.remove)
            first.cancel()
            await all_blocked()
            assert (remover.done, second.done) == (False, False)
            _watch.kill_calls(directory._removal)
            await all_blocked()
            assert remover.result is None
            with refused(EIO):
                _ = second.result


class TestReleases:
    @pytest.mark.parametrize("killable", [False, True])
    async def test_one_that_does_not_end_is_reported(self, *, killable: bool) -> None:
        """
        A release handler is never cut short; the grace of its removal ends with a report of it.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("release"), killable=killable)
            await proc.open("x")
            with pytest.raises(RemovalTimeoutError) as caught:
                await entry.remove(grace=GRACE)
            assert tasks_and_ops(caught.value) == [("removal of /proc/x", "release")]
            assert caught.value.seconds < 1 + SLACK
            assert handlers.busy
            assert state(entry) == "releasing"
            handlers.let_go("release")
            await entry.remove()
            assert handlers.log[-1].endswith("goes on")

    async def test_so_is_a_closers(self) -> None:
        """
        A closer inside its release handler holds up a removal, and is named.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            tg.start_soon((await proc.open("x")).aclose, name="closer")
            await all_blocked()
            with pytest.raises(RemovalTimeoutError) as caught:
                await entry.remove(grace=GRACE)
            assert tasks_and_ops(caught.value) == [("closer", "release")]
            handlers.let_go("release")

    async def test_of_a_killed_call_runs(self) -> None:
        """
        The file of a call that was killed is released, once, by a handler that is let end.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            it.handlers.hold_up("release")
            remover = await start(tg, it.entry.remove, grace=0)
            await all_blocked()
            assert (it.reader.done, remover.done) == (True, False)
            assert state(it.entry) == "releasing"
            it.handlers.let_go("release")
            await all_blocked()
            assert remover.result is None
            assert it.handlers.log[1:] == ["release None", "release None goes on"]


class TestKilling:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("fast", [False, True])
    async def test_every_kind_of_call(self, call: str, *, fast: bool) -> None:
        """
        Whatever the call, it ends with EIO; nothing is counted, and nothing left of it.
        """
        op, use = CALLS[call]
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops(*OPS), mode=0o666, killable=True)
            file = await proc.open("x", os.O_RDWR)
            handlers.hold_up(op)
            caller = await start(tg, use, proc, file)
            await entry.remove(grace=GRACE)
            await all_blocked()
            with refused(EIO):
                _ = caller.result
            assert (state(entry), entry.in_use, handlers.busy) == ("gone", 0, False)

    async def test_an_open_opened_nothing(self) -> None:
        """
        An open that was killed made no file: there is nothing to release.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read", "release"), killable=True)
            callers = [await start(tg, use, "x") for use in (proc.open, proc.read_bytes)]
            await entry.remove(grace=GRACE)
            await all_blocked()
            for caller in callers:
                with refused(EIO):
                    _ = caller.result
            assert handlers.log == ["open 1", "open 2"]

    async def test_what_a_call_in_one_go_opened_is_closed(self) -> None:
        """
        read_bytes() that was killed while reading has released what it had opened.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read", "release"), killable=True)
            reader = await start(tg, proc.read_bytes, "x")
            await entry.remove(grace=GRACE)
            await all_blocked()
            with refused(EIO):
                _ = reader.result
            assert handlers.log == ["open 1", "read 1", "release 1"]

    async def test_a_read_into_several_buffers(self) -> None:
        """
        What was read before the killing is not lost: an error after the first buffer waits.
        """
        stuck_at = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            if pos:
                await stuck_at.wait()
            return b"x" * size

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read), killable=True)
            reader = await start(tg, (await proc.open("x")).readv, [2, 2])
            await entry.remove(grace=GRACE)
            await all_blocked()
            assert reader.result == [b"xx", b""]

    async def test_a_seq_file(self) -> None:
        """
        A walk through records that was killed has called stop, as after any other end.
        """
        may_go = anyio.Event()
        log: list[str] = []

        async def show(m: SeqFile, item: int) -> None:
            log.append("show")
            await may_go.wait()

        seq = SeqOps(
            start=lambda m, pos: pos,
            next=lambda m, item, pos: (None, pos + 1),
            stop=lambda m, item: log.append("stop"),
            show=show,
        )
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create_seq("x", seq, killable=True)
            reader = await start(tg, proc.read_bytes, "x")
            await entry.remove(grace=GRACE)
            await all_blocked()
            with refused(EIO):
                _ = reader.result
            assert log == ["show", "stop"]

    async def test_a_generator_of_records(self) -> None:
        """
        A generator that yields records is ended where it stands.
        """
        left: list[str] = []

        async def records() -> AsyncGenerator[str]:
            try:
                yield "one"
                await anyio.sleep_forever()
            finally:
                left.append("left")

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create_seq("x", records, killable=True)
            reader = await start(tg, proc.read_bytes, "x")
            await entry.remove(grace=GRACE)
            await all_blocked()
            with refused(EIO):
                _ = reader.result
        assert left == ["left"]

    async def test_a_text(self) -> None:
        """
        So is the function that makes the text of a single file.
        """

        async def show(m: SeqFile) -> None:
            await anyio.sleep_forever()

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create_single("x", show, killable=True)
            reader = await start(tg, proc.read_bytes, "x")
            await entry.remove(grace=GRACE)
            await all_blocked()
            with refused(EIO):
                _ = reader.result

    @pytest.mark.parametrize("first", ["caller", "grace"])
    async def test_the_callers_own_cancellation_wins(self, first: str) -> None:
        """
        A caller that is cancelled at the same moment gets that, and not EIO.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            at_once(first, it.reader.cancel, partial(_watch.kill_calls, it.entry._removal))
            await all_blocked()
            assert it.reader.cancelled
            assert it.reader.error is None
            assert remover.result is None

    @pytest.mark.parametrize("first", ["caller", "grace"])
    def test_so_does_the_cancellation_of_an_asyncio_task(self, first: str) -> None:
        """
        The same for task.cancel(), which asyncio's programs use.
        """

        async def main() -> None:
            async with stuck(killable=True) as it, create_task_group() as tg:
                it.handlers.hold_up("read")
                reader = asyncio.ensure_future(it.proc.read_bytes("x"))
                await all_blocked()
                await start(tg, it.entry.remove)
                at_once(first, reader.cancel, partial(_watch.kill_calls, it.entry._removal))
                await asyncio.wait([reader])
                assert reader.cancelled()

        anyio.run(main, backend="asyncio")

    async def test_a_call_that_ends_all_the_same(self) -> None:
        """
        A handler that comes to its end in spite of the cancellation has its result delivered.
        """
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            with CancelScope(shield=True):
                await may_go.wait()
            return b"result"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read), killable=True)
            reader = await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove, grace=0)
            await all_blocked()
            waiting = not reader.done and not remover.done
            may_go.set()
            await all_blocked()
            assert waiting
            assert reader.result == b"result"
            assert remover.result is None

    async def test_a_handler_that_says_it_better(self) -> None:
        """
        An error that the handler makes of its cancellation is the caller's.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            try:
                await anyio.sleep_forever()
            finally:
                raise ZeroDivisionError

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read), killable=True)
            reader = await start(tg, (await proc.open("x")).read)
            await entry.remove(grace=GRACE)
            await all_blocked()
            with pytest.raises(ZeroDivisionError):
                _ = reader.result

    @pytest.mark.usefixtures("unwind_soon")
    async def test_a_handler_that_does_not_give_in(self) -> None:
        """
        A killable call that has not ended some time after its cancellation is reported too.
        """
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            with CancelScope(shield=True):
                await may_go.wait()
            return b"result"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read), killable=True)
            reader = await start(tg, (await proc.open("x")).read)
            with pytest.raises(RemovalTimeoutError) as caught:
                await entry.remove(grace=GRACE)
            may_go.set()
            (holder,) = caught.value.holders
            assert (holder.path, holder.killable) == ("/proc/x", True)
            assert caught.value.seconds > 1.9 * GRACE  # uvloop's clock has milliseconds only
            await entry.remove()
            assert reader.result == b"result"

    async def test_calls_that_were_not_inside_are_refused(self) -> None:
        """
        Who waited for the position of a file gets the refusal, not the killing.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            it.handlers.hold_up("read")
            file = await it.proc.open("x")
            inside, outside = [await start(tg, file.read) for _ in range(2)]
            await it.entry.remove(grace=GRACE)
            await all_blocked()
            for reader, why in ((inside, "grace"), (outside, "removal has begun")):
                with pytest.raises(OSError, match=why):
                    _ = reader.result

    async def test_costs_nothing_elsewhere(self) -> None:
        """
        Only calls in killable entries have a cancel scope, and only while they are inside.
        """
        async with stuck() as it:
            assert not isinstance(it.entry, KillableEntry)
            assert it.entry.killable is False
        async with stuck(killable=True) as it:
            assert isinstance(it.entry, KillableEntry)
            assert it.entry.killable is True
            assert len(it.entry.scopes) == 1
            it.let_go()
            await all_blocked()
            assert (it.reader.result, it.entry.scopes) == (b"content", set())


def at_once(
    first: str, cancel_caller: Callable[[], object], end_grace: Callable[[], object]
) -> None:
    """Do both, with no time between them."""
    if first == "caller":
        cancel_caller()
    end_grace()
    if first == "grace":
        cancel_caller()


class TestOnTheWayOut:
    async def test_what_has_ended_meanwhile_is_no_timeout(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A removal that comes to its end just as its grace does, has ended; nobody is killed.
        """
        wait = Removal.wait

        async def ends_when_cancelled(removal: Removal, event: anyio.Event) -> None:
            try:
                await wait(removal, event)
            except anyio.get_cancelled_exc_class():
                it.let_go()
                with CancelScope(shield=True):
                    await event.wait()
                raise

        other = Handlers()
        other.hold_up("read")
        monkeypatch.setattr(Removal, "wait", ends_when_cancelled)
        async with stuck() as it, create_task_group() as tg:
            it.proc.create("y", other.ops("read"), killable=True)
            bystander = await start(tg, it.proc.read_bytes, "y")
            joiner = await start(tg, it.entry.remove, grace=3600)
            await it.entry.remove(grace=GRACE)
            await all_blocked()
            assert joiner.result is None
            assert not bystander.done
            monkeypatch.undo()
            other.let_go("read")


class TestRemovalTimeoutError:
    ERROR = RemovalTimeoutError(
        "/proc/x", 1.23456, (Holder("reader", "/proc/x", "read", ("a.py:1 in read",), False),)
    )

    def test_is_a_timeout(self) -> None:
        """
        Who catches TimeoutError or OSError gets it; it has an errno and names the path.
        """
        assert isinstance(self.ERROR, TimeoutError)
        assert self.ERROR.errno == ETIMEDOUT
        assert self.ERROR.filename == "/proc/x"

    def test_tells_who_it_waits_for(self) -> None:
        """
        Each call has a line of its own.
        """
        lines = str(self.ERROR).splitlines()
        assert lines == [
            f"[Errno {ETIMEDOUT}] removal still waits after 1.23 s, for 1 call(s)",
            "  task 'reader' in read of '/proc/x', at a.py:1 in read: '/proc/x'",
        ]

    def test_can_be_pickled(self) -> None:
        """
        It may go to another process as it is.
        """
        copy = pickle.loads(pickle.dumps(self.ERROR))  # noqa: S301  our own
        assert str(copy) == str(self.ERROR)
        assert (copy.seconds, copy.holders) == (self.ERROR.seconds, self.ERROR.holders)


class TestHungTask:
    async def test_is_logged_once(self, reports: list[logging.LogRecord]) -> None:
        """
        A removal that waits for long logs a warning which tells who holds it; and no second one.
        """
        async with stuck(hung_task_timeout=GRACE) as it, create_task_group() as tg:
            removers = [await start(tg, it.entry.remove) for _ in range(3)]
            await wait_until(lambda: reports)
            await anyio.sleep(2 * GRACE)
            assert not any(remover.done for remover in removers)
            it.let_go()
            (report,) = reports
            assert report.levelno == logging.WARNING
            first, second = report.getMessage().splitlines()
            assert first == "removal of /proc/x has waited for 0.0 s, for 1 call(s)"
            assert second.startswith(
                "  task 'reader' in read of '/proc/x', whose removal has waited"
            )

    async def test_is_not_logged_in_time(self, reports: list[logging.LogRecord]) -> None:
        """
        A removal that ends in time logs nothing.
        """
        async with stuck(hung_task_timeout=3600) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            it.let_go()
            await all_blocked()
            assert remover.done
        assert reports == []

    async def test_may_be_switched_off(self, reports: list[logging.LogRecord]) -> None:
        """
        With None nothing is logged however long it takes.
        """
        async with stuck(hung_task_timeout=None) as it, create_task_group() as tg:
            await start(tg, it.entry.remove)
            await anyio.sleep(2 * GRACE)
            it.let_go()
        assert reports == []

    @pytest.mark.parametrize("how", ["cancelled", "timed out", "remove_self"])
    async def test_of_one_that_nobody_awaits(
        self, how: str, reports: list[logging.LogRecord]
    ) -> None:
        """
        It is logged too of a removal that goes on without its caller; once.
        """
        async with stuck(hung_task_timeout=GRACE) as it:
            if how == "remove_self":
                it.entry.remove_self()
            elif how == "timed out":
                with pytest.raises(RemovalTimeoutError):
                    await it.entry.remove(grace=0)
            else:
                with CancelScope() as scope:
                    scope.cancel()
                    await it.entry.remove()
            await wait_until(lambda: reports)
            await anyio.sleep(2 * GRACE)
            assert [report.levelname for report in reports] == ["WARNING"]

    async def test_at_the_end_of_the_tree(self, reports: list[logging.LogRecord]) -> None:
        """
        The end of the tree is a removal like any other; it says where the call is.
        """
        async with stuck(hung_task_timeout=GRACE) as it, create_task_group() as tg:

            async def let_go_later() -> None:
                await wait_until(lambda: reports)
                it.let_go()

            tg.start_soon(let_go_later)
            await it.entry.remove()
        assert len(reports) == 1

    async def test_of_what_no_task_shows(self, reports: list[logging.LogRecord]) -> None:
        """
        Where no call is seen the report does not make one up.
        """
        async with ProcFS(hung_task_timeout=GRACE) as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps())
            entry.use()
            await start(tg, entry.remove)
            await wait_until(lambda: reports)
            entry.unuse()
        (report,) = reports
        assert report.getMessage().endswith(" s, for what is no call in a task of this loop")


class Leaving:
    """A tree that is left with a call inside."""

    def __init__(self, grace: float = GRACE, **how: Any) -> None:
        self.proc = ProcFS(grace=grace, hung_task_timeout=None)
        self.how = how
        self.handlers = Handlers()
        self.entry: ProcDirEntry

    async def enter(self, *held: str) -> None:
        for op in held:
            self.handlers.hold_up(op)
        ops = self.handlers.ops("read", "release")
        self.entry = self.proc.create("x", ops, **self.how)


class TestLeaving:
    """The end of a ProcFS with a grace always comes, and does not hide what it had to leave."""

    async def test_with_a_stuck_call(self) -> None:
        """
        It raises RemovalTimeoutError, which names the call.
        """
        it = Leaving()
        async with create_task_group() as tg:
            with pytest.raises(RemovalTimeoutError) as caught:  # noqa: PT012  its end raises
                async with it.proc as proc:
                    await it.enter("read")
                    tg.start_soon((await proc.open("x")).read, name="reader")
                    await all_blocked()
            assert tasks_and_ops(caught.value) == [("reader", "read")]
            assert caught.value.filename == "/proc"
            it.handlers.let_go("read")
        assert it.entry.in_use == 0

    async def test_after_an_error(self) -> None:
        """
        The block's own exception comes with it, in a group.
        """
        it, exc = Leaving(), KeyError("mine")
        async with create_task_group() as tg:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
                async with it.proc as proc:
                    await it.enter("read")
                    await start(tg, (await proc.open("x")).read)
                    raise exc
            assert caught.value.exceptions[0] is exc
            assert isinstance(caught.value.exceptions[1], RemovalTimeoutError)
            it.handlers.let_go("read")

    @pytest.mark.parametrize("how", ["cancelled", "timed out", "remove_self"])
    @pytest.mark.parametrize("grace", [0, GRACE])
    async def test_with_a_removal_that_goes_on(self, how: str, grace: float) -> None:
        """
        A removal that nobody awaits any more does not hold it up either; it is given up.

        Also if its task has not come to run yet, which trio leaves to chance.
        """
        it = Leaving(grace)
        before = len(anyio.get_running_tasks())
        async with create_task_group() as tg:
            with pytest.raises(RemovalTimeoutError) as caught:  # noqa: PT012  its end raises
                async with it.proc as proc:
                    await it.enter("read")
                    await start(tg, (await proc.open("x")).read)
                    await begin(it.entry, how)
            assert [holder.op for holder in caught.value.holders] == ["read"]
            assert len(anyio.get_running_tasks()) == before + 1
            it.handlers.let_go("read")

    @pytest.mark.parametrize("how", ["cancelled", "remove_self"])
    async def test_kills_what_others_remove(self, how: str) -> None:
        """
        A removal of a directory, as the end of the tree is, ends calls where others remove, too.
        """
        it = Leaving(killable=True)
        async with create_task_group() as tg:
            async with it.proc as proc:
                await it.enter("read")
                reader = await start(tg, (await proc.open("x")).read)
                await begin(it.entry, how)
            with refused(EIO):
                _ = reader.result

    async def test_with_killable_calls(self) -> None:
        """
        Calls that may be killed are, and then all is well.
        """
        it = Leaving(killable=True)
        async with create_task_group() as tg:
            async with it.proc as proc:
                await it.enter("read")
                reader = await start(tg, (await proc.open("x")).read)
            await all_blocked()
            with refused(EIO):
                _ = reader.result
        assert (state(it.entry), state(it.proc.root)) == ("gone", "gone")

    @pytest.mark.parametrize("how", ["", "cancelled", "remove_self"])
    async def test_with_a_stuck_release(self, how: str) -> None:
        """
        A release handler that does not end is reported, and cut short: there is nobody to wait.
        """
        it = Leaving()
        with pytest.raises(RemovalTimeoutError) as caught:  # noqa: PT012  its end raises
            async with it.proc as proc:
                await it.enter("release")
                await proc.open("x")
                await begin(it.entry, how)
        assert [holder.op for holder in caught.value.holders] == ["release"]
        assert not it.handlers.busy

    async def test_when_cancelled(self) -> None:
        """
        A cancellation does not make it shorter or longer, and the error is not lost.
        """
        it = Leaving()
        async with create_task_group() as tg:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
                with CancelScope() as scope:
                    async with it.proc as proc:
                        await it.enter("read")
                        await start(tg, (await proc.open("x")).read)
                        scope.cancel()
                        await checkpoint()
            assert [type(exc) for exc in caught.value.exceptions] == [RemovalTimeoutError]
            it.handlers.let_go("read")


async def begin(entry: ProcDirEntry, how: str) -> None:
    """Begin a removal that nobody awaits, or none."""
    match how:
        case "cancelled":
            with CancelScope() as scope:
                scope.cancel()
                await entry.remove()
        case "timed out":
            with pytest.raises(RemovalTimeoutError):
                await entry.remove(grace=0)
        case "remove_self":
            entry.remove_self()
        case _:
            pass


class TestRefusal:
    """A handler that awaits its own removal is told so at once."""

    @pytest.mark.parametrize("call", [*CALLS, "close"])
    @pytest.mark.parametrize("killable", [False, True])
    async def test_in_every_kind_of_call(self, call: str, *, killable: bool) -> None:
        """
        EDEADLK, and nothing was changed: the entry is there, and the call goes on.
        """
        wanted, use = CALLS.get(call, ("release", lambda _, file: file.aclose()))
        caught: list[OSError] = []

        class Suicidal(Handlers):
            async def _enter(self, op: str, file: File) -> None:
                if op == wanted:
                    with refused(EDEADLK) as error:
                        await file.entry.remove()
                    caught.append(error.value)
                    assert state(file.entry) == "live"

        async with ProcFS() as proc:
            ops = Suicidal(b"").ops(*OPS)
            entry = proc.create("x", ops, mode=0o666, killable=killable)
            async with await proc.open("x", os.O_RDWR) as file:
                await use(proc, file)
            assert caught
            assert state(entry) == "live"
            assert "remove_self()" in str(caught[0])
            assert caught[0].filename == "/proc/x"

    @pytest.mark.parametrize("which", ["d", "d/sub"])
    async def test_of_a_directory_around_it(self, which: str) -> None:
        """
        The same for the removal of a directory it is in, however far above.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            with refused(EDEADLK):
                await proc.remove_subtree(which)
            return b""

        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.mkdir("d/sub")
            proc.create("d/sub/x", ProcOps(read=read))
            await proc.read_bytes("d/sub/x")
            assert proc.listdir("d/sub") == ["x"]

    async def test_of_one_that_has_begun(self) -> None:
        """
        Nor may a handler join the removal that waits for it.
        """
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            await may_go.wait()
            with refused(EDEADLK):
                await file.entry.remove()
            return b"out"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            reader = await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            may_go.set()
            await all_blocked()
            assert (reader.result, remover.result) == (b"out", None)

    async def test_a_handler_may_remove_others(self) -> None:
        """
        Siblings, and what is below another directory, are none of its own.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            await proc.remove("y")
            await proc.remove_subtree("d")
            return b""

        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            proc.create("y", ProcOps())
            proc.mkdir("d")
            await (await proc.open("x")).read()
            assert proc.listdir() == ["x"]

    async def test_a_handler_that_has_left_may(self) -> None:
        """
        After its call a task is inside no more.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("read"))
            await (await proc.open("x")).read()
            await entry.remove()
            assert state(entry) == "gone"

    async def test_the_last_one_out_releases(self) -> None:
        """
        A release handler that the last call out runs is refused too.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        caught: list[int | None] = []

        async def release(file: File) -> None:
            with refused(EDEADLK) as error:
                await file.entry.remove()
            caught.append(error.value.errno)

        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", ProcOps(read=handlers.read, release=release))
            file = await proc.open("x")
            await start(tg, file.read)
            await file.aclose()
            handlers.let_go("read")
            await all_blocked()
        assert caught == [EDEADLK]


class TestRemoveSelf:
    @pytest.mark.parametrize("plain", [False, True])
    async def test_goes_when_the_handler_has_left(self, *, plain: bool) -> None:
        """
        The name is gone at once, the call ends with its result, and then the entry is gone.
        """
        seen: list[str] = []

        def plain_read(file: File, size: int, pos: int) -> bytes:
            assert file.entry.remove_self()
            seen.append(state(file.entry))
            assert proc.listdir() == []
            return b"bye"

        async def read(file: File, size: int, pos: int) -> bytes:
            data = plain_read(file, size, pos)
            await all_blocked()
            return data

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(read=plain_read if plain else read))
            file = await proc.open("x")
            assert await file.read() == b"bye"
            await entry.remove()
            assert state(entry) == "gone"
            with refused(EIO):
                await file.read()
        # Nobody can be beside a plain function, so it is not counted as inside.
        assert seen == ["releasing" if plain else "dying"]

    async def test_is_true_for_one(self) -> None:
        """
        Only the call that begins the removal is told so, be it by another way.
        """
        async with stuck() as it, create_task_group() as tg:
            assert it.entry.remove_self()
            assert not it.entry.remove_self()
            joiner = await start(tg, it.entry.remove)
            assert not it.entry.remove_self()
            it.let_go()
            await all_blocked()
            assert joiner.result is None
            assert not it.entry.remove_self()

    async def test_two_handlers(self) -> None:
        """
        Of two calls inside one is the one, and the removal waits for both.
        """
        answers: list[bool] = []
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            answers.append(file.entry.remove_self())
            await may_go.wait()
            return b"bye"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            files = [await proc.open("x") for _ in range(2)]
            readers = [await start(tg, files[0].read)]
            with refused(EIO):
                await files[1].read()
            joiner = await start(tg, entry.remove)
            assert (answers, joiner.done) == ([True], False)
            may_go.set()
            await all_blocked()
            assert (readers[0].result, joiner.done) == (b"bye", True)

    async def test_of_a_directory(self) -> None:
        """
        A handler may so remove the directory it is in.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            assert file.entry.parent.remove_self()
            return b"bye"

        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            proc.create("d/x", ProcOps(read=read))
            assert await (await proc.open("d/x")).read() == b"bye"
            await directory.remove()
            assert state(directory) == "gone"

    async def test_from_a_release_handler(self) -> None:
        """
        A release handler that the removal runs comes too late; one that a closer runs does not.
        """
        answers: list[bool] = []
        async with ProcFS() as proc:
            ops = ProcOps(release=lambda file: answers.append(file.entry.remove_self()))
            entry = proc.create("x", ops)
            first, _ = [await proc.open("x") for _ in range(2)]
            await first.aclose()
            await entry.remove()
            assert answers == [True, False]

    async def test_of_a_permanent_entry(self) -> None:
        """
        EINVAL, for that one and for a directory around it; nothing was changed.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            entry = proc.create("d/x", ProcOps(permanent=True))
            for each in (entry, directory):
                with refused(EINVAL):
                    each.remove_self()
            assert proc.listdir("d") == ["x"]

    async def test_of_the_root(self) -> None:
        """
        EINVAL: the root goes when its tree is left, here as in remove().
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps())
            with refused(EINVAL):
                proc.root.remove_self()
            assert proc.listdir() == ["x"]

    async def test_its_errors_are_not_lost(self) -> None:
        """
        What release handlers raise then reaches who joins, or comes when the tree is left.
        """
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                for name in ("x", "y"):
                    proc.create(name, ProcOps(release=lambda file: 1 // 0))
                    await proc.open(name)
                    proc.lookup(name).remove_self()
                with pytest.raises(ExceptionGroup):
                    await all_blocked_and_remove(proc)
        assert [type(exc) for exc in caught.value.exceptions] == [ZeroDivisionError]


async def all_blocked_and_remove(proc: ProcFS) -> None:
    entry = next(iter(proc._reaper.removals)).root
    await entry.remove()


@pytest.mark.trio
class TestClock:
    """Times that are too long for a test, on a clock that jumps."""

    async def test_the_hung_task_report_comes_after_ten_seconds(
        self, autojump_clock: MockClock, reports: list[logging.LogRecord]
    ) -> None:
        """
        By default a removal is reported when it has waited for 10 s.
        """
        async with stuck() as it, create_task_group() as tg:
            began = anyio.current_time()
            await start(tg, it.entry.remove)
            await anyio.sleep_until(began + 9.9)
            assert reports == []
            await anyio.sleep_until(began + 10.1)
            assert [report.getMessage().split(",")[0] for report in reports] == [
                "removal of /proc/x has waited for 10.0 s"
            ]
            await anyio.sleep(1000)
            assert len(reports) == 1
            it.let_go()

    async def test_killed_calls_have_a_second(self, autojump_clock: MockClock) -> None:
        """
        A call that was cancelled when the grace ended may take a second to end.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            with CancelScope(shield=True):
                await anyio.sleep(file.data)
            return b"late"

        async with ProcFS(grace=5) as proc, create_task_group() as tg:
            for name, seconds in (("quick", 0.9), ("slow", 1.1)):
                proc.create(name, ProcOps(read=read), data=seconds, killable=True)
                await start(tg, (await proc.open(name)).read)
            began = anyio.current_time()
            await proc.remove("quick")
            assert anyio.current_time() - began == pytest.approx(5.9)
            with pytest.raises(RemovalTimeoutError) as caught:
                await proc.remove("slow")
            assert caught.value.seconds == pytest.approx(6)

    @pytest.mark.parametrize("began", [0, 0.1, 0.3, 0.7, 1.1, 12345.678])
    @pytest.mark.parametrize("grace", [0.1, 0.3, 0.7, 1e-9])
    async def test_the_clock_does_not_round_it_away(
        self, autojump_clock: MockClock, began: float, grace: float
    ) -> None:
        """
        Whatever the time of day: when the grace is over it is over, and nothing spins.
        """
        async with stuck() as it:
            await anyio.sleep(began)
            with pytest.raises(RemovalTimeoutError):
                await it.entry.remove(grace=grace)

    async def test_a_deadlock_is_looked_for_ever_less_often(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        After half a second, and then each time it has waited twice as long; never before.
        """
        looks: list[float] = []
        find_cycle = _deadlock.find_cycle

        def count(removal: Removal, event: anyio.Event) -> list[str] | None:
            looks.append(round(anyio.current_time() - began, 3))
            return find_cycle(removal, event)

        monkeypatch.setattr(_watch, "find_cycle", count)
        async with stuck() as it, create_task_group() as tg:
            began = anyio.current_time()
            await start(tg, it.entry.remove)
            await anyio.sleep(10)
            assert looks == [0.5, 1, 2, 4, 8]
            it.let_go()

    async def test_nobody_looks_for_one_that_nobody_awaits(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A removal that goes on by itself waits for nobody who could wait for it.
        """
        monkeypatch.setattr(_watch, "find_cycle", None)
        async with stuck() as it:
            it.entry.remove_self()
            await anyio.sleep(100)
