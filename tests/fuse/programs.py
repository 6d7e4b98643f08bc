"""
Programs nobody here wrote, on a mount where a module comes and goes two hundred times.

    python -m tests.fuse.programs BACKEND DIRECTORY

Every one of them has to end well. Most look at what is there all the time; ``stress-ng`` and those
who go inside meet what comes and goes as well. (``find`` would too, and fail: a directory that goes
away under it is an error to it, in /proc as here.)
"""

import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio

from aiopde import Kernel, ProcOps
from tests.conftest import BACKENDS
from tests.fuse.harness import in_thread, mounted, run, until
from tests.helpers import all_blocked, tree

CYCLES = 200
KIB = 1024
TEXTS = {f"stable/{d}/{n}": f"needle {d}{n}\n".encode() * (n + 1) for d in "ab" for n in range(8)}


class Memory:
    """A file that keeps what is written to it, as a RAM disk does."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)

    async def read(self, file: object, size: int, pos: int) -> bytes:
        return bytes(self.content[pos : pos + size])

    async def write(self, file: object, data: bytes, pos: int) -> int:
        data = data[: max(len(self.content) - pos, 0)]
        self.content[pos : pos + len(data)] = data
        return len(data)


class Churn:
    """A module that comes and goes, and what its handlers would see that ran too late."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.over = False
        self.calls = 0
        self.too_late = 0
        self._loaded = False

    async def module(self, kernel: Kernel) -> AsyncGenerator[None]:
        async def read(file: object, size: int, pos: int) -> bytes:
            self.calls += 1
            await anyio.lowlevel.checkpoint()
            self.too_late += not self._loaded
            return b"module\n"[pos : pos + size]

        async with kernel.proc.mkdir("churn"), kernel.proc.create("churning", ProcOps(read=read)):
            for n in range(10):
                kernel.proc.create(f"churn/{n}", ProcOps(read=read), mode=0o666)
            yield

    async def run(self, cycles: int) -> None:
        for _ in range(cycles):
            self._loaded = True
            await self.kernel.insmod(self.module)
            await anyio.sleep(0.01)
            await self.kernel.rmmod("module")
            self._loaded = False
            await anyio.sleep(0.001)


def populate(kernel: Kernel) -> None:
    proc = kernel.proc
    for directory in ["stable", "stable/a", "stable/b"]:
        proc.mkdir(directory)
    for path, text in TEXTS.items():
        proc.create(path, ProcOps(read=Memory(text).read)).size = len(text)
    memory = Memory(bytes(256 * KIB))
    proc.create("ram", ProcOps(read=memory.read, write=memory.write), mode=0o666).size = 256 * KIB


