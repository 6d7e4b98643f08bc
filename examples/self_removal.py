"""
A handler that takes its own file away: a secret that can be read once.

Removal waits for the calls inside. So a handler that awaits the removal of its own entry waits for
itself, and in Linux that is the end of it: rmmod and reader hang, and nobody says why. Here

- await entry.remove() from the handler is refused at once, and nothing is changed;
- a child task that does the same, and which the handler waits for, is found out within a second,
  and told the way round;
- entry.remove_self() does it right: the name is gone and newcomers are refused from here on, the
  call comes to its end, and the entry goes when it has left.

    python examples/self_removal.py [asyncio|trio|uvloop]
"""

import sys

import anyio

from aiopde import File, ProcDirEntry, ProcFile, ProcFS, ProcOps


async def remove(who: str, entry: ProcDirEntry) -> None:
    """Await a removal, and say what comes of it."""
    try:
        await entry.remove()
    except OSError as exc:
        print(f"{who}: {exc}")


async def wrong(file: File, size: int, pos: int) -> bytes:
    """Wait for its own end."""
    await remove("the handler", file.entry)
    return b"nothing has happened"


async def wrong_too(file: File, size: int, pos: int) -> bytes:
    """Wait for a task that waits for its end."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(remove, "its child", file.entry, name="child")
    return b"the removal goes on without the child"


async def right(file: File, size: int, pos: int) -> bytes:
    """Begin to go, and come to its own end."""
    file.entry.remove_self()
    return b"the secret"


async def read(file: ProcFile) -> None:
    """Read a file, and say what comes of it."""
    try:
        print(f"read: {await file.read()!r}")
    except OSError as exc:
        print(f"read: {exc}")


async def main() -> None:
    """Read each of the files; and the last once more."""
    async with ProcFS() as proc:
        for handler in (wrong, wrong_too, right):
            file = await proc.open(proc.create(handler.__name__, ProcOps(read=handler)))
            async with anyio.create_task_group() as tg:
                tg.start_soon(read, file, name="reader")
            print("names that are left:", proc.listdir())
        await read(file)


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
