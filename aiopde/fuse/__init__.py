"""
A tree as a real mount: ``cat``, ``ls`` and ``grep -r`` from any shell, while entries come and go.

Why we speak the kernel's FUSE protocol ourselves, where a kept library would do elsewhere:
pyfuse3, the only asynchronous one, answers no FUSE_INTERRUPT, so that a ``cat`` that waits in
a handler survives even ``kill -9``, in state D; here an interrupt cancels the handler, and the
reader is gone in a millisecond. It has no wheels, and wants a compiler and libfuse's headers; it
serves one mount in a process; its asyncio side is all but untested. And what we need of the
protocol is small.

General layout: ``_protocol`` has the messages, ``_session`` reads and answers them, ``_operations``
makes calls on the tree of them, ``_inodes`` keeps what the kernel knows, ``_notifier`` tells it
what has changed, and ``_mount`` attaches it all to a directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, final

import anyio
import anyio.to_thread

from aiopde._fsnotify import observers
from aiopde._procfs import ProcFS, check_tree

from ._mount import Attachment
from ._notifier import Notifier
from ._operations import Operations
from ._session import Session

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

__all__ = ["Mount", "MountStatistics", "mount"]


@dataclass(frozen=True, slots=True)
class MountStatistics:
    """A frozen snapshot of a :class:`Mount`."""

    inodes: int
    """How many entries the kernel knows, the root among them."""
    open_files: int
    """How many files and directories processes have open."""
    waiting: int
    """How many calls wait in a handler."""


@final
class Mount:
    """
    A tree that is mounted for the time of an ``async with`` block; made by :func:`mount`.

    Its task group answers the kernel. Leaving the block unmounts, also after an error or
    a cancellation: the directory is free again, calls that wait in handlers are cancelled, what is
    still open is released, and who was inside or still holds it open gets ``ENOTCONN``. If the
    process is killed, a watchdog beside it unmounts.
    """

    def __init__(self, proc: ProcFS, path: str, *, allow_other: bool) -> None:
        self._proc = proc
        self._attachment = Attachment(path, allow_other=allow_other)
        self.unmounted: anyio.Event = anyio.Event()
        """
        What is set when the mount is gone: ``await mounted.unmounted.wait()``.

        Somebody may unmount from outside (``umount``), or abort the connection. The block then
        goes on; a program that is there for the mount's sake waits for this. As long as someone
        has files of a lazily unmounted tree open, they are served, and this is not set.
        """
        self._tasks: TaskGroup | None = None
        self._servers: TaskGroup
        self._session: Session
        self._operations: Operations
        self._notifier: Notifier

    def __repr__(self) -> str:
        mounted = self._tasks is not None and not self.unmounted.is_set()
        return f"<Mount {self.path!r} {'mounted' if mounted else 'not mounted'}>"

    @property
    def path(self) -> str:
        """Where it is mounted; with symlinks resolved, once it is."""
        return self._attachment.path

    def statistics(self) -> MountStatistics:
        """Return a frozen snapshot, for debugging and for tests."""
        files = len(self._operations.files)
        return MountStatistics(len(self._operations.inodes), files, len(self._session.inside))

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            msg = "a Mount can be entered once: call mount() again"
            raise RuntimeError(msg)
        await anyio.to_thread.run_sync(self._attachment.attach)
        self._tasks = await anyio.create_task_group().__aenter__()
        self._servers = anyio.create_task_group()
        self._notifier = Notifier(self._attachment.fd)
        self._operations = Operations(self._proc.root, self._notifier, self._servers)
        self._session = Session(
            self._attachment.fd, self._operations.table, self._servers, self.unmounted
        )
        self._notifier.start()
        observers.append(self._operations)
        self._tasks.start_soon(self._serve, name="aiopde mount")
        try:
            await self._session.agreed()
        except BaseException:
            await self._leave()
            raise
        return self

    # What cancels the block must not reach who answers the kernel: to take the mount off may need
    # an answer, and a notification may wait for one in state D.
    async def _serve(self) -> None:
        async with self._servers:
            self._servers.cancel_scope.shield = True
            self._servers.start_soon(self._session.run, name="aiopde fuse")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        """Unmount and stop. Requests are answered until nobody in here waits for an answer."""
        assert self._tasks is not None
        observers.remove(self._operations)
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._attachment.detach, self.unmounted.is_set())
                # Who waits in a handler may be what a notification waits for.
                self._session.leave()
                await self._notifier.aclose()
        finally:
            await self._stop(self._tasks)

    async def _stop(self, tasks: TaskGroup) -> None:
        """Cancel the calls that wait, then release what is open, and last close the device."""
        self._servers.cancel_scope.cancel()
        try:
            # Not told of an exception, which the group would wrap.
            await tasks.__aexit__(None, None, None)
        finally:
            self.unmounted.set()
            with anyio.CancelScope(shield=True):
                await self._operations.aclose()
                await anyio.to_thread.run_sync(self._attachment.close)


def mount(proc: ProcFS, path: str | os.PathLike[str], *, allow_other: bool = False) -> Mount:
    """
    Mount a tree on a directory::

        async with ProcFS() as proc, mount(proc, "/mnt/proc"):
            ...

    It is a real file system then, to every process of this user: what they read and write are
    calls on the tree's files, inside its guard. Root mounts by mount(2), anybody else with
    ``fusermount3``. Several mounts may be in one program, of one tree too.

    The program must not use the mount itself but from a thread (``anyio.to_thread``,
    ``anyio.Path``): a blocking call in the event loop waits for an answer from the event loop. To
    start a program with ``cwd=`` in the mount is such a call.

    A handler gets what it gets from a :class:`ProcFile`, with three differences. Reads and writes
    come with the position the kernel keeps, so that ``file.pos`` stays 0; one of 1 MiB or more may
    come in pieces; and the *arg* of an ioctl is a ``bytearray`` to read and change if the command
    says how long its data is (``_IOR``, ``_IOW``), else a number. A handler is cancelled if its
    caller gets a signal, who then sees ``EINTR``. What a handler raises and is no ``OSError`` is
    logged, and its caller gets ``EIO``. ``sendfile`` and ``splice`` (``shutil.copyfile``) give as
    many bytes as the entry's size says; set that where it matters.

    Args:
        proc: The tree, inside its ``async with`` block. An absolute symlink in it leads where the
            path leads in the system.
        path: A directory that exists; what is in it is hidden meanwhile.
        allow_other: Let all users in, as far as the permission bits let them. By default nobody
            but the one who mounts, and not even root. An ordinary user may do so if
            /etc/fuse.conf has ``user_allow_other``.

    Returns:
        What is to be entered with ``async with``. That raises an ``OSError``: ``ENOENT``: no
        directory *path*, or no /dev/fuse or fusermount3, and what to install; ``ENOTDIR``;
        ``ENOTCONN``: a mount whose server was killed is in the way, and how to take it off;
        ``EPERM``.

    Raises:
        TypeError: *proc* is no :class:`ProcFS`.
    """
    check_tree("mount()", proc)
    return Mount(proc, os.fspath(path), allow_other=allow_other)


for _public in (Mount, MountStatistics, mount):
    _public.__module__ = __name__
