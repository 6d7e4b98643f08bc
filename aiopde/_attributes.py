"""What stat tells of an entry, and who may change it (struct inode, fs/attr.c)."""

from __future__ import annotations

import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Final, final

from ._check import ID_MAX, in_range

if TYPE_CHECKING:
    from ._credentials import Credentials

PERMISSIONS: Final = 0o7777


@final
class Attributes:
    """What ``stat`` tells, and how calls yield: shared by all that are alike, never changed."""

    __slots__ = ("below", "fast_acquire", "gid", "is_dir", "mode", "quick", "size", "uid")

    def __init__(self, mode: int, uid: int, gid: int, size: int, fast_acquire: bool) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.fast_acquire = fast_acquire
        self.is_dir = stat.S_ISDIR(mode)
        # What open() and its like may take the short way with.
        self.quick = fast_acquire and stat.S_ISREG(mode)
        # What an entry gets that is created in a directory with these: by its mode, or ~mode
        # without fast_acquire.
        self.below: dict[int, Attributes] = {}

    def but(
        self,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
    ) -> Attributes:
        """Return the same but for these."""
        return attributes(
            self.mode if mode is None else mode,
            self.uid if uid is None else uid,
            self.gid if gid is None else gid,
            self.size if size is None else size,
            self.fast_acquire,
        )

    def may_chown(self, uid: int, gid: int, cred: Credentials) -> bool:
        """Tell whether *cred* may change the owner like that (``setattr_prepare``)."""
        if cred.uid == 0 or (uid, gid) == (-1, -1):
            return True
        may_give = gid in {-1, self.gid} or cred.in_group(gid)
        return cred.uid == self.uid and uid in {-1, self.uid} and may_give

    def chowned(self, uid: int, gid: int) -> Attributes:
        """Return them with another owner, and the bits gone that would give away its rights."""
        mode = self.mode
        if not self.is_dir:
            mode &= ~stat.S_ISUID
            if mode & stat.S_IXGRP:
                mode &= ~stat.S_ISGID
        uid = self.uid if uid == -1 else in_range("uid", uid, ID_MAX)
        gid = self.gid if gid == -1 else in_range("gid", gid, ID_MAX)
        return self.but(mode, uid, gid)


attributes = lru_cache(maxsize=1024)(Attributes)
