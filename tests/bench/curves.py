"""Cost against size, from one to a million: flat where it should be flat."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio

from aiopde import File, ProcFile, ProcFS, ProcOps

from ._measure import Bench, curve, row, timed
from .removal import Gate, settle, without_gc

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


async def answer(file: File, size: int, pos: int) -> bytes:
    return b""


async def release(file: File) -> None:
    pass


OPS = ProcOps(read=answer, release=release)


async def least(measure: Callable[[int], Coroutine[Any, Any, dict[str, float]]], size: int) -> Any:
    """Measure a few times, the more often the smaller; return the least of each figure."""
    found = [await measure(size) for _ in range(max(2, min(20, 20_000 // size)))]
    return {name: min(each[name] for each in found) for name in found[0]}


@row("asyncio")
async def by_entries(bench: Bench) -> None:
    """What one entry costs in a directory of many."""
    lines = curve("entries", "What one entry costs", "entries in the directory", "µs")

    async def measure(size: int) -> dict[str, float]:
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

            return {
                "create": await timed(create, size),
                "look up": await timed(look_up, 1000),
                "list": await timed(listdir, size),
                "remove all": await timed(remove, size),
            }

    for size in bench.sizes(1_000_000):
        lines.add_all(size, await least(measure, size))


@row("asyncio", "trio")
async def by_readers(bench: Bench) -> None:
    """What one reader costs a removal that waits for many."""
    lines = curve("readers", "What one reader inside costs", "readers", "µs")

    async def drain(size: int) -> float:
        gate, took = Gate(), 0.0
        async with ProcFS(fast_acquire=True) as proc, anyio.create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=gate.read))
            for _ in range(size):
                tg.start_soon((await proc.open(entry)).read)
            await settle()
            tg.start_soon(entry.remove)
            await settle()
            began = time.process_time()
            gate.event.set()
            await entry.remove()
            took = time.process_time() - began
        return took  # noqa: RET504  the block might have swallowed something, a type checker thinks

    async def measure(size: int) -> dict[str, float]:
        return {f"drain, {bench.backend}": await without_gc(drain, size) / size}

    for size in bench.sizes(100_000):
        lines.add_all(size, await least(measure, size))


@row("asyncio")
async def by_files(bench: Bench) -> None:
    """What one open file costs a removal that releases many."""
    lines = curve("files", "What one open file costs", "open files", "µs")

    async def measure(size: int) -> dict[str, float]:
        async with ProcFS(fast_acquire=True) as proc:
            entry = proc.create("x", OPS)
            files: list[ProcFile] = []

            async def open_them(count: int) -> None:
                files.extend([await proc.open(entry) for _ in range(count)])

            async def remove(_: int) -> None:
                await entry.remove()

            return {
                "open": await timed(open_them, size),
                "forced release": await timed(remove, size),
            }

    for size in bench.sizes(100_000):
        lines.add_all(size, await least(measure, size))
