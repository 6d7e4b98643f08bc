"""
A tree as a real file system: any program looks into it, and an entry goes while one is inside.

Mounts on a directory of its own for a moment. Needs /dev/fuse; root mounts by mount(2), anybody
else with fusermount3 (apt install fuse3).

    python examples/mount.py [asyncio|trio|uvloop]
"""

import subprocess
import sys
import tempfile

import anyio

from aiopde import File, ProcFS, ProcOps, WaitQueue
from aiopde.fuse import mount


class Level:
    """A number that can be read, written and waited for."""

    def __init__(self) -> None:
        self.value = 0
        self.changed = WaitQueue()

    async def show(self) -> str:
        """Say how high it is."""
        return f"{self.value}\n"

    async def write(self, file: File, data: bytes, pos: int) -> int:
        """Take a new one."""
        self.value = int(data)
        self.changed.wake_up()
        return len(data)

    async def wait(self, file: File, size: int, pos: int) -> bytes:
        """Answer when the level is 100; at the end of the file there is nothing to wait for."""
        await file.wait_event(self.changed, lambda: self.value >= 100)
        return b"full\n"[pos : pos + size]


async def shell(line: str, folder: str) -> None:
    """Run a line as an operator would, in any shell."""
    print("$", line)
    # Not cwd=: see mount(), on what blocks the event loop.
    command = f"export LC_ALL=C; cd {folder}; {line}"
    done = await anyio.run_process(command, check=False, stderr=subprocess.STDOUT)
    print(done.stdout.decode(), end="")


async def main() -> None:
    """Mount a tree, use it from a shell, and remove an entry under a reader."""
    level = Level()
    with tempfile.TemporaryDirectory() as folder:
        async with ProcFS() as proc, mount(proc, folder):
            proc.mkdir("tank")
            proc.create_single("tank/level", level.show)
            proc.create("tank/control", ProcOps(write=level.write), mode=0o200)
            full = proc.create("tank/full", ProcOps(read=level.wait))

            await shell("ls tank", folder)
            await shell("echo 42 > tank/control; cat tank/level", folder)
            await shell("mkdir tank/new", folder)

            async with anyio.create_task_group() as tg:
                tg.start_soon(shell, "cat tank/full", folder)
                while not full.in_use:  # noqa: ASYNC110  another program brings it about
                    await anyio.sleep(0.01)
                await full.remove()  # whoever waits inside is woken, and told
            await shell("ls tank", folder)


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
