"""The tree: its life, and what registers and removes entries in it (fs/proc/generic.c)."""

from __future__ import annotations

import stat
from errno import EINVAL, ENOENT, ENOTEMPTY
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Self, final

import anyio
from anyio.lowlevel import EventLoopToken, checkpoint, current_token

from ._check import check_bool, check_path, check_seconds, check_thread
from ._entry import ProcDirEntry
from ._errors import error
from ._holders import holders
from ._inum import InodeNumbers
from ._kinds import KillableEntry, MountPoint, ProcRoot
from ._namei import encode, locate
from ._ops import NO_OPS, ProcOps
from ._owner import current_owner, find_owner
from ._proc_seq import seq_table, single_table
from ._rare import GONE
from ._reaper import Reaper
from ._register import check_entry, file_mode, foreign, no_table, permissions, place
from ._removal import Removal, removable, removal_around, subtree
from ._vfs import VFS
from ._watch import refuse_self_removal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from ._entry import Checkpoint
    from ._holders import Holder
    from ._owner import Owners
    from ._seq_file import SeqOps, ShowAllHandler, TextHandler

_REGULAR: Final = stat.S_IFREG | 0o444


@final
class ProcFS(VFS):
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
        check_seconds("grace", grace)
        check_seconds("hung_task_timeout", hung_task_timeout)
        self.root: ProcRoot = ProcRoot(mountpoint, self, fast_acquire=fast_acquire)
        self._inodes: InodeNumbers = InodeNumbers()
        # The Kernel whose tree it is, if it is one's.
        self._owners: Owners | None = None
        self._checkpoint: Checkpoint = checkpoint
        self._reaper = Reaper(grace=grace, hung_task_timeout=hung_task_timeout)
        self._loop: EventLoopToken | None = None
        self._thread: int | None = None
        # Removed entries that something was created below afterwards.
        self._orphaned: list[ProcDirEntry] = []

    def __repr__(self) -> str:
        state = "open" if self._reaper.tasks else "not entered"
        if self.root.removing:
            state = "closed"
        return f"<ProcFS {self.root.name!r} {state}>"

    async def __aenter__(self) -> Self:
        if self._reaper.tasks is not None or self.root.removing:
            what = "ProcFS" if self._owners is None else "Kernel"
            msg = f"a {what} can be entered once: make another one"
            raise RuntimeError(msg)
        self._loop, self._thread = current_token(), get_ident()
        # What anyio's own asks for anew each time, which takes half a microsecond.
        self._checkpoint = self._loop.backend_class.checkpoint
        await self._reaper.start(self._checkpoint)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._refuse_to_leave()
        await self._reaper.stop(self._begin_all(), exc)

    def _refuse_to_leave(self) -> None:
        """Refuse to end what has not begun, or has ended."""
        if self._reaper.tasks is None or self.root.removing:
            msg = f"{self!r} is left once, after it was entered: use 'async with'"
            raise RuntimeError(msg)

    def _begin_all(self) -> list[Removal]:
        removals = [self._reaper.begin(self.root, subtree(self.root))]
        for gone in self._orphaned:
            removals += [self._reaper.begin(child, subtree(child)) for child in gone._children]
        return removals

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
            RuntimeError: The tree is not entered, or was left; or this is another thread than that
                of its event loop.
            TypeError: *ops* is no :class:`ProcOps`.

        Linux: ``proc_create_data``.
        """
        given: type = type(ops)
        if given is not ProcOps:
            raise no_table(ops)
        # A million of these may be wanted: what is given is looked at where it is not the default.
        mode = file_mode(name, mode) if mode != 0 else _REGULAR
        kind: type[ProcDirEntry] = ProcDirEntry
        if killable is not False:
            check_bool("killable", killable)
            kind = KillableEntry
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
        mode = stat.S_IFDIR | permissions(name, mode, 0o555)
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
        size = len(encode(target))
        if "\0" in target:
            raise error(EINVAL, name, f"no symlink can lead to {target!r:.60}")
        entry = self._register(name, stat.S_IFLNK | 0o777, parent, data=target)
        entry.size = size
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
        # Nor has a tree a thread that was not entered.
        if self._thread != get_ident() or self.root._in_use < 0:
            raise self._closed()
        parent, leaf = place(self.root, name, parent)
        if ops.permanent and removal_around(parent) is not None:
            why = "a removal is under way there, and would have to take a permanent entry along"
            raise error(EINVAL, f"{parent.path}/{leaf}", why)
        if fast_acquire is None:
            fast_acquire = self.root._attributes.fast_acquire
        else:
            check_bool("fast_acquire", fast_acquire)
        entry = kind()
        entry._prepare(leaf, mode, parent, self._inodes.take_parts(), ops, data, fast_acquire)
        if parent._rare.removal is GONE:
            self._orphaned.append(parent)
        # Last, and whole: from here on it can be called.
        parent._add_child(entry)
        owner = current_owner.get() if self._owners is None else find_owner(self)
        if owner is not None:
            owner._add(entry)
        return entry

    def _closed(self) -> RuntimeError:
        """Make the error of a registration where or when there can be none."""
        if not self.root.removing:
            check_thread(self, self._thread)
        msg = f"{self!r} takes no entries: register inside 'async with ProcFS() as proc:'"
        return RuntimeError(msg)

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
        if entry._linked and len(entry._children):
            raise error(ENOTEMPTY, entry.path, "remove_subtree() removes all that is in it too")
        await self._remove_entry(entry, grace)

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
        await self._remove_entry(self._find(name, parent), grace)

    def _find(self, name: Any, parent: ProcDirEntry | None) -> ProcDirEntry:
        """Find what to remove; also what somebody else is removing, so that one can join."""
        if parent is not None and getattr(parent, "_tree", None) is not self:
            raise foreign(parent)
        if isinstance(name, ProcDirEntry):
            msg = f"a name is a str, not {name!r:.60}: an entry has a remove() of its own"
            raise TypeError(msg)
        parent, leaf = locate(self.root, name, parent)
        entry = parent._children.get(leaf)
        if entry is not None:
            return entry
        going = self._reaper.find(parent, leaf)
        if going is None:
            raise error(ENOENT, f"{parent.path}/{leaf}", "there is no such entry to remove")
        return going

    async def _remove_entry(self, entry: ProcDirEntry, grace: float | None) -> None:
        """Remove an entry and all below it, or join whoever does."""
        check_seconds("grace", grace)
        check_thread(self, self._thread)
        self._refuse_root(entry)
        if entry._removal is GONE:
            if not entry.fast_acquire:
                await self._checkpoint()
            self._reaper.report_late(entry)
            return
        later = refuse_self_removal(entry)
        if entry._unclaimed:
            removal = self._reaper.begin(entry, removable(entry))
            await self._reaper.complete(removal, grace, later=later)
        else:
            removal = entry._removal
            await self._reaper.watch(removal, grace).wait(removal.event(entry))
        self._reaper.report(removal, entry)

    def _remove_soon(self, entry: ProcDirEntry) -> bool:
        """Begin to remove an entry and all below it; the task group does the rest."""
        self._refuse_root(entry)
        if not entry._unclaimed:
            return False
        self._refuse_elsewhere()
        self._reaper.hand_over(self._reaper.begin(entry, removable(entry)))
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

        Not a checkpoint. See :meth:`ProcDirEntry.holders`.
        """
        if entry is None:
            entry = self.root
        check_entry(entry)
        return holders(entry)


def check_tree(what: str, proc: object) -> None:
    """Refuse to mount what is no tree: it would be done, and who looks there wait for ever."""
    if not isinstance(proc, ProcFS):
        msg = f"{what} wants a ProcFS, not {proc!r:.60}: of a Kernel, pass kernel.proc"
        raise TypeError(msg)
