"""What is asyncio's own: tasks nobody looks after, callbacks, futures, awaiting a task."""

from __future__ import annotations

import asyncio

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
