"""What explore() is called with, and where: refused if it would only be noticed later, or never."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, Any, cast

from ._causes import refused
from ._schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._race import Race

    Body = Callable[[Race], Awaitable[object]]

_RIGHT = "pass the function itself, as in explore(scenario), where it is async def scenario(race)"


def check(
    strategy: object,
    cancel: object,
    track: object,
    seed: object,
    progress: object,
    **numbers: object,
) -> None:
    """
    Check what does not need the scenario.

    Raises:
        TypeError: One is of another type than it should be.
        ValueError: A number is below 1.
    """
    if not isinstance(strategy, str | Generator):
        msg = f"strategy= wants a name, such as 'auto' or 'delay:2', not {strategy!r:.60}"
        raise refused(TypeError(msg))
    _check_names(cancel)
    _check_classes(track)
    if type(seed) not in (int, str):  # None would be another one each time
        msg = f"seed= wants a whole number or a text, not {seed!r:.60}"
        raise refused(TypeError(msg))
    if progress is not None and not callable(progress):
        msg = f"progress= wants a function that takes a Progress, not {progress!r:.60}"
        raise refused(TypeError(msg))
    for name, number in numbers.items():
        check_number(name, number)


def check_number(name: str, number: object) -> None:
    """
    Check what is to be a whole number from 1 on.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is below 1.
    """
    if type(number) is not int:
        msg = f"{name}= wants a whole number, not {number!r:.60}"
        raise refused(TypeError(msg))
    if number < 1:
        msg = f"{name}= wants at least 1, not {number}: with less nothing would be run"
        raise refused(ValueError(msg))


def _check_names(cancel: object) -> None:
    if isinstance(cancel, str):
        msg = f"cancel= wants the names of tasks: pass cancel=[{cancel!r}]"
        raise refused(TypeError(msg))
    for name in _listed(cancel):
        if not isinstance(name, str):
            msg = (
                f"cancel= wants the names of tasks, not {name!r:.60}: give the task a name, as in "
                "start_soon(read, name='reader'), and pass cancel=['reader']"
            )
            raise refused(TypeError(msg))


def _check_classes(track: object) -> None:
    if isinstance(track, type):
        msg = f"track= wants a list of classes: pass track=[{track.__name__}]"
        raise refused(TypeError(msg))
    for cls in _listed(track):
        if not isinstance(cls, type):
            msg = f"track= wants classes, not {cls!r:.60}: pass track=[{type(cls).__name__}]"
            raise refused(TypeError(msg))


def _listed(argument: object) -> Collection[object]:
    """Return what was passed; what is no collection, as the one wrong thing in one."""
    if isinstance(argument, Collection) and not isinstance(argument, str):
        return cast("Collection[object]", argument)
    return [argument]


def parsed(replay: object) -> Schedule:
    """
    Return the schedule that is to be replayed.

    Raises:
        TypeError: It is neither a text nor a :class:`Schedule`.
        ValueError: The text is no schedule.
    """
    if isinstance(replay, str):
        return Schedule.parse(replay)
    if not isinstance(replay, Schedule):
        msg = (
            f"replay= wants a schedule as it was printed, as in replay='a*2.b', not {replay!r:.60}"
        )
        raise refused(TypeError(msg))
    return replay


def body_of(scenario: object) -> Body:
    """
    Return what to call with a :class:`Race` for each execution.

    Raises:
        TypeError: It is no async function, or one that wants other arguments.
    """
    if inspect.isasyncgenfunction(scenario) or not callable(scenario):
        if inspect.iscoroutine(scenario):
            scenario.close()  # or Python complains that nobody awaited it
        msg = f"explore() wants an async function, not {scenario!r:.60}: {_RIGHT}"
        raise refused(TypeError(msg))
    call: Callable[[Race], Any] = scenario if _takes_race(scenario) else _without_race(scenario)
    if inspect.iscoroutinefunction(scenario):
        return call
    return lambda race: _awaitable(call(race), scenario, race)


def _without_race(scenario: Callable[[], Any]) -> Callable[[Race], Any]:
    return lambda race: scenario()


def _takes_race(scenario: Callable[..., object]) -> bool:
    signature = inspect.signature(scenario)
    for arguments in ((None,), ()):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return bool(arguments)
    name = getattr(scenario, "__name__", repr(scenario))
    msg = (
        f"a scenario is called with one argument or none, and {name}{signature} wants others: "
        f"pass explore(functools.partial({name}, ...))"
    )
    raise refused(TypeError(msg))


def _awaitable(returned: object, scenario: object, race: Race) -> Awaitable[object]:
    """Return what a plain function has returned, if it can be awaited: a lambda may be handy."""
    if not inspect.isawaitable(returned):
        name = getattr(scenario, "__name__", repr(scenario))
        msg = f"explore() wants an async function, and {name}() returned {returned!r:.60}: {_RIGHT}"
        error = refused(TypeError(msg))
        race._run.break_off(error)
        raise error
    return cast("Awaitable[object]", returned)


def refuse_inside_a_loop() -> None:
    """
    Check that explore() is called where no loop is running.

    Raises:
        RuntimeError: One is.
    """
    trio: Any = sys.modules.get("trio")
    if asyncio._get_running_loop() is not None or (trio and trio.lowlevel.in_trio_run()):
        msg = (
            "explore() runs loops of its own, and cannot be called where one is running: call it "
            "from a plain function, or mark the async test with @pytest.mark.explore"
        )
        raise refused(RuntimeError(msg))
