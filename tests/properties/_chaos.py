"""A stage on which calls run into each other at random."""

from __future__ import annotations

import os
from errno import EAGAIN
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from anyio.lowlevel import checkpoint

from aiopde import File, ProcDirEntry, ProcFile
from tests.races._stage import HOST, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KINDS = (
    ("open read write mmap release", ""),
    ("read release", ""),
    ("open", "read write release"),
    ("release", "read mmap"),
    ("read mmap", ""),
)
STATES = ("live", "unlinked", "dying", "releasing", "gone")
# How often each is done.
VERBS = (
    *("create", "mkdir", "open", "open", "open", "read", "read", "pread", "write", "mmap"),
    *("dup", "close", "close", "remove", "remove", "remove_by_name", "read_all", "cancel"),
    *("list", "cancel"),
)


class Chaos(Stage):
    """A stage whose handlers and actors dawdle, each for some turns of the loop."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)  # noqa: S311  repeatable, and nothing here is secret
        self.at_point = self.check_invariants
        self.history: dict[ProcDirEntry, tuple[int, int, int]] = {}
        self.number = 0

    async def dawdle(self, most: int) -> None:
        for _ in range(self.random.randrange(most + 1)):
            await checkpoint()

    async def stop(self, actor: str, op: str, file: File) -> Any:
        await self.dawdle(5)
        if op != "release" and self.random.random() < 0.1:
            raise OSError(EAGAIN, f"{actor} {op} {file}")

    # -- steps ----------------------------------------------------------------------------------

    def do(self, verb: str) -> None:
        """Take one step, if there is something to do it to."""
        random = self.random
        match verb:
            case "create" | "mkdir":
                self._register(verb)
            case "cancel":
                busy = self.busy - {HOST}
                if busy:
                    self.cancel(random.choice(sorted(busy)))
            case "list":
                self._list()
            case "close":
                if self.handles:
                    handle = self.handles.pop(random.randrange(len(self.handles)))
                    self.call(handle.aclose)
            case "open" | "remove" | "remove_by_name" | "read_all":
                if self.entries:
                    self._do_to_entry(verb, random.choice(self.entries))
            case _:
                files = [h for h in self.handles if isinstance(h, ProcFile)]
                if files:
                    self._do_to_file(verb, random.choice(files))

    def _register(self, verb: str) -> None:
        directories = [self.proc.root, *(e for e in self.entries if e.is_dir())]
        parent = self.random.choice(directories)
        name = self.random.choice(("a", "b", "cc"))
        if name not in {child.name for child in parent._children}:
            if verb == "mkdir":
                self.know(self.proc.mkdir(name, parent=parent))
            else:
                self.create(name, *self.random.choice(KINDS), parent=parent)

    def _list(self) -> None:
        """The names in each directory are in order, and none is there twice (I23)."""
        for entry in (self.proc.root, *self.entries):
            names = [child.name for child in entry._children]
            assert names == sorted(set(names), key=lambda name: (len(name), name))
            assert entry.nlink == 1 + entry.is_dir() + sum(c.is_dir() for c in entry._children)

    def _do_to_entry(self, verb: str, entry: ProcDirEntry) -> None:
        if verb == "open":
            flags = os.O_RDONLY if entry.is_dir() else os.O_RDWR
            what = self.random.choice((entry, entry.path))
            self.call(self._open, what, flags)
        elif verb == "read_all":
            self.call(self.proc.read_bytes, entry)
        elif verb == "remove":
            self.call(self._remove, entry, entry.remove)
        else:
            name, parent = entry.name, entry.parent
            there = next((e for e in parent._children if e.name == name), None)
            if there is not None:
                tree = partial(self.proc.remove_subtree, name, parent=parent)
                self.call(self._remove, None, tree)

    async def _remove(
        self, entry: ProcDirEntry | None, remove: Callable[[], Awaitable[None]]
    ) -> None:
        """Whoever's removal returns, first or not, finds the entry gone (B29)."""
        await remove()
        early = entry is not None and entry.statistics().state != "gone"
        self.never(early, "a removal has returned early (B29)")

    def _do_to_file(self, verb: str, file: ProcFile) -> None:
        match verb:
            case "read":
                self.call(file.read, self.random.randrange(4))
            case "pread":
                self.call(file.pread, 3, self.random.randrange(4))
            case "write":
                self.call(file.write, b"abc")
            case "mmap":
                self.call(file.mmap, 1)
            case _:
                self.handles.append(file.dup())

    def call(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        self.number += 1
        self.start(f"actor{self.number}", self._later, function, *args)

    async def _later(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        await self.dawdle(3)
        return await function(*args)

    # -- what always holds ----------------------------------------------------------------------

    def check_invariants(self) -> None:
        """What has begun to go never comes back, and lets nobody in any more (I1, I5, I8, I16)."""
        for entry in self.entries:
            numbers = entry.statistics()
            state = STATES.index(numbers.state)
            now = (state, numbers.in_use, numbers.open_files)
            before = self.history.get(entry, now)
            self.history[entry] = now
            dying, drained = (before[0] >= STATES.index(name) for name in ("dying", "releasing"))
            inside, files = numbers.in_use, numbers.open_files
            self.never(state < before[0], "what was going has come back (I1)")
            self.never(dying and inside > before[1], "somebody was let in too late (I5)")
            self.never(drained and files > before[2], "a file was opened too late (I16)")
            self.never(inside < self.inside[entry], "somebody inside is not counted (I3)")
            self.never(numbers.state == "gone" and inside + files > 0, "gone too early (I7, I8)")
        there = [entry.ino for entry in self.entries if entry.statistics().state != "gone"]
        self.never(len(set(there)) < len(there), "two entries have one number (I33)")
