"""One execution for each class of equivalent schedules: no class is missed, and none met twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings, strategies as st

from aiopde.testing import explore
from tests.testing._guard import Guard, race_of
from tests.testing._programs import (
    BACKENDS,
    Program,
    all_classes,
    reduced_classes,
    scenario_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiopde.testing import Race


def programs(*kinds: str) -> st.SearchStrategy[Program]:
    op = st.tuples(st.sampled_from(kinds), st.sampled_from("xyz"))
    # At most 90 orders: all of them are run, and more than once.
    few = st.lists(st.lists(op, min_size=1, max_size=3), min_size=2, max_size=2)
    short = st.lists(st.lists(op, min_size=1, max_size=2), min_size=3, max_size=3)
    return st.one_of(few, short)


def check(program: Program, backend: str, cancel: Collection[str] = ()) -> None:
    scenario = scenario_of(program)
    everything = all_classes(scenario, backend, cancel)
    met, executions = reduced_classes(scenario, backend, cancel)
    assert set(met) == set(everything)
    assert met == everything
    assert all(len(outcomes) == 1 for outcomes in everything.values())
    assert len(met) == sum(not execution.cut for execution in executions)


@pytest.mark.parametrize("backend", BACKENDS)
class TestRandomPrograms:
    @settings(max_examples=15)
    @given(program=programs("read", "write"))
    def test_reads_and_writes(self, backend: str, program: Program) -> None:
        """Each class of all schedules is met exactly once, and ends alike."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("read", "write", "look"))
    def test_what_is_touched_depends_on_what_was_read(self, backend: str, program: Program) -> None:
        """Also where a step touches something else once it comes first: wakeup trees fail here."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("read", "write", "look", "set", "wait"))
    def test_events(self, backend: str, program: Program) -> None:
        """Also where tasks wake others, or wait for ever."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("put", "get", "delete"))
    def test_keys_of_a_dictionary(self, backend: str, program: Program) -> None:
        """Also where each key is looked at by itself, and their order counts."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("has", "any", "append", "drop", "put"))
    def test_elements_of_a_list(self, backend: str, program: Program) -> None:
        """Also where one element is asked for, or whether there is any."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("enter", "find", "count", "know", "forget", "store"))
    def test_keys_and_elements_of_variables(self, backend: str, program: Program) -> None:
        """Also where it is variables that hold dictionaries and lists."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("store", "bump", "peek", "grow"))
    def test_places_of_a_list(self, backend: str, program: Program) -> None:
        """Also where each place of a list is looked at by itself, and it grows."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("write", "look", "crash", "cancel", "spawn"))
    def test_crashes_cancellations_and_spawns(self, backend: str, program: Program) -> None:
        """Also where a task crashes, which cancels the others, cancels all, or starts another."""
        check(program, backend)

    @settings(max_examples=15)
    @given(program=programs("write", "look", "read"))
    def test_a_cancellation_as_a_choice(self, backend: str, program: Program) -> None:
        """Also where a cancellation may come to a task at any of its checkpoints."""
        check(program[:2], backend, ["t0"])


def test_wakeup_trees_would_lose_a_class() -> None:
    """The smallest program found on which they did, as one task looks before it writes."""
    look, write = "look", "write"
    check(
        [[(look, "x"), (look, "x"), (look, "y")], [(write, "x"), (write, "x")], [(look, "z")]],
        "trio",
    )


def test_a_sleeping_step_touches_what_it_touches_there() -> None:
    """To drop the last element depends on the look whether there is any; to drop another, not."""
    check([[("drop", "y")], [("has", "x"), ("append", "x")], [("any", "x")]], "trio")


class Shared:
    """What tasks share."""

    def __init__(self) -> None:
        self.table: dict[str, object] = {"a": None, "b": None}
        self.files = [Shared.__name__]


class Alias(str):
    """Equal to a string, and none."""

    __slots__ = ()


