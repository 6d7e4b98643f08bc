"""Three ways to let readers at a driver, and to take it away from them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from errno import ENOENT, EWOULDBLOCK
from typing import TYPE_CHECKING, Final, Protocol

import anyio
from anyio.lowlevel import checkpoint

from aiopde import ProcFS, ProcOps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from ._driver import Driver
    from ._tally import Tally


class OpenFile(Protocol):
    """What a reader has in hand."""

    async def read(self) -> bytes:
        """Run the driver's read handler; ``EIO`` if it may not any more."""
        ...

    async def aclose(self) -> None:
        """Run the driver's release handler, unless that was done."""
        ...


class Scheme(Protocol):
    """What decides who gets to a driver."""

    def create(self, name: str, driver: Driver) -> None:
        """Make the driver known under a name."""
        ...

    async def open(self, name: str) -> OpenFile:
        """Run the driver's open handler; ``ENOENT`` if there is none, or not any more."""
        ...

    async def remove(self, name: str) -> None:
        """Take the driver away; on return, its owner frees it."""
        ...


# -- pde: procfs since Linux 2.6.23 -------------------------------------------------------------


class Guarded:
    """Each call is let in or refused; removal waits for those that are in. That is aiopde."""

    def __init__(self, proc: ProcFS) -> None:
        self._proc = proc

    def create(self, name: str, driver: Driver) -> None:
        """Create an entry."""
        self._proc.create(name, ProcOps.of(driver))

    async def open(self, name: str) -> OpenFile:
        """Open the entry."""
        return await self._proc.open(name)

    async def remove(self, name: str) -> None:
        """Remove the entry."""
        await self._proc.remove(name)


@asynccontextmanager
async def guarded(_tally: Tally) -> AsyncGenerator[Scheme]:
    """Let readers in through procfs."""
    async with ProcFS() as proc:
        yield Guarded(proc)


# -- none ---------------------------------------------------------------------------------------


class Unguarded:
    """Looked up in a dict; nobody asks again. Removal takes the name away, and waits for no one."""

    def __init__(self) -> None:
        self._drivers: dict[str, Driver] = {}

    def create(self, name: str, driver: Driver) -> None:
        """Put it in the dict."""
        self._drivers[name] = driver

    async def open(self, name: str) -> OpenFile:
        """Look it up, and keep a reference to the handlers."""
        await checkpoint()
        driver = _find(self._drivers, name)
        await driver.open(None)
        return UnguardedFile(driver)

    async def remove(self, name: str) -> None:
        """Take it out of the dict."""
        del self._drivers[name]
        await checkpoint()


class UnguardedFile:
    """Nothing but a reference to the handlers."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def read(self) -> bytes:
        """Call the handler, wherever that leads."""
        await checkpoint()
        return await self._driver.read(None, 4096, 0)

    async def aclose(self) -> None:
        """Call the handler, wherever that leads."""
        await checkpoint()
        await self._driver.release(None)


@asynccontextmanager
async def unguarded(_tally: Tally) -> AsyncGenerator[Scheme]:
    """Let readers in unguarded."""
    yield Unguarded()


# -- owner: file_operations.owner, which procfs had before --------------------------------------


class Owned(Unguarded):
    """Each open file pins the driver; removal is refused (``EWOULDBLOCK``) while there is one."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self._tally = tally
        self._pins: dict[Driver, int] = {}

    async def open(self, name: str) -> OpenFile:
        """Pin the driver, before its handler runs."""
        await checkpoint()
        driver = _find(self._drivers, name)
        self._pins[driver] = self._pins.get(driver, 0) + 1  # try_module_get()
        await driver.open(None)
        return OwnedFile(driver, self._pins)

    async def remove(self, name: str) -> None:
        """Try until it is not refused, as ``until rmmod driver; do sleep 0.001; done`` does."""
        while True:
            try:
                self._delete(name)
            except BlockingIOError:
                self._tally.removals_refused += 1
                await anyio.sleep(0.001)
            else:
                return

    def _delete(self, name: str) -> None:
        pins = self._pins.get(self._drivers[name], 0)
        if pins:
            raise OSError(EWOULDBLOCK, f"{pins} files are open", name)
        del self._drivers[name]


class OwnedFile(UnguardedFile):
    """A reference to the handlers that keeps them there."""

    def __init__(self, driver: Driver, pins: dict[Driver, int]) -> None:
        super().__init__(driver)
        self._pins = pins

    async def aclose(self) -> None:
        """Let go of the driver, after its handler has run."""
        try:
            await super().aclose()
        finally:
            self._pins[self._driver] -= 1  # module_put()


@asynccontextmanager
async def owned(tally: Tally) -> AsyncGenerator[Scheme]:
    """Let readers in at the price of a pin."""
    yield Owned(tally)


def _find(drivers: dict[str, Driver], name: str) -> Driver:
    if name not in drivers:
        raise OSError(ENOENT, "no such entry", name)
    return drivers[name]


SCHEMES: Final[dict[str, Callable[[Tally], AbstractAsyncContextManager[Scheme]]]] = {
    "pde": guarded,
    "none": unguarded,
    "owner": owned,
}
"""By the name a user knows."""
