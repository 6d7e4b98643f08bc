"""
Reads and seeks of a seq file: walks through its records, and a buffer that cuts them into reads.

The order of the handlers' calls is that of fs/seq_file.c (Linux 6.1), to the letter: who ports a
driver's iterator finds it called as the kernel calls it.

Two kinds of failure are kept apart. An ``OSError`` of a handler is what the kernel's handlers
return: it has the kernel's consequences, and travels through this file as a value. Anything else
(a cancellation, a bug) has no counterpart there: the read or seek is undone and the exception
goes to the caller.
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from os import SEEK_CUR, SEEK_SET
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import anyio

from ._handlers import name_of, nonsense
from ._mutex import Mutex
from ._seq_file import SEQ_SKIP, SeqFile, seq_file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._seq_file import SeqOps, SeqOwner

_T = TypeVar("_T")

PAGE_SIZE: Final = 4096
"""The size of a buffer at first, in bytes."""
MAX_BUFFER: Final = 0x7FFFF000
"""The size a buffer never exceeds, in bytes: MAX_RW_COUNT, the guard of CVE-2021-33909."""
_MAX_POS: Final = (1 << 63) - 1


@final
class _SeqReader(SeqFile):
    """The same as reads and seeks see it; no handler has any business here."""

    __slots__ = ("_from", "_item", "_lock", "_ops", "_read_pos")

    def __init__(self, file: SeqOwner, ops: SeqOps) -> None:
        super().__init__(file)
        self._ops = ops
        self._lock = Mutex()
        # The position in bytes at which the next read finds index and buffer as it needs them.
        self._read_pos = 0
        # What lies from here on is shown, but not read yet. Never changed once a session is over:
        # the next one gets a buffer of its own, so that undoing is to put the old one back.
        self._from: int = 0
        # What stop gets. None outside of a session, which must keep nothing alive.
        self._item: Any = None

    def __repr__(self) -> str:
        return f"<SeqFile index={self.index} read_pos={self._read_pos}>"

    # -- under the lock -------------------------------------------------------------------------

    async def exclusive(
        self, work: Callable[..., Coroutine[Any, Any, _T | OSError]], *args: int
    ) -> _T:
        """Run *work* by itself; raise the error it returns, undo it if it raises one."""
        # Two steps, because the first is all there is to do unless two tasks read one file.
        if not self._lock.try_lock():
            await self._lock.lock()
        before = self._buffer, self._from, self.index, self._read_pos
        try:
            result = await work(*args)
        except BaseException:
            self._buffer, self._from, self.index, self._read_pos = before
            raise
        finally:
            self._lock.unlock()
        if isinstance(result, OSError):
            raise result
        return result

    async def read(self, size: int, pos: int) -> bytes | OSError:
        """Copy out what is left, then what a session gives. Linux: ``seq_read_iter``."""
        if pos == 0:
            self._rewind()
        if pos != self._read_pos:
            error = await self._seek(pos)
            if error is not None:
                return error
        data = self._take(size)
        error = None
        # Also when *data* is all that was asked for: the record after it is then fetched ahead.
        if self._from == len(self._buffer):
            error = await self._fill(size - len(data))
            data += self._take(size - len(data))
        if error is not None and not data:
            return error
        self._read_pos += len(data)
        return data

    async def lseek(self, offset: int, whence: int) -> int | OSError:
        """Set the position. Linux: ``seq_lseek``."""
        if whence == SEEK_CUR:
            offset += self.file.pos
        elif whence != SEEK_SET:
            return OSError(EINVAL, f"cannot lseek: SEEK_SET or SEEK_CUR only, not {whence}")
        if not 0 <= offset <= _MAX_POS:
            return OSError(EINVAL, f"cannot lseek to {offset}: want 0 to {_MAX_POS}")
        if offset != self._read_pos:
            error = await self._seek(offset)
            if error is not None:
                self.file.pos = 0
                return error
        self.file.pos = offset
        return offset

    # -- the buffer -----------------------------------------------------------------------------

    def _drop(self) -> None:
        """Begin with an empty buffer."""
        self._buffer = bytearray()
        self._from = 0
        self._overflowed = False

    def _cut(self, length: int) -> None:
        """Take back what was added after *length* bytes."""
        del self._buffer[length:]
        self._overflowed = False

    def _rewind(self) -> None:
        """Begin with the first record."""
        self._drop()
        self.index = 0

    def _take(self, size: int) -> bytes:
        """Give out up to *size* bytes."""
        data = bytes(self._buffer[self._from : self._from + size])
        self._from += len(data)
        return data

    def _grow(self) -> OSError | None:
        """Double the buffer, which loses what is in it."""
        self._drop()
        self._size *= 2
        if self._size <= MAX_BUFFER:
            return None
        # As after a failed allocation: whoever reads next begins with one page again.
        self._size = 0
        name = name_of(self._ops.show)
        return OSError(ENOMEM, f"record of show= handler {name} needs more than {MAX_BUFFER} bytes")

    # -- sessions: start .. stop ----------------------------------------------------------------

    async def _seek(self, offset: int) -> OSError | None:
        """Get the bytes from *offset* on into the buffer's end; after an error, stand at 0."""
        error = await self._traverse(offset)
        if error is None:
            self._read_pos = offset
        else:
            self._rewind()
            self._read_pos = 0
        return error

    async def _traverse(self, offset: int) -> OSError | None:
        """Start anew until a session gets to *offset*. Linux: ``traverse``."""
        again, error = offset > 0, None
        self._rewind()
        while again:
            again, error = await self._session(self._walk, offset)
            if again:
                self._rewind()
        return error

    async def _fill(self, room: int) -> OSError | None:
        """Get at least one record into the empty buffer, and more if *room* bytes want more."""
        again, error = True, None
        self._drop()
        while again:
            again, error = await self._session(self._gather, room)
        if error is not None:
            self._drop()
        return error

    async def _session(
        self, body: Callable[[int], Coroutine[Any, Any, OSError | None]], amount: int
    ) -> tuple[bool, OSError | None]:
        """Run *body* between start and stop. True: something did not fit, but now it might."""
        self._size = self._size or PAGE_SIZE
        try:
            self._item = await self._ops._calls.start(self, self.index)
            error = await body(amount)
        except OSError as exc:
            error = exc
        except BaseException as exc:
            with anyio.CancelScope(shield=True):
                await self._stop(exc)
            raise
        # Before stop, whose output must not be mistaken for the record's.
        found, again = bool(self._buffer), self._overflowed and error is None
        await self._stop(error)
        if again:
            error = self._grow()
        elif not found:
            self._drop()
        return again and error is None, error

    async def _stop(self, error: BaseException | None) -> None:
        """Call stop; what it raises adds to *error*, if there is one, and does not replace it."""
        item, self._item = self._item, None
        try:
            await self._ops._calls.stop(self, item)
        except Exception as late:
            if error is None:
                raise
            error.add_note(f"stop= handler {name_of(self._ops.stop)} then raised {late!r}")

    async def _walk(self, offset: int) -> OSError | None:
        """Show records until *offset* bytes have gone by; keep what of the last one has not."""
        passed, error = 0, None
        while self._item is not None:
            result = await self._ops._calls.show(self, self._item)
            if result is not None and self._is_skip(result):
                self._drop()
            if self._overflowed:
                return None
            # Before the record is split: index must not point at one of which a part is read.
            error = await self._advance()
            length = len(self._buffer)
            if passed + length > offset:
                self._from = offset - passed
                return None
            self._drop()
            passed += length
            if passed == offset:
                return None
        return error

    async def _gather(self, room: int) -> OSError | None:
        """Show records up to the first that is not empty, then those that come with it."""
        error = None
        while self._item is not None:
            result = await self._ops._calls.show(self, self._item)
            if result is not None and self._is_skip(result):
                self._drop()
            if self._overflowed:
                return None
            if self._buffer:
                await self._append(room)
                self._overflowed = False  # by next, whose text is not worth losing records for
                return None
            error = await self._advance()
        self._drop()
        return error

    async def _append(self, room: int) -> None:
        """Add whole records until *room* bytes are there, or one fails: the next read tries it."""
        calls = self._ops._calls
        while True:
            length, index = len(self._buffer), self.index
            await self._advance()  # an error just ends the batch
            if self.index == index:
                self._ops._warn_stuck()
                self.index += 1
            if self._item is None or len(self._buffer) >= room:
                return
            try:
                result = await calls.show(self, self._item)
            except OSError:
                self._cut(length)
                return
            if result is not None and self._is_skip(result):
                self._cut(length)
            elif self._overflowed:
                self._cut(length)
                return

    def _is_skip(self, result: object) -> bool:
        """Tell whether show wants the record left out."""
        if type(result) is not int or result not in (0, SEQ_SKIP):
            want = "None or SEQ_SKIP; write the record with m.puts(), raise OSError for an error"
            raise nonsense(self._ops.show, "show", result, want)
        return result == SEQ_SKIP

    async def _advance(self) -> OSError | None:
        """Call next. One that fails counts as having moved, as it must in Linux."""
        item, self._item = self._item, None
        try:
            result = await self._ops._calls.next(self, item, self.index)
        except OSError as error:
            self.index += 1
            return error
        if not _is_step(result):
            want = "(the next item or None, its position)"
            raise nonsense(self._ops.next, "next", result, want)
        self._item, self.index = result
        return None


