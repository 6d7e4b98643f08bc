"""Size: memory, a million entries, and what importing costs."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from aiopde import ProcFile, ProcFS, ProcOps

from ._measure import Bench, Times, Variant, row, timed

if TYPE_CHECKING:
    from collections.abc import Generator


async def answer(file: object, size: int, pos: int) -> bytes:
    return b""


OPS = ProcOps(read=answer)
# anyio (4.16) imports its parts when they are first used, as we do.
ANYIO_IN_USE = """
import anyio.abc, anyio.lowlevel
anyio.Event, anyio.CancelScope, anyio.create_task_group, anyio.get_cancelled_exc_class
"""


@row("asyncio")
async def memory(bench: Bench) -> None:
    count = bench.size(100_000)
    async with ProcFS(fast_acquire=True) as proc:
        top = proc.mkdir("top")
        first = proc.create("first", OPS, parent=top)
        await proc.open(first)  # what is made once, for all files
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for n in range(count):
            proc.create(f"e{n}", OPS, parent=top)
        entries = tracemalloc.get_traced_memory()[0]
        files: list[ProcFile | None] = [None] * count
        empty = tracemalloc.get_traced_memory()[0]
        for n in range(count):
            files[n] = await proc.open(first)
        full = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    bench.figure("memory of an entry", [(entries - before) / count], "B", at_most=200)
    bench.figure("memory of an open file", [(full - empty) / count], "B", at_most=120)


@row("asyncio")
async def million(bench: Bench) -> None:
    count = bench.size(1_000_000)
    made: Times = []
    kernel: Times = []
    listed: Times = []
    again: Times = []
    found: Times = []
    plain: Times = []
    for _ in range(3):
        with in_memory() as where:
            kernel.append(await timed(make_files(where), count // 10))
        async with ProcFS(fast_acquire=True) as proc:
            top = proc.mkdir("top")
            create = proc.create

            async def make(_: int) -> None:
                for n in range(count):
                    create(f"e{n}", OPS, parent=top)

            async def listdir(_: int) -> None:
                proc.listdir("top")

            made.append(await timed(make, count))
            listed.append(await timed(listdir, count) * 1e9)
            again.append(await timed(listdir, count) * 1e9)
            numbers = random.Random(1).sample(range(count), min(count, 200_000))
            paths = [f"top/e{n}" for n in numbers]
            names = [f"e{n}" for n in numbers]
            flat = {f"e{n}": n for n in range(count)}

            async def look_up(_: int) -> None:
                lookup = proc.lookup
                for path in paths:
                    lookup(path)

            async def access(_: int) -> None:
                for name in names:
                    flat[name]

            found.append(await timed(look_up, len(paths)) / 2)
            plain.append(await timed(access, len(names)))
            flat = {}
    bench.ratio(f"create {count:,} entries ÷ files of tmpfs", made, kernel, at_most=0.35)
    bench.figure(f"listdir of {count:,}, an entry", listed, "ns", at_most=60)
    bench.figure("… once more", again, "ns", at_most=60)
    bench.ratio("lookup of a component ÷ a dict access", found, plain, at_most=1.5)


@contextmanager
def in_memory() -> Generator[int]:
    """A folder of the kernel's own memory file system."""
    with TemporaryDirectory(dir="/dev/shm") as place:
        where = os.open(place, os.O_RDONLY)
        try:
            yield where
        finally:
            os.close(where)


def make_files(where: int) -> Variant:
    async def run(count: int) -> None:
        for n in range(count):
            os.close(os.open(f"e{n}", os.O_CREAT | os.O_WRONLY, dir_fd=where))

    return run


@row("asyncio")
async def importing(bench: Bench) -> None:
    # With bytecode, whatever the environment says, and not beside the sources.
    with TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def import_(names: str) -> float:
            code = f"import time\nt = time.process_time()\n{names}\nprint(time.process_time() - t)"
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
            return float(done.stdout)

        mine: Times = []
        base: Times = []
        used: Times = []
        loaded: Times = []
        for _ in range(bench.size(20)):
            base.append(import_("import anyio"))
            used.append(import_(ANYIO_IN_USE))
            mine.append(import_("import aiopde"))
            loaded.append(import_("import aiopde\naiopde.ProcFS"))
    bench.ratio("import aiopde ÷ import anyio", mine[1:], base[1:], at_most=1.3)
    what = "… and ProcFS of it ÷ with what of anyio every program uses"
    bench.ratio(what, loaded[1:], used[1:])
