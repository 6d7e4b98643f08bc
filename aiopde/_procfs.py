"""The tree: what registers, finds, opens and removes entries (fs/proc/generic.c)."""

from __future__ import annotations

import math
import os
import stat
from contextvars import ContextVar
from errno import EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, ENOTEMPTY, EPERM
from typing import TYPE_CHECKING, Any, Final, Self, final

import anyio
from anyio.lowlevel import EventLoopToken, checkpoint, current_token

from ._credentials import MAY_EXEC, MAY_READ, MAY_WRITE, ROOT
from ._entry import (
    GONE,
    PERMISSIONS,
    KillableEntry,
    MountPoint,
    ProcDirEntry,
    ProcRoot,
)
from ._errors import error
from ._file import ProcFile, as_bytes, readable, writable
from ._holders import add_site, holders, running_handler
from ._inum import InodeNumbers
from ._namei import NAME_MAX, check_name, check_path, locate, walk
from ._open import open_entry, read_entry, write_entry
from ._open_file import MAX_RW_COUNT, File
from ._ops import NO_OPS, ProcOps
from ._proc_seq import seq_table, single_table
from ._removal import Removal, removable, removal_around, subtree
from ._trace import sinks
from ._watch import RemovalTimeoutError, Watch, refuse_self_removal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from anyio.abc import TaskGroup

    from ._credentials import Credentials
    from ._entry import Checkpoint, Owner, Owners, Tree
    from ._holders import Holder
    from ._seq_file import SeqOps, ShowAllHandler, TextHandler
    from ._stat import Stat

# A symlink at the end is not followed then, so that a dangling one exists already.
_MAKE_NEW: Final = os.O_CREAT | os.O_EXCL
_O_DIRECT: Final = getattr(os, "O_DIRECT", 0)  # not on every system


# So long a name has not too many bytes, whatever it is made of.
_SHORT: Final = NAME_MAX // 4
_REGULAR: Final = stat.S_IFREG | 0o444

current_owner: ContextVar[Owner | None] = ContextVar("current_owner", default=None)
"""Whose code runs in this context, handlers apart: those run in that of their callers."""


def find_owner(tree: Tree) -> Owner | None:
    """Tell whose code registers something in a tree."""
    # Nothing is noted while handlers run, so nothing is paid for it: their frames tell.
    entry = None if tree.owners is None else running_handler()
    return current_owner.get() if entry is None else owner_of(entry)


def owner_of(entry: ProcDirEntry) -> Owner | None:
    """Tell whose an entry is, and so whose code its handlers are."""
    owners = entry.tree.owners
    return None if owners is None else owners.owner_of(entry)


