"""Where a mount is played on: a chroot with the tree mounted in it, and the kernel's requests."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import AsyncExitStack, asynccontextmanager
from ctypes import CDLL
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import anyio
import anyio.to_thread

from aiopde import HandlerError
from aiopde.fuse import mount
from aiopde.fuse._protocol import IN_HEADER, Opcode

from ._actors import CURRENT
from ._remote import Inside, Worker, readable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable

    from aiopde import ProcFS
    from aiopde.fuse import Mount

    from ._kernel import Kernel

KERNEL: Final = "fuse"
"""In whose name the kernel calls where it does not say for whom: after a close."""
SECONDS_TO_HANG: Final = 15
_MNT_FORCE: Final = 1


class CountedQueue(SimpleQueue[Any]):
    """A queue of the notifier's, which knows whether what was taken from it is done with."""

    def __init__(self) -> None:
        self._put = self._taken = self._done = 0

    @property
    def idle(self) -> bool:
        """Whether all is done."""
        return self._done == self._put

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._put += 1
        super().put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        self._done = self._taken
        item = super().get()
        self._taken += 1
        return item


class Ground:
    """A directory that is root to the actors, the mounts in it, and the process they belong to."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="aiopde-"))
        self.root.chmod(0o755)  # other users play too
        (self.root / "procpid").mkdir()
        self.mounts: list[Mount] = []
        self.news: list[CountedQueue] = []
        """Of each thread that tells the kernel something: what it is to tell."""
        self.worker = Worker(self.root)

    async def mount(self, proc: ProcFS, name: str, stack: AsyncExitStack) -> None:
        """Mount the tree, and have each request served in the name of its caller."""
        (self.root / name).mkdir()
        to_be = mount(proc, self.root / name, allow_other=True)
        with patch("aiopde.fuse._notifier.SimpleQueue", self._new_queue):
            mounted = await stack.enter_async_context(to_be)
        self.mounts.append(mounted)
        session = mounted._session
        for opcode, operation in list(session._table.items()):
            session._table[opcode] = self._in_the_name_of_its_caller(session, operation)

    def _new_queue(self) -> CountedQueue:
        self.news.append(CountedQueue())
        return self.news[-1]

    def _in_the_name_of_its_caller(self, session: Any, operation: Any) -> Callable[..., Any]:
        def attributed(nodeid: int, body: memoryview) -> Any:
            tid = IN_HEADER.unpack_from(session._buffer)[6]
            CURRENT.set(self.worker.actors.get(tid) or Inside(KERNEL))
            return operation(nodeid, body)

        return attributed

    def tell_refused_opens(self, kernel: Kernel) -> None:
        """Note an open that we refuse, where Linux would only warn."""
        for mounted in self.mounts:
            table = mounted._session._table
            table[Opcode.OPEN] = _telling(kernel, table[Opcode.OPEN])

    def asked(self) -> bool:
        """Tell whether the kernel asks something, or is being told something."""
        if not all(queue.idle for queue in self.news):
            return True
        return any(readable(mounted._attachment.fd) for mounted in self.mounts)

    def abort(self) -> None:
        """Make everything that waits for an answer fail: we hang."""
        for mounted in self.mounts:
            CDLL(None).umount2(mounted.path.encode(), _MNT_FORCE)

    async def tidy(self) -> None:
        """Leave nothing behind."""
        self.worker.end()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.worker.wait)
        shutil.rmtree(self.root)


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
async def ground(proc: ProcFS, names: Iterable[str]) -> AsyncGenerator[Ground]:
    """Mount a tree under these names, and abort the mounts if it takes too long."""
    made = Ground()
    guard = threading.Timer(SECONDS_TO_HANG, made.abort)
    async with AsyncExitStack() as stack:
        # Last, when the mounts are gone, and have let go who was still waiting for an answer.
        stack.push_async_callback(made.tidy)
        for name in names:
            await made.mount(proc, name, stack)
        guard.start()
        try:
            yield made
        finally:
            guard.cancel()
            made.worker.end()
