"""The guard against the kernel's integer."""

from __future__ import annotations

import anyio
import pytest
from anyio import CancelScope, create_task_group
from hypothesis import given, strategies as st

from aiopde import BIAS, UseCount
from tests.conformance._quiet import quiet

from ._kernel import KernelCount

STEPS = ["use", "use", "unuse", "unuse", "kill", "wait", "cancel"]


class Spy:
    """Stands in for the completion; counts how often it is sent, and when."""

    def __init__(self, completion: anyio.Event, count: UseCount) -> None:
        self._completion = completion
        self._count = count
        self.sent_at: list[int] = []

    def set(self) -> None:
        self.sent_at.append(self._count._in_use)
        self._completion.set()

    async def wait(self) -> None:
        await self._completion.wait()


class Pair:
    """A guard and the kernel's integer, which are told the same."""

    def __init__(self) -> None:
        self.count = UseCount("x")
        self.kernel = KernelCount()
        self.spy: Spy | None = None
        self.waiters: list[CancelScope] = []
        self.returned: set[int] = set()

    def use(self) -> None:
        assert self.count.use() == self.kernel.use_pde()

    def unuse(self) -> None:
        if self.kernel.inside:
            self.count.unuse()
            self.kernel.unuse_pde()
        else:
            with pytest.raises(RuntimeError, match=r"without use\(\)"):
                self.count.unuse()

    def kill(self) -> None:
        first = not self.kernel.dying
        assert self.count.kill() == first
        if first:
            self.killed()

    def killed(self) -> None:
        """Add the bias to the kernel's integer, and listen for the completion."""
        self.kernel.add_bias()
        if self.count._completion is not None:
            self.spy = Spy(self.count._completion, self.count)
            self.count._completion = self.spy  # type: ignore[assignment]

    async def wait(self, number: int) -> None:
        with self.waiters[number]:
            await self.count.rundown()
            self.returned.add(number)

    def check(self) -> None:
        kernel, numbers = self.kernel, self.count.statistics()
        assert self.count._in_use == kernel.in_use
        assert (numbers.in_use, numbers.removing) == (kernel.inside, kernel.dying)
        # Made only for who must wait, and sent once, by the decrement that reaches the bias.
        assert (self.spy is not None) == kernel.waits
        assert (self.spy.sent_at if self.spy else []) == [BIAS] * kernel.sent
        waiting = {n for n, scope in enumerate(self.waiters) if not scope.cancel_called}
        assert self.returned >= waiting if kernel.drained else self.returned == set()


@given(steps=st.lists(st.sampled_from(STEPS), max_size=30))
async def test_agrees_with_the_kernels_integer(steps: list[str]) -> None:
    """
    The number, who is let in, and when the remover may go on: all is as in Linux.
    """
    pair = Pair()
    async with create_task_group() as tg:
        for step in steps:
            if step == "wait":
                pair.waiters.append(CancelScope())
                tg.start_soon(pair.wait, len(pair.waiters) - 1)
                await quiet()
                if not pair.kernel.dying:
                    pair.killed()
            elif step == "cancel":
                for scope in pair.waiters[:1]:
                    scope.cancel()
            else:
                getattr(pair, step)()
            await quiet()
            pair.check()
        while pair.kernel.inside:
            pair.unuse()
            await quiet()
            pair.check()


@given(inside=st.integers(1, 50))
def test_waits_for_each_and_every_call(inside: int) -> None:
    """
    However many are inside when removal begins, the last one out is the one that completes.
    """
    pair = Pair()
    for _ in range(inside):
        pair.use()
    pair.kill()
    for left in range(inside, 0, -1):
        assert pair.count.in_use == left
        pair.unuse()
        pair.check()
    assert pair.spy is not None
    assert pair.spy.sent_at == [BIAS]
