"""What is asyncio's own: tasks nobody looks after, callbacks, futures, awaiting a task."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio

from aiopde.testing import explore


def test_a_task_left_behind() -> None:
    """The scenario has returned and a task it created has not."""

    async def scenario() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(1), name="late"))

    tasks: list[asyncio.Task[None]] = []
    failure = explore(scenario).failure
    assert failure is not None
    assert failure.kind == "left behind"
    assert "late" in failure.message


def test_a_crash_nobody_looked_at() -> None:
    """A task that crashed and was awaited by nobody fails the execution."""

    async def crash() -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        task = asyncio.create_task(crash())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del task

    failure = explore(scenario).failure
    assert failure is not None
    assert failure.message == "ZeroDivisionError"


def test_a_callback_of_a_task_that_is_no_step() -> None:
    """What has a task as its owner is a step of it only if the loop made it one."""

    async def scenario() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        asyncio.get_running_loop().call_soon(task.__repr__)
        await task

    assert explore(scenario, strategy="dfs").verdict == "exhaustive"


def test_a_factory_of_tasks() -> None:
    """The program's own is used, where nothing has to be watched."""
    made: list[str] = []

    async def scenario() -> None:
        def factory(loop: asyncio.AbstractEventLoop, coro: Any, **how: Any) -> Any:
            made.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **how)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        await asyncio.create_task(asyncio.sleep(0))
        loop.set_task_factory(None)

    explore(scenario, strategy="fifo").raise_if_failed()
    assert made == ["sleep"]


def test_a_deadlock_after_a_deadline_that_was_met() -> None:
    """A timer that was cancelled is nothing to wait for."""

    async def scenario() -> None:
        with anyio.move_on_after(5):
            await asyncio.sleep(0)
        await anyio.Event().wait()

    failure = explore(scenario, strategy="fifo").failure
    assert failure is not None
    assert failure.kind == "deadlock"


def test_a_callback_that_raises() -> None:
    """What a callback raises is not lost."""

    async def scenario() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    failure = explore(scenario).failure
    assert failure is not None
    assert isinstance(failure.exception, ZeroDivisionError)


def test_a_future_and_a_task_that_is_awaited() -> None:
    """The reduced search sees whether a future or a task was done before it was asked."""

    async def scenario() -> object:
        future = asyncio.get_running_loop().create_future()

        async def look() -> bool:
            await asyncio.sleep(0)
            return bool(future.done())

        async def fulfil() -> None:
            await asyncio.sleep(0)
            future.set_result(None)

        looking = asyncio.create_task(look(), name="look")
        fulfilling = asyncio.create_task(fulfil(), name="fulfil")
        before = looking.done()
        await asyncio.sleep(0)
        seen = before, looking.done(), fulfilling.done()
        await fulfilling
        await future
        return seen, await looking

    reduced, full = (explore(scenario, strategy=name) for name in ("dpor", "dfs"))
    assert set(reduced.outcomes) == set(full.outcomes)
    assert len(full.outcomes) > reduced.schedules - 2 > 3


def test_a_native_cancellation() -> None:
    """A victim that anyio does not manage is cancelled as asyncio does it."""

    async def work() -> str:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            return "cancelled"
        return "done"

    async def scenario() -> object:
        task = asyncio.create_task(work(), name="work")
        await asyncio.wait([task])
        return task.cancelled() or task.result()

    result = explore(scenario, strategy="dfs", cancel=["work"])
    assert set(result.outcomes) == {True, "cancelled", "done"}
    reduced = explore(scenario, strategy="dpor", cancel=["work"])
    assert set(reduced.outcomes) == set(result.outcomes)


def test_queues_and_locks() -> None:
    """The reduced search sees what asyncio's own primitives do."""

    async def scenario() -> object:
        queue: asyncio.Queue[int] = asyncio.Queue()
        lock = asyncio.Lock()
        got: list[int] = []

        async def put(number: int) -> None:
            async with lock:
                await queue.put(number)

        async def get() -> None:
            got.append(await queue.get())

        async with asyncio.TaskGroup() as tg:
            for number in range(2):
                tg.create_task(put(number), name=f"put{number}")
            tg.create_task(get(), name="get")
        return tuple(got)

    reduced, full = (explore(scenario, strategy=name) for name in ("dpor", "dfs"))
    assert set(reduced.outcomes) == set(full.outcomes) == {(0,), (1,)}


def test_a_callback_that_was_cancelled() -> None:
    """It does not run, whether it was to come soon or later; nor is time set forward for it."""

    async def scenario() -> object:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        loop.call_soon(seen.append, "soon").cancel()
        loop.call_later(5, seen.append, "late").cancel()
        # Of two at one time, each of which cancels the other, one runs.
        timers: list[asyncio.TimerHandle] = []

        def cancel_both() -> None:
            seen.append("one of two")
            for timer in timers:
                timer.cancel()

        timers += [loop.call_later(7, cancel_both) for _ in range(2)]
        await asyncio.sleep(9)
        return tuple(seen), loop.time()

    assert set(explore(scenario, strategy="fifo").outcomes) == {(("one of two",), 9)}


def test_what_never_comes() -> None:
    """A timer so far off that nobody will see it does not keep a deadlock from being one."""

    async def scenario() -> None:
        await asyncio.sleep(1e301)

    failure = explore(scenario).failure
    assert failure is not None
    assert failure.kind == "deadlock"


def test_the_scenario_itself_may_be_the_victim() -> None:
    """``cancel=["main"]``: wherever it waits, in every order."""

    async def scenario() -> str:
        async with anyio.create_task_group() as tg:
            tg.start_soon(asyncio.sleep, 0, name="a")
        return "over"

    result = explore(scenario, strategy="dfs", cancel=["main"])
    assert {"over", None} <= set(result.outcomes)


def test_how_a_future_ended_is_seen() -> None:
    """Who asks for the exception of a future depends on who sets it."""

    async def scenario() -> object:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found: list[object] = []

        async def fail() -> None:
            await asyncio.sleep(0)
            future.set_exception(KeyError("x"))

        async def look() -> None:
            await asyncio.sleep(0)
            found.append(future.done() and repr(future.exception()))

        async with asyncio.TaskGroup() as tg:
            tg.create_task(fail())
            tg.create_task(look())
        future.exception()
        return found[0]

    full = explore(scenario, strategy="dfs")
    reduced = explore(scenario, strategy="dpor")
    assert set(full.outcomes) == set(reduced.outcomes) == {False, "KeyError('x')"}
    assert reduced.verdict == "exhaustive"
