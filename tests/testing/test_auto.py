"""The default: it finds every mutant soon, and says no more than is true."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aiopde.testing import explore
from aiopde.testing._dpor import Explorer
from tests.testing._guard import MUTANTS, Guard, ShieldedRelease, race_of
from tests.testing._programs import BACKENDS

if TYPE_CHECKING:
    from aiopde.testing import Race

backends = pytest.mark.parametrize("backend", BACKENDS)

counter = 0


def test_the_reduction_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reduced search that leaves out too much is found out by a few schedules at random."""

    def plan(_explorer: Explorer, _order: object, _execution: object) -> None:
        pass

    monkeypatch.setattr(Explorer, "plan", plan)
    failure = explore(race_of(Guard)).failure
    assert failure is not None
    assert failure.kind == "untracked"
    assert "is equivalent to none that was run, though all should have been" in failure.message


@backends
class TestMutants:
    @pytest.mark.parametrize("name", MUTANTS)
    def test_each_is_found_soon(self, backend: str, name: str) -> None:
        """Nine ways to break the guard, each found within 66 schedules."""
        scenario = race_of(MUTANTS[name], readers=3 if name == "M9" else 2)
        cancel = ["r0"] if name == "M6" else []
        result = explore(scenario, backend=backend, cancel=cancel)
        assert result.failure is not None
        assert result.schedules <= 66

    def test_the_guard_itself(self, backend: str) -> None:
        """No schedule breaks it; that was all of them."""
        result = explore(race_of(Guard), backend=backend)
        assert result.failure is None
        assert result.verdict == "exhaustive"

    @pytest.mark.parametrize("victim", ["m", "c0"])
    def test_a_cancelled_release(self, backend: str, victim: str) -> None:
        """What the kernel cannot have: who waits for a release that is cancelled hangs."""
        result = explore(race_of(Guard), backend=backend, cancel=[victim])
        assert result.failure is not None
        assert result.failure.kind == "deadlock"

    @pytest.mark.parametrize("victim", ["r0", "m", "c0"])
    def test_a_release_that_is_seen_through(self, backend: str, victim: str) -> None:
        """Shielded, it does not hang, in any order."""

        async def scenario(race: Race) -> None:
            guard = ShieldedRelease()
            file = guard.open()
            async with anyio.create_task_group() as tg:
                tg.start_soon(guard.read, file, name="r0")
                tg.start_soon(guard.remove, name="m")
                tg.start_soon(guard.close, file, name="c0")
            assert file.released <= 1

        result = explore(scenario, backend=backend, cancel=[victim])
        assert result.failure is None
        assert result.verdict == "exhaustive"


@backends
class TestVerdict:
    def test_a_sample(self, backend: str) -> None:
        """A budget that does not suffice for a bound is told as what it is."""
        assert explore(race_of(Guard), backend=backend, max_schedules=5).verdict == "sampled (5)"

    def test_a_bound(self, backend: str) -> None:
        """One that suffices for three delays, but not for everything."""
        result = explore(race_of(Guard), backend=backend, max_schedules=120)
        assert result.verdict == "bounded (≤ 3 delays)"
        assert "after 120 schedules there was more to try: raise max_schedules=" in result.notes

    def test_everything_by_delays(self, backend: str) -> None:
        """Where there is nothing beyond three delays, that is everything."""

        async def scenario() -> None:
            async with anyio.create_task_group() as tg:
                tg.start_soon(checkpoint)

        result = explore(scenario, backend=backend)
        assert (result.verdict, result.schedules) == ("exhaustive", 2)

    @pytest.mark.skipif(
        sys.version_info < (3, 12) and sys.gettrace() is not None, reason="coverage has the place"
    )
    def test_variables_count(self, backend: str) -> None:
        """What tasks share by a variable of a function or a module is seen."""

        async def scenario() -> object:
            global counter
            counter = here = 0
            log: list[int] = []

            async def add(number: int) -> None:
                nonlocal here
                global counter
                before, counter_before = here, counter
                await checkpoint()
                here, counter = before + 1, counter_before + 1
                log.append(number)

            async with anyio.create_task_group() as tg:
                for number in range(2):
                    tg.start_soon(add, number, name=f"t{number}")
            return here, counter, tuple(log)

        reduced = explore(scenario, backend=backend, strategy="dpor")
        full = explore(scenario, backend=backend, strategy="dfs")
        assert reduced.verdict == "exhaustive"
        assert set(reduced.outcomes) == set(full.outcomes)

    def test_what_cannot_be_seen(self, backend: str) -> None:
        """An iterator or a random generator that tasks share: never exhaustive, and named."""

        async def take(numbers: object, dice: random.Random, taken: list[float]) -> None:
            await checkpoint()
            taken.append(dice.random())

        async def scenario() -> object:
            dice, taken = random.Random(1), list[float]()  # noqa: S311
            async with anyio.create_task_group() as tg:
                for _ in range(3):
                    tg.start_soon(take, iter("ab"), dice, taken)
            return len(taken)

        result = explore(scenario, backend=backend, max_schedules=300)
        assert result.verdict == "bounded (≤ 3 delays)"
        assert any("Random" in note for note in result.notes)

    def test_a_namespace(self, backend: str) -> None:
        """A SimpleNamespace is tracked like a class of the program's own."""

        async def add(shared: SimpleNamespace) -> None:
            before = shared.x
            await checkpoint()
            shared.x = before + 1

        async def scenario() -> object:
            shared = SimpleNamespace(x=0)
            async with anyio.create_task_group() as tg:
                for _ in range(3):
                    tg.start_soon(add, shared)
            return shared.x

        result = explore(scenario, backend=backend, strategy="dpor")
        assert result.verdict == "exhaustive"
        assert set(result.outcomes) == {1, 2, 3}


hidden = object()


@backends
class TestAlarm:
    def test_an_access_that_nobody_sees(self, backend: str) -> None:
        """Equivalent schedules that end otherwise fail loudly, and say where they part."""

        async def add() -> None:
            before = await _hidden_read()
            await checkpoint()
            await _hidden_write(before + 1)

        async def scenario() -> object:
            await _hidden_write(0)
            async with anyio.create_task_group() as tg:
                for number in range(4):
                    tg.start_soon(add, name=f"t{number}")
            return await _hidden_read()

        failure = explore(scenario, backend=backend).failure
        assert failure is not None
        assert failure.kind == "untracked"
        assert "touch" in failure.message

    def test_an_access_that_is_told(self, backend: str) -> None:
        """What the scenario tells by touch() counts like what is seen."""

        async def add(race: Race) -> None:
            race.touch(hidden, "x")
            before = await _hidden_read()
            await checkpoint()
            race.touch(hidden, "x", write=True)
            await _hidden_write(before + 1)

        async def scenario(race: Race) -> object:
            await _hidden_write(0)
            async with anyio.create_task_group() as tg:
                for number in range(3):
                    tg.start_soon(add, race, name=f"t{number}")
            return await _hidden_read()

        reduced = explore(scenario, backend=backend, strategy="dpor")
        assert set(reduced.outcomes) == {1, 2, 3}
        assert reduced.schedules < 90


_hidden_source = """
class box: value = 0
async def read(): return box.value
async def write(value): box.value = value
"""
_hidden: dict[str, Any] = {}
exec(compile(_hidden_source, "<frozen elsewhere>", "exec"), _hidden)


async def _hidden_read() -> int:
    value: int = await _hidden["read"]()
    return value


async def _hidden_write(value: int) -> None:
    await _hidden["write"](value)
