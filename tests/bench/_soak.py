"""
Everything at once, for as long as one likes: ``python -m tests.bench soak --seconds 600``.

Readers, openers, removals, reloads of a module and cancellations go on at full load. What must
hold is checked all the time, and nothing may grow: memory, tasks, file descriptors, what the tree
keeps.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint

from aiopde import File, Kernel, ProcDirEntry, ProcFile, ProcOps

from ._measure import BACKENDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

_ENTRIES: Final = 20
_READERS: Final = 60
_REMOVERS: Final = 6
# Memory may move by so much: arenas that were needed for a moment, caches of the loop.
_SLACK_KIB: Final = 4096
# What Python has allocated tells more, and may move by so little.
_SLACK_BLOCKS: Final = 5000
# How long they work between two looks: what one has to remember for that is memory, too.
_SPELL: Final = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """How much there is of what may not grow."""

    memory_kib: int
    blocks: int
    tasks: int
    descriptors: int
    entries: int
    removals: int

    def __str__(self) -> str:
        rest = f"{self.tasks} tasks, {self.descriptors} fds, {self.entries} entries"
        return f"{self.memory_kib} KiB, {self.blocks} blocks, {rest}, {self.removals} removals"


class Soak:
    """One run: the tree, who works on it, and what they have seen."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        self.kernel = kernel
        self.counts: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._open: set[File] = set()
        self._inside: Counter[ProcDirEntry] = Counter()
        self._gone: set[ProcDirEntry] = set()
        self._tables = [
            ProcOps(open=self.opened, read=self.answer, release=release)
            for release in (self.release, self.release_later)
        ]

    # -- handlers -------------------------------------------------------------------------------

    async def opened(self, file: File) -> None:
        if self._random.random() < 0.2:
            await checkpoint()
        self._open.add(file)

    async def answer(self, file: File, size: int, pos: int) -> bytes:
        self._must(file in self._open, "a read of a file that is not open, or was released")
        self._must(file.entry not in self._gone, "a read of an entry that is gone")
        self._inside[file.entry] += 1
        try:
            # Some stay for longer than a removal would take that did not wait for them.
            for _ in range(self._random.choice((0, 1, 2, 30))):
                await checkpoint()
            return b"x" * min(size, 64)
        finally:
            self._inside[file.entry] -= 1
            if not self._inside[file.entry]:
                del self._inside[file.entry]

    async def release(self, file: File) -> None:
        self._must(file in self._open, "a second release, or one of what was never open")
        self._open.discard(file)

    async def release_later(self, file: File) -> None:
        await self.release(file)
        if self._random.random() < 0.2:
            await checkpoint()

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            self.violations[what] += 1

    # -- who works ------------------------------------------------------------------------------

    async def read(self) -> None:
        """Open something, read it a few times, close it, or be cancelled on the way."""
        name = f"e{self._random.randrange(_ENTRIES)}"
        with anyio.CancelScope() as scope:
            if self._random.random() < 0.1:
                scope.cancel()
            file: ProcFile | None = None
            try:
                file = await self.kernel.proc.open(name)
                for _ in range(self._random.randrange(8)):
                    if self._random.random() < 0.05:
                        scope.cancel()
                    await file.read(4096)
                self.counts["read"] += 1
            except OSError:
                self.counts["refused"] += 1
            finally:
                if file is not None:
                    with anyio.CancelScope(shield=True):
                        await file.aclose()
        self.counts["cancelled"] += scope.cancelled_caught

    async def remove(self) -> None:
        """Remove something and make it anew; leave some removals to the tree."""
        proc, name = self.kernel.proc, f"e{self._random.randrange(_ENTRIES)}"
        try:
            entry = proc.lookup(name)
        except FileNotFoundError:
            return
        with anyio.CancelScope() as scope:
            if self._random.random() < 0.2:
                scope.cancel()
            await entry.remove()
            self._must(entry not in self._inside, "a removal that returned with a call inside")
            self._gone.add(entry)
            self.counts["removed"] += 1
        self._create(name)

    def _create(self, name: str) -> None:
        fast = self._random.random() < 0.5
        try:
            self.kernel.proc.create(name, self._random.choice(self._tables), fast_acquire=fast)
        except FileExistsError:
            self.counts["made by another"] += 1

    async def reload(self) -> None:
        async def driver(kernel: Kernel) -> AsyncGenerator[None]:
            async with kernel.proc.create("driver", ProcOps(read=self.answer_plainly)):
                yield

        if "driver" not in {info.name for info in self.kernel.lsmod()}:
            await self.kernel.insmod(driver)
        await self.kernel.reload("driver", driver)
        self.counts["reloaded"] += 1

    async def answer_plainly(self, file: File, size: int, pos: int) -> bytes:
        await checkpoint()
        return b"driver"[pos:]

    async def read_driver(self) -> None:
        try:
            self._must(
                await self.kernel.proc.read_bytes("driver") == b"driver", "half of a driver's text"
            )
        except OSError:
            self.counts["refused"] += 1
        else:
            self.counts["read at once"] += 1
        await checkpoint()

    # -- the run --------------------------------------------------------------------------------

    async def run(self, seconds: float) -> list[Sample]:
        """Let all of them work; look at what there is between one spell and the next."""
        for n in range(_ENTRIES):
            self._create(f"e{n}")
        workers = [self.read] * _READERS + [self.remove] * _REMOVERS
        workers += [self.reload, self.read_driver, self.read_driver]
        samples: list[Sample] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            async with anyio.create_task_group() as tg:
                spell = min(end, time.monotonic() + min(_SPELL, max(1.0, seconds / 20)))
                for worker in workers:
                    tg.start_soon(self._work, worker, spell)
            await self._settle()
            samples.append(self._sample())
        return samples

    async def _work(self, job: Callable[[], Awaitable[None]], until: float) -> None:
        while time.monotonic() < until:
            await job()
            await checkpoint()

    async def _settle(self) -> None:
        """Wait for the removals that were left to the tree."""
        while self.kernel.proc._reaper.removals:
            await checkpoint()
        self._gone.clear()
        self._must(not self._inside, "a call that never left")
        self._must(not self._open, "a file that was never released")

    def _sample(self) -> Sample:
        gc.collect()
        proc = self.kernel.proc
        tasks = len(anyio.get_running_tasks())
        entries = len(proc.listdir())
        descriptors, removals = len(os.listdir("/dev/fd")), len(proc._reaper.removals)
        blocks = sys.getallocatedblocks()
        return Sample(_resident(), blocks, tasks, descriptors, entries, removals)


def _resident() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def soak(seconds: float, backends: list[str]) -> int:
    """Run for so long on each loop; 1 if something has grown, or did not hold."""
    failed = 0
    for backend in backends:
        name, options = BACKENDS[backend]
        found: Any = anyio.run(_soak, seconds, backend=name, backend_options=options)
        run, samples = found
        # Where it begins is a matter of chance: caches fill in the first fifth.
        first, last = samples[len(samples) // 5], samples[-1]
        grown = last.memory_kib > first.memory_kib + _SLACK_KIB
        grown |= last.blocks > first.blocks + _SLACK_BLOCKS
        grown |= last.tasks > first.tasks or last.descriptors > first.descriptors
        print(f"{backend}: {dict(run.counts)}")
        print(f"  at first {first}\n  at last  {last}")
        for what, times in run.violations.items():
            print(f"  VIOLATED {times} times: {what}")
        if grown:
            print("  GROWN")
        failed |= grown or bool(run.violations)
    return int(failed)


async def _soak(seconds: float) -> tuple[Soak, list[Sample]]:
    async with Kernel() as kernel:
        run = Soak(kernel, seed=1)
        return run, await run.run(seconds)
