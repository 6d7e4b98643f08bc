"""
What a step touches: which attribute of which object it reads or writes, whom it wakes.

Two steps of different tasks depend on each other when they touch the same attribute of the same
object, one of them writing, or when one makes the other possible. That has to be seen in full, or
the search leaves out what it should not; and finely, or it leaves out nothing: "the same object"
is far too coarse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, final

if TYPE_CHECKING:
    from ._lane import Lane

READ: Final = 1
WRITE: Final = 2
ADD: Final = 4
"""What commutes with itself, but not with reading: the end of one task of a group."""

Accesses: TypeAlias = dict[int, int]
"""Of each key, the kinds of access, or-ed."""


def conflict(a: Accesses, b: Accesses) -> bool:
    """Whether two steps touch the same thing in a way in which their order matters."""
    if len(b) < len(a):
        a, b = b, a
    for key, kinds in a.items():
        other = b.get(key, 0)
        if other and (kinds != other or kinds not in (READ, ADD)):
            return True
    return False


@final
class Event:
    """A step, as the search sees it."""

    __slots__ = ("accesses", "after", "lane", "number", "place", "real")

    def __init__(self, lane: Lane, number: int, after: list[Event], *, real: bool = True) -> None:
        self.lane = lane
        self.real = real
        """Whether it was made; not so a cancellation that never came."""
        self.number = number
        """Its place in the execution."""
        self.accesses: Accesses = {}
        self.place = ""
        """Where its task stood after it."""
        self.after = after
        """What made it possible: the step before, and who woke or started its task."""
