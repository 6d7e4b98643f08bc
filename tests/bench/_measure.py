"""The stopwatch: variants in turn, round by round, and what came of it beside what it should be."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any, Final

import anyio
from anyio.lowlevel import checkpoint

BACKENDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

Variant = Callable[[int], Coroutine[Any, Any, object]]
"""Does an operation that many times."""
Limit = float | Mapping[str, float] | None
"""A target, or one for each loop."""
Clock = Callable[[], float]
Times = list[float]
"""Seconds for one operation, round by round."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    row: str
    backend: str
    what: str
    value: float
    low: float
    high: float
    unit: str
    at_most: float | None
    at_least: float | None

    @property
    def met(self) -> bool:
        """Whether the value is what it should be."""
        above = self.at_most is not None and self.value > self.at_most
        below = self.at_least is not None and self.value < self.at_least
        return not above and not below

    @property
    def target(self) -> str:
        """What it should be, as text."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure, and how much to forgive."""

    rounds: int
    seconds: float
    """What one variant may take in one round."""
    scale: float
    """What the sizes of things are multiplied by."""
    slack: float
    """What limits are multiplied by."""


FULL: Final = Effort(rounds=25, seconds=0.02, scale=1, slack=1)
SHORT: Final = Effort(rounds=5, seconds=0.001, scale=0.05, slack=4)


class Bench:
    """What a row measures with."""

    def __init__(self, row: str, backend: str, effort: Effort) -> None:
        self.backend = backend
        self.results: list[Result] = []
        self._row = row
        self._effort = effort
        # The same in every run, as a race of one variant against itself has to be.
        self._random = random.Random(row)

    def size(self, full: int) -> int:
        """How large a thing is to be; smaller in a short run."""
        return max(10, int(full * self._effort.scale))

    def sizes(self, largest: int) -> list[int]:
        """Go from one to the largest, ten times as large each time."""
        return [10**n for n in range(len(str(self.size(largest))))]

    async def times(
        self, variants: Mapping[str, Variant], clock: Clock = time.process_time
    ) -> dict[str, Times]:
        """Measure variants in turn, each as often as fills its time."""
        count = {name: await self._calibrate(variant) for name, variant in variants.items()}
        return await self.rounds(count, variants, clock)

    async def rounds(
        self,
        count: int | dict[str, int],
        variants: Mapping[str, Variant],
        clock: Clock = time.process_time,
    ) -> dict[str, Times]:
        """Measure variants in turn, with as many operations in each round as is said."""
        counts = dict.fromkeys(variants, count) if isinstance(count, int) else count
        found: dict[str, Times] = {name: [] for name in variants}
        order = list(variants)
        for _ in range(self._effort.rounds):
            self._random.shuffle(order)
            for name in order:
                found[name].append(await timed(variants[name], counts[name], clock))
        return found

    async def _calibrate(self, variant: Variant) -> int:
        await variant(1)
        count = 4
        while await timed(variant, count) * count < self._effort.seconds / 4 and count < 1 << 22:
            count *= 4
        return count * 2

    def ratio(
        self,
        what: str,
        times: Times,
        base: Times,
        *,
        at_most: Limit = None,
        at_least: Limit = None,
    ) -> None:
        """Note how many times as long one thing takes as another, and how long it should."""
        ratios = sorted(a / b for a, b in zip(times, base, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        self._note(what, statistics.median(ratios), low, high, "x", at_most, at_least)

    def figure(
        self, what: str, values: Times, unit: str, *, at_most: Limit = None, at_least: Limit = None
    ) -> None:
        """Note a figure that is no ratio."""
        values = sorted(values)
        middle = statistics.median(values)
        self._note(what, middle, values[0], values[-1], unit, at_most, at_least)

    def _note(
        self,
        what: str,
        value: float,
        low: float,
        high: float,
        unit: str,
        at_most: Limit,
        at_least: Limit,
    ) -> None:
        slack = self._effort.slack
        most, least = self._limit(at_most), self._limit(at_least)
        most = None if most is None else most * slack
        least = None if least is None else least / slack
        result = Result(self._row, self.backend, what, value, low, high, unit, most, least)
        self.results.append(result)

    def _limit(self, limit: Limit) -> float | None:
        return limit.get(self.backend) if isinstance(limit, Mapping) else limit


def peer(name: str) -> Any:
    """Import what is compared with: a module of the group bench, which need not have types."""
    return import_module(name)


async def timed(variant: Variant, count: int, clock: Clock = time.process_time) -> float:
    """
    Seconds for one of *count* operations, with the garbage collector out of the way.

    Of this process's own time, which what else the machine does disturbs least. What waits for
    threads or the kernel needs the time on the wall.
    """
    await checkpoint()
    gc.disable()
    heap = _shake()
    try:
        began = clock()
        await variant(count)
        return (clock() - began) / count
    finally:
        gc.enable()
        heap.clear()


_shapes: Final = random.Random(0)


def _shake() -> list[bytes]:
    """
    Give the heap another shape, as long as what is returned lives.

    Where a call's memory happens to be the first of a pool, each call takes the pool and gives it
    back: a tenth to a third slower, for as long as nothing else moves. One place in sixteen is like
    that for a coroutine's size, and without this a whole row was, or was not.
    """
    return [bytes(size) for size in range(0, 480, 16) for _ in range(_shapes.randrange(32))]


class Lines:
    """The lines of one picture: points, by what each line shows."""

    def __init__(self, title: str, over: str, unit: str) -> None:
        self.title = title
        self.over = over
        self.unit = unit
        self.lines: dict[str, list[tuple[float, float]]] = {}

    def add_all(self, size: int, seconds: dict[str, float]) -> None:
        """Add a point to each line: how long it takes, at that size."""
        for line, took in seconds.items():
            self.lines.setdefault(line, []).append((size, took * 1e6))


curves: Final[dict[str, Lines]] = {}
"""The pictures, by the names of their files."""


def curve(name: str, title: str, over: str, unit: str) -> Lines:
    """Begin a picture, or go on with it."""
    return curves.setdefault(name, Lines(title, over, unit))


Measurement = Callable[[Bench], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    measure: Measurement
    backends: tuple[str, ...]

    def run(self, backend: str, effort: Effort) -> list[Result]:
        bench = Bench(self.name, backend, effort)
        name, options = BACKENDS[backend]
        gc.collect()
        anyio.run(self.measure, bench, backend=name, backend_options=options)
        return bench.results


rows: Final[dict[str, Row]] = {}


def row(*backends: str) -> Callable[[Measurement], Measurement]:
    """Mark a function as a row of the table: on these loops, by default on all."""

    def register(measure: Measurement) -> Measurement:
        name: str = measure.__name__
        rows[name] = Row(name, measure, backends or tuple(BACKENDS))
        return measure

    return register
