"""
Every interleaving of an async test, and the failing one replayed.

It knows nothing of procfs: it explores any code written with anyio, trio or asyncio.
"""

from ._explorer import explore
from ._outside import UncontrolledError
from ._race import Race
from ._report import report
from ._result import (
    Failure,
    Location,
    Progress,
    RaceFoundError,
    Result,
    Step,
    Touch,
    Waiter,
)
from ._schedule import Schedule
from ._shard import explore_on
from ._svg import draw_svg

__all__ = [
    "Failure",
    "Location",
    "Progress",
    "Race",
    "RaceFoundError",
    "Result",
    "Schedule",
    "Step",
    "Touch",
    "UncontrolledError",
    "Waiter",
    "draw_svg",
    "explore",
    "explore_on",
    "report",
]

# Tracebacks, pickles and documentation should name the path users import from.
for _name in __all__:
    globals()[_name].__module__ = __name__
