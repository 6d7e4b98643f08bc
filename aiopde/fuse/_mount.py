"""Attaching /dev/fuse to a directory and taking it off again: mount(2), fusermount3, umount."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import subprocess
from contextlib import suppress
from errno import ENODEV, ENOENT, ENOTCONN, ENOTDIR, EPERM
from pathlib import Path
from typing import TYPE_CHECKING, Final, final
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEVICE: Final = "/dev/fuse"
_HELPER: Final = "fusermount3"
# The flags /proc is mounted with: MS_NOSUID, MS_NODEV, MS_NOEXEC.
_FLAGS: Final = 2 | 4 | 8
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
# Two lines come: one when the mount is there, one when it is gone in good order. If the pipe ends
# between them, the server was killed. To abort the connection frees who is inside, even if
# a forked child of the server still holds the device.
_WATCHDOG: Final = """
read -r number || exit 0
read -r gone && exit 0
abort=/sys/fs/fuse/connections/$number/abort
[ -w "$abort" ] && echo 1 >"$abort"
exec "$@" 2>/dev/null
"""


@final
class Attachment:
    """
    A mount point with the device behind it, and a watchdog beside it.

    Its methods block, and what they wait for may be an answer of this very process (a path may
    lead through the mount): call them in a thread.

    Args:
        path: The directory.
        allow_other: Whether other users may use the mount.
    """

    def __init__(self, path: str, *, allow_other: bool) -> None:
        self.path: str = path
        self.fd: int = -1
        """The device, open and not blocking."""
        self._allow_other = allow_other
        self._number = ""
        self._watchdog: Watchdog

    def attach(self) -> None:
        """Open the device and mount it; start the watchdog."""
        self.path = checked_path(self.path)
        by_root = os.geteuid() == 0
        undo = ["umount", "-l", "--"] if by_root else [_helper(), "-u", "-z", "--"]
        self._watchdog = Watchdog([*undo, self.path])
        _attached.add(self)
        try:
            self.fd = self._mount_as_root() if by_root else self._mount_as_user()
            self._number = mounted_device(self.path) or ""
            self._watchdog.tell(self._number.partition(":")[2])
        except BaseException:
            self.close()
            raise
        os.set_blocking(self.fd, False)

    def detach(self, ended: bool) -> None:
        """
        Take the mount off its directory, also if it is in use, unless somebody has already.

        Who is inside keeps what he has open; that ends when the device is closed.

        Args:
            ended: Whether the conversation with the kernel is over. It may have been aborted, and
                the mount still be there; or else its number may be that of another mount by now.
        """
        # Whoever has unmounted us may have mounted something else there.
        if mounted_device(self.path) != self._number or (ended and not _is_dead(self.path)):
            return
        if os.geteuid() == 0:
            _call("umount2", os.fsencode(self.path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
        else:
            # Its own message goes to stderr; that there is nothing to unmount is no failure.
            subprocess.run([_helper(), "-u", "-z", "--", self.path], check=False)

    def close(self) -> None:
        """Close the device, which fails all calls that are still under way, and the watchdog."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._watchdog.dismiss()

    def let_go(self) -> None:
        """Close what a child has inherited by a fork, or the mount would outlive its server."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._watchdog.let_go()

    # Names and numbers of the options: mount.fuse3(8).
    def _options(self) -> str:
        return "default_permissions,allow_other" if self._allow_other else "default_permissions"

    def _mount_as_root(self) -> int:
        try:
            fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            if exc.errno in {ENOENT, ENODEV}:
                why = "no FUSE here: `modprobe fuse`, or in a container `--device /dev/fuse`"
                raise OSError(exc.errno, why, _DEVICE) from exc
            raise
        try:
            identity = f"rootmode={stat.S_IFDIR:o},user_id={os.geteuid()},group_id={os.getegid()}"
            data = f"fd={fd},{identity},{self._options()}".encode()
            _call("mount", b"aiopde", os.fsencode(self.path), b"fuse.aiopde", _FLAGS, data)
        except OSError as exc:
            os.close(fd)
            if exc.errno == EPERM:
                why = "not allowed to mount: in a container, `--cap-add SYS_ADMIN`"
                raise OSError(EPERM, why, self.path) from exc
            raise
        return fd

    def _mount_as_user(self) -> int:
        """Have the setuid helper mount it, which hands the device over through a socket."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            options = f"fsname=aiopde,subtype=aiopde,noexec,{self._options()}"
            done = subprocess.run(
                [_helper(), "-o", options, "--", self.path],
                check=False,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                stderr=subprocess.PIPE,
                text=True,
            )
            theirs.close()
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        if not fds:
            raise OSError(EPERM, done.stderr.strip() or f"{_HELPER} failed", self.path)
        os.set_inheritable(fds[0], False)
        return fds[0]


