"""A failing schedule in words: what failed, how to see it again, and what each task did."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

from ._result import Result
from ._timeline import ABSENT, READY, RUNS, WAITS, place, source, timeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ._result import Failure, Waiter
    from ._timeline import Row, Timeline

_SIGNS: Final = {RUNS: "●", READY: "│", WAITS: "┊", ABSENT: " "}
_PREEMPTS: Final = "◎"
_CANCELS: Final = "✕"
_LEGEND: Final = (
    "● runs   ◎ runs, where the one before could have gone on   ✕ is cancelled   "
    "│ is ready   ┊ waits   ⇢ wakes"
)
_WIDEST_LANE: Final = 12
_WIDEST_PLACE: Final = 56
_LONGEST_LINE: Final = 72
_MOST_ROWS: Final = 80
"""Of more, those are left out where one task goes on and nothing that matters happens."""
_BOTH_ENDS: Final = 100
"""How many are shown of the beginning, and of the end, of what is longer all the same."""


def report(result: Result, replay: str = "") -> str:
    """
    Tell all there is to know about a failure; of a success, the verdict and what limits it.

    Args:
        result: What :func:`explore` returned.
        replay: The command that replays it, where there is one; else the call of ``explore()``.

    Raises:
        TypeError: It is no result.
    """
    if not isinstance(cast("object", result), Result):
        msg = f"report() wants what explore() returned, not {result!r:.60}"
        raise TypeError(msg)
    failure = result.failure
    if failure is None:
        return str(result)
    parts = [_headline(result, failure), _how_to_replay(result, failure, replay)]
    if failure.steps:
        parts.append(draw(timeline(failure, "")))
    if failure.waiting:
        parts.append("\n".join(_waiting(failure.waiting)))
    return "\n\n".join((*parts, *result.notes))


def _headline(result: Result, failure: Failure) -> str:
    how = f"schedule {result.schedules} of strategy {result.strategy}"
    if result.strategy == "replay":
        how = "replayed"
    return f"{failure.kind}: {failure.message}\n({result.backend}, {how}{_shrunk(failure)})"


def _shrunk(failure: Failure) -> str:
    if failure.found is None:
        return ""
    number = failure.schedule.switches
    if not number:
        return "; shrunk to no context switch at all"
    switches = f"{number} context switch{'' if number == 1 else 'es'}"
    if failure.minimal:
        return f"; shrunk to {switches}, and proven that it takes as many"
    return f"; shrunk to {switches}, perhaps not the fewest"


def _how_to_replay(result: Result, failure: Failure, replay: str) -> str:
    call = f'explore(…, backend="{result.backend}", replay="{failure.schedule}")'
    return f"replay: {replay}\n    or: {call}" if replay else f"replay: {call}"


def draw(picture: Timeline) -> str:
    """Return the lanes as text that needs no more than a fixed-width font."""
    widths = [min(max(len(name), 4), _WIDEST_LANE) for name in picture.lanes]
    names = (cut(n, w).ljust(w) for n, w in zip(picture.lanes, widths, strict=True))
    lines = ["step  " + "  ".join(names), *_lines(picture, widths), _LEGEND]
    return "\n".join(line.rstrip() for line in lines)


def cut(text: str, longest: int) -> str:
    """Return the text, shortened if it has to be."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _lines(picture: Timeline, widths: Sequence[int]) -> Iterator[str]:
    shown = _shown(picture.rows)
    widest = min(max((len(row.where) for row in shown), default=0), _WIDEST_PLACE)
    before = 0
    for row in shown:
        if row.number > before + 1:
            yield f"      … {row.number - before - 1} more"
        before = row.number
        yield from _row(row, widths, widest, picture.lanes)


def _shown(rows: Sequence[Row]) -> Sequence[Row]:
    if len(rows) <= _MOST_ROWS:
        return rows
    shown = [row for row, after in pairwise(rows) if not _dull(row, after)]
    shown.append(rows[-1])
    if len(shown) <= 2 * _BOTH_ENDS:
        return shown
    return shown[:_BOTH_ENDS] + shown[-_BOTH_ENDS:]


def _dull(row: Row, after: Row) -> bool:
    matters = row.switch or row.notes or row.wakes or after.switch or after.notes
    return not matters


def _row(row: Row, widths: Sequence[int], widest: int, names: Sequence[str]) -> Iterator[str]:
    signs = [_SIGNS[state] for state in row.states]
    if row.cancels or row.preempts:
        signs[row.lane] = _CANCELS if row.cancels else _PREEMPTS
    # A sign stands below the middle of its lane's name.
    drawn = "  ".join(sign.center(width) for sign, width in zip(signs, widths, strict=True))
    wakes = ", ".join(names[lane] for lane in row.wakes)
    told = cut(row.source, _LONGEST_LINE) + (f"  ⇢ {wakes}" if wakes else "")
    yield f"{row.number:>4}  {drawn}  {cut(row.where, widest):<{widest}}  {told}"
    margin = " " * (6 + len(drawn) + 2)
    for note in row.notes:
        yield f"{margin}└ {note}"


def _waiting(waiters: Iterable[Waiter]) -> Iterator[str]:
    yield "who waits for what:"
    for waiter in waiters:
        yield f"  {waiter.task} waits for {waiter.what}"
        for location in waiter.stack:
            yield f"      {place(location):<40}  {source(location)}".rstrip()
