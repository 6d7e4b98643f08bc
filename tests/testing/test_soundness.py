"""The report says no more than is true: dpor finds what dfs finds, or says what it cannot see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from tests.testing.test_footprint import both
from tests.testing.test_variables import needs_a_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde.testing import Result

total = 0


async def one() -> int:
    await checkpoint()
    return 1


def searched(
    scenario: Callable[[], Awaitable[object]], backend: Any = "trio"
) -> tuple[set[Any], Result]:
    """Return what some order ends with, and what dpor says."""
    every = explore(scenario, backend=backend, strategy="dfs", keep_going=True)
    return set(every.outcomes), explore(scenario, backend=backend, strategy="dpor", keep_going=True)


# Each function on one line, or what is tested would not be.
# fmt: off
async def adds_on() -> object:
    x = 0

    async def add() -> None:
        nonlocal x
        x += await one()

    await both(add, add)
    return x


async def on_one_line() -> object:
    global total
    total = 0

    async def add() -> None:
        global total
        v = total; await checkpoint(); total = v + 1  # noqa: E702

    await both(add, add)
    return total


async def a_loop_on_one_line() -> object:
    x = 0

    async def add() -> None:
        nonlocal x
        for _ in (1, 2): v = x; await checkpoint(); x = v + 1  # noqa: E701, E702

    await both(add, add)
    return x


async def reads_after() -> object:
    places = [0]

    async def add() -> None:
        places[0] = places[0] + await one() + places[0]

    await both(add, add)
    return places[0]
# fmt: on


@needs_a_place
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("scenario", [adds_on, on_one_line, a_loop_on_one_line, reads_after])
def test_a_line_that_goes_on_after_an_await(scenario: Any, backend: Any) -> None:
    """What it reads and writes then is seen, though no line begins."""
    outcomes, result = searched(scenario, backend)
    assert result.verdict == "exhaustive"
    assert set(result.outcomes) == outcomes
