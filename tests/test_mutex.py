"""The mutex: free of charge while nobody else wants it, and fair when somebody does."""

import asyncio

import anyio
import pytest
from anyio import CancelScope, create_task_group, wait_all_tasks_blocked

from aiopde._mutex import Mutex


class TestUncontended:
    def test_is_taken_once(self) -> None:
        """
        Nobody takes a mutex that is taken, until it is given back.
        """
        mutex = Mutex()
        assert mutex.try_lock()
        assert not mutex.try_lock()
        mutex.unlock()
        assert mutex.try_lock()

    def test_lock_awaits_nothing(self) -> None:
        """
        lock() of a free mutex needs no event loop, let alone a turn of it.
        """
        mutex = Mutex()
        with pytest.raises(StopIteration):
            mutex.lock().send(None)
        assert not mutex.try_lock()

    def test_unlock_of_a_free_one_is_refused(self) -> None:
        """
        An unlock too many is an error, before it lets two tasks in at once.
        """
        mutex = Mutex()
        with pytest.raises(RuntimeError, match="once for each lock"):
            mutex.unlock()

    def test_repr_tells_its_state(self) -> None:
        """
        Its repr says whether it is taken.
        """
        mutex = Mutex()
        assert repr(mutex) == "<Mutex free waiting=0>"
        mutex.try_lock()
        assert repr(mutex) == "<Mutex locked waiting=0>"


class Queue:
    """A taken mutex and tasks that want it."""

    def __init__(self) -> None:
        self.mutex = Mutex()
        self.mutex.try_lock()
        self.got: list[str] = []
        self.scopes: dict[str, CancelScope] = {}

    async def want(self, name: str) -> None:
        """Wait for the mutex and keep it."""
        with CancelScope() as scope:
            self.scopes[name] = scope
            await self.mutex.lock()
            self.got.append(name)


class TestContended:
    async def test_goes_to_whoever_waits_longest(self) -> None:
        """
        Each unlock lets one in, in the order in which they came.
        """
        queue = Queue()
        async with create_task_group() as tg:
            for name in "abc":
                tg.start_soon(queue.want, name)
                await wait_all_tasks_blocked()
            assert repr(queue.mutex) == "<Mutex locked waiting=3>"
            for expected in ("a", "ab", "abc"):
                queue.mutex.unlock()
                await wait_all_tasks_blocked()
                assert "".join(queue.got) == expected
        queue.mutex.unlock()
        assert queue.mutex.try_lock()

    async def test_is_handed_over_directly(self) -> None:
        """
        Who comes between the unlock and the waiter's turn does not overtake the waiter.
        """
        queue = Queue()
        async with create_task_group() as tg:
            tg.start_soon(queue.want, "a")
            await wait_all_tasks_blocked()
            queue.mutex.unlock()
            assert not queue.mutex.try_lock()
        assert queue.got == ["a"]

    async def test_a_cancelled_waiter_leaves_the_queue(self) -> None:
        """
        Who was cancelled while waiting is passed over.
        """
        queue = Queue()
        async with create_task_group() as tg:
            for name in "abc":
                tg.start_soon(queue.want, name)
                await wait_all_tasks_blocked()
            queue.scopes["b"].cancel()
            await wait_all_tasks_blocked()
            assert repr(queue.mutex) == "<Mutex locked waiting=2>"
            for _ in range(2):
                queue.mutex.unlock()
                await wait_all_tasks_blocked()
        assert queue.got == ["a", "c"]

    async def test_is_not_lost_in_a_cancelled_hand_over(self) -> None:
        """
        A waiter cancelled in the same moment either has the mutex or passes it on.
        """
        queue = Queue()
        async with create_task_group() as tg:
            tg.start_soon(queue.want, "a")
            await wait_all_tasks_blocked()
            queue.mutex.unlock()
            queue.scopes["a"].cancel()
        for _ in queue.got:
            queue.mutex.unlock()
        assert queue.mutex.try_lock()

    @pytest.mark.parametrize("others", [0, 1])
    async def test_passes_on_what_it_was_handed_too_late(
        self, anyio_backend_name: str, others: int
    ) -> None:
        """
        On asyncio a task can be cancelled after it was handed the mutex: the next one gets it.
        """
        if anyio_backend_name != "asyncio":
            pytest.skip("trio wakes the waiter or cancels it, never both")
        queue = Queue()
        late = asyncio.create_task(queue.want("a"))
        await wait_all_tasks_blocked()
        async with create_task_group() as tg:
            for _ in range(others):
                tg.start_soon(queue.want, "b")
                await wait_all_tasks_blocked()
            queue.mutex.unlock()
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
        assert queue.got == ["b"] * others
        assert queue.mutex.try_lock() == (not others)

    async def test_lets_one_in_at_a_time(self) -> None:
        """
        With many who come and go, there is never a second one inside.
        """
        mutex = Mutex()
        inside = most = 0

        async def visit() -> None:
            nonlocal inside, most
            for _ in range(5):
                await mutex.lock()
                inside += 1
                most = max(most, inside)
                await anyio.lowlevel.checkpoint()
                inside -= 1
                mutex.unlock()

        async with create_task_group() as tg:
            for _ in range(5):
                tg.start_soon(visit)
        assert most == 1
        assert mutex.try_lock()
