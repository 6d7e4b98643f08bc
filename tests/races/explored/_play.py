"""A small tree, actors that use it, and what must hold after every step any of them makes."""

from __future__ import annotations

import errno
import importlib
import math
import os
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import pytest
from anyio.lowlevel import checkpoint

import aiopde
from aiopde.testing import explore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from aiopde import File, Kernel, Mapping, ProcDirEntry, ProcFile, ProcFS, ProcOps
    from aiopde.testing import Race, Result

    Scenario = Callable[[Any], Awaitable[object]]

importlib.import_module("aiopde._api")  # all of it now, and not where a scenario first asks

T = TypeVar("T")
Handle = TypeVar("Handle", "ProcFile", "Mapping")
Test = TypeVar("Test", bound="Callable[..., object]")
DATA = b"0123456789"
STATES = ("live", "unlinked", "dying", "releasing", "gone")
DYING, RELEASING, GONE = 2, 3, 4
BACKENDS = ("asyncio", "trio")


class Notes:
    """
    What is written down for the checks; only inside :meth:`Race.aside`.

    Everybody writes here at every step: if the explorer saw that, it could leave nothing out.
    """

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}
        """How the call of each actor ended: "ok", "EIO", "cancelled"."""
        self.inside: Counter[object] = Counter()
        """The handlers that run, by entry; releases apart."""
        self.owed: Counter[ProcDirEntry] = Counter()
        """Calls let in before the bias whose handlers had not begun by then."""
        self.entries: list[ProcDirEntry] = []
        self.late: set[ProcDirEntry] = set()
        """Entries created below what was gone, which the end of the tree sweeps."""
        self.handles: list[ProcFile | Mapping] = []
        self.opened: set[File] = set()
        self.released: Counter[File] = Counter()
        """How often the release of a file has begun."""
        self.over: set[File] = set()
        """Files whose release has ended."""
        self.history: dict[ProcDirEntry, tuple[int, int, int]] = {}


