"""explore(): run a scenario under many schedules, and say what was found and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ._again import looked_into
from ._arguments import check, parsed
from ._auto import make
from ._drive import drive
from ._execution import Plan, Settings
from ._split import Shard, split_depth_first, split_reduced
from ._strategies import Replay
from ._tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Executor

    from ._drive import Scenario
    from ._execution import Search
    from ._result import Failure, Progress, Result
    from ._schedule import Schedule

_SAID_ON: Final = {
    "asyncio": ("Task got bad yield", "'RunContext' object has no", "from async context"),
    "trio": ("received unrecognized yield message", "no running event loop"),
}
"""What a loop says to what was written for the other."""


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
    followed = None if replay is None else Replay(parsed(replay).choices)
    if followed is not None:
        search, name = _one(followed), "replay"
    elif isinstance(strategy, str):
        search, name = make(strategy, seed, max_schedules, track, shard), strategy
    else:
        search, name = strategy, getattr(strategy, "__name__", "search")
    tally = Tally(max_schedules, keep_going, progress, name, settings.cancel)
    verdict = drive(scenario, tally.supervise(search), settings)
    tally.judge(verdict, part=shard is not None)
    failure = tally.failure
    if failure is not None:
        once = keep_going or followed is not None
        failure = looked_into(scenario, settings, tally, shrink=shrink and not once)
        tally.notes |= _of_another_loop(backend, failure)
    tally.notes |= _doubts(followed, failure)
    return tally.result(backend, verdict, failure, seed)


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


def _one(replay: Replay) -> Search:
    yield Plan(replay)
    return "replayed"


def _doubts(replay: Replay | None, failure: Failure | None) -> set[str]:
    """Say so if a program, or a schedule, does not seem to be what it should be."""
    astray = failure is not None and failure.kind == "nondeterminism"
    if replay is None:
        why = "the usual reasons: sets of objects, id(), clocks, random numbers, globals"
        return {why} if astray else set()
    if not replay.left and not astray:
        return set()
    why = "the schedule is of another program, or of this one before it was changed"
    return {f"{why}: {replay.left} of its {len(replay.choices)} choices were not made"}


def _of_another_loop(backend: str, failure: Failure) -> set[str]:
    """Say so if a scenario fails as what was written for another loop does."""
    said = str(failure.exception)
    if not any(words in said for words in _SAID_ON[backend]):
        return set()
    (other,) = set(_SAID_ON) - {backend}
    return {f"that looks as if it was written for {other}: explore it with backend={other!r} only"}
