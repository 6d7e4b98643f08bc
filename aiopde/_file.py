"""A file descriptor: the calls a user makes on an open file (the proc_reg_* functions)."""

from __future__ import annotations

import mmap as mmap_module
import os
import select
import stat
from errno import EACCES, EINVAL, EIO, ENOTDIR
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
from anyio.abc import AsyncResource

from . import _read_write
from ._check import check_int, check_seconds
from ._credentials import ROOT
from ._errors import Unique, bad_file, error
from ._flags import readable, writable
from ._ioctl import run_ioctl
from ._mapping import Mapping
from ._open_file import CLOSED, DEFAULT_POLLMASK, DEFAULT_SIZE, File
from ._trace import sinks
from ._wait import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from ._credentials import Credentials
    from ._entry import Checkpoint, ProcDirEntry
    from ._stat import DirEntry, Stat

_ProcFile = TypeVar("_ProcFile", bound="ProcFile")


class ProcFile(Unique, AsyncResource):
    """
    An open file of the tree: what a file descriptor is to a process.

    Made by :meth:`ProcFS.open`. Any task may use it or close it; it belongs to none. Leaving an
    ``async with`` block closes it. Removal of the entry leaves it open, and dead: calls on it
    then get the error Linux gives, as an :class:`EntryRemovedError`.

    Every call on it is a checkpoint, *before* anything happens: a call that was cancelled there
    did nothing, and one that got through to its handler is not cancelled after the handler's
    success. On entries with *fast_acquire* a call is a checkpoint only if it waits.

    Cancelling a call cancels its handler, which has then left; nothing is counted any more.

    A number, a flag or a *cred* that is none is a ``TypeError``, and no handler is run.
    """

    __slots__ = ("_file",)

    # No __init__: see new_descriptor().
    _file: File
    # Its class's: that of the loop its tree is in; see _descriptor.handle_class().
    _checkpoint: Checkpoint
    # What does the work after the checkpoint. The first two, too, are chosen for each class.
    _read = _read_write.read
    _write = _read_write.write
    _pread = _read_write.pread
    _readv = _read_write.readv
    _pwrite = _read_write.pwrite
    _lseek = _read_write.lseek

    def __repr__(self) -> str:
        return f"<ProcFile {self._file!r}>"

    # -- read and write -------------------------------------------------------------------------

    async def read(self, size: int = DEFAULT_SIZE) -> bytes:
        """
        Run the read handler at the file position, and advance that by what it returned.

        A second reader of the same open file waits for the first; readers of other files do not.

        Args:
            size: Most bytes to return, >= 0; by default 2**30 - 1. One call returns no more than
                ``MAX_RW_COUNT``, whatever is asked for.

        Returns:
            0 to *size* bytes. Fewer than asked is not yet the end of the file, ``b""`` is.

        Raises:
            EntryRemovedError: ``EIO``: removal began before this call. A call that is inside its
                handler by then is waited for and ends as if nothing were.
            OSError: ``EIO``: there is no read handler; ``EBADF``: not open for reading, or
                closed; ``EISDIR``: a directory; whatever else the handler raised.

        Linux: ``proc_reg_read``, fs/proc/inode.c.
        """
        await self._checkpoint()
        return await self._read(size)

    async def write(self, data: bytes) -> int:
        """
        Run the write handler at the file position, and advance that by what it took.

        Args:
            data: What to write: ``bytes``, or what can be made into them without guessing.

        Returns:
            How many bytes the handler took, 0 to ``len(data)``.

        Raises:
            EntryRemovedError: ``EIO``: removal began before this call.
            OSError: ``EIO``: there is no write handler; ``EBADF``: not open for writing, or
                closed; whatever else the handler raised.
            TypeError: *data* is text: encode it.

        Linux: ``proc_reg_write``.
        """
        await self._checkpoint()
        return await self._write(data)

    # -- elsewhere than at the position ---------------------------------------------------------

    async def pread(self, size: int, offset: int) -> bytes:
        """
        Run the read handler at *offset*; the file position stays, and nobody waits for it.

        Args:
            size: Most bytes to return, >= 0.
            offset: Where to read, in bytes, >= 0.

        Raises:
            OSError: As for :meth:`read`; ``EINVAL``: *size* or *offset* is negative.

        Linux: ``ksys_pread64``.
        """
        await self._checkpoint()
        return await self._pread(size, offset)

    async def readv(self, sizes: Iterable[int]) -> list[bytes]:
        """
        Read into several buffers, one after the other, at the file position.

        With *read_iter* that is one call for all of them; else one call for each, until one is
        not filled.

        Args:
            sizes: How long each buffer is, each >= 0.

        Returns:
            What each buffer holds then; the last ones may be short or empty.

        Raises:
            OSError: As for :meth:`read`. An error after the first buffer was filled is left for
                the next call to meet.

        Linux: ``vfs_readv``: ``do_iter_readv_writev``, or ``do_loop_readv_writev``.
        """
        await self._checkpoint()
        return await self._readv(sizes)

    async def pwrite(self, data: bytes, offset: int) -> int:
        """
        Run the write handler at *offset*; the file position stays, and nobody waits for it.

        Args:
            data: What to write.
            offset: Where, in bytes, >= 0.

        Raises:
            OSError: As for :meth:`write`; ``EINVAL``: *offset* is negative; ``ESPIPE``: a seq
                file, which has no such thing.

        Linux: ``ksys_pwrite64``.
        """
        await self._checkpoint()
        return await self._pwrite(data, offset)

    async def lseek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """
        Run the lseek handler, and set the file position to what it returned.

        Args:
            offset: In bytes; what it counts from is *whence*.
            whence: ``os.SEEK_SET``, ``SEEK_CUR``, ``SEEK_END``, ``SEEK_DATA`` or ``SEEK_HOLE``.

        Returns:
            The new position, >= 0.

        Raises:
            EntryRemovedError: ``EINVAL``: removal began before this call.
            OSError: ``ESPIPE``: there is no lseek handler (whether or not the entry is there
                still); ``EINVAL``: no such *whence*; whatever else the handler raised.

        Linux: ``proc_reg_llseek``.
        """
        await self._checkpoint()
        return await self._lseek(offset, whence)

    # -- the others -----------------------------------------------------------------------------

    async def poll(
        self,
        events: int = DEFAULT_POLLMASK | select.POLLPRI,
        timeout: float | None = 0,  # noqa: ASYNC109  as in poll(2), it is no error
    ) -> int:
        """
        Ask the poll handler what is ready, and wait until something is, if so wished.

        While it waits it is not inside the guard, and a removal does not wait for it; it ends.

        Args:
            events: What to ask for, of ``select.POLLIN`` and its like.
            timeout: How long to wait, in seconds; 0 not at all, None for ever. What it waits for
                are the queues that the handler names with :meth:`File.poll_wait`.

        Returns:
            Which of *events* are ready, 0 if none was in time; ``POLLERR`` and ``POLLHUP`` are
            told unasked. Without a handler, and once removal has begun: readable and writable.

        Linux: ``proc_reg_poll``; ``do_poll``. There a removal does not wake a poll that waits.
        """
        await self._checkpoint()
        return await self._poll(events, timeout)

    async def _poll(
        self,
        events: int = DEFAULT_POLLMASK | select.POLLPRI,
        timeout: float | None = 0,  # noqa: ASYNC109
    ) -> int:
        file = self._live("poll")
        check_int("events, as select.POLLIN,", events)
        check_seconds("timeout", timeout)
        if timeout == 0:
            return await file._poll_now(events)
        with anyio.move_on_after(timeout):
            while True:
                with Wakeup(file.entry) as wakeup:
                    ready = await file._poll_now(events, wakeup)
                    if ready or file.removing:
                        return ready
                    await wakeup.event.wait()
        return 0

    async def ioctl(self, cmd: int, arg: Any = 0) -> int:
        """
        Run the ioctl handler.

        Args:
            cmd: The request. A few numbers never reach a handler, as in Linux (FIONREAD, ...).
            arg: Anything the handler understands.

        Raises:
            EntryRemovedError: ``ENOTTY``: removal began before this call.
            OSError: ``ENOTTY``: there is no handler; whatever else the handler raised.

        Linux: ``proc_reg_unlocked_ioctl``, and ``do_vfs_ioctl`` before it.
        """
        await self._checkpoint()
        return await self._ioctl(cmd, arg)

    async def _ioctl(self, cmd: int, arg: Any = 0) -> int:
        return await run_ioctl(self._live("ioctl"), "ioctl", cmd, arg)

    async def compat_ioctl(self, cmd: int, arg: Any = 0) -> int:
        """
        Run the compat_ioctl handler, as a 32-bit program's ioctl does; else like :meth:`ioctl`.
        """
        await self._checkpoint()
        return await self._compat_ioctl(cmd, arg)

    async def _compat_ioctl(self, cmd: int, arg: Any = 0) -> int:
        return await run_ioctl(self._live("ioctl"), "compat_ioctl", cmd, arg)

    async def mmap(
        self,
        length: int,
        prot: int = mmap_module.PROT_READ,
        flags: int = mmap_module.MAP_SHARED,
    ) -> Mapping:
        """
        Run the mmap handler and hold on to what it returned.

        Args:
            length: In bytes, >= 1.
            prot: ``mmap.PROT_READ``, ``PROT_WRITE`` or both.
            flags: ``mmap.MAP_SHARED`` or ``MAP_PRIVATE``.

        Returns:
            A mapping, which keeps the open file (not the entry) until it is closed: a close of
            the file meanwhile releases nothing, a removal does.

        Raises:
            EntryRemovedError: ``EIO``: removal began before this call.
            OSError: ``EIO``: there is no handler; ``EACCES``: the file is not open for reading,
                or not for writing as a shared writable mapping wants; ``EINVAL``: *length* is
                not positive; whatever else the handler raised.

        Linux: ``proc_reg_mmap``.
        """
        await self._checkpoint()
        return await self._mmap(length, prot, flags)

    async def _mmap(
        self,
        length: int,
        prot: int = mmap_module.PROT_READ,
        flags: int = mmap_module.MAP_SHARED,
    ) -> Mapping:
        file = self._live("mmap")
        check_int("length", length)
        check_int("prot, as mmap.PROT_READ,", prot)
        check_int("flags, as mmap.MAP_SHARED,", flags)
        if length <= 0:
            raise self._error(EINVAL, f"mmap wants a length >= 1, not {length}")
        if file.removing:
            raise file._refuse("mmap")
        shared_writable = prot & mmap_module.PROT_WRITE and flags & mmap_module.MAP_SHARED
        if not readable(file.flags) or (shared_writable and not writable(file.flags)):
            raise self._error(EACCES, "the file is not open for that")
        if file.entry.ops.mmap is None:
            raise self._error(EIO, "the file has no mmap handler")
        file._hold()  # before the call has left: its file may have been closed meanwhile
        try:
            return Mapping(file, await file._call("mmap", length, prot, flags))
        except BaseException:
            await file._put()
            raise

    async def getdents(self, count: int | None = None) -> list[DirEntry]:
        """
        Return the next names of a directory; ``.`` and ``..`` come first.

        The position counts names, so an entry removed before it makes the next one be skipped,
        as in Linux.

        Args:
            count: How many at the most, >= 1; None for all that are left.

        Returns:
            The names, shortest first; an empty list at the end.

        Raises:
            OSError: ``ENOTDIR``: not a directory; ``EBADF``: closed.

        Linux: ``proc_readdir_de``.
        """
        await self._checkpoint()
        return await self._getdents(count)

    async def _getdents(self, count: int | None = None) -> list[DirEntry]:
        self._live("getdents")
        raise self._error(ENOTDIR)

    # -- what needs no handler ------------------------------------------------------------------

    @property
    def entry(self) -> ProcDirEntry:
        """The entry it is open on, there or gone. ``EBADF`` once closed."""
        return self._live("look at").entry

    @property
    def file(self) -> File:
        """The open file that this and its duplicates share. ``EBADF`` once closed."""
        return self._live("look at")

    @property
    def flags(self) -> int:
        """The ``os.O_*`` flags it was opened with (``F_GETFL``). ``EBADF`` once closed."""
        return self._live("look at").flags

    @property
    def closed(self) -> bool:
        """Whether this descriptor was closed."""
        return self._file is CLOSED

    def tell(self) -> int:
        """Return the file position; asks no handler (``/proc/self/fdinfo``)."""
        return self._live("tell").pos

    def dup(self) -> Self:
        """
        Return another descriptor of the same open file: one position, one release, at the last
        close. Not a checkpoint.
        """
        file = self._live("dup")
        file._hold()
        return new_descriptor(type(self), file)

    def stat(self) -> Stat:
        """Return the entry's attributes as they are now, there or gone. Not a checkpoint."""
        return self._live("stat").entry.stat()

    def chmod(self, mode: int, *, cred: Credentials = ROOT) -> None:
        """Change the entry's permission bits, as :meth:`ProcFS.chmod` does. Not a checkpoint."""
        self._live("chmod").entry.chmod(mode, cred)

    def chown(self, uid: int, gid: int, *, cred: Credentials = ROOT) -> None:
        """Change the entry's owner, as :meth:`ProcFS.chown` does. Not a checkpoint."""
        self._live("chown").entry.chown(uid, gid, cred)

    def truncate(self, size: int) -> None:
        """
        Succeed and change nothing, as in procfs. Not a checkpoint.

        Raises:
            OSError: ``EINVAL``: *size* is negative, or the file is not open for writing.
        """
        file = self._live("truncate")
        check_int("size", size)
        if size < 0 or not writable(file.flags) or not stat.S_ISREG(file.entry.type):
            raise self._error(EINVAL)

    def fsync(self) -> None:
        """Raise ``EINVAL``: there is nothing to sync here, as in procfs. Not a checkpoint."""
        self._live("fsync")
        raise self._error(EINVAL)

    # -- closing --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """
        Close this descriptor; the last one runs the release handler, unless removal did.

        A checkpoint, and it closes also when it is cancelled there: a release handler that has
        begun is never cut short, and when this call ends, however it ends, release is over.
        There is one exception, as in Linux: with calls still inside the file, the last of them
        releases it when it leaves, and this returns at once. Closing twice does nothing.

        Raises:
            Exception: Whatever the release handler raised. The file is closed all the same.

        Linux: ``proc_reg_release``.
        """
        file, self._file = self._file, CLOSED
        try:
            await self._checkpoint()
        finally:
            if file is not CLOSED:
                await file._put()

    async def _aclose(self) -> None:
        file, self._file = self._file, CLOSED
        if file is not CLOSED:
            await file._put()

    # Where release waits for nothing: with nobody inside and no other descriptor there is nobody
    # to wait for, and nobody who could meet the release while it runs.
    async def _aclose_quick(self) -> None:
        file, self._file = self._file, CLOSED
        if file._in_use or sinks:
            if file is not CLOSED:
                await file._put()
            return
        entry = file.entry
        ops: Any = entry.ops
        try:
            if ops._release_awaited:
                await ops.release(file)
            elif ops.release is not None:
                ops.release(file)
        finally:
            if entry._newest is file:  # _take_file() in place, for the one opened last
                entry._newest = older = file._older
                if older is not None:
                    older._newer = file._older = None
            else:
                entry._take_file(file)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.aclose()

    # -- checks ---------------------------------------------------------------------------------

    def _live(self, call: str) -> File:
        if self._file is CLOSED:
            raise bad_file(call)
        return self._file

    def _error(self, errno: int, why: str = "") -> OSError:
        return error(errno, self._file.entry.path, why)


def new_descriptor(cls: type[_ProcFile], file: File) -> _ProcFile:
    """Make a descriptor of an open file. What opens quickly does the same in place."""
    descriptor = cls()
    descriptor._file = file
    return descriptor
