"""The handlers of an entry, checked once and then fixed (struct proc_ops)."""

from __future__ import annotations

import dis
import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, final

from ._check import check_bool
from ._handlers import check_handler, is_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ._open_file import File

    OpenHandler = Callable[[File], Awaitable[None] | None]
    ReadHandler = Callable[[File, int, int], Awaitable[bytes] | bytes]
    WriteHandler = Callable[[File, bytes, int], Awaitable[int] | int]
    LseekHandler = Callable[[File, int, int], Awaitable[int] | int]
    PollHandler = Callable[[File], Awaitable[int] | int]
    IoctlHandler = Callable[[File, int, Any], Awaitable[int] | int]
    MmapHandler = Callable[[File, int, int, int], Awaitable[object] | object]
    ReleaseHandler = Callable[[File], object]

PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("file",),
    "read": ("file", "size", "pos"),
    "read_iter": ("file", "size", "pos"),
    "write": ("file", "data", "pos"),
    "lseek": ("file", "offset", "whence"),
    "poll": ("file",),
    "ioctl": ("file", "cmd", "arg"),
    "compat_ioctl": ("file", "cmd", "arg"),
    "mmap": ("file", "length", "prot", "flags"),
    "release": ("file",),
}
"""What each handler is called with."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProcOps:
    """
    The handlers of a file entry; fixed from the moment it is made.

    Each is a coroutine function or a plain function, or None for what the file cannot do:
    the call then gets the answer procfs gives (``EIO`` for read and write, ``ESPIPE`` for lseek,
    ``ENOTTY`` for ioctl; poll says readable and writable; open and release just succeed).
    A plain function is never waited for by a removal, because nothing can run beside it. (What it
    starts eagerly, as with ``asyncio.eager_task_factory``, may remove the entry, but with
    *fast_acquire* must not close the file.)

    One table may serve any number of entries. Handlers get the open :class:`File` first;
    an ``OSError`` they raise reaches the caller unchanged, as does any other exception.

    Args:
        open: ``(file) -> None``. Its success makes the file; an error means it never was open.
        read: ``(file, size, pos) -> bytes``. 0 to *size* bytes; ``b""`` is end of file.
            The position advances by what was returned.
        read_iter: Like *read*, and preferred to it: ``readv`` is then one call, not one a buffer.
        write: ``(file, data, pos) -> int``. How many bytes were taken, 0 to ``len(data)``.
        lseek: ``(file, offset, whence) -> int``. The new position, >= 0.
        poll: ``(file) -> int``. What is ready now, of ``select.POLLIN`` and its like.
        ioctl: ``(file, cmd, arg) -> int``.
        compat_ioctl: The same for :meth:`ProcFile.compat_ioctl`.
        mmap: ``(file, length, prot, flags) -> object``. Anything; the caller gets it in a
            :class:`Mapping`.
        release: ``(file) -> None``. Exactly once for each open that succeeded: at the last close,
            or by the removal if the file is still open then. Its result is ignored.
        permanent: The entry can never be removed (``PROC_ENTRY_PERMANENT``), except with the
            whole tree.

    Raises:
        TypeError: Something that cannot be called like that was passed; the message shows
            the right call.
    """

    open: OpenHandler | None = None
    read: ReadHandler | None = None
    read_iter: ReadHandler | None = None
    write: WriteHandler | None = None
    lseek: LseekHandler | None = None
    poll: PollHandler | None = None
    ioctl: IoctlHandler | None = None
    compat_ioctl: IoctlHandler | None = None
    mmap: MmapHandler | None = None
    release: ReleaseHandler | None = None
    permanent: bool = False

    _reader: Any = field(init=False, repr=False)
    """What serves a read: *read_iter* if there is one, else *read*."""
    _reader_name: str = field(init=False, repr=False)
    _writer: Any = field(init=False, repr=False)
    """What serves a write: *write*. Untyped like *reader*: which kind it is, was chosen."""
    _awaited: frozenset[str] = field(init=False, repr=False)
    """Which of the handlers are coroutine functions."""
    _release_suspends: bool = field(init=False, repr=False)
    """Whether the release handler might wait for something, and so needs a shield."""
    _open_awaited: bool = field(init=False, repr=False)
    _release_awaited: bool = field(init=False, repr=False)
    _quick_to_read: bool = field(init=False, repr=False)
    """Whether those of open, reader and release that there are, can be awaited one by one."""
    _seq: Any = field(default=None, init=False, repr=False)
    """The records behind a seq file (the kernel keeps them in a union with proc_ops)."""
    _handles: dict[Any, Any] = field(default_factory=dict[Any, Any], init=False, repr=False)
    """The classes of its open files, made when first needed: see _descriptor.handle_class."""
    _quick_handles: dict[int, Any] = field(default_factory=dict[int, Any], init=False, repr=False)
    """Those among them that ProcFS.open() needs not think about, by the flags of the open."""

    def __post_init__(self) -> None:
        handlers = {op: getattr(self, op) for op in PARAMETERS}
        check_bool("permanent", self.permanent)
        given = {op: handler for op, handler in handlers.items() if handler is not None}
        for op, handler in given.items():
            check_handler("ProcOps", op, handler, PARAMETERS[op])
        awaited = frozenset(op for op, handler in given.items() if is_async(handler))
        suspends = "release" in awaited and may_suspend(self.release)
        reader_name = "read" if self.read_iter is None else "read_iter"
        object.__setattr__(self, "_reader_name", reader_name)
        object.__setattr__(self, "_reader", getattr(self, reader_name))
        object.__setattr__(self, "_writer", self.write)
        object.__setattr__(self, "_awaited", awaited)
        object.__setattr__(self, "_release_suspends", suspends)
        object.__setattr__(self, "_open_awaited", "open" in awaited)
        object.__setattr__(self, "_release_awaited", "release" in awaited)
        there = {"open", reader_name, "release"} & given.keys()
        quick = reader_name in there and there <= awaited and not suspends
        object.__setattr__(self, "_quick_to_read", quick)

    @classmethod
    def of(cls, handlers: object, *, permanent: bool = False) -> Self:
        """
        Take the methods of an object for handlers: those named like the fields above.

        Args:
            handlers: An instance; its state lives as long as the table does.
            permanent: As for :class:`ProcOps`.

        Raises:
            TypeError: A class was passed instead of an instance, or nothing in it is a handler.
        """
        if isinstance(handlers, type):
            name = handlers.__name__
            msg = f"ProcOps.of() wants an instance: pass {name}(), not {name}"
            raise TypeError(msg)
        found = {op: getattr(handlers, op) for op in PARAMETERS if hasattr(handlers, op)}
        if not found:
            names = ", ".join(PARAMETERS)
            msg = f"{handlers!r} has no handler: give it a method named one of {names}"
            raise TypeError(msg)
        return cls(**found, permanent=permanent)


def may_suspend(handler: object) -> bool:
    """
    Tell whether a coroutine function might wait for something.

    False is certain: a body that contains no await (nor ``async for``, ``async with``) cannot be
    interrupted, so it needs no shield against cancellation, which costs more than all the rest of
    a close. Anything that cannot be looked into counts as True.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    code = getattr(getattr(handler, "__func__", handler), "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        return True
    return any(i.opname == "SEND" for i in dis.get_instructions(code))


NO_OPS: Final = ProcOps()
"""The table of what has no handlers: directories and symlinks."""
