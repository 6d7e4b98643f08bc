"""Waiting inside a handler: for a condition, for its own removal; and polls that wait."""

from __future__ import annotations

import math
import select
from contextlib import asynccontextmanager
from errno import EIO
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group

from aiopde import (
    DEFAULT_POLLMASK,
    File,
    ProcFile,
    ProcFS,
    ProcOps,
    WaitQueue,
)
from tests.helpers import all_blocked, start, state, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

POLLIN, POLLOUT, POLLHUP = select.POLLIN, select.POLLOUT, select.POLLHUP


class Mailbox:
    """A device: reads wait until there is a letter, polls tell whether there is one."""

    def __init__(self) -> None:
        self.queue = WaitQueue()
        self.letters: list[bytes] = []
        self.polls = 0
        self.log: list[str] = []

    def put(self, letter: bytes) -> None:
        self.letters.append(letter)
        self.queue.wake_up()

    def has_letter(self) -> bool:
        self.log.append("look")
        return bool(self.letters)

    async def read(self, file: File, size: int, pos: int) -> bytes:
        await file.wait_event(self.queue, self.has_letter)
        return self.letters.pop(0)[:size]

    async def poll(self, file: File) -> int:
        self.polls += 1
        file.poll_wait(self.queue)
        return POLLIN if self.letters else 0

    async def release(self, file: File) -> None:
        self.log.append("release")


@asynccontextmanager
async def opened(handlers: object, **how: Any) -> AsyncGenerator[ProcFile]:
    """An open file of an entry with these handlers, in a tree of its own."""
    async with ProcFS() as proc:
        ops = handlers if isinstance(handlers, ProcOps) else ProcOps.of(handlers)
        proc.create("x", ops, **how)
        async with await proc.open("x") as file:
            yield file


def left_behind(file: ProcFile, *queues: WaitQueue) -> list[int]:
    """How many wait in these queues, and for the entry's removal."""
    return [*map(len, queues), len(file.entry._rare.watchers or ())]


class TestWaitQueue:
    def test_nobody_waits_at_first(self) -> None:
        """
        A new queue is empty, and true all the same: it is a thing, not a list.
        """
        queue = WaitQueue()
        assert len(queue) == 0
        assert queue
        assert repr(queue) == "<WaitQueue waiting=0>"

    def test_waking_nobody_is_no_error(self) -> None:
        """
        Who changes something need not know whether anybody waits.
        """
        queue = WaitQueue()
        queue.wake_up()
        assert len(queue) == 0

    async def test_wakes_everybody_once(self) -> None:
        """
        wake_up() sets the event of each who waits, and forgets them all.
        """
        queue = WaitQueue()
        events = [anyio.Event() for _ in range(3)]
        for event in events:
            queue._add(event)
        assert repr(queue) == "<WaitQueue waiting=3>"
        queue.wake_up()
        assert [event.is_set() for event in events] == [True] * 3
        assert len(queue) == 0

    async def test_who_left_is_not_woken(self) -> None:
        """
        remove() takes one event out, and is no error for one that was woken already.
        """
        queue = WaitQueue()
        gone, woken = anyio.Event(), anyio.Event()
        queue._add(gone)
        queue._add(woken)
        queue._remove(gone)
        queue.wake_up()
        queue._remove(woken)
        assert (gone.is_set(), woken.is_set()) == (False, True)


