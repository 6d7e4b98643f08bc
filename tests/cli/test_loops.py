"""The loop a command runs on: chosen by name, and stopped by Ctrl-C."""

import signal
import subprocess
import sys

import anyio
import pytest

from aiopde.cli import _loops
from aiopde.cli._loops import LOOPS
from tests.test_loops import running_loop

from .conftest import RunCommand


@pytest.mark.parametrize("loop", LOOPS)
def test_runs_on_the_loop_of_that_name(loop: str) -> None:
    """
    The name the user gave is the loop that runs.
    """
    found: list[str] = []

    async def main() -> None:
        found.append(running_loop())

    _loops.run(main, loop)
    assert found == [loop]


@pytest.mark.parametrize("loop", ["trio", "uvloop"])
def test_a_loop_that_is_not_installed_is_one_line(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    """
    Without the extra: exit code 2, and one line with the command that installs it.
    """
    monkeypatch.setitem(sys.modules, loop, None)
    code, out, err = run_command("race", "--backend", loop)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"pip install 'aiopde[{loop}]'" in err


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_cancels(loop: str) -> None:
    """
    Ctrl-C cancels what runs, lets it clean up, and only then is a KeyboardInterrupt.
    """
    seen: list[str] = []

    async def main() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            seen.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        _loops.run(main, loop)
    assert seen == ["cleaned up"]


@pytest.mark.parametrize("loop", LOOPS)
def test_ctrl_c_in_the_middle_of_a_race(loop: str) -> None:
    """
    The process ends with 130 and one word; no traceback, and no half of a table.
    """
    command = [sys.executable, "-m", "aiopde", "race", "--readers", "500", "--backend", loop]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert "500 readers" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert "files opened" not in out
