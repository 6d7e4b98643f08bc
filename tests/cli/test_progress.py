"""The progress line: for eyes only."""

import os
import pty
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from itertools import count

import anyio

from aiopde.cli import _progress

RACE = [sys.executable, "-m", "aiopde", "race", "--readers", "2"]


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


async def test_the_line_is_drawn_again_and_again() -> None:
    """
    The line is asked for anew each time, and drawn over the old one.
    """
    terminal = Terminal()
    third_time = anyio.Event()
    times = count(1)

    def line() -> str:
        time = next(times)
        if time == 3:
            third_time.set()
        return f"time {time}"

    async with _progress.progress(line, terminal):
        await third_time.wait()
    drawn = [text.strip() for text in terminal.getvalue().split("\r")]
    assert [text for text in drawn if text][:3] == ["time 1", "time 2", "time 3"]


async def test_nothing_is_left_of_it() -> None:
    """
    When the block ends the line is wiped out, so that a table can follow.
    """
    terminal = Terminal()
    async with _progress.progress(lambda: "x" * 1000, terminal):
        await anyio.wait_all_tasks_blocked()
    *_, line, _, wiped, end = terminal.getvalue().split("\r")
    assert set(line) == {"x"}
    assert wiped == " " * len(line)
    assert end == ""


async def test_nothing_is_drawn_where_nobody_looks() -> None:
    """
    A file or a pipe gets no progress line.
    """
    not_a_terminal = StringIO()
    async with _progress.progress(lambda: "x", not_a_terminal):
        await anyio.wait_all_tasks_blocked()
    assert not_a_terminal.getvalue() == ""


def test_a_race_shows_it_on_a_terminal() -> None:
    """
    The line goes to the terminal, the table where the output goes.
    """
    ours, theirs = pty.openpty()
    with subprocess.Popen(RACE, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        on_terminal = read_all(ours)
        assert process.stdout is not None
        out = process.stdout.read().decode()
    assert "round 1 of" in on_terminal
    assert "round" not in out
    assert "files opened" in out


def read_all(terminal: int) -> str:
    chunks: list[bytes] = []
    # EIO: nobody has the other end open any more.
    with open(terminal, "rb", buffering=0) as file, suppress(OSError):
        while True:
            chunks.append(file.read(4096))
    return b"".join(chunks).decode()


def test_a_race_shows_none_in_a_pipe() -> None:
    """
    Without a terminal, stderr stays empty.
    """
    done = subprocess.run(RACE, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "files opened" in done.stdout
