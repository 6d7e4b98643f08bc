"""Plays a scenario by real system calls on a mount, made by threads of other processes."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import warnings
from contextlib import asynccontextmanager
from ctypes import CDLL
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import anyio
import anyio.to_thread

from aiopde import Credentials, HandlerError, Kernel as Library
from aiopde.fuse import mount
from aiopde.fuse._protocol import IN_HEADER, Opcode

from ._actors import CURRENT, Actor, Process
from ._machine import furnish
from ._player import Player, implied
from ._quiet import quiet
from ._remote import Inside, Remote, Worker, readable
from ._words import number

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from anyio.abc import TaskGroup

    from aiopde import ProcFS
    from aiopde.fuse import Mount

    from ._kernel import Kernel
    from ._scenario import Answer, Scenario, Step
    from ._words import Result

KERNEL: Final = "fuse"
"""In whose name the kernel calls where it does not say for whom: after a close."""
_SERVERS_VERBS: Final = frozenset({"insmod", "rmmod", "modstate"})
_MADE: Final = {"open": "fd", "reopen": "as", "dup": "as", "epoll_create": "ep"}
"""By verb: what it calls the descriptor it makes."""
_NOT_OPEN: Final = 400
_SECONDS_TO_HANG: Final = 10
_PAUSE: Final = 0.0003
_MNT_FORCE: Final = 1


class CountedQueue(SimpleQueue[Any]):
    """The notifier's queue, which knows whether what was taken from it is done with."""

    def __init__(self) -> None:
        self._put = self._taken = self._done = 0

    @property
    def idle(self) -> bool:
        """Whether all is done."""
        return self._done == self._put

    def put(self, item: Any) -> None:  # type: ignore[override]
        self._put += 1
        super().put(item)

    def get(self) -> Any:  # type: ignore[override]
        self._done = self._taken
        item = super().get()
        self._taken += 1
        return item


