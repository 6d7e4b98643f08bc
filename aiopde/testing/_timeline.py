"""A failing execution, ready to be drawn: a lane for each task, a row for each step."""

from __future__ import annotations

import linecache
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from ._schedule import CANCEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ._result import Failure, Location, Step

RUNS: Final = "runs"
READY: Final = "ready"
WAITS: Final = "waits"
ABSENT: Final = "absent"
_MOST_NOTES: Final = 3


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One step of one task, or the arrival of a cancellation at it."""

    number: int
    """From 1."""
    lane: int
    """Whose step it is: an index of :attr:`Timeline.lanes`."""
    states: tuple[str, ...]
    """What each task was doing then: it runs, is ready, waits, or is absent."""
    where: str
    """Where the task stands after the step: ``"file.py:12 in read"``."""
    source: str
    """The text of that line."""
    switch: bool
    """Whether another task made the step before this one."""
    preempts: bool
    """Whether that other task could have gone on: a choice, and no necessity."""
    cancels: bool
    """Whether it is no step of the task's own, but a cancellation that arrives."""
    wakes: tuple[int, ...]
    """The lanes of those it woke or started."""
    notes: tuple[str, ...]
    """What matters about it, in words."""


@final
@dataclass(frozen=True, slots=True)
class Timeline:
    """An execution as a picture."""

    title: str
    """What was explored."""
    failure: str
    """How it ended, in one line."""
    lanes: tuple[str, ...]
    """The names of the tasks, in the order in which they were heard of."""
    rows: tuple[Row, ...]


def timeline(failure: Failure, title: str) -> Timeline:
    """Make the picture of a failure whose steps were recorded."""
    lanes = _lanes(failure.steps)
    message = f"{failure.kind}: {failure.message}"
    return Timeline(title, message, tuple(lanes), tuple(_rows(failure.steps, lanes)))


def _lanes(steps: Iterable[Step]) -> dict[str, int]:
    names: dict[str, int] = {}
    for step in steps:
        for name in (step.task, *step.others, *step.woke):
            names.setdefault(name.lstrip(CANCEL), len(names))
    return names


def _rows(steps: Sequence[Step], lanes: Mapping[str, int]) -> Iterator[Row]:
    there: set[int] = set()
    conflicts = _Conflicts()
    before = steps[0].task if steps else ""
    for number, step in enumerate(steps, 1):
        lane = lanes[step.task.lstrip(CANCEL)]
        ready = {lanes[other.lstrip(CANCEL)] for other in step.others}
        there |= ready | {lane}
        marks = (mark for mark in step.marks if mark != "ends")
        yield Row(
            number=number,
            lane=lane,
            states=tuple(_state(i, lane, ready, there) for i in range(len(lanes))),
            where=_where(step),
            source=source(step.ended or step.began),
            switch=before != step.task,
            preempts=before != step.task and before in step.others,
            cancels=step.task.startswith(CANCEL),
            wakes=tuple(lanes[woken] for woken in step.woke),
            notes=(*marks, *conflicts.of(number, step)),
        )
        before = step.task
        there |= {lanes[woken] for woken in step.woke}
        if "ends" in step.marks:
            there.discard(lane)


def _state(lane: int, moves: int, ready: set[int], there: set[int]) -> str:
    if lane == moves:
        return RUNS
    if lane in ready:
        return READY
    return WAITS if lane in there else ABSENT


def _where(step: Step) -> str:
    if step.task.startswith(CANCEL):
        return "is cancelled"
    if step.ended is None:
        return f"{place(step.began)}, to its end" if step.began else "to its end"
    return place(step.ended)


def place(location: Location) -> str:
    """Say where that is, as short as can be."""
    return f"{os.path.basename(location.file)}:{location.line} in {location.function}"


def source(location: Location | None) -> str:
    """Return the text of a line, or nothing if it cannot be had."""
    return linecache.getline(location.file, location.line).strip() if location else ""


@final
class _Conflicts:
    """Finds, for each step, what it touches that another task has touched before, one writing."""

    def __init__(self) -> None:
        self._touched: dict[str, list[tuple[int, str, bool]]] = {}
        self._started: dict[str, int] = {}

    def of(self, number: int, step: Step) -> list[str]:
        """Say in words what the step has to do with those before it; to be asked in order."""
        for woken in step.woke:
            self._started.setdefault(woken, number)
        # What came before the task was started could not have come after.
        began = self._started.get(step.task, 0)
        notes: list[str] = []
        for touch in step.touched:
            before = self._touched.setdefault(touch.what, [])
            for earlier, task, wrote in reversed(before):
                if earlier > began and task != step.task and (wrote or touch.write):
                    verb, past = ("reads", "writes")[touch.write], ("read", "written")[wrote]
                    notes.append(f"{verb} {touch.what}, {past} by {task} in step {earlier}")
                    break
            before.append((number, step.task, touch.write))
        more = len(notes) - _MOST_NOTES
        return notes if more <= 0 else [*notes[:_MOST_NOTES], f"and {more} more conflicts"]