def resident() -> int:
    """How much memory this process uses, in KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


Program = Callable[[Path, Path], Coroutine[Any, Any, object]]


async def cat(m: Path, out: Path) -> None:
    path, text = next(iter(TEXTS.items()))
    assert (await run("cat", m / path)).stdout.encode() == text


async def ls(m: Path, out: Path) -> None:
    assert "needle" not in (await run("ls", "-laR", m / "stable")).stdout


async def dd(m: Path, out: Path) -> None:
    path, text = list(TEXTS.items())[-1]
    done = await run("dd", f"if={m / path}", "bs=1", "status=none")
    assert done.stdout.encode() == text


async def find(m: Path, out: Path) -> None:
    done = await run("find", m / "stable", "-type", "f")
    assert done.stdout.count("stable/") == len(TEXTS)


async def grep(m: Path, out: Path) -> None:
    done = await run("grep", "-r", "needle", m / "stable")
    assert done.stdout.count("needle") == sum(text.count(b"needle") for text in TEXTS.values())


async def inside(m: Path, out: Path) -> None:
    """Read what comes and goes; whatever is told, no error but these."""
    done = await run("sh", "-c", f"ls -f {m}; cat {m}/churn/* {m}/churning; true")
    for line in done.stderr.splitlines():
        assert line.endswith(("No such file or directory", "Input/output error"))


async def cp(m: Path, out: Path) -> None:
    await run("rm", "-rf", out / "cp")
    await run("cp", "-r", m / "stable", out / "cp")
    await run("diff", "-r", m / "stable", out / "cp")


async def rsync(m: Path, out: Path) -> None:
    await run("rsync", "-a", "--delete", f"{m}/stable/", out / "rsync")
    await run("diff", "-r", m / "stable", out / "rsync")


async def lsof(m: Path, out: Path) -> None:
    held = m / "stable/a/0"
    fd = await in_thread(os.open, held, os.O_RDONLY)
    assert isinstance(fd, int)
    try:
        assert str(held) in (await run("lsof", "-w", held)).stdout
    finally:
        os.close(fd)


async def fio(m: Path, out: Path) -> None:
    await run(
        *("fio", "--name=ram", f"--filename={m}/ram", "--rw=randwrite", "--bs=4k"),
        *("--size=256k", "--verify=crc32c", "--ioengine=psync", "--fallocate=none", "--loops=4"),
        *("--thread", "--verify_fatal=1", f"--aux-path={out}"),
    )


async def stress_ng(m: Path, out: Path) -> None:
    stress = f"cd {out} && exec stress-ng --procfs 2 --timeout 1s --quiet"
    await run("unshare", "-m", "sh", "-c", f"mount --bind {m} /proc && {stress}")


async def keep_at(program: Program, churn: Churn, m: Path, out: Path) -> None:
    """Run a program over and over, until the last cycle is over."""
    await in_thread(os.makedirs, out)
    while not churn.over:
        await program(m, out)
        await anyio.sleep(0.25)  # most of the time would go to starting programs


PROGRAMS = [
    *(cat, ls, dd, find, grep, inside, cp, rsync, lsof, fio),
    *[stress_ng] * (os.geteuid() == 0),  # who else may mount over /proc?
]


async def main(directory: Path) -> None:
    """Run everything, and check that nothing is left of any of it."""
    async with Kernel() as kernel, mounted(kernel.proc, directory / "m", seconds=60) as mount:
        populate(kernel)
        churn = Churn(kernel)
        # Once before, so that what loops and libraries keep for good is there.
        await churn.run(10)
        await in_thread(os.makedirs, directory / "before")
        async with anyio.create_task_group() as tg:
            for program in (cat, ls, dd, grep):
                tg.start_soon(program, Path(mount.path), directory / "before")
        await all_blocked()
        before = len(anyio.get_running_tasks()), len(os.listdir("/proc/self/fd")), resident()

        async def cycles() -> None:
            await churn.run(CYCLES)
            churn.over = True

        async with anyio.create_task_group() as tg:
            tg.start_soon(cycles)
            for program in PROGRAMS:
                out = directory / program.__name__
                tg.start_soon(keep_at, program, churn, Path(mount.path), out)
        assert churn.calls > 0
        assert churn.too_late == 0, f"{churn.too_late} calls ran after rmmod had returned"
        await until(lambda: mount.statistics().open_files == 0)
        await until(lambda: mount.statistics().inodes <= len(tree(kernel.proc)))
        assert mount.statistics().waiting == 0
        await all_blocked()
        after = len(anyio.get_running_tasks()), len(os.listdir("/proc/self/fd")), resident()
        assert after[:2] == before[:2], f"tasks and descriptors were {before}, and are {after}"
        assert after[2] - before[2] < 16 * KIB, f"memory was {before}, and is {after}"
        sys.stdout.write(f"{churn.calls} calls of the module's handlers, {before} {after}\n")


backend, options = BACKENDS[sys.argv[1]]
options = {name: value for name, value in options.items() if name != "debug"}
anyio.run(main, Path(sys.argv[2]), backend=backend, backend_options=options)
