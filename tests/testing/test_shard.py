"""One search on several processes: the same schedules, the same verdict, nothing twice."""

from __future__ import annotations

import sys
import time
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest

from aiopde.testing import Progress, UncontrolledError, explore, explore_on
from aiopde.testing._shard import _own_pool

from ._scenarios import (
    dies_elsewhere,
    fails_elsewhere,
    five_by_two,
    lost_update,
    outcomes,
    polls,
    three_by_two,
    wants_a_thread,
)

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="module")
def pool() -> Generator[Executor]:
    """Two workers, which take a second to come up."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        yield pool


class Here(Executor):
    """Runs everything at once, in this process: what it is given can be looked at."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append(args)
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_shards_make_up_the_whole(pool: Executor, backend: Any, strategy: str) -> None:
    """
    Two processes run as many schedules as one, and say the same of them.
    """
    options: dict[str, Any] = {"backend": backend, "strategy": strategy}
    for scenario in (three_by_two, outcomes):
        one = explore(scenario, **options)
        two = explore_on(pool, scenario, workers=2, **options)
        assert (two.verdict, two.schedules) == (one.verdict, one.schedules) != ("", 0)
        assert {str(k): n for k, n in two.outcomes.items()} == {
            str(k): n for k, n in one.outcomes.items()
        }


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_a_loop_in_some_of_the_shards(strategy: str) -> None:
    """
    Where one part was cut short, all of it was: not more is said, and not less.
    """
    options: dict[str, Any] = {"strategy": strategy, "max_steps": 30}
    one = explore(polls, **options)
    all_of_them = explore_on(Here(), polls, workers=2, **options)
    assert one.verdict.startswith("bounded")
    assert (all_of_them.verdict, all_of_them.notes) == (one.verdict, one.notes)


def test_a_pool_of_its_own() -> None:
    """
    Without an executor there is a process for each core, for this one search.
    """
    assert explore_on(None, three_by_two, strategy="dfs", workers=2).schedules == 1680


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_the_failure_is_the_one_that_one_core_finds(pool: Executor, strategy: str) -> None:
    """
    Whichever worker is faster: the first in the order of the tree, with its exception and steps.
    """
    one = explore(lost_update, strategy=strategy)
    two = explore_on(pool, lost_update, workers=2, strategy=strategy)
    assert one.failure is not None
    assert two.failure is not None
    assert two.failure.schedule == one.failure.schedule
    assert type(two.failure.exception) is type(one.failure.exception)
    assert (two.failure.minimal, two.failure.steps) == (one.failure.minimal, one.failure.steps)


def test_a_failure_of_other_processes_only(pool: Executor) -> None:
    """
    What cannot be seen again here is told as it came: in words, without its exception.
    """
    failure = explore_on(pool, fails_elsewhere, workers=2, strategy="dfs").failure
    assert failure is not None
    assert (failure.kind, failure.exception) == ("exception", None)
    assert "only elsewhere" in failure.message


def test_auto_begins_here() -> None:
    """
    What a few delays find needs no other process; else the rest goes there.
    """
    here = Here()
    assert explore_on(here, lost_update, workers=2).failure is not None
    assert here.jobs == []
    result = explore_on(here, three_by_two, workers=2)
    assert here.jobs
    assert (result.strategy, result.verdict) == ("auto", "exhaustive")


def test_jobs_are_not_too_few() -> None:
    """
    Each worker gets several jobs, so that none is idle while another has much left to do.
    """
    here = Here()
    result = explore_on(here, three_by_two, workers=2, strategy="dfs")
    assert 8 <= len(here.jobs) <= 16
    assert result.schedules == 1680


@pytest.mark.parametrize("strategy", ["random", "pct"])
def test_samples_are_shared_out(strategy: str) -> None:
    """
    Each job draws with a seed of its own, and all together draw as many as they may.
    """
    here = Here()
    result = explore_on(here, three_by_two, workers=2, strategy=strategy, max_schedules=320, seed=5)
    assert (result.schedules, result.verdict) == (320, "sampled (320)")
    assert len({job[1][0]["seed"] for job in here.jobs}) == 16


def test_enough_is_enough() -> None:
    """
    When the budget is spent no further job is looked at, and nothing is called exhaustive.
    """
    result = explore_on(Here(), five_by_two, workers=1, strategy="dfs", max_schedules=50)
    assert result.verdict == f"sampled ({result.schedules})"
    assert 50 <= result.schedules <= 100


def test_all_failures_are_counted_on_request() -> None:
    """
    With keep_going the sum is that of one core.
    """
    one = explore(lost_update, strategy="dfs", keep_going=True)
    all_of_them = explore_on(Here(), lost_update, workers=2, strategy="dfs", keep_going=True)
    assert all_of_them.failures == one.failures > 1
    assert all_of_them.schedules == one.schedules


