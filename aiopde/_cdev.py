"""Character devices, pinned by their open files: how it was done before (fs/char_dev.c)."""

from __future__ import annotations

import inspect
import os
import stat
from errno import EEXIST, EINVAL, ENOENT, ENXIO
from typing import TYPE_CHECKING, Any, Final, cast, final

from anyio.lowlevel import checkpoint

from ._check import check_path
from ._credentials import MAY_READ, MAY_WRITE, ROOT
from ._entry import ProcDirEntry
from ._errors import error
from ._flags import check_flags, readable, writable
from ._inum import InodeNumbers
from ._kinds import ProcRoot
from ._module import Module, ModuleState, check_module
from ._namei import check_name
from ._open import open_entry
from ._ops import PARAMETERS, ProcOps
from ._owner import find_owner
from ._register import no_table, permissions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._credentials import Credentials
    from ._entry import Checkpoint
    from ._file import ProcFile
    from ._holders import Holder
    from ._owner import Owners

    Handler = Callable[..., Any]

PERMISSIONS: Final = 0o666


@final
class Cdev(ProcDirEntry):
    """A character device; made by :meth:`DevFS.register`."""

    __slots__ = ("owner",)

    owner: Module | None
    """The module that its open files pin, if any."""


@final
class DevFS:
    """
    Character devices: the scheme that procfs had before it had a guard.

    What is pinned is the module, and as long as a file is open: ``rmmod`` then refuses
    (``EWOULDBLOCK``) where a procfs entry's removal goes ahead. Deleting a device stops new opens
    only; whoever has it open goes on calling the module. So all depends on the *owner*: who
    forgets it, lets the module go under its callers. Here such a call raises
    :class:`UseAfterFreeError`; in Linux it crashes.

    A :class:`Kernel` has one, as ``kernel.dev``. There is no guard, and nothing to wait for.

    Linux: ``chrdev_open``, ``cdev_get``, fs/char_dev.c; ``file_operations.owner``.
    """

    def __init__(self, mountpoint: str = "/dev") -> None:
        self.root: ProcRoot = ProcRoot(mountpoint, self, fast_acquire=False)
        self._inodes: InodeNumbers = InodeNumbers()
        self._owners: Owners | None = None
        self._checkpoint: Checkpoint = checkpoint

    def __repr__(self) -> str:
        return f"<DevFS {self.root.name!r} with {len(self.root._children)} devices>"

    def register(
        self, name: str, ops: ProcOps, *, owner: Module | None, mode: int = 0, data: Any = None
    ) -> Cdev:
        """
        Register a character device; it can be opened from this moment on. Not a checkpoint.

        Args:
            name: What it is called below /dev; no path.
            ops: Its handlers; the kind of table is that of an entry.
            owner: The module that open files pin: ``this_module()``. None is the mistake, unless
                the handlers belong to no module.
            mode: Permission bits; 0 stands for 0666. The bits of a character device may be added.
            data: For the handlers, as ``file.data``.

        Raises:
            OSError: And nothing was changed. ``EEXIST``: the name is taken; ``EINVAL``,
                ``ENAMETOOLONG``: no device can have it, or *mode* is more than permission bits.
            TypeError: *ops* is no :class:`ProcOps`, or *owner* no :class:`Module`.

        Linux: ``misc_register``, ``cdev_add``.
        """
        self._check_name(name)
        if type(cast("object", ops)) is not ProcOps:
            raise no_table(ops)
        check_module(owner)
        mode = permissions(name, mode, PERMISSIONS, stat.S_IFCHR)
        module = find_owner(self)
        text = module if isinstance(module, Module) else None
        cdev = Cdev()
        mode, table = stat.S_IFCHR | mode, _table(ops, owner, text)
        cdev._prepare(name, mode, self.root, self._inodes.take_parts(), table, data)
        cdev.owner = owner
        self.root._add_child(cdev)
        if module is not None:
            module._add(cdev)
        return cdev

    def _check_name(self, name: str) -> None:
        check_path(name)
        check_name(self.root, name, at_root=False)
        if "/" in name:
            raise error(EINVAL, name, "a device's name is no path")
        if self.root._children.get(name) is not None:
            raise error(EEXIST, f"{self.root.path}/{name}", "there is such a device")

    def lookup(self, name: str) -> Cdev:
        """
        Find a device. Not a checkpoint.

        Raises:
            OSError: ``ENOENT``: there is none of that name.
        """
        check_path(name)
        cdev = self.root._children.get(name)
        if not isinstance(cdev, Cdev):
            raise error(ENOENT, f"{self.root.path}/{name}")
        return cdev

    def unregister(self, name: str) -> None:
        """
        Delete a device: nobody opens it any more. Files that are open go on. Not a checkpoint.

        Raises:
            OSError: ``ENOENT``: there is none of that name.

        Linux: ``misc_deregister``, ``cdev_del``.
        """
        self.lookup(name)._unlink()

    async def open(
        self, name: str, flags: int = os.O_RDONLY, *, cred: Credentials = ROOT
    ) -> ProcFile:
        """
        Open a device: pin its owner, run its open handler, and return the file.

        The pin is held until the release handler has run, at the last close. A checkpoint, before
        anything happens; cancelled inside the handler, nothing was opened, and nothing is pinned.

        Raises:
            OSError: ``ENOENT``: there is no such device; ``EACCES``; ``EINVAL``: ``O_PATH``;
                ``ENXIO``: its owner is going away; whatever else the open handler raised.
            UseAfterFreeError: Its module is gone.

        Linux: ``chrdev_open``.
        """
        check_flags(flags)
        await checkpoint()
        cdev = self.lookup(name)
        if flags & os.O_PATH:
            raise error(EINVAL, cdev.path, "a device is not opened by its path only")
        cdev._check(cred, _wanted(flags))
        if cdev.owner is not None and not cdev.owner.try_get():
            raise error(ENXIO, cdev.path, f"the module {cdev.owner.name!r} is going away")
        try:
            return await open_entry(cdev, flags)
        except BaseException:
            _put(cdev.owner)
            raise

    # -- what an entry asks of its tree ---------------------------------------------------------

    async def _remove_entry(self, entry: ProcDirEntry, grace: float | None) -> None:
        """Delete a device: there is nothing to wait for, and so no *grace*. A checkpoint."""
        del grace
        await checkpoint()
        self._remove_soon(entry)

    def _remove_soon(self, entry: ProcDirEntry) -> bool:
        """Delete a device; True if it was there."""
        if entry._linked:
            entry._unlink()
            return True
        return False

    def holders(self, entry: ProcDirEntry) -> list[Holder]:
        """Return nothing: no device's end waits for anybody."""
        del entry
        return []


