"""
A process whose threads make system calls on command: ``python -m tests.conformance._worker``.

It serves two kinds of sockets, on which each message is one JSON text. On the first, it is told to
start a thread, or to fork a process, with the other end of a socket for that. On each of those, it
is told which call to make, and answers with the result; the first message says who it is. Its
sockets have high numbers, so that what it opens has those a scenario's own program would have.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import threading

from ._syscalls import CALLS, set_up
from ._words import failed

HIGH = 500
"""Where the descriptors begin that a scenario never sees."""
_MESSAGE = 65536
_sockets: list[socket.socket] = []


def _high(fd: int) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return moved


def _send(to: socket.socket, message: object) -> None:
    to.send(json.dumps(message).encode())


def act(line: socket.socket) -> None:
    """Make calls until nobody asks for more."""
    _send(line, {"pid": os.getpid(), "tid": threading.get_native_id()})
    while text := line.recv(_MESSAGE):
        command = json.loads(text)
        _send(line, _result(command["verb"], command["args"]))


def _result(verb: str, args: dict[str, str]) -> object:
    try:
        return CALLS[verb](args)
    except OSError as exc:
        return failed(exc.errno or 0)
    except Exception as exc:
        return {"raised": repr(exc)}


def _fork(line: socket.socket) -> None:
    if os.fork():
        line.close()
        return
    for other in _sockets:
        other.close()
    act(line)
    os._exit(0)


def _go_on(number: int, frame: object) -> None:
    """Do nothing: that a handler has run is what ends a call."""


def serve(control: socket.socket) -> None:
    """Start threads and processes."""
    while True:
        text, fds, _, _ = socket.recv_fds(control, _MESSAGE, 1)
        if not text:
            return
        line = socket.socket(fileno=_high(fds[0]))
        if json.loads(text) == "fork":
            _fork(line)
        else:
            _sockets.append(line)
            threading.Thread(target=act, args=(line,), daemon=True).start()


def main() -> None:
    control = socket.socket(fileno=_high(int(sys.argv[1])))
    _sockets.append(control)
    procfs = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    set_up(_high(procfs))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _go_on)
    signal.siginterrupt(signal.SIGUSR2, False)
    os.chroot(sys.argv[2])
    os.chdir("/")
    serve(control)


if __name__ == "__main__":
    main()
