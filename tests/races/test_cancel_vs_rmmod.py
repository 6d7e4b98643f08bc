"""Cancellation, anywhere, of anybody who has to do with a module's coming and going (A1, A2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopde import Kernel
from tests.conformance._quiet import quiet

from ._stage import HOST
from ._sweep import cancel_everywhere, go_on, only_the_victim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ._stage import Stage
    from ._sweep import Scenario


def driver(s: Stage, may_go: anyio.Event | None = None) -> Any:
    """Make a module with one file; its init waits for an event, if there is one."""

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = s.create("x", "read release")
        if may_go is not None:
            await may_go.wait()
        yield
        await entry.remove()

    return main


async def reading(s: Stage) -> None:
    """Load the module, and have a reader inside."""
    await s.kernel.insmod(driver(s), "m")
    file = await s.opened("file", "x")
    s.start("reader", file.read, 3)
    await quiet()


async def unloading(s: Stage) -> None:
    await reading(s)
    module = s.kernel.find_module("m")
    assert module is not None
    s.start("remover", s.kernel.rmmod, "m")
    s.start("joiner", module.wait_gone)
    await go_on(s)


async def reloading(s: Stage) -> None:
    await reading(s)
    may_go = anyio.Event()
    s.start("remover", s.kernel.reload, "m", driver(s, may_go))
    await quiet()
    s.start("newcomer", s.proc.read_bytes, "x")
    await quiet()
    may_go.set()
    await go_on(s)


async def loading(s: Stage) -> None:
    """The module's file is read while its init still runs."""
    may_go = anyio.Event()
    s.start("loader", s.kernel.insmod, driver(s, may_go), "m")
    await quiet()
    s.start("reader", s.proc.read_bytes, "x")
    await quiet()
    may_go.set()
    await go_on(s)
    s.start("remover", s.kernel.rmmod, "m")
    await go_on(s)


async def leaving(s: Stage) -> None:
    await reading(s)
    s.leave()
    await go_on(s)


@pytest.mark.parametrize(
    ("scenario", "victim"),
    [
        (unloading, "reader"),
        (unloading, "remover"),
        (unloading, "joiner"),
        (reloading, "reader"),
        (reloading, "newcomer"),
        (reloading, "remover"),
        (loading, "loader"),
        (loading, "reader"),
        (loading, "remover"),
        (leaving, "reader"),
        (leaving, HOST),
    ],
    ids=lambda value: getattr(value, "__name__", value).replace(" ", "_"),
)
async def test_whoever_is_cancelled_wherever_leaves_all_in_order(
    scenario: Scenario, victim: str
) -> None:
    """
    Cancelled at any point of the story, an actor leaves nothing counted, unreleased or waiting.
    """
    check = only_the_victim(victim)
    assert await cancel_everywhere(victim, scenario, check, host=Kernel) > 0
