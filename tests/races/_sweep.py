"""Play a scenario again and again, cancelling one actor a little later each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopde import ProcFS
from tests.conformance._quiet import quiet

from ._stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._stage import Host

    Scenario = Callable[[Stage], Awaitable[None]]


class Victim(Stage):
    """
    A stage on which one actor is cancelled at the *n*-th point after it has started.

    A point is wherever something could be cancelled by somebody: before any actor waits for
    anything, after it has ended, when a handler begins, ends or is let go.
    """

    def __init__(self, victim: str, point: int, host: Host) -> None:
        super().__init__(host)
        self._victim = victim
        self._point = point
        self.at_point = self._perhaps_cancel

    @property
    def reached(self) -> bool:
        """Whether the victim was still busy at that point."""
        return self._point <= 0

    def _perhaps_cancel(self) -> None:
        if self._victim in self.busy:
            self._point -= 1
            if self._point == 0:
                self.cancel(self._victim)


async def go_on(s: Stage) -> None:
    """Let whoever has stopped go on, one after the other, until nobody has."""
    await quiet()
    while s.gates:
        s.go(min(s.gates))
        await quiet()


def only_the_victim(victim: str) -> Callable[[Stage], None]:
    """Make a check that nobody still waits, and nobody else was cut short."""

    def check(s: Stage) -> None:
        assert s.busy == set()
        cut = {name for name, actor in s.actors.items() if actor.cancelled}
        assert cut <= {victim}, "somebody else was cut short"

    return check


async def cancel_everywhere(
    victim: str,
    scenario: Scenario,
    check: Callable[[Stage], object] = bool,
    host: Host = ProcFS,
) -> int:
    """
    Cancel the *victim* of a scenario at each point there is; check all after each time.

    The stage itself checks that nobody is inside, that each successful open was released once,
    that everything is gone and no task is left.

    Returns:
        At how many points it was cancelled.
    """
    points = 0
    while True:
        async with Victim(victim, points + 1, host) as stage:
            await scenario(stage)
        check(stage)
        if not stage.reached:
            return points
        points += 1
