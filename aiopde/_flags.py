"""What the flags of an open ask for (fcntl.h)."""

from __future__ import annotations

import os
from errno import EINVAL
from typing import Final

from ._credentials import MAY_READ, MAY_WRITE

_BITS: Final = 31
"""How many an ``int`` of C has for flags. A file keeps marks of its own above them."""


def check_flags(flags: object) -> None:
    """Refuse what are no flags."""
    if not isinstance(flags, int):
        msg = f"flags are os.O_*, as os.O_RDWR, not {flags!r:.60}: open() has no mode"
        raise TypeError(msg)
    if flags >> _BITS:
        raise OSError(EINVAL, f"flags are os.O_*, as os.O_RDWR, not {flags:#x}")


def readable(flags: int) -> bool:
    """Tell whether a file opened with *flags* may be read."""
    return flags & os.O_ACCMODE in {os.O_RDONLY, os.O_RDWR}


def writable(flags: int) -> bool:
    """Tell whether a file opened with *flags* may be written."""
    return flags & os.O_ACCMODE in {os.O_WRONLY, os.O_RDWR}


def wanted(flags: int) -> int:
    """Return the rights that an open with *flags* needs, as a mask for the mode bits."""
    # The fourth access mode asks for both rights, and gives neither.
    both = flags & os.O_ACCMODE == os.O_ACCMODE
    read = MAY_READ if both or readable(flags) else 0
    return read | (MAY_WRITE if both or writable(flags) or flags & os.O_TRUNC else 0)
