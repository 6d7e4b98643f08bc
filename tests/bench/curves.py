"""Cost against size, from one to a million: flat where it should be flat."""

from __future__ import annotations

import anyio

from aiopde import File, ProcFile, ProcFS, ProcOps

from ._measure import Bench, curve, row, timed
from .removal import Gate, settle, without_gc


async def answer(file: File, size: int, pos: int) -> bytes:
    return b""


async def release(file: File) -> None:
    pass


OPS = ProcOps(read=answer, release=release)


@row("asyncio")
async def by_entries(bench: Bench) -> None:
    """What one entry costs in a directory of many."""
    lines = curve("entries", "What one entry costs", "entries in the directory", "µs")
    for size in bench.sizes(1_000_000):
        async with ProcFS(fast_acquire=True) as proc:
            top = proc.mkdir("top")

            async def create(count: int) -> None:
                for n in range(count):
                    proc.create(f"e{n}", OPS, parent=top)

            async def look_up(count: int) -> None:
                for _ in range(count):
                    proc.lookup("top/e0")

            async def listdir(_: int) -> None:
                proc.listdir("top")

            async def remove(_: int) -> None:
                await top.remove()

            lines.add("create", size, await timed(create, size) * 1e6)
            lines.add("look up", size, await timed(look_up, 10_000) * 1e6)
            lines.add("list", size, await timed(listdir, size) * 1e6)
            lines.add("remove all", size, await timed(remove, size) * 1e6)


@row("asyncio", "trio")
async def by_readers(bench: Bench) -> None:
    """What one reader costs a removal that waits for many."""
    lines = curve("readers", "What one reader inside costs", "readers", "µs")

    async def drain(size: int) -> float:
        gate = Gate()
        async with ProcFS(fast_acquire=True) as proc, anyio.create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=gate.read))
            for _ in range(size):
                tg.start_soon((await proc.open(entry)).read)
            await settle()
            tg.start_soon(entry.remove)
            await settle()
            began = anyio.current_time()
            gate.event.set()
            await entry.remove()
            return anyio.current_time() - began

    for size in bench.sizes(100_000):
        took = min([await without_gc(drain, size) for _ in range(3)])
        lines.add(f"drain, {bench.backend}", size, took / size * 1e6)


@row("asyncio")
async def by_files(bench: Bench) -> None:
    """What one open file costs a removal that releases many."""
    lines = curve("files", "What one open file costs", "open files", "µs")
    for size in bench.sizes(100_000):
        async with ProcFS(fast_acquire=True) as proc:
            entry = proc.create("x", OPS)
            files: list[ProcFile] = []

            async def open_them(count: int) -> None:
                files.extend([await proc.open(entry) for _ in range(count)])

            async def remove(_: int) -> None:
                await entry.remove()

            lines.add("open", size, await timed(open_them, size) * 1e6)
            lines.add("forced release", size, await timed(remove, size) * 1e6)
