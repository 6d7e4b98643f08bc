"""A tree whose handlers stop where a test wants them, actors that use it, and what must hold."""

from __future__ import annotations

import os
import types
from collections import Counter
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self, final

import anyio
from anyio.lowlevel import checkpoint

from aiopde import File, Kernel, Mapping, ProcFile, ProcFS, ProcOps
from tests.conformance._quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from types import TracebackType

    from aiopde import ProcDirEntry

    Host = type[ProcFS] | type[Kernel]

ACTOR: ContextVar[str] = ContextVar("ACTOR")
"""In whose name a handler runs; a forced release has the context of whoever removes."""
DATA = b"0123456789"
"""What files contain."""
HOST = "host"
"""The actor that enters and leaves the ProcFS."""


@final
class Gate:
    """A handler that has stopped; :meth:`Stage.go` lets it go on."""

    def __init__(self, op: str, file: File) -> None:
        self.op = op
        self.file = file
        self.opened = anyio.Event()
        self.value: Any = None
        self.error: Exception | None = None

    async def wait(self) -> Any:
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        return self.value


@final
class Actor:
    """A task that makes one call, and how that ended."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.done = False
        self.value: Any = None
        self.error: Exception | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the call was cut short."""
        return self.done and self.scope.cancelled_caught


class Stage:
    """
    Where a race is played: ``async with Stage() as s:``, a ProcFS is then at ``s.proc``. With
    ``Stage(Kernel)`` it is that of a Kernel, at ``s.kernel``.

    Leaving it lets everybody go, closes every file, leaves the ProcFS and checks what must hold
    after any race: nobody is inside, everything is gone, each successful open was released exactly
    once, no handler ran after its entry was gone, and no task is left.
    """

    proc: ProcFS
    kernel: Kernel

    def __init__(self, host: Host = ProcFS) -> None:
        self._host = host
        self.actors: dict[str, Actor] = {}
        self.gates: dict[str, Gate] = {}
        """The handlers that have stopped, by the actor they run for."""
        self.log: list[str] = []
        """What happened: the handlers that began (see :meth:`says`), and ``"reader done"``."""
        self.inside: Counter[ProcDirEntry] = Counter()
        """How many handlers are running that a removal has to wait for; by their own account."""
        self.names: dict[File, str] = {}
        """Who opened a file."""
        self.successes: set[File] = set()
        self.released: Counter[File] = Counter()
        self.violations: list[str] = []
        self.handles: list[ProcFile | Mapping] = []
        self.entries: list[ProcDirEntry] = []
        self.points = 0
        """How often something could have been cancelled."""
        self.at_point: Callable[[], object] = bool
        """Called at each of these points."""
        self.free = False
        self._leave = anyio.Event()
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        self._tasks_before = _tasks()
        await self._group.__aenter__()
        self.start(HOST, self._be_host)
        await quiet()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            if exc is None:
                await self._end()
        finally:
            self.let_all_go()
            self._group.cancel_scope.cancel()
            # Not told of *exc*, which it would wrap.
            await self._group.__aexit__(None, None, None)
        if exc is None:
            self.check()
            assert _tasks() == self._tasks_before

    async def _be_host(self) -> None:
        async with self._host() as host:
            if isinstance(host, Kernel):
                self.kernel = host
            self.proc = host.proc if isinstance(host, Kernel) else host
            await self._leave.wait()

    async def _end(self) -> None:
        self.let_all_go()
        self.leave()
        await quiet()
        for number, handle in enumerate(self.handles):
            self.start(f"last close {number}", handle.aclose)
        await quiet()
        assert self.busy == set(), "somebody still waits"

    # -- handlers -------------------------------------------------------------------------------

    def ops(self, held: str = "", plain: str = "", *, permanent: bool = False) -> ProcOps:
        """Make handlers, named by words: coroutines that stop, and plain functions."""
        handlers: dict[str, Any] = {op: partial(self._held, op) for op in held.split()}
        handlers |= {op: partial(self._plain, op) for op in plain.split()}
        return ProcOps(**handlers, permanent=permanent)

    def create(
        self, name: str, held: str = "", plain: str = "", *, parent: ProcDirEntry | None = None
    ) -> ProcDirEntry:
        """Create a file with such handlers."""
        return self.know(self.proc.create(name, self.ops(held, plain), parent=parent, data=name))

    def mkdir(self, name: str) -> ProcDirEntry:
        """Create a directory."""
        return self.know(self.proc.mkdir(name))

    def know(self, entry: ProcDirEntry) -> ProcDirEntry:
        """Check at the end that this entry, too, is gone."""
        self.entries.append(entry)
        return entry

    async def _held(self, op: str, file: File, *args: Any) -> Any:
        actor = ACTOR.get()
        self._enter(actor, op, file)
        self._count(op, file, 1)
        try:
            value = None if self.free else await self.stop(actor, op, file)
            self._succeed(op, file)
            return _default(op, args) if value is None else value
        finally:
            self._count(op, file, -1)

    async def stop(self, actor: str, op: str, file: File) -> Any:
        """Wait in a handler until it is let go."""
        gate = self.gates[actor] = Gate(op, file)
        try:
            return await gate.wait()
        finally:
            if self.gates.get(actor) is gate:
                del self.gates[actor]

    def _plain(self, op: str, file: File, *args: Any) -> Any:
        self._enter(ACTOR.get(), op, file)
        self._succeed(op, file)
        return _default(op, args)

    def _enter(self, actor: str, op: str, file: File) -> None:
        entry = file.entry
        self.names.setdefault(file, actor)
        self.log.append(self.says(actor, op, file))
        self.never(entry.statistics().state == "gone", f"{op} runs after the removal (I8)")
        self.never(self.released[file] > 0, f"{op} runs on a file that was released (I15, I19)")
        if op == "release":
            self.never(file.in_use > 0, "release overlaps a call on that file (I19)")
            self.released[file] += 1
        self.point()

    def never(self, wrong: bool, what: str) -> None:
        """Note what must not be, for the end: here nobody would see an exception."""
        if wrong:
            self.violations.append(what)

    def says(self, actor: str, op: str, file: File) -> str:
        """Describe a call of a handler: ``"a open x"``, then ``"reader read a"``."""
        return f"{actor} {op} {file.entry.name if op == 'open' else self.names[file]}"

    def _succeed(self, op: str, file: File) -> None:
        if op == "open":
            self.successes.add(file)

    def _count(self, op: str, file: File, change: int) -> None:
        # Nothing can run beside a plain function, so those need not be counted.
        if op != "release":
            entry = file.entry
            self.inside[entry] += change
            self.never(entry.in_use < self.inside[entry], "somebody inside is not counted (I3)")
        self.point()

    # -- actors ---------------------------------------------------------------------------------

    def start(self, name: str, call: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Let an actor make a call, from the next turn of the loop on."""
        assert name not in self.actors
        self.actors[name] = Actor()
        self._group.start_soon(self._act, name, call, args, name=name)

    async def start_after(
        self, turns: int, name: str, call: Callable[..., Awaitable[Any]], *args: Any
    ) -> None:
        """Start an actor after some turns of the loop."""
        for _ in range(turns):
            await checkpoint()
        self.start(name, call, *args)

    def open(self, name: str, what: str | ProcDirEntry, flags: int = os.O_RDWR) -> None:
        """Let an actor open a file."""
        self.start(name, self._open, what, flags)

    async def opened(self, name: str, what: str | ProcDirEntry, flags: int = os.O_RDWR) -> ProcFile:
        """Let an actor open a file, not stopping in its open handler; return the file."""
        self.open(name, what, flags)
        await quiet()
        if name in self.gates:
            self.go(name)
            await quiet()
        file: ProcFile = self.value(name)
        return file

    async def _open(self, what: str | ProcDirEntry, flags: int) -> ProcFile:
        file = await self.proc.open(what, flags)
        if not flags & os.O_PATH:
            self.names[file.file] = ACTOR.get()
            self.successes.add(file.file)
        return file

    async def _act(self, name: str, call: Callable[..., Awaitable[Any]], args: Any) -> None:
        ACTOR.set(name)
        actor = self.actors[name]
        with actor.scope:
            try:
                actor.value = await watched(_coroutine(call, args), self.point)
            except Exception as exc:
                actor.error = exc
        if isinstance(actor.value, ProcFile | Mapping):
            self.handles.append(actor.value)
        actor.done = True
        self.log.append(f"{name} done")
        self.point()

    def point(self) -> None:
        """Note that here something could be cancelled."""
        self.points += 1
        self.at_point()

    def cancel(self, name: str) -> None:
        """Cancel an actor's call."""
        self.actors[name].scope.cancel()

    def go(self, name: str, value: Any = None, error: Exception | None = None) -> None:
        """Let the handler that stopped in an actor's name go on, and return or raise something."""
        gate = self.gates.pop(name)
        gate.value = value
        gate.error = error
        gate.opened.set()
        self.point()

    def let_all_go(self) -> None:
        """Let all handlers go on, now and in future."""
        self.free = True
        for name in list(self.gates):
            self.go(name)

    def leave(self) -> None:
        """Let the host leave the ProcFS."""
        self._leave.set()

    # -- what one sees --------------------------------------------------------------------------

    @property
    def busy(self) -> set[str]:
        """Whose call has not ended; the host only counts once it is leaving."""
        busy = {name for name, actor in self.actors.items() if not actor.done}
        return busy if self._leave.is_set() else busy - {HOST}

    @property
    def stopped(self) -> set[str]:
        """Which handlers have stopped, described as in the log."""
        return {self.says(actor, gate.op, gate.file) for actor, gate in self.gates.items()}

    def value(self, name: str) -> Any:
        """Return what an actor's call returned."""
        actor = self.actors[name]
        assert actor.done, f"{name} still waits"
        if actor.error is not None:
            raise actor.error
        assert not actor.cancelled, f"{name} was cancelled"
        return actor.value

    def errno(self, name: str) -> int | None:
        """Return the errno an actor's call failed with."""
        error = self.actors[name].error
        assert isinstance(error, OSError), f"{name}: {error!r}"
        return error.errno

    def cancelled(self, name: str) -> bool:
        """Tell whether an actor's call was cut short."""
        return self.actors[name].cancelled

    def check(self) -> None:
        """Check what must hold once everything is over."""
        assert self.violations == []
        odd = {name: actor.error for name, actor in self.actors.items() if actor.error}
        assert [e for e in odd.values() if not isinstance(e, OSError | ExceptionGroup)] == []
        assert +self.inside == {}, "a handler is still running"
        for entry in self.entries:
            numbers = entry.statistics()
            assert (numbers.state, numbers.in_use, numbers.open_files) == ("gone", 0, 0), entry
        for file in self.successes:
            due = int(file.entry.ops.release is not None)
            assert self.released[file] == due, f"{file}: released {self.released[file]} times"
        strays = {file for file in set(self.released) - self.successes if file.entry.ops.open}
        assert strays == set(), "released, but never opened (I15)"


def _default(op: str, args: tuple[Any, ...]) -> Any:
    match op:
        case "read" | "read_iter":
            size, pos = args
            return DATA[pos : pos + size]
        case "write":
            return len(args[0])
        case "open" | "release":
            return None
        case _:
            return 0


async def _coroutine(call: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
    return await call(*args)


@types.coroutine
def watched(
    coroutine: Coroutine[Any, Any, Any], at_point: Callable[[], object]
) -> Generator[Any, Any, Any]:
    """Run a coroutine, calling *at_point* each time it is about to wait."""
    send: Callable[[], Any] = partial(coroutine.send, None)
    while True:
        try:
            trap = send()
        except StopIteration as stop:
            return stop.value
        at_point()
        try:
            send = partial(coroutine.send, (yield trap))
        except BaseException as exc:
            send = partial(coroutine.throw, exc)


def _tasks() -> set[int]:
    return {task.id for task in anyio.get_running_tasks()}