def _wanted(flags: int) -> int:
    return (MAY_READ if readable(flags) else 0) | (MAY_WRITE if writable(flags) else 0)


def _put(owner: Module | None) -> None:
    if owner is not None:
        owner.put()


def _table(ops: ProcOps, owner: Module | None, text: Module | None) -> ProcOps:
    """Make the table that files use: it notices when the module is gone, and ends the pin."""
    handlers = {op: getattr(ops, op) for op in PARAMETERS}
    guarded: dict[str, Any] = {
        op: _guarded(op, handler, text) for op, handler in handlers.items() if handler is not None
    }
    guarded["release"] = _release(guarded.get("release"), owner)
    return ProcOps(**guarded, permanent=ops.permanent)


def _guarded(op: str, handler: Handler, text: Module | None) -> Callable[..., Awaitable[Any]]:
    async def call(file: Any, *args: Any) -> Any:
        _refuse_gone(text, file, op)
        try:
            result = handler(file, *args)
            if inspect.isawaitable(result):
                result = await result
        except Exception as exc:
            _refuse_gone(text, file, op, exc)
            raise
        # It may have gone while the call was inside: there is no code left to return to.
        _refuse_gone(text, file, op)
        return result

    return call


def _refuse_gone(text: Module | None, file: Any, op: str, cause: Exception | None = None) -> None:
    if text is not None and text.state is ModuleState.GONE:
        raise text._log._use_after_free(text.name, file.entry.path, op) from cause


def _release(
    release: Callable[..., Awaitable[Any]] | None, owner: Module | None
) -> Callable[..., Awaitable[None]]:
    async def release_and_put(file: Any) -> None:
        try:
            if release is not None:
                await release(file)
        finally:
            _put(owner)

    return release_and_put
