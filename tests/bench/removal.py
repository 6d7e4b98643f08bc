"""Removal: how soon it goes on, how long it takes, and what waits for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import trio
from anyio.lowlevel import checkpoint

from aiopde import File, ProcDirEntry, ProcFS, ProcOps, UseCount

from ._measure import Bench, Times, row, timed

if TYPE_CHECKING:
    from collections.abc import Callable


class Gate:
    """A handler that is inside until it is let go."""

    def __init__(self) -> None:
        self.event: Any = anyio.Event()

    async def read(self, file: object, size: int, pos: int) -> bytes:
        await self.event.wait()
        return b""


def native_event(backend: str) -> Any:
    return trio.Event() if backend == "trio" else asyncio.Event()


async def settle() -> None:
    for _ in range(5):
        await checkpoint()


class Handover:
    """Someone who leaves, and someone who waits for that: from the one moment to the other."""

    def __init__(self, backend: str) -> None:
        self.gate = native_event(backend)
        self._left = self._went_on = 0.0

    async def leave(self, *_: object) -> bytes:
        await self.gate.wait()
        self._left = time.process_time()
        return b""

    async def took(self, call: Callable[[], Any], wait: Callable[[], Any]) -> float:
        async def waits() -> None:
            await wait()
            self._went_on = time.process_time()

        async with anyio.create_task_group() as tg:
            tg.start_soon(call)
            await settle()
            tg.start_soon(waits)
            await settle()
            self.gate.set()
        return self._went_on - self._left


@row()
async def last_call_out(bench: Bench) -> None:
    """From the last call's leaving to the remover's going on."""

    async def ping() -> float:
        there, event = Handover(bench.backend), native_event(bench.backend)

        async def sets() -> None:
            await there.leave()
            event.set()

        return await there.took(sets, event.wait)

    async def rundown(scope: Callable[[], AbstractContextManager[object]]) -> float:
        there, count = Handover(bench.backend), UseCount(fast_acquire=True)

        async def call() -> None:
            async with count:
                await there.leave()

        async def wait() -> None:
            with scope():
                await count.rundown()

        return await there.took(call, wait)

    async def removal(proc: ProcFS) -> float:
        there = Handover(bench.backend)
        entry = proc.create("x", ProcOps(read=there.leave))
        async with await proc.open(entry) as file:
            return await there.took(file.read, entry.remove)

    pings: Times = []
    guards: Times = []
    scopes: Times = []
    removals: Times = []
    async with ProcFS(fast_acquire=True) as proc:
        for _ in range(bench.size(300)):
            pings.append(await ping())
            guards.append(await rundown(nullcontext))
            scopes.append(await rundown(partial(anyio.move_on_after, 3600)))
            removals.append(await removal(proc))
    what = "last call out → remove() went on ÷ an Event's ping"
    bench.ratio(what, removals, pings, at_most=1.2)
    bench.ratio("… a UseCount's rundown() ÷ the same", guards, pings)
    bench.ratio("… in a scope with a deadline ÷ the same", scopes, pings)


@row()
async def drain(bench: Bench) -> None:
    async def unguarded(count: int, gate: Gate, read: Any) -> float:
        began = 0.0
        async with anyio.create_task_group() as tg:
            for _ in range(count):
                tg.start_soon(read, None, 4096, 0)
            await settle()
            began = time.process_time()
            gate.event.set()
        return time.process_time() - began

    async def bare(count: int) -> float:
        gate = Gate()
        return await unguarded(count, gate, gate.read)

    async def wrapped(count: int) -> float:
        gate = Gate()

        async def read(file: object, size: int, pos: int) -> bytes:
            return await gate.read(file, size, pos)

        return await unguarded(count, gate, read)

    async def guarded(count: int) -> float:
        gate, began = Gate(), 0.0
        async with ProcFS(fast_acquire=True) as proc:
            entry = proc.create("x", ProcOps(read=gate.read))
            files = [await proc.open(entry) for _ in range(count)]
            async with anyio.create_task_group() as tg:
                for file in files:
                    tg.start_soon(file.read)
                await settle()
                tg.start_soon(entry.remove)
                await settle()
                began = time.process_time()
                gate.event.set()
            return time.process_time() - began

    for count in (1_000, 10_000, 100_000):
        count = bench.size(count)
        base: Times = []
        frame: Times = []
        took: Times = []
        for _ in range(5 if count > 10_000 else 15):
            base.append(await without_gc(bare, count))
            frame.append(await without_gc(wrapped, count))
            took.append(await without_gc(guarded, count))
        bench.ratio(f"drain of {count:,} readers ÷ unguarded", took, base, at_most=1.1)
        what = f"drain of {count:,} readers ÷ with an empty frame around each"
        bench.ratio(what, took, frame)


async def without_gc(measure: Any, count: int) -> float:
    found: list[float] = []

    async def once(_: int) -> None:
        found.append(await measure(count))

    await timed(once, 1)
    return found[0]


@row()
async def admission(bench: Bench) -> None:
    gate = Gate()

    async with ProcFS(fast_acquire=True) as proc, anyio.create_task_group() as tg:
        few = proc.create("few", ProcOps(read=gate.read, open=quick_open))
        many = proc.create("many", ProcOps(read=gate.read, open=quick_open))
        for entry, count in ((few, bench.size(100)), (many, bench.size(10_000))):
            for _ in range(count):
                tg.start_soon((await proc.open(entry)).read)
        await settle()

        def admit(entry: ProcDirEntry) -> Any:
            async def run(count: int) -> None:
                for _ in range(count):
                    await (await proc.open(entry)).aclose()

            return run

        times = await bench.times({"few": admit(few), "many": admit(many)})
        gate.event.set()
        what = "open and close with 10,000 inside ÷ 100"
        bench.ratio(what, times["many"], times["few"], at_most=1.2)


async def quick_open(file: File) -> None:
    pass


async def release(file: File) -> None:
    pass


@row()
async def forced_release(bench: Bench) -> None:
    # The target is for many; the others show that it is linear.
    for size, limit in ((1_000, None), (10_000, None), (100_000, 2.2)):
        count = bench.size(size)
        base: Times = []
        took: Times = []
        async with ProcFS(fast_acquire=True) as proc:
            for _ in range(7):
                entry = proc.create("x", ProcOps(release=release))
                files = [await proc.open(entry) for _ in range(count)]
                inner = [file.file for file in files]

                async def bare(_: int) -> None:
                    for file in inner:
                        await release(file)

                async def forced(_: int) -> None:
                    await entry.remove()

                base.append(await timed(bare, count))
                took.append(await timed(forced, count))
                files, inner = [], []
        what = f"forced release of {count:,} files ÷ a bare loop"
        bench.ratio(what, took, base, at_most=limit)


@row("asyncio")
async def idle_subtree(bench: Bench) -> None:
    for count in (1_000, 100_000):
        count = bench.size(count)
        took: Times = []
        async with ProcFS() as proc:
            for _ in range(5):
                top = proc.mkdir("top")
                ops = ProcOps()
                for n in range(count):
                    proc.create(f"e{n}", ops, parent=top)

                async def remove(_: int) -> None:
                    await top.remove()

                took.append(await timed(remove, count) * 1e9)
        what = f"removal of an idle subtree of {count:,}, an entry"
        bench.figure(what, took, "ns", at_most=300)
