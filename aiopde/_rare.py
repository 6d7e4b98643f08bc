"""What most entries have not, kept out of them: there may be a million."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from ._usecount import BIAS

if TYPE_CHECKING:
    import anyio

    from ._subdir import Children


@final
class Rare:
    """
    What most entries have not: children, a removal, somebody who waits.

    An entry that has nothing of it shares one of these with all others like it, and gets its own
    when it comes to need one (see :meth:`ProcDirEntry._own`): a million entries pay for one word.
    """

    __slots__ = ("children", "completion", "holders", "removal", "shared", "subdirs", "watchers")

    def __init__(self, removal: Any = None, *, holders: int = 0, shared: bool = False) -> None:
        self.shared: bool = shared
        self.children: Children | None = None
        self.subdirs: int = 0
        # What the last call out sets; see Rundown._kill().
        self.completion: anyio.Event | None = None
        # Files that removal does not, or no longer, wait for: directories, and those released but
        # not yet closed. The last of them frees the number of an entry that is gone.
        self.holders: int = holders
        # What its removal wakes when it begins, by whoever put it there.
        self.watchers: dict[object, anyio.Event] | None = None
        # The removal under way, for those who join it.
        self.removal: Any = removal


GONE: Final = object()
"""What ``_removal`` is once there is nothing left to join."""
PLAIN: Final = Rare(shared=True)
"""What an entry has of what is rare: nothing."""
FREED: Final = Rare(GONE, holders=BIAS, shared=True)
"""The same of one that is gone, and its number given back."""
