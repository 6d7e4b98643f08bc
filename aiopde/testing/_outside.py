"""What no schedule can hold: threads, real I/O, processes and signals; refused where asked for."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, final

import anyio._backends._asyncio

from ._causes import refused
from ._stacks import call_among, frames_here

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Iterable
    from types import FrameType

    from ._run import Run

    L = TypeVar("L", bound=asyncio.AbstractEventLoop)


class UncontrolledError(RuntimeError):
    """
    A scenario asks for what happens beside all schedules: a thread, real I/O, a process, a signal.

    It is raised where that is asked for, and out of :func:`explore`, even if the scenario catches
    it: a search would only seem to be one. On trio, who waits for real I/O or for a signal is
    found when nobody else can move.
    """


@final
@dataclass(frozen=True, slots=True)
class Outside:
    """One of the things outside, and how to do without it."""

    name: str
    instead: str

    def asked_for(self, call: str) -> UncontrolledError:
        """Return the error for a call that asks for it."""
        msg = (
            f"{call} wants {self.name}, and the explorer controls nothing but tasks: when "
            f"that is ready, no schedule could say or repeat. {self.instead}"
        )
        return refused(UncontrolledError(msg))


THREAD: Final = Outside(
    "a thread",
    "Call the function in the task itself, after a checkpoint; or put in its place an async "
    "function that does so",
)
_IO: Final = Outside(
    "real I/O",
    "Put a fake in its place: anyio.create_memory_object_stream(), or an object with the same "
    "methods and a checkpoint in each",
)
_PROCESS: Final = Outside(
    "a process", "Put a fake in its place: an async function that returns what the process would"
)
_SIGNAL: Final = Outside(
    "a signal", "Call what the signal is to bring about from a task, which may do it at any time"
)

_OF_TRIOS_FILES: Final = {
    "_subprocess.py": _PROCESS,
    "_signals.py": _SIGNAL,
    "_threads.py": THREAD,
    "_socket.py": _IO,
    "_generated_io_epoll.py": _IO,
    "_generated_io_kqueue.py": _IO,
    "_generated_io_windows.py": _IO,
}
_TRIOS_FOLDERS: Final = tuple(
    os.path.join(os.sep, "trio", folder).rstrip(os.sep) for folder in ("", "_core")
)
_OF_ASYNCIOS_METHODS: Final = {
    THREAD: ("run_in_executor",),
    _IO: (
        *("add_reader", "add_writer", "getaddrinfo", "getnameinfo", "create_connection"),
        *("create_server", "create_unix_connection", "create_unix_server", "start_tls"),
        *("create_datagram_endpoint", "connect_accepted_socket", "connect_read_pipe"),
        *("connect_write_pipe", "sock_accept", "sock_connect", "sock_recv", "sock_recv_into"),
        *("sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendto", "sock_sendfile"),
    ),
    _PROCESS: ("subprocess_exec", "subprocess_shell"),
    _SIGNAL: ("add_signal_handler",),
}


def outside_of(frames: Iterable[FrameType]) -> Outside | None:
    """Return what a task waits for, by where in trio it stands; None if it is for other tasks."""
    for frame in frames:
        folder, file = os.path.split(frame.f_code.co_filename)
        if file in _OF_TRIOS_FILES and folder.endswith(_TRIOS_FOLDERS):
            return _OF_TRIOS_FILES[file]
    return None


def refuse(run: Run, outside: Outside | None, name: str) -> NoReturn:
    """
    End the search because of what the task that runs has asked for.

    Args:
        outside: None: look where in trio it stands; what is nowhere else starts a thread.
        name: What to call it, if it is called directly.

    Raises:
        UncontrolledError: Always. It goes to the task, so that nothing waits for ever.
    """
    frames = frames_here()
    outside = outside or outside_of(frames) or THREAD
    who = f"{run.last.name}: " if frames and run.last is not None else ""
    error = outside.asked_for(who + call_among(frames, name))
    run.break_off(error)
    raise error


# -- asyncio --------------------------------------------------------------------------------------


def tasks_only(loop: type[L]) -> type[L]:
    """Have a loop of asyncio's refuse all but tasks, callbacks and timers; a class decorator."""
    for outside, names in _OF_ASYNCIOS_METHODS.items():
        for name in names:
            setattr(loop, name, _refusal(outside, name))
    return loop


def _refusal(outside: Outside, name: str) -> Callable[..., NoReturn]:
    def refuse_it(loop: Any, *args: object, **kwargs: object) -> NoReturn:
        refuse(loop.explored, outside, name)

    return refuse_it


@contextmanager
def no_threads_of_anyio(loop: Any) -> Generator[None]:
    """Refuse the threads that anyio starts on a loop; it starts others' as it does."""
    workers: Any = anyio._backends._asyncio.WorkerThread
    before = workers.start

    def start(worker: Any) -> None:
        if worker.loop is loop:
            refuse(loop.explored, THREAD, "a worker thread")
        before(worker)

    workers.start = start
    try:
        yield
    finally:
        workers.start = before


# -- trio -----------------------------------------------------------------------------------------


@contextmanager
def no_threads_of_trio(run: Run) -> Generator[None]:
    """
    Refuse the threads that trio starts for the thread that is here, also for sockets and processes.

    By a private name. Where trio has it no more, who waits for a thread is found out when nobody
    else can move.
    """
    module: Any = import_module("trio._threads")
    before = getattr(module, "start_thread_soon", None)
    here = get_ident()

    def start(*args: Any) -> None:
        if get_ident() == here:
            refuse(run, None, "trio.to_thread.run_sync")
        assert before is not None
        before(*args)

    if before is not None:
        module.start_thread_soon = start
    try:
        yield
    finally:
        if before is not None:
            module.start_thread_soon = before