def _is_step(result: object) -> bool:
    if not isinstance(result, tuple):
        return False
    step = cast("tuple[object, ...]", result)
    return len(step) == 2 and isinstance(step[1], int)


def seq_open(file: SeqOwner, ops: SeqOps) -> SeqFile:
    """
    Make *file* a seq file. Not a checkpoint.

    Returns:
        Its :class:`SeqFile`, which is also ``file.private_data`` now.

    Raises:
        RuntimeError: ``file.private_data`` is in use already; Linux warns and loses it.

    Linux: ``seq_open``.
    """
    if file.private_data is not None:
        msg = f"seq_open() needs file.private_data for itself, but it is {file.private_data!r:.100}"
        raise RuntimeError(msg)
    m = _SeqReader(file, ops)
    file.private_data = m
    return m


async def seq_read(file: SeqOwner, size: int, pos: int) -> bytes:
    """
    Read from a seq file: what is left of the last record shown, then whole records.

    Not a checkpoint by itself: it waits only where a handler does, or while another task reads
    or seeks the same open file. Cancellation undoes the read: the same bytes come next time.

    Args:
        size: Most bytes to return, >= 0. With 0 no handler is called.
        pos: Where to read, in bytes from the beginning, >= 0. Elsewhere than where the last read
            ended, all records before it are shown again.

    Returns:
        0 to *size* bytes, about one buffer (4096 bytes, or one larger record) at most.
        ``b""`` is end of file, if *size* was not 0. The caller advances the position.

    Raises:
        OSError: ``ENOMEM``: a record of 1 GiB or more; else what a handler raised. Nothing
            was read; in a read elsewhere, the next one finds that it must walk from the beginning.
        TypeError: A handler returned nonsense; *file* is not a seq file.

    Linux: ``seq_read_iter``.
    """
    if size <= 0:
        return b""
    m = seq_file_of(file, _SeqReader)
    return await m.exclusive(m.read, size, pos)


async def seq_lseek(file: SeqOwner, offset: int, whence: int) -> int:
    """
    Set the position of a seq file, walking its records up to there.

    A checkpoint as :func:`seq_read` is. Cancellation leaves the position where it was.

    Args:
        offset: In bytes. Beyond the end is no error: reads there find the end of file.
        whence: ``os.SEEK_SET`` or ``os.SEEK_CUR``. There is no end to count from.

    Returns:
        The new position, >= 0; *file.pos* is set to it.

    Raises:
        OSError: ``EINVAL``: another *whence*, or a position below 0 or above 2**63 - 1;
            ``ENOMEM`` as for :func:`seq_read`; else what a handler raised: *file.pos* is then 0.
        TypeError: A handler returned nonsense; *file* is not a seq file.

    Linux: ``seq_lseek``.
    """
    m = seq_file_of(file, _SeqReader)
    return await m.exclusive(m.lseek, offset, whence)
