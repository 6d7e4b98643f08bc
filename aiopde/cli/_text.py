"""How things are written for people."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: str = "") -> str:
    """Lay rows out below their heads; those columns whose number is in *right* to the right."""
    lines = [heads, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(heads))]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if str(n) in right else f"{cell:{width}}"
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def duration(seconds: float) -> str:
    """Write a time down: ``"0.4 s"``, ``"42 s"``, ``"3 min 07 s"``, ``"2 h 05 min"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def line_of(stack: Sequence[str]) -> str:
    """Tell on which line of its handler a call is: the outermost frame, without the folder."""
    return os.path.basename(stack[-1]) if stack else "?"


def calls(number: int) -> str:
    """Write a number of calls down."""
    return "1 call" if number == 1 else f"{number} calls"
