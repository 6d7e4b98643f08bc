"""Names, paths and listings against a tree of plain dicts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from errno import EEXIST, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, strategies as st

from aiopde import ProcFS, ProcOps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_NUMBER = 0xF0000000
MOST_LINKS = 40
PLAIN_NAMES = ["a", "b", "aa", "é", "日", "B"]
ODD_NAMES = ["", ".", "..", "0", "7", "007", "4294967279", "4294967280", "n" * 255, "é" * 128]
TARGETS = ["a", "b/a", "..", "../a", "/proc/b", "/proc", "/etc", "a/", "."]

names = st.sampled_from(PLAIN_NAMES * 3 + ODD_NAMES)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
users_paths = st.one_of(
    paths, paths.map("/proc/{}".format), paths.map("{}/".format), st.sampled_from(TARGETS)
)
steps = st.tuples(
    st.sampled_from(["create", "mkdir", "mkdir", "symlink", "mount", "remove", "subtree"]),
    paths,
    st.sampled_from(TARGETS),
)


@dataclass(eq=False)
class Node:
    """An entry: a dict of what is below it, and what kind it is."""

    kind: str
    number: int
    parent: Node | None = None
    target: str = ""
    below: dict[str, Node] = field(default_factory=dict[str, "Node"])

    @property
    def is_dir(self) -> bool:
        return self.kind in {"mkdir", "mount"}

    def all(self) -> Iterator[Node]:
        yield self
        for child in self.below.values():
            yield from child.all()


class Oracle:
    def __init__(self) -> None:
        self.root = Node("mkdir", 1)

    # -- registration ---------------------------------------------------------------------------

    def place(self, path: str) -> tuple[Node, str]:
        here = self.root
        *way, leaf = path.split("/")
        for name in way:
            if name not in here.below:
                raise OSError(ENOENT, path)
            here = here.below[name]
        return here, leaf

    def register(self, kind: str, path: str, target: str) -> None:
        parent, name = self.place(path)
        if name == "" or name in {".", ".."}:
            raise OSError(EINVAL, path)
        if len(name.encode()) > 255:
            raise OSError(ENAMETOOLONG, path)
        if parent is self.root and name in {"0", "7", "4294967279"}:
            raise OSError(EINVAL, path)
        if parent.kind == "mount":
            raise OSError(EPERM, path)
        if name in parent.below:
            raise OSError(EEXIST, path)
        taken = {node.number for node in self.root.all()}
        number = min(set(range(FIRST_NUMBER, FIRST_NUMBER + len(taken) + 1)) - taken)
        target = target if kind == "symlink" else ""
        parent.below[name] = Node(kind, number, parent, target)

    def remove(self, kind: str, path: str) -> None:
        parent, name = self.place(path)
        if name not in parent.below:
            raise OSError(ENOENT, path)
        if kind == "remove" and parent.below[name].below:
            raise OSError(ENOTEMPTY, path)
        del parent.below[name]

    # -- what a user finds ----------------------------------------------------------------------

    def look(self, path: str, *, follow: bool) -> Node:
        self._links = 0
        return self._look(self.root, path, follow=follow)

    def _look(self, here: Node, path: str, *, follow: bool) -> Node:
        if path.startswith("/"):
            if path != "/proc" and not path.startswith("/proc/"):
                raise OSError(ENOENT, path)
            here, path = self.root, path.removeprefix("/proc")
        parts = [part for part in path.split("/") if part]
        if path.endswith("/") and parts:
            parts.append(".")
        for index, part in enumerate(parts):
            if not here.is_dir:
                raise OSError(ENOTDIR, path)
            there = self._step(here, part)
            if there.kind == "symlink" and (follow or index < len(parts) - 1):
                self._links += 1
                if self._links > MOST_LINKS:
                    raise OSError(ELOOP, path)
                there = self._look(here, there.target, follow=True)
            here = there
        return here

    def _step(self, here: Node, part: str) -> Node:
        if part == ".":
            return here
        if part == "..":
            return here.parent or here
        if part not in here.below:
            raise OSError(ENOENT, part)
        return here.below[part]

    def listing(self, node: Node) -> list[str]:
        return [name.decode() for name in sorted(map(str.encode, node.below), key=_rank)]


def _rank(name: bytes) -> tuple[int, bytes]:
    return len(name), name


def answer(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what a call returns, or the errno of its error."""
    try:
        return call(*args, **kwargs)
    except OSError as exc:
        return exc.errno


