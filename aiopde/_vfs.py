"""What a user does in a tree: look up, stat, open, read all of it (the VFS, above procfs)."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EINVAL, EISDIR, ENOTDIR
from typing import TYPE_CHECKING, Any, Final

from ._check import check_int, check_thread
from ._credentials import MAY_EXEC, MAY_READ, MAY_WRITE, ROOT
from ._entry import ProcDirEntry
from ._errors import error
from ._file import ProcFile
from ._flags import check_flags
from ._holders import add_site
from ._invoke import checked_bytes, nonsense
from ._namei import may_open, walk
from ._open import open_entry, read_entry, write_entry
from ._open_file import FILES, MAX_RW_COUNT, File
from ._read_write import as_bytes
from ._trace import sinks

if TYPE_CHECKING:
    from ._credentials import Credentials
    from ._entry import Checkpoint
    from ._kinds import ProcRoot
    from ._stat import Stat

# A symlink at the end is not followed then, so that a dangling one exists already.
_MAKE_NEW: Final = os.O_CREAT | os.O_EXCL
_ReadFile: Final = FILES[os.O_RDONLY, False]
_O_DIRECT: Final = getattr(os, "O_DIRECT", 0)  # not on every system


class VFS:
    """
    A tree as its users see it, who register nothing and remove nothing.

    Each method is a system call. That there are modules, removals and tasks is nothing to it.
    A path, a number, a *cred* or a *dir_fd* that is none is a ``TypeError``, before anything is
    looked up. To open from another thread than that of the tree's event loop is a ``RuntimeError``.
    """

    root: ProcRoot
    """What every path starts from."""
    _checkpoint: Checkpoint
    """What a call that need not wait begins with."""
    _thread: int | None
    """Where its event loop runs; None until it is entered."""

    # -- looking --------------------------------------------------------------------------------

    def lookup(
        self,
        path: str,
        *,
        follow_symlinks: bool = True,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> ProcDirEntry:
        """
        Find the entry a path leads to. Not a checkpoint.

        Args:
            path: Relative to the root (or to *dir_fd*), or absolute below the mount point.
            follow_symlinks: Whether a symlink at the end is followed.
            cred: Who asks; each directory on the way must let them search it.
            dir_fd: An open directory that a relative path starts from (openat).

        Raises:
            OSError: ``ENOENT``: nothing there, or its removal has begun; ``ENOTDIR``: a name on
                the way is no directory; ``EACCES``; ``ELOOP``: too many symlinks.

        Linux: ``proc_lookup_de``.
        """
        if cred is ROOT and dir_fd is None:
            found = self._walk_quickly(path)
            if found is not None and (not follow_symlinks or not stat.S_ISLNK(found.type)):
                return found
        start = None if dir_fd is None else _start(dir_fd)
        return walk(self.root, path, cred, start=start, follow=follow_symlinks)

    def _walk_quickly(self, path: object) -> ProcDirEntry | None:
        """Find what a path leads to that is nothing but names; None for all that is more."""
        if type(path) is not str:
            return None
        here: ProcDirEntry = self.root
        for name in path.split("/"):
            children = here._rare.children
            if children is None or not here._attributes.is_dir:
                return None
            child = children.by_name.get(name)
            if child is None or child._in_use < 0:
                return None
            here = child
        return here

    def listdir(self, path: str = "", *, cred: Credentials = ROOT) -> list[str]:
        """
        Return the names in a directory: the shortest first, those of one length by their bytes.

        Not a checkpoint. :meth:`ProcFile.getdents` tells more, and goes step by step.

        Raises:
            OSError: Those of :meth:`lookup`; ``ENOTDIR``: *path* is no directory; ``EACCES``.

        Linux: ``proc_readdir_de``.
        """
        entry = self.lookup(path, cred=cred)
        if not entry.is_dir():
            raise error(ENOTDIR, entry.path)
        entry._check(cred, MAY_READ)
        return entry._children.names()

    def stat(
        self,
        path: str,
        *,
        follow_symlinks: bool = True,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> Stat:
        """Return the attributes of an entry. The arguments and errors are :meth:`lookup`'s."""
        entry = self.lookup(path, follow_symlinks=follow_symlinks, cred=cred, dir_fd=dir_fd)
        return entry.stat()

    def readlink(
        self, path: str, *, cred: Credentials = ROOT, dir_fd: ProcFile | None = None
    ) -> str:
        """
        Return where a symlink leads. Not a checkpoint.

        Raises:
            OSError: Those of :meth:`lookup`; ``EINVAL``: *path* is no symlink.
        """
        entry = self.lookup(path, follow_symlinks=False, cred=cred, dir_fd=dir_fd)
        if not stat.S_ISLNK(entry.type):
            raise error(EINVAL, entry.path, "not a symlink")
        return str(entry.data)

    def chmod(
        self, path: str, mode: int, *, cred: Credentials = ROOT, dir_fd: ProcFile | None = None
    ) -> None:
        """
        Change an entry's permission bits (0 to 0o7777) for good. Not a checkpoint.

        Raises:
            OSError: Those of :meth:`lookup`; ``EPERM``: *cred* is neither its owner nor the
                superuser, or it is a mount point.

        Linux: ``proc_notify_change``.
        """
        self.lookup(path, cred=cred, dir_fd=dir_fd).chmod(mode, cred)

    def chown(
        self,
        path: str,
        uid: int,
        gid: int,
        *,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> None:
        """
        Change an entry's owner and group for good; -1 leaves one as it is. Not a checkpoint.

        Raises:
            OSError: Those of :meth:`lookup`; ``EPERM``: *cred* may not, or it is a mount point.
        """
        self.lookup(path, cred=cred, dir_fd=dir_fd).chown(uid, gid, cred)

    def access(
        self, path: str, how: int, *, cred: Credentials = ROOT, dir_fd: ProcFile | None = None
    ) -> None:
        """
        Check what *cred* may do. Not a checkpoint.

        Args:
            how: ``os.F_OK``, or any of ``R_OK``, ``W_OK`` and ``X_OK``.

        Raises:
            OSError: Those of :meth:`lookup`; ``EACCES``: the mode bits forbid it, or it is a file
                that nobody may execute, the superuser included; ``EINVAL``: *how* has other bits.

        Linux: ``do_faccessat``.
        """
        check_int("how, as os.R_OK,", how)
        if how & ~(MAY_READ | MAY_WRITE | MAY_EXEC):
            raise error(EINVAL, path, f"how is F_OK, or any of R_OK, W_OK and X_OK, not {how}")
        entry = self.lookup(path, cred=cred, dir_fd=dir_fd)
        entry._check(cred, how)
        # The one thing that mode bits forbid the superuser (generic_permission).
        if how & MAY_EXEC and not entry.is_dir() and not entry.mode & 0o111:
            raise error(EACCES, entry.path, "nobody may execute it")

    def truncate(self, path: str, size: int, *, cred: Credentials = ROOT) -> None:
        """
        Succeed and change nothing, as in procfs. Not a checkpoint.

        Raises:
            OSError: Those of :meth:`lookup`; ``EISDIR``; ``EINVAL``: *size* is negative;
                ``EACCES``.
        """
        check_int("size", size)
        entry = self.lookup(path, cred=cred)
        if entry.is_dir():
            raise error(EISDIR, entry.path)
        entry._check(cred, MAY_WRITE)
        if size < 0:
            raise error(EINVAL, entry.path, f"the size must be >= 0, not {size}")

    # -- opening --------------------------------------------------------------------------------

    async def open(
        self,
        path: str | ProcDirEntry,
        flags: int = os.O_RDONLY,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> ProcFile:
        """
        Open an entry: run its open handler, and return the file.

        A checkpoint, before the path is looked up. Cancelled inside the handler, nothing was
        opened; once the handler has succeeded, the file is returned. It may be dead on arrival,
        if removal began meanwhile: then its release handler runs by that removal.

        Args:
            path: As for :meth:`lookup`; or an entry, also one that has no name any more.
            flags: ``os.O_RDONLY``, ``O_WRONLY`` or ``O_RDWR``, and any of ``O_DIRECTORY``,
                ``O_NOFOLLOW``, ``O_PATH``, ``O_NONBLOCK``, ``O_APPEND`` (the last two are for
                the handlers to heed). ``O_TRUNC`` changes nothing, ``O_CREAT`` creates nothing.
            cred: Who asks.
            dir_fd: An open directory that a relative path starts from (openat).

        Raises:
            EntryRemovedError: ``ENOENT``: the entry's removal has begun.
            OSError: Those of :meth:`lookup`; ``EACCES``: the mode bits forbid it; ``EISDIR``: a
                directory cannot be written; ``ENOTDIR``: *flags* want a directory; ``ELOOP``:
                they forbid to follow a symlink; ``EEXIST``: they want it not to exist;
                ``EINVAL``: they have ``O_DIRECT``; whatever the open handler raised.

        Linux: ``proc_reg_open``.
        """
        entry: Any = path
        if type(entry) is not ProcDirEntry:
            entry = self._usual(path, dir_fd)
        # From here on what open_entry() does, in place: each call left out is a tenth of it. Only
        # for what is most common; the slow way knows all the rest.
        if entry is None or not entry._attributes.quick or entry._in_use < 0:
            return await self._open_slowly(path, flags, cred, dir_fd)
        ops: Any = entry.ops
        try:
            file_class, cls = ops._quick_handles[flags]
        except KeyError:
            return await self._open_slowly(path, flags, cred, dir_fd)
        if cred is not ROOT or sinks:
            return await self._open_slowly(path, flags, cred, dir_fd)
        file: File = file_class()
        file.entry = entry
        file.pos = file._in_use = 0
        file.private_data = file._newer = None
        if ops.open is not None:
            entry._in_use += 1
            try:
                result = ops.open(file)
                if ops._open_awaited:
                    result = await result
                if result is not None and result != 0:
                    raise nonsense(file, "open", result, "None")
                file._older = newest = entry._newest
                if newest is not None:
                    newest._newer = file
                entry._newest = file
            finally:
                # unuse() in place; a file that comes too late is dead on arrival
                entry._in_use = left = entry._in_use - 1
                if left < 0:
                    file._kill()
                    entry._late_out()
        else:
            file._older = newest = entry._newest
            if newest is not None:
                newest._newer = file
            entry._newest = file
        handle: ProcFile = cls()
        handle._file = file
        return handle

    async def _open_slowly(
        self, path: str | ProcDirEntry, flags: int, cred: Credentials, dir_fd: ProcFile | None
    ) -> ProcFile:
        check_flags(flags)
        follow = not flags & os.O_NOFOLLOW and flags & _MAKE_NEW != _MAKE_NEW
        entry = await self._arrive(path, follow_symlinks=follow, cred=cred, dir_fd=dir_fd)
        if flags != os.O_RDONLY or cred is not ROOT or not stat.S_ISREG(entry.type):
            may_open(entry, flags, cred)
        file = await open_entry(entry, flags)
        if flags & _O_DIRECT and not flags & os.O_PATH:
            # After the open handler, and so with a release: do_dentry_open() comes to it last.
            await file.aclose()
            raise error(EINVAL, entry.path, "nothing here is cached: leave O_DIRECT out")
        return file

    def _usual(self, path: object, dir_fd: ProcFile | None = None) -> ProcDirEntry | None:
        """Find an entry that is nothing special by a path that is nothing special, or None."""
        entry = self._walk_quickly(path) if dir_fd is None else None
        return entry if type(entry) is ProcDirEntry else None

    async def _arrive(self, path: str | ProcDirEntry, **how: Any) -> ProcDirEntry:
        """Make the checkpoint of a call, if it has one, and find what it is about after that."""
        check_thread(self, self._thread)
        # A name is not asked if it is an entry: that of an ABC takes long to answer.
        if type(path) is not str and isinstance(path, ProcDirEntry):
            if not path.fast_acquire:
                await self._checkpoint()
            return path
        try:
            entry = self.lookup(path, **how)
        except OSError:
            if self.root.fast_acquire:
                raise
        else:
            if entry.fast_acquire:
                return entry
        await self._checkpoint()
        return self.lookup(path, **how)

    async def read_bytes(
        self,
        path: str | ProcDirEntry,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> bytes:
        """
        Open an entry, read it to the end, and close it, as one call inside its guard.

        A removal that begins meanwhile waits for all of it, so the content is whole. A
        checkpoint; cancelled, it has closed what it opened.

        Raises:
            OSError: Those of :meth:`open` and :meth:`ProcFile.read`.
        """
        entry: Any = path
        if type(entry) is not ProcDirEntry:
            entry = self._usual(path, dir_fd)
        # As in open(): read_entry() in place, where that is possible.
        if (
            entry is None
            or not entry._attributes.quick
            or not entry.ops._quick_to_read
            or entry._in_use < 0
            or cred is not ROOT
            or sinks
        ):
            return await read_entry(await self._one_shot(path, os.O_RDONLY, cred, dir_fd))
        file = _ReadFile()
        file.entry = entry
        file.pos = file._in_use = 0
        file.private_data = file._newer = file._older = None
        ops: Any = entry.ops
        entry._in_use += 1
        try:
            if ops.open is not None:
                op = "open"  # which holders() tells
                result = await ops.open(file)
                if result is not None and result != 0:
                    raise nonsense(file, op, result, "None")
            try:
                op = "read"
                reader = ops._reader
                data = await reader(file, 0x7FFFF000, 0)
                if type(data) is not bytes:
                    checked_bytes(file, data, MAX_RW_COUNT)
                whole: bytes = data
                while data:
                    file.pos = pos = file.pos + len(data)
                    data = await reader(file, 0x7FFFF000, pos)
                    if type(data) is not bytes:
                        checked_bytes(file, data, MAX_RW_COUNT)
                    if data:
                        whole += data
                return whole
            finally:
                if ops.release is not None:
                    op = "release"
                    await ops.release(file)
        finally:
            entry._in_use = left = entry._in_use - 1
            if left < 0:
                entry._late_out()

    async def read_text(
        self,
        path: str | ProcDirEntry,
        *,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> str:
        """
        Do what :meth:`read_bytes` does, and decode it as UTF-8.

        Raises:
            UnicodeDecodeError: That it is not.
        """
        return _decoded(await self.read_bytes(path, cred=cred, dir_fd=dir_fd))

    async def write_bytes(
        self,
        path: str | ProcDirEntry,
        data: bytes,
        *,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> None:
        """
        Open an entry, write all of *data*, and close it, as one call inside its guard.

        A checkpoint; cancelled, it has closed what it opened, with part of the data written.

        Raises:
            OSError: Those of :meth:`open` and :meth:`ProcFile.write`; ``EIO``: the handler
                takes no more, though there is some left.
        """
        data = as_bytes(data)
        await write_entry(await self._one_shot(path, os.O_WRONLY, cred, dir_fd), data)

    async def write_text(
        self,
        path: str | ProcDirEntry,
        text: str,
        *,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> None:
        """
        Encode *text* as UTF-8 and do what :meth:`write_bytes` does.

        Raises:
            UnicodeEncodeError: It has lone surrogates; nothing was opened.
        """
        await self.write_bytes(path, _encoded(text), cred=cred, dir_fd=dir_fd)

    async def _one_shot(
        self, path: str | ProcDirEntry, flags: int, cred: Credentials, dir_fd: ProcFile | None
    ) -> ProcDirEntry:
        entry = await self._arrive(path, cred=cred, dir_fd=dir_fd)
        may_open(entry, flags, cred)
        if entry.is_dir():
            raise error(EISDIR, entry.path)
        return entry


# They run handlers themselves: see above.
add_site(VFS.open, "file", "open")
add_site(VFS.read_bytes, "file", None)


def _start(dir_fd: object) -> ProcDirEntry:
    if not isinstance(dir_fd, ProcFile):
        msg = f"dir_fd is an open directory, as open() returns it, not {dir_fd!r:.60}"
        raise TypeError(msg)
    return dir_fd.entry


def _encoded(text: Any) -> bytes:
    if not isinstance(text, str):
        msg = f"write_text wants str, not {type(text).__name__}: use write_bytes()"
        raise TypeError(msg)
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        exc.reason += ": encode it as you mean it, and use write_bytes()"
        raise


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        exc.reason += ": what is no text, read_bytes() returns"
        raise
