"""What a step touches is seen: the reduced search ends in each way in which the full one does."""

from __future__ import annotations

import io
from array import array
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from aiopde.testing._accesses import ADD, READ, WRITE, conflict
from tests.testing._programs import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from aiopde.testing import Race

backends = pytest.mark.parametrize("backend", BACKENDS)


def same_ends(scenario: Callable[..., Awaitable[object]], backend: str = "asyncio") -> Any:
    """Explore in full and reduced; return the reduced result, having compared the outcomes."""
    full = explore(scenario, backend=backend, strategy="dfs")
    reduced = explore(scenario, backend=backend, strategy="dpor")
    assert full.failure is reduced.failure is None
    assert len(full.outcomes) > 1
    assert set(reduced.outcomes) == set(full.outcomes)
    assert reduced.schedules <= full.schedules
    return reduced


async def both(*calls: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async with anyio.create_task_group() as tg:
        for number, call in enumerate(calls):
            tg.start_soon(call, name=f"t{number}")


class Box:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


@backends
class TestAttributes:
    @pytest.mark.parametrize("kind", [Box, Slotted])
    def test_read_and_written(self, backend: str, kind: Any) -> None:
        """A lost update on an attribute, in a dictionary or a slot."""

        async def scenario() -> object:
            box = kind(0)

            async def add() -> None:
                before = box.value
                await checkpoint()
                box.value = before + 1

            await both(add, add)
            return box.value

        assert same_ends(scenario, backend).verdict == "exhaustive"

    @pytest.mark.parametrize("kind", [Box, Slotted])
    def test_deleted(self, backend: str, kind: Any) -> None:
        """That an attribute is gone is seen by who looks for it."""

        async def scenario() -> object:
            box, found = kind(1), Box(None)

            async def delete() -> None:
                await checkpoint()
                del box.value

            async def look() -> None:
                await checkpoint()
                found.value = hasattr(box, "value")

            await both(delete, look)
            return found.value

        same_ends(scenario, backend)

    def test_of_the_class_until_it_is_hidden(self, backend: str) -> None:
        """A default of the class is read, and an object's own value written, at the same name."""

        class Defaults:
            level = 0

        async def scenario() -> object:
            box, found = Defaults(), Box(None)

            async def write() -> None:
                await checkpoint()
                box.level = 1

            async def read() -> None:
                await checkpoint()
                found.value = box.level

            await both(write, read)
            return found.value

        same_ends(scenario, backend)

    def test_what_nobody_shares(self, backend: str) -> None:
        """Two tasks with objects of their own are one class."""

        async def scenario() -> object:
            async def add(box: Box) -> None:
                box.value += 1
                await checkpoint()
                box.value += 1

            boxes = Box(0), Box(0)
            await both(lambda: add(boxes[0]), lambda: add(boxes[1]))
            return None

        assert explore(scenario, backend=backend, strategy="dpor").schedules == 1


CONTAINERS: dict[str, tuple[Callable[[], Any], Callable[[Any, int], Any]]] = {
    "list": (list, lambda c, n: c.append(n)),
    "dict": (dict, lambda c, n: c.update(last=n)),
    "set": (set, lambda c, n: (c.add(n), len(c) == 1 and c.add(n + 10))),
    "deque": (deque, lambda c, n: c.append(n)),
    "bytearray": (bytearray, lambda c, n: c.append(n)),
    "namespace": (lambda: SimpleNamespace(x=0), lambda c, n: setattr(c, "x", n)),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("held", ["attribute", "variable"])
def test_containers(name: str, held: str) -> None:
    """What is in a list, a dictionary … is compared, whoever holds it."""
    make, change = CONTAINERS[name]

    async def scenario() -> object:
        here = make()
        box = Box(here)

        async def put(number: int) -> None:
            await checkpoint()
            change(box.value if held == "attribute" else here, number)

        await both(lambda: put(1), lambda: put(2))
        return str(here)

    full = explore(scenario, strategy="dfs")
    reduced = explore(scenario, strategy="dpor")
    assert len(full.outcomes) == 2
    assert set(reduced.outcomes) == set(full.outcomes)


@pytest.mark.parametrize(
    "thing",
    [lambda: iter("ab"), lambda: array("i"), lambda: io.BytesIO()],
    ids=["iterator", "array", "BytesIO"],
)
def test_what_changes_unseen(thing: Callable[[], object]) -> None:
    """An iterator, an array or a stream that two tasks have at hand: no proof, and named."""

    async def scenario() -> object:
        shared = thing()

        async def hold(held: object) -> None:
            await checkpoint()
            repr(held)

        await both(lambda: hold(shared), lambda: hold(shared))
        return None

    result = explore(scenario, strategy="dpor")
    assert result.verdict != "exhaustive"
    assert any("that several tasks use" in note for note in result.notes)


@backends
def test_timers(backend: str) -> None:
    """Who wakes by the clock comes after all that could move before it was set forward."""

    async def scenario() -> object:
        box = Box(0)

        async def late() -> None:
            await anyio.sleep(5)
            box.value = box.value * 2

        async def soon() -> None:
            await checkpoint()
            box.value += 1

        await both(late, soon, soon)
        return box.value

    result = explore(scenario, backend=backend, strategy="dpor")
    assert set(result.outcomes) == {4}
    assert result.verdict == "exhaustive"


@backends
def test_invariants_see_each_state(backend: str) -> None:
    """Steps depend on each other if an invariant looks at what they write, be it only at times."""

    async def scenario(race: Race) -> object:
        a, b = Box(0), Box(0)
        race.always(lambda: not (a.value and not b.value), "b before a")

        async def set_a() -> None:
            await checkpoint()
            a.value = 1

        async def set_b() -> None:
            await checkpoint()
            b.value = 1

        await both(set_b, set_a)
        return None

    failure = explore(scenario, backend=backend, strategy="dpor").failure
    assert failure is not None
    assert failure.kind == "invariant"
    assert "b before a does not hold" in failure.message
    assert any(touch.write for touch in failure.steps[-1].touched)


@backends
@pytest.mark.parametrize("strategy", ["dpor", "dfs"])
def test_what_is_done_aside_counts_for_nothing(backend: str, strategy: str) -> None:
    """A check, or a note for one, puts no order between the steps it is about."""

    async def scenario(race: Race) -> object:
        seen: list[int] = []
        race.always(lambda: race.aside(lambda: len(seen) < 3), "two of them")

        async def note() -> None:
            await checkpoint()
            race.aside(lambda: seen.append(1))

        await both(note, note)
        return race.aside(lambda: len(seen))

    result = explore(scenario, backend=backend, strategy=strategy)
    assert set(result.outcomes) == {2}
    assert result.verdict == "exhaustive"
    # On asyncio the group cares about who ends last.
    assert (result.schedules <= 2) is (strategy == "dpor")


def test_conflicts() -> None:
    """Reads commute, so do ends of tasks; nothing else does."""
    assert not conflict({1: READ}, {1: READ})
    assert not conflict({1: ADD}, {1: ADD})
    assert not conflict({1: WRITE}, {2: WRITE})
    assert conflict({1: READ}, {2: READ, 1: WRITE})
    assert conflict({2: READ, 1: WRITE}, {1: WRITE})
    assert conflict({1: ADD}, {1: READ})
