"""One node of the tree: its name, its attributes, its use count (struct proc_dir_entry)."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from errno import EACCES, EPERM
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

import anyio
from anyio.abc import AsyncResource

from ._attributes import PERMISSIONS, attributes
from ._check import ID_MAX, SIZE_MAX, check_int, in_range
from ._credentials import check_cred
from ._errors import error
from ._fsnotify import observers
from ._ops import NO_OPS
from ._rare import GONE, PLAIN, Rare
from ._stat import DirEntry, Stat
from ._subdir import NO_CHILDREN, Children
from ._trace import emit, sinks
from ._usecount import BIAS, Rundown, UseCountStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from ._attributes import Attributes
    from ._credentials import Credentials
    from ._holders import Holder
    from ._inum import InodeNumbers
    from ._open_file import File
    from ._ops import ProcOps
    from ._owner import Owners

    # In the class below, `type` is the type of an entry.
    ExceptionType = type[BaseException]


@dataclass(frozen=True, slots=True)
class EntryStatistics(UseCountStatistics):
    """
    A frozen snapshot of a :class:`ProcDirEntry`: of its use count, and what hangs on it.

    *in_use* leaves out release handlers, which are no calls of a user's; removal waits for them
    too.
    """

    open_files: int
    """How many open files still wait for their release."""
    state: str
    """
    ``"live"``; ``"unlinked"`` (its name is gone, nothing else yet); ``"dying"`` (new calls are
    refused, some are still inside); ``"releasing"`` (none is inside, files are being released);
    ``"gone"``.
    """


Checkpoint: TypeAlias = "Callable[[], Coroutine[Any, Any, None]]"
"""What yields to other tasks: anyio's, or that of the loop a tree is in, which is sooner found."""


class Tree(Protocol):
    """What an entry needs of the tree it stands in (a ProcFS)."""

    _inodes: InodeNumbers
    _owners: Owners | None
    _checkpoint: Checkpoint

    async def _remove_entry(self, entry: ProcDirEntry, grace: float | None) -> None:
        """Remove the entry and all below it, or join whoever does."""
        ...

    def _remove_soon(self, entry: ProcDirEntry) -> bool:
        """Begin to remove the entry, and leave the rest to the tree."""
        ...

    def holders(self, entry: ProcDirEntry) -> list[Holder]:
        """Find the calls inside the entry and all below it."""
        ...


