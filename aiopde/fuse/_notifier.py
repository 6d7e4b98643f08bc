"""Telling the kernel what has changed, from a thread of its own."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, final

import anyio.to_thread

from ._protocol import NOTIFY_INVAL_ENTRY, NOTIFY_INVAL_INODE, NOTIFY_POLL, Notice, notification

if TYPE_CHECKING:
    from ._inodes import Inode

_ATTRIBUTES_ALONE: Final = -1


@final
class _Writer:
    """A thread that writes messages, in order, and may have to wait in the kernel."""

    def __init__(self, fd: int, name: str) -> None:
        self._fd = fd
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self.put = self._queue.put
        # A daemon: a kernel that hangs must not hang the exit too.
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            try:
                os.write(self._fd, message)
            except OSError:
                # The kernel does not know the name (any more), or the mount is gone: just as well.
                continue


@final
class Notifier:
    """
    Writes notifications to the kernel, in order.

    Never from the event loop: to invalidate a name the kernel locks its directory, which a
    lookup or a readdir has locked that waits for our answer. The write then waits for the lookup
    and the lookup for us: both sides in state D, where SIGKILL reaches neither. In a thread the
    write may wait, since somebody goes on answering.

    A name that is gone is *invalidated*, not deleted (FUSE_NOTIFY_DELETE): to delete it the
    kernel would also lock its inode, which a write that is inside a handler has locked for as
    long as that takes; and with it, all the while, the directory. (root's ``rm`` does that.)

    Names have a thread of their own, so that one which waits holds up nobody else's news.
    """

    def __init__(self, fd: int) -> None:
        self._names = _Writer(fd, "aiopde names")
        self._others = _Writer(fd, "aiopde news")

    def start(self) -> None:
        """Start the threads."""
        self._names.thread.start()
        self._others.thread.start()

    def poll(self, handle: int) -> None:
        """Wake who polls the open file that the kernel calls *handle*."""
        self._others.put(notification(Notice.POLL, NOTIFY_POLL.pack(handle)))

    def attributes(self, inode: Inode) -> None:
        """Have the kernel ask for the attributes again."""
        body = NOTIFY_INVAL_INODE.pack(inode.nodeid, _ATTRIBUTES_ALONE, 0)
        self._others.put(notification(Notice.INVAL_INODE, body))

    def name(self, parent: Inode, name: str) -> None:
        """Have the kernel drop a name, and its inode as soon as nobody uses that."""
        encoded = os.fsencode(name)
        body = NOTIFY_INVAL_ENTRY.pack(parent.nodeid, len(encoded), 0) + encoded + b"\0"
        self._names.put(notification(Notice.INVAL_ENTRY, body))

    async def aclose(self) -> None:
        """
        Write what is left and end the threads. Requests must still be answered meanwhile.

        Not cut short: call it where nobody cancels.
        """
        for writer in (self._names, self._others):
            writer.put(None)
            await anyio.to_thread.run_sync(writer.thread.join)
