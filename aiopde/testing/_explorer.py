"""explore(): run a scenario under many schedules, and say what was found and how sure that is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from ._arguments import body_of, check, parsed, refuse_inside_a_loop
from ._asyncio import Loop
from ._auto import Untracked, make
from ._execution import Execution, Plan, Settings
from ._hooks import hooks
from ._record import Recorder
from ._result import Failure, Progress, Result
from ._split import Shard, split_depth_first, split_reduced
from ._strategies import Replay
from ._variables import variables

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from concurrent.futures import Executor

    from ._execution import Search
    from ._schedule import Schedule

Scenario = Callable[..., "Awaitable[Any]"]
PROGRESS_EVERY = 0.2


def explore(
    scenario: Scenario,
    *,
    backend: str = "asyncio",
    strategy: str | Search = "auto",
    max_schedules: int = 10_000,
    max_steps: int = 1_000,
    cancel: Collection[str] = (),
    seed: int | str = 0,
    keep_going: bool = False,
    replay: Schedule | str | None = None,
    shrink: bool = True,
    track: Collection[type] = (),
    shard: Shard | None = None,
    executor: Executor | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> Result:
    """
    Run an async function again and again, each time with its tasks moving in another order.

    All of that happens in one run of the loop, whose clock is virtual. What is looked at is the
    order of steps between checkpoints: no threads, no races inside C, no real I/O. Not to be called
    where a loop is running.

    Args:
        scenario: An async function, called with a :class:`Race` if it takes an argument. What it
            returns is its outcome; it should depend on nothing but the order of its tasks.
        backend: ``"asyncio"`` or ``"trio"``; what is written with anyio runs on both.
        strategy: ``"auto"``, ``"fifo"``, ``"random"``, ``"pct"``, ``"dfs"``, ``"dpor"``; and with a
            bound ``"delay:3"``, ``"preemption:2"``, ``"pct:4"``.
        max_schedules: How many executions at most, at least 1.
        max_steps: After how many steps everybody gets his turn; after twice as many, what still
            moves is a livelock.
        cancel: Names of tasks to which a cancellation may come at any of their checkpoints.
        seed: For what is taken at random; the same seed, the same schedules.
        keep_going: Do not stop at the first failure, but count them.
        replay: Run this schedule only; as text or as data.
        shrink: Look for the schedule with the fewest switches that fails in the same way.
        track: Further classes whose attributes are to be watched.
        shard: Search only below the choices of this part; see :func:`split`.
        executor: Search on the workers of this executor; see :func:`explore_on`. A *replay* is
            run here.
        progress: Called a few times a second.

    Raises:
        TypeError: *scenario* is no async function of one argument or none, *cancel* a string, or
            another argument not what it should be.
        ValueError: There is no such strategy or backend, *replay* is no schedule, a number is
            below 1, or *cancel* names what was no task in any schedule.
        RuntimeError: A loop is running here.
        UncontrolledError: The scenario asks for a thread, real I/O, a process or a signal.
        KeyboardInterrupt: It came, or the scenario raised it.
    """
    if executor is not None and replay is None:
        return _explore_on(executor, scenario, locals())
    numbers = {"max_schedules": max_schedules, "max_steps": max_steps}
    check(strategy, cancel, track, seed, progress, **numbers)
    settings = Settings(backend, max_steps, tuple(cancel))
    followed = Replay(())
    if replay is not None:
        followed = Replay(parsed(replay).choices)
        strategy = _one(followed)
    tally = Tally(max_schedules, keep_going, progress, _name(strategy, replay), settings.cancel)
    search = (
        make(strategy, seed, max_schedules, track, shard) if isinstance(strategy, str) else strategy
    )
    began = time.perf_counter()
    verdict = drive(scenario, tally.supervise(search), settings)
    if shard is None:
        tally.check_victims(verdict)
    if verdict.startswith("bounded"):
        tally.say_why()
    doubts = set[str]() if replay is None else _doubts(followed, tally.failure)
    failure = tally.failure
    if failure is not None:
        failure = _look_again(scenario, settings, failure, tally.path)
        if tally.passed is not None and _fails(scenario, settings, tally.passed):
            failure = _outlived(failure)
        if shrink and replay is None and not keep_going:
            failure = _shrunk(scenario, settings, failure)
        if failure.kind == "nondeterminism" and replay is None:
            doubts = {"the usual reasons: sets of objects, id(), clocks, random numbers, globals"}
    return Result(
        backend,
        tally.strategy,
        verdict,
        tally.schedules,
        failure,
        tally.failures,
        tally.blocked,
        outcomes=dict(tally.outcomes),
        notes=tuple(sorted(tally.notes | doubts)),
        seconds=time.perf_counter() - began,
        seed=seed,
    )


def _explore_on(executor: Executor, scenario: Scenario, arguments: dict[str, Any]) -> Result:
    from ._shard import explore_on

    options = {
        name: value
        for name, value in arguments.items()
        if name not in ("executor", "scenario", "replay")
    }
    return explore_on(executor, scenario, **options)


def split(
    scenario: Scenario,
    depth: int,
    *,
    strategy: str = "dpor",
    backend: str = "asyncio",
    max_steps: int = 1_000,
    cancel: Collection[str] = (),
    track: Collection[type] = (),
    **others: object,
) -> list[Shard]:
    """Split a search into those below its first *depth* choices, for ``explore(shard=...)``."""
    found: list[Shard] = []
    if strategy == "dfs":
        search = split_depth_first(depth, found)
    else:
        search = split_reduced(depth, found, track)
    drive(scenario, search, Settings(backend, max_steps, tuple(cancel)))
    return found


def drive(scenario: Scenario, search: Search, settings: Settings) -> str:
    """Run what a search plans, all in one loop; return its verdict."""
    body = body_of(scenario)
    refuse_inside_a_loop()
    if settings.backend == "asyncio":
        return Loop(body, search, settings).drive()
    if settings.backend == "trio":
        from ._selfcheck import trio_driver

        return trio_driver()(body, search, settings).drive()
    msg = f"no backend {settings.backend!r}: there are 'asyncio' and 'trio'"
    raise ValueError(msg)


def _name(strategy: str | Search, replay: object) -> str:
    if replay is not None:
        return "replay"
    return strategy if isinstance(strategy, str) else getattr(strategy, "__name__", "search")


@final
class Tally:
    """Counts executions and their ends, and says when it is enough."""

    def __init__(
        self,
        most: int,
        keep_going: bool,
        progress: Callable[[Progress], object] | None,
        strategy: str,
        victims: Collection[str] = (),
    ) -> None:
        self._most = most
        self._missing = set(victims)
        """Who is to be cancelled, and was no task in any execution yet."""
        self._names: dict[str, None] = {}
        self._keep_going = keep_going
        self._progress = progress
        self._began = self._told = time.perf_counter()
        self.strategy = strategy
        self.schedules = self.failures = self.blocked = 0
        self._unfair = self._broken_off = False
        """Whether executions were cut short, as a loop's or as failing ones."""
        self.failure: Failure | None = None
        self.passed: Schedule | None = None
        """The schedule of the first execution, if that did not fail."""
        self.path: list[str] = []
        """Who made each step of the first execution that failed."""
        self.outcomes: Counter[Hashable] = Counter()
        self.notes: set[str] = set()

    def supervise(self, search: Search) -> Search:
        """Pass on plans and executions, as long as it makes sense."""
        plan = next(search)
        while True:
            execution = yield plan
            if plan.watch is not None:
                self.notes |= getattr(plan.watch, "notes", frozenset[str]())
            self._note(execution)
            if self.failure is not None and not self._keep_going:
                search.close()
                return f"sampled ({self.schedules})"
            try:
                plan = search.send(execution)
            except StopIteration as stop:
                return str(stop.value)
            except Untracked as why:
                failure = Failure("untracked", str(why), why.execution.schedule)
                self._fail(failure, why.execution)
                return f"sampled ({self.schedules})"
            if self.schedules >= self._most:
                search.close()
                return f"sampled ({self.schedules})"

    def _note(self, execution: Execution) -> None:
        self.schedules += 1
        if self._missing:
            self._names |= {lane.name: None for lane in execution.lanes if lane.cancels is None}
            self._missing -= set(self._names)
        if self.schedules == 1 and execution.failure is None:
            self.passed = execution.schedule
        self._unfair |= execution.unfair
        self._broken_off |= execution.broken_off
        if execution.cut:
            self.blocked += 1
        else:
            self.outcomes[execution.outcome] += 1
        if execution.failure is not None:
            self._fail(execution.failure, execution)
        if self._progress is not None and not self.schedules & 15:
            self._tell()

    def check_victims(self, verdict: str) -> None:
        """
        Refuse names that were no task's: most are misspelt, and nothing was cancelled.

        Raises:
            ValueError: Unless the search has failed before, or seen a sample only.
        """
        if not self._missing or self.failure is not None:
            return
        missing, there = ", ".join(sorted(self._missing)), ", ".join(self._names)
        msg = f"cancel= names {missing}, and no task was called that: there are {there}"
        if not verdict.startswith("sampled"):
            raise ValueError(msg)
        self.notes.add(msg)

    def say_why(self) -> None:
        """Note why not every order was seen, as far as it shows in the executions."""
        if self._unfair:
            self.notes.add(
                "a loop went on until everybody was given his turn, and what other turns it could "
                "take was not tried: give it an end, or raise max_steps="
            )
        if self._broken_off:
            self.notes.add(
                "failures ended executions whose tasks could still have moved, and which orders "
                "those would have led to was not seen: mend what fails, and explore again"
            )
        if self.schedules >= self._most:
            self.notes.add(
                f"after {self._most} schedules there was more to try: raise max_schedules="
            )

    def _fail(self, failure: Failure, execution: Execution) -> None:
        self.failures += 1
        if self.failure is None:
            self.failure = failure
            self.path = [lane.name for lane in execution.path]

    def _tell(self) -> None:
        now = time.perf_counter()
        if self._progress is not None and now - self._told >= PROGRESS_EVERY:
            self._told = now
            since = now - self._began
            self._progress(
                Progress(self.strategy, self.schedules, self._most, self.failures, since)
            )


