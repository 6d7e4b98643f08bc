"""The keyboard, key by key."""

from __future__ import annotations

import os
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator

_SEQUENCES: Final = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[H": "home",
    b"\x1b[1~": "home",
}
"""What terminals send for the keys that are no characters."""


@final
class Keys:
    """Reads one key after the other from a terminal."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal

    async def read(self) -> str:
        """Wait for a key; return its character or its name, "" for others. ``q`` at the end."""
        await anyio.wait_readable(self._terminal)
        data = os.read(self._terminal, 16)
        if not data:
            return "q"
        return _SEQUENCES.get(data) or data[:1].decode("ascii", "ignore")


@contextmanager
def keyboard() -> Generator[Keys]:
    """Get each key as it is pressed and show none, for the time of a block."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield Keys(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
