"""Who asks, and what the mode bits allow them (struct cred, generic_permission)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast, final

from ._check import ID_MAX, in_range

MAY_EXEC: Final = 1
MAY_WRITE: Final = 2
MAY_READ: Final = 4


@final
@dataclass(frozen=True, slots=True)
class Credentials:
    """
    The identity permission bits are checked against; by default the superuser.

    Args:
        uid: User id, 0 to 2**32 - 2, as all of these. 0 bypasses every check, as root does.
        gid: Primary group id.
        groups: Supplementary group ids.
    """

    uid: int = 0
    gid: int = 0
    groups: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        in_range("uid, as os.getuid() returns it,", self.uid, ID_MAX)
        in_range("gid, as os.getgid() returns it,", self.gid, ID_MAX)
        # Any iterable of them will do.
        object.__setattr__(self, "groups", _group_ids(self.groups))

    def in_group(self, gid: int) -> bool:
        """Tell whether *gid* is one of this identity's groups."""
        return gid == self.gid or gid in self.groups

    def allows(self, mode: int, uid: int, gid: int, mask: int) -> bool:
        """
        Tell whether these mode bits allow *mask* (of MAY_READ, MAY_WRITE, MAY_EXEC).

        The first class that fits decides alone (owner, group, others), and for the superuser
        nothing does: whoever owns a 0066 file is refused what everybody else may.
        That the superuser does not execute a file that nobody may, :meth:`ProcFS.access` tells.
        """
        if self.uid == 0:
            return True
        if self.uid == uid:
            mode >>= 6
        elif self.in_group(gid):
            mode >>= 3
        return mode & mask == mask


def check_cred(cred: object) -> None:
    """Refuse who is nobody, before it is asked what they may."""
    if not isinstance(cred, Credentials):
        msg = f"cred is who asks, as Credentials(uid=1000, gid=1000), not {cred!r:.60}"
        raise TypeError(msg)


def _group_ids(groups: Any) -> frozenset[int]:
    if not isinstance(groups, Iterable) or isinstance(groups, str):
        msg = f"groups are numbers, as os.getgroups() returns them, not {groups!r:.60}"
        raise TypeError(msg)
    return frozenset(in_range("each of groups", gid, ID_MAX) for gid in cast("Any", groups))


ROOT: Final = Credentials()
