"""The kernel's guard in a few lines, and nine ways to get it wrong."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde.testing import Race

BIAS = -(1 << 31)


class Opener:
    """An open file (``struct pde_opener``)."""

    def __init__(self, entry: Guard) -> None:
        self.entry = entry
        self.closing = False
        self.closed: anyio.Event | None = None
        self.released = 0


class Guard:
    """An entry (``struct proc_dir_entry``) as fs/proc/inode.c guards it."""

    def __init__(self, *, release_steps: int = 1) -> None:
        self.in_use = 0
        self.openers: list[Opener] = []
        self.completion: anyio.Event | None = None
        self.release_steps = release_steps
        self.gone = False

    def open(self) -> Opener:
        opener = Opener(self)
        self.openers.append(opener)
        return opener

    async def use(self) -> bool:
        if self.in_use < 0:
            return False
        self.in_use += 1
        return True

    async def unuse(self) -> None:
        self.in_use -= 1
        if self.in_use == BIAS:
            self._complete()

    def _complete(self) -> None:
        assert self.completion is not None
        self.completion.set()

    async def read(self, opener: Opener, steps: int = 1) -> bool:
        if not await self.use():
            return False
        try:
            for _ in range(steps):
                await checkpoint()
                assert not self.gone, "a handler runs after the removal"
        finally:
            await self.unuse()
        return True

    async def remove(self) -> None:
        await self.rundown()
        while self.openers:
            await self.close(self.openers[0])
        self.gone = True

    async def rundown(self) -> None:
        self.completion = anyio.Event()
        self.in_use += BIAS
        if self.in_use != BIAS:
            await self.completion.wait()

    async def close(self, opener: Opener) -> None:
        if opener not in self.openers:
            return
        if opener.closing:
            opener.closed = anyio.Event()
            await opener.closed.wait()
            return
        opener.closing = True
        await self._close(opener)

    async def _close(self, opener: Opener) -> None:
        await self.release(opener)
        self.openers.remove(opener)
        self._tell(opener)

    def _tell(self, opener: Opener) -> None:
        if opener.closed is not None:
            opener.closed.set()

    async def release(self, opener: Opener) -> None:
        opener.released += 1
        assert opener.released == 1, "released twice"
        for _ in range(self.release_steps):
            await checkpoint()


class CheckAwaitIncrement(Guard):
    """M1: a checkpoint between looking at the count and changing it."""

    async def use(self) -> bool:
        if self.in_use < 0:
            return False
        await checkpoint()
        self.in_use += 1
        return True


class CompletesEarly(Guard):
    """M2: the first call to leave completes, not the last."""

    async def unuse(self) -> None:
        self.in_use -= 1
        if self.in_use < 0:
            self._complete()


class ReleasesTwice(Guard):
    """M3: a record that is being closed is closed again."""

    async def close(self, opener: Opener) -> None:
        if opener not in self.openers:
            return
        opener.closing = True
        await self.release(opener)
        with suppress(ValueError):
            self.openers.remove(opener)


class LosesWakeUp(Guard):
    """M4: who waits for a close is not told of its end."""

    async def _close(self, opener: Opener) -> None:
        self._tell(opener)
        await self.release(opener)
        self.openers.remove(opener)


class StaleRead(Guard):
    """M5: what was read before a checkpoint is believed after it."""

    async def use(self) -> bool:
        removing = self.in_use < 0
        await checkpoint()
        if removing:
            return False
        self.in_use += 1
        return True


class CancelLeaks(Guard):
    """M6: a call that is cancelled does not leave."""

    async def read(self, opener: Opener, steps: int = 1) -> bool:
        if not await self.use():
            return False
        for _ in range(steps):
            await checkpoint()
            assert not self.gone, "a handler runs after the removal"
        await self.unuse()
        return True


class MutatesWhileAwaiting(Guard):
    """M7: the list of open files is walked with a checkpoint in the loop."""

    async def remove(self) -> None:
        await self.rundown()
        for opener in list(self.openers):
            opener.closing = True
            await self.release(opener)
            self.openers.remove(opener)
        self.gone = True


class GateClosesLate(Guard):
    """M8: the door is shut only after the wait for those inside."""

    async def rundown(self) -> None:
        while self.in_use:
            self.completion = anyio.Event()
            await self.completion.wait()
        await checkpoint()
        self.in_use += BIAS

    async def unuse(self) -> None:
        self.in_use -= 1
        if self.in_use == 0 and self.completion is not None:
            self.completion.set()


class LosesUpdate(Guard):
    """M9: the count is read, a checkpoint passed, and the old value plus one written."""

    async def unuse(self) -> None:
        before = self.in_use
        await checkpoint()
        self.in_use = before - 1
        if self.in_use == BIAS:
            self._complete()


class ShieldedRelease(Guard):
    """Not broken: a release is seen through, whatever is cancelled."""

    async def release(self, opener: Opener) -> None:
        with anyio.CancelScope(shield=True):
            await super().release(opener)


MUTANTS: dict[str, type[Guard]] = {
    "M1": CheckAwaitIncrement,
    "M2": CompletesEarly,
    "M3": ReleasesTwice,
    "M4": LosesWakeUp,
    "M5": StaleRead,
    "M6": CancelLeaks,
    "M7": MutatesWhileAwaiting,
    "M8": GateClosesLate,
    "M9": LosesUpdate,
}


def race_of(
    kind: type[Guard],
    *,
    readers: int = 2,
    closers: int = 1,
    openers: int = 1,
    steps: int = 1,
    release_steps: int = 1,
    entries: int = 1,
) -> Callable[[Race], Awaitable[object]]:
    """Make a scenario: readers, one remover and closers of the same entry."""

    async def scenario(race: Race) -> object:
        calls: list[Call] = []
        guards = [kind(release_steps=release_steps) for _ in range(entries)]
        async with anyio.create_task_group() as tg:
            for e, guard in enumerate(guards):
                files = [guard.open() for _ in range(openers)]
                suffix = f"_{e}" if entries > 1 else ""
                for i in range(readers):
                    call = Call()
                    calls.append(call)
                    tg.start_soon(call.read, guard, files[i % openers], steps, name=f"r{i}{suffix}")
                tg.start_soon(guard.remove, name=f"m{suffix}")
                for i in range(closers):
                    tg.start_soon(guard.close, files[i % openers], name=f"c{i}{suffix}")
        for guard in guards:
            assert guard.in_use == BIAS
            assert not guard.openers
        return tuple(call.result for call in calls)

    return scenario


class Call:
    """A call that a task makes. A list of results would make each reader depend on the others."""

    result: object = None

    async def read(self, guard: Guard, opener: Opener, steps: int) -> None:
        self.result = await guard.read(opener, steps)
