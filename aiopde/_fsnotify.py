"""Who wants to know what changes in any tree (fs/notify)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ._entry import ProcDirEntry


class Observer(Protocol):
    """Who wants to know what changes in any tree: a mount, for the kernel's caches."""

    def unlinked(self, entry: ProcDirEntry) -> object:
        """Note that an entry has lost its name."""
        ...

    def changed(self, entry: ProcDirEntry) -> object:
        """Note that an entry's attributes are others now."""
        ...


observers: Final[list[Observer]] = []
"""Nobody looks at more than whether it is empty, until something is mounted."""
