"""The turnstile sees and does what the hook does, with nothing but trio's public interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from aiopde.testing._selfcheck import trio_driver
from aiopde.testing._trio import Driver
from tests.testing._guard import MUTANTS, race_of
from tests.testing._programs import scenario_of, search_that_fails, with_anyio
from tests.testing._scenarios import heeds_nothing

if TYPE_CHECKING:
    from collections.abc import Generator

    from aiopde.testing import Race


@pytest.fixture(autouse=True)
def turnstile(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A trio that does not ask for our order any more."""

    def unasked(driver: object, batch: object) -> None: ...

    monkeypatch.setattr(Driver, "batch_begins", unasked)
    trio_driver.cache_clear()
    yield
    trio_driver.cache_clear()


def find(scenario: Any, **options: Any) -> Any:
    failure = explore(scenario, backend="trio", **options).failure
    assert failure is not None
    return failure


@pytest.mark.parametrize("name", ["M1", "M3", "M7", "M9"])
def test_mutants(name: str) -> None:
    """The default strategy finds them there, too."""
    assert find(race_of(MUTANTS[name], readers=3 if name == "M9" else 2)).schedule


def test_a_deadlock() -> None:
    """Who waits for what, with the program's line."""

    async def scenario() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.Event().wait, name="waiter")

    failure = find(scenario)
    assert failure.kind == "deadlock"
    assert {waiter.task for waiter in failure.waiting} == {"main", "waiter"}


def test_time_jumps_only_when_nobody_can_move() -> None:
    """Sleepers wake in the order of their times, whatever the schedule."""
    orders: set[tuple[int, ...]] = set()

    async def scenario() -> object:
        woken: list[int] = []

        async def sleep(seconds: int) -> None:
            await trio.sleep(seconds)
            woken.append(seconds)

        async with trio.open_nursery() as nursery:
            for seconds in (30, 10, 20):
                nursery.start_soon(sleep, seconds)
        orders.add(tuple(woken))
        return None

    result = explore(scenario, backend="trio", strategy="dpor")
    assert result.failure is None
    assert orders == {(10, 20, 30)}


def test_a_victim() -> None:
    """A cancellation as a choice comes at any checkpoint, of the scenario itself as well."""

    async def scenario(race: Race) -> str:
        ended = "not begun"

        async def work() -> None:
            nonlocal ended
            ended = "begun"
            await checkpoint()
            ended = "done"

        async with anyio.create_task_group() as tg:
            tg.start_soon(work, name="work")
        return ended

    result = explore(scenario, backend="trio", strategy="dfs", cancel=["work"])
    assert set(result.outcomes) >= {"begun", "done"}
    result = explore(with_anyio(1, 1), backend="trio", strategy="dfs", cancel=["main"])
    assert result.failure is None
    assert result.schedules > 1


def test_an_interrupt_ends_the_search() -> None:
    """It is nobody's failure."""

    async def scenario() -> None:
        await checkpoint()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(scenario, backend="trio")


def test_code_that_heeds_nothing() -> None:
    """A task that catches whatever is thrown at it is given up, and the search goes on."""

    result = explore(heeds_nothing, backend="trio", strategy="dfs", keep_going=True)
    assert result.failures == result.schedules == 3


def test_an_error_of_the_search() -> None:
    """What a strategy of the user raises is not taken for the program's failure."""
    with pytest.raises(LookupError, match="mine"):
        explore(with_anyio(2, 1), backend="trio", strategy=search_that_fails())


def test_the_same_space_of_a_program() -> None:
    """Crashes, cancellations and spawns: the same ends as on asyncio."""
    program = [[("write", "x"), ("spawn", ""), ("crash", "")], [("look", "x"), ("cancel", "")]]
    by_turnstile = explore(scenario_of(program), backend="trio", strategy="dpor")
    on_asyncio = explore(scenario_of(program), backend="asyncio", strategy="dpor")
    assert set(by_turnstile.outcomes) == set(on_asyncio.outcomes)
    assert by_turnstile.verdict == on_asyncio.verdict == "exhaustive"
