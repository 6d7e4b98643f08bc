"""What drives trio: the hook where it counts right, and the turnstile where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from aiopde.testing import _selfcheck, explore
from aiopde.testing._selfcheck import hook_works, trio_driver
from aiopde.testing._trio import Driver
from aiopde.testing._turnstile import TurnstileDriver
from tests.testing._guard import MUTANTS, Guard, race_of
from tests.testing._programs import orders, with_anyio, with_trio

if TYPE_CHECKING:
    from collections.abc import Generator


def test_the_hook_works_here() -> None:
    """The 20 orders of two tasks of two checkpoints are 20, with this release of trio."""
    assert hook_works()
    assert trio_driver() is Driver


def test_too_many_orders_are_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that shows more than there are is none to count on."""
    monkeypatch.setattr(_selfcheck, "SCHEDULES", 18)
    assert not hook_works()


def test_nothing_is_left_of_the_hook() -> None:
    """After a search, trio's own random generator and flag are back."""
    module: Any = trio._core._run
    before = module._r, module._ALLOW_DETERMINISTIC_SCHEDULING
    explore(with_trio(2, 1), backend="trio")
    assert (module._r, module._ALLOW_DETERMINISTIC_SCHEDULING) == before


@pytest.fixture
def broken_hook(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A trio that does not ask for our order any more."""

    def batch_begins(_driver: Driver, _batch: object) -> None:
        pass

    monkeypatch.setattr(Driver, "batch_begins", batch_begins)
    trio_driver.cache_clear()
    yield
    trio_driver.cache_clear()


@pytest.mark.usefixtures("broken_hook")
class TestFallback:
    def test_is_found_by_counting(self) -> None:
        """No error tells that the hook is not asked: the number of schedules does."""
        assert not hook_works()
        assert trio_driver() is TurnstileDriver

    @pytest.mark.parametrize("make", [with_trio, with_anyio])
    def test_reaches_every_order_once(self, make: Any) -> None:
        """The turnstile is complete, too."""
        result = explore(make(3, 2), backend="trio", strategy="dfs")
        assert (result.verdict, result.schedules) == ("exhaustive", orders(3, 2))

    def test_same_space_of_the_guard(self) -> None:
        """The reduced search sees the same classes, with a cancellation too."""
        plain = explore(race_of(Guard), backend="trio", strategy="dpor")
        cancelled = explore(race_of(Guard), backend="trio", strategy="dpor", cancel=["r0"])
        assert plain.schedules - plain.blocked == 92
        assert cancelled.failure is None
        assert cancelled.schedules - cancelled.blocked == 260

    @pytest.mark.parametrize("mutant", ["M2", "M4"])
    def test_a_schedule_fits_both(self, mutant: str) -> None:
        """What the turnstile finds, asyncio replays."""
        scenario = race_of(MUTANTS[mutant])
        found = explore(scenario, backend="trio").failure
        assert found is not None
        again = explore(scenario, backend="asyncio", replay=found.schedule).failure
        assert again is not None
        assert again.key == found.key

    def test_time_and_livelock(self) -> None:
        """Time is virtual there, too, and a loop is found."""

        async def sleep() -> float:
            await trio.sleep(3600)
            return trio.current_time() % 3600

        async def loop() -> None:
            while True:
                await trio.lowlevel.checkpoint()

        assert set(explore(sleep, backend="trio").outcomes) == {0.0}
        failure = explore(loop, backend="trio", max_steps=20).failure
        assert failure is not None
        assert failure.kind == "livelock"


def test_a_hook_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute that a future trio has no more is no error either."""

    def drive(self: object) -> str:
        raise AttributeError

    monkeypatch.setattr(Driver, "drive", drive)
    assert not _selfcheck.hook_works()
