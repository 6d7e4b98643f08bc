"""A guarded call beside the bare one, and beside what people guard with today."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import trio
from anyio.lowlevel import checkpoint

from aiopde import MAX_RW_COUNT, ProcFile, ProcFS, ProcOps, trace
from aiopde._invoke import nonsense

from ._measure import Bench, Variant, peer, row

DATA = bytes(64)


async def answer(file: object, size: int, pos: int) -> bytes:
    return DATA


def answer_now(file: object, size: int, pos: int) -> bytes:
    return DATA


async def bare(count: int) -> None:
    for _ in range(count):
        await answer(None, 4096, 0)


class Unguarded:
    """What a file does about a read, all but the guard."""

    __slots__ = ("_file",)

    def __init__(self, file: ProcFile) -> None:
        self._file = file.file

    async def read(self, size: int = MAX_RW_COUNT) -> bytes:
        file = self._file
        data: bytes = await file.entry.ops._reader(file, size, file.pos)
        if type(data) is not bytes or len(data) > size:
            raise nonsense(file, "read", data, f"0 to {size} bytes")
        file.pos += len(data)
        return data


class Wrapped:
    """What anything costs that has a frame of its own around the handler: it only awaits."""

    __slots__ = ("_reader",)

    def __init__(self, file: ProcFile) -> None:
        self._reader = file.file.entry.ops._reader

    async def read(self, size: int) -> bytes:
        return await self._reader(None, size, 0)  # type: ignore[no-any-return]


class Counted:
    """A guard through a file and nothing else: no position, nobody beside, nothing checked."""

    __slots__ = ("_file",)

    def __init__(self, file: ProcFile) -> None:
        self._file = file.file

    async def read(self, size: int) -> bytes:
        file = self._file
        entry = file.entry
        if entry._in_use < 0:
            raise file._refuse("read")
        entry._in_use += 1
        try:
            return await entry.ops._reader(file, size, file.pos)  # type: ignore[no-any-return]
        finally:
            entry._in_use = left = entry._in_use - 1
            if left < 0:
                entry._late_out()


class Admitted(Counted):
    """The same for a plain handler: let in, and that is all."""

    __slots__ = ()

    async def read(self, size: int) -> bytes:
        file = self._file
        entry = file.entry
        if entry._in_use < 0:
            raise file._refuse("read")
        return entry.ops._reader(file, size, file.pos)  # type: ignore[no-any-return]


class Called(Counted):
    """The same and not even that: a frame that can be awaited, and the call."""

    __slots__ = ()

    async def read(self, size: int) -> bytes:
        return answer_now(None, size, 0)


def reads(file: ProcFile | Unguarded | Wrapped | Counted) -> Variant:
    async def guarded(count: int) -> None:
        for _ in range(count):
            await file.read(4096)

    return guarded


@row()
async def read(bench: Bench) -> None:
    async with ProcFS(fast_acquire=True) as proc:
        file = await proc.open(proc.create("async", ProcOps(read=answer)))
        plain = await proc.open(proc.create("plain", ProcOps(read=answer_now)))
        times = await bench.times(
            {
                "bare": bare,
                "guarded": reads(file),
                "unguarded": reads(Unguarded(file)),
                "wrapped": reads(Wrapped(file)),
                "counted": reads(Counted(file)),
                "plain": reads(plain),
                "admitted": reads(Admitted(plain)),
                "called": reads(Called(plain)),
            }
        )
    bench.ratio("guarded read ÷ bare await", times["guarded"], times["bare"], at_most=2.5)
    bench.ratio("… ÷ the same method unguarded", times["guarded"], times["unguarded"], at_most=1.4)
    bench.ratio("a method that only awaits ÷ bare await", times["wrapped"], times["bare"])
    bench.ratio("a guard and nothing else ÷ bare await", times["counted"], times["bare"])
    bench.ratio("read of a plain handler ÷ bare await", times["plain"], times["bare"], at_most=1.4)
    bench.ratio("a method that only calls it ÷ bare await", times["called"], times["bare"])
    bench.ratio("… and asks first if it may ÷ bare await", times["admitted"], times["bare"])


@row()
async def read_by_default(bench: Bench) -> None:
    async def bare_yielding(count: int) -> None:
        for _ in range(count):
            await checkpoint()
            await answer(None, 4096, 0)

    async with ProcFS() as proc:
        file = await proc.open(proc.create("async", ProcOps(read=answer)))
        times = await bench.times({"bare": bare_yielding, "guarded": reads(file)})
    what = "read, default mode ÷ bare await and a checkpoint"
    bench.ratio(what, times["guarded"], times["bare"], at_most=1.15)


@row()
async def read_that_waits(bench: Bench) -> None:
    async def answer_later(file: object, size: int, pos: int) -> bytes:
        await checkpoint()
        return DATA

    def together(call: Variant) -> Variant:
        async def run(count: int) -> None:
            async with anyio.create_task_group() as tg:
                for _ in range(100):
                    tg.start_soon(call, count)

        return run

    async def bare_call(count: int) -> None:
        for _ in range(count):
            await answer_later(None, 4096, 0)

    async with ProcFS(fast_acquire=True) as proc:
        entry = proc.create("async", ProcOps(read=answer_later))

        async def guarded_call(count: int) -> None:
            file = await proc.open(entry)
            for _ in range(count):
                await file.read(4096)
            await file.aclose()

        count = bench.size(100)
        times = await bench.rounds(
            count, {"bare": together(bare_call), "guarded": together(guarded_call)}
        )
    limits = {"asyncio": 1.18, "uvloop": 1.30, "trio": 1.12}
    what = "read that waits once, in 100 tasks ÷ bare"
    bench.ratio(what, times["guarded"], times["bare"], at_most=limits)


@row()
async def diagnostics(bench: Bench) -> None:
    """What can be asked for costs a call nothing while nobody asks."""
    async with ProcFS(fast_acquire=True) as proc:
        entry = proc.create("async", ProcOps(read=answer))
        file = await proc.open(entry)

        async def after_use(count: int) -> None:
            await reads(file)(count)

        before = await bench.times({"bare": bare, "read": reads(file)})
        with trace(lambda record: None):
            await file.read()
        entry.holders()
        after = await bench.times({"bare": bare, "read": after_use})
    ratio = [a / b for a, b in zip(after["read"], after["bare"], strict=True)]
    base = [a / b for a, b in zip(before["read"], before["bare"], strict=True)]
    bench.ratio("read after use of trace and holders() ÷ before", ratio, base, at_most=1.05)


@row()
async def guards(bench: Bench) -> None:
    def under(lock: Any) -> Variant:
        async def locked(count: int) -> None:
            for _ in range(count):
                async with lock:
                    await answer(None, 4096, 0)

        return locked

    async def task_per_call(count: int) -> None:
        for _ in range(count):
            await asyncio.create_task(answer(None, 4096, 0))

    async def group_per_call(count: int) -> None:
        for _ in range(count):
            async with anyio.create_task_group() as tg:
                tg.start_soon(answer, None, 4096, 0)

    peers: dict[str, tuple[Variant, dict[str, float]]] = {
        "anyio.Lock(fast_acquire=True)": (under(anyio.Lock(fast_acquire=True)), {}),
        "anyio.Lock": (under(anyio.Lock()), {"asyncio": 20, "uvloop": 17, "trio": 20}),
        "task group per call": (group_per_call, {}),
    }
    if bench.backend == "trio":
        peers["trio.Lock"] = under(trio.Lock()), {}
    else:
        peers["asyncio.Lock"] = under(asyncio.Lock()), {}
        fast = under(peer("aiorwlock").RWLock(fast=True).reader)
        peers["aiorwlock, fast"] = fast, {}
        peers["task per call"] = task_per_call, {"asyncio": 20, "uvloop": 11}
    least = {"asyncio.Lock": 2.4, "anyio.Lock(fast_acquire=True)": 4, "aiorwlock, fast": 6}
    async with ProcFS(fast_acquire=True) as proc:
        file = await proc.open(proc.create("async", ProcOps(read=answer)))
        variants = {name: variant for name, (variant, _) in peers.items()}
        times = await bench.times({"read": reads(file), "floor": reads(Counted(file)), **variants})
    for name, (_, limits) in peers.items():
        limit = limits or least.get(name, 20)
        bench.ratio(f"{name} ÷ guarded read", times[name], times["read"], at_least=limit)
        bench.ratio(f"{name} ÷ a guard and nothing else", times[name], times["floor"])
