"""Who asks, and what the mode bits allow them (struct cred, generic_permission)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

MAY_EXEC: Final = 1
MAY_WRITE: Final = 2
MAY_READ: Final = 4


@final
@dataclass(frozen=True, slots=True)
class Credentials:
    """
    The identity permission bits are checked against; by default the superuser.

    Args:
        uid: User id, >= 0. 0 bypasses every check, as root does.
        gid: Primary group id, >= 0.
        groups: Supplementary group ids.
    """

    uid: int = 0
    gid: int = 0
    groups: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        _check_id("uid", self.uid)
        _check_id("gid", self.gid)
        # Any iterable of them will do.
        object.__setattr__(self, "groups", frozenset(self.groups))

    def in_group(self, gid: int) -> bool:
        """Tell whether *gid* is one of this identity's groups."""
        return gid == self.gid or gid in self.groups

    def allows(self, mode: int, uid: int, gid: int, mask: int) -> bool:
        """
        Tell whether these mode bits allow *mask* (of MAY_READ, MAY_WRITE, MAY_EXEC).

        The first class that fits decides alone (owner, group, others), and for the superuser
        nothing does: whoever owns a 0066 file is refused what everybody else may.
        Executing a *file* is something procfs has no use for, so that exception is left out.
        """
        if self.uid == 0:
            return True
        if self.uid == uid:
            mode >>= 6
        elif self.in_group(gid):
            mode >>= 3
        return mode & mask == mask


def _check_id(name: str, number: Any) -> None:
    msg = f"{name} is a number >= 0, as os.getuid() returns it, not {number!r}"
    if not isinstance(number, int):
        raise TypeError(msg)
    if number < 0:
        raise ValueError(msg)


ROOT: Final = Credentials()
