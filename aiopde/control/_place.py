"""Where kernel and client meet: a Unix socket that nobody else can reach, or take the place of."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from contextlib import contextmanager
from errno import EADDRINUSE, EAGAIN, EEXIST, ENAMETOOLONG, ENOENT, EPERM
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopde._errors import error

if TYPE_CHECKING:
    from collections.abc import Generator

_MAX_PATH: Final = 107  # bytes in sockaddr_un.sun_path, without the 0 at its end
_UCRED: Final = struct.Struct("=iII")


def default_socket() -> str:
    """
    Return where a kernel of this user listens, and where clients look for it.

    In ``$XDG_RUNTIME_DIR/aiopde``; where there is no such folder, in ``/tmp/aiopde-UID``.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return f"{runtime}/aiopde/control.sock"
    return f"/tmp/aiopde-{os.geteuid()}/control.sock"  # noqa: S108  see check_private()


def make_private(folder: str) -> None:
    """
    Make the folder of the default socket, unless it is there.

    Raises:
        OSError: ``EPERM``: it is there, and others may have to do with it.
    """
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        check_private(folder)


def check_private(folder: str) -> None:
    """
    Refuse a folder that is not ours alone: in /tmp anybody may have made it.

    Raises:
        OSError: ``EPERM``; ``ENOENT``: there is none.
    """
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        raise error(EPERM, folder, "no folder: remove it, or choose another path")
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        why = f"not yours alone (uid {status.st_uid}, {stat.filemode(status.st_mode)})"
        raise error(EPERM, folder, f"{why}: remove it, or choose another path")


def listen(path: str) -> socket.socket:
    """
    Make the socket of a kernel, in the place of one that nobody listens on any more.

    Raises:
        OSError: ``EADDRINUSE``: a kernel is running there; ``EEXIST``: there is something else
            than a socket; ``EAGAIN``: another one is just starting there; ``ENAMETOOLONG``;
            those of making a file.
    """
    check_length(path)
    # Between seeing that a socket is stale and taking its place nobody else may do the same: the
    # second would take away the first one's.
    with _lock(os.path.dirname(path) or "."):
        _remove_stale(path)
        return _bind(path)


def check_length(path: str) -> None:
    """Refuse what the kernel would not even look for: its own error says nothing of the path."""
    length = len(os.fsencode(path))
    if length > _MAX_PATH:
        raise error(ENAMETOOLONG, path, f"the path of a socket has at most {_MAX_PATH} bytes")
    if not length:
        raise error(ENOENT, path, "the path of a socket is not empty")


@contextmanager
def _lock(folder: str) -> Generator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error(EAGAIN, folder, "another kernel is just starting there") from None
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise error(EEXIST, path, "there is something that is no socket: choose another path")
    if _answers(path):
        raise error(EADDRINUSE, path, "a kernel is running there: choose another path")
    os.unlink(path)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)  # with many who wait to be accepted it would block
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


def _bind(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    # Not chmod() afterwards: who connected in between would be in.
    before = os.umask(0o177)
    try:
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


@contextmanager
def listening(path: str) -> Generator[socket.socket]:
    """Listen for the time of a block, then remove the socket, if it is still this one."""
    with listen(path) as listener:
        status = os.stat(path)
        try:
            yield listener
        finally:
            place = Path(path)
            if place.exists() and os.path.samestat(place.stat(), status):
                place.unlink()


class Peer(NamedTuple):
    """Who is at the other end, as the operating system says."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Ask who has connected (``SO_PEERCRED``: as it was then)."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Peer(*_UCRED.unpack(found))


def refuse_stranger(peer: Peer) -> None:
    """
    Raise ``EPERM`` unless it is the user who runs this program, or root.

    The modes of socket and folder say so too; but those one can get wrong.
    """
    if peer.uid not in {0, os.geteuid()}:
        raise error(EPERM, "", f"this kernel answers user {os.geteuid()}, not {peer.uid}")
