"""The messages of the kernel's FUSE protocol, as data (linux/fuse.h); no I/O."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final, final

MAJOR: Final = 7
MINOR: Final = 38
"""The newest version whose structures these are; a newer kernel speaks it with us."""
MINOR_AT_LEAST: Final = 31
"""Linux 5.4. Before it, several of the structures were shorter."""
ROOT_ID: Final = 1
"""The node id of the mount's root, which the kernel knows without asking."""
PAGE_SIZE: Final = 4096
MAX_PAGES: Final = 256
MAX_WRITE: Final = MAX_PAGES * PAGE_SIZE
"""The most bytes of one read or write; the kernel splits what is more."""
MAX_REQUEST: Final = MAX_WRITE + PAGE_SIZE
"""The longest request, with its header."""


@final
class Opcode(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    RENAME2 = 45
    LSEEK = 46


@final
class Notice(IntEnum):
    """What a message without a request is about; it stands where a reply has its errno."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3


@final
class Init(IntFlag):
    """What kernel and server agree on at the start."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22


@final
class Open(IntFlag):
    """How the kernel is to treat an open file."""

    DIRECT_IO = 1 << 0
    NOFLUSH = 1 << 5


@final
class SetAttr(IntFlag):
    """Which attributes a SETATTR is about."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2


POLL_SCHEDULE_NOTIFY: Final = 1 << 0
"""In a POLL: tell when something becomes ready."""
IOCTL_COMPAT: Final = 1 << 0
"""In an IOCTL: a 32-bit program's."""
IOCTL_DIR: Final = 1 << 4
"""In an IOCTL: on a directory."""

# len, opcode, unique, nodeid, uid, gid, pid, total_extlen
IN_HEADER: Final = Struct("=IIQQIIIH2x")
# len, error, unique
OUT_HEADER: Final = Struct("=IiQ")

# ino, size, blocks; atime, mtime, ctime, and their nanoseconds; mode, nlink, uid, gid, rdev,
# blksize, flags
_ATTR: Final = "QQQQQQIIIIIIIII4x"
# nodeid, generation, entry_valid, attr_valid, their nanoseconds
ENTRY_OUT: Final = Struct("=QQQQII" + _ATTR)
# attr_valid, its nanoseconds
ATTR_OUT: Final = Struct("=QI4x" + _ATTR)
# valid, fh, size, lock_owner; atime, mtime, ctime, their nanoseconds; mode, uid, gid
SETATTR_IN: Final = Struct("=I4xQQQQQQIIII4xII4x")

# major, minor, max_readahead, flags; newer kernels add more
INIT_IN: Final = Struct("=IIII")
# major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran,
# max_pages
INIT_OUT: Final = Struct("=IIIIHHIIH34x")

# flags
OPEN_IN: Final = Struct("=I4x")
# fh, open_flags
OPEN_OUT: Final = Struct("=QI4x")
# fh, offset, size, read_flags, lock_owner, flags; in a WRITE the data follows
READ_IN: Final = Struct("=QQIIQI4x")
WRITE_IN: Final = READ_IN
# size
WRITE_OUT: Final = Struct("=I4x")
# fh; in a RELEASE or FSYNC, flags follow
HANDLE_IN: Final = Struct("=Q")
# fh, offset, whence
LSEEK_IN: Final = Struct("=QqI4x")
# offset
LSEEK_OUT: Final = Struct("=Q")

# ino, off (where the next one is), namelen, type; the name follows, padded to 8 bytes
DIRENT: Final = Struct("=QQII")
# blocks, bfree, bavail, files, ffree, bsize, namelen, frsize
STATFS_OUT: Final = Struct("=QQQQQIII28x")

# fh, kh, flags, events
POLL_IN: Final = Struct("=QQII")
# revents
POLL_OUT: Final = Struct("=I4x")
# fh, flags, cmd, arg, in_size, out_size; the data follows
IOCTL_IN: Final = Struct("=QIIQII")
# result; the data follows
IOCTL_OUT: Final = Struct("=i12x")

# nlookup
FORGET_IN: Final = Struct("=Q")
# count; as many FORGET_ONE follow
BATCH_FORGET_IN: Final = Struct("=I4x")
# nodeid, nlookup
FORGET_ONE: Final = Struct("=QQ")
# unique of the request that is interrupted
INTERRUPT_IN: Final = Struct("=Q")
# newdir; the two names follow
RENAME_IN: Final = Struct("=Q")
# newdir, flags; the two names follow
RENAME2_IN: Final = Struct("=QI4x")
# size
LISTXATTR_IN: Final = Struct("=I4x")
# size
LISTXATTR_OUT: Final = Struct("=I4x")

# kh
NOTIFY_POLL: Final = Struct("=Q")
# nodeid, offset, length; an offset below 0 means the attributes alone
NOTIFY_INVAL_INODE: Final = Struct("=Qqq")
# parent, namelen, flags; the name and a zero byte follow
NOTIFY_INVAL_ENTRY: Final = Struct("=QII")


def notification(notice: Notice, body: bytes) -> bytes:
    """Return a whole message that answers no request."""
    return OUT_HEADER.pack(OUT_HEADER.size + len(body), notice, 0) + body


def dirent(ino: int, following: int, name: bytes, kind: int) -> bytes:
    """Return a line of a listing; *following* is the offset of the line after it."""
    padding = -len(name) % 8
    return DIRENT.pack(ino, following, len(name), kind) + name + bytes(padding)
