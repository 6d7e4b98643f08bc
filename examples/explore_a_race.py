"""
A race between a reader and a remover, found by trying every order, replayed, and mended.

    python examples/explore_a_race.py [asyncio|trio|uvloop]

The guard below has a bug that a usual test run never meets. The explorer runs the scenario in one
order after the other, until it fails, and then makes the failing order as plain as it can be.
"""

import sys
from errno import EIO
from typing import Literal

import anyio
from anyio.lowlevel import checkpoint

from aiopde.testing import explore, report


class Guard:
    """Lets readers in until removal begins; removal waits for those inside."""

    def __init__(self) -> None:
        self.in_use = 0
        self.removing = False
        self.drained = anyio.Event()

    async def enter(self) -> None:
        """Come in, or be told that it is too late."""
        if self.removing:
            raise OSError(EIO, "it is being removed")
        await checkpoint()  # the bug: between the check and the count, anything may happen
        self.in_use += 1

    def leave(self) -> None:
        """Go out; the last one lets the removal go on."""
        self.in_use -= 1
        if self.removing and self.in_use == 0:
            self.drained.set()

    async def remove(self) -> None:
        """Let nobody in any more, and wait for those inside."""
        self.removing = True
        if self.in_use:
            await self.drained.wait()


class MendedGuard(Guard):
    """The same, with nothing between the check and the count."""

    async def enter(self) -> None:
        """Come in, or be told that it is too late."""
        await checkpoint()
        if self.removing:
            raise OSError(EIO, "it is being removed")
        self.in_use += 1


async def read_and_remove(guard: Guard) -> None:
    """The scenario: whoever is inside must not find the thing gone."""
    gone = False

    async def reader() -> None:
        try:
            await guard.enter()
        except OSError:
            return  # too late, and told so
        try:
            await checkpoint()
            assert not gone, "the reader is inside, and it is gone"
        finally:
            guard.leave()

    async def remover() -> None:
        nonlocal gone
        await checkpoint()
        await checkpoint()
        await guard.remove()
        gone = True

    async with anyio.create_task_group() as tg:
        tg.start_soon(reader, name="reader")
        tg.start_soon(remover, name="remover")


async def broken() -> None:
    """Read and remove, with the bug."""
    await read_and_remove(Guard())


async def mended() -> None:
    """Read and remove, without it."""
    await read_and_remove(MendedGuard())


def main(backend: Literal["asyncio", "trio"]) -> None:
    """Find it, replay it, mend it."""
    for _ in range(100):
        anyio.run(broken, backend=backend)
    print("a hundred usual runs: nothing")

    found = explore(broken, backend=backend)
    assert found.failure is not None
    print(f"explored: {found.failure.kind}: {found.failure.message}")
    print(f"the order: {found.failure.schedule}")

    again = explore(broken, backend=backend, replay=found.failure.schedule)
    assert again.failure is not None
    print(f"replayed: {again.failure.message}")
    print(report(again).partition("\n\n")[2].partition("\n\n")[2])

    print(f"mended: {explore(mended, backend=backend).verdict}")


if __name__ == "__main__":
    loop = sys.argv[1] if len(sys.argv) > 1 else "asyncio"
    main("trio" if loop == "trio" else "asyncio")  # the explorer brings a loop of its own
