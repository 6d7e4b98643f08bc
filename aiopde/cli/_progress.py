"""A line on the terminal that tells how far a command is."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TextIO

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

SECONDS_BETWEEN: Final = 0.1


@asynccontextmanager
async def progress(line: Callable[[], str], terminal: TextIO) -> AsyncGenerator[None]:
    """
    Show a line again and again while the block runs, then wipe it out.

    Does nothing if *terminal* is none. Needs no control sequence but the carriage return.
    """
    if not terminal.isatty():
        yield
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_redraw, line, terminal)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()
            _draw("", terminal)


async def _redraw(line: Callable[[], str], terminal: TextIO) -> None:
    while True:
        _draw(line(), terminal)
        await anyio.sleep(SECONDS_BETWEEN)


def _draw(text: str, terminal: TextIO) -> None:
    width = shutil.get_terminal_size().columns - 1  # the last column would start a new line
    terminal.write(f"\r{text[:width]:{width}}\r")
    terminal.flush()
