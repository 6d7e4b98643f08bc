"""What holds not only when everything stands still, but after every single step of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.properties._chaos import VERBS, Chaos

if TYPE_CHECKING:
    from collections.abc import Callable


class AfterEachStep(trio.abc.Instrument):
    """Calls a function after each step of any task, the library's own too."""

    def __init__(self, check: Callable[[], object]) -> None:
        self._check = check
        self.steps = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.steps += 1
        self._check()


@pytest.mark.trio
@pytest.mark.parametrize("seed", range(20))
async def test_invariants_hold_after_every_step_of_every_task(seed: int) -> None:
    """
    Between any two steps of any tasks, everybody inside is counted and nothing comes back.
    """
    async with Chaos(seed) as chaos:
        watch = AfterEachStep(chaos.check_invariants)
        trio.lowlevel.add_instrument(watch)
        for _ in range(30):
            chaos.do(chaos.random.choice(VERBS))
            await chaos.dawdle(3)
        trio.lowlevel.remove_instrument(watch)
        assert watch.steps > 30
