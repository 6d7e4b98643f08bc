"""What an exploration found: the steps of an execution, a failure, a verdict."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from ._schedule import Schedule

Kind = Literal[
    "exception",  # the scenario, or a task of it, raised
    "invariant",  # what race.always() was given does not hold after some step
    "deadlock",  # nobody can move, and no timer will change that
    "livelock",  # still moving after max_steps, although everybody got his turn
    "left behind",  # the scenario returned and a task of it is still there
    "nondeterminism",  # the same schedule went another way
    "untracked",  # two equivalent schedules ended differently: something touched was not seen
]


@final
@dataclass(frozen=True, slots=True)
class Location:
    """A line of source."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.function}"


@final
@dataclass(frozen=True, slots=True)
class Touch:
    """What a step read or wrote."""

    what: str
    """As ``"File#2.in_use"``; the numbers count the objects of a class."""
    write: bool


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One step of an execution: what a task did between two checkpoints."""

    task: str
    """The task's name; ``"!name"`` is the arrival of a cancellation at that task."""
    others: tuple[str, ...]
    """Who could have moved instead."""
    began: Location | None
    """Where the task was waiting, or began; None for a cancellation."""
    ended: Location | None
    """Where the task stopped next; None once it is over."""
    woke: tuple[str, ...] = ()
    """Whom it woke or started."""
    touched: tuple[Touch, ...] = ()
    """What it read and wrote; empty if the run was not tracked."""
    marks: tuple[str, ...] = ()
    """What else is worth a word: ``"ends"``, ``"raises ValueError('x')"``, ``"time 5.0"`` …"""
    choice: bool = True
    """Whether there was a choice, so that the step is part of the schedule."""


@final
@dataclass(frozen=True, slots=True)
class Waiter:
    """A task that cannot move, and what it waits for."""

    task: str
    what: str
    """In words: ``"Event.wait at test_x.py:12:reader"``."""
    stack: tuple[Location, ...]
    """Outermost first."""


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """An execution that failed, with all that is known of it."""

    kind: Kind
    message: str
    """One line."""
    schedule: Schedule
    exception: BaseException | None = None
    steps: tuple[Step, ...] = ()
    waiting: tuple[Waiter, ...] = ()
    found: Schedule | None = None
    """The schedule it was found with, before it was shrunk."""
    minimal: bool = False
    """Whether every schedule with fewer switches was run, and none fails in this way."""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two failures the same bug, for who shrinks one."""
        return self.kind, type(self.exception).__name__


class RaceFoundError(AssertionError):
    """
    An exploration found a schedule under which the scenario fails; its message is the report.

    Args:
        replay: The command that runs that schedule again; by default the call of ``explore()``.
    """

    def __init__(self, result: Result, replay: str = "") -> None:
        self.result = result
        self.failure: Failure | None = result.failure
        from ._report import report

        super().__init__(report(result, replay=replay))


@final
@dataclass(frozen=True, slots=True)
class Result:
    """What :func:`explore` found."""

    backend: str
    strategy: str
    verdict: str
    """``"exhaustive"``, ``"bounded (≤ 3 delays)"``, ``"sampled (n)"``; never more than is true."""
    schedules: int
    """How many executions were run, those cut short included."""
    failure: Failure | None = None
    """The first one, if any."""
    failures: int = 0
    """How many executions failed; more than one only with *keep_going*."""
    blocked: int = 0
    """How many executions were cut short, as equivalent to one explored before."""
    classes: int = 0
    """How many executions were pairwise inequivalent, where that was looked at."""
    outcomes: Mapping[Hashable, int] = field(default_factory=dict[Hashable, int])
    """What the scenario returned, or the kind of the failure, and how often."""
    notes: tuple[str, ...] = ()
    """What limits the verdict: accesses that cannot be seen, branches cut short …"""
    seconds: float = 0.0
    seed: int | str = 0
    met: tuple[str, ...] = ()
    """The names of the tasks, until all that *cancel* names were among them; without it, none."""

    def __str__(self) -> str:
        text = f"{self.verdict}: {self.schedules} schedules on {self.backend} by {self.strategy}"
        if self.failure is not None:
            text = (
                f"{self.failure.kind} after {text}\n{self.failure.message}\n"
                f"schedule: {self.failure.schedule}"
            )
        return "\n".join((text, *(f"note: {note}" for note in self.notes)))

    def raise_if_failed(self) -> None:
        """
        Raise what was found, if anything was.

        Raises:
            RaceFoundError: There is a failure; its cause is the scenario's own exception.
        """
        if self.failure is not None:
            raise RaceFoundError(self) from self.failure.exception


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is; what *progress* is called with, a few times a second."""

    strategy: str
    schedules: int
    max_schedules: int
    failures: int
    seconds: float
