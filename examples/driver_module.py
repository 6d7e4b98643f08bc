"""
A driver as a module: it comes, is used, and goes under its users.

Before the yield is the module's init, after it its exit. The entry is created last and removed
first, so that nobody can call what is not ready, or no more. Its one background task, which counts,
ends when the entry is gone; exit need not see to that.

An open file does not hold the module, unlike a reference (try_module_get): rmmod succeeds, and the
file is dead, as in Linux. Nothing here knows who has what open, and nothing has to.

    python examples/driver_module.py [asyncio|trio|uvloop]
"""

import sys
from collections.abc import AsyncIterator

import anyio

from aiopde import File, Kernel, ProcOps, this_module


async def counter(kernel: Kernel, *, first: int = 0) -> AsyncIterator[None]:
    """Serve /proc/counter."""
    count = first

    async def tick() -> None:
        nonlocal count
        while True:
            count += 1
            await anyio.sleep(3600)

    async def read(file: File, size: int, pos: int) -> bytes:
        return f"{count}\n".encode()[pos : pos + size]

    this_module().start_soon(tick)
    entry = kernel.proc.create("counter", ProcOps(read=read))
    yield
    await entry.remove()


async def main() -> None:
    """Load it, use it, unload it."""
    async with Kernel() as kernel:
        module = await kernel.insmod(counter, first=41)
        await anyio.wait_all_tasks_blocked()
        print(await kernel.proc.read_text("counter"), end="")
        print([f"{m.name} {m.refcnt} {m.state.value}" for m in kernel.lsmod()])

        file = await kernel.proc.open("counter")
        kernel.try_module_get(module)
        try:
            await kernel.rmmod("counter")
        except BlockingIOError as exc:
            print(exc)
        kernel.module_put(module)

        await kernel.rmmod("counter")
        try:
            await file.read()
        except OSError as exc:
            print(exc)
        await file.aclose()
        print("left:", kernel.lsmod(), kernel.proc.listdir())


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
