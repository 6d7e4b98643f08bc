"""How one execution is to go, who sees it, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, final

from ._lane import Lane
from ._schedule import Schedule

if TYPE_CHECKING:
    from ._result import Failure
    from ._run import Run

Choose: TypeAlias = Callable[[list[Lane], "Lane | None"], "Lane | None"]
"""
Says who moves, of those who can (in the order in which they became able to), given who moved last.

Asked only where there is a choice, unless the plan has a watcher. None gives up the execution.
"""


class Watcher(Protocol):
    """Sees every step of an execution."""

    def begin(self, run: Run) -> None:
        """See that an execution begins; its first step is the scenario's own."""

    def before(self, lane: Lane, ready: list[Lane]) -> None:
        """See who moves next; *ready* has the others that could."""

    def after(self, lane: Lane, woken: list[Lane], over: bool) -> None:
        """See who moved, whom that woke or started, and whether that was its end."""

    def check_begins(self, number: int) -> None:
        """See that an invariant is checked next; *after* comes when all were."""

    def jump(self, time: float) -> None:
        """See that nobody could move, and the clock was set forward."""


@final
class Plan:
    """How one execution is to go."""

    __slots__ = ("choose", "watch")

    def __init__(self, choose: Choose, watch: Watcher | None = None) -> None:
        self.choose: Choose = choose
        self.watch: Watcher | None = watch


@final
class Execution:
    """What came of a plan."""

    # Of the class until they change: one is made for every schedule.
    failure: Failure | None = None
    outcome: Hashable = None
    cut: bool = False
    """Whether it was given up, because the plan said so."""
    unfair: bool = False
    """Whether it ended only after everybody was given his turn."""
    broken_off: bool = False
    """Whether a failure ended it where its tasks could still move."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.path: list[Lane] = []
        """Who made each step."""
        self.choices: list[Lane] = []
        """Who made each step at which there was a choice."""

    @property
    def whole(self) -> bool:
        """Whether all that its tasks could do was seen."""
        return not self.unfair and not self.broken_off

    @property
    def schedule(self) -> Schedule:
        """The choices, as data."""
        return Schedule(tuple(lane.name for lane in self.choices))


Search: TypeAlias = Generator[Plan, Execution, str]
"""Yields plans, is sent what came of each, and returns its verdict."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every execution of a search."""

    backend: str = "asyncio"
    max_steps: int = 1_000
    cancel: Collection[str] = ()


class Diverged(Exception):
    """A plan cannot be followed: the execution goes another way than it did."""


def first_come(ready: list[Lane], last: Lane | None) -> Lane:
    """Choose who has been able to move for longest: what asyncio does."""
    return ready[0]
