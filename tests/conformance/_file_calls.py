"""System calls on file descriptors, and on what a process has."""

from __future__ import annotations

import mmap as mmap_module
import os
from errno import EBADF, EFAULT, EINVAL, ENOENT
from typing import TYPE_CHECKING, Final

import anyio

from aiopde import Cdev, Credentials, ProcFile

from ._actors import SharedMapping
from ._calls import Args, Caller, system_call
from ._path_calls import names, stat_result
from ._words import Result, name_flags, number, open_flags, protection, shown, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

PIPE_SIZE: Final = 65536
"""The most one splice moves."""
_DIRENT_HEADER: Final = 19  # of a struct linux_dirent64, before the name


@system_call
async def reopen(call: Caller, args: Args) -> Result:
    """Open ``/proc/self/fd/N``, which leads to the entry itself, not to its path."""
    try:
        entry = call.file(args).entry
    except OSError as exc:
        raise OSError(ENOENT, "there is no such link") from exc
    flags = open_flags(args["flags"])
    if isinstance(entry, Cdev):
        return call.made(args, await call.open_device(entry.name, flags), "as")
    file = await call.proc.open(entry, flags, cred=call.actor.cred)
    return call.made(args, file, "as")


@system_call
async def read(call: Caller, args: Args) -> Result:
    """Read at the position."""
    return shown(await call.file(args).read(number(args["n"])))


@system_call
async def pread(call: Caller, args: Args) -> Result:
    """Read elsewhere."""
    return shown(await call.file(args).pread(number(args["n"]), number(args["off"])))


@system_call
async def readv(call: Caller, args: Args) -> Result:
    """Read into two buffers."""
    buffers = await call.file(args).readv([number(args["n1"]), number(args["n2"])])
    return shown(b"".join(buffers))


@system_call
async def splice(call: Caller, args: Args) -> Result:
    """Move bytes to a pipe: a read through read_iter, and nothing without one."""
    file, size = call.file(args), number(args["n"])
    if file.flags & (os.O_ACCMODE | os.O_PATH) not in {os.O_RDONLY, os.O_RDWR}:
        raise OSError(EBADF, "not open for reading")
    made = call.machine.kernel.of(file.entry)
    if made is None or not made.has_read_iter:
        raise OSError(EINVAL, "nothing to splice from")
    return shown(await file.read(min(size, PIPE_SIZE)) if size else b"")


@system_call
async def write(call: Caller, args: Args) -> Result:
    """Write at the position."""
    return {"ret": await call.file(args).write(to_bytes(args["data"]))}


@system_call
async def pwrite(call: Caller, args: Args) -> Result:
    """Write elsewhere."""
    return {"ret": await call.file(args).pwrite(to_bytes(args["data"]), number(args["off"]))}


@system_call
async def lseek(call: Caller, args: Args) -> Result:
    """Seek."""
    whence: int = getattr(os, f"SEEK_{args.get('whence', 'SET')}")
    return {"ret": await call.file(args).lseek(number(args["off"]), whence)}


@system_call
async def fdpos(call: Caller, args: Args) -> Result:
    """Read the position from ``/proc/self/fdinfo/N``."""
    try:
        return {"pos": call.file(args).tell()}
    except OSError as exc:
        raise OSError(ENOENT, "there is no such file") from exc


@system_call
async def ioctl(call: Caller, args: Args) -> Result:
    """Make a request."""
    return {"ret": await call.file(args).ioctl(number(args["cmd"]), number(args["arg"]))}


@system_call
async def ioctl32(call: Caller, args: Args) -> Result:
    """Make a request as a 32-bit program does."""
    return {"ret": await call.file(args).compat_ioctl(number(args["cmd"]), number(args["arg"]))}


@system_call
async def mmap(call: Caller, args: Args) -> Result:
    """Map a file."""
    flags = mmap_module.MAP_PRIVATE if args.get("private") == "1" else mmap_module.MAP_SHARED
    file = call.file(args)
    mapping = await file.mmap(number(args["len"]), protection(args["prot"]), flags)
    call.actor.process.maps[args["map"]] = SharedMapping(mapping)
    return {"ok": True}


@system_call
async def peek(call: Caller, args: Args) -> Result:
    """Look at mapped memory."""
    mapping = call.actor.process.maps.get(args["map"])
    if mapping is None:
        raise OSError(EFAULT, "nothing is mapped there")
    return shown(mapping.page[: number(args["n"])])


@system_call
async def munmap(call: Caller, args: Args) -> Result:
    """Take a mapping away; without one, that is no error."""
    mapping = call.actor.process.maps.pop(args["map"], None)
    if mapping is not None:
        await mapping.close()
    return {"ret": 0}


@system_call
async def fstat(call: Caller, args: Args) -> Result:
    """Look at an open file."""
    return stat_result(call.file(args).stat())


@system_call
async def fchmod(call: Caller, args: Args) -> Result:
    """Change the mode of an open file."""
    call.file(args).chmod(number(args["mode"]), cred=call.actor.cred)
    return {"ret": 0}


@system_call
async def ftruncate(call: Caller, args: Args) -> Result:
    """Truncate an open file."""
    return _succeeds(lambda: call.file(args).truncate(number(args["n"])))


@system_call
async def fsync(call: Caller, args: Args) -> Result:
    """Sync."""
    return _succeeds(call.file(args).fsync)


def _succeeds(action: Callable[[], None]) -> Result:
    action()
    return {"ret": 0}


@system_call
async def getfl(call: Caller, args: Args) -> Result:
    """Ask for the flags."""
    return {"ret": 0, "flags": name_flags(call.file(args).flags)}


@system_call
async def dup(call: Caller, args: Args) -> Result:
    """Make another descriptor."""
    return call.made(args, call.file(args).dup(), "as")


@system_call
async def close(call: Caller, args: Args) -> Result:
    """Close; the number is free before the release has begun."""
    file = call.file(args)
    del call.actor.process.files[call.machine.fds[args["fd"]]]
    await file.aclose()
    return {"ret": 0}


@system_call
async def getdents(call: Caller, args: Args) -> Result:
    """Read a part of a directory, as much as fits into a buffer of n bytes."""
    file = call.file(args)
    found = await _fitting(file, number(args["n"])) if "n" in args else names(await file.getdents())
    return {"names": found, "eof": not found}


async def _fitting(file: ProcFile, room: int) -> list[list[str]]:
    found: list[list[str]] = []
    while batch := await file.getdents(1):
        length = _DIRENT_HEADER + len(os.fsencode(batch[0].name)) + 1
        room -= -(-length // 8) * 8
        if room < 0:
            await file.lseek(-1, os.SEEK_CUR)
            break
        found += names(batch)
    if room < 0 and not found:
        raise OSError(EINVAL, "not even one name fits")
    return found


@system_call
async def setuid(call: Caller, args: Args) -> Result:
    """Become somebody else: this thread alone."""
    call.actor.cred = Credentials(uid=number(args["uid"]))
    return {"ret": 0}


@system_call
async def exit(call: Caller, args: Args) -> Result:  # noqa: A001  the verb
    """End the process: everything it has is closed, and nothing cuts that short."""
    call.actor.ended = True
    with anyio.CancelScope(shield=True):
        await call.actor.process.close_all()
    return {"exited": number(args["code"])}


@system_call
async def nop(call: Caller, args: Args) -> Result:
    """Do nothing."""
    return {"ret": 0}
