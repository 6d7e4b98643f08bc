"""The entries below one entry, by name and in order (the subdir tree of proc_dir_entry)."""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._entry import ProcDirEntry


@final
class Children:
    """
    The entries below one entry, in the kernel's order: shorter names first, then by bytes.

    The kernel keeps a red-black tree in that order. A dict, and a list of names sorted when
    somebody wants to see it, is several times faster to fill and to look up, and takes a third of
    the memory. The list is kept until a name is added; taking its first names away leaves it in
    order. Most names are given out in order anyway (eth0, eth1), and then need not be sorted.
    """

    __slots__ = ("_descending", "_last", "by_name")

    def __init__(self) -> None:
        self.by_name: dict[str, ProcDirEntry] = {}
        self._descending: list[str] | None = None
        # The last name, as long as each came after all before it by its letters; then None, for
        # good. The bytes of what is no ASCII may tell otherwise, and are looked at when listed.
        self._last: str | None = ""

    def __len__(self) -> int:
        return len(self.by_name)

    def __iter__(self) -> Iterator[ProcDirEntry]:
        """Go through the entries in order; what is added or taken away meanwhile is not seen."""
        return iter([self.by_name[name] for name in self.names()])

    def names(self) -> list[str]:
        """Return the names in order."""
        return self.descending()[::-1]

    def get(self, name: str) -> ProcDirEntry | None:
        """Return the entry of that name, if there is one."""
        return self.by_name.get(name)

    def first(self) -> ProcDirEntry | None:
        """Return the first entry in order, if there is any."""
        return self.by_name[self.descending()[-1]] if self.by_name else None

    def add(self, entry: ProcDirEntry) -> None:
        """Add an entry whose name is not there."""
        name, last = entry._name, self._last
        if last is not None:
            longer = len(name) - len(last)
            self._last = name if longer > 0 or (longer == 0 and name > last) else None
        self.by_name[name] = entry
        self._descending = None

    def take(self, entry: ProcDirEntry) -> None:
        """Take an entry away that is there."""
        del self.by_name[entry._name]
        if self._descending and self._descending[-1] == entry._name:
            self._descending.pop()
        else:
            self._descending = None

    @property
    def unsorted(self) -> bool:
        """Whether the order would have to be found first."""
        return self._descending is None

    def clear(self) -> list[ProcDirEntry]:
        """Take all entries away, and return them in any order."""
        entries = list(self.by_name.values())
        self.by_name.clear()
        self._descending, self._last = None, ""
        return entries

    def descending(self) -> list[str]:
        """Return the list itself, the last name first; who pops one takes that entry away too."""
        if self._descending is None:
            names = list(self.by_name)
            if not "".join(names).isascii():
                names.sort(key=_rank)
            elif self._last is None:
                _sort(names)
            names.reverse()
            self._descending = names
        return self._descending


def _sort(names: list[str]) -> None:
    """Sort names that are all ASCII: by their length, then by their letters."""
    # Several times faster than by keys: to compare two strings is cheaper than to make, and
    # compare, two keys.
    names.sort(key=len)
    start = 0
    while start < len(names):
        end = bisect_right(names, len(names[start]), lo=start, key=len)
        names[start:end] = sorted(names[start:end])
        start = end


def _rank(name: str) -> tuple[int, bytes]:
    encoded = os.fsencode(name)
    return len(encoded), encoded


NO_CHILDREN: Final = Children()
