"""Open, read and close, beside system calls and what people use for files that are none."""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from aiopde import ProcFS, ProcOps

from ._measure import Bench, Variant, peer, row

DATA = bytes(180)
MEMORY = ("fsspec, memory", "PyFilesystem2, memory", "pyfakefs")
THREADS = ("aiofiles", "anyio.open_file")


async def opened(file: object) -> None:
    pass


async def answer(file: object, size: int, pos: int) -> bytes:
    return DATA[pos : pos + size]


async def once(file: object, size: int, pos: int) -> bytes:
    return b"" if pos else DATA


async def bare(count: int) -> None:
    for _ in range(count):
        await opened(None)
        await answer(None, 4096, 0)
        await opened(None)


async def four(count: int) -> None:
    for _ in range(count):
        await opened(None)
        await once(None, 4096, 0)
        await once(None, 4096, len(DATA))
        await opened(None)


class Record:
    """An open file with what removal needs to find it, and nothing else."""

    __slots__ = ("entry", "newer", "older", "pos", "private_data")

    entry: Any
    pos: int
    private_data: Any
    newer: Any
    older: Any


class Entry:
    """The least that can be opened and removed: a count, and the newest of its open files."""

    __slots__ = ("answer", "in_use", "newest", "opened")

    def __init__(self) -> None:
        self.in_use = 0
        self.newest: Any = None
        # As from a table of handlers: a constant would be found more quickly.
        self.opened, self.answer = opened, answer

    async def open(self) -> Handle:
        if self.in_use < 0:
            raise OSError
        self.in_use += 1
        file = Record()
        file.entry, file.pos, file.private_data, file.newer = self, 0, None, None
        try:
            await self.opened(file)
            file.older = newest = self.newest
            if newest is not None:
                newest.newer = file
            self.newest = file
        finally:
            self.in_use = left = self.in_use - 1
            if left < 0:
                raise OSError
        handle = Handle()
        handle.file = file
        return handle


class Handle:
    """Its descriptor: a guarded call with nothing asked first and nothing checked after."""

    __slots__ = ("file",)

    file: Any

    async def read(self, size: int) -> bytes:
        file = self.file
        entry = file.entry
        if entry.in_use < 0:
            raise OSError
        entry.in_use += 1
        try:
            return await entry.answer(file, size, file.pos)  # type: ignore[no-any-return]
        finally:
            entry.in_use = left = entry.in_use - 1
            if left < 0:
                raise OSError

    async def aclose(self) -> None:
        file, self.file = self.file, None
        entry = file.entry
        try:
            await entry.opened(file)
        finally:
            entry.newest = older = file.older
            if older is not None:
                older.newer = file.older = None


def system_calls(path: str) -> Variant:
    async def run(count: int) -> None:
        for _ in range(count):
            fd = os.open(path, os.O_RDONLY)
            os.read(fd, 4096)
            os.close(fd)

    return run


@row()
async def open_read_close(bench: Bench) -> None:
    async with ProcFS(fast_acquire=True) as proc:
        ops = ProcOps(open=opened, read=answer, release=opened)
        entry = proc.create("file", ops)
        proc.mkdir("a")
        proc.mkdir("a/b")
        proc.create("a/b/file", ops)
        single = proc.create("read", ProcOps(read=answer))

        def cycle(open_: Any, what: Any) -> Variant:
            async def run(count: int) -> None:
                for _ in range(count):
                    file = await open_(what)
                    await file.read(4096)
                    await file.aclose()

            return run

        async def one_shot(count: int) -> None:
            for _ in range(count):
                await proc.read_bytes(shot)

        shot = proc.create("shot", ProcOps(open=opened, read=once, release=opened))
        times = await bench.times(
            {
                "bare": bare,
                "cycle": cycle(proc.open, entry),
                "least": cycle(Entry.open, Entry()),
                "path": cycle(proc.open, "a/b/file"),
                "single": cycle(proc.open, single),
                "shot": one_shot,
                "four": four,
                "kernel": system_calls("/proc/version"),
            }
        )
    took, base = times["cycle"], times["bare"]
    bench.ratio("open, read, close ÷ three bare awaits", took, base, at_most=3.5)
    bench.ratio("… with guard and record and nothing else ÷ the same", times["least"], base)
    bench.ratio("… by a path of three names ÷ the same", times["path"], base)
    bench.ratio("… with a read handler only ÷ the same", times["single"], base)
    bench.ratio("… ÷ three system calls on /proc/version", took, times["kernel"], at_most=0.6)
    bench.ratio("read_bytes(entry) ÷ three bare awaits", times["shot"], base, at_most=2.4)
    bench.ratio("… ÷ the four that it makes", times["shot"], times["four"])


@row()
async def file_systems(bench: Bench) -> None:
    memory = peer("fsspec").filesystem("memory")
    memory.pipe_file("/bench", DATA)

    async def in_fsspec(count: int) -> None:
        for _ in range(count):
            with memory.open("/bench", "rb") as file:
                file.read()

    pyfakefs = peer("pyfakefs.fake_filesystem")
    fake = pyfakefs.FakeFilesystem()
    fake.create_file("/bench", contents=DATA)
    fake_open = pyfakefs.FakeFileOpen(fake)

    async def in_pyfakefs(count: int) -> None:
        for _ in range(count):
            with fake_open("/bench", "rb") as file:
                file.read()

    aiofiles = peer("aiofiles")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bench"
        path.write_bytes(DATA)

        async def in_aiofiles(count: int) -> None:
            for _ in range(count):
                async with aiofiles.open(path, "rb") as file:
                    await file.read()

        async def in_anyio(count: int) -> None:
            for _ in range(count):
                async with await anyio.open_file(path, "rb") as file:
                    await file.read()

        peers = {
            "fsspec, memory": (in_fsspec, 4.5),
            "PyFilesystem2, memory": (_in_pyfilesystem(), 10.0),
            "pyfakefs": (in_pyfakefs, 80.0),
            "aiofiles": (in_aiofiles, 80.0),
            "anyio.open_file": (in_anyio, 100.0),
        }
        if bench.backend == "trio":
            del peers["aiofiles"]  # for asyncio only
        async with ProcFS(fast_acquire=True) as proc:
            entry = proc.create("file", ProcOps(open=opened, read=answer, release=opened))

            async def cycle(count: int) -> None:
                for _ in range(count):
                    file = await proc.open(entry)
                    await file.read(4096)
                    await file.aclose()

            # Two use threads, so that their own time does not tell how long they take.
            for clock, names in ((time.process_time, MEMORY), (time.perf_counter, THREADS)):
                found = {name: peers[name] for name in names if name in peers}
                variants = {name: variant for name, (variant, _) in found.items()}
                times = await bench.times({"cycle": cycle, **variants}, clock)
                for name, (_, least) in found.items():
                    what = f"{name} ÷ open, read, close"
                    bench.ratio(what, times[name], times["cycle"], at_least=least)


def _in_pyfilesystem() -> Variant:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pkg_resources
        memory = peer("fs.memoryfs").MemoryFS()
    memory.writebytes("bench", DATA)

    async def run(count: int) -> None:
        for _ in range(count):
            with memory.openbin("bench", "r") as file:
                file.read()

    return run
