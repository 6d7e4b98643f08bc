"""Executions: every order is reached once, failures are seen, a schedule can be replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import RaceFoundError, explore
from tests.testing._guard import MUTANTS, race_of
from tests.testing._programs import BACKENDS, orders, with_anyio, with_asyncio, with_trio
from tests.testing._scenarios import heeds_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiopde.testing import Race

KINDS: list[tuple[str, Callable[[int, int], Any]]] = [
    ("asyncio", with_asyncio),
    ("asyncio", with_anyio),
    ("trio", with_trio),
    ("trio", with_anyio),
]
IDS = ["asyncio", "anyio on asyncio", "trio", "anyio on trio"]

backends = pytest.mark.parametrize("backend", BACKENDS)


class TestCompleteControl:
    @pytest.mark.parametrize(("backend", "make"), KINDS, ids=IDS)
    @pytest.mark.parametrize(("tasks", "checkpoints"), [(2, 2), (2, 4), (3, 2), (1, 3)])
    def test_every_order_once(self, backend: str, make: Any, tasks: int, checkpoints: int) -> None:
        """a tasks of k checkpoints have exactly (a(k+1))! / ((k+1)!)^a schedules."""
        result = explore(make(tasks, checkpoints), backend=backend, strategy="dfs")
        assert result.verdict == "exhaustive"
        assert result.schedules == orders(tasks, checkpoints)

    @pytest.mark.parametrize(("backend", "make"), KINDS, ids=IDS)
    def test_delays_without_bound_are_every_order(self, backend: str, make: Any) -> None:
        """Enough delays reach each of them, and each once."""
        result = explore(make(3, 2), backend=backend, strategy="delay:99")
        assert (result.verdict, result.schedules) == ("exhaustive", orders(3, 2))


@backends
class TestFailures:
    def test_an_exception(self, backend: str) -> None:
        """What a task raises is reported without the groups around it."""

        async def scenario() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(_divide)

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert (failure.kind, failure.message) == ("exception", "ZeroDivisionError: by zero")

    def test_an_invariant_after_any_step(self, backend: str) -> None:
        """What always holds is looked at after each step; the schedule ends there."""

        async def scenario(race: Race) -> None:
            values: list[int] = []

            async def add(value: int) -> None:
                values.append(value)
                await checkpoint()
                values.append(value)

            race.always(lambda: values != [1, 2, 2], "never 1 2 2")
            async with anyio.create_task_group() as tg:
                tg.start_soon(add, 1, name="one")
                tg.start_soon(add, 2, name="two")

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert failure.kind == "invariant"
        assert "never 1 2 2" in failure.message
        assert str(failure.schedule) == "one.two*2"

    def test_an_invariant_that_raises(self, backend: str) -> None:
        """What it raises is why it does not hold."""

        async def scenario(race: Race) -> None:
            race.always(lambda: next(iter("")) == "x", "has a first")
            await checkpoint()

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert (failure.kind, type(failure.exception)) == ("invariant", StopIteration)
        assert "has a first does not hold: StopIteration(" in failure.message

    def test_two_invariants_at_once(self, backend: str) -> None:
        """The one that was named first is reported."""

        async def scenario(race: Race) -> None:
            race.always(lambda: False, "first")
            race.always(lambda: False, "second")
            await checkpoint()

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert "first does not hold" in failure.message

    def test_what_a_scenario_returns_need_not_be_hashable(self, backend: str) -> None:
        """Outcomes are counted by what they look like, then."""

        async def scenario() -> list[int]:
            await checkpoint()
            return [1]

        assert set(explore(scenario, backend=backend).outcomes) == {"[1]"}

    def test_a_deadlock_says_who_waits_for_what(self, backend: str) -> None:
        """Two tasks and two locks: found, with each task's stack."""

        async def both(first: anyio.Lock, second: anyio.Lock) -> None:
            async with first, second:
                pass

        async def scenario() -> None:
            a, b = anyio.Lock(), anyio.Lock()
            async with anyio.create_task_group() as tg:
                tg.start_soon(both, a, b, name="ab")
                tg.start_soon(both, b, a, name="ba")

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert failure.kind == "deadlock"
        assert [waiter.task for waiter in failure.waiting] == ["main", "ab", "ba"]
        assert "Lock" in failure.waiting[1].what
        assert failure.waiting[1].stack

    def test_a_livelock(self, backend: str) -> None:
        """A loop that nobody ends is told from one that ends once others get their turn."""

        async def scenario() -> None:
            while True:
                await checkpoint()

        failure = explore(scenario, backend=backend, max_steps=50).failure
        assert failure is not None
        assert failure.kind == "livelock"
        assert "nobody ends that, or max_steps= is too small" in failure.message

    @pytest.mark.parametrize("strategy", ["auto", "dfs", "dpor", "delay:99"])
    def test_a_loop_that_others_end_is_no_livelock(self, backend: str, strategy: str) -> None:
        """Turn and turn about, the flag is set; the verdict says that loops were cut short."""

        async def scenario() -> None:
            done = anyio.Event()

            async def poll() -> None:
                while not done.is_set():
                    await checkpoint()

            async def finish() -> None:
                done.set()

            async with anyio.create_task_group() as tg:
                tg.start_soon(poll)
                tg.start_soon(finish)

        result = explore(scenario, backend=backend, max_steps=30, strategy=strategy)
        assert result.failure is None
        what = "executions" if strategy == "dpor" else "loops"
        assert result.verdict == f"bounded ({what} cut short)"
        assert "give it an end, or raise max_steps=" in str(result)

    @pytest.mark.parametrize("strategy", ["dfs", "dpor"])
    def test_what_is_not_deterministic(self, backend: str, strategy: str) -> None:
        """The same schedule that goes another way is told, with the first step that differs."""
        runs = 0

        async def scenario(race: Race) -> None:
            nonlocal runs
            runs += 1

            async def write() -> None:
                await checkpoint()
                race.touch(scenario, write=True)

            async with anyio.create_task_group() as tg:
                tg.start_soon(write, name="a")
                tg.start_soon(write, name="b" if runs % 2 else "c")

        failure = explore(scenario, backend=backend, strategy=strategy).failure
        assert failure is not None
        assert failure.kind == "nondeterminism"
        assert {"dfs": "b, a, and now c, a", "dpor": "by b, and now only c"}[
            strategy
        ] in failure.message

    def test_what_is_not_deterministic_when_it_is_shrunk(self, backend: str) -> None:
        """Others can move than did after the same choices: that is told, with the usual reasons."""
        runs = 0

        async def scenario() -> None:
            nonlocal runs
            runs += 1
            log: list[str] = []

            async def note(name: str) -> None:
                log.append(name)
                await checkpoint()
                log.append(name)

            async with anyio.create_task_group() as tg:
                for name in "ab" if runs < 4 else "xy":
                    tg.start_soon(note, name, name=name)
            assert log != ["a", "b", "a", "b"]  # by turns, as it is begun with

        result = explore(scenario, backend=backend)
        assert result.failure is not None
        assert result.failure.kind == "nondeterminism"
        assert "a could move after the same choices, and now only x, y can" in str(result)
        assert "the usual reasons: sets of objects" in str(result)

    @pytest.mark.parametrize("strategy", ["auto", "dfs"])
    def test_what_outlives_an_execution(self, backend: str, strategy: str) -> None:
        """A schedule that passed and then fails is no race, but something that is left over."""
        left: list[int] = []

        async def scenario() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(checkpoint, name="a")
                tg.start_soon(checkpoint, name="b")
            left.append(1)
            assert len(left) < 2

        failure = explore(scenario, backend=backend, strategy=strategy).failure
        assert failure is not None
        assert failure.kind == "nondeterminism"
        assert "the first schedule has passed, and now fails too" in failure.message

    def test_the_next_execution_is_not_harmed(self, backend: str) -> None:
        """A deadlock in a shielded wait is cleared away, and the search goes on."""

        async def scenario() -> None:
            event = anyio.Event()

            async def wait() -> None:
                with anyio.CancelScope(shield=True):
                    await event.wait()

            async with anyio.create_task_group() as tg:
                tg.start_soon(wait)
                tg.start_soon(checkpoint)

        result = explore(scenario, backend=backend, strategy="dfs", keep_going=True)
        assert result.failures == result.schedules > 1

    def test_an_interrupt_ends_the_search(self, backend: str) -> None:
        """Ctrl-C is no failure of the scenario."""

        async def scenario() -> None:
            await checkpoint()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            explore(scenario, backend=backend)

    def test_an_exit_is_a_failure(self, backend: str) -> None:
        """A task that wants to end the process does not end the search."""

        async def leave() -> None:
            raise SystemExit(3)

        async def scenario() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(leave)

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert failure.message == "SystemExit: 3"

    def test_raise_if_failed(self, backend: str) -> None:
        """What was found is raised with the scenario's own exception as its cause."""

        result = explore(_divide, backend=backend)
        with pytest.raises(RaceFoundError) as caught:
            result.raise_if_failed()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
        explore(checkpoint, backend=backend).raise_if_failed()