class ProcDirEntry(Rundown, AsyncResource):
    """
    An entry of the tree: a file, directory, symlink or mount point.

    Made by :meth:`ProcFS.create` and its like, never directly. It is an async context manager and
    an ``anyio.abc.AsyncResource``: leaving the block removes it. ``use()`` and ``unuse()``
    count something else as inside, as those of a :class:`UseCount` do: removal waits for that too.

    Attributes may be changed at any time, and what is set is what ``stat`` shows from then on.

    Linux: ``struct proc_dir_entry``, fs/proc/internal.h.
    """

    killable: bool = False
    """Whether calls inside are cancelled when the grace of a removal ends."""

    # A million of these may exist: no dict, and nothing of its own that others have alike. An
    # inode number is a multiple of 256, which 256 neighbours share, and a small int, which are
    # shared anyway: an int of its own would be a sixth of the whole.
    __slots__ = (
        "_attributes",
        "_block",
        "_newest",
        "_offset",
        "_rare",
        "data",
        "ops",
        "parent",
    )

    # In the place of an __init__: a class that has one takes as long again to call.
    def _prepare(
        self,
        name: str,
        mode: int,
        parent: ProcDirEntry | None,
        number: tuple[int, int],
        ops: ProcOps = NO_OPS,
        data: Any = None,
        fast_acquire: bool = False,
    ) -> None:
        """Fill in what a new entry consists of; its inode *number* is in two parts."""
        self._name = name
        self._in_use = 0
        if parent is None:
            self.parent: ProcDirEntry = self
            self._attributes: Attributes = attributes(mode, 0, 0, 0, fast_acquire)
        else:
            self.parent = parent
            above = parent._attributes
            key = mode if fast_acquire else ~mode
            try:
                self._attributes = above.below[key]
            except KeyError:
                self._attributes = attributes(mode, above.uid, above.gid, 0, fast_acquire)
                above.below[key] = self._attributes
        self._rare = PLAIN
        self._block, self._offset = number
        self.ops: ProcOps = ops
        self.data: Any = data
        # Every open file, from the one whose open finished last to the first; see _add_file(). The
        # kernel lists only those with a release handler; here removal also shuts each file's own
        # count (see File).
        self._newest: File | None = None

    def _own(self) -> Rare:
        """Return what is rare about this entry, for a change to this one alone."""
        rare = self._rare
        if rare.shared:
            rare = self._rare = Rare(rare.removal, holders=rare.holders)
        return rare

    @property
    def _removal(self) -> Any:
        return self._rare.removal

    @_removal.setter
    def _removal(self, removal: Any) -> None:
        self._own().removal = removal

    @property
    def _completion(self) -> anyio.Event | None:
        return self._rare.completion

    @_completion.setter
    def _completion(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, completion: anyio.Event | None
    ) -> None:
        self._own().completion = completion

    # -- what it is -----------------------------------------------------------------------------

    def __repr__(self) -> str:
        numbers = self.statistics()
        files = f" open_files={numbers.open_files}" if numbers.open_files else ""
        mode = stat.filemode(self._attributes.mode)
        what = f"{self.path!r} {mode} in_use={numbers.in_use}{files}"
        return f"<ProcDirEntry {what} {numbers.state}>"

    @property
    def path(self) -> str:
        """The full path, with the mount point in front; also of an entry that is gone."""
        names: list[str] = []
        entry = self
        while entry.parent is not entry:
            names.append(entry.name)
            entry = entry.parent
        return "/".join([entry.name.rstrip("/"), *reversed(names)]) or "/"

    @property
    def ino(self) -> int:
        """The inode number, > 0; unique among the entries of a tree that are not gone."""
        return self._block + self._offset

    @property
    def nlink(self) -> int:
        """How many names it has, as stat tells: of a directory, those in its subdirectories too."""
        return (2 if self.is_dir() else 1) + self._rare.subdirs

    @property
    def type(self) -> int:
        """``stat.S_IFREG``, ``S_IFDIR`` or ``S_IFLNK``."""
        return stat.S_IFMT(self._attributes.mode)

    def is_dir(self) -> bool:
        """Tell whether it is a directory or a mount point."""
        return self._attributes.is_dir

    @property
    def fast_acquire(self) -> bool:
        """Whether calls skip the checkpoint where they need not wait."""
        return self._attributes.fast_acquire

    @property
    def permanent(self) -> bool:
        """Whether it can only go with the whole tree."""
        return self.ops.permanent

    @property
    def mode(self) -> int:
        """The permission bits, 0 to 0o7777; may be changed."""
        return stat.S_IMODE(self._attributes.mode)

    @mode.setter
    def mode(self, mode: int) -> None:
        check_int("mode", mode)
        if not 0 <= mode <= PERMISSIONS:
            msg = f"mode must be permission bits, 0 to 0o7777, not {mode:#o}"
            raise ValueError(msg)
        self._set(self._attributes.but(mode=self.type | mode))

    @property
    def uid(self) -> int:
        """The owner, 0 to 2**32 - 2: the parent's, until it is changed (proc_set_user)."""
        return self._attributes.uid

    @uid.setter
    def uid(self, uid: int) -> None:
        self._set(self._attributes.but(uid=in_range("uid", uid, ID_MAX)))

    @property
    def gid(self) -> int:
        """The group, 0 to 2**32 - 2: the parent's, until it is changed (proc_set_user)."""
        return self._attributes.gid

    @gid.setter
    def gid(self, gid: int) -> None:
        self._set(self._attributes.but(gid=in_range("gid", gid, ID_MAX)))

    @property
    def size(self) -> int:
        """
        What stat says, in bytes, 0 to 2**63 - 1; may be changed (proc_set_size).

        Reads do not heed it.
        """
        return self._attributes.size

    @size.setter
    def size(self, size: int) -> None:
        self._set(self._attributes.but(size=in_range("size", size, SIZE_MAX)))

    def _set(self, now: Attributes) -> None:
        self._attributes = now
        self._changed()

    def _changed(self) -> None:
        for observer in observers:
            observer.changed(self)

    def stat(self) -> Stat:
        """Return the attributes as they are now, there or gone. Not a checkpoint."""
        now = self._attributes
        return Stat(now.mode, self.ino, self.nlink, now.uid, now.gid, now.size)

    def chmod(self, mode: int, cred: Credentials) -> None:
        """
        Change the permission bits on behalf of *cred*; the entry keeps them. Not a checkpoint.

        Args:
            mode: 0 to 0o7777; other bits are left out.

        Raises:
            OSError: ``EPERM``: *cred* is neither the owner nor the superuser.

        Linux: ``proc_notify_change``.
        """
        check_cred(cred)
        check_int("mode", mode)
        if cred.uid not in {0, self.uid}:
            raise error(EPERM, self.path, "only its owner may change the mode")
        self.mode = mode & PERMISSIONS

    def chown(self, uid: int, gid: int, cred: Credentials) -> None:
        """
        Change owner and group on behalf of *cred*; both, or on an error none. Not a checkpoint.

        Args:
            uid: 0 to 2**32 - 2; -1 leaves it as it is.
            gid: The same.

        Raises:
            OSError: ``EPERM``: *cred* may not.
            ValueError: There can be no such id.

        Linux: ``proc_notify_change``.
        """
        check_cred(cred)
        if not self._attributes.may_chown(uid, gid, cred):
            raise error(EPERM, self.path, "only the superuser may change the owner")
        self._set(self._attributes.chowned(uid, gid))

    def _check(self, cred: Credentials, mask: int) -> None:
        """Raise ``EACCES`` unless the mode bits allow *cred* what *mask* says."""
        check_cred(cred)
        now = self._attributes
        if not cred.allows(now.mode, now.uid, now.gid, mask):
            raise error(EACCES, self.path)

    def _listing(self, start: int, stop: int | None) -> list[DirEntry]:
        """Return some lines of a directory; ``.`` and ``..`` are the first two."""
        dots = [
            DirEntry(".", stat.S_IFDIR, self.ino),
            DirEntry("..", stat.S_IFDIR, self.parent.ino),
        ]
        first, last = max(start - 2, 0), None if stop is None else max(stop - 2, 0)
        children = list(self._children)[first:last]
        return dots[start:stop] + [child._as_dirent() for child in children]

    def _as_dirent(self) -> DirEntry:
        """Return the line this entry has in a listing."""
        return DirEntry(self._name, self.type, self.ino)

    @property
    def in_use(self) -> int:
        """How many calls are inside its handlers, on any of its open files."""
        inside = super().in_use
        for file in self._open_files:
            # Once dying, a busy file counts as one call in the entry's own number: see _kill().
            inside += file.in_use - (self._in_use < 0 and file.in_use > 0)
        return inside

    @property
    def _linked(self) -> bool:
        """Whether its parent still lists it under its name."""
        return self.parent is self or self.parent._children.get(self.name) is self

    @property
    def _unclaimed(self) -> bool:
        """Whether a removal may begin here: nobody has unlinked it in order to remove it."""
        return self._removal is None or (self._removal is not GONE and self._linked)

    def statistics(self) -> EntryStatistics:
        """Return a frozen snapshot, for debugging and for tests."""
        open_files = len(self._open_files)
        return EntryStatistics(self.in_use, self.removing, open_files, self._state())

    def _state(self) -> str:
        if self._in_use >= 0:
            return "live" if self._linked else "unlinked"
        if self._in_use != BIAS:
            return "dying"
        return "gone" if self._removal is GONE else "releasing"

    # -- its place in the tree ------------------------------------------------------------------

    @property
    def _children(self) -> Children:
        """The entries below it; an empty collection where there are none."""
        children = self._rare.children
        return NO_CHILDREN if children is None else children

    def _add_child(self, child: ProcDirEntry) -> None:
        """Make *child* visible below this entry, at once and whole (``proc_register``)."""
        rare = self._rare
        if rare.children is None:
            rare = self._own()
            rare.children = Children()
        rare.children.add(child)
        if child._attributes.is_dir:
            rare.subdirs += 1
            self._changed()

    def _unlink(self) -> None:
        """Take its name out of the parent, which is free for another at once."""
        if sinks:
            emit("unlink", self.path)
        self.parent._children.take(self)
        if self.is_dir():
            self.parent._rare.subdirs -= 1
            self.parent._changed()
        for observer in observers:
            observer.unlinked(self)

    @property
    def _tree(self) -> Tree:
        """The tree it belongs to, or belonged to."""
        entry = self.parent
        while entry.parent is not entry:
            entry = entry.parent
        return entry._tree

    # -- its removal ----------------------------------------------------------------------------

    def _kill(self) -> bool:
        """
        Refuse every call from now on, opens and calls on open files alike.

        Each open file counts its own calls (see :class:`File`). One that has calls inside becomes
        one more user of the entry here, until the last of them is out.
        """
        if self._in_use < 0:
            return False
        file, bias = self._newest, BIAS
        while file is not None:
            if file._in_use:
                self._in_use += file._kill()
            else:  # the same in place: there may be many
                file._in_use = bias
            file = file._older
        super()._kill()
        if sinks:
            emit("bias", self.path)
        if self._rare.watchers is not None:
            for event in self._rare.watchers.values():
                event.set()
            self._rare.watchers = None
        return True

    def _watch(self, key: object) -> anyio.Event:
        """Return an event, one for each *key*, that is set when removal begins, or has begun."""
        if self._in_use < 0:
            event = anyio.Event()
            event.set()
            return event
        rare = self._own()
        if rare.watchers is None:
            rare.watchers = {}
        if key not in rare.watchers:
            rare.watchers[key] = anyio.Event()
        return rare.watchers[key]

    def _unwatch(self, key: object) -> None:
        """Forget the event of *key*, if it is still waited for."""
        if self._rare.watchers is not None:
            self._rare.watchers.pop(key, None)

    def _gone(self) -> None:
        """Note that removal is over: what still holds the number are files left open."""
        if sinks:
            emit("gone", self.path)
        rare = self._own()
        rare.removal = GONE
        if rare.holders == 0:
            self._free_number()

    def _add_file(self, file: File) -> None:
        """Note an open file, which removal will shut and release; one too late is dead already."""
        # A list threaded through the files, as the kernel's: a dict takes three times the memory.
        file._older = older = self._newest
        if older is not None:
            older._newer = file
        self._newest = file
        if self._in_use < 0:
            file._kill()

    def _take_file(self, file: File) -> None:
        """Forget an open file, which was released."""
        newer, older = file._newer, file._older
        if newer is None:
            self._newest = older
        else:
            newer._older = older
            file._newer = None
        if older is not None:
            older._newer = newer
            file._older = None

    @property
    def _open_files(self) -> list[File]:
        """The open files that wait for their release, the newest first."""
        files: list[File] = []
        file = self._newest
        while file is not None:
            files.append(file)
            file = file._older
        return files

    def _add_holder(self) -> None:
        """Note a file that removal does not wait for: it pins the inode number until closed."""
        self._own().holders += 1

    def _put_holder(self) -> None:
        """Note that such a file was closed at last."""
        rare = self._own()
        rare.holders -= 1
        if rare.holders == 0 and rare.removal is GONE:
            self._free_number()

    def _free_number(self) -> None:
        # Once only: what is opened of an entry that is gone does not hold the number again.
        self._own().holders = BIAS
        self._tree._inodes.give_back(self.ino)

    async def remove(self, *, grace: float | None = None) -> None:
        """
        Remove the entry and everything below it; return when all of it is gone.

        Unlinking and refusing come first, before anything is waited for: from then on its name is
        free, opens get ``ENOENT``, calls on open files the dead value of their operation. Then
        the calls inside are waited for, and each file still open is released, newest first,
        children before their directory. Files left open stay open, and dead.

        A checkpoint. Whoever comes second waits for the first, and returns when it is gone; on
        an entry that is gone it returns at once. If cancelled, it raises at once and the removal
        goes on without it; ``await`` it again to join.

        Args:
            grace: Seconds to wait for the calls inside; by default the tree's. When they are over,
                calls of entries created as *killable* are cancelled, and get ``EIO``; if any
                others are left, that is an error.

        Raises:
            OSError: ``EINVAL``: it, or something below it, is permanent; nothing was changed.
                ``EDEADLK``: a handler of its own calls this (nothing was changed, see
                :meth:`remove_self`), or it came to wait for itself in some other way.
            RemovalTimeoutError: The grace has ended; it tells who is still inside, and where.
            ExceptionGroup: Release handlers failed. Everything was released all the same.

        Linux: ``proc_remove``, fs/proc/generic.c.
        """
        await self._tree._remove_entry(self, grace)

    def remove_self(self) -> bool:
        """
        Begin the removal from inside a handler: it ends after that handler has left.

        Unlinking and refusing happen here and now, the rest in the tree's task group, with the
        context of this call. Not a checkpoint. Awaiting :meth:`remove` would wait for itself.

        Returns:
            True for the one call that began it; False if somebody else had.

        Raises:
            OSError: ``EINVAL``: it, or something below it, is permanent.
            RuntimeError: In a thread without the tree's event loop; nothing was begun.

        Linux: ``kernfs_remove_self``; procfs has no such thing, and hangs.
        """
        return self._tree._remove_soon(self)

    def holders(self) -> list[Holder]:
        """
        Tell which calls are inside it and all below it: task, operation, and where it stands.

        Goes through all tasks, a few microseconds each; costs nothing while nobody asks. Only in
        an event loop. Not a checkpoint.
        """
        return self._tree.holders(self)

    async def aclose(self) -> None:
        """Do what :meth:`remove` does. A checkpoint, as that is."""
        await self.remove()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: ExceptionType | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.remove()
