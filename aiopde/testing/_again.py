"""A failing schedule run again: is it the same, in all detail, and how plain can it be made?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ._drive import drive
from ._execution import Plan
from ._record import Recorder
from ._result import Failure
from ._shrink import Shrinker
from ._strategies import Replay
from ._watching import watching

if TYPE_CHECKING:
    from ._drive import Scenario
    from ._execution import Execution, Search, Settings
    from ._schedule import Schedule
    from ._tally import Tally


def looked_into(scenario: Scenario, settings: Settings, tally: Tally, *, shrink: bool) -> Failure:
    """
    Return all that can be known of the failure a search has found.

    Args:
        shrink: Whether to look for a plainer schedule that fails in the same way.
    """
    assert tally.failure is not None
    failure = _look_again(scenario, settings, tally.failure, tally.path)
    if tally.passed is not None and _fails(scenario, settings, tally.passed):
        failure = _outlived(failure)
    return _shrunk(scenario, settings, failure) if shrink else failure


def _shrunk(scenario: Scenario, settings: Settings, failure: Failure) -> Failure:
    """Find the schedule with the fewest switches that fails in the same way."""

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
    drive(scenario, _unwatched(schedule, seen), settings)
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
    with watching(recorder.tracker):
        seen.append((yield Plan(Replay(schedule.choices), recorder)))
    return "replayed"


def _unwatched(schedule: Schedule, seen: list[Execution]) -> Search:
    seen.append((yield Plan(Replay(schedule.choices))))
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