@final
class Watchdog:
    """
    A process that unmounts when this one is killed, which nothing else does for us.

    (fusermount3 has ``auto_unmount``; for users it wants ``allow_other`` too.) It is a shell, in
    a session of its own so that a Ctrl-C does not reach it, and waits at a pipe.
    """

    def __init__(self, undo: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "aiopde-watchdog", *undo],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, line: str) -> None:
        """Pass it a line."""
        assert self._process.stdin is not None
        # Somebody may have killed it.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def let_go(self) -> None:
        """Close the pipe, in a forked child."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def dismiss(self) -> None:
        """Have it end without a deed, and wait for that."""
        self.tell("gone")
        self._process.communicate()


_attached: Final[WeakSet[Attachment]] = WeakSet()


def _let_go() -> None:
    for attachment in _attached:
        attachment.let_go()


os.register_at_fork(after_in_child=_let_go)


def mounted_device(path: str) -> str | None:
    """
    Return which device is mounted at *path*, as "major:minor"; None: nothing is.

    Read off the kernel's list: to ask the directory itself is to ask whoever serves it.
    """
    wanted = _escaped(path)
    device = None
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        _, _, number, _, place, *_ = line.split(b" ")
        if place == wanted:  # the last one is on top
            device = number.decode()
    return device


def _is_dead(path: str) -> bool:
    """Tell whether a mount that nobody serves is in the way."""
    try:
        os.statvfs(path)
    except OSError as exc:
        return exc.errno == ENOTCONN
    return False


def _escaped(path: str) -> bytes:
    """Write a path as the list of mounts does."""
    text = os.fsencode(path)
    for char in b"\\ \t\n":
        text = text.replace(bytes([char]), b"\\%03o" % char)
    return text


def checked_path(path: str) -> str:
    """Return the real path of a directory that can be mounted on."""
    if not path:  # which realpath() takes for the folder one is in
        raise OSError(ENOENT, "the path of a mount is not empty", path)
    try:
        path = os.path.realpath(path, strict=True)
        mode = os.stat(path).st_mode
        os.statvfs(path)  # which asks the server, while stat() may tell what is remembered
    except OSError as exc:
        if exc.errno == ENOTCONN:
            cure = f"`fusermount3 -uz {path}`, or as root `umount -l {path}`"
            why = f"a mount whose server is dead is in the way; take it off with {cure}"
            raise OSError(ENOTCONN, why, path) from exc
        if exc.errno == ENOENT:
            raise OSError(ENOENT, "make the directory to mount on first", path) from exc
        raise
    if not stat.S_ISDIR(mode):
        raise OSError(ENOTDIR, "a mount wants a directory", path)
    return path


def _helper() -> str:
    found = shutil.which(_HELPER)
    if found is None:
        why = "an ordinary user mounts with it: install it (`apt install fuse3`)"
        raise OSError(ENOENT, why, _HELPER)
    return found


def _call(name: str, *args: object) -> None:
    """Make a system call that Python has no function for."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*args):
        errno = ctypes.get_errno()
        path = next(arg for arg in args if isinstance(arg, bytes) and arg.startswith(b"/"))
        raise OSError(errno, f"{name}: {os.strerror(errno)}", os.fsdecode(path))