class Play:
    """
    Where one schedule is played: ``async with Play(race) as p:``, a ProcFS is then at ``p.proc``.

    Leaving it waits for the actors, closes what they opened, leaves the ProcFS, and checks what
    must hold after any race; what must hold after every step is checked after every step. The
    letters are those of the contract's invariants.
    """

    proc: ProcFS
    fast = False

    def __init__(self, race: Race, package: Any = aiopde) -> None:
        self.race = race
        self.package = package
        self.notes = self.race.aside(Notes)
        race.always(self.check_step, "an invariant of the contract")

    async def __aenter__(self) -> Self:
        self.proc = await self._begin_tree()
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            await self._group.__aexit__(exc_type, exc, tb)
            for handle in self.race.aside(lambda: list(self.notes.handles)):
                await handle.aclose()
            self.race.aside(self.check_released)
        finally:
            await self._end_tree()
        self.race.aside(self.check_end)

    async def _begin_tree(self) -> ProcFS:
        proc: ProcFS = self.package.ProcFS(hung_task_timeout=None, fast_acquire=self.fast)
        return await proc.__aenter__()

    async def _end_tree(self) -> None:
        await self.proc.__aexit__(None, None, None)

    # -- the tree -------------------------------------------------------------------------------

    def ops(self, slow: str = "", quick: str = "") -> ProcOps:
        """Make handlers: coroutines with a checkpoint in them, and plain functions."""
        handlers: dict[str, Any] = {op: partial(self._slow, op) for op in slow.split()}
        handlers |= {op: partial(self._quick, op) for op in quick.split()}
        ops: ProcOps = self.race.aside(lambda: self.package.ProcOps(**handlers))
        return ops

    def create(
        self, name: str, slow: str = "", quick: str = "", *, parent: ProcDirEntry | None = None
    ) -> ProcDirEntry:
        """Create a file with such handlers."""
        return self.know(self.proc.create(name, self.ops(slow, quick), parent=parent))

    def mkdir(self, name: str) -> ProcDirEntry:
        """Create a directory."""
        return self.know(self.proc.mkdir(name))

    def know(self, entry: ProcDirEntry) -> ProcDirEntry:
        """Check this entry, too."""
        self.race.aside(partial(self._know, entry))
        return entry

    def _know(self, entry: ProcDirEntry) -> None:
        self.notes.entries.append(entry)
        if entry.parent.statistics().state == "gone":
            self.notes.late.add(entry)

    async def open(self, what: str | ProcDirEntry, flags: int = os.O_RDONLY) -> ProcFile:
        """Open a file, which is closed at the end."""
        file = await self.proc.open(what, flags)
        self.race.aside(lambda: self.notes.opened.add(file.file))
        return self.close_later(file)

    def close_later(self, thing: Handle) -> Handle:
        """Close a descriptor, or a mapping, when the actors are done."""
        self.race.aside(lambda: self.notes.handles.append(thing))
        return thing

    async def close(self, file: ProcFile) -> None:
        """Close the last descriptor of a file: it returns after the release, whoever ran it."""
        there = file.file
        try:
            await file.aclose()
        finally:  # however it ends
            over = self.race.aside(lambda: there in self.notes.over)
            assert over, "a close has returned before the release (I18)"

    async def remove(self, entry: ProcDirEntry, grace: float | None = None) -> None:
        """Remove an entry: whoever's removal returns, first or not, finds it gone (B29)."""
        await entry.remove(grace=grace)
        assert entry.statistics().state == "gone"

    async def _slow(self, op: str, file: File, *args: Any) -> Any:
        await self.step(op, file)
        if op == "open":
            self.race.aside(lambda: self.notes.opened.add(file))
        return _value(op, args)

    async def step(self, op: str, file: File) -> None:
        """Make a checkpoint in a handler, with all that is to hold when it begins and ends."""
        self.race.aside(partial(self._begin, op, file))
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class():
            assert op != "release", "a release was cut short (A2)"
            raise
        finally:
            self.race.aside(partial(self._end, op, file))

    def _quick(self, op: str, file: File, *args: Any) -> Any:
        self.race.aside(partial(self._begin, op, file))
        self.race.aside(partial(self._end, op, file))
        return _value(op, args)

    def _begin(self, op: str, file: File) -> None:
        entry = file.entry
        state = entry.statistics().state
        assert not self.notes.released[file], f"{op} runs on a file that was released (I15, I19)"
        if op == "release":
            assert state != "gone", "release runs after the removal (I8)"
            assert file.in_use == 0, "release overlaps a call on that file (I19)"
            assert file in (entry._open_files or ()), "released, and its record is gone (I14)"
            self.notes.released[file] += 1
        else:
            if state not in {"live", "unlinked"}:
                self.notes.owed[entry] -= 1
                assert self.notes.owed[entry] >= 0, f"{op} was let in after the bias (I5)"
            self.notes.inside[entry] += 1

    def _end(self, op: str, file: File) -> None:
        if op == "release":
            self.notes.over.add(file)
        else:
            self.notes.inside[file.entry] -= 1

    # -- the actors -----------------------------------------------------------------------------

    def start(self, name: str, call: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Let an actor make a call."""
        self._group.start_soon(self._act, name, call, args, name=name)

    async def _act(self, name: str, call: Callable[..., Awaitable[Any]], args: Any) -> None:
        self._note_end(name, "cancelled")
        try:
            await call(*args)
        except OSError as exc:
            self._note_end(name, errno.errorcode[exc.errno or 0])
        else:
            self._note_end(name, "ok")

    def _note_end(self, name: str, how: str) -> None:
        self.race.aside(lambda: self.notes.ended.update({name: how}))

    def summary(self) -> str:
        """Tell how each call ended: ``"reader EIO, remover ok"``."""
        ended = self.race.aside(lambda: sorted(self.notes.ended.items()))
        return ", ".join(f"{name} {end}" for name, end in ended)

    # -- what must hold -------------------------------------------------------------------------

    def check_step(self) -> None:
        """
        Whoever is inside is counted, and what has begun to go never comes back.

        Aside, as this looks at everything, so that else every step would depend on every other.
        """
        self.race.aside(self._check_step)

    def _check_step(self) -> None:
        notes = self.notes
        there: list[int] = []
        for entry in notes.entries:
            numbers = entry.statistics()
            now = (STATES.index(numbers.state), numbers.in_use, numbers.open_files)
            self._compare(entry, notes.history.get(entry, (0, 0, 0)), now)
            notes.history[entry] = now
            if now[0] != GONE:
                there.append(entry.ino)
        assert len(set(there)) == len(there), "two entries have one number (I33)"

    def _compare(
        self, entry: ProcDirEntry, before: tuple[int, int, int], now: tuple[int, int, int]
    ) -> None:
        state, inside, files = now
        assert inside >= self.notes.inside[entry], "somebody inside is not counted (I3)"
        assert state >= before[0], "what was going has come back (I1)"
        if before[0] >= DYING:
            assert inside <= before[1], "somebody was let in too late (I5)"
        elif state >= DYING:
            self.notes.owed[entry] = inside - self.notes.inside[entry]
        if before[0] >= RELEASING:
            assert files <= before[2], "a file was opened too late (I16)"
        if state == GONE:
            assert inside + files == 0, "gone too early (I7, I8)"
            below = [
                e for e in self.notes.entries if e.parent is entry and e not in self.notes.late
            ]
            assert all(e.statistics().state == "gone" for e in below), "not the last (I28)"

    def check_released(self) -> None:
        """Every descriptor is closed: each open file was released, exactly once (I15)."""
        assert self.notes.inside.total() == 0
        for file in self.notes.opened:
            if file.entry.ops.release is not None:
                assert self.notes.released[file] == 1
                assert file in self.notes.over

    def check_end(self) -> None:
        """The tree is left: everything is gone."""
        assert [e.statistics().state for e in self.notes.entries] == ["gone"] * len(
            self.notes.entries
        )


def _value(op: str, args: Any) -> Any:
    if op == "read":
        return DATA[args[1] : args[1] + args[0]]
    if op == "write":
        return len(args[0])
    return {"poll": 1, "lseek": 0, "ioctl": 0}.get(op)


class FastPlay(Play):
    """The same where calls that need not wait make no checkpoint, and take ways of their own."""

    fast = True


class KernelPlay(Play):
    """The same with modules: a Kernel is at ``p.kernel``."""

    async def _begin_tree(self) -> ProcFS:
        self.kernel: Kernel = self.package.Kernel(hung_task_timeout=None)
        await self.kernel.__aenter__()
        proc: ProcFS = self.kernel.proc
        return proc

    async def _end_tree(self) -> None:
        await self.kernel.__aexit__(None, None, None)

    async def rmmod(self, name: str) -> None:
        """Unload the module whose entries are all there are: when it returns, they are gone."""
        await self.kernel.rmmod(name)
        self.race.aside(self.check_end)


def run(
    scenario: Scenario,
    backend: Any,
    victim: str = "",
    kind: type[Play] = Play,
    *,
    package: Any = aiopde,
    **options: Any,
) -> Result:
    """Explore a scenario, with the cancellation of one actor at each of its checkpoints."""

    async def play(race: Race) -> str:
        async with kind(race, package) as stage:
            await scenario(stage)
        return stage.summary()

    cancel = (victim,) if victim else ()
    with pytest.MonkeyPatch.context() as patch:
        # A removal looks for circles after half a second, a second, two …: with the clock of the
        # explorer that is at once, and a thousand times before a deadlock is one.
        patch.setattr(package._watch, "_FIRST_LOOK", math.inf)
        return explore(play, backend=backend, cancel=cancel, track=tracked(package), **options)


def tracked(package: Any) -> tuple[type, ...]:
    """Return the classes whose attributes the tasks of a package share."""
    return (
        package._entry.ProcDirEntry,
        package._subdir.Children,
        package._inum.InodeNumbers,
        package._open_file.File,
        package._removal.Removal,
        package.ProcFS,
        package.WaitQueue,
    )


def exhaust(
    scenario: Scenario, backend: str, victim: str = "", kind: type[Play] = Play
) -> set[str]:
    """Run every schedule there is; return the ways in which the calls ended."""
    result = run(scenario, backend, victim, kind, strategy="dpor", max_schedules=20_000)
    result.raise_if_failed()
    assert result.verdict == "exhaustive", str(result)
    assert not result.notes
    return {str(outcome) for outcome in result.outcomes}


def everyone(*actors: str, only_on_trio: tuple[str, ...] = ()) -> Callable[[Test], Test]:
    """
    Mark a test to run on both backends, with each actor cancelled: at any checkpoint, or never.

    So each of these spaces has the undisturbed one in it (see test_cancellation.py), which is gone
    through by itself only where nobody is to be cancelled. Of actors that do the same, one: in a
    space that is exhausted they are interchangeable. That both loops have the same schedules is
    shown by counting, in tests/testing. But anyio's cancellation takes more steps on asyncio, and
    comes again and again there: those who are to be cancelled *only_on_trio* would take two
    seconds and more.
    """
    victims = {"asyncio": actors or ("",), "trio": (*actors, *only_on_trio) or ("",)}
    cases = [
        pytest.param(backend, victim, id=f"{backend}-{victim or 'nobody'}")
        for backend in BACKENDS
        for victim in victims[backend]
    ]

    def mark(test: Test) -> Test:
        parametrize = pytest.mark.parametrize(("backend", "victim"), cases)
        marked: Test = parametrize(test)
        return marked

    return mark
