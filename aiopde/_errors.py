"""The errors of this package: ``OSError``s with the errno Linux gives."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, EIO, ENOENT, ENOTTY
from typing import Final, NoReturn, Self, cast, final

# What the proc_reg_* functions of fs/proc/inode.c answer once removal has begun.
# Callers written for /proc already handle these, so they are kept to the letter.
_ERRNO_WHEN_REMOVED: Final = {
    "open": ENOENT,
    "readlink": EINVAL,
    "lseek": EINVAL,
    "ioctl": ENOTTY,
    "compat_ioctl": ENOTTY,
}


class EntryRemovedError(OSError):
    """
    Removal had begun before this call did; *errno* is the one Linux gives.

    ``ENOENT`` for open (then it is a :class:`FileNotFoundError` too), ``EINVAL`` for lseek and
    readlink, ``ENOTTY`` for ioctl, ``EIO`` for everything else. *call* names the refused
    operation, *filename* the entry.
    """

    def __new__(cls, call: str, path: str) -> Self:
        """Make it: with a ``__new__`` of its own, this is where OSError takes its arguments."""
        errno = _ERRNO_WHEN_REMOVED.get(call, EIO)
        kind = _EntryNotFoundError if errno == ENOENT else cls
        return cast("Self", OSError.__new__(kind, errno, f"cannot {call}: removal has begun", path))

    def __init__(self, call: str, path: str) -> None:
        self.call = call

    def __reduce__(self) -> tuple[type[EntryRemovedError], tuple[str, str]]:
        # OSError pickles its own three arguments; ours are others.
        return EntryRemovedError, (self.call, self.filename)


@final
class _EntryNotFoundError(EntryRemovedError, FileNotFoundError):
    """The same where Python has a class for the errno: callers may look for that one."""


_EntryNotFoundError.__name__ = EntryRemovedError.__name__  # what a traceback shows


@final
class HandlerError(OSError):
    """
    A handler returned what no caller can use: a mistake of the handler's author.

    Linux passes such a value on. Here it is an error of that one call (``EINVAL`` for open,
    as in Linux, ``EIO`` for the others) that says which handler and what it returned.
    """

    def __init__(self, call: str, path: str, why: str) -> None:
        super().__init__(EINVAL if call == "open" else EIO, why, path)
        self.call = call

    def __reduce__(self) -> tuple[type[HandlerError], tuple[str, str, str]]:
        return HandlerError, (self.call, self.filename, self.strerror or "")


class Unique:
    """What is counted where it is: of a copy nobody would know, and a removal not wait for it."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        """Refuse ``copy.copy``, ``copy.deepcopy`` and ``pickle``, which all come by here."""
        msg = f"{self!r} cannot be copied or pickled: pass it on as it is, or what you need of it"
        raise TypeError(msg)


def error(errno: int, path: str, why: str = "") -> OSError:
    """Make the ``OSError`` for *errno*; *why* says more than the standard text does."""
    text = os.strerror(errno)
    return OSError(errno, f"{text}: {why}" if why else text, path)


def bad_file(call: str) -> OSError:
    """Make the error of a call on a closed file, or one not opened for it."""
    return OSError(EBADF, f"cannot {call}: the file is closed, or not open for that")
