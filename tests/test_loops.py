"""The three loops are real: no test passes on a loop other than the one it is named after."""

import asyncio
from typing import Any

import anyio
import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock

from tests import conftest
from tests.conftest import BACKENDS, DEBUG


def running_loop() -> str:
    if trio.lowlevel.in_trio_run():
        return "trio"
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


async def test_runs_on_the_loop_it_is_named_after(request: pytest.FixtureRequest) -> None:
    """
    The id of a variant is the loop that runs it.
    """
    assert request.node.name.endswith(f"[{running_loop()}]")


def test_an_async_test_has_a_variant_per_loop(request: pytest.FixtureRequest) -> None:
    """
    Three loops, three variants, and one of a test marked trio.
    """
    module = request.node.parent
    assert isinstance(module, pytest.Module)
    names = [item.name for item in module.collect()]

    assert list(BACKENDS) == ["asyncio", "uvloop", "trio"]
    for loop in BACKENDS:
        assert f"{test_runs_on_the_loop_it_is_named_after.__name__}[{loop}]" in names
    assert test_a_trio_mark_means_pytest_trio.__name__ in names


async def test_asyncio_runs_in_debug_mode() -> None:
    """
    The variant called asyncio is the one that checks for slow callbacks and wrong threads.
    """
    loop = running_loop()
    if loop != "trio":
        assert asyncio.get_running_loop().get_debug() == (DEBUG and loop == "asyncio")


@given(number=st.integers())
async def test_hypothesis_runs_on_every_loop(
    anyio_backend: tuple[str, dict[str, Any]], number: int
) -> None:
    """
    The body of a Hypothesis test runs on the loop too, for each example.
    """
    assert BACKENDS[running_loop()] is anyio_backend


async def test_a_hang_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A test that waits for ever fails by itself; the run goes on.
    """
    monkeypatch.setattr(conftest, "SECONDS_TO_HANG", 0)
    with pytest.raises(TimeoutError, match="still here"):
        await conftest.fail_where_it_hangs(anyio.sleep_forever)()


@pytest.fixture
async def loop_of_fixture() -> str:
    return running_loop()


async def test_fixtures_share_the_loop_of_the_test(loop_of_fixture: str) -> None:
    """
    An async fixture runs where the test runs.
    """
    assert loop_of_fixture == running_loop()


@pytest.mark.trio
async def test_a_trio_mark_means_pytest_trio(autojump_clock: MockClock) -> None:
    """
    A test marked trio runs once, under pytest-trio, with its clock.
    """
    await trio.sleep(3600)
    assert trio.lowlevel.current_clock() is autojump_clock


@pytest.mark.trio
class TestMarkedClass:
    async def test_the_mark_of_a_class_counts(
        self, autojump_clock: MockClock, loop_of_fixture: str
    ) -> None:
        """
        The mark may stand on the class, and async fixtures are then pytest-trio's.
        """
        assert trio.lowlevel.current_clock() is autojump_clock
        assert loop_of_fixture == "trio"
