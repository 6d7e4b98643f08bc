"""A list is known by every place where tasks meet it: whoever comes first gives it no name."""

from __future__ import annotations

import types
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.testing.test_footprint import both
from tests.testing.test_soundness import searched
from tests.testing.test_variables import needs_a_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Push = Callable[[str], object]
    Scenario = Callable[[], Awaitable[object]]

pytestmark = needs_a_place


class Box:
    def __init__(self, items: list[str]) -> None:
        self.items = items


class Pair(NamedTuple):
    items: list[str]


kept: list[str] = []
again = kept
LEFT, RIGHT = Box(kept), Box(kept)


def default(word: str, items: list[str] = []) -> list[str]:  # noqa: B006  that is what is tested
    items.append(word)
    return items


def only_by_name(word: str, *, items: list[str] = []) -> list[str]:  # noqa: B006  as above
    items.append(word)
    return items


def begin_with(items: list[str]) -> list[str]:
    items.clear()
    return items


def of_the_module() -> tuple[Push, Push, list[str]]:
    begin_with(kept)
    return lambda word: kept.append(word), lambda word: again.append(word), kept


def of_two_objects() -> tuple[Push, Push, list[str]]:
    begin_with(kept)
    return lambda word: LEFT.items.append(word), lambda word: RIGHT.items.append(word), kept


def of_two_functions() -> tuple[Push, Push, list[str]]:
    left = right = begin_with([])
    return lambda word: left.append(word), lambda word: right.append(word), left


def as_defaults() -> tuple[Push, Push, list[str]]:
    return default, default, begin_with(default(""))


def as_defaults_by_name() -> tuple[Push, Push, list[str]]:
    return only_by_name, only_by_name, begin_with(only_by_name(""))


def as_defaults_of_the_scenario() -> tuple[Push, Push, list[str]]:
    items: list[str] = []

    def push(word: str, items: list[str] = items) -> None:
        items.append(word)

    return push, push, items


def in_two_others() -> tuple[Push, Push, list[str]]:
    items: list[str] = []
    left, right = [items], (items,)
    return lambda word: left[0].append(word), lambda word: right[0].append(word), items


def as_methods() -> tuple[Push, Push, list[str]]:
    push = list[str]().append
    return lambda word: push(word), lambda word: push(word), push.__self__  # type: ignore[attr-defined]


def in_partials() -> tuple[Push, Push, list[str]]:
    push = partial(default, items=[])
    return lambda word: push(word), lambda word: push(word), push.keywords["items"]


def in_a_named_tuple() -> tuple[Push, Push, list[str]]:
    pair = Pair([])
    return lambda word: pair.items.append(word), lambda word: pair.items.append(word), pair.items


def in_an_error() -> tuple[Push, Push, list[str]]:
    error = ValueError([])
    items: list[str] = error.args[0]
    return lambda word: error.args[0].append(word), lambda word: error.args[0].append(word), items


def with_each_end(ways: tuple[Push, Push, list[str]]) -> Scenario:
    left, right, items = ways

    async def use(push: Push, word: str) -> None:
        push(word)
        await checkpoint()
        push(word)

    async def scenario() -> object:
        items.clear()
        await both(lambda: use(left, "l"), lambda: use(right, "r"))
        return tuple(items)

    return scenario


WAYS: list[Callable[[], tuple[Push, Push, list[str]]]] = [
    *(of_the_module, of_two_objects, of_two_functions),
    *(as_defaults, as_defaults_by_name, as_defaults_of_the_scenario),
    *(in_two_others, as_methods, in_partials, in_a_named_tuple, in_an_error),
]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("ways", WAYS)
def test_two_ways_to_one_list(ways: Any, backend: Any) -> None:
    """Two tasks that add to one list, each by a way of its own: six orders, and all are found."""
    outcomes, result = searched(with_each_end(ways()), backend)
    assert len(outcomes) == 6
    assert set(result.outcomes) == outcomes
    assert result.verdict == "exhaustive"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("ways", WAYS)
def test_made_anew_in_each_execution(ways: Any, backend: Any) -> None:
    """The same, where the list and the ways to it are the scenario's own."""

    async def scenario() -> object:
        return await with_each_end(ways())()

    outcomes, result = searched(scenario, backend)
    assert set(result.outcomes) == outcomes
    assert result.verdict == "exhaustive"


def views(items: dict[str, int]) -> dict[str, Any]:
    return {"keys": items.keys(), "proxy": types.MappingProxyType(items), "iterator": iter(items)}


@pytest.mark.parametrize("kind", ["keys", "proxy"])
def test_a_view(kind: str) -> None:
    """Who looks through a view of a dictionary has that at hand."""

    async def scenario() -> object:
        items: dict[str, int] = {}
        view, seen = views(items)[kind], Box([])

        def put(items: dict[str, int] = items) -> None:
            items["x"] = 1

        async def write() -> None:
            put()

        async def read() -> None:
            seen.items = list(view)

        await both(write, read)
        return tuple(seen.items)

    outcomes, result = searched(scenario)
    assert set(result.outcomes) == outcomes == {(), ("x",)}
    assert result.verdict == "exhaustive"


def test_lists_that_pass_from_task_to_task() -> None:
    """One that is sent over a stream is the same for who sent it and who got it."""

    async def scenario() -> object:
        send, receive = anyio.create_memory_object_stream[list[str]](2)
        items: list[str] = []
        send.send_nowait(items)
        send.send_nowait(items)

        async def use(word: str) -> None:
            mine = await receive.receive()
            mine.append(word)
            await checkpoint()
            mine.append(word)

        with send, receive:
            await both(lambda: use("l"), lambda: use("r"))
        return tuple(items)

    outcomes, result = searched(scenario)
    assert set(result.outcomes) == outcomes
    assert result.verdict == "exhaustive"


def test_what_a_task_has_for_itself_is_nobody_elses() -> None:
    """Lists of one name, one for each task, leave one schedule."""

    async def scenario() -> object:
        async def use() -> None:
            mine = [0]
            await checkpoint()
            mine.append(1)

        await both(use, use)
        return None

    _, result = searched(scenario)
    assert result.schedules == 1
