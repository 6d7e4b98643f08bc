"""What the kernel asks, as calls on the tree: one method for each request."""

from __future__ import annotations

import itertools
import os
import stat
from errno import ENOENT, ENOTTY, EPERM
from typing import TYPE_CHECKING, Any, Final, final

from aiopde._credentials import ROOT
from aiopde._errors import error
from aiopde._namei import NAME_MAX, step
from aiopde._open import open_entry
from aiopde._open_file import refuse
from aiopde._trace import logger

from ._inodes import Inodes
from ._polls import Polls
from ._protocol import (
    ATTR_OUT,
    BATCH_FORGET_IN,
    DIRENT,
    ENTRY_OUT,
    FORGET_IN,
    FORGET_ONE,
    HANDLE_IN,
    IOCTL_COMPAT,
    IOCTL_DIR,
    IOCTL_IN,
    IOCTL_OUT,
    LISTXATTR_IN,
    LISTXATTR_OUT,
    LSEEK_IN,
    LSEEK_OUT,
    OPEN_IN,
    OPEN_OUT,
    PAGE_SIZE,
    POLL_IN,
    POLL_OUT,
    POLL_SCHEDULE_NOTIFY,
    READ_IN,
    RENAME2_IN,
    RENAME_IN,
    SETATTR_IN,
    STATFS_OUT,
    WRITE_IN,
    WRITE_OUT,
    Opcode,
    Open,
    SetAttr,
    dirent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import TaskGroup

    from aiopde._entry import ProcDirEntry
    from aiopde._file import ProcFile

    from ._inodes import Inode
    from ._notifier import Notifier

    Answer = bytes | Coroutine[Any, Any, bytes] | None
    Operation = Callable[[int, memoryview], Answer]

# Names are asked for each time they are used, so that what is found is in the tree now. What an
# inode's attributes are, the kernel may remember: it is told when they change.
_NAME_SECONDS: Final = 0
_ATTRIBUTE_SECONDS: Final = 3600
# Reads have the size that was asked for and see what is there now, whatever st_size is; and close
# need not be told, as it is not in procfs: what counts is the last one, which is a RELEASE.
_OPEN_FILE: Final = Open.DIRECT_IO | Open.NOFLUSH
_FLAGS: Final = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_TRUNC | os.O_DIRECTORY
_EMPTY: Final = b""


@final
class Operations:
    """
    Answers requests about one tree, as one mount sees it.

    A method takes a node id and the body of a request, and returns the body of the reply; or, if
    a handler has to be asked, a coroutine that returns it; or None, if there is none to send.
    What it raises is the answer too. The body is only good until the method returns.

    Permissions were checked by the kernel (``default_permissions``).
    """

    def __init__(self, root: ProcDirEntry, notifier: Notifier, tasks: TaskGroup) -> None:
        self.inodes: Inodes = Inodes(root)
        self.files: dict[int, ProcFile] = {}
        self._numbers = itertools.count(1)
        self._notifier = notifier
        self._polls = Polls(self.files, notifier, tasks)
        self.table: dict[int, Operation] = {
            Opcode.LOOKUP: self.lookup,
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.GETATTR: self.getattr,
            Opcode.SETATTR: self.setattr,
            Opcode.READLINK: self.readlink,
            Opcode.OPEN: self.open,
            Opcode.READ: self.read,
            Opcode.WRITE: self.write,
            Opcode.LSEEK: self.lseek,
            Opcode.POLL: self.poll,
            Opcode.IOCTL: self.ioctl,
            Opcode.FSYNC: self.fsync,
            Opcode.RELEASE: self.release,
            Opcode.OPENDIR: self.opendir,
            Opcode.READDIR: self.readdir,
            Opcode.FSYNCDIR: self.fsync,
            Opcode.RELEASEDIR: self.release,
            Opcode.STATFS: self.statfs,
            Opcode.LISTXATTR: self.listxattr,
            Opcode.CREATE: self.make,
            Opcode.MKNOD: self.make,
            Opcode.MKDIR: self.make,
            Opcode.SYMLINK: self.make,
            Opcode.LINK: self.make,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.unlink,
            Opcode.RENAME: self.rename,
            Opcode.RENAME2: self.rename2,
        }

    # -- what has changed in the tree -------------------------------------------------------------

    def unlinked(self, entry: ProcDirEntry) -> None:
        """Have the kernel drop the name of an entry that has lost it, if it knows it."""
        parent, inode = self.inodes.find(entry.parent), self.inodes.find(entry)
        if parent is not None and inode is not None:
            self._notifier.name(parent, entry.name)
            for name in inode.missing:
                self._notifier.name(inode, name)

    def changed(self, entry: ProcDirEntry) -> None:
        """Have the kernel ask for the attributes of an entry again, if it knows it."""
        inode = self.inodes.find(entry)
        if inode is not None:
            self._notifier.attributes(inode)

    # -- names and attributes ---------------------------------------------------------------------

    def lookup(self, nodeid: int, body: memoryview) -> bytes:
        """Find a name in a directory."""
        directory, name = self.inodes[nodeid], _name(body)
        try:
            entry = step(directory.entry, name, ROOT)
        except FileNotFoundError:
            self._missed(directory, name)
            raise
        inode = self.inodes.look_up(entry)
        times = (_NAME_SECONDS, _ATTRIBUTE_SECONDS, 0, 0)
        return ENTRY_OUT.pack(inode.nodeid, 0, *times, *_attributes(inode))

    # The kernel keeps in mind that there is no such name, and in a directory that is gone that
    # alone would keep its inode for good. It forgets such names with the directory, except those
    # that are being looked up just then: so the latest are told to it once more.
    def _missed(self, directory: Inode, name: str) -> None:
        if directory.entry.removing:
            self._notifier.name(directory, name)
        else:
            directory.note_missing(name)

    def forget(self, nodeid: int, body: memoryview) -> None:
        """Note that the kernel knows an inode less well, or no more."""
        (lookups,) = FORGET_IN.unpack_from(body)
        self.inodes.forget(nodeid, lookups)

    def batch_forget(self, nodeid: int, body: memoryview) -> None:
        """Do so for several inodes."""
        (count,) = BATCH_FORGET_IN.unpack_from(body)
        start = BATCH_FORGET_IN.size
        for number, lookups in FORGET_ONE.iter_unpack(
            body[start : start + count * FORGET_ONE.size]
        ):
            self.inodes.forget(number, lookups)

    def getattr(self, nodeid: int, body: memoryview) -> bytes:
        """Tell the attributes, also those of an entry that is gone."""
        return self._attr_out(nodeid)

    def _attr_out(self, nodeid: int) -> bytes:
        return ATTR_OUT.pack(_ATTRIBUTE_SECONDS, 0, *_attributes(self.inodes[nodeid]))

    def setattr(self, nodeid: int, body: memoryview) -> bytes:
        """Change mode and owner for good; a size or a time is accepted and changes nothing."""
        valid, *_, mode, uid, gid = SETATTR_IN.unpack_from(body)
        entry = self.inodes[nodeid].entry
        if valid & SetAttr.MODE:
            entry.chmod(stat.S_IMODE(mode), ROOT)
        if valid & (SetAttr.UID | SetAttr.GID):
            new_uid = uid if valid & SetAttr.UID else -1
            new_gid = gid if valid & SetAttr.GID else -1
            entry.chown(new_uid, new_gid, ROOT)
        return self._attr_out(nodeid)

    def readlink(self, nodeid: int, body: memoryview) -> bytes:
        """Tell where a symlink leads."""
        entry = self.inodes[nodeid].entry
        if entry.removing:
            raise refuse("readlink", entry)
        return os.fsencode(entry.data)

    def statfs(self, nodeid: int, body: memoryview) -> bytes:
        """Tell what ``simple_statfs`` tells: nothing takes any room."""
        return STATFS_OUT.pack(0, 0, 0, 0, 0, PAGE_SIZE, NAME_MAX, PAGE_SIZE)

    def listxattr(self, nodeid: int, body: memoryview) -> bytes:
        """Say that there are none. (To ask for one is not supported, in procfs too.)"""
        (size,) = LISTXATTR_IN.unpack_from(body)
        return _EMPTY if size else LISTXATTR_OUT.pack(0)

    # -- files ------------------------------------------------------------------------------------

    def open(self, nodeid: int, body: memoryview) -> Answer:
        """Open a file."""
        (flags,) = OPEN_IN.unpack_from(body)
        return self._open(self.inodes[nodeid].entry, flags & _FLAGS, _OPEN_FILE)

    def opendir(self, nodeid: int, body: memoryview) -> Answer:
        """Open a directory."""
        (flags,) = OPEN_IN.unpack_from(body)
        return self._open(self.inodes[nodeid].entry, flags & _FLAGS, 0)

    async def _open(self, entry: ProcDirEntry, flags: int, how: int) -> bytes:
        file = await open_entry(entry, flags)
        number = next(self._numbers)
        self.files[number] = file
        return OPEN_OUT.pack(number, how)

    # The kernel keeps the position, and hands over one call at a time that uses it. So each read
    # says where, and none needs to wait for the position here.
    def read(self, nodeid: int, body: memoryview) -> Answer:
        """Read at an offset."""
        number, offset, size, *_ = READ_IN.unpack_from(body)
        return self.files[number]._pread(size, offset)

    def write(self, nodeid: int, body: memoryview) -> Answer:
        """Write at an offset."""
        number, offset, size, *_ = WRITE_IN.unpack_from(body)
        return self._write(self.files[number], bytes(body[WRITE_IN.size :][:size]), offset)

    async def _write(self, file: ProcFile, data: bytes, offset: int) -> bytes:
        return WRITE_OUT.pack(await file._pwrite(data, offset))

    def lseek(self, nodeid: int, body: memoryview) -> Answer:
        """Find data or a hole; any other lseek the kernel answers itself."""
        number, offset, whence = LSEEK_IN.unpack_from(body)
        return self._lseek(self.files[number], offset, whence)

    async def _lseek(self, file: ProcFile, offset: int, whence: int) -> bytes:
        return LSEEK_OUT.pack(await file._lseek(offset, whence))

    def fsync(self, nodeid: int, body: memoryview) -> None:
        """Refuse, as procfs does: by raising."""
        (number,) = HANDLE_IN.unpack_from(body)
        self.files[number].fsync()

    def release(self, nodeid: int, body: memoryview) -> Answer:
        """Close what was opened, after its last descriptor is gone."""
        (number,) = HANDLE_IN.unpack_from(body)
        self._polls.stop(number)
        return self._release(self.files.pop(number))

    async def _release(self, file: ProcFile) -> bytes:
        path = file.entry.path
        try:
            await file._aclose()
        except Exception:
            # Nobody waits for it: the kernel has let close(2) return.
            logger.exception("the release handler of %s failed", path)
        return _EMPTY

    async def aclose(self) -> None:
        """Close all that is still open, and forget all that was looked up."""
        while self.files:
            _, file = self.files.popitem()
            await self._release(file)
        self.inodes.clear()

    def readdir(self, nodeid: int, body: memoryview) -> Answer:
        """List a directory from an offset on."""
        number, offset, size, *_ = READ_IN.unpack_from(body)
        return self._readdir(self.files[number], offset, size)

    async def _readdir(self, file: ProcFile, offset: int, size: int) -> bytes:
        file.file.pos = offset
        lines = bytearray()
        for name, kind, ino in await file._getdents(size // DIRENT.size):
            offset += 1
            line = dirent(ino, offset, os.fsencode(name), kind >> 12)
            if len(lines) + len(line) > size:
                break
            lines += line
        return bytes(lines)

    def ioctl(self, nodeid: int, body: memoryview) -> Answer:
        """
        Run an ioctl handler.

        A command that says how long its data is gets that as a ``bytearray``, which it may
        change; any other the number that was passed.
        """
        number, flags, cmd, arg, in_size, out_size = IOCTL_IN.unpack_from(body)
        if flags & IOCTL_DIR:
            raise error(ENOTTY, self.inodes[nodeid].entry.path)
        file = self.files[number]
        call = file._compat_ioctl if flags & IOCTL_COMPAT else file._ioctl
        if not in_size and not out_size:
            return self._ioctl(call(cmd, arg), bytearray())
        data = bytearray(body[IOCTL_IN.size :][:in_size]).ljust(out_size, b"\0")
        return self._ioctl(call(cmd, data), data, out_size)

    async def _ioctl(
        self, call: Coroutine[Any, Any, int], data: bytearray, out_size: int = 0
    ) -> bytes:
        result = await call
        return IOCTL_OUT.pack(result) + data[:out_size].ljust(out_size, b"\0")

    def poll(self, nodeid: int, body: memoryview) -> Answer:
        """Tell what is ready; and if the kernel wants to know, tell it later that something is."""
        number, handle, flags, events = POLL_IN.unpack_from(body)
        return self._poll(number, events, handle if flags & POLL_SCHEDULE_NOTIFY else None)

    async def _poll(self, number: int, events: int, handle: int | None) -> bytes:
        if handle is None:
            return POLL_OUT.pack(await self.files[number].file._poll_now(events))
        return POLL_OUT.pack(await self._polls.poll(number, events, handle))

    # -- what users cannot do ---------------------------------------------------------------------

    # The kernel asks only if the name is free, or taken, as the call wants it; so no other error
    # comes before these, which are what procfs answers.
    def make(self, nodeid: int, body: memoryview) -> Answer:
        """Refuse to make anything."""
        raise error(ENOENT, self.inodes[nodeid].entry.path, "only the program makes entries")

    def unlink(self, nodeid: int, body: memoryview) -> Answer:
        """Refuse to take anything away."""
        raise error(EPERM, self.inodes[nodeid].entry.path, "only the program removes entries")

    def rename(self, nodeid: int, body: memoryview) -> Answer:
        """Refuse to rename."""
        return self._rename(body, RENAME_IN.size)

    def rename2(self, nodeid: int, body: memoryview) -> Answer:
        """Refuse to rename, whatever the flags."""
        return self._rename(body, RENAME2_IN.size)

    def _rename(self, body: memoryview, size: int) -> Answer:
        (parent,) = RENAME_IN.unpack_from(body)
        _, new_name, *_ = bytes(body[size:]).split(b"\0")
        there = step(self.inodes[parent].entry, os.fsdecode(new_name), ROOT)
        raise error(EPERM, there.path, "only the program renames entries")


def _name(body: memoryview) -> str:
    return os.fsdecode(bytes(body[:-1]))


def _attributes(inode: Inode) -> tuple[int, ...]:
    mode, ino, nlink, uid, gid, size = inode.entry.stat()
    times = (inode.time, inode.time, inode.time, 0, 0, 0)
    return (ino, size, 0, *times, mode, nlink, uid, gid, 0, PAGE_SIZE)
