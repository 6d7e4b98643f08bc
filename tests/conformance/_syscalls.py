"""
The verbs of the user side as real system calls, made by a thread of a worker process.

Through libc and ctypes, not through ``os``: that restarts what a signal has interrupted, checks
arguments before the kernel can, and hides counts. What is opened takes the lowest free number.
This runs in a chroot, where nothing can be imported any more.
"""

from __future__ import annotations

import ctypes
import mmap as mmap_module
import os
import re
import select as select_module
import stat as stat_module
import struct
from errno import EFAULT
from typing import TYPE_CHECKING, Any, Final

from ._words import (
    LEFT_OUT,
    Result,
    name_flags,
    name_mask,
    number,
    open_flags,
    poll_mask,
    protection,
    shown,
    to_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Args = Mapping[str, str]

Call = "Callable[[Args], Result]"
CALLS: Final[dict[str, Callable[[Args], Result]]] = {}
"""Every system call, under the verb of a step that makes it."""
AT_FDCWD: Final = -100

_TYPES: Final = {
    stat_module.S_IFREG: "REG",
    stat_module.S_IFDIR: "DIR",
    stat_module.S_IFLNK: "LNK",
    stat_module.S_IFCHR: "CHR",
}
_DIRENT: Final = struct.Struct("=QqHB")
_POLLFD: Final = struct.Struct("=ihh")
_IOVEC: Final = struct.Struct("=QQ")
_EPOLL_EVENT: Final = struct.Struct("=IQ")
_DIRENTS: Final = 32768
_SYS_GETDENTS64: Final = 217
_SYS_SETUID: Final = 105
_SPLICED: Final = 65536
_LOCK_EX_NB: Final = 2 | 4
# int ioctl32(int fd, unsigned cmd, unsigned arg): int 0x80 with what a 32-bit program passes.
_IOCTL32: Final = bytes.fromhex("53 b836000000 89fb 89f1 cd80 5b c3")

# Those that do not return an int.
_LONG: Final = "read pread readv write pwrite readlinkat splice lseek mmap syscall"

_libc: Final = ctypes.CDLL(None, use_errno=True)
_procfs: int = -1  # the machine's own /proc, which the chroot hides
_has_ioctl32: bool = False
_maps: Final[dict[str, int]] = {}


def set_up(procfs: int) -> None:
    """Note where the machine's own /proc is open, and what the machine can do."""
    global _procfs, _has_ioctl32
    _procfs, _has_ioctl32 = procfs, _try_ioctl32()
    for name in _LONG.split():
        getattr(_libc, name).restype = ctypes.c_long


def system_call(call: Callable[[Args], Result]) -> Callable[[Args], Result]:
    """Let steps make this call, under the name of the function."""
    CALLS[call.__name__] = call
    return call


def libc(name: str, *args: Any) -> int:
    """Make a call, once."""
    ctypes.set_errno(0)
    result: int = getattr(_libc, name)(*args)
    if result == -1:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return result


def _fd(args: Args, key: str = "fd") -> int:
    return int(args[key])


def _where(args: Args, key: str = "path") -> tuple[int, bytes]:
    return int(args.get("at", AT_FDCWD)), to_bytes(args[key])


def _long(args: Args, key: str) -> ctypes.c_long:
    return ctypes.c_long(number(args[key]))


def _opened(fd: int) -> Result:
    return {"ok": True, "made": fd}


def _filled(size: int, call: Callable[[Any], int]) -> Result:
    buffer = ctypes.create_string_buffer(max(size, 1))
    count = call(buffer)
    return shown(buffer.raw[:count])


# -- paths -----------------------------------------------------------------------------------------


@system_call
def open(args: Args) -> Result:
    flags = open_flags(args.get("flags", "RDONLY"))
    return _opened(libc("openat", *_where(args), flags, number(args.get("mode", "0"))))


@system_call
def reopen(args: Args) -> Result:
    path = f"self/fd/{_fd(args)}".encode()
    return _opened(libc("openat", _procfs, path, open_flags(args["flags"])))


def _stat_result(found: os.stat_result) -> Result:
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


def _stat(args: Args, *, follow: bool) -> Result:
    at, path = _where(args)
    dir_fd = None if at == AT_FDCWD else at
    return _stat_result(os.stat(path, dir_fd=dir_fd, follow_symlinks=follow))


@system_call
def stat(args: Args) -> Result:
    return _stat(args, follow=True)


@system_call
def lstat(args: Args) -> Result:
    return _stat(args, follow=False)


@system_call
def access(args: Args) -> Result:
    return {"ret": libc("access", to_bytes(args["path"]), number(args["how"]))}


@system_call
def readlink(args: Args) -> Result:
    return _readlink(AT_FDCWD, to_bytes(args["path"]), number(args.get("n", "4096")))


@system_call
def readlink_fd(args: Args) -> Result:
    return _readlink(_fd(args), b"", 4096)


@system_call
def fdlink(args: Args) -> Result:
    return _readlink(_procfs, f"self/fd/{_fd(args)}".encode(), 4096)


def _readlink(at: int, path: bytes, size: int) -> Result:
    return _filled(size, lambda to: libc("readlinkat", at, path, to, ctypes.c_size_t(size)))


@system_call
def listdir(args: Args) -> Result:
    fd = libc("openat", *_where(args), os.O_RDONLY | os.O_DIRECTORY)
    try:
        found: list[list[str]] = []
        while batch := _getdents(fd, _DIRENTS):
            found += batch
    finally:
        libc("close", fd)
    return {"names": [name for name in found if _wanted(name[0], args)]}


def _wanted(name: str, args: Args) -> bool:
    return name.startswith(args.get("only", "")) and name == args.get("exact", name)


@system_call
def getdents(args: Args) -> Result:
    found = _getdents(_fd(args), number(args.get("n", str(_DIRENTS))))
    return {"names": found, "eof": not found}


def _getdents(fd: int, size: int) -> list[list[str]]:
    buffer = ctypes.create_string_buffer(max(size, 1))
    found: list[list[str]] = []
    end = libc("syscall", ctypes.c_long(_SYS_GETDENTS64), fd, buffer, ctypes.c_long(size))
    start = 0
    while start < end:
        _ino, _offset, length, kind = _DIRENT.unpack_from(buffer.raw, start)
        name, _, _ = buffer.raw[start + _DIRENT.size : start + length].partition(b"\0")
        found.append([name.decode("latin-1"), _TYPES[kind << 12]])
        start += length
    return found


@system_call
def chdir(args: Args) -> Result:
    return {"ret": libc("chdir", to_bytes(args["path"]))}


@system_call
def getcwd(args: Args) -> Result:
    return {"ret": 0, "cwd": os.getcwd()}


@system_call
def chmod(args: Args) -> Result:
    return {"ret": libc("chmod", to_bytes(args["path"]), number(args["mode"]))}


@system_call
def chown(args: Args) -> Result:
    return {"ret": libc("chown", to_bytes(args["path"]), number(args["uid"]), number(args["gid"]))}


@system_call
def truncate(args: Args) -> Result:
    return {"ret": libc("truncate", to_bytes(args["path"]), _long(args, "n"))}


@system_call
def mkdir(args: Args) -> Result:
    return {"ret": libc("mkdir", to_bytes(args["path"]), number(args.get("mode", "0755")))}


@system_call
def rmdir(args: Args) -> Result:
    return {"ret": libc("rmdir", to_bytes(args["path"]))}


@system_call
def unlink(args: Args) -> Result:
    return {"ret": libc("unlink", to_bytes(args["path"]))}


@system_call
def rename(args: Args) -> Result:
    return {"ret": libc("rename", to_bytes(args["path"]), to_bytes(args["to"]))}


@system_call
def link(args: Args) -> Result:
    return {"ret": libc("link", to_bytes(args["path"]), to_bytes(args["to"]))}


@system_call
def symlink(args: Args) -> Result:
    return {"ret": libc("symlink", to_bytes(args["to"]), to_bytes(args["path"]))}


# -- descriptors -----------------------------------------------------------------------------------


@system_call
def read(args: Args) -> Result:
    size = number(args["n"])
    return _filled(size, lambda to: libc("read", _fd(args), to, ctypes.c_size_t(size)))


@system_call
def pread(args: Args) -> Result:
    size, offset = number(args["n"]), _long(args, "off")
    return _filled(size, lambda to: libc("pread", _fd(args), to, ctypes.c_size_t(size), offset))


@system_call
def readv(args: Args) -> Result:
    sizes = [number(args["n1"]), number(args["n2"])]
    buffers = [ctypes.create_string_buffer(max(size, 1)) for size in sizes]
    vector = b"".join(map(_IOVEC.pack, map(ctypes.addressof, buffers), sizes))
    count = libc("readv", _fd(args), vector, 2)
    data = b"".join(to.raw[:size] for to, size in zip(buffers, sizes, strict=True))
    return shown(data[:count])


@system_call
def splice(args: Args) -> Result:
    out, into = os.pipe()
    try:
        size = ctypes.c_size_t(number(args["n"]))
        count = libc("splice", _fd(args), None, into, None, size, 0)
        return shown(os.read(out, count) if count else b"")
    finally:
        os.close(out)
        os.close(into)


@system_call
def write(args: Args) -> Result:
    data = to_bytes(args["data"])
    return {"ret": libc("write", _fd(args), data, ctypes.c_size_t(len(data)))}


@system_call
def pwrite(args: Args) -> Result:
    data = to_bytes(args["data"])
    size = ctypes.c_size_t(len(data))
    return {"ret": libc("pwrite", _fd(args), data, size, _long(args, "off"))}


@system_call
def lseek(args: Args) -> Result:
    whence: int = getattr(os, f"SEEK_{args.get('whence', 'SET')}")
    return {"ret": libc("lseek", _fd(args), _long(args, "off"), whence)}


@system_call
def fdpos(args: Args) -> Result:
    fd = libc("openat", _procfs, f"self/fdinfo/{_fd(args)}".encode(), os.O_RDONLY)
    try:
        found = re.match(rb"pos:\s*(\d+)", os.read(fd, 4096))
    finally:
        os.close(fd)
    assert found is not None
    return {"pos": int(found[1])}


@system_call
def ioctl(args: Args) -> Result:
    cmd, arg = ctypes.c_ulong(number(args["cmd"])), ctypes.c_ulong(number(args["arg"]))
    return {"ret": libc("ioctl", _fd(args), cmd, arg)}


@system_call
def ioctl32(args: Args) -> Result:
    if not _has_ioctl32:
        return LEFT_OUT
    ret = _call32(_fd(args), number(args["cmd"]), number(args["arg"]))
    if ret < 0:
        raise OSError(-ret, os.strerror(-ret))
    return {"ret": ret}


def _try_ioctl32() -> bool:
    """Try it in a child: where the kernel has no 32-bit calls, they are fatal."""
    if os.uname().machine != "x86_64":
        return False
    child = os.fork()
    if child == 0:
        _call32(-1, 0, 0)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _call32(fd: int, cmd: int, arg: int) -> int:
    code = mmap_module.mmap(-1, 4096, prot=7)
    code.write(_IOCTL32)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
    ret: int = kind(ctypes.addressof(ctypes.c_char.from_buffer(code)))(fd, cmd, arg)
    return ret


@system_call
def mmap(args: Args) -> Result:
    flags = mmap_module.MAP_PRIVATE if args.get("private") == "1" else mmap_module.MAP_SHARED
    size, prot = ctypes.c_size_t(number(args["len"])), protection(args["prot"])
    _maps[args["map"]] = libc("mmap", None, size, prot, flags, _fd(args), ctypes.c_long(0))
    return {"ok": True}


@system_call
def peek(args: Args) -> Result:
    """Look at mapped memory, through a file, where a page that is not there is but an error."""
    address = ctypes.c_long(_maps.get(args["map"], 0))
    fd = libc("openat", _procfs, b"self/mem", os.O_RDONLY)
    try:
        size = number(args["n"])
        return _filled(size, lambda to: libc("pread", fd, to, ctypes.c_size_t(size), address))
    except OSError as exc:
        raise OSError(EFAULT, "whoever looks there dies of it") from exc
    finally:
        os.close(fd)


@system_call
def munmap(args: Args) -> Result:
    address = _maps.pop(args["map"], 0)
    if address:
        libc("munmap", ctypes.c_void_p(address), ctypes.c_size_t(number(args["len"])))
    return {"ret": 0}


@system_call
def fstat(args: Args) -> Result:
    return _stat_result(os.fstat(_fd(args)))


@system_call
def fchmod(args: Args) -> Result:
    return {"ret": libc("fchmod", _fd(args), number(args["mode"]))}


@system_call
def ftruncate(args: Args) -> Result:
    return {"ret": libc("ftruncate", _fd(args), _long(args, "n"))}


@system_call
def fsync(args: Args) -> Result:
    return {"ret": libc("fsync", _fd(args))}


@system_call
def flock(args: Args) -> Result:
    return {"ret": libc("flock", _fd(args), _LOCK_EX_NB)}


@system_call
def getfl(args: Args) -> Result:
    return {"ret": 0, "flags": name_flags(libc("fcntl", _fd(args), 3))}


@system_call
def dup(args: Args) -> Result:
    return _opened(libc("dup", _fd(args)))


@system_call
def close(args: Args) -> Result:
    return {"ret": libc("close", _fd(args))}


# -- what is ready ---------------------------------------------------------------------------------


@system_call
def poll(args: Args) -> Result:
    asked = ctypes.create_string_buffer(_POLLFD.pack(_fd(args), poll_mask(args["events"]), 0))
    ret = libc("poll", asked, 1, number(args.get("timeout", "0")))
    return {"ret": ret, "revents": name_mask(_POLLFD.unpack_from(asked)[2])}


@system_call
def select(args: Args) -> Result:
    fds = [_fd(args)]
    r, w, x = (int(bool(ready)) for ready in select_module.select(fds, fds, fds, 0))
    return {"ret": r + w + x, "r": r, "w": w, "x": x}


@system_call
def epoll_create(args: Args) -> Result:
    return {"ret": 0, "made": libc("epoll_create1", 0)}


@system_call
def epoll_add(args: Args) -> Result:
    event = _EPOLL_EVENT.pack(poll_mask(args["events"]), 0)
    return {"ret": libc("epoll_ctl", _fd(args, "ep"), 1, _fd(args), event)}


@system_call
def epoll_wait(args: Args) -> Result:
    event = ctypes.create_string_buffer(_EPOLL_EVENT.size)
    ret = libc("epoll_wait", _fd(args, "ep"), event, 1, number(args.get("timeout", "0")))
    revents = _EPOLL_EVENT.unpack_from(event)[0]
    return {"ret": 1, "revents": name_mask(revents)} if ret else {"ret": 0}


# -- processes -------------------------------------------------------------------------------------


@system_call
def setuid(args: Args) -> Result:
    """Become somebody else: this thread alone, which libc's setuid() would not do."""
    return {"ret": libc("syscall", ctypes.c_long(_SYS_SETUID), number(args["uid"]))}


@system_call
def exit(args: Args) -> Result:  # noqa: A001  the verb
    os._exit(number(args["code"]))


@system_call
def nop(args: Args) -> Result:
    return {"ret": 0}
