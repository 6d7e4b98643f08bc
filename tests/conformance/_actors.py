"""Threads and processes: who acts, with which file descriptors, and how signals reach them."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

import anyio

from aiopde import Credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from aiopde import Mapping, ProcFile

    from ._scenario import Step

FIRST_FD: Final = 3
RESTARTING: Final = "USR2"
"""The signal whose handler was set with SA_RESTART; USR1's was not."""
# What a call says to be restarted, or not, by the signal that ended it. No program ever sees it
# while a signal is pending.
ERESTARTSYS: Final = 512


class Sleeper(Protocol):
    """Who acts, as a handler sees it."""

    name: str

    async def sleep(self, sleep: Sleep) -> str:
        """Sleep, and return ``interrupted`` or whatever reason it was woken for."""
        ...


CURRENT: Final[ContextVar[Sleeper]] = ContextVar("CURRENT")
"""
The actor in whose name a handler runs. Also right for forced releases: whatever task the
library runs them in has the context of the one who removes.
"""


class Process:
    """What the threads of a process share: open files, mappings, the working directory."""

    def __init__(self) -> None:
        self.files: dict[int, ProcFile] = {}
        self.maps: dict[str, SharedMapping] = {}
        self.cwd: ProcFile | None = None

    def add(self, file: ProcFile) -> int:
        """Give a file the lowest free number, as open(2) does."""
        fd = FIRST_FD
        while fd in self.files:
            fd += 1
        self.files[fd] = file
        return fd

    def fork(self) -> Process:
        """Copy everything: the open files are shared from then on, the table is not."""
        child = Process()
        child.files = {fd: file.dup() for fd, file in self.files.items()}
        child.maps = {name: shared.share() for name, shared in self.maps.items()}
        child.cwd = None if self.cwd is None else self.cwd.dup()
        return child

    async def close_all(self) -> None:
        """Close everything, as an exit does: the highest number first."""
        while self.files:
            await self.files.pop(max(self.files)).aclose()
        while self.maps:
            await self.maps.popitem()[1].close()
        if self.cwd is not None:
            await self.cwd.aclose()


class SharedMapping:
    """A mapping and the number of processes that have it."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.page: bytes = mapping.value
        self._processes = 1

    def share(self) -> SharedMapping:
        """Count one process more."""
        self._processes += 1
        return self

    async def close(self) -> None:
        """Count one process less; without any, the mapping is gone."""
        self._processes -= 1
        if self._processes == 0:
            await self.mapping.aclose()


class Sleep:
    """One actor's sleep: until it is woken, or a signal comes that may interrupt it."""

    def __init__(self, mode: str, deadline: float | None = None) -> None:
        self.mode = mode
        self.deadline = deadline
        """When the sleep is over by itself, on the scenario's own clock, in milliseconds."""
        self.reason = ""
        self._event = anyio.Event()

    def wake(self, reason: str) -> None:
        """End the sleep; the first reason counts."""
        self.reason = self.reason or reason
        self._event.set()

    async def wait(self) -> None:
        """Sleep until it is ended."""
        await self._event.wait()


class Actor:
    """
    One thread. Steps handed to it are taken one after the other.

    In Linux an actor that sleeps is given none. Here it may be, as one more actor can be asleep
    than there (who removes what is being removed joins): its steps then wait their turn.
    """

    def __init__(self, name: str, process: Process) -> None:
        self.name = name
        self.process = process
        self.cred = Credentials()
        self.steps: deque[Step] = deque()
        self.life = anyio.CancelScope()
        """What it does is done in here; to kill it is to cancel this."""
        self.ended = False
        self.killed = False
        self.signals: list[str] = []
        self._stopped = False
        self._continued = anyio.Event()
        self._sleep: Sleep | None = None
        self._wait: anyio.CancelScope | None = None
        self._handed = anyio.Event()

    @property
    def busy(self) -> bool:
        """Whether a step handed to it is not finished."""
        return bool(self.steps)

    def hand(self, step: Step) -> None:
        """Give it a step."""
        self.steps.append(step)
        self._handed.set()

    async def next_step(self) -> Step:
        """Wait for a step. It stays at the head of the steps while it is being done."""
        while not self.steps:
            self._handed = anyio.Event()
            await self._handed.wait()
        return self.steps[0]

    async def sleep(self, sleep: Sleep) -> str:
        """Sleep, and return ``interrupted`` or whatever reason it was woken for."""
        if self.interrupts(sleep.mode):
            return "interrupted"
        self._sleep = sleep
        try:
            with anyio.CancelScope(shield=sleep.mode == "unint"):
                await sleep.wait()
        finally:
            self._sleep = None
        return sleep.reason

    async def wait_to_fail(self, call: Callable[[], Awaitable[object]]) -> NoReturn:
        """Make a call that waits for somebody else to say why it fails, until a signal comes."""
        self._wait = scope = anyio.CancelScope()
        try:
            with scope:
                await call()
        finally:
            self._wait = None
        raise OSError(ERESTARTSYS, "a signal came")

    def interrupts(self, mode: str) -> bool:
        """Tell whether something has come that ends such a sleep. An exit, nothing ends."""
        if self.ended or mode == "unint":
            return False
        return self.killed or (mode == "intr" and bool(self.signals or self._stopped))

    def signal(self, name: str) -> None:
        """Get a signal. An idle actor runs its handler at once; a busy one does after the call."""
        match name:
            case "KILL":
                self.killed = True
            case "STOP":
                self._stopped = True
                self._continued = anyio.Event()
            case "CONT":
                self._stopped = False
                self._continued.set()
            case _ if self.busy:
                self.signals.append(name)
            case _:
                pass
        if self._sleep is not None and self.interrupts(self._sleep.mode):
            self._sleep.wake("interrupted")
        if self._wait is not None and self.interrupts("intr"):
            self._wait.cancel()
        if self.killed:
            self.life.cancel()

    async def deliver(self) -> bool:
        """
        Stop if it was told to, and run the signal handlers, on the way back from a call.

        True: if the call was interrupted, it is to be restarted.
        """
        if not (self._stopped or self.signals):
            return False
        await self.while_stopped()
        restart = set(self.signals) <= {RESTARTING}
        self.signals.clear()
        return restart

    async def while_stopped(self) -> None:
        """Wait until it is told to continue, if it was told to stop."""
        if self._stopped:
            await self._continued.wait()

    def sleeping_until(self) -> Iterator[Sleep]:
        """Yield its sleep, if it sleeps for a time."""
        if self._sleep is not None and self._sleep.deadline is not None:
            yield self._sleep
