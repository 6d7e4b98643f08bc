"""System calls on paths."""

from __future__ import annotations

import os
import stat as stat_module
from errno import EINVAL
from typing import TYPE_CHECKING, Final

from aiopde import Stat

from ._calls import DEVICES, MOUNTS, Args, Caller, latin, system_call
from ._words import Result, number, open_flags, shown, to_name

if TYPE_CHECKING:
    from aiopde import DirEntry

_TYPES: Final = {
    stat_module.S_IFREG: "REG",
    stat_module.S_IFDIR: "DIR",
    stat_module.S_IFLNK: "LNK",
    stat_module.S_IFCHR: "CHR",
}
# Every mount shows these two besides the tree: links into the caller's own process.
_OWN: Final = ("self", "thread-self")
_OWN_STAT: Final = Stat(stat_module.S_IFLNK | 0o777, 0, 1, 0, 0, 0)


@system_call
async def open(call: Caller, args: Args) -> Result:
    """Open a path."""
    path, start = call.where(args)
    flags = open_flags(args.get("flags", "RDONLY"))
    if path.startswith(DEVICES):
        return call.made(args, await call.open_device(path.removeprefix(DEVICES), flags))
    file = await call.proc.open(path, flags, cred=call.actor.cred, dir_fd=start)
    return call.made(args, file)


@system_call
async def stat(call: Caller, args: Args) -> Result:
    """Look at what a path leads to."""
    path, start = call.where(args)
    if path.startswith(DEVICES):
        return stat_result(call.device(path.removeprefix(DEVICES)).stat())
    return stat_result(call.proc.stat(path, cred=call.actor.cred, dir_fd=start))


@system_call
async def lstat(call: Caller, args: Args) -> Result:
    """Look at what a path names, be it a link."""
    if _names_own_process(to_name(args["path"])):
        return stat_result(_OWN_STAT)
    path, start = call.where(args)
    if path.startswith(DEVICES):
        return stat_result(call.device(path.removeprefix(DEVICES)).stat())
    found = call.proc.stat(path, follow_symlinks=False, cred=call.actor.cred, dir_fd=start)
    return stat_result(found)


def _names_own_process(path: str) -> bool:
    return any(path == f"{mount}/{name}" for mount in ("/proc", *MOUNTS) for name in _OWN)


def stat_result(found: Stat) -> Result:
    """Write a stat as a recording has it."""
    return {
        "ret": 0,
        "type": _TYPES[stat_module.S_IFMT(found.st_mode)],
        "mode": f"{stat_module.S_IMODE(found.st_mode):04o}",
        "nlink": found.st_nlink,
        "uid": found.st_uid,
        "gid": found.st_gid,
        "size": found.st_size,
        "ino": found.st_ino,
    }


@system_call
async def access(call: Caller, args: Args) -> Result:
    """Ask what would be allowed."""
    path, start = call.where(args)
    call.proc.access(path, number(args["how"]), cred=call.actor.cred, dir_fd=start)
    return {"ret": 0}


@system_call
async def readlink(call: Caller, args: Args) -> Result:
    """Read where a link leads, as much of it as is asked for."""
    size = number(args.get("n", "4096"))
    if size <= 0:
        raise OSError(EINVAL, "no room for anything")
    path, start = call.where(args)
    target = call.proc.readlink(path, cred=call.actor.cred, dir_fd=start)
    return shown(os.fsencode(target)[:size])


@system_call
async def listdir(call: Caller, args: Args) -> Result:
    """List a directory to its end."""
    path, start = call.where(args)
    flags = os.O_RDONLY | os.O_DIRECTORY
    found: list[list[str]] = []
    async with await call.proc.open(path, flags, cred=call.actor.cred, dir_fd=start) as file:
        while batch := await file.getdents():
            found += names(batch)
    if args["path"].rstrip("/") == "/procpid":  # which shows no entries
        del found[len((".", "..")) :]
    if path.rstrip("/") == "/proc":
        found += [[name, "LNK"] for name in _OWN]
    return {"names": [name for name in found if wanted(name[0], args)]}


def wanted(name: str, args: Args) -> bool:
    """Tell whether a listing of a step shows a name."""
    return name.startswith(args.get("only", "")) and name == args.get("exact", name)


def names(batch: list[DirEntry]) -> list[list[str]]:
    """Write names and types as a recording has them."""
    return [[latin(each.name), _TYPES[each.type]] for each in batch]


@system_call
async def chdir(call: Caller, args: Args) -> Result:
    """Go into a directory; that is a descriptor of it which no handler hears of."""
    path, start = call.where(args)
    flags = os.O_PATH | os.O_DIRECTORY
    # Its "." is found by who may search it.
    there = await call.proc.open(f"{path}/.", flags, cred=call.actor.cred, dir_fd=start)
    before, call.actor.process.cwd = call.actor.process.cwd, there
    if before is not None:
        await before.aclose()
    return {"ret": 0}


@system_call
async def chmod(call: Caller, args: Args) -> Result:
    """Change the mode."""
    path, start = call.where(args)
    call.proc.chmod(path, number(args["mode"]), cred=call.actor.cred, dir_fd=start)
    return {"ret": 0}


@system_call
async def chown(call: Caller, args: Args) -> Result:
    """Change the owner."""
    uid, gid = number(args["uid"]), number(args["gid"])
    path, start = call.where(args)
    call.proc.chown(path, uid, gid, cred=call.actor.cred, dir_fd=start)
    return {"ret": 0}


@system_call
async def truncate(call: Caller, args: Args) -> Result:
    """Truncate, which procfs lets anybody do who may write, and heeds not."""
    call.proc.truncate(call.path(args), number(args["n"]), cred=call.actor.cred)
    return {"ret": 0}
