"""
How often a second a program can open, read and close a file of the mount::

    python -m tests.bench.mount [--rounds N] [--seconds S] [--pyfuse3 PYTHON] [--unpinned]

Beside it stand the same file behind pyfuse3 (the group ``bench-mount`` of pyproject.toml; it wants
gcc and libfuse3-dev, and may be in another environment, whose Python is named), /proc/version and
a file on tmpfs. The client is in C, and so needs gcc. Both ends are pinned to one CPU: between two,
what is measured is how long an idle CPU takes to wake up. Every server runs in every round. The
processor time, of client and server together, is the figure that other load disturbs least.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator

TEXT: Final = b"hello, world\n"
SERVERS: Final = ("pyfuse3", "asyncio", "uvloop", "trio")
TARGET: Final = 1.5
"""Of pyfuse3's rate, pinned: from each loop."""


# -- servers: each its own process ----------------------------------------------------------------


def serve(kind: str, path: str) -> None:
    if kind == "pyfuse3":
        serve_by_pyfuse3(path)
        return
    import anyio

    trio = kind == "trio"
    anyio.run(
        serve_by_aiopde,
        path,
        backend="trio" if trio else "asyncio",
        backend_options={"use_uvloop": True} if kind == "uvloop" else {},
    )


async def serve_by_aiopde(path: str) -> None:
    from aiopde import ProcFS, ProcOps
    from aiopde.fuse import mount

    async def read(file: object, size: int, pos: int) -> bytes:
        return TEXT[pos : pos + size]

    async with ProcFS() as proc, mount(proc, path) as mounted:
        proc.create("hello", ProcOps(read=read))
        sys.stdout.write("mounted\n")
        sys.stdout.flush()
        await mounted.unmounted.wait()


def serve_by_pyfuse3(path: str) -> None:
    import trio

    pyfuse3: Any = import_module("pyfuse3")

    class Hello(pyfuse3.Operations):  # type: ignore[misc]
        """The least that serves one file."""

        def attributes(self, inode: int) -> Any:
            entry = pyfuse3.EntryAttributes()
            entry.st_mode = 0o100444 if inode != pyfuse3.ROOT_INODE else 0o40755
            entry.st_ino = inode
            entry.st_size = len(TEXT) if inode != pyfuse3.ROOT_INODE else 0
            return entry

        async def getattr(self, inode: int, ctx: object = None) -> Any:
            return self.attributes(inode)

        async def lookup(self, parent_inode: int, name: bytes, ctx: object = None) -> Any:
            return self.attributes(pyfuse3.ROOT_INODE + 1)

        async def open(self, inode: int, flags: int, ctx: object) -> Any:
            return pyfuse3.FileInfo(fh=inode, direct_io=True)

        async def read(self, fh: int, off: int, size: int) -> bytes:
            return TEXT[off : off + size]

    pyfuse3.init(Hello(), path, {"fsname=hello"})
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    trio.run(pyfuse3.main)


# -- measuring ------------------------------------------------------------------------------------


@dataclass
class Place:
    """A file to open, who serves it (0: the kernel), and what came of it, round by round."""

    file: Path
    server: int = 0
    rates: list[float] = field(default_factory=list[float])
    """Times a second."""
    costs: list[float] = field(default_factory=list[float])
    """Microseconds of processor time for one."""

    def measure(self, client: Path, seconds: float) -> None:
        before = self._spent()
        done = subprocess.run([client, self.file, str(seconds)], check=True, stdout=subprocess.PIPE)
        times, per_second = done.stdout.split()
        self.rates.append(float(per_second))
        self.costs.append((self._spent() - before) * 1e6 / int(times))

    def _spent(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        served = Path(f"/proc/{self.server}/schedstat").read_text() if self.server else "0"
        return used.ru_utime + used.ru_stime + int(served.split()[0]) / 1e9


@contextmanager
def server(kind: str, python: str, path: Path) -> Generator[Place]:
    path.mkdir()
    command = [python, "-m", "tests.bench.mount", "--serve", kind, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"mounted\n":
            msg = f"{kind} does not serve"
            raise SystemExit(msg)
        yield Place(path / "hello", process.pid)
    finally:
        subprocess.run(["umount", "-l", path], check=False)
        process.wait()


def measure(options: argparse.Namespace) -> dict[str, Place]:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        client = work / "client"
        source = Path(__file__).with_name("client.c")
        subprocess.run(["gcc", "-O2", "-o", client, source], check=True)
        (work / "file").write_bytes(TEXT)
        places = {"tmpfs": Place(work / "file"), "/proc/version": Place(Path("/proc/version"))}
        for kind in SERVERS:
            python = options.pyfuse3 if kind == "pyfuse3" else sys.executable
            if kind != "pyfuse3" or has_pyfuse3(python):
                places[kind] = stack.enter_context(server(kind, python, work / kind))
        for _ in range(options.rounds):
            for place in places.values():
                place.measure(client, options.seconds)
        return places


def has_pyfuse3(python: str) -> bool:
    done = subprocess.run([python, "-c", "import pyfuse3"], check=False, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mount", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--pyfuse3", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--unpinned", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return 0
    if not shutil.which("gcc"):
        parser.error("the client is in C: install gcc")
    if not options.unpinned:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    places = measure(options)
    print(f"{'':14} {'a second':>9}  {'of all rounds':>17}  {'µs of CPU':>9}  gain on pyfuse3")
    missed = False
    for name, place in places.items():
        rate, cost = (statistics.median(figures) for figures in (place.rates, place.costs))
        line = (
            f"{name:14} {rate:9.0f}  {min(place.rates):8.0f}-{max(place.rates):8.0f}  {cost:9.1f}"
        )
        if peer := places.get("pyfuse3"):
            gain = statistics.median(peer.costs) / cost
            line += f"  {rate / statistics.median(peer.rates):6.2f} {gain:6.2f}"
            missed |= name in SERVERS[1:] and gain < TARGET
        print(line)
    if "pyfuse3" not in places:
        print("pyfuse3 is not here to compare with")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
