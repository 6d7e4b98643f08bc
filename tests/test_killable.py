"""The end of a grace cancels the calls that may be cancelled, wherever they stand."""

from __future__ import annotations

import asyncio
import os
from errno import EIO
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import CancelScope, create_task_group

from aiopde import File, ProcFile, ProcFS, ProcOps, RemovalTimeoutError, SeqFile, SeqOps, _watch
from aiopde._kinds import KillableEntry
from aiopde._removal import Removal
from tests.helpers import Handlers, all_blocked, refused, start, state
from tests.stuck import CALLS, GRACE, OPS, stuck

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    Use = Callable[[ProcFS, ProcFile], Awaitable[object]]


@pytest.fixture
def unwind_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that were cancelled have less time to end than a real second."""
    monkeypatch.setattr(_watch, "UNWIND", GRACE)


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
            assert len(it.entry._scopes) == 1
            it.let_go()
            await all_blocked()
            assert (it.reader.result, it.entry._scopes) == (b"content", set())


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
