"""Requests of an ioctl: those that no handler sees, and those that one does (fs/ioctl.c)."""

from __future__ import annotations

from errno import EFAULT, ENOTTY
from typing import TYPE_CHECKING, Any, Final

from ._check import check_int
from ._errors import error
from ._invoke import nonsense

if TYPE_CHECKING:
    from ._open_file import File

_ENOIOCTLCMD: Final = 515
# Numbers the VFS answers before any handler of a regular file is asked: FIOCLEX, FIONCLEX, ...
_VFS_IOCTLS_OK: Final = frozenset({0x5451, 0x5450})
# ... and those that write to a user's memory, of which there is none here: FIBMAP, FIGETBSZ,
# FIONREAD, FIONBIO, FIOASYNC, FIOQSIZE.
_VFS_IOCTLS_EFAULT: Final = frozenset({1, 2, 0x541B, 0x5421, 0x5452, 0x5460})
# Of these, those that are asked of regular files only: FIBMAP, FIONREAD.
_OF_FILES: Final = frozenset({1, 0x541B})


async def run_ioctl(file: File, op: str, cmd: int, arg: Any) -> int:
    """Answer what needs no handler, else run it (``do_vfs_ioctl``, ``vfs_ioctl``)."""
    check_int("cmd", cmd)
    if cmd in _VFS_IOCTLS_OK:
        return 0
    if cmd in _VFS_IOCTLS_EFAULT and not (cmd in _OF_FILES and file.entry.is_dir()):
        raise error(EFAULT, file.entry.path, f"request {cmd:#x} is answered before any handler")
    if getattr(file.entry.ops, op) is None:
        raise error(ENOTTY, file.entry.path, f"the file has no {op} handler")
    try:
        result = await file._call(op, cmd, arg)
    except OSError as exc:
        if exc.errno == _ENOIOCTLCMD:
            raise error(
                ENOTTY, file.entry.path, f"the {op} handler knows no request {cmd:#x}"
            ) from exc
        raise
    if type(result) is not int:
        raise nonsense(file, op, result, "a number")
    return result
