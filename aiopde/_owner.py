"""Whose code registers something, and whose an entry is (THIS_MODULE)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol

from ._holders import running_handler

if TYPE_CHECKING:
    from ._entry import ProcDirEntry, Tree


class Owner(Protocol):
    """Who wants to know what its code registers: a module."""

    def _add(self, entry: ProcDirEntry) -> None:
        """Note an entry that was registered."""
        ...

    @property
    def _going(self) -> bool:
        """Whether it is on its way out: what it waits for then must not fail."""
        ...


class Owners(Protocol):
    """Who knows to whom entries belong (a Kernel)."""

    def owner_of(self, entry: ProcDirEntry) -> Owner | None:
        """Find out whose an entry is, and so whose code its handlers are."""
        ...


current_owner: Final[ContextVar[Owner | None]] = ContextVar("current_owner", default=None)
"""Whose code runs in this context, handlers apart: those run in that of their callers."""


def find_owner(tree: Tree) -> Owner | None:
    """Tell whose code registers something in a tree."""
    # Nothing is noted while handlers run, so nothing is paid for it: their frames tell.
    entry = None if tree._owners is None else running_handler()
    return current_owner.get() if entry is None else owner_of(entry)


def owner_of(entry: ProcDirEntry) -> Owner | None:
    """Tell whose an entry is, and so whose code its handlers are."""
    owners = entry._tree._owners
    return None if owners is None else owners.owner_of(entry)