class Ground:
    """A directory tree to be played on: a chroot with the tree mounted in it, once or twice."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="aiopde-"))
        self.root.chmod(0o755)  # other users play too
        (self.root / "procpid").mkdir()
        self.mounts: list[Mount] = []
        self.queues: list[CountedQueue] = []
        self.worker: Worker

    def mount(self, proc: ProcFS, name: str) -> Mount:
        """Return a mount to be entered."""
        (self.root / name).mkdir()
        return mount(proc, self.root / name, allow_other=True)

    def add(self, mounted: Mount, queue: CountedQueue) -> None:
        """Have each request made in the name of its caller."""
        self.mounts.append(mounted)
        self.queues.append(queue)
        session = mounted._session
        for opcode, operation in list(session._table.items()):
            session._table[opcode] = self._in_the_name_of_its_caller(session, operation)

    def _in_the_name_of_its_caller(self, session: Any, operation: Any) -> Callable[..., Any]:
        def attributed(nodeid: int, body: memoryview) -> Any:
            pid = IN_HEADER.unpack_from(session._buffer)[6]
            CURRENT.set(self.worker.actors.get(pid) or Inside(KERNEL))
            return operation(nodeid, body)

        return attributed

    def tell_refused_opens(self, kernel: Kernel) -> None:
        """Note an open that we refuse, where Linux would only warn."""
        for mounted in self.mounts:
            table = mounted._session._table
            table[Opcode.OPEN] = _telling(kernel, table[Opcode.OPEN])

    def asked(self) -> bool:
        """Tell whether the kernel asks something, or is being told something."""
        if not all(queue.idle for queue in self.queues):
            return True
        return any(readable(mounted._attachment.fd) for mounted in self.mounts)

    def abort(self) -> None:
        """Make everything that waits for an answer fail: we hang."""
        for mounted in self.mounts:
            CDLL(None).umount2(mounted.path.encode(), _MNT_FORCE)


def _telling(kernel: Kernel, operation: Any) -> Callable[..., Any]:
    async def tell(answer: Coroutine[Any, Any, bytes]) -> bytes:
        try:
            return await answer
        except HandlerError as exc:
            kernel.refused(exc.errno or 0)
            raise

    def opened(nodeid: int, body: memoryview) -> Coroutine[Any, Any, bytes]:
        return tell(operation(nodeid, body))

    return opened


@asynccontextmanager
async def ground(proc: ProcFS, names: list[str]) -> AsyncGenerator[Ground]:
    """Mount a tree in a chroot, and abort the mounts if it takes too long."""
    made = Ground()
    guard = threading.Timer(_SECONDS_TO_HANG, made.abort)
    try:
        async with _mounted(made, proc, names):
            made.worker = Worker(made.root)
            guard.start()
            try:
                yield made
            finally:
                made.worker.end()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(made.worker.wait)
    finally:
        guard.cancel()
        shutil.rmtree(made.root)


@asynccontextmanager
async def _mounted(made: Ground, proc: ProcFS, names: list[str]) -> AsyncGenerator[None]:
    if not names:
        yield
        return
    with patch("aiopde.fuse._notifier.SimpleQueue", CountedQueue):
        there = made.mount(proc, names[0])
        mounted = await there.__aenter__()
    try:
        made.add(mounted, mounted._notifier._queue)  # type: ignore[arg-type]
        async with _mounted(made, proc, names[1:]):
            yield
    finally:
        await mounted.__aexit__(None, None, None)


async def play(scenario: Scenario) -> list[Answer]:
    """Play a scenario, and return what each step did."""
    answers: list[Answer] = []
    names = ["proc"]
    if any(" " in step.text and "/proc2" in step.text for step in scenario.steps):
        names.append("proc2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        async with Library() as library:
            furnish(library.proc)
            async with ground(library.proc, names) as there, anyio.create_task_group() as tasks:
                player = MountPlayer(library, tasks, there)
                try:
                    answers += [await player.step(step) for step in scenario.steps]
                finally:
                    await player.end()
    return answers


class MountPlayer(Player):
    """The director of actors that are threads and processes."""

    def __init__(self, library: Library, tasks: TaskGroup, there: Ground) -> None:
        super().__init__(library, tasks)
        self._there = there
        there.tell_refused_opens(self.kernel)

    def leaves_out(self, verb: str) -> bool:
        """Leave nothing out: there is a cache of names."""
        return False

    async def _let_pass(self, milliseconds: float) -> None:
        await self._settle()
        if any(actor.timed for actor in self._actors if actor.calling):
            await anyio.sleep(milliseconds / 1000)
        self.machine.advance(milliseconds)
        await self._settle()

    async def _settle(self) -> None:
        with anyio.fail_after(_SECONDS_TO_HANG):
            while True:
                await quiet()
                if self._still():
                    return
                await anyio.sleep(_PAUSE)

    @property
    def _actors(self) -> list[Remote]:
        return [actor for actor in self.machine.actors.values() if isinstance(actor, Remote)]

    # What may go on is a thread that does not sleep, the kernel that asks, and what is in a pipe.
    # If no thread has run while we looked at the others, there was a moment when all slept.
    def _still(self) -> bool:
        calling = [actor for actor in self._actors if actor.calling]
        before = [actor.asleep() for actor in calling]
        if not all(before) or self._there.asked():
            return False
        if any(actor.ready() for actor in self._actors if not actor.ended):
            return False
        return before == [actor.asleep() for actor in calling]

    async def _fork(self, name: str) -> None:
        actor = Remote(name, Process())
        await self._there.worker.start(actor, "fork")
        self._start(actor)

    def _actor(self, name: str) -> Actor:
        if name not in self.machine.actors:
            self._start(Remote(name, self._main))
        return self.machine.actors[name]

    async def _act(self, actor: Actor) -> None:
        assert isinstance(actor, Remote)
        if not actor.pid:
            actor.calling = True
            await self._there.worker.start(actor, "thread")
            actor.calling = False
        await super()._act(actor)

    def _signal(self, actor: Actor, name: str) -> None:
        assert isinstance(actor, Remote)
        if actor.ended:
            return
        actor.kill(getattr(signal, f"SIG{name}"))
        if name == "KILL" and not actor.busy:
            actor.hand(implied(actor, "nop"))
        if not actor.calling:
            actor.signal(name)

    async def _die(self, actor: Actor) -> None:
        assert isinstance(actor, Remote)
        actor.calling = True
        await anyio.wait_readable(actor.pidfd)
        actor.calling = False
        actor.ended = True
        self._finish(actor, {"killed": "SIGKILL"})
        actor.steps.clear()

    async def _call(self, actor: Actor, step: Step) -> Result:
        assert isinstance(actor, Remote)
        if step.verb in _SERVERS_VERBS:
            return await super()._call(actor, step)
        args = {**step.args}
        for key in {"fd", "at", "ep"} - {_MADE.get(step.verb)}:
            if key in args:
                args[key] = str(self.machine.fds.get(args[key], _NOT_OPEN))
        actor.timed = number(args.get("timeout", "0")) > 0
        result = await actor.call(step.verb, args)
        if result is None:
            actor.ended = True
            return (
                {"exited": number(args["code"])} if step.verb == "exit" else {"killed": "SIGKILL"}
            )
        if "made" in result:
            self.machine.fds[step.args[_MADE[step.verb]]] = result.pop("made")
        if step.verb == "setuid":
            actor.cred = Credentials(uid=number(args["uid"]))
        return result
