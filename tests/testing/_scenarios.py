"""Scenarios that other processes can import, and that several tests explore."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from aiopde.testing import Race


async def steps(tasks: int, checkpoints: int) -> None:
    async def step() -> None:
        for _ in range(checkpoints):
            await checkpoint()

    async with anyio.create_task_group() as tg:
        for number in range(tasks):
            tg.start_soon(step, name=f"t{number}")


async def three_by_two() -> None:
    """1680 schedules: 9! / (3!)³."""
    await steps(3, 2)


async def five_by_two() -> None:
    """A big tree: 15! / (3!)⁵ = 168 168 000 schedules."""
    await steps(5, 2)


class OddError(Exception):
    """One that cannot be pickled."""

    def __init__(self, lock: object) -> None:
        super().__init__("odd")
        self.lock = lock


async def polls() -> None:
    """One task looks again and again for what the other does."""
    done = anyio.Event()

    async def look() -> None:
        while not done.is_set():
            await checkpoint()

    async def finish() -> None:
        await checkpoint()
        done.set()

    async with anyio.create_task_group() as tg:
        tg.start_soon(look, name="look")
        tg.start_soon(finish, name="finish")


async def dies_elsewhere() -> None:  # pragma: no cover  nobody is left to tell
    """Ends the process of a pool at once; this one would go on."""
    if multiprocessing.parent_process() is not None:
        os._exit(3)


async def wants_a_thread() -> None:
    """Asks for what no schedule can hold."""
    await asyncio.to_thread(len, "x")


async def fails_elsewhere() -> None:
    """Fails in the processes of a pool only, and with what cannot be brought back."""
    assert multiprocessing.parent_process() is None, Outcome("only elsewhere")


async def lost_update() -> None:
    """Fails in some of its schedules, not in the first."""
    count: Any = 0

    async def increment() -> None:
        nonlocal count
        await checkpoint()
        value = count
        await checkpoint()
        count = value + 1

    async with anyio.create_task_group() as tg:
        for name in "abc":
            tg.start_soon(increment, name=name)
    if count != 3:
        raise OddError(threading.Lock())


async def outcomes(race: Race) -> object:
    """Ends in an object that cannot be pickled."""
    order: list[str] = []

    async def note(name: str) -> None:
        await checkpoint()
        race.touch(order, "order", write=True)
        order.append(name)

    async with anyio.create_task_group() as tg:
        for name in "abc":
            tg.start_soon(note, name, name=name)
    return Outcome("".join(order))


class Outcome:
    """Equal by its name; refuses to be pickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Outcome) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> str:
        raise TypeError


async def heeds_nothing() -> None:
    """One of its tasks catches whatever is thrown at it, and waits on."""

    async def stubborn(event: anyio.Event) -> None:
        while True:
            try:
                await event.wait()
            except BaseException:  # noqa: ASYNC103, S112  on purpose
                continue

    async with anyio.create_task_group() as tg:
        tg.start_soon(stubborn, anyio.Event())
        tg.start_soon(checkpoint)