def _shrunk(scenario: Scenario, settings: Settings, failure: Failure) -> Failure:
    """Find the schedule with the fewest switches that fails in the same way."""
    from ._shrink import Shrinker

    if failure.kind not in ("exception", "invariant", "deadlock", "left behind"):
        return failure
    shrinker = Shrinker(failure)
    drive(scenario, shrinker.search(), settings)
    if shrinker.diverged:
        message = f"not deterministic: it failed ({failure.message}), and {shrinker.diverged}"
        return replace(failure, kind="nondeterminism", message=message)
    best = failure
    if shrinker.best != failure.schedule:
        best = _look_again(scenario, settings, replace(failure, schedule=shrinker.best), [])
    return replace(best, found=failure.schedule, minimal=shrinker.proven)


def _one(replay: Replay) -> Search:
    yield Plan(replay)
    return "replayed"


def _doubts(replay: Replay, failure: Failure | None) -> set[str]:
    """Say so if a schedule does not seem to be one of this program."""
    if replay.left or (failure is not None and failure.kind == "nondeterminism"):
        why = "the schedule is of another program, or of this one before it was changed"
        left, all_of_it = replay.left, len(replay.choices)
        return {f"{why}: {left} of its {all_of_it} choices were not made"}
    return set()


def _look_again(
    scenario: Scenario, settings: Settings, failure: Failure, path: list[str]
) -> Failure:
    """Run the failing schedule once more, in all detail; it has to go the same way."""
    recorder = Recorder()
    seen: list[Execution] = []
    drive(scenario, _watched(failure.schedule, recorder, seen), settings)
    again = seen[0]
    steps = tuple(recorder.steps)
    if again.failure is not None and again.failure.key == failure.key:
        return replace(again.failure, steps=steps)
    if failure.kind in ("nondeterminism", "untracked"):
        return replace(failure, steps=steps)
    return Failure(
        "nondeterminism",
        _first_difference(failure, path, again, recorder),
        failure.schedule,
        failure.exception,
        steps,
    )


