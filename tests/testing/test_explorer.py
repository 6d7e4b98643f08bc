"""explore(): what it refuses, what it tells on the way, and how it looks again at a failure."""

from __future__ import annotations

import asyncio
import random
import re
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from aiopde.testing import _explorer, _tally, explore, explore_on
from tests.testing._programs import BACKENDS, orders, with_anyio
from tests.testing._scenarios import three_by_two
from tests.testing.test_shard import Here

if TYPE_CHECKING:
    from aiopde.testing import Progress, Race

backends = pytest.mark.parametrize("backend", BACKENDS)


def test_the_names_of_victims_are_a_list() -> None:
    """A string would be taken for the names of its letters."""
    with pytest.raises(TypeError, match=r"cancel= wants the names of tasks: pass cancel=\['a'\]"):
        explore(with_anyio(2, 1), cancel="a")


WRONG: list[tuple[str, Any, str]] = [
    ("strategy", 3, "strategy= wants a name, such as 'auto' or 'delay:2', not 3"),
    ("track", [dict, "Box"], "track= wants classes, not 'Box'"),
    ("max_schedules", "9", "max_schedules= wants a whole number, not '9'"),
    ("max_schedules", 0, "max_schedules= wants at least 1, not 0: with less nothing would be run"),
    ("max_steps", -1, "max_steps= wants at least 1, not -1"),
    ("cancel", ["t1", "T0"], "cancel= names T0, and no task was called that: there are main, t0"),
]


@pytest.mark.parametrize(("option", "value", "message"), WRONG)
def test_what_cannot_be_meant_is_refused(option: str, value: Any, message: str) -> None:
    """
    Each mistake ends in an error that says what to do, none in a search that proves nothing.
    """
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        explore(with_anyio(2, 1), **{option: value})


def test_a_victim_that_a_sample_has_not_met() -> None:
    """
    It may be a task of other schedules: that is noted, and no error.
    """
    result = explore(with_anyio(2, 1), strategy="random", max_schedules=3, cancel=["t9"])
    assert result.notes == (
        "cancel= names t9, and no task was called that: there are main, t0, t1",
    )


@pytest.mark.parametrize("holds", [True, checkpoint])
def test_an_invariant_is_a_plain_function(holds: Any) -> None:
    """
    What would have to be awaited is always true, and would hold for ever.
    """

    async def scenario(race: Race) -> None:
        race.always(holds)

    failure = explore(scenario).failure
    assert failure is not None
    assert "always() wants a plain function, as in always(lambda: n >= 0)" in failure.message


def test_there_are_two_backends() -> None:
    """uvloop, say, has no queue of its own to choose from."""
    with pytest.raises(ValueError, match="no backend 'uvloop': there are 'asyncio' and 'trio'"):
        explore(with_anyio(2, 1), backend="uvloop")


def test_an_executor_can_be_handed_in() -> None:
    """explore(executor=) is explore_on(): the same schedules."""
    here = Here()
    result = explore(three_by_two, executor=here, strategy="dfs", seed=3, shrink=False)
    assert here.jobs
    assert result.schedules == explore_on(Here(), three_by_two, strategy="dfs").schedules == 1680


