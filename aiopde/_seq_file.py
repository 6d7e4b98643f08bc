"""
Files made of records: four handlers that walk them, and a buffer that cuts them into reads.

The order of the handlers' calls is that of fs/seq_file.c (Linux 6.1), to the letter: who ports a
driver's iterator finds it called as the kernel calls it.

Two kinds of failure are kept apart. An ``OSError`` of a handler is what the kernel's handlers
return: it has the kernel's consequences, and travels through this file as a value. Anything else
(a cancellation, a bug) has no counterpart there: the read or seek is undone and the exception
goes to the caller.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from dataclasses import dataclass, field
from errno import EINVAL, ENOMEM
from os import SEEK_CUR, SEEK_SET
from types import AsyncGeneratorType, CoroutineType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, cast, final

import anyio

from ._mutex import Mutex
from ._ops import accepts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine

    StartHandler = Callable[["SeqFile", int], Any]
    NextHandler = Callable[["SeqFile", Any, int], Awaitable[tuple[Any, int]] | tuple[Any, int]]
    StopHandler = Callable[["SeqFile", Any], object]
    ShowHandler = Callable[["SeqFile", Any], Awaitable[int | None] | int | None]
    ShowAllHandler = Callable[["SeqFile"], Awaitable[int | None] | int | None]
    TextHandler = Callable[[], Awaitable[str | bytes] | str | bytes]

    _Coroutines = Callable[..., Coroutine[Any, Any, Any]]

_T = TypeVar("_T")

SEQ_SKIP: Final = 1
"""What show returns to leave a record out after all, whatever it has written."""
PAGE_SIZE: Final = 4096
"""The size of a buffer at first, in bytes."""
MAX_BUFFER: Final = 0x7FFFF000
"""The size a buffer never exceeds, in bytes: MAX_RW_COUNT, the guard of CVE-2021-33909."""
_MAX_POS: Final = (1 << 63) - 1
_PARAMETERS: Final = {
    "start": ("m", "pos"),
    "next": ("m", "item", "pos"),
    "stop": ("m", "item"),
    "show": ("m", "item"),
}


class SeqOwner(Protocol):
    """The open file (``struct file``), as far as it matters here."""

    private_data: Any
    pos: int


class _Calls(NamedTuple):
    start: _Coroutines
    next: _Coroutines
    stop: _Coroutines
    show: _Coroutines


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeqOps:
    """
    The four handlers of a file made of records; fixed from the moment it is made.

    Each is a coroutine function or a plain function. Between *start* and *stop* no other call on
    the same open file gets in. Every read walks anew from the position it stopped at, so nothing
    needs to be kept between reads; other open files walk at the same time.

    One table may serve any number of entries. Handlers report an error by raising ``OSError``.
    It reaches the caller, unless the read had bytes to return already: those are returned, and
    the error comes up again in the next read.

    Args:
        start: ``(m, pos) -> item | None``. The item at *pos*, which is 0 or a position *next*
            gave; None is the end. Any object may be an item.
        next: ``(m, item, pos) -> (item | None, pos)``. The item after *item* and its position,
            which must differ from *pos*, also at the end.
        stop: ``(m, item | None) -> None``. Exactly once for each *start*, also after one that
            failed or was cancelled; *item* is the last one, None at the end or after an error of
            *start* or *next*. After an exception it is shielded from cancellation; otherwise it
            is not, so let what it must give back not come after an await.
        show: ``(m, item) -> None | SEQ_SKIP``. Writes the record to *m*. It is called again
            for the same item if that did not fit, so it should change nothing.

    Raises:
        TypeError: Something that cannot be called like that was passed; the message shows
            the right call.

    Linux: ``struct seq_operations``.
    """

    start: StartHandler
    next: NextHandler
    stop: StopHandler
    show: ShowHandler

    calls: _Calls = field(init=False, repr=False)
    """The same handlers, each of them a coroutine function."""
    release: Callable[[SeqOwner], object] = field(init=False, repr=False)
    """What gives back what reading such a file has acquired: the release handler to use."""
    warned: bool = field(default=False, init=False, repr=False)
    """Whether the warning about a *next* that stays where it is was given."""

    def __post_init__(self) -> None:
        calls = [
            _coroutine_function("SeqOps", name, getattr(self, name), parameters)
            for name, parameters in _PARAMETERS.items()
        ]
        object.__setattr__(self, "calls", _Calls(*calls))
        object.__setattr__(self, "release", seq_release)

    def warn_stuck(self) -> None:
        """Say once that *next* did not move the position. Not a checkpoint."""
        if self.warned:
            return
        object.__setattr__(self, "warned", True)
        name = _name(self.next)
        text = f"buggy next= handler {name} did not change the position: return (item, pos + 1)"
        warnings.warn(text, RuntimeWarning, stacklevel=2)


class SeqFile:
    """
    What the handlers of a seq file write to, one for each open file: ``struct seq_file``.

    Made by opening the file. Handlers get it as their first argument, *m*.
    """

    __slots__ = ("_buffer", "_overflowed", "_size", "file", "index", "private")

    file: Any  # This layer knows no more of it than SeqOwner, but the handlers do.
    """The open file. Several tasks, and several descriptors, may share it."""
    private: Any
    """For the handlers; None at first. The front ends of this module keep theirs here."""
    index: int
    """The position of the next record to show, as *start* and *next* count."""

    def __init__(self, file: SeqOwner) -> None:
        self.file = file
        self.private = None
        self.index = 0
        self._buffer = bytearray()
        # Linux allocates this much; here it only says when a buffer is full. 0: none allocated.
        self._size = 0
        self._overflowed = False

    @property
    def overflowed(self) -> bool:
        """Whether something did not fit: show may return early, it will be called again."""
        return self._overflowed

    def puts(self, text: str | bytes) -> None:
        """
        Add text to the record. Not a checkpoint.

        Args:
            text: ``str`` is encoded as UTF-8, with surrogate escapes (as names from the ``os``
                module have them) turned back into their bytes.

        Raises:
            TypeError: *text* is something else.

        Linux: ``seq_puts``.
        """
        self.write(text if isinstance(text, bytes) else _encode("puts()", text))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """
        Add bytes to the record; if they do not all fit, none is added and the record overflows.

        A buffer counts as full while one byte is still free. Not a checkpoint.

        Linux: ``seq_write``.
        """
        if not isinstance(data, bytes):
            data = bytes(memoryview(data))
        if self._overflowed or len(self._buffer) + len(data) >= self._size:
            self._overflowed = True
        else:
            self._buffer += data


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
        name = _name(self._ops.show)
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
            self._item = await self._ops.calls.start(self, self.index)
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
            await self._ops.calls.stop(self, item)
        except Exception as late:
            if error is None:
                raise
            error.add_note(f"stop= handler {_name(self._ops.stop)} then raised {late!r}")

    async def _walk(self, offset: int) -> OSError | None:
        """Show records until *offset* bytes have gone by; keep what of the last one has not."""
        passed, error = 0, None
        while self._item is not None:
            result = await self._ops.calls.show(self, self._item)
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
            result = await self._ops.calls.show(self, self._item)
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
        calls = self._ops.calls
        while True:
            length, index = len(self._buffer), self.index
            await self._advance()  # an error just ends the batch
            if self.index == index:
                self._ops.warn_stuck()
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
            raise _nonsense(self._ops.show, "show", result, want)
        return result == SEQ_SKIP

    async def _advance(self) -> OSError | None:
        """Call next. One that fails counts as having moved, as it must in Linux."""
        item, self._item = self._item, None
        try:
            result = await self._ops.calls.next(self, item, self.index)
        except OSError as error:
            self.index += 1
            return error
        if not _is_step(result):
            want = "(the next item or None, its position)"
            raise _nonsense(self._ops.next, "next", result, want)
        self._item, self.index = result
        return None


# -- the handlers of the file -------------------------------------------------------------------


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
    m = _seq_file(file)
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
    m = _seq_file(file)
    return await m.exclusive(m.lseek, offset, whence)


def seq_release(file: SeqOwner) -> None:
    """
    Give back what :func:`seq_open` has made. Not a checkpoint.

    Linux: ``seq_release``.
    """
    _seq_file(file)
    file.private_data = None


async def records_release(file: SeqOwner) -> None:
    """
    The same for a file of :func:`records`: its generator is closed.

    A checkpoint only if the generator awaits in a ``finally``. Cancellation interrupts that,
    and leaves the generator closed.

    Linux: ``seq_release_private``.
    """
    cursor: _Cursor | None = _seq_file(file).private
    seq_release(file)
    if cursor is not None:
        await cursor.generator.aclose()


def _seq_file(file: SeqOwner) -> _SeqReader:
    m = file.private_data
    if not isinstance(m, _SeqReader):
        msg = f"{file!r} is no seq file: the open handler has to call seq_open(file, ops)"
        raise TypeError(msg)
    return m


# -- easier ways to say it ----------------------------------------------------------------------


def single(show: ShowAllHandler | TextHandler) -> SeqOps:
    """
    Make the handlers of a file that is one record.

    What one pass through the file reads is one snapshot: *show* runs when the first byte is
    read, and again after a rewind. It runs again too, from its beginning, if it wrote more than
    fits: with each doubling from 4096 bytes on.

    Args:
        show: ``async def show(m)``, which writes to *m*, or ``async def show()``, which returns
            the whole text as ``str`` or ``bytes``. Which of them it is, its parameters say:
            a function that can be called with *m* is.

    Raises:
        TypeError: It can be called neither way.

    Linux: ``single_open``.
    """
    takes_m = accepts(show, ("m",)) or not accepts(show, ())
    parameters = ("m",) if takes_m else ()
    call = _coroutine_function("single", "show", show, parameters)

    async def start(m: SeqFile, pos: int) -> object:
        return _ONE if pos == 0 else None

    async def step(m: SeqFile, item: object, pos: int) -> tuple[None, int]:
        return None, pos + 1

    async def stop(m: SeqFile, item: object) -> None:
        pass

    async def show_all(m: SeqFile, item: object) -> Any:
        return await call(m)

    async def show_text(m: SeqFile, item: object) -> None:
        text = await call()
        if not isinstance(text, (str, bytes)):
            raise _nonsense(show, "show", text, "str or bytes; to write to m, take it: show(m)")
        m.puts(text)

    shown = show_all if takes_m else show_text
    shown.__qualname__ = _name(show)  # errors should name the user's function
    return SeqOps(start=start, next=step, stop=stop, show=shown)


_ONE: Final = object()


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
    _check("records", "function", function, ())
    if not _is(inspect.isasyncgenfunction, function):
        want = _want("records", "function", ())
        msg = f"{want} that yields its records; {_name(function)} is no async generator function"
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
    object.__setattr__(ops, "release", records_release)
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
            return _encode("yield", record)
        name = _name(self.function)
        msg = f"records() generator {name} yielded {record!r:.100}: yield str or bytes"
        raise TypeError(msg)


# -- what is passed and returned ----------------------------------------------------------------


def _nonsense(handler: object, op: str, got: object, want: str) -> TypeError:
    """Make the error of a handler that returned what cannot be used; the one place it is made."""
    if isinstance(got, CoroutineType):
        got.close()  # or Python warns that nobody awaited it
        want = f"{want} (is it an async function behind a plain one?)"
    return TypeError(f"{op}= handler {_name(handler)} returned {got!r:.100}: it must return {want}")


def _encode(where: str, text: object) -> bytes:
    if not isinstance(text, str):
        msg = f"{where} wants str or bytes, got {text!r:.100}"
        raise TypeError(msg)
    return text.encode("utf-8", "surrogateescape")


def _is_step(result: object) -> bool:
    if not isinstance(result, tuple):
        return False
    step = cast("tuple[object, ...]", result)
    return len(step) == 2 and isinstance(step[1], int)


def _coroutine_function(
    owner: str, op: str, handler: object, parameters: tuple[str, ...]
) -> _Coroutines:
    """Check a handler and make it a coroutine function, once, so that no call has to ask."""
    _check(owner, op, handler, parameters)
    function = cast("Callable[..., Any]", handler)
    if _is(inspect.iscoroutinefunction, function):
        return function

    async def call(*args: object) -> Any:
        result = function(*args)
        if isinstance(result, CoroutineType):
            raise _nonsense(function, op, cast("object", result), "no coroutine")
        return result

    return call


def _check(owner: str, op: str, handler: object, parameters: tuple[str, ...]) -> None:
    want = _want(owner, op, parameters)
    if isinstance(handler, (CoroutineType, AsyncGeneratorType)):
        if isinstance(handler, CoroutineType):
            handler.close()
        msg = f"{want}; pass {handler.__name__}, not {handler.__name__}()"
        raise TypeError(msg)
    if isinstance(handler, type) or not callable(handler):
        msg = f"{want}; got {handler!r:.100}"
        raise TypeError(msg)
    if owner != "records" and _is_generator_function(handler):
        msg = f"{want}; {_name(handler)} is a generator: return instead of yielding"
        raise TypeError(msg)
    if not accepts(handler, parameters):
        msg = f"{want}; {_name(handler)} takes {inspect.signature(handler)}"
        raise TypeError(msg)


def _want(owner: str, op: str, parameters: tuple[str, ...]) -> str:
    return f"{owner}({op}=...) wants an async function: async def {op}({', '.join(parameters)})"


def _is_generator_function(handler: object) -> bool:
    return _is(inspect.isasyncgenfunction, handler) or _is(inspect.isgeneratorfunction, handler)


def _is(predicate: Callable[[object], bool], handler: Any) -> bool:
    """Ask about a function, or about the ``__call__`` of an object that has one."""
    return predicate(handler) or predicate(handler.__call__)


def _name(handler: object) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)
