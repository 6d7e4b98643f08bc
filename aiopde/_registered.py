"""What a module has registered: hidden and shown as one, and removed when exit forgot it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

from ._rare import GONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._entry import ProcDirEntry
    from ._ops import ProcOps

_ENOUGH_TO_PRUNE: Final = 64


@final
class Registered:
    """
    The entries of one module, those that are gone left out now and then.

    In Linux nobody keeps such a list: what exit forgets to remove stays, and is called.
    """

    def __init__(self) -> None:
        self._entries: dict[ProcDirEntry, None] = {}
        self._hidden: list[ProcDirEntry] = []
        self._prune_at = _ENOUGH_TO_PRUNE

    def __iter__(self) -> Iterator[ProcDirEntry]:
        return iter(self._entries)

    def __contains__(self, entry: object) -> bool:
        return entry in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: ProcDirEntry) -> None:
        """Note one more."""
        if len(self._entries) >= self._prune_at:
            self._entries = {old: None for old in self._entries if old._removal is not GONE}
            self._prune_at = 2 * len(self._entries) + _ENOUGH_TO_PRUNE
        self._entries[entry] = None

    def clear(self) -> None:
        """Forget all of them."""
        self._entries = {}
        self._hidden = []

    def tables(self) -> set[ProcOps]:
        """Return their tables of handlers."""
        return {entry.ops for entry in self._entries}

    def roots(self) -> list[ProcDirEntry]:
        """Return those that are below no other of them."""
        return [entry for entry in self._entries if entry.parent not in self._entries]

    def hide(self) -> None:
        """Take their names out of the tree; what is open goes on. Not a checkpoint."""
        self._hidden = [entry for entry in self.roots() if entry._linked]
        for entry in self._hidden:
            entry._unlink()

    def show(self) -> list[ProcDirEntry]:
        """Put the names back; return what had to go for it."""
        displaced: list[ProcDirEntry] = []
        for entry in self._hidden:
            other = entry.parent._children.get(entry.name)
            if other is not None:
                other._unlink()
                displaced.append(other)
            entry.parent._add_child(entry)
        self._hidden = []
        return displaced

    async def sweep(self, errors: list[Exception | SystemExit]) -> list[ProcDirEntry]:
        """
        Remove what is still registered, and wait for what somebody else is removing.

        Without a grace: as long as a call is inside, its code must not go. Meanwhile such a call
        may register something, which is then removed too.

        Args:
            errors: Where what removals raise is noted: an unload does not stop half-way.

        Returns:
            What nobody else was removing.
        """
        forgotten: list[ProcDirEntry] = []
        seen: set[ProcDirEntry] = set()
        while found := [entry for entry in self._entries if entry not in seen]:
            seen.update(found)
            forgotten += [entry for entry in found if entry._linked and not entry.removing]
            for entry in found:
                try:
                    await _sweep_away(entry)
                except Exception as exc:
                    errors.append(exc)
        return forgotten


async def _sweep_away(entry: ProcDirEntry) -> None:
    # Unlinked but not being removed is what a character device is when it was deleted.
    if entry._linked or entry._removal is not None:
        await entry.remove(grace=math.inf)


def take_back(entry: ProcDirEntry) -> None:
    """Undo a registration that nobody can have seen yet."""
    entry._unlink()
    entry._tree._inodes.give_back(entry.ino)
