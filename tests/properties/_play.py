"""One program of steps, done to a ProcFS and to the model of it side by side."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from errno import EAGAIN, EINTR, EINVAL
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import pytest

from aiopde import Mapping, ProcDirEntry, ProcFile, TraceRecord, trace
from tests.conformance._quiet import quiet
from tests.helpers import refused
from tests.races._stage import HOST, Stage

from . import _model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

T = TypeVar("T")

DATA: Final = _model.DATA
# The handlers an entry has: those that stop, those that do not, and whether it is permanent.
KINDS: Final = (
    ("open read write mmap release", "", False),
    ("read", "", False),
    ("open", "read write release", False),
    ("release", "write mmap", False),
    ("read", "open release", True),
)
NAMES: Final = ("b", "a", "cc")


@dataclass(eq=False)
class Both:
    """An entry, and its like in the model."""

    real: ProcDirEntry
    like: _model.Entry
    held: int = 0
    """How often the program has taken its guard."""


@dataclass(eq=False)
class Handle:
    """A descriptor or a mapping, and its file in the model."""

    real: ProcFile | Mapping
    like: _model.File


class Play:
    """
    A stage and the model, and the steps that a program is made of.

    Each step takes two numbers, which choose among what there is; if there is nothing to choose
    from, the step does nothing. After each, everything that can be seen is compared.
    """

    def __init__(self, *, traced: bool = False) -> None:
        self._traced = traced
        self.traced: Counter[str] = Counter()
        self.stage = Stage()
        self.model = _model.Model()
        self.entries: list[Both] = []
        self.handles: list[Handle] = []
        self._seen: set[str] = {HOST}
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._listening = trace(self._listen) if self._traced else nullcontext()
        self._listening.__enter__()
        await self.stage.__aenter__()
        self.root = Both(self.stage.proc.root, self.model.root)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.model.abandon()
        # Left by a program that failed, and in the way of the end.
        held = [both.real for both in self.entries for _ in range(both.held)]
        list(map(ProcDirEntry.unuse, held))
        try:
            await self.stage.__aexit__(exc_type, exc, tb)
        finally:
            self._listening.__exit__(None, None, None)
        assert self.traced["enter"] == self.traced["leave"]

    async def step(self, verb: str, x: int, y: int) -> None:
        """Take a step, let everybody go as far as they can, and compare."""
        getattr(self, verb)(x, y)
        self.model.settle()
        await quiet()
        self.check()

    async def end(self) -> None:
        """Let everybody go, one by one, while the tree is left; then close what is open."""
        while any(both.held for both in self.entries):
            await self.step("unhold", 0, 0)
        await self.step("leave", 0, 0)
        while self.model.gates:
            await self.step("go", 0, 0)
        assert self.model.busy == set()
        while self.handles:
            await self.step("close", 0, 0)

    def _listen(self, record: TraceRecord) -> None:
        self.traced[record.event] += 1

    # -- steps ----------------------------------------------------------------------------------

    def create(self, x: int, y: int) -> None:
        held, plain, permanent = KINDS[y % len(KINDS)]
        ops = self.stage.ops(held, plain, permanent=permanent)
        handlers = dict.fromkeys(held.split(), True) | dict.fromkeys(plain.split(), False)
        self._register(
            x,
            y // len(KINDS),
            # Calls of some entries take other ways through the package, to the same end.
            partial(self.stage.proc.create, ops=ops, fast_acquire=x % 2 == 0, killable=x % 3 == 0),
            handlers=handlers,
            permanent=permanent,
        )

    def mkdir(self, x: int, y: int) -> None:
        self._register(x, y, self.stage.proc.mkdir, is_dir=True)

    def symlink(self, x: int, y: int) -> None:
        self._register(x, y, partial(self.stage.proc.symlink, target="nowhere"), is_link=True)

    def _register(self, x: int, y: int, make: Callable[..., ProcDirEntry], **traits: Any) -> None:
        if self._leaving:
            return
        # Mostly in directories; but anything can be a parent, dead or alive.
        directories = [self.root, *(e for e in self.entries if e.like.is_dir)]
        parent = pick(directories, x) if x % 8 else pick([self.root, *self.entries], x // 8)
        name = NAMES[y % len(NAMES)]
        if name in parent.like.children:
            with pytest.raises(FileExistsError):  # I23
                make(name, parent=parent.real)
            return
        if traits.get("permanent") and _model.removal_around(parent.like) is not None:
            with refused(EINVAL):
                make(name, parent=parent.real)
            return
        number = self.model.free_number()
        like = _model.Entry(name, number, parent.like, **traits)
        real = make(name, parent=parent.real)
        self.stage.know(real)
        self.entries.append(Both(real, self.model.register(like)))

    def open(self, x: int, y: int) -> None:
        candidates = [e for e in self.entries if not e.like.freed and not e.like.is_link]
        if not candidates:
            return
        both = pick(candidates, x)
        flags = os.O_PATH if y % 7 == 0 else os.O_RDONLY if both.like.is_dir else os.O_RDWR
        actor = self._actor("open")
        if y % 2:
            self.stage.open(actor, both.real.path, flags)
            self._model(actor, self.model.open(actor, both.real.path, flags))
        else:
            self.stage.open(actor, both.real, flags)
            self._model(actor, self.model.open(actor, both.like, flags))

    def read(self, x: int, y: int) -> None:
        for file, like in self._file(x):
            self._call("read", file.read, self.model.read, like, y % 5)

    def write(self, x: int, y: int) -> None:
        for file, like in self._file(x):
            self._call("write", file.write, self.model.write, like, DATA[: y % 5])

    def pread(self, x: int, y: int) -> None:
        for file, like in self._file(x):
            self._call("pread", file.pread, self.model.pread, like, y % 5, y // 5)

    def mmap(self, x: int, _: int) -> None:
        for file, like in self._file(x):
            actor = self._actor("mmap")
            self.stage.start(actor, file.mmap, 1)
            self._model(actor, self.model.mmap(actor, like))

    def read_all(self, x: int, _: int) -> None:
        files = [both for both in self.entries if not both.like.is_link]
        if files:
            both = pick(files, x)
            actor = self._actor("all")
            self.stage.start(actor, self.stage.proc.read_bytes, both.real)
            self._model(actor, self.model.read_all(actor, both.like))

    def dup(self, x: int, _: int) -> None:
        for file, like in self._file(x):
            like.descriptors += 1
            self.handles.append(Handle(file.dup(), like))

    def close(self, x: int, _: int) -> None:
        if self.handles:
            handle = pick(self.handles, x)
            self.handles.remove(handle)
            self._call("close", handle.real.aclose, self.model.close, handle.like)

    def remove(self, x: int, y: int) -> None:
        if not self.entries:
            return
        both = pick(self.entries, x)
        like, parent = both.like, both.like.parent
        assert parent is not None
        actor = self._actor("remove")
        if y % 3 == 0:
            self.stage.start(actor, both.real.remove)
            self._model(actor, self.model.remove(actor, like, parent, tree=True))
            return
        proc = self.stage.proc
        call = proc.remove if y % 3 == 1 else proc.remove_subtree
        self.stage.start(actor, partial(call, like.name, parent=both.real.parent))
        self._model(actor, self.model.remove(actor, like.name, parent, tree=y % 3 == 2))

    def go(self, x: int, y: int) -> None:
        """Let a handler go: it returns as much as it can, a part, or an error."""
        if not self.model.gates:
            return
        actor = pick(sorted(self.model.gates), x)
        op = self.model.gates[actor].op
        value: Any = None
        errno = (EAGAIN, EINTR)[y % 2] if y % 4 == 3 and op != "release" else 0
        if y % 4 == 2 and op == "read":
            value = b""
        if y % 4 == 2 and op == "write":
            value = 0
        self.model.go(actor, value, errno)
        self.stage.go(actor, value, OSError(errno, "") if errno else None)

    def cancel(self, x: int, _: int) -> None:
        if self.model.busy:
            actor = pick(sorted(self.model.busy), x)
            self.model.cancel(actor)
            self.stage.cancel(actor)

    def hold(self, x: int, _: int) -> None:
        """Take the guard of an entry by hand."""
        if self.entries:
            both = pick(self.entries, x)
            admitted = both.like.count.use_pde()
            assert both.real.use() == admitted
            both.held += admitted

    def unhold(self, x: int, _: int) -> None:
        held = [both for both in self.entries if both.held]
        if held:
            both = pick(held, x)
            both.held -= 1
            both.real.unuse()
            both.like.count.unuse_pde()

    def leave(self, _x: int, _y: int) -> None:
        """Leave the ProcFS, which removes all that is left."""
        if not self._leaving:
            self._leaving = True
            self.stage.leave()
            self._model(HOST, self.model.leave_tree(HOST))

    def _file(self, x: int) -> list[tuple[ProcFile, _model.File]]:
        """Choose an open file that can be read and written, if there is one."""
        files = [h for h in self.handles if isinstance(h.real, ProcFile) and usable(h.like)]
        chosen = [pick(files, x)] if files else []
        return [(h.real, h.like) for h in chosen if isinstance(h.real, ProcFile)]

    def _call(self, verb: str, real: Any, like: Any, *args: Any) -> None:
        actor = self._actor(verb)
        self.stage.start(actor, real, *args[1:])
        self._model(actor, like(actor, *args))

    def _model(self, actor: str, steps: _model.Steps) -> None:
        self.model.start(actor, steps)

    def _actor(self, verb: str) -> str:
        return f"{verb}{len(self.stage.actors)}"

    # -- what is compared -----------------------------------------------------------------------

    def check(self) -> None:
        """Compare all that can be seen; check what must hold whatever the model says."""
        assert self.stage.violations == []
        assert self.stage.stopped == self.model.stopped
        assert self.stage.busy == self.model.busy
        self._check_outcomes()
        self._check_log()
        for both in self.entries:
            self._check_entry(both)
        self._check_tree()

    def _check_outcomes(self) -> None:
        for actor, task in self.model.tasks.items():
            if task.busy or actor in self._seen:
                continue
            self._seen.add(actor)
            kind, value = task.outcome
            if kind == "errno":
                assert self.stage.errno(actor) == value, actor
            elif kind == "cancelled":
                assert self.stage.cancelled(actor), actor
            elif isinstance(value, _model.File):
                self.handles.append(Handle(self.stage.value(actor), value))
            else:
                assert self.stage.value(actor) == value, actor

    def _check_log(self) -> None:
        """Each actor's handlers ran in the order they should; actors side by side in any."""
        real = [line for line in self.stage.log if not line.endswith(" done")]
        assert by_actor(real) == by_actor(self.model.log)

    def _check_entry(self, both: Both) -> None:
        real, like = both.real, both.like
        numbers = real.statistics()
        assert numbers.state == like.state, real
        assert numbers.removing == like.count.dying, real
        assert numbers.in_use == real.in_use == like.count.inside, real
        assert numbers.in_use == self._inside(real) + both.held, f"{real} (I3)"
        assert numbers.open_files == len(like.records), real
        assert (real.ino, real.nlink) == (like.number, like.nlink), real
        if like.gone:
            assert numbers.in_use == numbers.open_files == 0, f"{real} (I8)"

    def _inside(self, entry: ProcDirEntry) -> int:
        """Count who is inside, by the handlers' own account; a one-shot call is to its end."""
        return sum(
            gate.file.entry is entry and (gate.op != "release" or actor.startswith("all"))
            for actor, gate in self.stage.gates.items()
        )

    def _check_tree(self) -> None:
        for both in (self.root, *self.entries):
            names = [child.name for child in both.real._children]
            assert names == [child.name for child in both.like.in_order()], f"{both.real} (I23)"
        numbers = [both.real.ino for both in self.entries if not both.like.freed]
        assert len(numbers) == len(set(numbers)), "two entries have one number (I33)"
        for path in {both.real.path for both in self.entries}:
            assert self._look(path) == self._look_in_model(path), f"{path} (I24)"

    def _look(self, path: str) -> object:
        try:
            return self.stage.proc.lookup(path, follow_symlinks=False)
        except OSError as exc:
            return exc.errno

    def _look_in_model(self, path: str) -> object:
        try:
            like = self.model.lookup(path)
        except OSError as exc:
            return exc.errno
        return next(both.real for both in self.entries if both.like is like)


def by_actor(log: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in log:
        found.setdefault(line.partition(" ")[0], []).append(line)
    return found


def pick(candidates: Sequence[T], number: int) -> T:
    return candidates[number % len(candidates)]


def usable(file: _model.File) -> bool:
    return not file.flags & os.O_PATH and not file.entry.is_dir


VERBS: Final = Counter(
    create=4,
    mkdir=2,
    symlink=1,
    open=6,
    read=5,
    write=3,
    pread=2,
    mmap=2,
    read_all=2,
    dup=1,
    close=4,
    remove=5,
    go=7,
    cancel=3,
    hold=1,
    unhold=1,
    leave=1,
)
"""The steps, and how often each is taken."""
