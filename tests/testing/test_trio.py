"""What only trio has: deadlines, its own tasks, tasks that cannot be aborted, the hook itself."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from anyio.lowlevel import checkpoint

from aiopde.testing import _selfcheck, explore
from aiopde.testing._execution import Settings
from aiopde.testing._strategies import fifo
from aiopde.testing._tracker import Tracker
from aiopde.testing._trio import Driver, Shuffle
from aiopde.testing._turnstile import TurnstileDriver
from tests.testing._programs import search_that_fails, with_trio

if TYPE_CHECKING:
    from aiopde.testing import Race


@pytest.fixture(params=[Driver, TurnstileDriver])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each of the two ways to drive trio."""
    monkeypatch.setattr(_selfcheck, "trio_driver", lambda: request.param)
    return request.param


async def nothing(race: Race) -> None: ...


async def cannot_be_aborted() -> None:
    """Wait for what never comes, and heed no cancellation."""
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


@pytest.mark.usefixtures("driver")
def test_no_time_at_all() -> None:
    """A deadline that is over when nobody can move costs no time."""

    async def scenario() -> object:
        with trio.move_on_after(0) as scope:
            await trio.sleep_forever()
        return scope.cancelled_caught, trio.current_time() < 1e-6

    result = explore(scenario, backend="trio", strategy="fifo")
    assert set(result.outcomes) <= {(True, True), (True, False)}
    assert result.failure is None


def test_who_waits_for_quiet_comes_before_the_clock() -> None:
    """wait_all_tasks_blocked() returns once nobody can move, and before time is set forward."""

    async def scenario() -> object:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 5)
            await trio.testing.wait_all_tasks_blocked()
            then = trio.current_time()
        return then, trio.current_time()

    assert set(explore(scenario, backend="trio", strategy="dfs").outcomes) == {(0, 5)}


def test_what_trio_does_for_itself_is_no_choice() -> None:
    """Its own task that runs what other threads ask for moves at once, in every schedule."""

    async def scenario() -> object:
        seen: list[str] = []

        async def ask() -> None:
            trio.lowlevel.current_trio_token().run_sync_soon(seen.append, "asked")
            await checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, name="ask")
            nursery.start_soon(checkpoint, name="other")
        await trio.testing.wait_all_tasks_blocked()
        return tuple(seen)

    result = explore(scenario, backend="trio", strategy="dfs")
    assert set(result.outcomes) == {("asked",)}
    assert result.schedules == 6


@pytest.mark.usefixtures("driver")
def test_what_cannot_be_aborted_is_given_up() -> None:
    """It is a deadlock, and the executions after it are what they would have been."""
    runs = 0

    async def scenario() -> object:
        nonlocal runs
        runs += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cannot_be_aborted if runs == 1 else checkpoint, name="a")
            nursery.start_soon(checkpoint, name="b")
        return "well"

    result = explore(scenario, backend="trio", strategy="random", max_schedules=4, keep_going=True)
    assert result.failure is not None
    assert (result.schedules, result.failures) == (4, 1)
    assert result.outcomes["well"] == 3


def test_a_scenario_that_heeds_nothing_is_given_up() -> None:
    """The task that the executions run in is replaced, and the search goes on in another run."""

    async def scenario() -> None:
        while True:
            try:
                await trio.sleep_forever()
            except BaseException:  # noqa: ASYNC103, S112  on purpose
                continue

    result = explore(scenario, backend="trio", strategy="random", max_schedules=3, keep_going=True)
    assert (result.schedules, result.failures) == (3, 3)
    assert result.failure is not None
    assert result.failure.kind == "deadlock"


@pytest.mark.usefixtures("driver")
def test_the_scenario_itself_may_be_the_victim() -> None:
    """``cancel=["main"]``: wherever it waits, in every order."""

    async def scenario() -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(checkpoint, name="a")
        return "over"

    result = explore(scenario, backend="trio", strategy="dfs", cancel=["main"])
    assert set(result.outcomes) == {"over", None}


def test_what_is_left_behind() -> None:
    """A task of no nursery of the scenario's is left when that returns."""

    async def scenario(race: Race) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="ghost")

    result = explore(scenario, backend="trio", strategy="random", max_schedules=3, keep_going=True)
    assert (result.schedules, result.failures) == (3, 3)
    assert result.failure is not None
    assert result.failure.kind == "left behind"
    assert [waiter.task for waiter in result.failure.waiting] == ["ghost"]


def test_an_error_of_the_search() -> None:
    """What a strategy of the user raises comes out, through trio's hook, which would hide it."""
    with pytest.raises(LookupError, match="mine"):
        explore(with_trio(2, 1), backend="trio", strategy=search_that_fails())


def test_an_error_of_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends trio's run is passed on, unless it is we who have given something up."""

    async def be_host(_driver: Driver) -> None:
        raise RuntimeError

    monkeypatch.setattr(Driver, "_be_host", be_host)
    with pytest.raises(RuntimeError):
        Driver(nothing, fifo(), Settings("trio")).drive()


def test_the_rest_of_trio_s_generator() -> None:
    """Only shuffle() is ours: what else a release of trio may want it gets from its own."""
    driver: Any = None
    assert 0 <= Shuffle(driver, random).random() < 1


def test_a_trio_that_tells_nothing_of_scopes() -> None:
    """The turnstile then says that it cannot see them, which is no proof any more."""
    driver = TurnstileDriver(nothing, fifo(), Settings("trio"))
    tracker = Tracker()
    driver.run.watch = tracker
    assert list(driver.scopes(object())) == []
    assert tracker.notes == {"cancel scopes: this trio is too new"}
