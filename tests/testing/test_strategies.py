"""Searches that know nothing of what steps do: each keeps to its order, its sample or its bound."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from aiopde.testing import explore
from aiopde.testing._drive import drive
from aiopde.testing._execution import Diverged, Plan, Settings
from aiopde.testing._lane import Lane
from aiopde.testing._strategies import (
    Bounded,
    Branches,
    Priorities,
    Replay,
    delays,
    follow,
    go_on,
    preemptions,
)
from tests.testing._guard import Guard, race_of
from tests.testing._programs import BACKENDS, orders, with_anyio

if TYPE_CHECKING:
    from aiopde.testing._execution import Search

A, B, C = (Lane(name, number, None) for number, name in enumerate("abc"))


def schedules(strategy: Any, make: Any = None, **options: Any) -> list[str]:
    """Run a strategy, and return what it tried."""
    met: list[str] = []

    async def scenario(race: Any) -> None:
        await (make or with_anyio(2, 1))()

    def spied() -> Search:
        from aiopde.testing._auto import make as make_search

        search = make_search(strategy, options.get("seed", 0), options.get("most", 50), (), None)
        plan = next(search)
        while True:
            execution = yield plan
            met.append(str(execution.schedule))
            try:
                plan = search.send(execution)
            except StopIteration as stop:
                return str(stop.value)

    drive(scenario, spied(), Settings("asyncio"))
    return met


class TestOrders:
    def test_fifo_is_one(self) -> None:
        """The plain order: the tasks take turns."""
        assert schedules("fifo") == ["t0.t1.t0"]

    def test_dfs_meets_each_once(self) -> None:
        """As many as there are, and no two alike."""
        met = schedules("dfs")
        assert len(met) == len(set(met)) == orders(2, 1)

    def test_who_goes_on(self) -> None:
        """Who moved last, if he can, and else who was born next, in a ring."""
        assert go_on([A, B, C], B) is B
        assert go_on([A, C], B) is C
        assert go_on([A, B], C) is A
        assert go_on([B, A], None) is A

    def test_following_leaves_out_who_cannot_move(self) -> None:
        """A lenient replay skips names, a strict one says what is wrong."""
        choose = follow(["c", "b"])
        assert choose([A, B], None) is B
        assert choose([A, B], B) is B

    def test_replay_is_strict(self) -> None:
        """A forced step is no choice; a name that cannot move is an error that says who can."""
        choose = Replay(["b", "c"])
        assert choose([A], None) is A
        assert choose([A, B], A) is B
        with pytest.raises(Diverged, match=r"choice 2 of the schedule is c, .* a, b can"):
            choose([A, B], B)


class TestSamples:
    def test_a_seed_is_a_sample(self) -> None:
        """The same seed, the same schedules; another one, others."""
        one, again, other = (
            schedules("random", with_anyio(3, 2), seed=seed) for seed in (1, 1, "two")
        )
        assert one == again != other
        assert len(set(one)) > 40

    def test_every_choice_has_the_same_chance(self) -> None:
        """Of two tasks, each is first in about half of 400."""
        first = Counter(text[:2] for text in schedules("random", most=400))
        assert min(first["t0"], first["t1"]) > 150

    @pytest.mark.parametrize(("strategy", "met"), [("pct:1", 2), ("pct:2", 4), ("pct", 6)])
    def test_priorities_meet_orders_of_their_depth(self, strategy: str, met: int) -> None:
        """Of the six of two tasks, those with no preemption, with one, and with two."""
        assert len(set(schedules(strategy, most=300))) == met

    def test_priorities_change_so_often(self) -> None:
        """Depth 1 is one order of tasks; who is most urgent runs as long as he can."""
        priorities = Priorities(random.Random(3))  # noqa: S311
        for _ in range(20):
            priorities.begin(1)
            chosen = [priorities.choose([A, B, C], None) for _ in range(5)]
            assert len(set(chosen)) == 1

    def test_the_lowest_after_a_change(self) -> None:
        """At a place of change the most urgent becomes the least urgent."""
        priorities = Priorities(random.Random(3))  # noqa: S311
        priorities.begin(1)
        for _ in range(9):
            priorities.choose([A, B], None)
        priorities.begin(10)
        chosen = [priorities.choose([A, B], None).name for _ in range(9)]
        assert chosen in (list("ababababa"), list("babababab"))


class TestBounds:
    @pytest.mark.parametrize(("cost", "most"), [(delays, 2), (preemptions, 1)])
    @pytest.mark.parametrize("backend", BACKENDS)
    def test_all_within_and_none_beyond(self, backend: str, cost: Any, most: int) -> None:
        """A bounded search meets exactly those orders whose cost is within, each once."""
        spent: Counter[str] = Counter()
        branches = Branches()
        total = 0

        def choose(ready: list[Lane], last: Lane | None) -> Lane | None:
            nonlocal total
            from aiopde.testing._strategies import in_turn

            lane = branches.choose(ready, last) if len(ready) > 1 else ready[0]
            assert lane is not None
            total += cost(in_turn(ready, last).index(lane), ready, last)
            return lane

        def everything() -> Search:
            nonlocal total
            while True:
                total = 0
                execution = yield Plan(choose)
                spent[str(execution.schedule)] = total
                if not branches.advance():
                    return "all"

        met: list[str] = []

        def within() -> Search:
            tree = Bounded(cost)
            plan = Plan(tree.choose)
            while tree.advance(most):
                met.append(str((yield plan).schedule))
            return "within"

        drive(with_anyio(3, 1), everything(), Settings(backend))
        drive(with_anyio(3, 1), within(), Settings(backend))
        assert sorted(met) == sorted(text for text, total in spent.items() if total <= most)
        assert [spent[text] for text in met] == sorted(spent[text] for text in met)

    def test_the_verdict_says_the_bound(self) -> None:
        """And calls it exhaustive only where nothing is beyond."""
        scenario = race_of(Guard)
        assert explore(scenario, strategy="delay:1").verdict == "bounded (≤ 1 delays)"
        assert explore(scenario, strategy="preemption:1").verdict == "bounded (≤ 1 preemptions)"
        assert explore(with_anyio(2, 1), strategy="preemption:9").verdict == "exhaustive"


class TestDivergence:
    def test_another_way_below_the_same_choices(self) -> None:
        """A tree that changes while it is walked is not walked on."""
        branches = Branches()
        for _ in range(2):
            branches.choose([A, B], None)
        assert branches.advance()
        branches.choose([A, B], None)
        with pytest.raises(Diverged, match="at choice 2 there moved a, b, and now a, c"):
            branches.choose([A, C], None)

    def test_fewer_than_before(self) -> None:
        """Nor a bounded one."""
        tree = Bounded(delays)
        tree.advance(1)
        tree.choose([A, B], None)
        assert tree.advance(1)
        with pytest.raises(Diverged, match="at choice 1 there moved b, and now can a"):
            tree.choose([A], None)
