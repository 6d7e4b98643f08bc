"""System calls that ask what is ready: poll, select and epoll."""

from __future__ import annotations

import os
import select as select_module
from errno import EEXIST, EINTR, EPERM
from typing import TYPE_CHECKING, Final

from ._actors import ERESTARTSYS, Sleep
from ._calls import Args, Caller, system_call
from ._kernel import POLL_TABLE, Waiter
from ._words import Result, name_mask, number, poll_mask

if TYPE_CHECKING:
    from aiopde import File, ProcFile

    from ._calls import Machine

_READ: Final = (
    select_module.POLLRDNORM
    | select_module.POLLRDBAND
    | select_module.POLLIN
    | select_module.POLLHUP
    | select_module.POLLERR
)
_WRITE: Final = (
    select_module.POLLWRBAND
    | select_module.POLLWRNORM
    | select_module.POLLOUT
    | select_module.POLLERR
)
_EXCEPT: Final = select_module.POLLPRI


async def _ask(file: ProcFile, events: int, waiter: Waiter | None = None) -> int:
    """Ask once; the handler puts *waiter* on its queue."""
    token = POLL_TABLE.set(waiter)
    try:
        return await file.poll(events)
    finally:
        POLL_TABLE.reset(token)


class _Nap:
    """The sleep of a call that waits for what it asks about, as long as its timeout allows."""

    def __init__(self, call: Caller, args: Args) -> None:
        timeout = number(args.get("timeout", "0"))
        self._actor = call.actor
        self._deadline = None if timeout < 0 else call.machine.now + timeout
        self._over = timeout == 0

    @property
    def over(self) -> bool:
        """Whether there is no time left; a signal puts an end to it too."""
        if self._actor.interrupts("intr"):
            raise OSError(EINTR if self._actor.signals else ERESTARTSYS, "a signal came")
        return self._over

    async def take(self, waiters: list[Waiter]) -> None:
        """Sleep until one of them is woken, a signal comes, or the time is over."""
        sleep = Sleep("intr", self._deadline)
        for waiter in waiters:
            waiter.sleep = sleep
        self._over = await self._actor.sleep(sleep) == "timeout"


@system_call
async def poll(call: Caller, args: Args) -> Result:
    """Ask, and sleep until there is something to tell."""
    nap, waiter = _Nap(call, args), Waiter()
    revents = await _poll_once(call, args, waiter)
    # On a queue, it holds the file open; a wake-up or a signal only makes it ask once more.
    held = call.file(args).dup() if waiter.queued else None
    try:
        while not revents and not nap.over:
            await nap.take([waiter])
            revents = await _poll_once(call, args, None)
    finally:
        if held is not None:
            await held.aclose()
    return {"ret": int(revents != 0), "revents": name_mask(revents)}


async def _poll_once(call: Caller, args: Args, waiter: Waiter | None) -> int:
    file = call.actor.process.files.get(call.machine.fds.get(args["fd"], -1))
    if file is None or file.flags & os.O_PATH:
        return select_module.POLLNVAL
    return await _ask(file, poll_mask(args["events"]), waiter)


@system_call
async def select(call: Caller, args: Args) -> Result:
    """Ask for all three sets, and do not wait."""
    mask = await _ask(call.file(args), _READ | _WRITE | _EXCEPT)
    ready = [int(mask & wanted != 0) for wanted in (_READ, _WRITE, _EXCEPT)]
    return {"ret": sum(ready), "r": ready[0], "w": ready[1], "x": ready[2]}


class Epoll:
    """
    Open files to be told of; each is asked only once its queue was woken, and while it is ready.

    One stays as long as any descriptor of it does, in whatever process, and not only the one it
    was added by.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._items: dict[ProcFile, tuple[File, int, Waiter]] = {}

    @property
    def waiters(self) -> list[Waiter]:
        """Whoever wakes one of these wakes the epoll."""
        return [waiter for *_, waiter in self._items.values()]

    async def add(self, file: ProcFile, events: int) -> None:
        """Add a file, which is asked at once."""
        if file.entry.is_dir():
            raise OSError(EPERM, "a directory cannot be polled")
        if file in self._items:
            raise OSError(EEXIST, "it is there already")
        waiter = Waiter()
        self._items[file] = file.file, events, waiter
        waiter.woken = await _ask(file, events, waiter) != 0

    async def ready(self) -> int:
        """Return what is ready of the first file that is."""
        for inner, events, waiter in self._items.values():
            file = self._machine.descriptor_of(inner) if waiter.woken else None
            if file is not None:
                revents = await _ask(file, events)
                waiter.woken = revents != 0
                if revents:
                    return revents
        return 0


@system_call
async def epoll_create(call: Caller, args: Args) -> Result:
    """Make an epoll."""
    call.machine.epolls[args["ep"]] = Epoll(call.machine)
    return {"ret": 0}


@system_call
async def epoll_add(call: Caller, args: Args) -> Result:
    """Add a file."""
    epoll = call.machine.epolls[args["ep"]]
    await epoll.add(call.file(args), poll_mask(args["events"]))
    return {"ret": 0}


@system_call
async def epoll_wait(call: Caller, args: Args) -> Result:
    """Sleep until a file is ready."""
    nap, epoll = _Nap(call, args), call.machine.epolls[args["ep"]]
    while not (revents := await epoll.ready()):
        if nap.over:
            return {"ret": 0}
        await nap.take(epoll.waiters)
    return {"ret": 1, "revents": name_mask(revents)}
