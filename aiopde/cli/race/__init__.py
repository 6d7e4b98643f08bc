"""
``aiopde race``: readers race the removal of what they read.

General layout: ``_course`` lets readers and removers loose on one of the ``_schemes``, each of
which leads them to a ``_driver``, the code and data that removal takes away. ``_tally`` counts
what happens, ``_report`` says it.
"""

from __future__ import annotations

import sys

from aiopde.cli import _loops
from aiopde.cli._progress import progress

from . import _report
from ._course import Settings, race
from ._tally import Tally

__all__ = ["Settings", "run"]


def run(settings: Settings, *, as_json: bool) -> int:
    """Run the race and print what came of it; return the exit code."""
    tally = Tally()

    async def main() -> None:
        if not as_json:
            print(_report.headline(settings), flush=True)
        async with progress(lambda: _report.progress_line(tally), sys.stderr):
            await race(settings, tally)

    _loops.run(main, settings.backend)
    print(_report.as_json(settings, tally) if as_json else _report.as_text(settings, tally))
    return 0 if _report.is_fine(settings, tally) else 1
