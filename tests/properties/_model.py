"""
The contract as a small program: the kernel's lists of steps, run by a scheduler of ten lines.

Calls are generators that yield what they wait for. A step of a test starts, cancels or lets go of
one of them, and :meth:`Model.settle` then runs all that can run; what every call does, returns or
waits for is what the real thing has to do. Lists of steps: OPEN, OP, CLOSE, close_pdeo and REMOVE
of fs/proc/inode.c and generic.c, with the four decisions that differ from Linux (README) and what
structured concurrency adds: a call can be cancelled where it waits, unless it is shielded there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from errno import EBADF, EINVAL, EIO, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY
from typing import TYPE_CHECKING, Any, NamedTuple

from ._kernel import KernelCount

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    Steps = Generator["Wait", None, Any]

FIRST_NUMBER = 0xF0000000
DATA = b"0123456789"


class Wait(NamedTuple):
    """What a call waits for, and whether it can be cancelled there."""

    until: Callable[[], bool]
    shielded: bool = False


class Cancelled(Exception):
    """Thrown into a call where it waits."""


@dataclass(eq=False)
class Entry:
    """``struct proc_dir_entry``."""

    name: str
    number: int
    parent: Entry | None
    is_dir: bool = False
    is_link: bool = False
    """A symlink, which leads nowhere."""
    handlers: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Which handlers it has, and whether each stops until it is let go."""
    permanent: bool = False
    children: dict[str, Entry] = field(default_factory=dict[str, "Entry"])
    count: KernelCount = field(default_factory=KernelCount)
    records: list[File] = field(default_factory=list["File"])
    """Open files that wait for their release, the newest last."""
    files: list[File] = field(default_factory=list["File"])
    """All files that were ever opened."""
    gone: bool = False
    removal: Removal | None = None
    """The removal it belongs to, once it does."""

    @property
    def linked(self) -> bool:
        return self.parent is None or self.parent.children.get(self.name) is self

    @property
    def freed(self) -> bool:
        """Whether its number is free for another."""
        return self.gone and not any(file.descriptors for file in self.files)

    @property
    def state(self) -> str:
        if not self.count.dying:
            return "live" if self.linked else "unlinked"
        if not self.count.drained:
            return "dying"
        return "gone" if self.gone else "releasing"

    @property
    def nlink(self) -> int:
        return 1 + self.is_dir + sum(child.is_dir for child in self.children.values())

    def in_order(self) -> list[Entry]:
        return [self.children[n] for n in sorted(self.children, key=lambda n: (len(n), n))]

    def subtree(self) -> Iterator[Entry]:
        yield self
        for child in self.in_order():
            yield from child.subtree()

    def above(self) -> Iterator[Entry]:
        """Yield the entry and those it stands, or stood, below."""
        yield self
        if self.parent is not None:
            yield from self.parent.above()

    def unlink(self) -> None:
        assert self.parent is not None
        del self.parent.children[self.name]

    def kill(self) -> None:
        if not self.count.dying:
            self.count.add_bias()


@dataclass(eq=False)
class File:
    """``struct file`` and ``struct pde_opener``."""

    entry: Entry
    opener: str
    flags: int
    descriptors: int = 1
    pos: int = 0
    inside: int = 0
    holder: str | None = None
    """Who has the position."""
    queue: list[str] = field(default_factory=list[str])
    """Who waits for it."""
    closing: bool = False


@dataclass(eq=False)
class Removal:
    """Who removes what."""

    root: Entry
    remover: str
    handed_over: bool = False
    """Whether it goes on without its remover."""
    resumed: bool = False
    """Whether somebody has just taken it over, who looks again at what there is to do."""

    def hand_over(self) -> None:
        self.resumed = not self.handed_over
        self.handed_over = True

    others: list[Removal] = field(default_factory=list["Removal"])
    """Removals, by somebody else, of what was or is below its root: what is above goes later."""


@dataclass(eq=False)
class Gate:
    """A handler that has stopped."""

    op: str
    file: File
    opened: bool = False
    value: Any = None
    errno: int = 0