class TestWaitEvent:
    async def test_does_not_wait_for_what_is_true(self) -> None:
        """
        With the condition true already it returns without a checkpoint.
        """
        async with opened(Mailbox()) as file:
            with CancelScope() as scope:
                scope.cancel()
                await file.file.wait_event(WaitQueue(), lambda: True)
            assert not scope.cancelled_caught

    async def test_an_async_condition_is_refused(self) -> None:
        """
        A coroutine is always true: who passes an async function would never wait.
        """

        async def condition() -> None: ...

        async with opened(Mailbox()) as file:
            with pytest.raises(TypeError, match=r"condition is a plain function, .*condition"):
                await file.file.wait_event(WaitQueue(), condition)

    async def test_waits_until_the_condition_is_true(self) -> None:
        """
        Each wake_up() has the waiter look again; it goes on when the condition is true.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            assert len(box.queue) == 1
            box.queue.wake_up()
            await all_blocked()
            assert (reader.done, box.log) == (False, ["look", "look"])
            box.put(b"letter")
            await all_blocked()
            assert reader.result == b"letter"
            assert left_behind(file, box.queue) == [0, 0]

    async def test_a_wake_up_without_the_condition_is_not_kept(self) -> None:
        """
        wake_up() before anybody waits lets nobody through later.
        """
        box = Mailbox()
        box.queue.wake_up()
        async with opened(box) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            assert not reader.done
            box.put(b"letter")

    async def test_wakes_all_who_wait(self) -> None:
        """
        Of several readers of several files each looks, and who finds something goes on.
        """
        box = Mailbox()
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", ProcOps.of(box))
            files = [await proc.open("x") for _ in range(3)]
            readers = [await start(tg, file.read) for file in files]
            box.put(b"letter")
            await all_blocked()
            assert sorted(reader.done for reader in readers) == [False, False, True]
            assert len(box.queue) == 2
            box.letters = [b"two", b"three"]
            box.queue.wake_up()

    async def test_a_long_poll_ends_by_itself(self) -> None:
        """
        Removal wakes a handler that waits, with EIO, and so need not wait for long itself.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            await file.entry.remove()
            assert state(file.entry) == "gone"
            with too_late("wait", EIO):
                _ = reader.result
            assert left_behind(file, box.queue) == [0, 0]

    async def test_too_late_to_begin(self) -> None:
        """
        A handler that comes to wait when removal has begun is told at once.
        """
        box, may_wait = Mailbox(), anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            await may_wait.wait()
            return await box.read(file, size, pos)

        async with opened(ProcOps(read=read)) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            remover = await start(tg, file.entry.remove)
            assert not remover.done
            may_wait.set()
            await all_blocked()
            with too_late("wait", EIO):
                _ = reader.result
            assert remover.done

    async def test_what_is_there_is_delivered_still(self) -> None:
        """
        When the condition is true, it is no matter that removal has begun too.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            box.letters.append(b"last letter")
            await file.entry.remove()
            assert reader.result == b"last letter"

    async def test_a_handler_may_make_something_of_the_end(self) -> None:
        """
        The handler may catch the error; what it returns then is the caller's.
        """
        box = Mailbox()

        async def read(file: File, size: int, pos: int) -> bytes:
            try:
                return await box.read(file, size, pos)
            except OSError:
                return b"goodbye"

        async with opened(ProcOps(read=read)) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            await file.entry.remove()
            assert reader.result == b"goodbye"

    async def test_a_queue_may_serve_several_entries(self) -> None:
        """
        The removal of one entry wakes its own handlers only; the others wait on.
        """
        box = Mailbox()
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", ProcOps.of(box))
            other = proc.create("other", ProcOps.of(box))
            reader = await start(tg, proc.read_bytes, "x")
            await start(tg, proc.read_bytes, "other")
            await other.remove()
            assert (reader.done, len(box.queue)) == (False, 1)
            await proc.remove("x")

    @pytest.mark.parametrize("looks", [0, 1])
    async def test_a_condition_that_raises(self, looks: int) -> None:
        """
        What the condition raises, at the first look or a later one, is raised; nothing is left.
        """
        queue = WaitQueue()
        answers = [False] * looks

        def condition() -> bool:
            if not answers:
                raise ZeroDivisionError
            return answers.pop()

        async with opened(Mailbox()) as file, create_task_group() as tg:
            waiter = await start(tg, file.file.wait_event, queue, condition)
            queue.wake_up()
            await all_blocked()
            with pytest.raises(ZeroDivisionError):
                _ = waiter.result
            assert left_behind(file, queue) == [0, 0]

    async def test_cancelled_leaves_nothing(self) -> None:
        """
        A waiter that is cancelled is taken out of the queue, and nothing is kept for it.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            assert left_behind(file, box.queue) == [1, 1]
            reader.cancel()
            await all_blocked()
            assert reader.cancelled
            assert left_behind(file, box.queue) == [0, 0]
            assert file.entry.in_use == 0


