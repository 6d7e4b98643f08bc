"""What the tests of seq files share: an open file, records to walk through, a task that reads."""

# What show sees of its buffer is recorded, and nobody else may see it.
# pyright: reportPrivateUsage=false

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from errno import EIO
from os import SEEK_SET
from typing import Any

from anyio import CancelScope, Event

from aiopde._seq_file import SEQ_SKIP, SeqFile, SeqOps
from aiopde._seq_read import seq_lseek, seq_open, seq_read


class OpenFile:
    """As much of an open file as a seq file needs."""

    def __init__(self, ops: SeqOps) -> None:
        self.private_data: Any = None
        self.pos = 0
        self.ops = ops
        self.m = seq_open(self, ops)

    async def read(self, size: int) -> bytes:
        """Read at the position, and advance it as read(2) does."""
        data = await seq_read(self, size, self.pos)
        self.pos += len(data)
        return data

    async def pread(self, size: int, pos: int) -> bytes:
        """Read elsewhere."""
        return await seq_read(self, size, pos)

    async def lseek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Set the position."""
        return await seq_lseek(self, offset, whence)

    async def read_all(self, size: int = 1 << 20) -> bytes:
        """Read up to the end of file, and no further."""
        chunks = [await self.read(size)]
        while chunks[-1]:
            chunks.append(await self.read(size))
        return b"".join(chunks)

    async def release(self) -> None:
        """Release as the file layer does."""
        result = self.ops._release(self)
        if isinstance(result, Awaitable):
            await result


Hook = Callable[[], Awaitable[None]]


def raises(exception: BaseException) -> Hook:
    """A hook that fails."""

    async def hook() -> None:
        raise exception

    return hook


async def blocks() -> None:
    """A hook that waits until it is cancelled."""
    await Event().wait()


class Walk:
    """
    Handlers that walk a list, log each call, and do at each what a test wants.

    Calls are logged, and hooks found, by names as in "start(0) show(0) next(0) stop".
    """

    def __init__(self, *items: bytes) -> None:
        self.items = items
        self.log: list[str] = []
        self.hooks: dict[str, Hook] = {}
        self.skip: set[int] = set()
        self.ops = SeqOps(start=self.start, next=self.next, stop=self.stop, show=self.show)

    async def _call(self, name: str) -> None:
        self.log.append(name)
        if hook := self.hooks.get(name):
            await hook()

    def _item(self, pos: int) -> int | None:
        return pos if pos < len(self.items) else None

    async def start(self, m: SeqFile, pos: int) -> int | None:
        """Find the item at a position."""
        await self._call(f"start({pos})")
        return self._item(pos)

    async def next(self, m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        """Find the item after another."""
        assert item == pos
        await self._call(f"next({pos})")
        return self._item(pos + 1), pos + 1

    async def stop(self, m: SeqFile, item: int | None) -> None:
        """Be told what the last item was."""
        self.stopped_at = item
        await self._call("stop")

    async def show(self, m: SeqFile, item: int) -> int | None:
        """Write an item."""
        if self.items[item]:
            m.write(self.items[item])
        await self._call(f"show({item})")
        return SEQ_SKIP if item in self.skip else None

    def taken(self) -> str:
        """Give the log, and begin a new one."""
        log, self.log = self.log, []
        return " ".join(log)

    def balanced(self) -> bool:
        """Whether each start had its stop before the next start."""
        ends = [name[:4] for name in self.log if name[:4] in ("star", "stop")]
        return ends == ["star", "stop"] * (len(ends) // 2)


ERROR = OSError(EIO, "broken")


class Reader:
    """A task that reads and can be cancelled."""

    def __init__(self, file: OpenFile, name: str, done: list[str]) -> None:
        self.file = file
        self.name = name
        self.done = done
        self.scope = CancelScope()

    async def pread(self, size: int, pos: int) -> None:
        """Read and say so."""
        with self.scope:
            data = await self.file.pread(size, pos)
            self.done.append(f"{self.name} {data.decode()}")


async def takes_none() -> None: ...


def takes_m(m: SeqFile) -> None: ...


async def takes_two(m: SeqFile, pos: int) -> None: ...


def generator(m: SeqFile, pos: int) -> Iterator[int]:  # pragma: no cover  never called
    yield pos


async def async_generator(m: SeqFile, pos: int) -> AsyncIterator[int]:  # pragma: no cover
    yield pos
