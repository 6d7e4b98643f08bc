"""
The guard alone, around something that is no file: a pool of connections.

UseCount is what stands before every handler of a procfs entry, and it can stand before anything
that is taken away while it is in use. Each call asks whether it may come in (use_pde in Linux),
and says when it leaves (unuse_pde). Whoever takes the thing away runs it down: from that moment
nobody gets in, and when the last one is out, nobody is left (proc_entry_rundown).

A lock would let in one at a time. A flag beside a counter can be looked at just before the other
changes; here both are one number.

    python examples/guard_anything.py [asyncio|trio|uvloop]
"""

import sys

import anyio

from aiopde import UseCount


async def main() -> None:
    """Close a pool with three queries inside; a fourth comes too late."""
    guard = UseCount("pool")
    connections = ["one connection", "another connection"]
    may_answer = anyio.Event()

    async def query(number: int) -> None:
        async with guard:  # OSError (EIO) once the rundown has begun
            await may_answer.wait()
            connections[number % 2].upper()  # would fail if the pool were closed

    async def close_pool() -> None:
        await guard.rundown()
        connections.clear()

    async with anyio.create_task_group() as tg:
        for number in range(3):
            tg.start_soon(query, number)
        await anyio.wait_all_tasks_blocked()
        print(f"in use: {guard}")

        tg.start_soon(close_pool)
        await anyio.wait_all_tasks_blocked()
        print(f"closing: {guard}, {len(connections)} connections")
        try:
            await query(3)
        except OSError as exc:
            print(f"too late: {exc}")
        may_answer.set()
    print(f"closed: {guard}, {len(connections)} connections")


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
