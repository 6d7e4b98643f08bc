"""One search on several processes or machines: the tree of schedules, split near its root."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import Counter
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final, cast

from ._arguments import check_number
from ._explorer import explore, split
from ._result import Progress, Result
from ._tally import check_victims

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from ._drive import Scenario

_TREES: Final = ("dfs", "dpor")
_JOBS_PER_WORKER: Final = 8
"""So that nobody is idle for long while another has a big subtree left."""
_DEEPEST: Final = 12
_LOCAL: Final = "delay:3"
"""What ``auto`` begins with: too little to be worth a process."""

Options = dict[str, Any]


def explore_on(
    executor: Executor | None,
    scenario: Scenario,
    *,
    workers: int | None = None,
    strategy: str = "auto",
    max_schedules: int = 10_000,
    progress: Callable[[Progress], object] | None = None,
    **options: Any,
) -> Result:
    """
    Explore on the workers of an executor: the same schedules as on one, and the same verdict.

    Each job gets some of the subtrees below the first choices; no schedule is run twice. Of
    several failures the one is reported which a search on one core would have found first.

    Args:
        executor: Any of ``concurrent.futures`` whose workers are processes, here or elsewhere
            (``dask.distributed``'s ``Client.get_executor()``). None: one process for each core.
        scenario: As for :func:`explore`; a function of a module, since only its name goes to
            another process. The same holds for what *options* mention.
        workers: How many workers there are, at least 1; by default as many as there are cores.
        strategy: ``"dfs"``, ``"dpor"``, ``"random"``, ``"pct"``; or ``"auto"``: up to three delays
            here, then ``"dpor"`` there.
        max_schedules: For all of them together; the jobs under way when it is reached still end.
        progress: Called here, whenever a job has ended.
        options: The others of :func:`explore`.

    Not to be called where a loop is running. An interrupt, or another error, ends the processes
    that were made for *executor=None*; of another executor the jobs under way still end.

    Raises:
        TypeError: *scenario* cannot be sent to another process, or *executor* is none, or one of
            threads; or as in :func:`explore`.
        ValueError: The strategy cannot be split, *workers* is below 1; or as in :func:`explore`.
        RuntimeError: The executor was shut down, or lost a worker; or as in :func:`explore`.
    """
    began = time.monotonic()
    if workers is None:
        workers = os.cpu_count() or 1
    check_number("workers", workers)
    _refuse_parts(options)
    _refuse_unsendable(scenario, options)
    found = _Found(strategy, max_schedules, progress, began)
    if strategy == "auto":
        found.add(explore(scenario, strategy=_LOCAL, max_schedules=max_schedules, **options))
        strategy = "dpor"
    if not found.enough(options):
        jobs = _jobs(scenario, strategy, workers, options | {"max_schedules": max_schedules})
        with _pool(executor, workers) as pool:
            _run(pool, scenario, jobs, found, options)
    result = found.result()
    missing = set(options.get("cancel", ())) - set(result.met)
    if result.failure is None:
        check_victims(missing, result.met, result.verdict)
    return _with_exception(scenario, result, options)


def _refuse_parts(options: Options) -> None:
    for name in ("replay", "shard"):
        if options.get(name) is not None:
            msg = f"{name}= is no search to be split: pass it to explore() without an executor"
            raise TypeError(msg)


def _refuse_unsendable(scenario: Scenario, options: Options) -> None:
    module = getattr(scenario, "__module__", None)
    interactive = module == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    try:
        pickle.dumps((scenario, options))
    except (AttributeError, TypeError, pickle.PicklingError) as exc:
        cause: Exception | None = exc
    else:
        cause = None
    if cause is not None or interactive:
        name = getattr(scenario, "__qualname__", repr(scenario))
        msg = (
            f"{name} cannot be sent to another process: it must be a function of a module that "
            "can be imported there, neither a lambda nor one made inside another function"
        )
        raise TypeError(msg) from cause


def _pool(executor: Executor | None, workers: int) -> AbstractContextManager[Executor]:
    if isinstance(executor, ThreadPoolExecutor):
        msg = "an exploration needs a process of its own: pass a ProcessPoolExecutor, or None"
        raise TypeError(msg)
    if executor is not None and not isinstance(cast("object", executor), Executor):
        msg = f"executor= wants an executor of concurrent.futures, or None, not {executor!r:.60}"
        raise TypeError(msg)
    return _own_pool(workers) if executor is None else nullcontext(executor)


@contextmanager
def _own_pool(workers: int) -> Generator[Executor]:
    """Have processes for the block; where that is interrupted, nobody waits for their jobs."""
    # Not fork: a loop that runs here, or its threads, would be there in part.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            for process in list(pool._processes.values()):
                process.terminate()
            raise


# -- the jobs -------------------------------------------------------------------------------------


def _jobs(
    scenario: Scenario, strategy: str, workers: int, options: Options
) -> Sequence[Sequence[Options]]:
    """Return, for each job, the options of the explorations it consists of."""
    kind = strategy.partition(":")[0]
    number = workers * _JOBS_PER_WORKER
    if kind in _TREES:
        return _subtrees(scenario, strategy, number, options)
    if kind in ("random", "pct"):
        share = -(-options["max_schedules"] // number)
        seed = options.get("seed", 0)
        each = options | {"strategy": strategy, "max_schedules": share}
        return [[each | {"seed": f"{seed}/{i}"}] for i in range(number)]
    msg = f"strategy {strategy!r} cannot be split: take dfs, dpor, random, pct or auto"
    raise ValueError(msg)


def _subtrees(
    scenario: Scenario, strategy: str, number: int, options: Options
) -> Sequence[Sequence[Options]]:
    options = options | {"strategy": strategy}
    settings = {name: value for name, value in options.items() if name != "max_schedules"}
    shards = split(scenario, 1, **settings)
    for depth in range(2, _DEEPEST):
        if len(shards) >= number:
            break
        shards = split(scenario, depth, **settings)
    each = [options | {"shard": shard} for shard in shards]
    size = -(-len(each) // number)
    # Neighbours together, so that the first failure in order is in the first job that has one.
    return [each[i : i + size] for i in range(0, len(each), size)]


def _explore_all(scenario: Scenario, explorations: Sequence[Options]) -> Result:
    """Do one job, in a worker."""
    found = _Found("", explorations[0]["max_schedules"], None, time.monotonic())
    for options in explorations:
        found.add(explore(scenario, **options))
        if found.enough(options):
            break
    return _sendable(found.result())


def _sendable(result: Result) -> Result:
    """Leave out what may not be fit for another process."""
    failure = result.failure and replace(result.failure, exception=None)
    outcomes = {_plain(outcome): times for outcome, times in result.outcomes.items()}
    return replace(result, failure=failure, outcomes=outcomes)


def _plain(outcome: Hashable) -> Hashable:
    try:
        pickle.dumps(outcome)
    except Exception:
        return repr(outcome)
    return outcome


def _run(
    pool: Executor,
    scenario: Scenario,
    jobs: Sequence[Sequence[Options]],
    found: _Found,
    options: Options,
) -> None:
    futures: list[Future[Result]] = []
    try:
        futures += _submitted(pool, scenario, jobs)
        for future in futures:
            found.add(future.result())
            if found.enough(options):
                break
    except BrokenExecutor as why:
        msg = (
            f"a worker of the executor was lost ({why}). Either it was killed, as where memory is "
            "short: take fewer workers; or it could not import the program, as where that calls "
            "this while it is imported: call it below if __name__ == '__main__'"
        )
        raise RuntimeError(msg) from why
    finally:
        for future in futures:
            future.cancel()


def _submitted(
    pool: Executor, scenario: Scenario, jobs: Sequence[Sequence[Options]]
) -> Iterator[Future[Result]]:
    for job in jobs:
        try:
            yield pool.submit(_explore_all, scenario, job)
        except BrokenExecutor:
            raise
        except RuntimeError as why:
            msg = f"the executor takes no jobs ({why}): pass one that is not shut down, or None"
            raise RuntimeError(msg) from why


# -- what they found ------------------------------------------------------------------------------


class _Found:
    """
    Adds results up, in the order of the tree.

    Args:
        strategy: What was asked for; nothing: what the last result says.
        max_schedules: For all together.
        progress: Called with what there is after each.
        began: When the search did, as time.monotonic() tells it.
    """

    def __init__(
        self,
        strategy: str,
        max_schedules: int,
        progress: Callable[[Progress], object] | None,
        began: float,
    ) -> None:
        self._strategy = strategy
        self._max_schedules = max_schedules
        self._progress = progress
        self._began = began
        self._results: list[Result] = []

    def add(self, result: Result) -> None:
        """Add what the next part of the tree came to, and tell how far that is."""
        self._results.append(result)
        if self._progress is not None:
            seconds = time.monotonic() - self._began
            done, failures = self._sum("schedules"), self._sum("failures")
            strategy = self._strategy or result.strategy
            self._progress(Progress(strategy, done, self._max_schedules, failures, seconds))

    def enough(self, options: Mapping[str, Any]) -> bool:
        """Whether no further part is to be searched: the budget is spent, or there is a failure."""
        if self._sum("schedules") >= self._max_schedules:
            return True
        return bool(self._results and self._results[-1].failure) and not options.get("keep_going")

    def result(self) -> Result:
        """Return all of them as one; there must be one at least."""
        failures = (result.failure for result in self._results if result.failure)
        outcomes: Counter[Hashable] = Counter()
        for result in self._results:
            outcomes.update(result.outcomes)
        return replace(
            self._results[-1],
            strategy=self._strategy or self._results[-1].strategy,
            verdict=self._verdict(),
            schedules=self._sum("schedules"),
            failure=next(failures, None),
            failures=self._sum("failures"),
            blocked=self._sum("blocked"),
            classes=self._sum("classes"),
            outcomes=dict(outcomes),
            notes=tuple(dict.fromkeys(note for result in self._results for note in result.notes)),
            seconds=time.monotonic() - self._began,
            met=tuple(dict.fromkeys(name for result in self._results for name in result.met)),
        )

    def _sum(self, field: str) -> int:
        return sum(getattr(result, field) for result in self._results)

    def _verdict(self) -> str:
        # What auto did here first says less than what comes after it.
        later = self._results[self._strategy == "auto" and len(self._results) > 1 :]
        verdicts = {result.verdict for result in later}
        if any(verdict.startswith("sampled") for verdict in verdicts):
            return f"sampled ({self._sum('schedules')})"
        return min(verdicts)  # "bounded ...", if a part is


def _with_exception(scenario: Scenario, result: Result, options: Options) -> Result:
    """Replay a failure here, to have the exception itself."""
    failure = result.failure
    if failure is None or failure.exception is not None:
        return result
    kept = {name: value for name, value in options.items() if name not in ("seed", "keep_going")}
    again = explore(scenario, replay=failure.schedule, **kept).failure
    if again is None or again.key[0] != failure.key[0]:
        return result
    return replace(result, failure=replace(failure, exception=again.exception))
