"""A run as a standalone SVG file: lanes down the page, light or dark as the reader's screen is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from xml.sax.saxutils import escape

from ._result import Failure
from ._timeline import ABSENT, WAITS, timeline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._timeline import Row, Timeline

_ROW: Final = 22
_LANE: Final = 104
_LEFT: Final = 56
_TOP: Final = 92
_LETTER: Final = 7.25
_LONGEST_PLACE: Final = 52
_LONGEST_NOTES: Final = 64
_LABELS_EVERY: Final = 30
"""Rows after which the names of the lanes are said again: a tall picture is scrolled."""
_LONGEST_NAME: Final = 13
_LONGEST_LINE: Final = 64
_LONGEST_TITLE: Final = 120
_LEGEND: Final = (
    "◎ the one before could have gone on   ┊ waits   ⇢ wakes   ▒ accesses that conflict"
)

# One colour for a lane; they are told apart by those who see no red or green, too (Okabe, Ito).
_HUES: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f5fc4", "#777")
# No variables: some viewers of SVG know media queries, but not those.
_STYLE: Final = """
svg { background: #fff }
text { font: 12px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #222 }
.title { font-size: 15px; font-weight: bold } .faint { fill: #707070 } .failure { fill: #b00020 }
.ready { stroke: #999; stroke-width: 1.5 } .switch { stroke: #999; stroke-width: 1.5; fill: none }
.waits { stroke: #bbb; stroke-width: 1.5; stroke-dasharray: 2 4 }
.wake { stroke: #999; stroke-dasharray: 3 3; fill: none } .tip { fill: #999 }
.mark { stroke: #b00020; stroke-width: 2.5; fill: none } .band { fill: #fff3cd }
@media (prefers-color-scheme: dark) {
svg { background: #16181c } text { fill: #e4e4e4 } .faint { fill: #9a9a9a }
.failure { fill: #ff8a80 } .mark { stroke: #ff8a80 } .band { fill: #3a3420 }
.ready, .switch, .wake { stroke: #888 } .waits { stroke: #5a5a5a } .tip { fill: #888 }
}
"""


def draw_svg(failure: Failure, title: str = "") -> str:
    """
    Draw a failing schedule, as the text of an SVG file that needs nothing else.

    One lane for each task, time going down, one row for each step, with the line of source where
    it ended. Light or dark, as the reader's screen is.

    Args:
        failure: What :func:`explore` found.
        title: What was explored; the headline.

    Raises:
        TypeError: It is no failure, as where none was found.
    """
    if not isinstance(cast("object", failure), Failure):
        msg = f"draw_svg() wants a failure, as explore(...).failure, not {failure!r:.60}"
        raise TypeError(msg)
    picture = timeline(failure, title)
    right = _LEFT + _LANE * len(picture.lanes)
    columns = _columns(picture, right)
    width = columns[2] + int(_LONGEST_NOTES * _LETTER)
    height = _TOP + _ROW * (len(picture.rows) + 3)
    body = "\n".join(_body(picture, columns, width))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">\n<title>{_safe(title)}</title>\n'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


def _columns(picture: Timeline, right: int) -> tuple[int, int, int]:
    """Return where places, lines of source and notes begin."""
    place = min(max((len(row.where) for row in picture.rows), default=0), _LONGEST_PLACE)
    line = min(max((len(row.source) for row in picture.rows), default=0), _LONGEST_LINE)
    source = right + int((place + 2) * _LETTER)
    return right, source, source + int((line + 2) * _LETTER)


def _body(picture: Timeline, columns: tuple[int, int, int], width: int) -> Iterator[str]:
    right = columns[0]
    yield _text(16, 28, _cut(picture.title, _LONGEST_TITLE), "title")
    yield _text(16, 50, _cut(picture.failure, _LONGEST_TITLE), "failure")
    yield _text(right, _TOP - 14, _LEGEND, "faint")
    yield from _names(picture, _TOP - 14)
    rows = picture.rows
    yield from (_band(i, width) for i, row in enumerate(rows) if row.notes)
    for i, row in enumerate(rows):
        yield from _lanes(i, row)
        yield from _links(i, row, rows[i - 1] if i else None)
    for i, row in enumerate(rows):
        yield from _step(i, row, columns)
        if i % _LABELS_EVERY == _LABELS_EVERY - 1:
            yield from _names(picture, _y(i) + 8, faint=True)
    yield from _names(picture, _y(len(rows)) + 10)
    yield _text(right, _y(len(rows)) + 10, _cut(picture.failure, _LONGEST_TITLE), "failure")


def _x(lane: int) -> int:
    return _LEFT + _LANE * lane + _LANE // 2


def _y(row: int) -> int:
    return _TOP + _ROW * row + _ROW // 2


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    return f'<text x="{x}" y="{y}" class="{kind}" xml:space="preserve">{_safe(text)}</text>'


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _safe(text: str) -> str:
    # XML has no way to write most control characters, not even escaped.
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def _names(picture: Timeline, y: int, *, faint: bool = False) -> Iterator[str]:
    for lane, name in enumerate(picture.lanes):
        look = 'class="faint"' if faint else f'style="fill:{_hue(lane)};font-weight:bold"'
        x = _x(lane) + (10 if faint else 0)
        anchor = "start" if faint else "middle"
        word = _safe(_cut(name, _LONGEST_NAME))
        yield f'<text x="{x}" y="{y}" text-anchor="{anchor}" {look}>{word}</text>'


def _hue(lane: int) -> str:
    return _HUES[lane % len(_HUES)]


def _band(i: int, width: int) -> str:
    y = _y(i) - _ROW // 2
    return f'<rect x="0" y="{y}" width="{width}" height="{_ROW}" class="band"/>'


def _lanes(i: int, row: Row) -> Iterator[str]:
    top, bottom = _y(i) - _ROW // 2, _y(i) + _ROW // 2
    for lane, state in enumerate(row.states):
        if state != ABSENT:
            kind = WAITS if state == WAITS else "ready"
            yield _line(_x(lane), top, _x(lane), bottom, kind)


def _line(x1: int, y1: int, x2: int, y2: int, kind: str) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{kind}"/>'


def _links(i: int, row: Row, before: Row | None) -> Iterator[str]:
    """Show how control came to this step, and whom it wakes."""
    if before is not None:
        if row.switch:
            yield _line(_x(before.lane), _y(i - 1), _x(row.lane), _y(i), "switch")
        else:
            yield (
                f'<line x1="{_x(row.lane)}" y1="{_y(i - 1)}" x2="{_x(row.lane)}" y2="{_y(i)}" '
                f'style="stroke:{_hue(row.lane)};stroke-width:5"/>'
            )
    for lane in row.wakes:
        side = 1 if lane > row.lane else -1
        tip, y = _x(lane) - 4 * side, _y(i)
        yield _line(_x(row.lane), y, tip, y, "wake")
        back = tip - 7 * side
        yield f'<path d="M{tip} {y} L{back} {y - 4} L{back} {y + 4} Z" class="tip"/>'


def _step(i: int, row: Row, columns: tuple[int, int, int]) -> Iterator[str]:
    y = _y(i)
    yield _text(16, y + 4, f"{row.number:>3}", "faint")
    yield f"<g><title>{_safe(_tooltip(row))}</title>{_dot(_x(row.lane), y, row)}</g>"
    if row.preempts:
        yield f'<circle cx="{_x(row.lane)}" cy="{y}" r="9" class="mark"/>'
    place, source, notes = columns
    yield _text(place, y + 4, _cut(row.where, _LONGEST_PLACE))
    yield _text(source, y + 4, _cut(row.source, _LONGEST_LINE))
    if row.notes:
        yield _text(notes, y + 4, "◂ " + "; ".join(row.notes), "failure")


def _dot(x: int, y: int, row: Row) -> str:
    if row.cancels:
        cross = f"M{x - 6} {y - 6} L{x + 6} {y + 6} M{x - 6} {y + 6} L{x + 6} {y - 6}"
        return f'<path d="{cross}" class="mark"/>'
    return f'<circle cx="{x}" cy="{y}" r="6" style="fill:{_hue(row.lane)}"/>'


def _tooltip(row: Row) -> str:
    return "\n".join((f"step {row.number}: {row.where}", row.source, *row.notes))
