"""
A service that can be looked into while it runs: which modules, who is inside, why something waits.

One line gives a kernel a control socket. Whoever may connect (its user, and root) can do from
outside what the program can: load and unload modules, read and write files, and ask who is in the
way. The aiopde command does; here, a second task plays the operator:

- one client reads a file whose handler takes its time;
- another one unloads the module, which waits for that read, and for nothing else;
- a third asks why, and is told who it is, where he stands, and for how long he has been there.

While this runs, `AIOPDE_CONTROL=... aiopde top` would show the same on a terminal.

    python examples/control_socket.py [asyncio|trio|uvloop]
"""

import os
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial

import anyio

from aiopde import File, Kernel, ProcOps
from aiopde.control import connect, serve_control

may_answer = anyio.Event()


async def report(kernel: Kernel) -> AsyncIterator[None]:
    """Serve /proc/report, which is not ready at once."""

    async def read(file: File, size: int, pos: int) -> bytes:
        await may_answer.wait()
        return b"all is well\n"[pos : pos + size]

    async with kernel.proc.create("report", ProcOps(read=read)):
        yield


async def operate(path: str, kernel: Kernel) -> None:
    """Read, unload, and ask why that takes so long, each over a connection of its own."""
    async with (
        await connect(path) as reader,
        await connect(path) as remover,
        await connect(path) as watcher,
        anyio.create_task_group() as tg,
    ):
        file = (await reader.ask("open", path="report"))["file"]
        tg.start_soon(partial(reader.ask, "read", file=file))
        while not await watcher.ask("ps"):
            pass
        tg.start_soon(partial(remover.ask, "rmmod", name="report"))
        while not (reasons := await watcher.ask("why", name="report")):
            pass
        holder = reasons[0]["holders"][0]
        line = os.path.basename(holder["stack"][-1])
        print(f"rmmod waits for the {holder['op']} of {holder['path']}, which is at {line}")
        may_answer.set()
    print("then it is done; left:", kernel.lsmod())


async def main() -> None:
    """Run a kernel with a control socket, in a place of its own."""
    with tempfile.TemporaryDirectory() as folder:
        # The socket is around the kernel: so it can be asked also while that is being left.
        async with anyio.create_task_group() as tg:
            async with Kernel() as kernel:
                path = await tg.start(serve_control, kernel, f"{folder}/control.sock")
                await kernel.insmod(report)
                await operate(path, kernel)
            tg.cancel_scope.cancel()


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
