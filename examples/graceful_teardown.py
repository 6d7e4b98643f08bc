"""
A service takes an endpoint away while it is under load.

Three requests are inside the handler, and a fourth client has the file open without reading it.
What one wants of a graceful teardown, remove() does, as proc_remove does in Linux:

- no newcomer gets in: the name is gone at once, and so is the way in through an open file;
- nobody is cut off: it waits for the requests inside, and they get their answers;
- nobody can hold it up: it does not wait for the idle client, whose file it releases by force;
- when it has returned, no handler runs: only now the service closes its database.

Then it takes away two that have stuck clients, with a grace for the calls inside. When that has
ended, calls of a killable entry are cancelled, and get EIO; of all others it says who they are.

    python examples/graceful_teardown.py [asyncio|trio|uvloop]
"""

import sys
from collections.abc import Awaitable

import anyio

from aiopde import File, ProcFS, ProcOps, RemovalTimeoutError


async def show(who: str, call: Awaitable[object]) -> None:
    """Say what a call came to."""
    try:
        print(f"{who}: {await call!r}")
    except OSError as exc:
        print(f"{who}: {exc}")


async def main() -> None:
    """Put each task where it should be, and show what it sees."""
    database = {"answer": b"42"}
    may_answer = anyio.Event()

    async def read(file: File, size: int, pos: int) -> bytes:
        await may_answer.wait()
        return database["answer"]

    async with ProcFS() as proc, anyio.create_task_group() as tg:
        service = proc.create("service", ProcOps(read=read))

        async def request() -> None:
            async with await proc.open("service") as file:
                await show("a request inside", file.read())

        async def tear_down() -> None:
            await service.remove()
            database.clear()
            print("removed, and the database closed:", service.statistics().state)

        idle = await proc.open("service")
        for _ in range(3):
            tg.start_soon(request)
        await anyio.wait_all_tasks_blocked()
        print("requests inside:", service.in_use)

        tg.start_soon(tear_down)
        await anyio.wait_all_tasks_blocked()
        print("removal has begun, requests inside:", service.in_use)
        await show("a newcomer", proc.open("service"))
        await show("the idle client", idle.read())
        may_answer.set()

    await tear_down_with_grace()


async def tear_down_with_grace() -> None:
    """The same with clients that do not leave by themselves."""
    never = anyio.Event()

    async def read(file: File, size: int, pos: int) -> bytes:
        await never.wait()
        return b"after all"

    async with ProcFS(grace=0.1) as proc, anyio.create_task_group() as tg:
        for name, killable in (("cache", True), ("ledger", False)):
            entry = proc.create(name, ProcOps(read=read), killable=killable)
            file = await proc.open(entry)
            tg.start_soon(show, f"a client of the {name}", file.read(), name=f"client of {name}")
        await anyio.wait_all_tasks_blocked()

        await proc.remove("cache")
        try:
            await proc.remove("ledger")
        except RemovalTimeoutError as exc:
            for holder in exc.holders:
                print(f"still inside: {holder.task}, in {holder.op}; the entry is dying")
        never.set()
        await entry.remove()
        print("now it is gone:", entry.statistics().state)


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
