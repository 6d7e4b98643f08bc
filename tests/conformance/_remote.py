"""The server's side of the worker: actors that are threads of real processes."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio

from ._actors import Actor, Process, Sleep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._words import Result

_PACKAGES: Final = Path(__file__).parent.parent.parent
_MESSAGE: Final = 1 << 20
_SYS_TGKILL: Final = 234
_HELD_UP: Final = frozenset({"request_wait_answer", "fdget_pos", "__fdget_pos"})
"""Where in the kernel who is killed may have to wait: for an answer, or another reader's end."""
_IN_TURN: Final = _HELD_UP | {"fuse_file_write_iter"}
"""Where nobody but another actor can let it go on. Elsewhere it may wait for memory or the disk."""
_SECONDS_FOR_THE_DISK: Final = 0.5
_SYS_FUTEX: Final = "202"
"""What a thread of the worker sleeps in when it waits for another one's leave to run Python."""


class Line:
    """A socket to a thread, on which each message is one JSON text."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end

    def send(self, message: object, *fds: int) -> None:
        """Send a message, and descriptors with it."""
        socket.send_fds(self.socket, [json.dumps(message).encode()], fds)

    async def receive(self) -> Any:
        """Wait for a message; None: there is nobody any more."""
        await anyio.wait_readable(self.socket)
        text = b""
        with suppress(ConnectionResetError):  # it has died before it read what it was sent
            text = self.socket.recv(_MESSAGE)
        return json.loads(text) if text else None

    def ready(self) -> bool:
        """Tell whether something has come."""
        return readable(self.socket.fileno())


def readable(fd: int) -> bool:
    """Tell whether something has come that nobody has read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


class Remote(Actor):
    """A thread of another process, which makes the system calls; the rest is done here."""

    def __init__(self, name: str, process: Process) -> None:
        super().__init__(name, process)
        self.line: Line | None = None
        self.pid = 0
        self.tid = 0
        self.pidfd = -1
        self.timed = False
        self.calling = False
        """Whether a system call of its is under way."""
        self.dying = False
        """Whether it is to end, which takes it through sleeps of no account."""
        self._uninterruptible = ("", 0.0)
        """How often it has slept, when it was first seen in this sleep, and when that was."""

    async def connect(self, line: Line) -> None:
        """Hear who it is."""
        self.line = line
        hello = await line.receive()
        self.pid, self.tid = hello["pid"], hello["tid"]

    async def call(self, verb: str, args: Mapping[str, str]) -> Result | None:
        """Make a system call; None: it has died of it."""
        assert self.line is not None
        self.calling = True
        self.dying = self.killed or verb == "exit"
        try:
            self.line.send({"verb": verb, "args": dict(args)})
            result: Result | None = await self.line.receive()
        except BrokenPipeError:
            result = None
        if result is None:
            await anyio.wait_readable(self.pidfd)
        self.calling = False
        return result

    def kill(self, number: int) -> None:
        """Send its thread a signal."""
        self.killed = self.killed or number == signal.SIGKILL
        self.dying = self.dying or self.killed
        _tgkill(self.pid, self.tid, number)

    def ready(self) -> bool:
        """Tell whether it has answered."""
        return self.line is not None and self.line.ready()

    def asleep(self) -> str:
        """Say how often it has slept, if it sleeps in a call; "": it may go on by itself."""
        task = Path(f"/proc/{self.pid}/task/{self.tid}")
        try:
            status = (task / "status").read_text()
            call, _, _ = (task / "syscall").read_text().partition(" ")
            place = (task / "wchan").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        state = lines["State"][0]
        if state == "T" and not self.dying:
            return "stopped"
        goes_on = state not in "SD" or call in {_SYS_FUTEX, "running"}
        if goes_on or (self.dying and place not in _HELD_UP):
            return ""
        switches = lines["voluntary_ctxt_switches"] + lines["nonvoluntary_ctxt_switches"]
        if state == "D" and place not in _IN_TURN and not self._lasts(switches):
            return ""  # pragma: no cover  only where the machine is short of memory
        return switches

    def _lasts(self, switches: str) -> bool:  # pragma: no cover  as above
        now = time.monotonic()
        if self._uninterruptible[0] != switches:
            self._uninterruptible = (switches, now)
        return now - self._uninterruptible[1] > _SECONDS_FOR_THE_DISK


def _tgkill(pid: int, tid: int, signal: int) -> None:
    ctypes.CDLL(None).syscall(ctypes.c_long(_SYS_TGKILL), pid, tid, signal)


class Inside:
    """Who acts in a handler that was asked through the mount: a thread, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def sleep(self, sleep: Sleep) -> str:
        """Sleep until woken; the mount makes a cancellation of a signal, which is one again."""
        try:
            with anyio.CancelScope(shield=sleep.mode == "unint"):
                await sleep.wait()
        except anyio.get_cancelled_exc_class():
            # It is raised once more where the handler looks for it.
            return "interrupted"
        return sleep.reason


class Worker:
    """The process all threads belong to, and those forked from it."""

    def __init__(self, root: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-W", "ignore", "-m", "tests.conformance._worker"),
                    *(str(theirs.fileno()), str(root)),
                ],
                pass_fds=[theirs.fileno()],
                cwd=_PACKAGES,
                stdin=subprocess.DEVNULL,
            )
        self._control = Line(ours)
        self._lines = [self._control]
        self.actors: dict[int, Inside] = {}
        """By thread id: in whose name it calls."""
        self._main = os.pidfd_open(self._process.pid)
        self._pidfds = [self._main]

    async def start(self, actor: Remote, how: str) -> None:
        """Make the thread of an actor, or the process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._control.send(how, theirs.fileno())
        self._lines.append(Line(ours))
        await actor.connect(self._lines[-1])
        self.actors[actor.tid] = Inside(actor.name)
        actor.pidfd = self._main
        if how == "fork":
            actor.pidfd = os.pidfd_open(actor.pid)
            self._pidfds.append(actor.pidfd)

    def end(self) -> None:
        """Kill all there are."""
        for pidfd in self._pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._pidfds.clear()
        for line in self._lines:
            line.socket.close()

    def wait(self) -> None:
        """Wait for the end."""
        self._process.wait()