@pytest.mark.parametrize("backend", BACKENDS)
class TestParts:
    def test_keys_do_not_depend_on_each_other(self, backend: str) -> None:
        """Two tasks that each have a key of one dictionary have one order."""

        async def scenario() -> object:
            shared = Shared()

            async def put(key: str) -> None:
                shared.table[key] = key

            async with anyio.create_task_group() as tg:
                tg.start_soon(put, "a")
                tg.start_soon(put, "b")
            return tuple(shared.table.values())

        assert explore(scenario, backend=backend, strategy="dpor").schedules == 1

    def test_new_keys_come_in_an_order(self, backend: str) -> None:
        """Two tasks that each add a key have two."""

        async def scenario() -> object:
            shared = Shared()

            async def put(key: str) -> None:
                shared.table[key] = key

            async with anyio.create_task_group() as tg:
                tg.start_soon(put, "c")
                tg.start_soon(put, "d")
            return tuple(shared.table)

        result = explore(scenario, backend=backend, strategy="dpor")
        assert set(result.outcomes) == {("a", "b", "c", "d"), ("a", "b", "d", "c")}

    def test_what_is_equal_to_a_key_may_be_that_key(self, backend: str) -> None:
        """A key that is no plain string may be equal to one."""

        async def scenario() -> object:
            shared = Shared()
            shared.table[Alias("c")] = None
            found: list[object] = []

            async def look(shared: Shared, key: str) -> None:
                found.append(shared.table[key])

            async def put(key: Alias) -> None:
                shared.table[key] = "new"

            async with anyio.create_task_group() as tg:
                tg.start_soon(look, shared, "c")
                tg.start_soon(put, Alias("c"))
            return found[0]

        assert set(explore(scenario, backend=backend, strategy="dpor").outcomes) == {None, "new"}

    def test_a_choice_of_elements_is_a_use_of_the_whole(self, backend: str) -> None:
        """Where it cannot be told which element is asked for, it may be any."""

        async def scenario() -> object:
            shared = Shared()
            found: list[bool] = []

            async def look(first: str, second: str) -> None:
                found.append((first if len(second) > 1 else second) in shared.files)

            async def add(name: str) -> None:
                shared.files.append(name)

            async with anyio.create_task_group() as tg:
                tg.start_soon(look, "a", "b")
                tg.start_soon(add, "b")
            return found[0]

        assert set(explore(scenario, backend=backend, strategy="dpor").outcomes) == {True, False}


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failure_leaves_the_rest_of_an_execution_unseen(backend: str) -> None:
    """What breaks an execution off hides its races: then the verdict is not *exhaustive*."""

    async def scenario(race: Race) -> None:
        shared = Shared()
        race.always(lambda: shared.table["a"] is None)

        async def put() -> None:
            shared.table["a"] = 1

        async with anyio.create_task_group() as tg:
            tg.start_soon(put)
            tg.start_soon(anyio.lowlevel.checkpoint)

    result = explore(scenario, backend=backend, strategy="dpor", keep_going=True)
    assert result.failures
    assert result.verdict == "bounded (executions cut short)"
    assert "mend what fails, and explore again" in str(result)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_deadlock_hides_the_cancellations_that_would_end_it(backend: str) -> None:
    """Where nobody can move, a cancellation is no choice; then the verdict is not *exhaustive*."""

    async def scenario() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.Event().wait, name="waiter")
            tg.start_soon(anyio.lowlevel.checkpoint)

    search = partial(explore, scenario, backend=backend, strategy="dpor", keep_going=True)
    assert search().verdict == "exhaustive"
    assert search(cancel=["waiter"]).verdict == "bounded (executions cut short)"