def test_a_long_search_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every now and then: which strategy, how many schedules, how many failures."""
    monkeypatch.setattr(_tally, "PROGRESS_EVERY", 0)
    told: list[Progress] = []
    explore(with_anyio(2, 2), strategy="dfs", progress=told.append)
    assert [p.schedules for p in told] == [16]
    assert (told[0].strategy, told[0].max_schedules, told[0].failures) == ("dfs", 10_000, 0)
    monkeypatch.undo()
    explore(with_anyio(2, 2), strategy="dfs", progress=told.append)
    assert len(told) == 1, "not more often than five times a second"


def test_a_replay_that_passes() -> None:
    """One schedule was run, and nothing failed: no more is said."""
    result = explore(with_anyio(2, 1), replay="t1*2")
    assert (result.verdict, result.schedules, result.strategy) == ("replayed", 1, "replay")
    assert result.notes == ()


@pytest.mark.parametrize(("schedule", "left"), [("t1*2.t0*9", 9), ("t1.other.t0", 1)])
def test_a_replay_of_another_program(schedule: str, left: int) -> None:
    """
    What does not fit is told, whether it was too long, or asked for somebody who cannot move.
    """
    result = explore(with_anyio(2, 1), replay=schedule)
    assert (result.failure is None) == (left == 9)
    (note,) = result.notes
    assert note.startswith("the schedule is of another program, or of this one before it was cha")
    assert f"{left} of its" in note


@backends
def test_chance_is_found_out_by_the_default_strategy(backend: str) -> None:
    """
    A scenario that draws lots is told by auto, and not called exhausted.
    """
    lots = random.Random(3)  # noqa: S311  the same lots each time the test runs

    async def draw() -> None:
        for _ in range(lots.randrange(4)):
            await checkpoint()

    async def scenario() -> None:
        async with anyio.create_task_group() as tg:
            for name in "abc":
                tg.start_soon(draw, name=name)

    failure = explore(scenario, backend=backend).failure
    assert failure is not None
    assert failure.kind == "nondeterminism"


@backends
def test_a_failure_that_does_not_come_again(backend: str) -> None:
    """The same schedule goes the same way and ends otherwise: that is what is told."""
    runs = 0

    async def scenario() -> None:
        nonlocal runs
        runs += 1
        await checkpoint()
        assert runs > 1, "only once"

    failure = explore(scenario, backend=backend).failure
    assert failure is not None
    assert failure.kind == "nondeterminism"
    assert "it failed (AssertionError: only once" in failure.message
    assert "the first 2 steps are the same" in failure.message


@backends
def test_the_first_step_that_differed(backend: str) -> None:
    """Where nobody had a choice the schedule cannot tell, but the names of who moved can."""
    runs = 0

    async def scenario() -> None:
        nonlocal runs
        runs += 1
        async with anyio.create_task_group() as tg:
            tg.start_soon(checkpoint, name=f"run{runs}")
        assert runs > 1, "only once"

    failure = explore(scenario, backend=backend).failure
    assert failure is not None
    assert failure.kind == "nondeterminism"
    assert "step 2 was made by run1, and now by run2" in failure.message


@backends
def test_what_went_another_way_is_shown_with_its_steps(backend: str) -> None:
    """A search that cannot follow its own path shows how far that was the same."""
    runs = 0

    async def scenario() -> None:
        nonlocal runs
        runs += 1
        async with anyio.create_task_group() as tg:
            tg.start_soon(checkpoint, name="a")
            tg.start_soon(checkpoint, name="c" if runs == 2 else "b")

    failure = explore(scenario, backend=backend, strategy="dfs").failure
    assert failure is not None
    assert failure.kind == "nondeterminism"
    assert failure.steps


@backends
def test_what_is_touched_by_hand_is_told(backend: str) -> None:
    """race.touch() names the conflict in the report, too."""

    async def scenario(race: Race) -> None:
        async def write(name: str) -> None:
            await checkpoint()
            race.touch(scenario, "file", write=True)
            order.append(name)

        order: list[str] = []
        async with anyio.create_task_group() as tg:
            tg.start_soon(write, "a", name="a")
            tg.start_soon(write, "b", name="b")
        assert order == ["a", "b"]

    failure = explore(scenario, backend=backend).failure
    assert failure is not None
    touched = [touch.what for step in failure.steps for touch in step.touched if touch.write]
    assert sum(what.endswith(".file") for what in touched) == 2


@pytest.mark.parametrize("strategy", ["random", "auto", "delay:2"])
def test_only_trees_have_parts(strategy: str) -> None:
    """A shard is a part of a full or a reduced search."""
    (first, *_) = _explorer.split(with_anyio(2, 1), 1, strategy="dfs")
    with pytest.raises(ValueError, match="has no parts: a shard is for dfs and dpor"):
        explore(with_anyio(2, 1), strategy=strategy, shard=first)


def test_the_parts_are_the_whole() -> None:
    """Each schedule is below one of them."""
    parts = _explorer.split(with_anyio(2, 2), 2, strategy="dfs")
    found = [explore(with_anyio(2, 2), strategy="dfs", shard=part).schedules for part in parts]
    assert sum(found) == orders(2, 2)


def test_a_result_in_words() -> None:
    """The verdict in a line; of a failure also what it was, and its schedule."""

    async def scenario() -> None:
        raise KeyError("x")

    assert str(explore(with_anyio(1, 1))) == "exhaustive: 2 schedules on asyncio by auto"
    words = str(explore(scenario)).splitlines()
    assert words[0] == "exception after sampled (1): 1 schedules on asyncio by auto"
    assert words[1:] == ["KeyError: 'x'", "schedule: -"]


async def _with_asyncio() -> None:
    await asyncio.sleep(0)


async def _with_asyncios_group() -> None:
    async with asyncio.TaskGroup() as tg:
        tg.create_task(asyncio.sleep(0))


async def _with_trio() -> None:
    await trio.lowlevel.checkpoint()


async def _with_trios_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)


@pytest.mark.parametrize(
    ("scenario", "home", "elsewhere"),
    [
        (_with_asyncio, "asyncio", "trio"),
        (_with_asyncios_group, "asyncio", "trio"),
        (_with_trio, "trio", "asyncio"),
        (_with_trios_nursery, "trio", "asyncio"),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
def test_what_is_of_another_loop(scenario: Any, home: str, elsewhere: str) -> None:
    """
    Beside the loop's own words, which few understand, stands what to do.
    """
    note = f"written for {home}: explore it with backend={home!r} only"
    assert note in str(explore(scenario, backend=elsewhere))
    assert explore(scenario, backend=home).failure is None
