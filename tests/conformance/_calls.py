"""Who makes a system call, and what the words of a step stand for in that call."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from errno import EBADF, ENOENT
from typing import TYPE_CHECKING, Final

from ._words import Result, to_name

if TYPE_CHECKING:
    from aiopde import File, ProcDirEntry, ProcFile, ProcFS

    from ._actors import Actor
    from ._kernel import Kernel
    from ._poll_calls import Epoll

MOUNTS: Final = ("/proc2", "/procpid")
"""Where the tree is mounted besides /proc; the second shows processes only."""

DEVICES: Final = "/dev/"
"""Where devices are found."""

Args = Mapping[str, str]
Call = Callable[["Caller", Args], Awaitable[Result]]
CALLS: Final[dict[str, Call]] = {}
"""Every system call, under the verb of a step that makes it."""


def system_call(call: Call) -> Call:
    """Let steps make this call, under the name of the function."""
    CALLS[call.__name__] = call
    return call


class Machine:
    """What all actors of a scenario share: the tree, the names of descriptors, the clock."""

    def __init__(self, proc: ProcFS, kernel: Kernel) -> None:
        self.proc = proc
        self.kernel = kernel
        self.fds: dict[str, int] = {}
        """The number each descriptor's name stands for, whatever table it is looked up in."""
        self.actors: dict[str, Actor] = {}
        self.epolls: dict[str, Epoll] = {}
        self.locks: dict[ProcDirEntry, File] = {}
        """Which open file has the entry locked (flock), if it is still open."""
        self.now = 0.0
        """The scenario's own clock, in milliseconds. It goes on when nothing else can."""

    def descriptor_of(self, file: File) -> ProcFile | None:
        """Find a descriptor of an open file, in whatever process; None if all are closed."""
        tables = (actor.process.files for actor in self.actors.values())
        return next((fd for table in tables for fd in table.values() if fd.file is file), None)

    def advance(self, milliseconds: float) -> None:
        """Let time pass, and wake who has slept long enough."""
        self.now += milliseconds
        for actor in self.actors.values():
            for sleep in actor.sleeping_until():
                if sleep.deadline is not None and sleep.deadline <= self.now:
                    sleep.wake("timeout")


class Caller:
    """An actor in a system call."""

    def __init__(self, machine: Machine, actor: Actor) -> None:
        self.machine = machine
        self.actor = actor
        self.proc = machine.proc

    def file(self, args: Args, key: str = "fd") -> ProcFile:
        """Look a descriptor up in the table of the acting process."""
        file = self.actor.process.files.get(self.machine.fds.get(args[key], -1))
        if file is None:
            raise OSError(EBADF, f"{args[key]} is not open")
        return file

    def made(self, args: Args, file: ProcFile, key: str = "fd") -> Result:
        """Give a new descriptor its number, and remember that under the step's name for it."""
        self.machine.fds[args[key]] = self.actor.process.add(file)
        return {"ok": True}

    def device(self, name: str) -> ProcDirEntry:
        """Find a character device."""
        return self.machine.kernel.library.dev.lookup(name)

    async def open_device(self, name: str, flags: int) -> ProcFile:
        """Open a character device."""
        return await self.machine.kernel.library.dev.open(name, flags, cred=self.actor.cred)

    def where(self, args: Args, key: str = "path") -> tuple[str, ProcFile | None]:
        """Read a path, and what it starts from if it does not start at the top."""
        path = to_name(args[key])
        if path.startswith("/"):
            return below_proc(path), None
        if "at" in args:
            return path, self.file(args, "at")
        if self.actor.process.cwd is None:
            raise OSError(ENOENT, "there is nothing where the program was started")
        return path, self.actor.process.cwd

    def path(self, args: Args) -> str:
        """Read a path for a call that has no *at*: it may still start from where one has gone."""
        path, start = self.where(args)
        if start is None:
            return path
        self.proc.lookup(path, follow_symlinks=False, cred=self.actor.cred, dir_fd=start)
        return f"{start.entry.path}/{path}"


def below_proc(path: str) -> str:
    """Turn a path below any mount into the same below ``/proc``."""
    for mount in MOUNTS:
        if path == mount or path.startswith(f"{mount}/"):
            inside = path.removeprefix(mount)
            if mount == "/procpid" and inside.strip("/"):
                raise OSError(ENOENT, "this mount shows processes only")
            return f"/proc{inside}"
    return path


def latin(name: str) -> str:
    """Write a file name as a recording has it, one character a byte."""
    return os.fsencode(name).decode("latin-1")
