"""
What the race explorer costs, and how far it gets: ``python -m tests.bench.explorer``.

S is two readers, a remover and a closer of the kernel's guard in a few lines. A bare loop runs the
same scenario as often, one after the other; shares are of processor time, the least of several
pairs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import trio
from anyio.lowlevel import checkpoint

from aiopde import ProcFS, ProcOps
from aiopde.testing import explore
from tests.testing import _guard
from tests.testing._guard import MUTANTS, Guard, race_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde import File, ProcFile

TIMES = 2_000
PAIRS = 5


class _PlainAsyncio:
    """What the guard takes from anyio, by asyncio itself."""

    Event = asyncio.Event


async def _yield() -> None:
    await asyncio.sleep(0)


async def _with_asyncio() -> None:
    guard = Guard()
    file = guard.open()
    async with asyncio.TaskGroup() as tg:
        for name in ("r0", "r1"):
            tg.create_task(guard.read(file), name=name)
        tg.create_task(guard.remove(), name="m")
        tg.create_task(guard.close(file), name="c0")


async def _repeat(scenario: Callable[[Any], Awaitable[object]]) -> None:
    for _ in range(TIMES):
        await scenario(None)


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _share(bare: Callable[[], object], explored: Callable[[], object]) -> tuple[float, float]:
    """Return the explored share of the bare speed, and schedules a second."""
    pairs = [(_seconds(bare), _seconds(explored)) for _ in range(PAIRS)]
    least_bare, least_explored = (min(times) for times in zip(*pairs, strict=True))
    return least_bare / least_explored, TIMES / least_explored


def _explore(scenario: Any, backend: str) -> None:
    explore(scenario, backend=backend, strategy="random", max_schedules=TIMES)


def _say(what: str, value: str, target: str, met: bool) -> None:
    sys.stdout.write(f"{what:38} {value:>20}   {target:>10}   {'met' if met else 'NOT MET'}\n")


def speed() -> None:
    scenario = race_of(Guard)

    async def without_argument(_: object) -> None:
        await _with_asyncio()

    rows: list[tuple[str, Callable[[], object], Callable[[], object], float]] = [
        ("trio", partial(trio.run, _repeat, scenario), partial(_explore, scenario, "trio"), 0.75),
        (
            "anyio on asyncio",
            lambda: asyncio.run(_repeat(scenario)),
            partial(_explore, scenario, "asyncio"),
            0.90,
        ),
    ]
    for name, bare, explored, target in rows:
        share, rate = _share(bare, explored)
        _say(f"speed, {name}", f"{share:.0%} ({rate:.0f}/s)", f"{target:.0%}", share >= target)
    patched: Any = _guard
    saved = patched.anyio, patched.checkpoint
    patched.anyio, patched.checkpoint = _PlainAsyncio, _yield
    try:
        share, rate = _share(
            lambda: asyncio.run(_repeat(without_argument)),
            partial(_explore, _with_asyncio, "asyncio"),
        )
    finally:
        patched.anyio, patched.checkpoint = saved
    _say("speed, plain asyncio", f"{share:.0%} ({rate:.0f}/s)", "70%", share >= 0.70)


class _Call:
    """A read of a file, and what came of it."""

    result: object = None

    async def read(self, file: ProcFile) -> None:
        try:
            self.result = await file.read()
        except OSError as exc:
            self.result = exc.errno


def _ours(files: str) -> Callable[[], Awaitable[object]]:
    """Make S on the package's own guard; two readers of one file also wait for its position."""

    async def read(file: File, size: int, pos: int) -> bytes:
        await checkpoint()
        return b"x"

    async def release(file: File) -> None:
        await checkpoint()

    async def scenario() -> object:
        calls = [_Call(), _Call()]
        async with ProcFS(hung_task_timeout=None) as proc:
            entry = proc.create("x", ProcOps(read=read, release=release), fast_acquire=True)
            first = await proc.open("x")
            second = first if files == "same" else await proc.open("x")
            async with anyio.create_task_group() as tg:
                tg.start_soon(calls[0].read, first, name="r0")
                tg.start_soon(calls[1].read, second, name="r1")
                tg.start_soon(entry.remove, name="m")
                tg.start_soon(first.aclose, name="c0")
        return tuple(call.result for call in calls)

    return scenario


def spaces() -> None:
    for name, options, most in (
        ("S", {}, 100),
        ("L", {"steps": 3, "openers": 2, "closers": 2}, 700),
        ("two entries", {"readers": 1, "entries": 2}, 170),
    ):
        scenario = race_of(Guard, **options)
        result = explore(scenario, backend="trio", strategy="dpor")
        asleep = result.blocked / result.schedules
        value = f"{result.schedules} ({asleep:.0%} asleep)"
        met = result.schedules <= most and asleep <= 0.10
        _say(f"whole space by dpor, {name}", value, f"≤ {most}, 10%", met)
    for name, how in (("one file", "same"), ("two files", "each")):
        result = explore(_ours(how), backend="trio", strategy="dpor")
        value = f"{result.schedules} ({result.blocked} asleep)"
        _say(f"S on our own guard, {name}", value, "≤ 100", result.schedules <= 100)
    result = explore(race_of(Guard), backend="trio", strategy="dpor", cancel=["r0"])
    _say("one victim everywhere, all of S", str(result.schedules), "≤ 300", result.schedules <= 300)


def mutants() -> None:
    slowest = 0
    for name, kind in MUTANTS.items():
        scenario = race_of(kind, readers=3 if name == "M9" else 2)
        result = explore(scenario, backend="trio", cancel=["r0"] if name == "M6" else [])
        slowest = max(slowest, result.schedules)
        assert result.failure is not None
    _say("slowest of nine mutants, by default", str(slowest), "≤ 66", slowest <= 66)


if __name__ == "__main__":
    speed()
    spaces()
    mutants()
