"""Ways for a handler to wait for its own removal, and removals that wait in a ring."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from anyio import Event, create_task_group

from aiopde import File, ProcFS, ProcOps, _deadlock, _watch
from tests.helpers import Call, state, wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    import pytest

    from aiopde import ProcDirEntry
    from aiopde._removal import Removal

    Way = Callable[[ProcDirEntry], Awaitable[object]]


GRACE = 0.02


def reading(way: Way, caught: list[OSError]) -> ProcOps:
    """Handlers whose read removes its own entry in some way, and notes what comes of it."""

    async def read(file: File, size: int, pos: int) -> bytes:
        with noting(caught):
            await way(file.entry)
        return b"read"

    return ProcOps(read=read)


@contextmanager
def noting(caught: list[OSError]) -> Generator[None]:
    """Keep the OSError that the block ends with, alone or in groups of groups."""
    try:
        yield
    except* OSError as group:
        caught.extend(leaves(group))


def leaves(group: BaseExceptionGroup[OSError]) -> Generator[OSError]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from leaves(exc)
        else:
            yield exc


async def directly(entry: ProcDirEntry) -> None:
    await entry.remove()


async def through_a_child(entry: ProcDirEntry) -> None:
    async with create_task_group() as tg:
        tg.start_soon(entry.remove, name="child")


class Ring:
    """Entries each of whose handlers removes the next one, and the last the first."""

    def __init__(self, proc: ProcFS, size: int, *, way: Way, nested: bool = False) -> None:
        self.caught: list[OSError] = []
        self.all_inside = Event()
        self.may_leave = Event()
        self._inside = 0
        self._way = way
        self.targets: list[ProcDirEntry] = []
        self.entries: list[ProcDirEntry] = []
        for number in range(size):
            parent = proc.mkdir(f"d{number}") if nested else None
            entry = proc.create(f"x{number}", ProcOps(read=self.read), parent=parent, data=number)
            self.entries.append(entry)
            self.targets.append(parent or entry)

    async def read(self, file: File, size: int, pos: int) -> bytes:
        self._inside += 1
        if self._inside == len(self.entries):
            self.all_inside.set()
        await self.all_inside.wait()
        number: int = file.data
        target = self.targets[(number + 1) % len(self.targets)]
        with noting(self.caught):
            await self._way(target)
        await self.may_leave.wait()
        return b"read"

    async def play(self, proc: ProcFS) -> None:
        """Read all of them at once; let go when one was told."""
        readers = [Call((await proc.open(entry)).read) for entry in self.entries]
        async with create_task_group() as tg:
            for number, reader in enumerate(readers):
                tg.start_soon(reader.run, name=f"reader {number}")
            await wait_until(lambda: self.caught)
            self.may_leave.set()
        assert [reader.result for reader in readers] == [b"read"] * len(readers)
        for target in self.targets:
            await target.remove()
            assert state(target) == "gone"


def collect_looks(monkeypatch: pytest.MonkeyPatch) -> list[list[str] | None]:
    """Collect what each look for a circle finds; each begins soon, and goes through all tasks."""
    found: list[list[str] | None] = []
    find_cycle = _deadlock.find_cycle

    def find(removal: Removal, event: Event) -> list[str] | None:
        found.append(find_cycle(removal, event))
        return found[-1]

    monkeypatch.setattr(_watch, "_FIRST_LOOK", GRACE)
    monkeypatch.setattr(_watch, "find_cycle", find)
    monkeypatch.setattr(_deadlock, "_REST", 0)
    monkeypatch.setattr(_deadlock, "_REST_PER_LOOK", 0)
    return found
