"""The words of a scenario: escaped text, C numbers, flags, and data too long to be shown."""

from __future__ import annotations

import errno
import mmap
import os
import re
import select
import zlib
from typing import Any, Final

Result = dict[str, Any]
"""What a step gave: ``{"ret": 5, "data": "hello"}``, or ``{"pending": True}``."""

LEFT_OUT: Final[Result] = {"left_out": True}
"""The result of what cannot be done here."""
SHOWN: Final = 256
"""Bytes of data that a recording shows in full."""
_REPEAT: Final = re.compile(r"%\{(\d+)\*(.)\}")
_BYTE: Final = re.compile(r"%([0-9a-fA-F]{2})")
_ACCESS: Final = {os.O_RDONLY: "RDONLY", os.O_WRONLY: "WRONLY", os.O_RDWR: "RDWR"}
# What fcntl(F_GETFL) still shows of an open's flags.
_LASTING: Final = (
    "APPEND",
    "NONBLOCK",
    "DSYNC",
    "DIRECT",
    "DIRECTORY",
    "NOFOLLOW",
    "NOATIME",
    "PATH",
)
_ALIASES: Final = {errno.EDEADLK: "EDEADLK", errno.EOPNOTSUPP: "EOPNOTSUPP"}
_POLL: Final = ("IN", "PRI", "OUT", "ERR", "HUP", "NVAL", "RDNORM", "RDBAND", "WRNORM", "WRBAND")


def decode(text: str) -> str:
    """Undo ``%XX`` (a byte, kept as one character) and ``%{N*c}`` (a character N times)."""
    text = _REPEAT.sub(lambda found: found[2] * int(found[1]), text)
    return _BYTE.sub(lambda found: chr(int(found[1], 16)), text)


def to_bytes(text: str) -> bytes:
    """Decode text that stands for bytes."""
    return decode(text).encode("latin-1")


def to_name(text: str) -> str:
    """Decode text that stands for a file name, as Python writes those."""
    return os.fsdecode(to_bytes(text))


def number(text: str) -> int:
    """Read a number as C writes it: ``0644`` is octal, ``0x1`` hexadecimal."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    octal = len(digits) > 1 and digits.isdigit() and digits.startswith("0")
    return sign * int(digits, 8 if octal else 0)


def open_flags(text: str) -> int:
    """Read ``RDWR|CREAT``."""
    return _any_of(os, "O_", text)


def poll_mask(text: str) -> int:
    """Read ``IN|OUT``."""
    return _any_of(select, "POLL", text)


def protection(text: str) -> int:
    """Read ``READ|WRITE``, or ``NONE``."""
    return _any_of(mmap, "PROT_", "" if text == "NONE" else text)


def _any_of(module: object, prefix: str, text: str) -> int:
    mask = 0
    for word in text.split("|"):
        mask |= int(getattr(module, prefix + word)) if word else 0
    return mask


def name_flags(flags: int) -> str:
    """Write ``RDWR|NONBLOCK`` as ``fcntl(F_GETFL)`` is shown."""
    names = [
        name for name in _LASTING if flags & getattr(os, f"O_{name}") == getattr(os, f"O_{name}")
    ]
    return "|".join([_ACCESS[flags & os.O_ACCMODE], *names])


def name_mask(mask: int) -> str:
    """Write ``IN|OUT``."""
    return "|".join(name for name in _POLL if mask & getattr(select, f"POLL{name}"))


def name_errno(number: int) -> str:
    """Write ``EIO``; a number that has no name (512) as it is."""
    return _ALIASES.get(number) or errno.errorcode.get(number, str(number))


def failed(number: int) -> Result:
    """Make the result of a system call that failed."""
    return {"ret": -1, "errno": name_errno(number)}


def shown(data: bytes) -> Result:
    """Make the result of a call that returned bytes."""
    if len(data) <= SHOWN:
        return {"ret": len(data), "data": data.decode("latin-1")}
    head, tail = data[:32].decode("latin-1"), data[-32:].decode("latin-1")
    return {"ret": len(data), "crc32": zlib.crc32(data), "head": head, "tail": tail}
