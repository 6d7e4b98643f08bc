"""
A service's code is edited and reloaded while requests are inside; it never stops to serve.

The module is a Python file that defines module_main. reload() reads it anew and runs the new
version's init beside the old one, then lets the names of the new one take the place of the old
ones in one step. Requests inside the old version end there. An edit that does not even load
leaves the old version running.

    python examples/hot_reload.py [asyncio|trio|uvloop]
"""

import sys
import tempfile
from pathlib import Path

import anyio

from aiopde import Kernel

VERSION = """
from aiopde import ProcOps

async def module_main(kernel, may_answer):
    async def read(file, size, pos):
        await may_answer.wait()
        return b"version 1"[pos : pos + size]

    entry = kernel.proc.create("service", ProcOps(read=read))
    yield
    await entry.remove()
"""


async def main() -> None:
    """Edit the file twice, once with a mistake."""
    with tempfile.TemporaryDirectory() as folder:
        path = anyio.Path(folder, "service.py")
        await path.write_text(VERSION)
        await serve(path)


async def serve(path: anyio.Path) -> None:
    """Load the module, and reload it under a request."""
    may_answer = anyio.Event()
    async with Kernel(module_path=[Path(path).parent]) as kernel, anyio.create_task_group() as tg:
        await kernel.modprobe("service", may_answer=may_answer)

        async def request() -> None:
            print("the request inside:", await kernel.proc.read_text("service"))

        async def reload() -> None:
            await kernel.reload("service", may_answer=ready)
            print("the old version is gone")

        tg.start_soon(request)
        await anyio.wait_all_tasks_blocked()

        await path.write_text(VERSION.replace("version 1", "version 2") + "1 / 0\n")
        try:
            await kernel.reload("service")
        except ZeroDivisionError as exc:
            print("that did not load:", exc)

        ready = anyio.Event()
        ready.set()
        await path.write_text(VERSION.replace("version 1", "version 2"))
        tg.start_soon(reload)
        await anyio.wait_all_tasks_blocked()
        print("a newcomer:", await kernel.proc.read_text("service"))
        print([f"{module.name} {module.state.value}" for module in kernel.lsmod()])
        may_answer.set()


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
