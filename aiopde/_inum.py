"""Inode numbers: who holds which (proc_inum_ida)."""

from __future__ import annotations

import heapq
from typing import Final, final

PROC_DYNAMIC_FIRST: Final = 0xF0000000
"""The first inode number given out, as in fs/proc/generic.c."""


@final
class InodeNumbers:
    """Gives out the lowest free inode number from 0xF0000000 (``proc_inum_ida``)."""

    # In two parts, as an entry keeps them: a multiple of 256, and what comes on top of that.
    __slots__ = ("_block", "_free", "_offset")

    def __init__(self) -> None:
        self._free: list[int] = []
        self._block, self._offset = _split(PROC_DYNAMIC_FIRST)

    def take(self) -> int:
        """Return the lowest number nobody holds."""
        block, offset = self.take_parts()
        return block + offset

    def take_parts(self) -> tuple[int, int]:
        """Take the same number, in two parts."""
        if self._free:
            return _split(heapq.heappop(self._free))
        offset = self._offset
        if offset == 0xFF:
            block = self._block
            self._block, self._offset = _split(block + 0x100)
            return block, offset
        self._offset = offset + 1
        return self._block, offset

    def give_back(self, number: int) -> None:
        """Make *number* free for the next entry."""
        heapq.heappush(self._free, number)
        self._forget()

    def give_back_all(self, numbers: list[int]) -> None:
        """Make many numbers free."""
        self._free += numbers
        self._forget()
        self._free.sort()  # is a heap then; and sorted by pieces it mostly is already

    def _forget(self) -> None:
        if len(self._free) == self._block + self._offset - PROC_DYNAMIC_FIRST:  # nobody holds any
            self._free.clear()
            self._block, self._offset = _split(PROC_DYNAMIC_FIRST)


# The multiples of 256 that inode numbers are made from, each one object.
_blocks: Final[dict[int, int]] = {}


def _split(number: int) -> tuple[int, int]:
    offset = number & 0xFF
    return _blocks.setdefault(number - offset, number - offset), offset
