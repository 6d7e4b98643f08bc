"""`aiopde top`: what is drawn, at any size, and what keys do."""

import fcntl
import io
import json
import os
import pty
import select
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.console import Console

from aiopde.cli.top import _picture
from aiopde.cli.top._keys import Keys
from aiopde.cli.top._snapshot import Snapshot
from aiopde.cli.top._view import View

from .conftest import RunCommand, StartKernel, running


def entry(path: str, state: str = "live", in_use: int = 0, open_files: int = 0) -> dict[str, Any]:
    name = path.rpartition("/")[2]
    told = {"path": path, "name": name, "target": None, "mode": "-r--r--r--"}
    return told | {"state": state, "in_use": in_use, "open_files": open_files}


def call(path: str, seconds: float) -> dict[str, Any]:
    return {
        "task": "control pid 7",
        "path": path,
        "op": "read",
        "seconds": seconds,
        "stack": ["/x/sleep.py:1 in sleep", "/x/driver.py:12 in hold"],
    }


def module(name: str, state: str = "Live") -> dict[str, Any]:
    return {"name": name, "refcnt": 0, "used_by": [], "state": state}


def snapshot(files: int = 1, truncated: bool = False, **info: Any) -> Snapshot:
    entries = [entry("/proc"), *(entry(f"/proc/f{n}") for n in range(files))]
    entries += [entry("/proc/busy", in_use=1, open_files=2)]
    entries += [entry("/proc/gone", "dying", in_use=1), entry("/proc/left", "releasing")]
    told = {"pid": 42, "mountpoint": "/proc", "seconds": 3.0, "oopses": 0} | info
    modules = [module("driver"), module("old", "Unloading") | {"used_by": ["driver"]}]
    inside = [call("/proc/busy", 1), call("/proc/gone", 200)]
    return Snapshot(told, modules, entries, truncated, inside)


