"""What explore() refuses: at once, with what is wrong, why, and what to write instead."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from anyio.lowlevel import checkpoint

from aiopde.testing import explore

from ._programs import BACKENDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from aiopde.testing import Race


async def takes_two(a: object, b: object) -> object:
    await checkpoint()
    return a, b


async def takes_options(*, n: int = 3) -> int:
    await checkpoint()
    return n


async def takes_race(race: Race) -> str:
    await checkpoint()
    return type(race).__name__


async def generates() -> AsyncGenerator[int]:  # pragma: no cover  it is refused before
    yield 1


class Scenario:
    """One that keeps something."""

    async def method(self) -> str:
        await checkpoint()
        return "method"

    async def __call__(self, race: Race) -> str:
        await checkpoint()
        return f"call with {type(race).__name__}"


def forgot_async() -> None:
    pass


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        (takes_race, "Race"),
        (takes_options, 3),
        (partial(takes_options, n=4), 4),
        (partial(takes_two, 1, 2), (1, 2)),
        (lambda: takes_two(3, 4), (3, 4)),
        (partial(takes_race), "Race"),
        (Scenario().method, "method"),
        (Scenario(), "call with Race"),
    ],
)
def test_what_a_scenario_may_be(scenario: Any, outcome: object, backend: str) -> None:
    """Any function whose result can be awaited, with one argument or none."""
    assert set(explore(scenario, backend=backend).outcomes) == {outcome}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        (forgot_async, r"wants an async function, and forgot_async\(\) returned None"),
        (generates, "wants an async function, not <function generates"),
        (None, r"not None: pass the function itself, as in explore\(scenario\)"),
        (takes_two, r"takes_two\(a: .*\) -> .* wants others: pass explore\(functools\.partial"),
    ],
)
def test_what_a_scenario_may_not_be(scenario: Any, error: str, backend: str) -> None:
    """The error is explore's own, and no failure of the scenario."""
    with pytest.raises(TypeError, match=error):
        explore(scenario, backend=backend)


def test_a_coroutine_is_no_scenario() -> None:
    """It could be run only once; and nobody is warned that it was not awaited."""
    wrong: Any = takes_options()
    with pytest.raises(TypeError, match="not <coroutine object takes_options"):
        explore(wrong)


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"strategy": None}, "strategy= wants a name, such as 'auto' or 'delay:2', not None"),
        ({"cancel": 3}, r"cancel= wants the names of tasks, not 3: .* cancel=\['reader'\]"),
        ({"cancel": ["a", len]}, "not <built-in function len>: give the task a name"),
        ({"cancel": iter(["a"])}, "wants the names of tasks, not <list_iterator"),
        ({"track": Scenario}, r"pass track=\[Scenario\]"),
        ({"track": [3]}, r"track= wants classes, not 3: pass track=\[int\]"),
        ({"track": "Scenario"}, "track= wants classes, not 'Scenario'"),
        ({"seed": None}, "seed= wants a whole number or a text, not None"),
        ({"progress": 3}, "progress= wants a function that takes a Progress, not 3"),
        ({"max_steps": 1e3}, r"max_steps= wants a whole number, not 1000\.0"),
        ({"replay": ["a", "b"]}, r"replay= wants a schedule .* not \['a', 'b'\]"),
        ({"executor": 3}, "wants an executor of concurrent.futures, or None, not 3"),
    ],
)
def test_arguments_of_another_type(argument: dict[str, Any], error: str) -> None:
    """Each says what it wants, and shows what it got."""
    with pytest.raises(TypeError, match=error):
        explore(takes_options, **argument)


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ({"max_schedules": 0}, "max_schedules= wants at least 1, not 0"),
        ({"max_steps": -3}, "max_steps= wants at least 1, not -3"),
        ({"strategy": "pct:0"}, "no strategy 'pct:0': a bug needs at least one ordering"),
        ({"strategy": "delay:-1"}, "after the colon comes a number, as in 'delay:2'"),
        ({"replay": "a b"}, "not a schedule: 'a b'.*one looks like"),
        ({"cancel": ["nobody"]}, "cancel= names nobody, .*: there are main"),
    ],
)
def test_values_that_make_no_sense(argument: dict[str, Any], error: str) -> None:
    """Nothing is run where nothing could come of it."""
    with pytest.raises(ValueError, match=error):
        explore(takes_options, **argument)


def run_on_asyncio(main: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(main())  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("run", [run_on_asyncio, trio.run], ids=BACKENDS)
def test_inside_a_loop(run: Any, backend: str) -> None:
    """A loop cannot run in another: said before anything is started, on whatever loop it is."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="call it from a plain function, or mark the async"):
            explore(takes_options, backend=backend)

    run(main)


@pytest.mark.parametrize("backend", BACKENDS)
def test_inside_a_scenario(backend: str) -> None:
    """The same, and the exploration around it goes on."""

    async def scenario() -> None:
        explore(takes_options, backend=backend)

    failure = explore(scenario, backend=backend).failure
    assert failure is not None
    assert failure.message.startswith("RuntimeError: explore() runs loops of its own")
    assert explore(takes_options, backend=backend).failure is None