@final
class ProcFS:
    """
    A tree of entries that can be removed while they are in use. Several may live in one program.

    Use it as an async context manager::

        async with ProcFS() as proc:
            proc.create("hello", ProcOps(read=hello))
            print(await proc.read_text("hello"))

    Leaving the block removes all that is left, permanent entries too, children before their
    directories; it waits for the calls inside, and is not cut short by cancellation. It has a task
    group, where a removal goes on whose caller was cancelled; else no task of its own.

    A user's path is relative to the root of the tree, as ``"driver/x"``, or absolute below the
    mount point, as ``"/proc/driver/x"``. The name of a registration or removal is a path from the
    root or from *parent*, and has no slash in front.

    What registers, finds or tells something is a plain method: it never waits, and takes effect
    at once. What may wait is a coroutine method, and a checkpoint.

    Args:
        mountpoint: What absolute paths begin with.
        fast_acquire: The default for every entry: leave out the checkpoint of a call that need
            not wait, as in anyio's primitives. A loop of such calls may then starve other tasks.
        grace: The default for every removal, and for leaving the block: seconds to wait for the
            calls inside; None for ever. See :meth:`ProcDirEntry.remove`. Leaving then gives up
            what it still waits for, a release handler too. Removals in a module's exit have none
            (see :meth:`Kernel.rmmod`).
        hung_task_timeout: Seconds until a removal that still waits logs a warning, once, which
            tells who it waits for; None for never. The logger is ``"aiopde"``.
    """

    def __init__(
        self,
        *,
        mountpoint: str = "/proc",
        fast_acquire: bool = False,
        grace: float | None = None,
        hung_task_timeout: float | None = 10.0,
    ) -> None:
        if not mountpoint.startswith("/") or (mountpoint.endswith("/") and mountpoint != "/"):
            msg = f"mountpoint is an absolute path, as '/proc', not {mountpoint!r}"
            raise ValueError(msg)
        check_seconds("grace", grace)
        check_seconds("hung_task_timeout", hung_task_timeout)
        self.root: ProcRoot = ProcRoot(mountpoint, self, fast_acquire=fast_acquire)
        self.inodes: InodeNumbers = InodeNumbers()
        # The Kernel whose tree it is, if it is one's.
        self.owners: Owners | None = None
        self.checkpoint: Checkpoint = checkpoint
        self._grace = grace
        self._hung_task_timeout = hung_task_timeout
        self._tasks: TaskGroup | None = None
        self._loop: EventLoopToken | None = None
        # Those not finished, for who joins by name; and those whose errors nobody has seen yet.
        self._removals: dict[Removal, None] = {}
        self._failed: dict[ProcDirEntry, Removal] = {}
        self._finishers: set[anyio.CancelScope] = set()
        # Removed entries that something was created below afterwards.
        self._orphaned: list[ProcDirEntry] = []

    def __repr__(self) -> str:
        state = "open" if self._tasks else "not entered"
        if self.root.removing:
            state = "closed"
        return f"<ProcFS {self.root.name!r} {state}>"

    async def __aenter__(self) -> Self:
        if self._tasks is not None or self.root.removing:
            msg = "a ProcFS can be entered once: make another one"
            raise RuntimeError(msg)
        self._loop = current_token()
        # What anyio's own asks for anew each time, which takes half a microsecond.
        self.checkpoint = self._loop.backend_class.checkpoint
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        errors: list[Exception] = []
        interrupted: BaseException | None = None
        with anyio.CancelScope(shield=True):  # noqa: ASYNC912  it waits if there is reason to
            for removal in self._begin_all():
                interrupted = await self._see_through(removal, errors) or interrupted
        if errors:
            # Nothing may go on after this: what still waits does so in vain.
            for scope in self._finishers:
                scope.cancel()
        # Not told of *exc*, which the group would wrap; whoever it ran has ended by now.
        await self._tasks.__aexit__(None, None, None)
        self._raise(errors, exc)
        if interrupted is not None and type(exc) is not type(interrupted):
            raise interrupted

    async def _see_through(self, removal: Removal, errors: list[Exception]) -> BaseException | None:
        """Run a removal to its end, whatever comes; return what is not to be kept from the user."""
        interrupted: BaseException | None = None
        watch = self._watch(removal, None)
        while not removal.done:
            try:
                # With a grace in a task of its own, so that it can be left if it does not end.
                if self._grace is None:
                    await removal.run(watch.wait)
                else:
                    await self._go_on(removal, watch)
            except OSError as timeout:
                errors.append(timeout)
                break
            except BaseException as exc:  # noqa: ASYNC103  raised at the end
                interrupted = exc  # SystemExit, or Task.cancel(), which heeds no shield
        self._end(removal)
        return interrupted

    def _begin_all(self) -> list[Removal]:
        removals = [self._begin(self.root, subtree(self.root))]
        for gone in self._orphaned:
            removals += [self._begin(child, subtree(child)) for child in gone.children]
        return removals

    def _raise(self, errors: list[Exception], exc: BaseException | None) -> None:
        for removal in self._failed.values():
            errors += removal.errors
        if not errors:
            return
        if exc is None and len(errors) == 1 and isinstance(errors[0], RemovalTimeoutError):
            raise errors[0]
        together: list[BaseException] = [*errors]
        if exc is not None and not isinstance(exc, anyio.get_cancelled_exc_class()):
            together.insert(0, exc)
        msg = "the tree was left, and not everything had gone well"
        raise BaseExceptionGroup(msg, together)

    # -- registration ---------------------------------------------------------------------------

    def create(
        self,
        name: str,
        ops: ProcOps,
        *,
        mode: int = 0,
        parent: ProcDirEntry | None = None,
        data: Any = None,
        fast_acquire: bool | None = None,
        killable: bool = False,
    ) -> ProcDirEntry:
        """
        Register a file; it can be opened from this moment on. Not a checkpoint.

        Args:
            name: A name, 1 to 255 bytes, or a path to it; all but the last name must be there.
            ops: Its handlers; one table may serve many entries.
            mode: Permission bits; 0 stands for 0444. The bits of a regular file may be added.
            parent: What *name* starts from; by default the root.
            data: For the handlers, as ``file.data``.
            fast_acquire: Overrides the tree's default for calls on this entry.
            killable: Calls inside may be cancelled when the grace of a removal ends; their callers
                then get ``EIO``. A call costs more, since each has a cancel scope.

        Returns:
            The entry; ``async with`` it to have it removed at the end of a block.

        Raises:
            OSError: And nothing was changed. ``EEXIST``: the name is taken; ``EINVAL``: no entry
                can have that name, *mode* is of something else than a file, or it is to be
                permanent below what is being removed; ``ENAMETOOLONG``; ``ENOENT``: a directory
                on the way is missing; ``EPERM``: the parent is a mount point.
            TypeError: *ops* is no :class:`ProcOps`.

        Linux: ``proc_create_data``.
        """
        given: type = type(ops)
        if given is not ProcOps:
            raise _no_table(ops)
        mode = _file_mode(name, mode) if mode else _REGULAR
        kind = KillableEntry if killable else ProcDirEntry
        return self._register(name, mode, parent, ops, data, fast_acquire, kind)

    def create_seq(
        self,
        name: str,
        records: SeqOps | Callable[[], AsyncIterator[str | bytes]],
        *,
        mode: int = 0,
        parent: ProcDirEntry | None = None,
        data: Any = None,
        fast_acquire: bool | None = None,
        killable: bool = False,
    ) -> ProcDirEntry:
        """
        Register a file made of records, shown as they are read. Not a checkpoint.

        Args:
            records: An async generator function without arguments, which yields each record as
                ``str`` or ``bytes``; or the four callbacks of the kernel, as :class:`SeqOps`.

        The other arguments and errors are those of :meth:`create`.

        Linux: ``proc_create_seq_data``.
        """
        return self.create(
            name,
            seq_table(records),
            mode=mode,
            parent=parent,
            data=data,
            fast_acquire=fast_acquire,
            killable=killable,
        )

    def create_single(
        self,
        name: str,
        show: ShowAllHandler | TextHandler,
        *,
        mode: int = 0,
        parent: ProcDirEntry | None = None,
        data: Any = None,
        fast_acquire: bool | None = None,
        killable: bool = False,
    ) -> ProcDirEntry:
        """
        Register a file whose whole text is made when it is read from the start. Not a checkpoint.

        Args:
            show: An async function that returns the text, as ``str`` or ``bytes``; or one that
                takes the :class:`SeqFile` and writes into that.

        The other arguments and errors are those of :meth:`create`.

        Linux: ``proc_create_single_data``.
        """
        return self.create(
            name,
            single_table(show),
            mode=mode,
            parent=parent,
            data=data,
            fast_acquire=fast_acquire,
            killable=killable,
        )

    def mkdir(
        self,
        name: str,
        mode: int = 0,
        *,
        parent: ProcDirEntry | None = None,
        data: Any = None,
    ) -> ProcDirEntry:
        """
        Register a directory. Not a checkpoint.

        Args:
            mode: Permission bits; 0 stands for 0555.

        The other arguments and errors are those of :meth:`create`.

        Linux: ``proc_mkdir_data``.
        """
        mode = stat.S_IFDIR | _permissions(name, mode, 0o555)
        return self._register(name, mode, parent, data=data)

    def symlink(
        self, name: str, target: str, *, parent: ProcDirEntry | None = None
    ) -> ProcDirEntry:
        """
        Register a symbolic link. Not a checkpoint.

        Args:
            target: Where it leads: a path from the directory it is in, or an absolute one. Need
                not exist.

        The other arguments and errors are those of :meth:`create`.

        Linux: ``proc_symlink``.
        """
        check_path(target)
        if not target:
            raise error(ENOENT, name, f"a symlink wants a path to lead to, not {target!r}")
        entry = self._register(name, stat.S_IFLNK | 0o777, parent, data=target)
        entry.size = len(os.fsencode(target))
        return entry

    def create_mount_point(self, name: str, *, parent: ProcDirEntry | None = None) -> ProcDirEntry:
        """
        Register a directory that stays empty for good. Not a checkpoint.

        The arguments and errors are those of :meth:`create`.

        Linux: ``proc_create_mount_point``.
        """
        return self._register(name, stat.S_IFDIR | 0o555, parent, kind=MountPoint)

    def _register(
        self,
        name: str,
        mode: int,
        parent: ProcDirEntry | None,
        ops: ProcOps = NO_OPS,
        data: Any = None,
        fast_acquire: bool | None = None,
        kind: type[ProcDirEntry] = ProcDirEntry,
    ) -> ProcDirEntry:
        parent, leaf = self._place(name, parent)
        if ops.permanent and removal_around(parent) is not None:
            why = "a removal is under way there, and would have to take a permanent entry along"
            raise error(EINVAL, f"{parent.path}/{leaf}", why)
        if fast_acquire is None:
            fast_acquire = self.root._attributes.fast_acquire
        entry = kind(leaf, mode, parent, ops, data, fast_acquire)
        entry._block, entry._offset = self.inodes.take_parts()
        if parent._rare.removal is GONE:
            self._orphaned.append(parent)
        # Last, and whole: from here on it can be called.
        parent.add_child(entry)
        owner = current_owner.get() if self.owners is None else find_owner(self)
        if owner is not None:
            owner.add(entry)
        return entry

    def _place(self, name: str, parent: ProcDirEntry | None) -> tuple[ProcDirEntry, str]:
        """Find where a new entry goes, and refuse what cannot be there."""
        if self._tasks is None or self.root._in_use < 0:
            msg = f"{self!r} takes no entries: register inside 'async with ProcFS() as proc:'"
            raise RuntimeError(msg)
        below: Any = self.root if parent is None else parent
        top = below
        # What parent.tree does, in place, for what may be no entry at all.
        while isinstance(top, ProcDirEntry) and top.parent is not top:
            top = top.parent
        if top is not self.root:
            raise _foreign(below)
        # Most names are a few letters and digits; there is nothing to find out about these.
        usual = type(name) is str and name.isalnum() and len(name) < _SHORT
        if usual and parent is not None and parent is not self.root:
            leaf = name
        else:
            parent, leaf = locate(self.root, name, parent)
            check_name(parent, leaf, at_root=parent is self.root)
        if type(parent) is MountPoint:
            raise error(EPERM, parent.path, "nothing can be added to a mount point")
        children = parent._rare.children
        if children is not None and leaf in children.by_name:
            raise error(EEXIST, f"{parent.path}/{leaf}", "remove the entry that is there first")
        return parent, leaf

    # -- removal --------------------------------------------------------------------------------

    async def remove(
        self, name: str, *, parent: ProcDirEntry | None = None, grace: float | None = None
    ) -> None:
        """
        Remove a file, a symlink or an empty directory; return when it is gone.

        What :meth:`ProcDirEntry.remove` says holds here too.

        Raises:
            OSError: And nothing was changed. ``ENOENT``: there is no such entry; ``ENOTEMPTY``:
                a directory with something in it, see :meth:`remove_subtree`; ``EINVAL``: a
                permanent entry.
            ExceptionGroup: Release handlers failed. Everything was released all the same.

        Linux: ``remove_proc_entry``.
        """
        entry = self._find(name, parent)
        if entry.linked and len(entry.children):
            raise error(ENOTEMPTY, entry.path, "remove_subtree() removes all that is in it too")
        await self.remove_entry(entry, grace)

    async def remove_subtree(
        self, name: str, *, parent: ProcDirEntry | None = None, grace: float | None = None
    ) -> None:
        """
        Remove an entry and everything below it; return when all of it is gone.

        What :meth:`ProcDirEntry.remove` says holds here too.

        Raises:
            OSError: And nothing was changed. ``ENOENT``: there is no such entry; ``EINVAL``: it,
                or something below it, is permanent.
            ExceptionGroup: Release handlers failed. Everything was released all the same.

        Linux: ``remove_proc_subtree``.
        """
        await self.remove_entry(self._find(name, parent), grace)

    def _find(self, name: Any, parent: ProcDirEntry | None) -> ProcDirEntry:
        """Find what to remove; also what somebody else is removing, so that one can join."""
        if parent is not None and getattr(parent, "tree", None) is not self:
            raise _foreign(parent)
        if isinstance(name, ProcDirEntry):
            msg = f"a name is a str, not {name!r:.60}: an entry has a remove() of its own"
            raise TypeError(msg)
        parent, leaf = locate(self.root, name, parent)
        entry = parent.children.get(leaf)
        if entry is not None:
            return entry
        for removal in reversed(self._removals):
            going = removal.find(parent, leaf)
            if going is not None:
                return going
        raise error(ENOENT, f"{parent.path}/{leaf}", "there is no such entry to remove")

    async def remove_entry(self, entry: ProcDirEntry, grace: float | None) -> None:
        """Remove an entry and all below it, or join whoever does."""
        check_seconds("grace", grace)
        self._refuse_root(entry)
        if entry._removal is GONE:
            if not entry.fast_acquire:
                await self.checkpoint()
            if entry in self._failed:
                self._report(self._failed[entry], entry)
            return
        refuse_self_removal(entry)
        if entry.unclaimed:
            removal = self._begin(entry, removable(entry))
            await self._complete(removal, grace)
        else:
            removal = entry._removal
            await self._watch(removal, grace).wait(removal.event(entry))
        self._report(removal, entry)

    def remove_soon(self, entry: ProcDirEntry) -> bool:
        """Begin to remove an entry and all below it; the task group does the rest."""
        self._refuse_root(entry)
        if not entry.unclaimed:
            return False
        self._refuse_elsewhere()
        self._hand_over(self._begin(entry, removable(entry)))
        return True

    def _refuse_root(self, entry: ProcDirEntry) -> None:
        if entry is self.root:
            raise error(EINVAL, entry.path, "the root goes when its ProcFS is left")

    def _refuse_elsewhere(self) -> None:
        """Refuse to begin what the task group of another loop could not end."""
        try:
            here = current_token() == self._loop
        except anyio.NoEventLoopError:
            here = False
        if not here:
            msg = (
                f"{self!r} belongs to another event loop than this thread's: call"
                " anyio.from_thread.run_sync(entry.remove_self)"
            )
            raise RuntimeError(msg)

    def holders(self, entry: ProcDirEntry | None = None) -> list[Holder]:
        """
        Tell which calls are inside an entry and all below it; by default, inside the tree.

        See :meth:`ProcDirEntry.holders`.
        """
        return holders(self.root if entry is None else entry)

    def _begin(self, entry: ProcDirEntry, entries: list[ProcDirEntry]) -> Removal:
        removal = Removal(
            entry, entries, self._removals if entry._rare.children is not None else ()
        )
        self._removals[removal] = None
        return removal

    def _end(self, removal: Removal) -> None:
        self._removals.pop(removal, None)
        if removal.failed:
            self._failed[removal.root] = removal

    def _report(self, removal: Removal, entry: ProcDirEntry) -> None:
        if removal.failed:
            self._failed.pop(entry, None)
            removal.check(entry)

    async def _complete(self, removal: Removal, grace: float | None) -> None:
        """Run a removal here, as far as that goes; what is left goes on in the task group."""
        try:
            if removal.advance() is not None:
                await self._go_on(removal, self._watch(removal, grace))
            elif not removal.root.fast_acquire:
                self._end(removal)
                await self.checkpoint()
        except BaseException:
            if not removal.done:
                self._hand_over(removal)
            raise
        finally:
            if removal.done:
                self._end(removal)

    async def _go_on(self, removal: Removal, watch: Watch) -> None:
        """Wait for what is in the way of a removal, until there is nothing more."""
        obstacle = removal.advance()
        while isinstance(obstacle, anyio.Event):
            await watch.wait(obstacle)
            obstacle = removal.advance()
        if obstacle is not None:
            # A release handler that might wait must not be cancelled, as this task may be.
            self._hand_over(removal)
            await watch.wait(removal.event(removal.root))

    def _watch(self, removal: Removal, grace: float | None) -> Watch:
        if grace is None:
            owner = current_owner.get()
            # An exit must come to its end, or what it goes on to free is not freed. The grace is
            # that of who waits for the unload.
            grace = None if owner is not None and owner.going else self._grace
        return Watch(removal, grace=grace, hung_task_timeout=self._hung_task_timeout)

    def _hand_over(self, removal: Removal) -> None:
        # The new task's context is a copy of this one's: release handlers see the remover's.
        assert self._tasks is not None
        if removal.in_background:
            return
        removal.in_background = True
        # Listed before its task runs: the tree may be given up by then.
        scope = anyio.CancelScope(shield=True)
        self._finishers.add(scope)
        name = f"removal of {removal.root.path}"
        self._tasks.start_soon(self._finish, removal, scope, name=name)

    async def _finish(self, removal: Removal, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await removal.run(self._watch(removal, math.inf).wait_only)
        finally:
            self._finishers.discard(scope)
        self._end(removal)

    # -- what a user sees -----------------------------------------------------------------------

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
        entry.check(cred, MAY_READ)
        return entry.children.names()

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
            OSError: Those of :meth:`lookup`; ``EACCES``: the mode bits forbid it; ``EINVAL``:
                *how* has other bits.
        """
        if how & ~(MAY_READ | MAY_WRITE | MAY_EXEC):
            raise error(EINVAL, path, f"how is F_OK, or any of R_OK, W_OK and X_OK, not {how}")
        self.lookup(path, cred=cred, dir_fd=dir_fd).check(cred, how)

    def truncate(self, path: str, size: int, *, cred: Credentials = ROOT) -> None:
        """
        Succeed and change nothing, as in procfs. Not a checkpoint.

        Raises:
            OSError: Those of :meth:`lookup`; ``EISDIR``; ``EINVAL``: *size* is negative;
                ``EACCES``.
        """
        entry = self.lookup(path, cred=cred)
        if entry.is_dir():
            raise error(EISDIR, entry.path)
        entry.check(cred, MAY_WRITE)
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
            cls = ops.quick_handles[flags]
        except KeyError:
            return await self._open_slowly(path, flags, cred, dir_fd)
        if cred is not ROOT or sinks:
            return await self._open_slowly(path, flags, cred, dir_fd)
        file = File()
        file.entry = entry
        file._flags = flags
        file.pos = file._in_use = 0
        file.private_data = file._newer = None
        if ops.open is not None:
            entry._in_use += 1
            try:
                result = ops.open(file)
                if ops.open_awaited:
                    result = await result
                if result is not None and result != 0:
                    raise file.nonsense("open", result, "None")
                file._older = newest = entry.newest
                if newest is not None:
                    newest._newer = file
                entry.newest = file
            finally:
                # unuse() in place; a file that comes too late is dead on arrival
                entry._in_use = left = entry._in_use - 1
                if left < 0:
                    file.kill()
                    entry.late_out()
        else:
            file._older = newest = entry.newest
            if newest is not None:
                newest._newer = file
            entry.newest = file
        handle: ProcFile = cls()
        handle._file = file
        return handle

    async def _open_slowly(
        self, path: str | ProcDirEntry, flags: int, cred: Credentials, dir_fd: ProcFile | None
    ) -> ProcFile:
        _check_flags(flags)
        follow = not flags & os.O_NOFOLLOW and flags & _MAKE_NEW != _MAKE_NEW
        entry = await self._arrive(path, follow_symlinks=follow, cred=cred, dir_fd=dir_fd)
        if flags != os.O_RDONLY or cred is not ROOT or not stat.S_ISREG(entry.type):
            _may_open(entry, flags, cred)
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
        if isinstance(path, ProcDirEntry):
            if not path.fast_acquire:
                await self.checkpoint()
            return path
        try:
            entry = self.lookup(path, **how)
        except OSError:
            if self.root.fast_acquire:
                raise
        else:
            if entry.fast_acquire:
                return entry
        await self.checkpoint()
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
            or not entry.ops.quick_to_read
            or entry._in_use < 0
            or cred is not ROOT
            or sinks
        ):
            return await read_entry(await self._one_shot(path, os.O_RDONLY, cred, dir_fd))
        file = File()
        file.entry = entry
        file._flags = file.pos = file._in_use = 0
        file.private_data = file._newer = file._older = None
        ops: Any = entry.ops
        entry._in_use += 1
        try:
            if ops.open is not None:
                op = "open"  # which holders() tells
                result = await ops.open(file)
                if result is not None and result != 0:
                    raise file.nonsense(op, result, "None")
            try:
                op = "read"
                reader = ops.reader
                data = await reader(file, 0x7FFFF000, 0)
                if type(data) is not bytes:
                    file.checked_bytes(data, MAX_RW_COUNT)
                whole: bytes = data
                while data:
                    file.pos += len(data)
                    data = await reader(file, 0x7FFFF000, file.pos)
                    if type(data) is not bytes:
                        file.checked_bytes(data, MAX_RW_COUNT)
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
                entry.late_out()

    async def read_text(
        self,
        path: str | ProcDirEntry,
        *,
        cred: Credentials = ROOT,
        dir_fd: ProcFile | None = None,
    ) -> str:
        """Do what :meth:`read_bytes` does, and decode it as UTF-8."""
        return (await self.read_bytes(path, cred=cred, dir_fd=dir_fd)).decode()

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
        """Encode *text* as UTF-8 and do what :meth:`write_bytes` does."""
        await self.write_bytes(path, _encoded(text), cred=cred, dir_fd=dir_fd)

    async def _one_shot(
        self, path: str | ProcDirEntry, flags: int, cred: Credentials, dir_fd: ProcFile | None
    ) -> ProcDirEntry:
        entry = await self._arrive(path, cred=cred, dir_fd=dir_fd)
        _may_open(entry, flags, cred)
        if entry.is_dir():
            raise error(EISDIR, entry.path)
        return entry


# They run handlers themselves: see above.
add_site(ProcFS.open, "file", "open")
add_site(ProcFS.read_bytes, "file", None)


def _no_table(ops: object) -> TypeError:
    msg = f"create() wants a ProcOps, not {ops!r:.60}: pass ProcOps(read=...), or ProcOps.of(it)"
    if isinstance(ops, type):
        name = ops.__name__
        msg = f"create() wants a ProcOps, not a class: pass ProcOps.of({name}()), not {name}"
    return TypeError(msg)


def _foreign(parent: object) -> TypeError | ValueError:
    if not isinstance(parent, ProcDirEntry):
        return TypeError(f"parent is an entry, as mkdir() returns it, not {parent!r:.60}")
    return ValueError(f"{parent!r} belongs to another ProcFS: pass an entry of this one")


def _start(dir_fd: object) -> ProcDirEntry:
    if not isinstance(dir_fd, ProcFile):
        msg = f"dir_fd is an open directory, as open() returns it, not {dir_fd!r:.60}"
        raise TypeError(msg)
    return dir_fd.entry


def _encoded(text: Any) -> bytes:
    if not isinstance(text, str):
        msg = f"write_text wants str, not {type(text).__name__}: use write_bytes()"
        raise TypeError(msg)
    return text.encode()


def check_seconds(name: str, seconds: Any) -> None:
    """Refuse what is no time to wait."""
    if seconds is None:
        return
    msg = f"{name} is a number of seconds >= 0, or None for ever, not {seconds!r}"
    if not isinstance(seconds, int | float):
        raise TypeError(msg)
    if not seconds >= 0:
        raise ValueError(msg)


def _file_mode(name: str, mode: int) -> int:
    return stat.S_IFREG | _permissions(name, mode, 0o444, stat.S_IFREG)


def _permissions(name: str, mode: Any, default: int, kind: int = 0) -> int:
    """Check permission bits, which those of *kind* may be added to; 0 stands for *default*."""
    if not isinstance(mode, int):
        msg = f"mode is an int of permission bits, as 0o644, not {mode!r:.60}"
        raise TypeError(msg)
    mode &= ~kind
    if not 0 <= mode <= PERMISSIONS:
        raise error(EINVAL, name, f"mode {mode:#o} is more than permission bits")
    return mode or default


def _check_flags(flags: object) -> None:
    if not isinstance(flags, int):
        msg = f"flags are os.O_*, as os.O_RDWR, not {flags!r:.60}: open() has no mode"
        raise TypeError(msg)


def _may_open(entry: ProcDirEntry, flags: int, cred: Credentials) -> None:
    """Check what the VFS checks before procfs is asked (``may_open``, ``do_open``)."""
    if flags & os.O_DIRECTORY and not entry.is_dir():
        raise error(ENOTDIR, entry.path)
    if flags & os.O_PATH:  # with which most others do not count
        return
    if flags & os.O_CREAT and flags & os.O_EXCL:
        raise error(EEXIST, entry.path)
    if stat.S_ISLNK(entry.type):
        raise error(ELOOP, entry.path, "a symlink, and the flags say not to follow it")
    if entry.is_dir() and (_wanted(flags) & MAY_WRITE or flags & os.O_CREAT):
        raise error(EISDIR, entry.path)
    entry.check(cred, _wanted(flags))


def _wanted(flags: int) -> int:
    # The fourth access mode asks for both rights, and gives neither.
    both = flags & os.O_ACCMODE == os.O_ACCMODE
    read = MAY_READ if both or readable(flags) else 0
    return read | (MAY_WRITE if both or writable(flags) or flags & os.O_TRUNC else 0)
