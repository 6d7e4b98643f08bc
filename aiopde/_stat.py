"""What stat and getdents tell (struct kstat, struct linux_dirent64)."""

from __future__ import annotations

import stat
from typing import NamedTuple


class Stat(NamedTuple):
    """The attributes of an entry, under the names of :class:`os.stat_result`."""

    st_mode: int
    """Type and permission bits."""
    st_ino: int
    """Inode number: 1 for the root, else from 0xF0000000."""
    st_nlink: int
    """For a directory 2 and one more for each directory in it."""
    st_uid: int
    st_gid: int
    st_size: int
    """Bytes, as the entry's owner set it; the length of the target for a symlink."""


class DirEntry(NamedTuple):
    """One name in a directory."""

    name: str
    type: int
    """``stat.S_IFREG``, ``S_IFDIR`` or ``S_IFLNK``."""
    ino: int

    def is_dir(self) -> bool:
        """Tell whether it is a directory (or a mount point)."""
        return stat.S_ISDIR(self.type)
