"""A wake-up, and a handler that is about to wait for it."""

from __future__ import annotations

from anyio import create_task_group

from aiopde import File, ProcFS, ProcOps, WaitQueue


async def test_no_wake_up_comes_between_the_look_and_the_queue() -> None:
    """
    Who has looked in vain is in the queue before anybody else moves: no wake-up is lost.
    """
    queue = WaitQueue()
    letters: list[bytes] = []

    async with ProcFS() as proc, create_task_group() as tg:

        async def put() -> None:
            letters.append(b"x")
            queue.wake_up()

        def has_letter() -> bool:
            if not letters:
                tg.start_soon(put)  # it moves as soon as the one who looks lets anybody move
            return bool(letters)

        async def read(file: File, size: int, pos: int) -> bytes:
            await file.wait_event(queue, has_letter)
            return letters.pop()

        entry = proc.create("x", ProcOps(read=read))
        async with await proc.open(entry) as file:
            for _ in range(20):  # on trio, who of two moves first is drawn by lot
                assert await file.read(1) == b"x"
