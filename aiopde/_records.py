"""A file whose records an async generator yields."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, cast, final

from ._handlers import call_wanted, check_handler, encode, holds, name_of
from ._seq_file import SeqFile, SeqOps, seq_file_of, seq_release
from ._seq_read import MAX_BUFFER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ._seq_file import SeqOwner


def records(function: Callable[[], AsyncIterator[str | bytes]]) -> SeqOps:
    """
    Make the handlers of a file whose records an async generator yields.

    Each open file has a generator of its own, which is kept between its reads: to read N records
    takes N steps. It begins anew with each pass, so at the first read and after a rewind; and a
    read elsewhere, as with ``pread``, walks through a new one from the beginning. Its end is
    remembered until then. One that raised or was cancelled is replaced in the next read, which
    walks up to where the file was. Closing the file closes it.

    Its steps run in whichever task reads: it must not ``yield`` inside a cancel scope or a task
    group. An ``OSError`` it raises is the reader's, as for :class:`SeqOps`.

    Args:
        function: ``async def lines():`` with a ``yield`` of ``str`` or ``bytes`` for each record.
            Empty ones are left out.

    Raises:
        TypeError: It is something else.
    """
    check_handler("records", "function", function, ())
    if not holds(inspect.isasyncgenfunction, function):
        want = call_wanted("records", "function", ())
        msg = f"{want} that yields its records; {name_of(function)} is no async generator function"
        raise TypeError(msg)

    async def start(m: SeqFile, pos: int) -> bytes | None:
        cursor: _Cursor | None = m.private
        if cursor is None or not cursor.can_reach(pos):
            # Forgotten first: should its end fail or be cancelled, it is no less at its end.
            m.private = None
            if cursor is not None:
                await cursor.generator.aclose()
            cursor = m.private = _Cursor(function)
        while cursor.pos < pos:
            await cursor.step()
        return cursor.item

    async def step(m: SeqFile, item: bytes, pos: int) -> tuple[bytes | None, int]:
        cursor: _Cursor = m.private
        await cursor.step()
        return cursor.item, pos + 1

    async def stop(m: SeqFile, item: bytes | None) -> None:
        cursor: _Cursor | None = m.private
        if cursor is not None:
            # One that no buffer can hold must not be kept, or the file would never recover.
            cursor.again = m.overflowed and item is not None and len(item) <= MAX_BUFFER // 2

    async def show(m: SeqFile, item: bytes) -> None:
        m.write(item)

    ops = SeqOps(start=start, next=step, stop=stop, show=show)
    object.__setattr__(ops, "_release", records_release)
    return ops


@final
class _Cursor:
    """A generator and where it stands."""

    __slots__ = ("again", "function", "generator", "item", "pos")

    def __init__(self, function: Callable[[], AsyncIterator[str | bytes]]) -> None:
        self.function = function
        self.generator = cast("AsyncGenerator[str | bytes, None]", function())
        self.pos = -1
        # The record at pos; None is the end.
        self.item: bytes | None = None
        # Whether start is about to ask for the same record, because it did not fit.
        self.again = False

    def can_reach(self, pos: int) -> bool:
        """Tell whether it can go on to *pos*. At 0 a new pass begins, with a new generator."""
        return self.pos <= pos and (pos > 0 or self.again)

    async def step(self) -> None:
        """Go on to the next record, or to the end."""
        # Nowhere, should this fail or be cancelled: a generator that has raised is at its end.
        pos, self.pos = self.pos, sys.maxsize
        try:
            self.item = self._encode(await anext(self.generator))
        except StopAsyncIteration:
            self.item = None
        self.pos = pos + 1

    def _encode(self, record: object) -> bytes:
        if isinstance(record, bytes):
            return record
        if isinstance(record, str):
            return encode("yield", record)
        name = name_of(self.function)
        msg = f"records() generator {name} yielded {record!r:.100}: yield str or bytes"
        raise TypeError(msg)


async def records_release(file: SeqOwner) -> None:
    """
    The same for a file of :func:`records`: its generator is closed.

    A checkpoint only if the generator awaits in a ``finally``. Cancellation interrupts that,
    and leaves the generator closed.

    Linux: ``seq_release_private``.
    """
    cursor: _Cursor | None = seq_file_of(file, SeqFile).private
    seq_release(file)
    if cursor is not None:
        await cursor.generator.aclose()