async def _divide() -> None:
    await checkpoint()
    msg = "by zero"
    raise ZeroDivisionError(msg)


class TestTime:
    @backends
    def test_sleeps_jump_and_tie(self, backend: str) -> None:
        """No real time passes; who sleeps equally long wakes in any order, others do not."""

        async def sleep(seconds: float, woken: list[float]) -> None:
            await anyio.sleep(seconds)
            assert anyio.current_time() == seconds
            woken.append(seconds)

        async def scenario() -> object:
            woken: list[float] = []
            async with anyio.create_task_group() as tg:
                for number, seconds in enumerate((3600, 60, 60)):
                    tg.start_soon(sleep, seconds, woken, name=f"s{number}")
            return tuple(woken)

        result = explore(scenario, backend=backend, strategy="dfs")
        assert set(result.outcomes) == {(60, 60, 3600)}
        assert result.schedules == 6 * 2

    @backends
    def test_a_deadline(self, backend: str) -> None:
        """A timeout fires when nobody else can move, and not before."""

        async def scenario() -> object:
            with anyio.move_on_after(5) as scope:
                await anyio.sleep_forever()
            return scope.cancelled_caught, anyio.current_time()

        assert set(explore(scenario, backend=backend).outcomes) == {(True, 5)}


class TestReplay:
    @pytest.mark.parametrize("mutant", sorted(set(MUTANTS) - {"M6"}))
    @backends
    def test_a_failing_schedule_fails_again_everywhere(self, backend: str, mutant: str) -> None:
        """Its string replays the failure on the loop it was found on, and on the other."""
        scenario = race_of(MUTANTS[mutant], readers=3 if mutant == "M9" else 2)
        found = explore(scenario, backend=backend, shrink=False).failure
        assert found is not None
        for other in BACKENDS:
            again = explore(scenario, backend=other, replay=str(found.schedule)).failure
            assert again is not None
            assert again.key == found.key
            if other == backend:
                assert again.schedule == found.schedule

    @backends
    def test_a_schedule_that_does_not_fit(self, backend: str) -> None:
        """Says at which choice, and who could have moved."""
        failure = explore(with_anyio(2, 1), backend=backend, replay="t0.nobody").failure
        assert failure is not None
        assert failure.kind == "nondeterminism"
        assert "choice 2 of the schedule is nobody" in failure.message


