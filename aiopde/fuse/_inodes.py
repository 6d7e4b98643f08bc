"""What the kernel knows of the tree: an inode for each entry it has looked up (struct inode)."""

from __future__ import annotations

import time
from collections import deque
from errno import ESTALE
from typing import TYPE_CHECKING, Final, final

from aiopde._errors import error

from ._protocol import ROOT_ID

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiopde._entry import ProcDirEntry


_MISSING: Final = 16


@final
class Inode:
    """
    An entry the kernel knows, from its first lookup until the kernel forgets it.

    It pins the entry's inode number, as in Linux, and has what only an inode has there: a time.
    """

    __slots__ = ("entry", "lookups", "missing", "nodeid", "time")

    def __init__(self, entry: ProcDirEntry, nodeid: int) -> None:
        self.entry = entry
        self.nodeid = nodeid
        # How often it was told to the kernel, which will take back as many.
        self.lookups = 0
        self.time = int(time.time())
        # The names that were looked up last in this directory, and were not there.
        self.missing: Collection[str] = ()

    def note_missing(self, name: str) -> None:
        """Note that a name was looked up in vain."""
        if not isinstance(self.missing, deque):
            self.missing = deque(maxlen=_MISSING)
        self.missing.append(name)


@final
class Inodes:
    """
    The inodes of one mount, by node id and by entry.

    Node ids are never used again, unlike inode numbers: what the kernel asks about an entry that
    is gone can never reach the one that has its number now.
    """

    __slots__ = ("_by_entry", "_by_nodeid", "_next", "_root")

    def __init__(self, root: ProcDirEntry) -> None:
        # The root is known as long as the mount is there, and has a number of its own.
        self._root = Inode(root, ROOT_ID)
        self._next = ROOT_ID + 1
        self._by_entry = {root: self._root}
        self._by_nodeid = {ROOT_ID: self._root}

    def __len__(self) -> int:
        """Return how many the kernel knows, the root among them."""
        return len(self._by_nodeid)

    def __getitem__(self, nodeid: int) -> Inode:
        """Return what the kernel means by *nodeid*."""
        try:
            return self._by_nodeid[nodeid]
        except KeyError:
            raise error(ESTALE, f"node {nodeid}", "the kernel was never told of it") from None

    def find(self, entry: ProcDirEntry) -> Inode | None:
        """Return the inode of *entry*, if the kernel knows one."""
        return self._by_entry.get(entry)

    def look_up(self, entry: ProcDirEntry) -> Inode:
        """Return the inode of *entry*, and count that the kernel is told of it once more."""
        inode = self._by_entry.get(entry) or self._add(entry)
        inode.lookups += 1
        return inode

    def forget(self, nodeid: int, lookups: int) -> None:
        """Take so many lookups back; with the last one, nothing is remembered."""
        inode = self._by_nodeid.get(nodeid)
        if inode is None or inode is self._root:
            return
        inode.lookups -= lookups
        if inode.lookups <= 0:
            self._drop(inode)

    def clear(self) -> None:
        """Forget everything but the root: so has the kernel."""
        for inode in list(self._by_nodeid.values()):
            self.forget(inode.nodeid, inode.lookups)

    def _add(self, entry: ProcDirEntry) -> Inode:
        inode = Inode(entry, self._next)
        self._next += 1
        self._by_entry[entry] = self._by_nodeid[inode.nodeid] = inode
        entry._add_holder()
        return inode

    def _drop(self, inode: Inode) -> None:
        del self._by_entry[inode.entry], self._by_nodeid[inode.nodeid]
        inode.entry._put_holder()