class TestRemoved:
    async def test_is_set_when_removal_begins(self) -> None:
        """
        It is set by the first step of a removal, before that waits for anybody.
        """
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            await file.removed.wait()
            await may_go.wait()
            return b"left by itself"

        async with opened(ProcOps(read=read)) as file, create_task_group() as tg:
            reader = await start(tg, file.read)
            assert not file.file.removed.is_set()
            remover = await start(tg, file.entry.remove)
            assert file.file.removed.is_set()
            assert (reader.done, remover.done) == (False, False)
            may_go.set()
            await all_blocked()
            assert reader.result == b"left by itself"
            assert remover.done

    async def test_is_the_same_for_all(self) -> None:
        """
        All who wait for the removal of one entry, through any file, are woken.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            await file.removed.wait()
            return b"x"

        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            proc.create("d/x", ProcOps(read=read))
            files = [await proc.open("d/x") for _ in range(3)]
            readers = [await start(tg, file.read) for file in files]
            await directory.remove()
            assert [reader.result for reader in readers] == [b"x"] * 3

    async def test_is_set_of_what_is_gone(self) -> None:
        """
        Who asks too late need not wait.
        """
        async with opened(Mailbox()) as file:
            file.entry.remove_self()
            assert file.file.removed.is_set()
            await file.entry.remove()
            assert file.file.removed.is_set()


class TestPollThatDoesNotWait:
    @pytest.mark.parametrize("seconds", [-1, math.nan])
    async def test_no_time_is_refused(self, seconds: float) -> None:
        """
        -1 is for ever in poll(2) and None is here: taken for 0 it would never wait.
        """
        async with opened(Mailbox()) as file:
            with pytest.raises(ValueError, match=rf"or None for ever, not {seconds}$"):
                await file.poll(timeout=seconds)

    async def test_asks_once(self) -> None:
        """
        Without a timeout poll() tells what is ready now, be it nothing.
        """
        box = Mailbox()
        async with opened(box) as file:
            assert await file.poll() == 0
            assert box.polls == 1

    async def test_its_handler_waits_in_no_queue(self) -> None:
        """
        poll_wait() does nothing in a poll that will not wait.
        """
        box = Mailbox()
        async with opened(box) as file:
            await file.poll()
            assert left_behind(file, box.queue) == [0, 0]

    @pytest.mark.parametrize("seconds", [3600, None])
    async def test_nor_if_something_is_ready(self, seconds: float | None) -> None:
        """
        With something ready it returns at once, however long it might wait.
        """
        box = Mailbox()
        box.put(b"letter")
        async with opened(box) as file:
            assert await file.poll(timeout=seconds) == POLLIN
            assert box.polls == 1
            assert left_behind(file, box.queue) == [0, 0]

    async def test_nor_without_a_handler(self) -> None:
        """
        A file without a poll handler is always ready.
        """
        async with opened(ProcOps()) as file:
            assert await file.poll(timeout=None) == DEFAULT_POLLMASK
            assert await file.poll(POLLOUT, timeout=None) == POLLOUT

    async def test_nor_on_what_is_gone(self) -> None:
        """
        Once removal has begun, everything is said to be ready, and no handler is asked.
        """
        box = Mailbox()
        async with opened(box) as file:
            await file.entry.remove()
            assert await file.poll(timeout=None) == DEFAULT_POLLMASK
            assert await file.poll(POLLHUP, timeout=None) == 0
            assert box.polls == 0


class TestPollThatWaits:
    @pytest.mark.parametrize("seconds", [3600, None])
    @pytest.mark.parametrize("fast", [False, True])
    async def test_woken_by_wake_up(self, seconds: float | None, *, fast: bool) -> None:
        """
        wake_up() of a queue that its handler has named has it ask again.
        """
        box = Mailbox()
        async with opened(box, fast_acquire=fast) as file, create_task_group() as tg:
            poller = await start(tg, file.poll, timeout=seconds)
            assert (box.polls, len(box.queue)) == (1, 1)
            box.queue.wake_up()
            await all_blocked()
            assert (poller.done, box.polls, len(box.queue)) == (False, 2, 1)
            box.put(b"letter")
            await all_blocked()
            assert poller.result == POLLIN
            assert left_behind(file, box.queue) == [0, 0]

    async def test_woken_by_the_end_of_its_time(self) -> None:
        """
        When the time is over and nothing is ready, it is 0, and nothing is left behind.
        """
        box = Mailbox()
        async with opened(box) as file:
            assert await file.poll(timeout=0.01) == 0
            assert box.polls == 1
            assert left_behind(file, box.queue) == [0, 0]

    @pytest.mark.parametrize(
        ("events", "ready"), [(POLLIN, POLLIN), (POLLIN | POLLOUT, POLLIN | POLLOUT), (POLLHUP, 0)]
    )
    async def test_woken_by_removal(self, events: int, ready: int) -> None:
        """
        A removal wakes it, and it tells what poll tells of a dead file: readable and writable.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            poller = await start(tg, file.poll, events, timeout=None)
            await file.entry.remove()
            await all_blocked()
            assert poller.result == ready
            assert box.polls == 1
            assert left_behind(file, box.queue) == [0, 0]

    async def test_is_not_inside(self) -> None:
        """
        While it waits it does not count as a call inside, and no removal waits for it.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            poller = await start(tg, file.poll, timeout=None)
            assert file.entry.in_use == 0
            with CancelScope() as scope:
                scope.cancel()
                await file.entry.remove()
            assert state(file.entry) == "gone"
            await all_blocked()
            assert poller.done

    async def test_is_woken_by_any_of_its_queues(self) -> None:
        """
        A handler may name several queues; each wakes it, and none keeps anything afterwards.
        """
        queues = [WaitQueue(), WaitQueue()]
        ready: list[int] = []

        def poll(file: File) -> int:
            for queue in queues:
                file.poll_wait(queue)
            return sum(ready)

        async with opened(ProcOps(poll=poll)) as file, create_task_group() as tg:
            for queue in queues:
                ready.clear()
                poller = await start(tg, file.poll, timeout=None)
                assert left_behind(file, *queues) == [1, 1, 1]
                ready.append(POLLIN)
                queue.wake_up()
                await all_blocked()
                assert poller.result == POLLIN
                assert left_behind(file, *queues) == [0, 0, 0]

    async def test_no_wake_up_is_lost(self) -> None:
        """
        A handler that names the queue first, and looks then, is asked again for what comes between.
        """
        queue, looked, may_return = WaitQueue(), anyio.Event(), anyio.Event()
        letters: list[bytes] = []

        async def poll(file: File) -> int:
            file.poll_wait(queue)
            found = bool(letters)
            looked.set()
            await may_return.wait()
            return POLLIN if found else 0

        async with opened(ProcOps(poll=poll)) as file, create_task_group() as tg:
            poller = await start(tg, file.poll, timeout=None)
            await looked.wait()
            letters.append(b"between the look and the wait")
            queue.wake_up()
            may_return.set()
            await all_blocked()
            assert poller.result == POLLIN

    async def test_cancelled_leaves_nothing(self) -> None:
        """
        A poll that is cancelled while it waits is forgotten by queue and entry.
        """
        box = Mailbox()
        async with opened(box) as file, create_task_group() as tg:
            poller = await start(tg, file.poll, timeout=None)
            assert left_behind(file, box.queue) == [1, 1]
            poller.cancel()
            await all_blocked()
            assert poller.cancelled
            assert left_behind(file, box.queue) == [0, 0]

    async def test_a_handler_that_raises_leaves_nothing(self) -> None:
        """
        What the handler raises is raised, be it after a wake-up; nothing waits then.
        """
        queue = WaitQueue()
        asked: list[File] = []

        async def poll(file: File) -> int:
            file.poll_wait(queue)
            asked.append(file)
            if len(asked) == 2:
                raise ZeroDivisionError
            return 0

        async with opened(ProcOps(poll=poll)) as file, create_task_group() as tg:
            poller = await start(tg, file.poll, timeout=None)
            queue.wake_up()
            await all_blocked()
            with pytest.raises(ZeroDivisionError):
                _ = poller.result
            assert left_behind(file, queue) == [0, 0]

    async def test_a_poll_inside_a_poll(self) -> None:
        """
        A handler may ask another file; its own queues are those named in its own name.
        """
        inner, outer = Mailbox(), WaitQueue()
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("inner", ProcOps.of(inner))
            inner_file = await proc.open("inner")

            async def poll(file: File) -> int:
                ready = await inner_file.poll()
                file.poll_wait(outer)
                return ready

            proc.create("outer", ProcOps(poll=poll))
            poller = await start(tg, (await proc.open("outer")).poll, timeout=None)
            assert [len(inner.queue), len(outer)] == [0, 1]
            inner.put(b"letter")
            outer.wake_up()
            await all_blocked()
            assert poller.result == POLLIN