class TestNames:
    @backends
    def test_tasks_of_one_name(self, backend: str) -> None:
        """The second is numbered, and what a task starts has its name before it."""

        async def child() -> None:
            await checkpoint()

        async def parent() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(child)

        async def scenario() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(parent)
                tg.start_soon(parent)
            raise ZeroDivisionError

        failure = explore(scenario, backend=backend, shrink=False).failure
        assert failure is not None
        names = {step.task for step in failure.steps}
        assert names == {"main", "parent", "parent-2", "parent/child", "parent-2/child"}


class TestMisuse:
    def test_a_name_for_names(self) -> None:
        """A string would be taken for the names of its letters."""
        with pytest.raises(TypeError, match=r"pass cancel=\['reader'\]"):
            explore(checkpoint, cancel="reader")

    @pytest.mark.parametrize("strategy", ["best", "dfs:3", "delay:x"])
    def test_no_such_strategy(self, strategy: str) -> None:
        """The error says which there are."""
        with pytest.raises(ValueError, match="no strategy"):
            explore(checkpoint, strategy=strategy)

    def test_no_such_backend(self) -> None:
        """The error says which there are."""
        with pytest.raises(ValueError, match="'asyncio' and 'trio'"):
            explore(checkpoint, backend="curio")

    @backends
    def test_code_that_heeds_nothing(self, backend: str) -> None:
        """A task that catches whatever is thrown at it is given up, and the search goes on."""

        result = explore(heeds_nothing, backend=backend, strategy="dfs", keep_going=True)
        assert result.failures == result.schedules == 3