def test_an_interrupt_waits_for_nobody() -> None:
    """
    The processes of a search are ended with it, whatever they are at; else this takes an hour.
    """

    def search() -> None:
        with _own_pool(1) as pool:
            pool.submit(time.sleep, 3600)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search()


def test_progress_is_told_here() -> None:
    """
    After each job one hears how far all of them are.
    """
    told: list[Progress] = []
    explore_on(Here(), three_by_two, workers=2, strategy="dfs", progress=told.append)
    assert [p.schedules for p in told] == sorted(p.schedules for p in told)
    assert told[-1].schedules == 1680


class TestMisuse:
    def test_a_local_function(self) -> None:
        """
        A function that only this process can see is refused, with the reason.
        """

        async def scenario() -> None: ...

        with pytest.raises(TypeError, match=r"scenario cannot be sent .* a function of a module"):
            explore_on(Here(), scenario)
        with pytest.raises(TypeError, match="cannot be sent to another process"):
            explore_on(Here(), three_by_two, track=[lambda: None])

    def test_what_was_typed_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        What stands in no file cannot be imported by a worker.
        """
        main = sys.modules["__main__"]
        monkeypatch.setattr(main, "three_by_two", three_by_two, raising=False)
        monkeypatch.setattr(three_by_two, "__module__", "__main__")
        monkeypatch.delattr(main, "__file__", raising=False)
        with pytest.raises(TypeError, match="three_by_two cannot be sent to another process"):
            explore_on(Here(), three_by_two)

    def test_threads(self) -> None:
        """
        Threads of one process would be in each other's way.
        """
        with (
            ThreadPoolExecutor(1) as threads,
            pytest.raises(TypeError, match="process of its own"),
        ):
            explore_on(threads, three_by_two)

    def test_an_executor_that_was_shut_down(self) -> None:
        """
        It takes no jobs, and nobody waits for them.
        """
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        pool.shutdown()
        with pytest.raises(RuntimeError, match=r"takes no jobs .* not shut down, or None"):
            explore(three_by_two, executor=pool, strategy="dfs")

    def test_a_worker_that_dies(self) -> None:
        """
        The search ends, and says what is mostly the reason.
        """
        with pytest.raises(RuntimeError, match=r"a worker .* was lost .* if __name__ =="):
            explore_on(None, dies_elsewhere, workers=1, strategy="random", max_schedules=8)

    def test_jobs_for_workers_that_died(self) -> None:
        """
        The same, if the pool knows it before all jobs are handed out.
        """

        class Broken(Here):
            def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
                msg = "all dead"
                raise BrokenExecutor(msg)

        with pytest.raises(RuntimeError, match=r"was lost \(all dead\)"):
            explore_on(Broken(), three_by_two, strategy="dfs")

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_workers(self, workers: int) -> None:
        """
        Nobody would do it.
        """
        with pytest.raises(ValueError, match=f"workers= wants at least 1, not {workers}"):
            explore_on(Here(), three_by_two, workers=workers)

    @pytest.mark.parametrize("strategy", ["dfs", "dpor", "random"])
    def test_a_victim_that_is_nobody(self, strategy: str) -> None:
        """
        It is refused where all was seen, and else noted, as on one core.
        """
        options: dict[str, Any] = {"strategy": strategy, "max_schedules": 2000}
        if strategy == "random":
            result = explore_on(Here(), three_by_two, cancel=["t0", "nobody"], **options)
            assert "cancel= names nobody, and no task was called that" in str(result)
            return
        with pytest.raises(ValueError, match=r"cancel= names nobody, .*: there are main, t0"):
            explore_on(Here(), three_by_two, cancel=["nobody"], **options)
        assert "note" not in str(explore_on(Here(), three_by_two, cancel=["t0"], **options))

    def test_what_is_no_search(self) -> None:
        """
        One schedule is not shared out; explore() runs it here, whatever the executor.
        """
        with pytest.raises(TypeError, match="replay= is no search to be split"):
            explore_on(Here(), three_by_two, replay="-")
        here = Here()
        assert explore(three_by_two, executor=here, replay="-").schedules == 1
        assert here.jobs == []

    def test_what_cannot_be_controlled(self, pool: Executor) -> None:
        """
        A worker's error is raised here.
        """
        with pytest.raises(UncontrolledError, match=r"main: to_thread at .* wants a thread"):
            explore_on(pool, wants_a_thread, workers=1, strategy="random", max_schedules=8)

    def test_a_strategy_without_a_tree(self) -> None:
        """
        What is over after a few schedules is not worth splitting.
        """
        with pytest.raises(ValueError, match=r"'delay:2' cannot be split: take dfs"):
            explore_on(Here(), three_by_two, strategy="delay:2")


@pytest.mark.filterwarnings("default")  # dask's own
def test_a_cluster() -> None:
    """
    The workers of a dask cluster are as good as processes.
    """
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        result = explore_on(client.get_executor(), three_by_two, workers=2, strategy="dfs")
    assert (result.schedules, result.verdict) == (1680, "exhaustive")
