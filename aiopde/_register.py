"""What is checked before an entry gets its name (__proc_create, proc_register)."""

from __future__ import annotations

import stat
from errno import EEXIST, EINVAL, EPERM
from typing import TYPE_CHECKING, Any, Final

from ._attributes import PERMISSIONS
from ._entry import ProcDirEntry
from ._errors import error
from ._kinds import MountPoint
from ._namei import NAME_MAX, check_name, locate

if TYPE_CHECKING:
    from ._kinds import ProcRoot

# So long a name has not too many bytes, whatever it is made of.
_SHORT: Final = NAME_MAX // 4


def place(root: ProcRoot, name: str, parent: ProcDirEntry | None) -> tuple[ProcDirEntry, str]:
    """Find where a new entry goes, and refuse what cannot be there."""
    below: Any = root if parent is None else parent
    top = below
    # What parent.tree does, in place, for what may be no entry at all. The root is not asked what
    # it is: for a subclass of what is an ABC that takes longer than all else here.
    while top is not root:
        if not isinstance(top, ProcDirEntry) or top.parent is top:
            raise foreign(below)
        top = top.parent
    # Most names are a few letters and digits; there is nothing to find out about these.
    usual = type(name) is str and name.isalnum() and len(name) < _SHORT
    if usual and parent is not None and parent is not root:
        leaf = name
    else:
        parent, leaf = locate(root, name, parent)
        check_name(parent, leaf, at_root=parent is root)
    if type(parent) is MountPoint:
        raise error(EPERM, parent.path, "nothing can be added to a mount point")
    children = parent._rare.children
    if children is not None and leaf in children.by_name:
        raise error(EEXIST, f"{parent.path}/{leaf}", "remove the entry that is there first")
    return parent, leaf


def foreign(parent: object) -> TypeError | ValueError:
    """Make the error of a parent that is none here."""
    if not isinstance(parent, ProcDirEntry):
        return TypeError(f"parent is an entry, as mkdir() returns it, not {parent!r:.60}")
    return ValueError(f"{parent!r} belongs to another ProcFS: pass an entry of this one")


def check_entry(entry: object) -> None:
    """Refuse what is none."""
    if not isinstance(entry, ProcDirEntry):
        msg = f"what is wanted is an entry, as lookup() returns it, not {entry!r:.60}"
        raise TypeError(msg)


def no_table(ops: object) -> TypeError:
    """Make the error of what is no table of handlers."""
    msg = f"the handlers are a ProcOps, not {ops!r:.60}: pass ProcOps(read=...), or ProcOps.of(it)"
    if isinstance(ops, type):
        name = ops.__name__
        msg = f"the handlers are a ProcOps, not a class: pass ProcOps.of({name}()), not {name}"
    return TypeError(msg)


def file_mode(name: str, mode: int) -> int:
    """Return the mode of a new file; 0 stands for 0444."""
    return stat.S_IFREG | permissions(name, mode, 0o444, stat.S_IFREG)


def permissions(name: str, mode: Any, default: int, kind: int = 0) -> int:
    """Check permission bits, which those of *kind* may be added to; 0 stands for *default*."""
    if not isinstance(mode, int):
        msg = f"mode is an int of permission bits, as 0o644, not {mode!r:.60}"
        raise TypeError(msg)
    mode &= ~kind
    if not 0 <= mode <= PERMISSIONS:
        raise error(EINVAL, name, f"mode {mode:#o} is more than permission bits")
    return mode or default
