"""The Tab key: commands, options, modules and paths of a running kernel."""

import argparse
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, cast

import argcomplete
import pytest

from aiopde.cli import completion
from tests.fuse.harness import guard, needs_mount

from .conftest import RunCommand, Running, StartKernel


def complete(line: str, control: str) -> list[str]:
    """What a shell is offered at the end of *line*, as bash asks for it."""
    ours, theirs = os.pipe()
    # argcomplete answers on descriptor 8, and what goes wrong on 9.
    program = (
        "import os, sys\n"
        f"os.dup2({theirs}, 8)\nos.dup2(2, 9)\n"
        "from aiopde.cli import main\n"
        "sys.argv[0] = 'aiopde'\n"
        "main()\n"
    )
    env = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "AIOPDE_CONTROL": control,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=env,
        pass_fds=[theirs],
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(theirs)
    with open(ours, encoding="utf-8") as answer:
        offered = answer.read().split("\n")
    assert done.returncode == 0, done.stderr
    return [each for each in offered if each]


class TestOffers:
    @pytest.fixture
    def control(self, lasting_kernel: Running) -> str:
        return lasting_kernel.control

    def test_commands(self, control: str) -> None:
        """
        The beginning of a command is completed.
        """
        assert sorted(complete("aiopde mod", control)) == ["modinfo", "modprobe"]

    @pytest.mark.parametrize("command", ["rmmod", "modinfo", "why", "reload"])
    def test_modules(self, control: str, command: str) -> None:
        """
        Where a module is wanted, those that are loaded are offered.
        """
        assert "driver" in complete(f"aiopde {command} dr", control)

    @pytest.mark.parametrize("command", ["cat", "ls", "tree", "write", "ps"])
    def test_paths(self, control: str, command: str) -> None:
        """
        Where a path is wanted, the tree is: directories with a slash, then what is in them.
        """
        assert complete(f"aiopde {command} d", control) == ["driver/"]
        assert complete(f"aiopde {command} driver/g", control) == ["driver/greeting"]
        assert complete(f"aiopde {command} /proc/dr", control) == ["/proc/driver/"]

    @needs_mount
    def test_mounts(self, control: str, tmp_path: Path) -> None:
        """
        What is mounted is offered to be unmounted.
        """
        place = str(tmp_path / "m")
        os.mkdir(place)

        def run(command: str) -> None:
            line = [sys.executable, "-m", "aiopde", command, place, "--control", control]
            subprocess.run(line, check=True)

        run("mount")
        with guard(place):
            assert complete("aiopde umount /", control) == [place]
            run("umount")

    def test_nothing_without_a_kernel(self, tmp_path: Path) -> None:
        """
        Without a kernel nothing is offered, and no error is printed into the line.
        """
        assert complete("aiopde rmmod d", str(tmp_path / "s")) == []


def test_main_answers_a_shell(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    When a shell asks, it is argcomplete that answers, with what the commands offer.
    """
    parsers: list[argparse.ArgumentParser] = []
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setattr(argcomplete, "autocomplete", parsers.append)
    run_command("--help")
    (parser,) = parsers
    commands: Any = cast("Any", parser)._subparsers._group_actions[0].choices
    name: Any = next(each for each in commands["rmmod"]._actions if each.dest == "name")
    assert name.completer("", Namespace(control="/nowhere"), parser=parser) == []


class TestCode:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
    def test_for_each_shell(self, run_command: RunCommand, shell: str) -> None:
        """
        The code for a shell is printed, to be evaluated there.
        """
        code, out, err = run_command("completion", shell)
        assert (code, err) == (0, "")
        assert "aiopde" in out

    def test_not_installed(self, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without argcomplete: one line that says what to install, and exit code 2.
        """
        monkeypatch.setitem(sys.modules, "argcomplete", None)
        code, out, err = run_command("completion", "bash")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "pip install 'aiopde[cli]'" in err


@pytest.mark.usefixtures("run_command")
def test_in_this_process(start_kernel: StartKernel, driver: Path) -> None:
    """
    What is offered comes from the kernel that the line names, or is nothing.
    """
    options = Namespace(control=start_kernel(str(driver)).control)
    assert completion.module_names(options, "") == ["driver"]
    assert completion.paths(options, "driver/") == [
        "driver/full",
        "driver/held",
        "driver/link",
        "driver/greeting",
    ]
    assert completion.paths(options, "nothing/") == []
    assert completion.mount_points(options, "") == []
