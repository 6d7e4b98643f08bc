"""From a path to an entry: as a user walks it (fs/namei.c), and as registration names it."""

from __future__ import annotations

import os
import stat
from errno import EEXIST, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from typing import TYPE_CHECKING, Final

from ._check import check_path
from ._credentials import MAY_EXEC, MAY_WRITE, check_cred
from ._errors import error
from ._flags import wanted

if TYPE_CHECKING:
    from ._credentials import Credentials
    from ._entry import ProcDirEntry
    from ._kinds import ProcRoot

NAME_MAX: Final = 255
"""Bytes in the longest name."""
_MAX_SYMLINKS: Final = 40
# Process ids are up to here; a larger number is a name like any other.
_PIDS_END: Final = 4294967280


def walk(
    root: ProcRoot,
    path: str,
    cred: Credentials,
    *,
    start: ProcDirEntry | None = None,
    follow: bool = True,
) -> ProcDirEntry:
    """
    Find the entry a user's path leads to, through symlinks and ``..``.

    There is no cache of names: what is found is in the tree now, and an entry whose removal has
    begun is not found.

    Raises:
        OSError: ``ENOENT``, ``ENOTDIR``, ``ELOOP``, or ``EACCES`` for a directory *cred* may
            not search.

    Linux: ``path_lookupat``, ``proc_lookup_de``.
    """
    check_path(path)
    check_cred(cred)
    here = start or root
    todo = _components(root, path)
    if path.startswith("/"):
        here = root
    links = 0
    while todo:
        name = todo.pop()
        here = step(here, name, cred)
        if stat.S_ISLNK(here.type) and (todo or follow):
            links += 1
            if links > _MAX_SYMLINKS:
                raise error(ELOOP, path)
            target = str(here.data)
            todo += _components(root, target)
            here = root if target.startswith("/") else here.parent
    return here


def _components(root: ProcRoot, path: str) -> list[str]:
    """Split a path into its names, the first one last. A trailing slash becomes a ``.``"""
    if path.startswith("/"):
        mountpoint = root.name.rstrip("/")
        inside = path.removeprefix(mountpoint)
        if not path.startswith(mountpoint) or inside[:1] not in {"", "/"}:
            raise error(ENOENT, path, f"absolute paths begin with {root.name}")
        path = inside
    names = [name for name in path.split("/") if name]
    if path.endswith("/") and names:
        names.append(".")
    return names[::-1]


def step(here: ProcDirEntry, name: str, cred: Credentials) -> ProcDirEntry:
    """Find one name of a path in the entry it was looked for in."""
    if not here.is_dir():
        raise error(ENOTDIR, here.path)
    here._check(cred, MAY_EXEC)
    if name == ".":
        return here
    if name == "..":
        return here.parent
    child = here._children.get(name)
    if child is None or child.removing:
        raise error(ENOENT, f"{here.path}/{name}")
    return child


def may_open(entry: ProcDirEntry, flags: int, cred: Credentials) -> None:
    """Check what the VFS checks before procfs is asked (``may_open``, ``do_open``)."""
    if flags & os.O_DIRECTORY and not entry.is_dir():
        raise error(ENOTDIR, entry.path)
    if flags & os.O_PATH:  # with which most others do not count
        return
    if flags & os.O_CREAT and flags & os.O_EXCL:
        raise error(EEXIST, entry.path)
    if stat.S_ISLNK(entry.type):
        raise error(ELOOP, entry.path, "a symlink, and the flags say not to follow it")
    if entry.is_dir() and (wanted(flags) & MAY_WRITE or flags & os.O_CREAT):
        raise error(EISDIR, entry.path)
    entry._check(cred, wanted(flags))


def locate(root: ProcRoot, path: str, parent: ProcDirEntry | None) -> tuple[ProcDirEntry, str]:
    """
    Split the path of a registration into the entry it is below and the last name.

    Each name before the last must be there exactly so: no ``..``, no symlink is followed, no
    slash too many. What is there need not be a directory, as in Linux.

    Raises:
        OSError: ``ENOENT``: a name on the way is missing.

    Linux: ``xlate_proc_name``.
    """
    check_path(path)
    here = root if parent is None else parent
    if "/" not in path:
        return here, path
    *way, leaf = path.split("/")
    for name in way:
        child = here._children.get(name)
        if child is None:
            why = f"no entry {name!r} in {here.path!r} (a name has no slash in front: 'driver/x')"
            raise error(ENOENT, path, why)
        here = child
    return here, leaf


def check_name(parent: ProcDirEntry, name: str, *, at_root: bool) -> None:
    """
    Refuse a name no entry may have.

    Raises:
        OSError: ``EINVAL``: empty, ``.``, ``..``, or a process id at the root of the tree;
            ``ENAMETOOLONG``: more than 255 bytes.

    Linux: ``__proc_create``.
    """
    if not name:
        raise error(EINVAL, parent.path, "the name is empty (a slash at the end?)")
    length = len(encode(name))
    if length > NAME_MAX:
        raise error(ENAMETOOLONG, name, f"{length} bytes, {NAME_MAX} at most")
    if name in {".", ".."} or "\0" in name:
        raise error(EINVAL, f"{parent.path}/{name}", f"no entry can be named {name!r}")
    if at_root and _is_pid(name):
        raise error(EINVAL, f"{parent.path}/{name}", "at the root a number is a process id")


def encode(name: str) -> bytes:
    """
    Return the bytes that a name, or the target of a symlink, is made of.

    Raises:
        OSError: ``EINVAL``: it has characters that no bytes stand for (lone surrogates).
    """
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:
        raise error(EINVAL, name, "a name is made of bytes, and this is not") from None


def _is_pid(name: str) -> bool:
    if not (name.isascii() and name.isdigit()):
        return False
    return name == "0" or (name[0] != "0" and int(name) < _PIDS_END)
