"""The removal of an entry and all below it (remove_proc_subtree, proc_entry_rundown)."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING, Any, cast, final

import anyio

from ._errors import error
from ._open_file import run_to_end
from ._rare import FREED, GONE, PLAIN, Rare
from ._trace import emit, sinks
from ._usecount import BIAS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from ._entry import ProcDirEntry
    from ._open_file import File


@final
class Removal:
    """
    One removal, from the unlinking to the last release; it goes on where it is, whoever runs it.

    It is a machine that never waits itself: :meth:`advance` does what can be done and says what
    stands in the way. So a cancelled remover leaves nothing half done, and another can go on.

    Making one unlinks its root and refuses every new call in the whole subtree (its *entries*), at
    once. (Linux does that entry by entry: while it waits in one, its later siblings go on living.)
    The rest is in Linux's order: the first child is unlinked and gone into, and so on until there
    is none; then that entry is run down, and the next of its siblings comes; a directory after all
    that is in it, and so the root last. What is created meanwhile below a directory whose turn is
    still to come is swept away too.

    Linux: ``remove_proc_subtree``, fs/proc/generic.c; ``proc_entry_rundown``, fs/proc/inode.c.
    """

    __slots__ = (
        "_current",
        "_drained",
        "_events",
        "_failures",
        "_others",
        "_plain",
        "began",
        "in_background",
        "reported",
        "root",
    )

    def __init__(
        self, root: ProcDirEntry, entries: Iterable[ProcDirEntry], pending: Iterable[Removal]
    ) -> None:
        self.root = root
        # Where it is: this entry and those above it, up to the root, are unlinked and not gone.
        self._current = root
        # For who joins, by the entry they wait for; made when somebody does.
        self._events: dict[ProcDirEntry, anyio.Event] = {}
        self._failures: list[tuple[ProcDirEntry, Exception]] = []
        # The entry whose last call was seen to be out.
        self._drained: ProcDirEntry | None = None
        # When somebody first came to wait for it: most are over before, and read no clock.
        self.began: float | None = None
        # Whether a task of the tree's sees to it.
        self.in_background = False
        # Whether the hung-task report was given.
        self.reported = False
        # Removals, by somebody else, of what was or is below the root: the directories that they
        # are below go after them.
        self._others = [other for other in pending if is_below(other.root, root)]
        around = removal_around(root)
        if around is not None:
            around._others.append(self)
        if root.parent is not root and root._linked:
            root._unlink()
        # What an entry has of what is rare when it has nothing else; see ProcDirEntry._own().
        self._plain = plain = Rare(self, shared=True)
        usual = None if sinks else PLAIN
        for entry in entries:
            if entry._rare is usual and entry._in_use == 0 and entry._newest is None:
                # _kill() in place, for the many that nobody uses: a tenth of what it costs.
                entry._in_use = BIAS
                entry._rare = plain
            else:
                entry._kill()
                entry._removal = self

    @property
    def done(self) -> bool:
        """Whether everything is gone."""
        return self.root._rare.removal is GONE

    @property
    def failed(self) -> bool:
        """Whether release handlers raised anything."""
        return bool(self._failures)

    @property
    def errors(self) -> list[Exception]:
        """What release handlers raised."""
        return [exc for _, exc in self._failures]

    def find(self, parent: ProcDirEntry, name: str) -> ProcDirEntry | None:
        """Return the entry of that name which this removal has unlinked and which is not gone."""
        entry = self._current
        while not (entry.parent is parent and entry.name == name):
            # Above its own root when all is gone, where it finds nothing either.
            if entry is self.root or entry.parent is entry:
                return None
            entry = entry.parent
        return entry

    def advance(self) -> anyio.Event | File | None:
        """
        Do all that can be done without waiting; say what has to be waited for. Not a checkpoint.

        Returns:
            None when all is gone. An event: wait for it, and call again. A file: its release
            handler might wait for something, so it must be run where nobody cancels it, with
            :meth:`release`; then call again.
        """
        while not self.done:
            entry = self._current
            if entry._rare.children is not None:
                self._sweep(entry)
                child = entry._children.first()
                if child is not None:
                    self._descend(child)
                    continue
            obstacle = self._rundown(entry)
            if obstacle is not None:
                return obstacle
            if not entry._rare.children:  # a release handler may have created something
                self._ascend()
        return None

    def _sweep(self, directory: ProcDirEntry) -> None:
        """
        Do at once for the first children what would be done for each: for those nobody uses.

        Nobody can tell the difference, as nothing else runs between: they have no file that is
        open, nobody waits for them, and no sink listens.
        """
        children = directory._rare.children
        if children is None or self._events or self._others or sinks:
            return
        # What is plain was idle when it was killed, and what is killed gets neither calls nor
        # files; whatever else may have happened to it has given it a Rare of its own.
        plain, by_name = self._plain, children.by_name
        # Where all of it is, no order is needed. To be found out once only.
        kinds = {c._rare for c in by_name.values()} if children.unsorted else ()
        swept: list[ProcDirEntry] = []
        if kinds == {plain} and not directory._rare.subdirs:
            swept = children.clear()
        else:
            names = children.descending()
            while names and (child := by_name[names[-1]])._rare is plain and not child.is_dir():
                del by_name[names.pop()]
                swept.append(child)
        for child in swept:
            child._rare = FREED
        directory._tree._inodes.give_back_all([child._block + child._offset for child in swept])

    def _descend(self, child: ProcDirEntry) -> None:
        child._unlink()
        if child._removal is not self:  # it was created meanwhile
            child._kill()
            child._removal = self
        self._current = child

    def _ascend(self) -> None:
        entry = self._current
        self._current = entry.parent
        entry._gone()
        if self._events and entry in self._events:
            self._events.pop(entry).set()

    def _rundown(self, entry: ProcDirEntry) -> anyio.Event | File | None:
        for other in self._others:
            if not other.done and is_below(other.root, entry):
                return other.event(other.root)
        if entry._in_use != BIAS:
            return entry._completion
        if sinks and self._drained is not entry:
            self._drained = entry
            emit("drained", entry.path)
        if entry._newest is not None and not entry.ops._release_suspends and not sinks:
            if entry.ops.release is None:
                _forget_files(entry)
            else:
                run_to_end(self._release_all(entry))
        # Each time the newest that is there: closers take files out meanwhile.
        while entry._newest is not None:
            obstacle = self._close(entry._newest)
            if obstacle is not None:
                return obstacle
        return None

    async def _release_all(self, entry: ProcDirEntry) -> None:
        """Release each file in turn, where that waits for nothing: release_now(), in place."""
        release: Any = entry.ops.release
        awaited, held = entry.ops._release_awaited, 0
        file = entry._newest
        try:
            while file is not None:
                try:
                    if awaited:
                        await release(file)
                    else:
                        release(file)
                except Exception as exc:  # it stops no other release; see check()
                    self._failures.append((entry, exc))
                finally:
                    # It is open: what is closed with a call inside is released by that call.
                    held += 1
                    # _take_file() in place
                    entry._newest = older = file._older
                    if older is not None:
                        older._newer = file._older = None
                    file = older
        finally:
            entry._own().holders += held

    def _close(self, file: File) -> anyio.Event | File | None:
        if file._closing:
            return file._completion()
        if file.entry.ops._release_suspends:
            return file
        try:
            file._release_now()
        except Exception as exc:  # it stops no other release; see check()
            self._failures.append((file.entry, exc))
        return None

    async def run(self, wait: Callable[[anyio.Event], Awaitable[None]]) -> None:
        """Go on until all is gone. To be called where it is not cancelled."""
        while True:
            obstacle = self.advance()
            if obstacle is None:
                return
            if isinstance(obstacle, anyio.Event):
                await wait(obstacle)
            else:
                await self._release(obstacle)

    async def _release(self, file: File) -> None:
        try:
            await file._run_release()
        except Exception as exc:  # it stops no other release; see check()
            self._failures.append((file.entry, exc))

    def remaining(self) -> Iterator[ProcDirEntry]:
        """Go through what is not gone yet, and what others remove of it."""
        entry = self._current
        while True:
            yield from subtree(entry)
            if entry is self.root:
                break
            entry = entry.parent
        for other in self._others:
            if not other.done:
                yield from other.remaining()

    async def wait(self, event: anyio.Event) -> None:
        """Wait for what stands in the way, or for the end. A checkpoint."""
        await event.wait()

    def event(self, entry: ProcDirEntry) -> anyio.Event:
        """Return what is set when *entry*, which this removal is about, is gone."""
        if entry not in self._events:
            self._events[entry] = anyio.Event()
        return self._events[entry]

    def check(self, entry: ProcDirEntry) -> None:
        """Raise what the release handlers of *entry* and all below it raised, if they did."""
        errors = [exc for where, exc in self._failures if is_below(where, entry)]
        if errors:
            msg = f"release handlers failed while {entry.path!r} was removed"
            raise ExceptionGroup(msg, errors)


def _forget_files(entry: ProcDirEntry) -> None:
    """Do what is left of the release of each file, where there is no handler."""
    held, file = 0, entry._newest
    entry._newest = None
    while file is not None:
        held += 1
        older = file._older
        file._newer = file._older = None
        file = older
    entry._own().holders += held


def is_below(entry: ProcDirEntry, root: ProcDirEntry) -> bool:
    """Tell whether *entry* is *root* or stands, or stood, below it."""
    while entry is not root and entry.parent is not entry:
        entry = entry.parent
    return entry is root


def removal_around(entry: ProcDirEntry) -> Removal | None:
    """Find the removal under way which the entry, or a directory it is in, belongs to."""
    while (removal := entry._rare.removal) is None and entry.parent is not entry:
        entry = entry.parent
    return None if removal is GONE else cast("Removal | None", removal)


def subtree(root: ProcDirEntry) -> list[ProcDirEntry]:
    """Return an entry and all below it, parents first."""
    found = [root]
    for entry in found:
        children = entry._rare.children
        if children is not None:
            # In order only for those who watch: to sort takes longer than all the rest.
            found += children if sinks else children.by_name.values()
    return found


def removable(root: ProcDirEntry) -> list[ProcDirEntry]:
    """
    Return the entry and all below it; ``EINVAL`` if any of it is permanent.

    Linux finds that out on the way, with half of the tree gone.
    """
    entries = subtree(root)
    tables = {entry.ops for entry in entries} if len(entries) > 1 else (root.ops,)
    if any(ops.permanent for ops in tables):
        path = next(entry.path for entry in entries if entry.permanent)
        raise error(EINVAL, path, "a permanent entry cannot be removed")
    return entries
