"""Entries of a kind of their own: the root, files whose calls may be killed, mount points."""

from __future__ import annotations

import stat
from errno import EPERM
from typing import TYPE_CHECKING, Any, Final, cast, final

from ._check import check_bool
from ._entry import ProcDirEntry
from ._errors import error
from ._rare import GONE

if TYPE_CHECKING:
    import anyio

    from ._credentials import Credentials
    from ._entry import Tree


# What no part of a mount point can be: paths are compared with it as they are written.
_NO_NAMES: Final = frozenset({"", ".", ".."})


@final
class ProcRoot(ProcDirEntry):
    """The directory everything hangs on; its own parent (``proc_root``)."""

    __slots__ = ("_proc",)

    def __init__(self, mountpoint: str, tree: Tree, *, fast_acquire: bool) -> None:
        msg = f"mountpoint is an absolute path, as '/proc', not {mountpoint!r:.60}"
        if not isinstance(cast("object", mountpoint), str):
            raise TypeError(msg)
        before, *names = mountpoint.split("/")
        if mountpoint != "/" and (before or not names or not _NO_NAMES.isdisjoint(names)):
            raise ValueError(msg)
        check_bool("fast_acquire", fast_acquire)
        self._prepare(mountpoint, stat.S_IFDIR | 0o555, None, (0, 1), fast_acquire=fast_acquire)
        self._proc = tree

    @property
    def _tree(self) -> Tree:
        """The tree it is the root of."""
        return self._proc

    def _gone(self) -> None:
        """Note that the whole tree is gone."""
        self._removal = GONE


@final
class KillableEntry(ProcDirEntry):
    """A file whose calls may be cancelled, when the grace of its removal ends."""

    __slots__ = ("_scopes",)

    killable: bool = True

    def _prepare(self, *args: Any, **kwargs: Any) -> None:
        """Fill in what a new entry consists of."""
        super()._prepare(*args, **kwargs)
        # One for each call inside.
        self._scopes: set[anyio.CancelScope] = set()


@final
class MountPoint(ProcDirEntry):
    """A directory that stays empty, and as it is, for good (``proc_create_mount_point``)."""

    __slots__ = ()

    def chmod(self, mode: int, cred: Credentials) -> None:
        """Refuse to."""
        raise self._fixed()

    def chown(self, uid: int, gid: int, cred: Credentials) -> None:
        """Refuse to."""
        raise self._fixed()

    def _fixed(self) -> OSError:
        return error(EPERM, self.path, "a mount point stays as it is")