class Tree:
    """A ProcFS, told the same as the oracle."""

    def __init__(self, proc: ProcFS) -> None:
        self.proc = proc
        self.oracle = Oracle()

    async def step(self, kind: str, path: str, target: str) -> None:
        if kind in {"remove", "subtree"}:
            call = self.proc.remove if kind == "remove" else self.proc.remove_subtree
            got: Any = None
            try:
                await call(path)
            except OSError as exc:
                got = exc.errno
            assert got == answer(self.oracle.remove, kind, path)
            return
        entry = answer(self._register, kind, path, target)
        expected = answer(self.oracle.register, kind, path, target)
        assert (entry if isinstance(entry, int) else None) == expected

    def _register(self, kind: str, path: str, target: str) -> object:
        match kind:
            case "create":
                return self.proc.create(path, ProcOps())
            case "mkdir":
                return self.proc.mkdir(path)
            case "mount":
                return self.proc.create_mount_point(path)
            case _:
                return self.proc.symlink(path, target)

    def check_listings(self) -> None:
        """Each directory lists what is in it, in order, and counts its directories."""
        todo = [("/proc", self.oracle.root)]
        while todo:
            path, node = todo.pop()
            stat = self.proc.stat(path, follow_symlinks=False)
            children = node.below.values()
            links = 1 + node.is_dir + sum(child.is_dir for child in children)
            assert (stat.st_ino, stat.st_nlink) == (node.number, links), path
            assert stat.st_size == len(node.target)
            if node.kind == "symlink":
                assert self.proc.readlink(path) == node.target
            if node.is_dir:
                assert self.proc.listdir(path) == self.oracle.listing(node), path
                todo += [(f"{path}/{name}", child) for name, child in node.below.items()]

    def check_lookup(self, path: str, *, follow: bool) -> None:
        """A path leads where it leads in the tree of dicts, or nowhere for the same reason."""
        found = answer(self.proc.lookup, path, follow_symlinks=follow)
        node = answer(self.oracle.look, path, follow=follow)
        assert getattr(found, "ino", found) == getattr(node, "number", node), path


@example(  # what can be in none but a mount point, and a name that is too long
    program=[("mount", "a", ""), ("create", "a/b", ""), ("create", "é" * 128, "")], looked_up=[]
)
@example(  # a directory that is not empty, and a symlink that leads to itself
    program=[
        ("mkdir", "a", ""),
        ("create", "a/b", ""),
        ("remove", "a", ""),
        ("symlink", "b", "b/a"),
    ],
    looked_up=["b", "a/b", "a/b/"],
)
@given(program=st.lists(steps, max_size=30), looked_up=st.lists(users_paths, max_size=10))
async def test_names_lead_where_dicts_lead(
    program: list[tuple[str, str, str]], looked_up: list[str]
) -> None:
    """
    Whatever is created and removed, every name is found, listed and refused as in plain dicts.
    """
    async with ProcFS() as proc:
        tree = Tree(proc)
        for step in program:
            await tree.step(*step)
            tree.check_listings()
        for path in looked_up:
            tree.check_lookup(path, follow=True)
            tree.check_lookup(path, follow=False)


@given(names=st.lists(st.text(min_size=1, max_size=4), max_size=20, unique=True))
async def test_a_listing_has_the_kernels_order(names: list[str]) -> None:
    """
    Any names are listed by their length in bytes, then by those bytes, however they came.
    """
    async with ProcFS() as proc:
        entries = [answer(proc.create, name, ProcOps()) for name in names]
        there = [os.fsencode(entry.name) for entry in entries if not isinstance(entry, int)]
        assert [os.fsencode(name) for name in proc.listdir()] == sorted(there, key=_rank)
