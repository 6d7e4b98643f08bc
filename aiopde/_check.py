"""What users pass, checked where it comes in: so that it is told there, and not where it fails."""

from __future__ import annotations

import math
import sys
from threading import get_ident
from typing import Final

ID_MAX: Final = 2**32 - 2
"""The largest user or group id: the next one means "leave it as it is"."""
SIZE_MAX: Final = 2**63 - 1
"""The largest size or offset of a file, in bytes (``loff_t``)."""


def check_int(what: str, value: object) -> None:
    """Refuse what is no whole number; *what* may end with an example, ``"mode, as 0o644,"``."""
    if not isinstance(value, int):
        msg = f"{what} is an int, not {value!r:.60}"
        raise TypeError(msg)


def in_range(what: str, value: int, last: int) -> int:
    """Return a number of 0 to *last*; refuse any other."""
    check_int(what, value)
    if not 0 <= value <= last:
        msg = f"{what} is 0 to {last}, not {value}"
        raise ValueError(msg)
    return value


def check_bool(what: str, value: object) -> None:
    """Refuse what only counts as true or false, as the text "no" counts as true."""
    if not isinstance(value, bool):
        msg = f"{what} is True or False, not {value!r:.60}"
        raise TypeError(msg)


def check_seconds(what: str, seconds: object) -> None:
    """Refuse what is no time to wait."""
    if seconds is None:
        return
    msg = f"{what} is a number of seconds >= 0, or None for ever, not {seconds!r:.60}"
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise TypeError(msg)
    # An int beyond all floats could not be added to a loop's time.
    if not (0 <= seconds <= sys.float_info.max or seconds == math.inf):
        raise ValueError(msg)


def check_thread(owner: object, thread: int | None) -> None:
    """
    Refuse a call from another thread than that of the event loop something belongs to.

    Its counts are plain numbers and its events that loop's. Other loops run in other threads, so
    that these are seen too, for less than it takes to ask which loop is running.
    """
    if thread is not None and thread != get_ident():
        msg = (
            f"{owner!r} belongs to the event loop of another thread: from this one, call"
            " anyio.from_thread.run_sync(function), or run(function) if that is async"
        )
        raise RuntimeError(msg)


def check_path(path: object) -> None:
    """Refuse what is no path."""
    if not isinstance(path, str):
        msg = f"a path is a str, as 'driver/x', not {path!r:.60}"
        raise TypeError(msg)