class Task:
    """A call under way, and how it ended."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._wait: Wait | None = Wait(lambda: True)
        self.outcome: tuple[str, Any] = ("busy", None)

    @property
    def busy(self) -> bool:
        return self._wait is not None

    def run(self) -> bool:
        """Go on if it can; tell whether it could."""
        if self._wait is None or not self._wait.until():
            return False
        self._resume(lambda: next(self._steps))
        return True

    def abandon(self) -> None:
        """Make an end of it, wherever it is."""
        while self.busy:
            self._resume(lambda: self._steps.throw(Cancelled()))

    def cancel(self) -> None:
        if self._wait is not None and not self._wait.shielded:
            self._resume(lambda: self._steps.throw(Cancelled()))

    def _resume(self, go_on: Callable[[], Wait]) -> None:
        self._wait = None
        try:
            self._wait = go_on()
        except StopIteration as stop:
            self.outcome = ("value", stop.value)
        except OSError as exc:
            self.outcome = ("errno", exc.errno)
        except Cancelled:
            self.outcome = ("cancelled", None)


class Model:
    """The tree, the calls under way, and the handlers that have stopped."""

    def __init__(self) -> None:
        self.root = Entry("", 1, None, is_dir=True)
        self.entries: list[Entry] = []
        self.tasks: dict[str, Task] = {}
        self.background: list[Task] = []
        self.gates: dict[str, Gate] = {}
        self.removals: list[Removal] = []
        """Those not finished, the oldest first."""
        self.orphaned: list[Entry] = []
        """Entries below which something was created when they were gone."""
        self.log: list[str] = []

    # -- the scheduler --------------------------------------------------------------------------

    def start(self, actor: str, steps: Steps) -> None:
        self.tasks[actor] = Task(steps)

    def settle(self) -> None:
        """Run all that can run, until nothing can."""
        while sum(task.run() for task in [*self.tasks.values(), *self.background]):
            pass

    def abandon(self) -> None:
        """End everything, as a failed test does: no generator is left in the middle."""
        for task in [*self.tasks.values(), *self.background]:
            task.abandon()

    def cancel(self, actor: str) -> None:
        self.tasks[actor].cancel()
        for removal in self.removals:
            if removal.remover == actor:
                removal.hand_over()

    def go(self, actor: str, value: Any, errno: int) -> None:
        gate = self.gates[actor]
        gate.opened, gate.value, gate.errno = True, value, errno

    @property
    def busy(self) -> set[str]:
        return {actor for actor, task in self.tasks.items() if task.busy}

    @property
    def stopped(self) -> set[str]:
        return {says(actor, gate.op, gate.file) for actor, gate in self.gates.items()}

    # -- the tree -------------------------------------------------------------------------------

    def register(self, entry: Entry) -> Entry:
        assert entry.parent is not None
        if entry.parent.gone:
            self.orphaned.append(entry.parent)
        entry.parent.children[entry.name] = entry
        self.entries.append(entry)
        return entry

    def free_number(self) -> int:
        taken = {entry.number for entry in self.entries if not entry.freed}
        number = FIRST_NUMBER
        while number in taken:
            number += 1
        return number

    def lookup(self, path: str) -> Entry:
        here = self.root
        for name in path.split("/")[2:]:
            if here.is_link:
                raise OSError(ENOENT, path)
            if not here.is_dir:
                raise OSError(ENOTDIR, path)
            child = here.children.get(name)
            if child is None or child.count.dying:
                raise OSError(ENOENT, path)
            here = child
        return here

    # -- handlers, in and out -------------------------------------------------------------------

    def call(self, actor: str, op: str, file: File, result: Any = None) -> Steps:
        if op not in file.entry.handlers:
            return result
        self.log.append(says(actor, op, file))
        if not file.entry.handlers[op]:
            return result
        gate = self.gates[actor] = Gate(op, file)
        try:
            yield Wait(lambda: gate.opened, shielded=op == "release")
        finally:
            del self.gates[actor]
        if gate.errno:
            raise OSError(gate.errno, op)
        return result if gate.value is None else gate.value

    def enter(self, file: File, op: str) -> None:
        if not file.entry.count.dying and op in file.entry.handlers:
            file.entry.count.use_pde()
            file.inside += 1
        else:
            raise OSError(EIO, op)

    def leave(self, actor: str, file: File) -> Steps:
        file.inside -= 1
        file.entry.count.unuse_pde()
        if not file.inside and not file.descriptors:
            yield from self.close_pdeo(actor, file)

    def take_position(self, actor: str, file: File, op: str) -> Steps:
        if file.holder is None or op not in file.entry.handlers:
            self.enter(file, op)
            file.holder = actor
            return
        file.queue.append(actor)
        try:
            yield Wait(lambda: actor not in file.queue)
        except Cancelled:
            file.queue = [other for other in file.queue if other != actor]
            raise
        if file.holder != actor:
            raise OSError(EIO, op)

    def leave_position(self, actor: str, file: File) -> Steps:
        if file.queue and not file.entry.count.dying:
            file.holder = file.queue.pop(0)  # counted in place of who goes
        else:
            file.holder = None
            file.queue.clear()  # they come too late
            yield from self.leave(actor, file)

    # -- calls ----------------------------------------------------------------------------------

    def open(self, actor: str, what: Entry | str, flags: int) -> Steps:
        entry = self.lookup(what) if isinstance(what, str) else what
        if entry.is_link:
            raise OSError(ENOENT, what)
        if entry.is_dir and flags & os.O_RDWR:
            raise OSError(EISDIR, what)
        file = File(entry, actor, flags)
        if not flags & os.O_PATH and not entry.is_dir:
            if not entry.count.use_pde():
                raise OSError(ENOENT, "open")
            try:
                yield from self.call(actor, "open", file)
                entry.records.append(file)
            finally:
                entry.count.unuse_pde()
        entry.files.append(file)
        return file

    def read(self, actor: str, file: File, size: int) -> Steps:
        yield from self.take_position(actor, file, "read")
        try:
            data = yield from self.call(actor, "read", file, DATA[file.pos : file.pos + size])
            file.pos += len(data)
        finally:
            yield from self.leave_position(actor, file)
        return data

    def write(self, actor: str, file: File, data: bytes) -> Steps:
        if not file.flags & os.O_RDWR:
            raise OSError(EBADF, "write")
        yield from self.take_position(actor, file, "write")
        try:
            taken = yield from self.call(actor, "write", file, len(data))
            file.pos += taken
        finally:
            yield from self.leave_position(actor, file)
        return taken

    def pread(self, actor: str, file: File, size: int, offset: int) -> Steps:
        self.enter(file, "read")
        try:
            return (yield from self.call(actor, "read", file, DATA[offset : offset + size]))
        finally:
            yield from self.leave(actor, file)

    def mmap(self, actor: str, file: File) -> Steps:
        self.enter(file, "mmap")
        mapped = False
        try:
            yield from self.call(actor, "mmap", file)
            mapped = True
        finally:
            file.descriptors += mapped
            yield from self.leave(actor, file)
        return file

    def read_all(self, actor: str, entry: Entry) -> Steps:
        """Open, read to the end and close, as one call in the guard."""
        if entry.is_dir:
            raise OSError(EISDIR, "read")
        if not entry.count.use_pde():
            raise OSError(ENOENT, "open")
        file = File(entry, actor, os.O_RDONLY)
        try:
            yield from self.call(actor, "open", file)
            try:
                return (yield from self._read_to_end(actor, file))
            finally:
                yield from self.call(actor, "release", file)
        finally:
            entry.count.unuse_pde()

    def _read_to_end(self, actor: str, file: File) -> Steps:
        if "read" not in file.entry.handlers:
            raise OSError(EIO, "read")
        content = b""
        while True:
            data = yield from self.call(actor, "read", file, DATA[len(content) :])
            if not data:
                return content
            content += data

    def close(self, actor: str, file: File) -> Steps:
        file.descriptors -= 1
        if not file.descriptors and not file.inside:
            yield from self.close_pdeo(actor, file)

    def close_pdeo(self, actor: str, file: File) -> Steps:
        records = file.entry.records
        if file not in records:
            return
        if file.closing:
            yield Wait(lambda: file not in records, shielded=True)
            return
        file.closing = True
        yield from self.call(actor, "release", file)
        records.remove(file)

    # -- removal --------------------------------------------------------------------------------

    def find(self, name: str, parent: Entry) -> Entry:
        """Find what a removal by name is about: what is there, or else what began to go last."""
        if name in parent.children:
            return parent.children[name]
        for entry in reversed(self.entries):
            if (entry.name, entry.parent) == (name, parent) and not entry.gone:
                return entry
        raise OSError(ENOENT, name)

    def remove(self, actor: str, what: Entry | str, parent: Entry, *, tree: bool) -> Steps:
        entry = self.find(what, parent) if isinstance(what, str) else what
        if entry.linked:
            if entry.children and not tree:
                raise OSError(ENOTEMPTY, "remove")
            if any(e.permanent for e in entry.subtree()):
                raise OSError(EINVAL, "remove")
            self.background.append(Task(self.rundown_all([self.begin(actor, entry)])))
        yield Wait(lambda: entry.gone)

    def leave_tree(self, actor: str) -> Steps:
        """Remove all that is left, and what was created below what was gone."""
        orphans = [child for gone in self.orphaned for child in gone.in_order()]
        roots = [self.root, *dict.fromkeys(orphans)]
        self.background.append(Task(self.rundown_all([self.begin(actor, r) for r in roots])))
        yield Wait(lambda: all(e.gone for e in self.entries), shielded=True)

    def begin(self, actor: str, root: Entry) -> Removal:
        removal = Removal(root, actor)
        removal.others = [other for other in self.removals if root in other.root.above()]
        around = removal_around(root)
        if around is not None:
            around.others.append(removal)
        if root is not self.root:
            root.unlink()
        for entry in root.subtree():
            entry.kill()
            entry.removal = removal
        self.removals.append(removal)
        return removal

    def rundown_all(self, removals: list[Removal]) -> Steps:
        for removal in removals:
            yield from self.rundown(removal, removal.root)
            self.removals.remove(removal)

    def rundown(self, removal: Removal, entry: Entry) -> Steps:
        """Do whatever comes first of what is left to do, until nothing is."""
        while not entry.gone:
            removal.resumed = False
            others = [
                other
                for other in removal.others
                if other in self.removals and entry in other.root.above()
            ]
            if entry.children:
                child = entry.in_order()[0]
                child.unlink()
                child.kill()
                child.removal = removal
                yield from self.rundown(removal, child)
            elif others:
                other = others[0]
                yield self._wait(removal, lambda other=other: other not in self.removals)  # type: ignore[misc]
            elif not entry.count.drained:
                yield self._wait(removal, lambda: entry.count.drained)
            elif entry.records and entry.records[-1].closing:
                file = entry.records[-1]
                yield self._wait(removal, lambda file=file: file not in entry.records)  # type: ignore[misc]
            elif entry.records:
                if entry.handlers.get("release"):
                    removal.hand_over()  # it must not be cancelled any more
                yield from self.close_pdeo(removal.remover, entry.records[-1])
            else:
                entry.gone = True

    def _wait(self, removal: Removal, until: Callable[[], bool]) -> Wait:
        return Wait(lambda: until() or removal.resumed)


def removal_around(entry: Entry) -> Removal | None:
    """Find the removal that an entry, or a directory it is in, belongs to."""
    # What is below something gone belongs to none.
    around = next((each for each in entry.above() if each.gone or each.removal), entry)
    return None if around.gone else around.removal


def says(actor: str, op: str, file: File) -> str:
    return f"{actor} {op} {file.entry.name if op == 'open' else file.opener}"
