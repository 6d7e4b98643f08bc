"""
How it was done before: the module is pinned by its open files, if it says so.

A character device has an owner, and each open file of it holds a reference to that module. So
rmmod is refused as long as anybody has the device open, be it idle; there is no way to take the
module away from its users. And whoever forgets the owner gets the opposite: rmmod succeeds under
an open file, and the next call runs code that is gone. Linux crashes then; here it is an error
that names the module.

An entry of /proc has neither problem: its guard counts the calls inside, not the files.

    python examples/legacy_owner.py [asyncio|trio|uvloop]
"""

import sys
from collections.abc import AsyncIterator

import anyio

from aiopde import File, Kernel, ProcOps, UseAfterFreeError, this_module


async def driver(kernel: Kernel, *, with_owner: bool) -> AsyncIterator[None]:
    """Serve the same handlers in /dev and in /proc."""
    database = {"answer": b"42"}

    async def read(file: File, size: int, pos: int) -> bytes:
        return database["answer"]

    ops = ProcOps(read=read)
    kernel.dev.register("driver", ops, owner=this_module() if with_owner else None)
    entry = kernel.proc.create("driver", ops)
    yield
    await entry.remove()
    kernel.dev.unregister("driver")
    database.clear()


async def unload(kernel: Kernel) -> None:
    """Try it, and say what came of it."""
    try:
        await kernel.rmmod("driver")
        print("  rmmod: done")
    except BlockingIOError as exc:
        print("  rmmod:", exc)


async def main() -> None:
    """Unload the driver under an open file, in three ways."""
    async with Kernel() as kernel:
        print("a device that knows its owner:")
        await kernel.insmod(driver, with_owner=True)
        async with await kernel.dev.open("driver"):
            await unload(kernel)

        print("an entry of /proc:")
        async with await kernel.proc.open("driver") as file:
            await unload(kernel)
            try:
                await file.read()
            except OSError as exc:
                print("  read:", exc)

        print("a device whose owner was forgotten:")
        await kernel.insmod(driver, with_owner=False)
        file = await kernel.dev.open("driver")
        await unload(kernel)
        try:
            await file.read()
        except UseAfterFreeError as exc:
            print("  read:", exc)
        print("counted:", kernel.uses_after_free)


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
