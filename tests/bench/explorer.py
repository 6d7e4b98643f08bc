"""
What the race explorer costs, and how far it gets: ``python -m tests.bench.explorer``.

S is two readers, a remover and a closer of the kernel's guard in a few lines. A bare loop runs the
same scenario as often, one after the other; shares are of processor time, the least of several
pairs. The peers (dependency group ``bench-explorer``) run S on plain asyncio, in time of the wall,
since one of them waits; so does the search on two processes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import anyio
import trio
from anyio.lowlevel import checkpoint

from aiopde import ProcFS, ProcOps
from aiopde.testing import explore
from tests.testing import _guard
from tests.testing._guard import MUTANTS, Guard, race_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

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


@contextmanager
def _plain_guard() -> Generator[None]:
    patched: Any = _guard
    saved = patched.anyio, patched.checkpoint
    patched.anyio, patched.checkpoint = _PlainAsyncio, _yield
    try:
        yield
    finally:
        patched.anyio, patched.checkpoint = saved


async def _repeat(scenario: Callable[[Any], Awaitable[object]]) -> None:
    for _ in range(TIMES):
        await scenario(None)


def _seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _wall(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


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
        ("trio", lambda: trio.run(_repeat, scenario), partial(_explore, scenario, "trio"), 0.75),
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
    with _plain_guard():
        share, rate = _share(
            lambda: asyncio.run(_repeat(without_argument)),
            partial(_explore, _with_asyncio, "asyncio"),
        )
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
    """
    Make S on the package's own guard: each reader with a file, or both with one.

    Two readers of one file also wait for its position. If they have one descriptor, too, the close
    is a race with each of them, and not just with one as in S: EBADF is one more way to end.
    """

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
            if files == "each":
                second = await proc.open("x")
            else:
                second = first.dup() if files == "dup" else first
            async with anyio.create_task_group() as tg:
                tg.start_soon(calls[0].read, first, name="r0")
                tg.start_soon(calls[1].read, second, name="r1")
                tg.start_soon(entry.remove, name="m")
                tg.start_soon(first.aclose, name="c0")
            await second.aclose()
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
    for name, how in (
        ("two files", "each"),
        ("one file, two descriptors", "dup"),
        ("one file, one descriptor", "one"),
    ):
        result = explore(_ours(how), backend="trio", strategy="dpor")
        value = f"{result.schedules} ({result.blocked} asleep, {len(result.outcomes)} ends)"
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


class _State:
    """S as frontrun wants it: what is shared, and who works on it."""

    def __init__(self) -> None:
        self.guard = Guard()
        self.file = self.guard.open()


async def _read(state: _State) -> None:
    await state.guard.read(state.file)


async def _remove(state: _State) -> None:
    await state.guard.remove()


async def _close(state: _State) -> None:
    await state.guard.close(state.file)


def _holds(state: _State) -> bool:
    return state.guard.gone


def _by_simloop(module: Any, times: int) -> None:
    assert module.explore(_with_asyncio, range(times)) is None


def _by_simloom(module: Any, times: int) -> None:
    assert module.explore(_with_asyncio, runs=times).first_failure is None


def _by_frontrun(module: Any, times: int) -> None:
    async def explore_s() -> Any:
        return await module.explore(
            setup=_State,
            workers=[_read, _read, _remove, _close],
            invariant=_holds,
            strategy="random",
            max_attempts=times,
            timeout_per_run=1.0,
            detect_io=False,
        )

    asyncio.run(explore_s())


PEERS: dict[str, tuple[Callable[[Any, int], None], int]] = {
    "simloop": (_by_simloop, 300),
    "simloom": (_by_simloom, 300),
    "frontrun": (_by_frontrun, 20),
}
"""How each runs S at random, and how often here."""


def peers() -> None:
    with _plain_guard():
        ours = TIMES / min(_wall(partial(_explore, _with_asyncio, "asyncio")) for _ in range(3))
        for name, (run, times) in PEERS.items():
            try:
                module = import_module(name)
            except ImportError:
                sys.stdout.write(f"{f'schedules beside {name}':46} {'not installed':>22}\n")
                continue
            theirs = times / min(_wall(partial(run, module, times)) for _ in range(3))
            value = f"{ours / theirs:.0f}x ({theirs:.0f}/s)"
            _say(f"schedules beside {name}", value, "≥ 20x", ours >= 20 * theirs)


async def three_by_three() -> None:
    """34 650 orders; a function of a module, as workers import it."""

    async def task() -> None:
        for _ in range(3):
            await checkpoint()

    async with anyio.create_task_group() as tg:
        for number in range(3):
            tg.start_soon(task, name=f"t{number}")


def processes() -> None:
    search = partial(explore, three_by_three, strategy="dfs", max_schedules=100_000)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for job in [pool.submit(os.getpid) for _ in range(2)]:
            job.result()
        one = min(_wall(search) for _ in range(2))
        two = min(_wall(partial(search, executor=pool)) for _ in range(2))
    value = f"{one / two:.2f}x ({one:.1f} s, {two:.1f} s)"
    _say("two processes beside one, 34 650 orders", value, "≥ 1.8x", one >= 1.8 * two)


if __name__ == "__main__":
    speed()
    spaces()
    mutants()
    peers()
    processes()
