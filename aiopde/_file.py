"""A file descriptor: the calls a user makes on an open file (the proc_reg_* functions)."""

from __future__ import annotations

import mmap as mmap_module
import os
import select
import stat
from errno import EACCES, EFAULT, EINVAL, EIO, ENOTDIR, ENOTTY, ESPIPE
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, final

import anyio
from anyio.abc import AsyncResource
from anyio.lowlevel import checkpoint

from ._credentials import ROOT
from ._errors import Unique, bad_file, error
from ._open_file import CLOSED, DEFAULT_POLLMASK, MAX_RW_COUNT, File, check_size
from ._trace import sinks
from ._wait import Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from ._credentials import Credentials
    from ._entry import Checkpoint, ProcDirEntry
    from ._stat import DirEntry, Stat

_ProcFile = TypeVar("_ProcFile", bound="ProcFile")

_ENOIOCTLCMD: Final = 515
# Numbers the VFS answers before any handler of a regular file is asked: FIOCLEX, FIONCLEX, ...
_VFS_IOCTLS_OK: Final = frozenset({0x5451, 0x5450})
# ... and those that write to a user's memory, of which there is none here: FIBMAP, FIGETBSZ,
# FIONREAD, FIONBIO, FIOASYNC, FIOQSIZE.
_VFS_IOCTLS_EFAULT: Final = frozenset({1, 2, 0x541B, 0x5421, 0x5452, 0x5460})


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
    """

    __slots__ = ("_file",)

    # No __init__: see new_descriptor().
    _file: File
    # Its class's: that of the loop its tree is in; see _open.handle_class().
    _checkpoint: Checkpoint

    def __repr__(self) -> str:
        return f"<ProcFile {self._file!r}>"

    # -- read and write -------------------------------------------------------------------------

    async def read(self, size: int = MAX_RW_COUNT) -> bytes:
        """
        Run the read handler at the file position, and advance that by what it returned.

        A second reader of the same open file waits for the first; readers of other files do not.

        Args:
            size: Most bytes to return, >= 0; by default as many as one call may.

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

    # The hot path, written out: a helper, a context manager or a decorator would each cost more
    # than the guard itself. One attribute tells a file nobody is inside of (0) from one that is
    # busy or going away, and leaving is as cheap as long as nobody else came meanwhile. The limit
    # is MAX_RW_COUNT, as a constant. (A limit that CPython compares faster, below 2**30, with the
    # default let through beside it, takes 2 % off a read with a size and adds 3 to one without.)
    async def _read(self, size: int = MAX_RW_COUNT) -> bytes:
        file = self._file
        try:
            if file._in_use or not 0 <= size <= 0x7FFFF000:
                size = await file.take_position("read", size)
            else:
                file._in_use = 1
        except TypeError:
            check_size("read", size)
            raise
        try:
            data: bytes = await file.entry.ops.reader(file, size, file.pos)
            if type(data) is not bytes or (count := len(data)) > size:
                raise file.nonsense("read", data, f"0 to {size} bytes")
            file.pos += count
        finally:
            if file._in_use == 1:
                file._in_use = 0
            elif file.leave_position():
                await file.release_late()
        return data

    # The long way, for calls that may be killed: those run in a cancel scope of their own.
    async def _read_run(self, size: int = MAX_RW_COUNT) -> bytes:
        file = self._file
        size = await file.take_position("read", size)
        try:
            return await file.read_at_position(size)
        finally:
            await file.leave_position_and_release()

    # Nothing can run beside a plain function, so it needs to be let in, but not to be counted.
    async def _read_plain(self, size: int = MAX_RW_COUNT) -> bytes:
        file = self._file
        try:
            if file._in_use or not 0 <= size <= 0x7FFFF000:
                return await self._read_run(size)
        except TypeError:
            check_size("read", size)
            raise  # it is the handler's
        data: bytes = file.entry.ops.reader(file, size, file.pos)
        if type(data) is not bytes or (count := len(data)) > size:
            raise file.nonsense("read", data, f"0 to {size} bytes")
        file.pos += count
        return data

    async def _read_absent(self, size: int = MAX_RW_COUNT) -> bytes:
        raise self._file.refuse_absent("read", EIO)

    async def _read_bad(self, size: int = MAX_RW_COUNT) -> bytes:
        raise bad_file("read")

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

    async def _write(self, data: bytes) -> int:
        if type(data) is not bytes:
            data = as_bytes(data)
        file = self._file
        if file._in_use:
            await file.take_position("write")
        else:
            file._in_use = 1
        try:
            taken: int = await file.entry.ops.writer(file, data, file.pos)
            if type(taken) is not int or not 0 <= taken <= len(data):
                raise file.nonsense("write", taken, f"how many bytes it took, 0 to {len(data)}")
            file.pos += taken
        finally:
            if file._in_use == 1:
                file._in_use = 0
            elif file.leave_position():
                await file.release_late()
        return taken

    async def _write_run(self, data: bytes) -> int:
        data = as_bytes(data)
        file = self._file
        await file.take_position("write")
        try:
            return await file.write_at_position(data)
        finally:
            await file.leave_position_and_release()

    async def _write_plain(self, data: bytes) -> int:
        if type(data) is not bytes:
            data = as_bytes(data)
        file = self._file
        if file._in_use:
            return await self._write_run(data)
        taken: int = file.entry.ops.writer(file, data, file.pos)
        if type(taken) is not int or not 0 <= taken <= len(data):
            raise file.nonsense("write", taken, f"how many bytes it took, 0 to {len(data)}")
        file.pos += taken
        return taken

    async def _write_absent(self, data: bytes) -> int:
        raise self._file.refuse_absent("write", EIO)

    async def _write_bad(self, data: bytes) -> int:
        raise bad_file("write")

    # -- elsewhere than at the position ---------------------------------------------------------

    async def pread(self, size: int, offset: int) -> bytes:
        """
        Run the read handler at *offset*; the file position stays, and nobody waits for it.

        Args:
            size: Most bytes to return, >= 0.
            offset: Where to read, in bytes, >= 0.

        Raises:
            OSError: As for :meth:`read`; ``EINVAL``: *size* or *offset* is negative.
        """
        await self._checkpoint()
        return await self._pread(size, offset)

    async def _pread(self, size: int, offset: int) -> bytes:
        self._live("pread")
        if size < 0 or offset < 0:
            raise self._error(EINVAL, f"pread({size}, {offset}): both must be >= 0")
        file = self._for_reading("pread")
        if file.removing:
            raise file.refuse("pread")
        size = min(size, MAX_RW_COUNT)
        data = await file.call(file.entry.ops.reader_name, size, offset)
        return file.checked_bytes(data, size)

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
        """
        await self._checkpoint()
        return await self._readv(sizes)

    async def _readv(self, sizes: Iterable[int]) -> list[bytes]:
        sizes = list(sizes)
        for size in sizes:
            check_size("readv", size)
        file = self._for_reading("readv")
        if not any(sizes):
            return [b""] * len(sizes)
        await file.take_position("readv", min(sizes))
        try:
            if file.entry.ops.read_iter is not None:
                size = min(sum(sizes), MAX_RW_COUNT)
                return _split(await file.read_at_position(size), sizes)
            return await _read_each(file, sizes)
        finally:
            await file.leave_position_and_release()

    async def pwrite(self, data: bytes, offset: int) -> int:
        """
        Run the write handler at *offset*; the file position stays, and nobody waits for it.

        Args:
            data: What to write.
            offset: Where, in bytes, >= 0.

        Raises:
            OSError: As for :meth:`write`; ``EINVAL``: *offset* is negative; ``ESPIPE``: a seq
                file, which has no such thing.
        """
        await self._checkpoint()
        return await self._pwrite(data, offset)

    async def _pwrite(self, data: bytes, offset: int) -> int:
        data = as_bytes(data)
        self._live("pwrite")
        if offset < 0:
            raise self._error(EINVAL, f"pwrite(..., {offset}): the offset must be >= 0")
        file = self._for_pwrite("pwrite")
        if file.removing:
            raise file.refuse("pwrite")
        return file.checked_count(await file.call("write", data, offset), len(data))

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

    async def _lseek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        file = self._live("lseek")
        if not 0 <= whence <= os.SEEK_HOLE:
            raise self._error(EINVAL, f"no such whence: {whence}")
        if file.entry.ops.lseek is None:
            raise self._error(ESPIPE, "the file has no lseek handler")
        await file.take_position("lseek")
        try:
            pos = await file.run("lseek", offset, whence)
            if type(pos) is not int or pos < 0:
                raise file.nonsense("lseek", pos, "the new position, >= 0")
            file.pos = pos
        finally:
            await file.leave_position_and_release()
        return pos

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
        if timeout is not None and not timeout >= 0:
            msg = f"timeout is a number of seconds >= 0, or None for ever, not {timeout!r}"
            raise ValueError(msg)
        if timeout == 0:
            return await file.poll_now(events)
        with anyio.move_on_after(timeout):
            while True:
                with Wakeup(file.entry) as wakeup:
                    ready = await file.poll_now(events, wakeup)
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
        return await self._run_ioctl("ioctl", cmd, arg)

    async def compat_ioctl(self, cmd: int, arg: Any = 0) -> int:
        """
        Run the compat_ioctl handler, as a 32-bit program's ioctl does; else like :meth:`ioctl`.
        """
        await self._checkpoint()
        return await self._compat_ioctl(cmd, arg)

    async def _compat_ioctl(self, cmd: int, arg: Any = 0) -> int:
        return await self._run_ioctl("compat_ioctl", cmd, arg)

    async def _run_ioctl(self, op: str, cmd: int, arg: Any) -> int:
        file = self._live("ioctl")
        if cmd in _VFS_IOCTLS_OK:
            return 0
        if cmd in _VFS_IOCTLS_EFAULT:
            raise self._error(EFAULT, f"request {cmd:#x} is answered before any handler")
        if getattr(file.entry.ops, op) is None:
            raise self._error(ENOTTY, f"the file has no {op} handler")
        try:
            result = await file.call(op, cmd, arg)
        except OSError as exc:
            if exc.errno == _ENOIOCTLCMD:
                raise self._error(ENOTTY, f"the {op} handler knows no request {cmd:#x}") from exc
            raise
        if type(result) is not int:
            raise file.nonsense(op, result, "a number")
        return result

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
        if length <= 0:
            raise self._error(EINVAL, f"mmap wants a length >= 1, not {length}")
        if file.removing:
            raise file.refuse("mmap")
        shared_writable = prot & mmap_module.PROT_WRITE and flags & mmap_module.MAP_SHARED
        if not readable(file.flags) or (shared_writable and not writable(file.flags)):
            raise self._error(EACCES, "the file is not open for that")
        if file.entry.ops.mmap is None:
            raise self._error(EIO, "the file has no mmap handler")
        file.hold()  # before the call has left: its file may have been closed meanwhile
        try:
            return Mapping(file, await file.call("mmap", length, prot, flags))
        except BaseException:
            await file.put()
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
        file.hold()
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
        if size < 0 or not writable(file.flags) or not stat.S_ISREG(file.entry.type):
            raise self._error(EINVAL)

    def fsync(self) -> None:
        """Raise ``EINVAL``: there is nothing to sync here, as in procfs."""
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
                await file.put()

    async def _aclose(self) -> None:
        file, self._file = self._file, CLOSED
        if file is not CLOSED:
            await file.put()

    # Where release waits for nothing: with nobody inside and no other descriptor there is nobody
    # to wait for, and nobody who could meet the release while it runs.
    async def _aclose_quick(self) -> None:
        file, self._file = self._file, CLOSED
        if file._in_use or sinks:
            if file is not CLOSED:
                await file.put()
            return
        entry = file.entry
        ops: Any = entry.ops
        try:
            if ops.release_awaited:
                await ops.release(file)
            elif ops.release is not None:
                ops.release(file)
        finally:
            if entry.newest is file:  # take_file() in place, for the one opened last
                entry.newest = older = file._older
                if older is not None:
                    older._newer = file._older = None
            else:
                entry.take_file(file)

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

    def _for_reading(self, call: str) -> File:
        file = self._live(call)
        if not readable(file.flags):
            raise bad_file(call)
        if file.entry.ops.reader is None:
            raise file.refuse_absent(call, EIO)
        return file

    def _for_pwrite(self, call: str) -> File:
        file = self._live(call)
        if file.entry.ops.seq is not None:
            raise self._error(ESPIPE, "a seq file is written at its position only")
        if not writable(file.flags):
            raise bad_file(call)
        if file.entry.ops.write is None:
            raise file.refuse_absent(call, EIO)
        return file

    def _error(self, errno: int, why: str = "") -> OSError:
        return error(errno, self._file.entry.path, why)


@final
class Mapping(AsyncResource):
    """
    What an mmap handler returned, and a hold on the open file it came from.

    It outlives the descriptor, and even the entry; closing it (munmap) gives the file up, which
    then may be released. Any task may close it.
    """

    __slots__ = ("_fast_acquire", "_file", "value")

    def __init__(self, file: File, value: Any) -> None:
        self._file = file
        self._fast_acquire = file.entry.fast_acquire
        self.value: Any = value

    def __repr__(self) -> str:
        return f"<Mapping of {self._file!r}>"

    async def aclose(self) -> None:
        """Give the mapping up. A checkpoint, as closing its file is; twice does nothing."""
        file, self._file = self._file, CLOSED
        try:
            if not self._fast_acquire:
                await checkpoint()
        finally:
            if file is not CLOSED:
                await file.put()


# -- helpers ------------------------------------------------------------------------------------


def as_bytes(data: Any) -> bytes:
    """Return *data* as ``bytes``; text is refused, since nobody said how to encode it."""
    if isinstance(data, str):
        msg = "write wants bytes, not str: pass text.encode(), or use write_text()"
        raise TypeError(msg)
    return data if type(data) is bytes else memoryview(data).tobytes()


def readable(flags: int) -> bool:
    """Tell whether a file opened with *flags* may be read."""
    return flags & os.O_ACCMODE in {os.O_RDONLY, os.O_RDWR}


def writable(flags: int) -> bool:
    """Tell whether a file opened with *flags* may be written."""
    return flags & os.O_ACCMODE in {os.O_WRONLY, os.O_RDWR}


def _split(data: bytes, sizes: list[int]) -> list[bytes]:
    buffers: list[bytes] = []
    start = 0
    for size in sizes:
        buffers.append(data[start : start + size])
        start += size
    return buffers


async def _read_each(file: File, sizes: list[int]) -> list[bytes]:
    # The kernel enters the guard anew for each buffer: once removal began, what was read is all.
    buffers: list[bytes] = []
    for size in sizes:
        if buffers and (file.removing or len(buffers[-1]) < sizes[len(buffers) - 1]):
            break
        try:
            buffers.append(await file.read_at_position(min(size, MAX_RW_COUNT)))
        except OSError:
            if not any(buffers):
                raise
            break
    return buffers + [b""] * (len(sizes) - len(buffers))


def new_descriptor(cls: type[_ProcFile], file: File) -> _ProcFile:
    """Make a descriptor of an open file. What opens quickly does the same in place."""
    descriptor = cls()
    descriptor._file = file
    return descriptor