def drawn(shot: Snapshot, width: int, height: int, view: View | None = None) -> list[str]:
    """The lines of a picture, and a check that it fills the terminal and no more."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(_picture.picture(shot, view or View(), width, height))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    return lines


def text(lines: list[str]) -> str:
    return "\n".join(lines)


class TestPicture:
    @pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (130, 24), (129, 60)])
    def test_everything_is_there(self, width: int, height: int) -> None:
        """
        Tree, calls inside and modules are on the screen, whatever its size.
        """
        lines = drawn(snapshot(), width, height)
        start = "/proc of process 42  up 3.0 s  5 entries  2 calls inside  2 open  2 dying"
        assert lines[0].strip() == start
        assert lines[-1].startswith("q quit")
        for words in (
            "f0",
            "busy",
            "dying",
            "releasing",
            "control pid 7",
            "3 min 20 s",
            "driver",
        ):
            assert words in text(lines)
        assert "driver.py:12 in hold" in text(lines)

    def test_wide_is_side_by_side(self) -> None:
        """
        With room enough the panels are beside each other, and show the stacks.
        """
        lines = drawn(snapshot(), 200, 50)
        assert "tree" in lines[1]
        assert "inside" in lines[1]
        assert "sleep.py:1 in sleep" in text(lines)

    def test_the_longest_inside_is_first(self) -> None:
        """
        Who has been inside for longest is most likely what one looks for.
        """
        lines = drawn(snapshot(), 80, 24)
        first, second = (n for n, line in enumerate(lines) if "control pid 7" in line)
        assert "/proc/gone" in lines[first]
        assert "/proc/busy" in lines[second]

    def test_what_does_not_fit_is_counted(self) -> None:
        """
        Of a long tree a part is shown, and one is told how much there is above and below.
        """
        view = View()
        assert "0 above" in text(drawn(snapshot(files=100), 80, 24, view))
        view.first = 50
        lines = drawn(snapshot(files=100), 80, 24, view)
        assert "50 above" in text(lines)
        assert "── f49" in text(lines)
        view.first = 1000
        assert ", 0 below" in text(drawn(snapshot(files=100), 80, 24, view))

    @pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 24)])
    def test_many_calls_are_counted(self, width: int, height: int) -> None:
        """
        Of many calls those are shown that have been inside for longest.
        """
        shot = snapshot()
        shot.inside.extend(call("/proc/busy", n) for n in range(50))
        assert "more" in text(drawn(shot, width, height))

    @pytest.mark.parametrize(("width", "height"), [(10, 4), (40, 8), (1000, 5)])
    def test_a_tiny_terminal(self, width: int, height: int) -> None:
        """
        With next to no room it draws what it can.
        """
        drawn(snapshot(files=20), width, height)

    def test_markup_is_text(self) -> None:
        """
        A name that looks like an instruction to the library is shown as it is.
        """
        shot = snapshot()
        shot.entries.append(entry("/proc/[red]x"))
        assert "[red]x" in text(drawn(shot, 80, 24))

    def test_oopses_and_more(self) -> None:
        """
        Failed tasks are told in the headline, and a tree that was cut off has a plus.
        """
        line = drawn(snapshot(truncated=True, oopses=3), 100, 24)[0]
        assert "5+ entries" in line
        assert "3 oopses" in line

    def test_paused(self) -> None:
        """
        If time stands still, that is said.
        """
        view = View()
        view.press(" ")
        assert drawn(snapshot(), 80, 24, view)[-1].rstrip().endswith("paused")


class TestView:
    def test_keys(self) -> None:
        """
        Each key does what the last line says; others nothing.
        """
        view = View()
        for key in ("j", "down", "j", "k", "up", "j"):
            view.press(key)
        assert view.first == 2
        for key in ("x", ""):
            view.press(key)
        assert (view.first, view.paused, view.ended) == (2, False, False)
        view.press("g")
        view.press("p")
        view.press("q")
        assert (view.first, view.paused, view.ended) == (0, True, True)


class TestKeys:
    async def test_they_are_read_one_by_one(self) -> None:
        """
        A character is itself, an arrow its name, what is unknown nothing, the end q.
        """
        ours, theirs = os.pipe()
        keys = Keys(ours)
        for data, key in ((b"j", "j"), (b"\x1b[A", "up"), (b"\x1b[B", "down"), (b"\xc3\xa9", "")):
            os.write(theirs, data)
            assert await keys.read() == key
        os.close(theirs)
        with anyio.fail_after(10):
            assert await keys.read() == "q"
        os.close(ours)


class Terminal:
    """A terminal of 80 x 24, with `aiopde top` on it."""

    def __init__(self, control: str, *options: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.theirs = theirs
        command = [sys.executable, "-m", "aiopde", "top", "--control", control, *options]
        env = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        self.run = running(command, stdin=theirs, stdout=theirs, env=env, start_new_session=True)
        self.seen = ""

    def until(self, words: str) -> None:
        """Read until it shows the words."""
        while words not in self.seen:
            ready, _, _ = select.select([self.ours], [], [], 10)
            assert ready, self.seen
            self.seen += os.read(self.ours, 65536).decode()

    def press(self, key: str) -> None:
        self.seen = ""
        os.write(self.ours, key.encode())

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


class TestOnATerminal:
    def test_until_q(self, start_kernel: StartKernel, driver: Path) -> None:
        """
        It draws, obeys keys, follows what happens, and gives the terminal back.
        """
        kernel = start_kernel(str(driver))
        terminal = Terminal(kernel.control, "--interval", "0.05")
        before = termios.tcgetattr(terminal.theirs)
        with terminal.run as top:
            terminal.until("q quit")
            assert "\x1b[?1049h" in terminal.seen
            assert "greeting" in terminal.seen
            terminal.press(" ")
            terminal.until("paused")
            terminal.press("j")
            terminal.until("paused")
            terminal.press(" ")
            kernel.ask("rmmod", name="driver")
            terminal.until("2 entries")
            terminal.press("q")
            terminal.until("\x1b[?1049l")
            assert top.wait(10) == 0
            assert termios.tcgetattr(terminal.theirs) == before
        terminal.close()

    def test_while_it_is_paused(self, start_kernel: StartKernel, driver: Path) -> None:
        """
        A picture that stands still does not follow what happens.
        """
        kernel = start_kernel(str(driver))
        terminal = Terminal(kernel.control, "--interval", "0.01")
        with terminal.run as top:
            terminal.until("q quit")
            terminal.press("p")
            terminal.until("paused")
            kernel.ask("rmmod", name="driver")
            for _ in range(3):
                terminal.seen = ""
                terminal.until("paused")
                assert "greeting" in terminal.seen
            terminal.press("q")
            assert top.wait(10) == 0
        terminal.close()

    def test_the_kernel_goes(self, start_kernel: StartKernel, driver: Path) -> None:
        """
        When there is nothing left to show the terminal is given back, and it is said why.
        """
        kernel = start_kernel(str(driver))
        terminal = Terminal(kernel.control, "--interval", "0.05")
        with terminal.run as top:
            terminal.until("q quit")
            kernel.process.kill()
            terminal.until("\x1b[?1049l")
            assert top.wait(10) == 1
            assert top.stderr is not None
            assert "the kernel has gone" in top.stderr.read()
        terminal.close()


class TestWithoutATerminal:
    @pytest.mark.parametrize("once", [[], ["--once"]])
    def test_one_picture(
        self, run_command: RunCommand, start_kernel: StartKernel, driver: Path, once: list[str]
    ) -> None:
        """
        In a pipe, and with --once, it prints everything once, without control sequences.
        """
        kernel = start_kernel(str(driver))
        code, out, err = run_command("top", *once, "--control", kernel.control)
        assert (code, err) == (0, "")
        assert "\x1b" not in out
        for words in ("greeting", "MODULE", "TASK", f"process {kernel.pid}"):
            assert words in out

    def test_as_json(
        self,
        run_command: RunCommand,
        start_kernel: StartKernel,
        driver: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """
        As JSON it needs nothing installed; to draw, it says what to install.
        """
        kernel = start_kernel(str(driver))
        monkeypatch.delitem(sys.modules, "aiopde.cli.top._picture")
        monkeypatch.setitem(sys.modules, "rich.console", None)
        told = json.loads(run_command("top", "--json", "--control", kernel.control).out)
        assert told.keys() == {"info", "modules", "entries", "truncated", "inside"}
        code, out, err = run_command("top", "--control", kernel.control)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "pip install 'aiopde[cli]'" in err
