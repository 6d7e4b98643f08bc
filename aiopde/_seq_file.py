"""
Files made of records: their four handlers, and what these write to (linux/seq_file.h).

Reads, which call the handlers, are in _seq_read.py; easier ways to say it in _single.py and
_records.py.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar, final

from ._handlers import coroutine_function, encode, name_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._handlers import Coroutines

    StartHandler = Callable[["SeqFile", int], Any]
    NextHandler = Callable[["SeqFile", Any, int], Awaitable[tuple[Any, int]] | tuple[Any, int]]
    StopHandler = Callable[["SeqFile", Any], object]
    ShowHandler = Callable[["SeqFile", Any], Awaitable[int | None] | int | None]
    ShowAllHandler = Callable[["SeqFile"], Awaitable[int | None] | int | None]
    TextHandler = Callable[[], Awaitable[str | bytes] | str | bytes]

_SeqFile = TypeVar("_SeqFile", bound="SeqFile")

SEQ_SKIP: Final = 1
"""What show returns to leave a record out after all, whatever it has written."""
PARAMETERS: Final = {
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
    start: Coroutines
    next: Coroutines
    stop: Coroutines
    show: Coroutines


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

    _calls: _Calls = field(init=False, repr=False)
    """The same handlers, each of them a coroutine function."""
    _release: Callable[[SeqOwner], object] = field(init=False, repr=False)
    """What gives back what reading such a file has acquired: the release handler to use."""
    _warned: bool = field(default=False, init=False, repr=False)
    """Whether the warning about a *next* that stays where it is was given."""

    def __post_init__(self) -> None:
        calls = [
            coroutine_function("SeqOps", name, getattr(self, name), parameters)
            for name, parameters in PARAMETERS.items()
        ]
        object.__setattr__(self, "_calls", _Calls(*calls))
        object.__setattr__(self, "_release", seq_release)

    def _warn_stuck(self) -> None:
        """Say once that *next* did not move the position. Not a checkpoint."""
        if self._warned:
            return
        object.__setattr__(self, "_warned", True)
        name = name_of(self.next)
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
        self.write(text if isinstance(text, bytes) else encode("puts()", text))

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


def seq_release(file: SeqOwner) -> None:
    """
    Give back what :func:`seq_open` has made. Not a checkpoint.

    Linux: ``seq_release``.
    """
    seq_file_of(file, SeqFile)
    file.private_data = None


def seq_file_of(file: SeqOwner, kind: type[_SeqFile]) -> _SeqFile:
    """Return what seq_open() has made of an open file; ``TypeError`` if it has not."""
    m = file.private_data
    if not isinstance(m, kind):
        msg = f"{file!r} is no seq file: the open handler has to call seq_open(file, ops)"
        raise TypeError(msg)
    return m
