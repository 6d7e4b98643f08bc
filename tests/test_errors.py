"""The errors: each an OSError with Linux's errno, which says what was refused, why, and where."""

import copy
import pickle
from errno import EBADF, EINVAL, EIO, ENOENT, ENOTTY

import pytest

from aiopde import EntryRemovedError, HandlerError
from aiopde._errors import bad_file, error


class TestEntryRemovedError:
    @pytest.mark.parametrize(
        ("call", "errno"),
        [
            ("open", ENOENT),
            ("read", EIO),
            ("write", EIO),
            ("mmap", EIO),
            ("lseek", EINVAL),
            ("readlink", EINVAL),
            ("ioctl", ENOTTY),
            ("compat_ioctl", ENOTTY),
        ],
    )
    def test_has_the_errno_linux_gives(self, call: str, errno: int) -> None:
        """
        A caller written for /proc finds the errno it knows.
        """
        assert EntryRemovedError(call, "/proc/x").errno == errno

    def test_says_what_why_and_where(self) -> None:
        """
        It names the refused call, the reason and the entry.
        """
        exc = EntryRemovedError("read", "/proc/x")
        assert (exc.call, exc.filename) == ("read", "/proc/x")
        assert str(exc) == f"[Errno {EIO}] cannot read: removal has begun: '/proc/x'"

    def test_is_an_oserror(self) -> None:
        """
        ``except OSError`` catches it.
        """
        assert isinstance(EntryRemovedError("read", "/proc/x"), OSError)

    def test_survives_being_copied(self) -> None:
        """
        A copy, as made for another process, says the same.
        """
        exc = EntryRemovedError("lseek", "/proc/x")
        for other in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):  # noqa: S301
            assert type(other) is EntryRemovedError
            assert (other.call, str(other)) == ("lseek", str(exc))


class TestHandlerError:
    @pytest.mark.parametrize(
        ("call", "errno"), [("open", EINVAL), ("read", EIO), ("write", EIO), ("lseek", EIO)]
    )
    def test_is_eio_except_for_open(self, call: str, errno: int) -> None:
        """
        A handler's nonsense is EINVAL for open, as in Linux, and EIO for any other call.
        """
        assert HandlerError(call, "/proc/x", "nonsense").errno == errno

    def test_says_what_why_and_where(self) -> None:
        """
        It names the call, what the handler did, and the entry.
        """
        exc = HandlerError("read", "/proc/x", "the read handler f returned 7")
        assert (exc.call, exc.filename) == ("read", "/proc/x")
        assert str(exc) == f"[Errno {EIO}] the read handler f returned 7: '/proc/x'"

    def test_survives_being_copied(self) -> None:
        """
        A copy says the same.
        """
        exc = HandlerError("open", "/proc/x", "nonsense")
        other = pickle.loads(pickle.dumps(exc))  # noqa: S301
        assert type(other) is HandlerError
        assert (other.call, str(other)) == ("open", str(exc))


class TestOtherErrors:
    def test_is_the_class_python_has_for_the_errno(self) -> None:
        """
        ``except FileNotFoundError`` and its like work as for real files.
        """
        exc = error(ENOENT, "/proc/x")
        assert type(exc) is FileNotFoundError
        assert (exc.strerror, exc.filename) == ("No such file or directory", "/proc/x")

    def test_may_say_more(self) -> None:
        """
        The standard text comes first, then what it means here.
        """
        exc = error(EINVAL, "/proc/x", "the size must be >= 0")
        assert str(exc) == f"[Errno {EINVAL}] Invalid argument: the size must be >= 0: '/proc/x'"

    def test_bad_file_names_the_call(self) -> None:
        """
        A call on a file that is closed says which call it was.
        """
        exc = bad_file("lseek")
        assert exc.errno == EBADF
        assert "cannot lseek" in str(exc)
