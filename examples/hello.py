"""
A file whose content a coroutine makes when it is read, and its removal.

A read handler gets the open file, how many bytes are wanted at most, and the position; what it
returns moves the position on. An empty result is the end of the file: so a reader always calls
once more than there is to read, here as in Linux (proc_create and struct proc_ops).

Leaving the inner block removes the entry. From then on its name is gone, and reading a file that
was opened before says EIO: the file is still open, but dead.

    python examples/hello.py [asyncio|trio|uvloop]
"""

import sys

import anyio

from aiopde import EntryRemovedError, File, ProcFS, ProcOps


async def read(file: File, size: int, pos: int) -> bytes:
    """Return the part of the greeting that is asked for."""
    return f"hello from {file.entry.path}\n".encode()[pos : pos + size]


async def main() -> None:
    """Read the file whole, then in pieces, then after its removal."""
    async with ProcFS() as proc:
        async with proc.create("hello", ProcOps(read=read)):
            print(await proc.read_text("hello"), end="")
            file = await proc.open("hello")
            print(await file.read(5), await file.read(100), await file.read(100))

        print("names that are left:", proc.listdir())
        try:
            await file.read()
        except EntryRemovedError as exc:
            print(exc)
        await file.aclose()


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
