"""References to a module that come and go, while it is unloaded (B30)."""

from __future__ import annotations

import itertools
from errno import EWOULDBLOCK
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from aiopde import Kernel, ModuleState
from tests.helpers import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ORDERS = sorted(set(itertools.permutations(["get", "put", "rmmod", "get", "put"])))


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_unload_wins_or_the_reference_does(order: tuple[str, ...]) -> None:
    """
    In every order: rmmod succeeds if nobody has a reference then, and nobody gets one after.
    """

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        yield

    async with Kernel() as kernel:
        module = await kernel.insmod(main)
        held = 0
        for step in order:
            if step == "get":
                got = module.try_get()
                assert got == (module.state is ModuleState.LIVE)
                held += got
            elif step == "put" and held:
                module.put()
                held -= 1
            elif step == "rmmod" and held:
                with pytest.raises(OSError) as caught:
                    await kernel.rmmod("main")
                assert caught.value.errno == EWOULDBLOCK
                assert module.refcnt == held
            elif step == "rmmod":
                await kernel.rmmod("main")
                assert module.refcnt == -1
        assert module.refcnt in {held, -1}


async def test_no_reference_while_exit_runs() -> None:
    """
    An unload that has begun cannot be held up by a reference.
    """
    may_exit = anyio.Event()

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        yield
        await may_exit.wait()

    async with Kernel() as kernel, create_task_group() as tg:
        module = await kernel.insmod(main)
        assert module.try_get()
        module.put()
        rmmod = await start(tg, kernel.rmmod, "main")
        assert not module.try_get()
        may_exit.set()
        await wait_all_tasks_blocked()
        assert rmmod.done


@pytest.mark.parametrize("steps", range(5))
async def test_nobody_comes_between_the_look_and_the_going(steps: int) -> None:
    """
    A reference that is asked for, however many steps later, is refused, or refuses the unload.
    """

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        yield

    async def get_later() -> None:
        for _ in range(steps):
            await checkpoint()
        won.append(module.try_get())

    async def unload() -> None:
        try:
            await kernel.rmmod("main")
        except BlockingIOError:
            won.append(False)
        else:
            won.append(True)

    for _ in range(10):  # on trio, who of two moves first is drawn by lot
        won: list[bool] = []
        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            async with create_task_group() as tg:
                tg.start_soon(unload)
                tg.start_soon(get_later)
            assert sorted(won) == [False, True]
            if module.refcnt > 0:
                module.put()
