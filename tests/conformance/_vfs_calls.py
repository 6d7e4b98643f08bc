"""System calls the VFS answers from a look-up alone, since procfs lets no user change its names."""

from __future__ import annotations

import os
from errno import EACCES, EAGAIN, EBADF, EEXIST, EISDIR, ENOTDIR, EPERM
from typing import TYPE_CHECKING

from ._calls import Args, Caller, system_call

if TYPE_CHECKING:
    from aiopde import ProcDirEntry

    from ._words import Result


def _existing(call: Caller, args: Args, key: str = "path") -> ProcDirEntry:
    path, start = call.where(args, key)
    return call.proc.lookup(path, follow_symlinks=False, cred=call.actor.cred, dir_fd=start)


def _new(call: Caller, args: Args, key: str = "path") -> OSError:
    """Make the error of what makes a name: it is there, or else the look-up fails."""
    _existing(call, args, key)
    return OSError(EEXIST, "it is there")


def _refusal(call: Caller, entry: ProcDirEntry, errno: int) -> OSError:
    """Make the error of what takes a name away: who may write there is told that nobody can."""
    parent = entry.parent
    allowed = call.actor.cred.allows(parent.mode, parent.uid, parent.gid, os.W_OK | os.X_OK)
    return OSError(errno if allowed else EACCES, "not in this file system")


@system_call
async def mkdir(call: Caller, args: Args) -> Result:
    """Make a directory, in vain."""
    raise _new(call, args)


@system_call
async def symlink(call: Caller, args: Args) -> Result:
    """Make a symlink, in vain."""
    raise _new(call, args)


@system_call
async def link(call: Caller, args: Args) -> Result:
    """Give an entry another name, in vain."""
    _existing(call, args)
    raise _new(call, args, "to")


@system_call
async def unlink(call: Caller, args: Args) -> Result:
    """Take a file away, in vain."""
    entry = _existing(call, args)
    raise _refusal(call, entry, EISDIR if entry.is_dir() else EPERM)


@system_call
async def rmdir(call: Caller, args: Args) -> Result:
    """Take a directory away, in vain."""
    entry = _existing(call, args)
    raise _refusal(call, entry, EPERM if entry.is_dir() else ENOTDIR)


@system_call
async def rename(call: Caller, args: Args) -> Result:
    """Rename, in vain, unless both names are of one entry."""
    old, new = _existing(call, args), _existing(call, args, "to")
    if old is new:
        return {"ret": 0}
    # may_delete() of both, before it comes out that there is no way to rename.
    errno = EPERM
    if old.is_dir() != new.is_dir():
        errno = EISDIR if new.is_dir() else ENOTDIR
    raise _refusal(call, old, errno)


@system_call
async def flock(call: Caller, args: Args) -> Result:
    """Lock a file, unless another open file of the same entry has it locked."""
    file = call.file(args)
    if file.flags & os.O_PATH:
        raise OSError(EBADF, "not open, only found")
    open_files = {
        each.file for actor in call.machine.actors.values() for each in actor.process.files.values()
    }
    holder = call.machine.locks.get(file.entry)
    if holder in open_files and holder is not file.file:
        raise OSError(EAGAIN, "it is locked")
    call.machine.locks[file.entry] = file.file
    return {"ret": 0}
