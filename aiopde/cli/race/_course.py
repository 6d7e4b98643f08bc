"""The course of a race: readers and removers, let loose on the same entries."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from errno import EIO
from time import perf_counter
from typing import TYPE_CHECKING, Final

import anyio

from ._driver import REMOVING, Driver, Jitter
from ._schemes import SCHEMES

if TYPE_CHECKING:
    from ._schemes import OpenFile, Scheme
    from ._tally import Tally

ROUNDS: Final = 30
ENTRIES: Final = 4
"""In each round."""
VISITS: Final = 8
"""How often each reader opens one of them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a race depends on, except for the order in which the loop runs its tasks."""

    backend: str
    readers: int
    seed: int
    scheme: str


async def race(settings: Settings, tally: Tally) -> None:
    """Run all rounds, and count in *tally* what happens."""
    async with SCHEMES[settings.scheme](tally) as scheme:
        for number in range(ROUNDS):
            await _Round(settings, tally, scheme, number).run()
            tally.rounds += 1


class _Round:
    """Some new entries, all readers, and a remover for each entry."""

    def __init__(self, settings: Settings, tally: Tally, scheme: Scheme, number: int) -> None:
        self._settings = settings
        self._tally = tally
        self._scheme = scheme
        self._number = number
        self._drivers = {f"entry{n}": self._make_driver(n) for n in range(ENTRIES)}

    def _make_driver(self, entry: int) -> Driver:
        jitter = self._jitter("driver", entry)
        # Any entry gets about this many calls; its removal comes somewhere in the first half.
        calls = 4 * VISITS * self._settings.readers // ENTRIES
        return Driver(self._tally, jitter, load=jitter.random.randint(1, max(1, calls // 2)))

    def _jitter(self, *who: object) -> Jitter:
        return Jitter(self._settings.seed, self._number, *who)

    async def run(self) -> None:
        for name, driver in self._drivers.items():
            self._scheme.create(name, driver)
        async with anyio.create_task_group() as removers:
            for name, driver in self._drivers.items():
                removers.start_soon(self._remove, name, driver)
            async with anyio.create_task_group() as readers:
                for number in range(self._settings.readers):
                    readers.start_soon(self._read_on, self._jitter("reader", number))
            # Nobody is left who could make it so.
            for driver in self._drivers.values():
                driver.busy.set()

    async def _remove(self, name: str, driver: Driver) -> None:
        REMOVING.set(True)
        await driver.busy.wait()
        self._tally.in_flight += driver.inside
        began = perf_counter()
        await self._scheme.remove(name)
        driver.free()
        self._tally.removal_seconds.append(perf_counter() - began)

    async def _read_on(self, jitter: Jitter) -> None:
        for _ in range(VISITS):
            await jitter.pause()
            await self._visit(jitter.random.choice(list(self._drivers)), jitter)

    async def _visit(self, name: str, jitter: Jitter) -> None:
        try:
            file = await self._scheme.open(name)
        except FileNotFoundError:
            self._tally.refused_enoent += 1
            return
        self._tally.opened += 1
        async with aclosing(file):
            for _ in range(jitter.random.randint(1, 3)):
                await jitter.pause()
                await self._read(file)
            await jitter.idle()

    async def _read(self, file: OpenFile) -> None:
        try:
            content = await file.read()
        except OSError as exc:
            if exc.errno != EIO:
                raise
            self._tally.refused_eio += 1
        else:
            self._tally.succeeded += content != b""
