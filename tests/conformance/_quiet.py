"""When nothing can move any more: the emulator's word for a quiescent machine."""

from __future__ import annotations

import asyncio

import anyio


async def quiet() -> None:
    """
    Wait until every other task of this loop waits for something that only others can bring.

    ``anyio.wait_all_tasks_blocked`` says the same, and is right on all loops, but on asyncio it
    sleeps a tenth of a second whenever a task has still something to do: minutes, over all the
    steps of all the recordings. Nothing here has a timer, so letting the loop turn is enough.
    """
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        await anyio.wait_all_tasks_blocked()
        return
    while True:
        await asyncio.sleep(0)
        if all(map(_blocked, asyncio.all_tasks() - {asyncio.current_task()})):
            return


def _blocked(task: asyncio.Task[object]) -> bool:
    waiter: asyncio.Future[object] | None = getattr(task, "_fut_waiter", None)
    return waiter is not None and not waiter.done()