@pytest.mark.parametrize("backend", BACKENDS)
class TestTheGuard:
    def test_the_space_of_s(self, backend: str) -> None:
        """Two readers, a remover, a closer: 658 schedules, 92 classes, at most 100 executions."""
        result = explore(race_of(Guard), backend=backend, strategy="dpor")
        assert result.verdict == "exhaustive"
        assert result.schedules - result.blocked == 92
        assert result.blocked <= 3

    def test_two_entries(self, backend: str) -> None:
        """What two entries do does not depend on each other: 12 classes times 12, few asleep."""
        scenario = race_of(Guard, readers=1, entries=2)
        result = explore(scenario, backend=backend, strategy="dpor")
        assert result.schedules - result.blocked == 144
        assert result.schedules <= 151

    def test_every_outcome_is_reached(self, backend: str) -> None:
        """What the reduced search sees is what the full one sees."""
        reduced = explore(race_of(Guard), backend=backend, strategy="dpor")
        full = explore(race_of(Guard), backend=backend, strategy="dfs")
        assert full.schedules == 658
        assert set(reduced.outcomes) == set(full.outcomes)

    def test_a_cancellation_at_every_checkpoint_of_a_reader(self, backend: str) -> None:
        """All of that with a cancellation of one reader anywhere: at most 300 executions."""
        result = explore(race_of(Guard), backend=backend, strategy="dpor", cancel=["r0"])
        assert result.verdict == "exhaustive"
        assert result.schedules <= 300
        assert result.failure is None


class Cached:
    """What is made once, in the first execution, and kept."""

    def __init__(self) -> None:
        self.n = 0


cache: dict[str, Cached] = {}


class Plain:
    def __init__(self) -> None:
        self.n = 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_kept_from_one_execution_to_the_next(backend: Any) -> None:
    """
    A cache shifts the names of what is made after it; the search begins again, and misses nothing.
    """

    async def scenario() -> object:
        cached = cache.get("x") or cache.setdefault("x", Cached())
        plain, other = Plain(), Plain()

        async def add(first: Plain, second: Plain) -> None:
            before = first.n
            await anyio.lowlevel.checkpoint()
            second.n = before + 1

        async with anyio.create_task_group() as tg:
            tg.start_soon(add, plain, other, name="a")
            tg.start_soon(add, other, plain, name="b")
        return plain.n, other.n, cached.n

    cache.clear()
    full = explore(scenario, backend=backend, strategy="dfs")
    cache.clear()
    reduced = explore(scenario, backend=backend, strategy="dpor")
    assert set(reduced.outcomes) == set(full.outcomes)
    assert reduced.verdict == "exhaustive"
    again = explore(scenario, backend=backend, strategy="dpor")
    assert again.schedules < reduced.schedules


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_end_to_what_is_kept(backend: Any) -> None:
    """If each execution touches something else, that is told, and there is an end to it."""
    grown: list[Plain] = []

    async def scenario() -> object:
        grown.extend((Plain(), Plain()))
        newest = len(grown) - 1

        async def add() -> None:
            before = sum(plain.n for plain in grown[:-1]) * 0 + grown[newest].n
            await anyio.lowlevel.checkpoint()
            grown[newest].n = before + 1

        async with anyio.create_task_group() as tg:
            tg.start_soon(add, name="a")
            tg.start_soon(add, name="b")
        return grown[newest].n

    result = explore(scenario, backend=backend, strategy="dpor", max_schedules=200)
    assert "something that is kept from one schedule to the next" in result.notes


class Circle:
    n: int
    me: object


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_no_init_made_is_told(backend: Any) -> None:
    """It looks like something that is kept, if it is a circle: the note names its class."""

    async def scenario() -> object:
        circle = Circle.__new__(Circle)
        circle.n, circle.me = 0, circle

        async def add() -> None:
            before = circle.n
            await anyio.lowlevel.checkpoint()
            circle.n = before + 1

        async with anyio.create_task_group() as tg:
            tg.start_soon(add, name="a")
            tg.start_soon(add, name="b")
        return circle.n

    result = explore(scenario, backend=backend, strategy="dpor")
    assert result.verdict == "bounded (not every access can be seen)"
    assert any("is made anew, and by no __init__: Circle" in note for note in result.notes)