def _fails(scenario: Scenario, settings: Settings, schedule: Schedule) -> bool:
    seen: list[Execution] = []
    drive(scenario, _watched(schedule, Recorder(), seen), settings)
    return seen[0].failure is not None


def _outlived(failure: Failure) -> Failure:
    """Return what to say where the first schedule passed at first, and now does not."""
    message = (
        "not deterministic: the first schedule has passed, and now fails too. Something outlives "
        "an execution: make it in the test, not in a fixture, a class or a module. What fails is "
        f"{failure.message}"
    )
    return replace(failure, kind="nondeterminism", message=message)


def _watched(schedule: Schedule, recorder: Recorder, seen: list[Execution]) -> Search:
    with hooks(recorder.tracker), variables(recorder.tracker):
        seen.append((yield Plan(Replay(schedule.choices), recorder)))
    return "replayed"


def _first_difference(
    failure: Failure, path: list[str], again: Execution, recorder: Recorder
) -> str:
    now = [lane.name for lane in again.path]
    for number, (was, name) in enumerate(zip(path, now, strict=False), 1):
        if was != name:
            where = recorder.steps[number - 1].began if number <= len(recorder.steps) else None
            what = f"step {number} was made by {was}, and now by {name} (at {where})"
            break
    else:
        number = min(len(path), len(now))
        place = recorder.steps[-1].began if recorder.steps else None
        what = f"the first {number} steps are the same, up to {place}, and then it ends otherwise"
    return (
        f"not deterministic: it failed ({failure.message}), and the same schedule did not: {what}"
    )
