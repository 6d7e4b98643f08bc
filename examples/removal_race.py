"""
What readers on each side of a removal see, one step after the other.

A removal has one moment that counts: when the bias is added to the use count. Every call is on
one side of it or on the other, and each side has one outcome (fs/proc/inode.c in Linux):

    inside before it      the call gets its own result, and removal waits for it         (A)
    a file opened before  every further call is refused: EIO for read                    (B, C)
    closed meanwhile      released there and then; removal does not do it again          (B)
    left open             released by the removal, the newest first; dead from then on   (C, A)
    nothing opened yet    open says ENOENT, and the name is free for another entry

Each step ends when every task waits, so the order is always the same. `aiopde race` leaves it to
chance, and counts.

    python examples/removal_race.py [asyncio|trio|uvloop]
"""

import sys

import anyio

from aiopde import File, ProcFile, ProcFS, ProcOps


async def read(file: File, size: int, pos: int) -> bytes:
    """Stay inside until the event that came with the entry is set."""
    await file.data.wait()
    return b"42"


async def release(file: File) -> None:
    """Say who is released."""
    print("    release of", file.private_data)


async def try_to_read(file: ProcFile) -> None:
    """Say what a read comes to."""
    try:
        print(f"    {file.file.private_data} reads {await file.read()!r}")
    except OSError as exc:
        print(f"    {file.file.private_data} reads: {exc}")


async def main() -> None:
    """Walk through the table above."""
    may_leave = anyio.Event()
    async with ProcFS() as proc, anyio.create_task_group() as tg:
        entry = proc.create("driver", ProcOps(read=read, release=release), data=may_leave)
        a, b, c = [await proc.open("driver") for _ in range(3)]
        for file, name in (a, "A"), (b, "B"), (c, "C"):
            file.file.private_data = name

        print("A, B and C have the file open; A reads, and stays inside")
        tg.start_soon(try_to_read, a)
        await anyio.wait_all_tasks_blocked()
        print("removal begins, and waits for A")
        tg.start_soon(entry.remove)
        await anyio.wait_all_tasks_blocked()
        print("B reads, then closes")
        await try_to_read(b)
        await b.aclose()
        print("the name is gone:", proc.listdir())
        print("A may leave the handler, and so the removal may end")
        may_leave.set()
        await entry.remove()  # joins the one under way
        print("C reads, then closes")
        await try_to_read(c)
        await c.aclose()


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
