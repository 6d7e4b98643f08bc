"""Whether the hook into trio works with the trio that is here: counted, not believed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ._execution import Plan, Settings
from ._strategies import Branches
from ._trio import Driver
from ._turnstile import TurnstileDriver

if TYPE_CHECKING:
    from ._execution import Search
    from ._race import Race

TASKS = STEPS = 2
SCHEDULES = 20
"""How many orders there are of two tasks with two checkpoints each: 6! / (3! 3!)."""


@cache
def trio_driver() -> type[Driver] | type[TurnstileDriver]:
    """Return what drives trio here: the hook, or where that does not work, the turnstile."""
    return Driver if hook_works() else TurnstileDriver


def hook_works() -> bool:
    """Run two tasks of two checkpoints under the hook: there must be 20 different schedules."""
    import trio

    async def task() -> None:
        for _ in range(STEPS):
            await trio.lowlevel.checkpoint()

    async def scenario(race: Race) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(task, name=str(number))

    seen: list[str] = []
    try:
        Driver(scenario, _count(seen), Settings("trio")).drive()
    except Exception:
        # Whatever a future trio has no more, renames, or does in another order.
        return False
    return len(seen) == len(set(seen)) == SCHEDULES


def _count(seen: list[str]) -> Search:
    branches = Branches()
    plan: Any = Plan(branches.choose)
    while len(seen) <= SCHEDULES:
        execution = yield plan
        seen.append(str(execution.schedule) if execution.failure is None else "")
        if not branches.advance():
            break
    return ""
