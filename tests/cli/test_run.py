"""`aiopde run`: real processes, on each loop, from the first line to the last signal."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from errno import EACCES
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aiopde import Kernel, ProcFS
from aiopde.cli import run as run_module
from aiopde.cli._loops import LOOPS
from tests.helpers import Handlers, all_blocked, start

from .conftest import RunCommand, StartKernel, running

LAST_LINE = "Ctrl-C unloads everything and ends this."
# Where the loop does not matter; see run_command.
ON_TRIO = ("--backend", "trio")

STUBBORN = """
import anyio
async def module_main(kernel):
    yield
    await anyio.sleep_forever()
"""
CLUMSY = """
async def module_main(kernel):
    yield
    raise ValueError("in exit")
"""


@pytest.fixture(autouse=True)
def path_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what it adds to the import path not outlive the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(folder: Path, name: str, source: str) -> str:
    (folder / f"{name}.py").write_text(source)
    return str(folder / f"{name}.py")


class TestItsLife:
    @pytest.mark.parametrize("loop", LOOPS)
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_until_a_signal(
        self, start_kernel: StartKernel, driver: Path, loop: str, number: signal.Signals
    ) -> None:
        """
        It serves until it is told to stop; then it unloads, and nothing is left. Exit code 0.
        """
        kernel = start_kernel(str(driver), "--backend", loop)
        assert kernel.told["modules"] == [str(driver)]
        assert kernel.pid == kernel.process.pid
        assert [module["name"] for module in kernel.ask("lsmod")] == ["driver"]
        kernel.signal(number)
        out, err = kernel.process.communicate(timeout=10)
        assert (kernel.process.returncode, out, err) == (0, "", "")
        assert not os.path.exists(kernel.control)

    def test_modules_of_each_kind(
        self, start_kernel: StartKernel, driver: Path, tmp_path: Path
    ) -> None:
        """
        A module is a file, an import path from here, or a name on the module path.
        """
        folder, package = tmp_path / "modules", tmp_path / "package"
        for each in folder, package:
            each.mkdir()
        nothing = "async def module_main(kernel):\n    yield\n"
        write(folder, "named", nothing)
        write(package, "imported", nothing)
        kernel = start_kernel(
            "./driver.py",
            "package.imported",
            "named",
            "--module-path",
            str(folder),
            cwd=tmp_path,
            env=os.environ | {"AIOPDE_CONTROL": str(tmp_path / "s")},
        )
        names = [module["name"] for module in kernel.ask("lsmod")]
        assert names == ["named", "imported", "driver"]
        assert kernel.end()[0] == 0

    def test_the_demonstration(self, tmp_path: Path) -> None:
        """
        Without a module it shows one, at the user's own place, and says what to type.
        """
        env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "aiopde"]
        with running([*command, "run"], env=env) as process:
            assert process.stdout is not None
            lines = list(takewhile(f"{LAST_LINE}\n".__ne__, process.stdout))
            to_try = [line.split("  ")[1] for line in lines if line.startswith("  aiopde")]
            endless = {"aiopde cat -f demo/clock", "aiopde cat demo/slow"}
            told = {
                line: subprocess.run(
                    [*command, *shlex.split(line)[1:]],
                    env=env,
                    capture_output=True,
                    text=True,
                    check=line != "aiopde why demo",  # it is gone by then
                ).stdout
                for line in to_try
                if line not in endless and not line.startswith("aiopde mount")
            }
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        assert f"Its control socket is {tmp_path}/aiopde/control.sock\n" in lines
        assert len(told) == 7
        assert "clock" in told["aiopde tree"]

    def test_in_words(self, driver: Path, tmp_path: Path) -> None:
        """
        With modules it says where it listens, and how other shells find it.
        """
        command = [sys.executable, "-m", "aiopde", "run", str(driver), "--control", "s"]
        with running(command, cwd=tmp_path) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        assert lines == [
            f"Kernel of process {process.pid}, on asyncio: {driver}\n",
            f"Its control socket is {tmp_path}/s\n",
            f"Tell other shells: export AIOPDE_CONTROL={tmp_path}/s\n",
            "Ctrl-C ends it.\n",
        ]


class TestWhatPreventsIt:
    def one_line(self, result: Any, code: int) -> str:
        assert (result.code, result.out) == (code, "")
        assert result.err.count("\n") == 1
        assert result.err.startswith("aiopde: ")
        return str(result.err)

    def test_no_such_file(self, run_command: RunCommand, tmp_path: Path) -> None:
        """
        A module that is not there: exit code 1, and its path.
        """
        result = run_command("run", "./nothing.py", "--control", str(tmp_path / "s"))
        assert "nothing.py: No such file" in self.one_line(result, 1)
        assert not os.path.exists(tmp_path / "s")

    def test_no_such_name(self, run_command: RunCommand, tmp_path: Path) -> None:
        """
        A name that is nothing: one is told what a file looks like.
        """
        result = run_command("run", "nothing_there", "--control", str(tmp_path / "s"))
        assert "a file is './x.py'" in self.one_line(result, 1)

    def test_an_init_that_raises(self, run_command: RunCommand, tmp_path: Path) -> None:
        """
        A module that cannot be loaded: its error, and the line.
        """
        file = write(tmp_path, "bad", "async def module_main(kernel):\n    yield 1 / 0\n")
        result = run_command("run", file, "--control", str(tmp_path / "s"))
        line = self.one_line(result, 1)
        assert f"ZeroDivisionError: division by zero ({file}:2 in module_main)" in line

    def test_a_second_kernel(
        self, run_command: RunCommand, start_kernel: StartKernel, driver: Path
    ) -> None:
        """
        Where one listens no other can: exit code 2, and the first one goes on.
        """
        kernel = start_kernel(str(driver))
        result = run_command("run", "--control", kernel.control)
        assert "a kernel is running there" in self.one_line(result, 2)
        assert kernel.end()[0] == 0

    def test_no_loop(self, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A loop that is not installed: exit code 2, and what to install.
        """
        monkeypatch.setitem(sys.modules, "trio", None)
        assert "aiopde[trio]" in self.one_line(run_command("run", "--backend", "trio"), 2)

    def test_an_exit_that_raises(self, start_kernel: StartKernel, tmp_path: Path) -> None:
        """
        It was stopped, and a module failed in going: exit code 1, and how.
        """
        code, _, err = start_kernel(write(tmp_path, "clumsy", CLUMSY)).end()
        assert (code, err.count("\n")) == (1, 1)
        assert "ValueError: in exit" in err


class TestMount:
    """With a mount of which only the outside is there."""

    def stub(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[str]:
        """Put it in the place of the mount; it notes what happens, and presses Ctrl-C."""
        log: list[str] = []

        @asynccontextmanager
        async def mount(proc: ProcFS, path: str, *, allow_other: bool) -> AsyncGenerator[Any]:
            await checkpoint()
            if error is not None:
                raise error
            log.append(f"mount {proc.root.name} at {path}")
            try:
                yield SimpleNamespace(unmounted=SimpleNamespace(wait=press))
            finally:
                log.append(f"unmount {', '.join(child.name for child in proc.root._children)}")

        async def press() -> None:
            await all_blocked()
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()

        monkeypatch.setattr("aiopde.fuse.mount", mount)
        return log

    @pytest.mark.parametrize("loop", LOOPS)
    def test_it_is_mounted(
        self, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loop: str
    ) -> None:
        """
        The tree is mounted while the kernel runs, and unmounted before it is left.
        """
        log = self.stub(monkeypatch)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "m").mkdir()
        result = run_command("run", "--mount", "m", "--control", "s", "--backend", loop)
        assert (result.code, result.err) == (0, "")
        assert f"Its tree is mounted at {tmp_path}/m" in result.out
        assert log == [f"mount /proc at {tmp_path}/m", "unmount demo, modules"]

    @pytest.mark.parametrize(
        "error",
        [
            OSError(EACCES, "no /dev/fuse: apt install fuse3", "/dev/fuse"),
            ExceptionGroup("", [OSError(EACCES, "no /dev/fuse: apt install fuse3", "/dev/fuse")]),
        ],
        ids=["plain", "in a group"],
    )
    def test_it_cannot_be_mounted(
        self,
        run_command: RunCommand,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        error: Exception,
    ) -> None:
        """
        What the mount says is one line; exit code 2.
        """
        self.stub(monkeypatch, error)
        path, control = str(tmp_path / "m"), str(tmp_path / "s")
        os.mkdir(path)
        code, out, err = run_command("run", "--mount", path, "--control", control, *ON_TRIO)
        told = f"aiopde: cannot mount at {path}: /dev/fuse: no /dev/fuse: apt install fuse3\n"
        assert (code, out, err) == (2, "", told)

    def test_there_is_no_mount(
        self, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """
        Where aiopde.fuse cannot be imported, that is one line too.
        """
        monkeypatch.setitem(sys.modules, "aiopde.fuse", None)
        control = str(tmp_path / "s")
        result = run_command("run", "--mount", "/mnt", "--control", control, *ON_TRIO)
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert "cannot mount at /mnt" in result.err


class TestStopping:
    @pytest.mark.parametrize("loop", LOOPS)
    def test_it_waits_for_calls_inside(
        self, start_kernel: StartKernel, driver: Path, loop: str
    ) -> None:
        """
        The first Ctrl-C waits for who is inside, the second tells who, the third ends it anyway.
        """
        kernel = start_kernel(str(driver), "--backend", loop)
        with kernel.other("cat", "driver/held") as cat:
            kernel.until("ps", lambda held: held)
            kernel.signal(signal.SIGINT)
            stderr = kernel.process.stderr
            assert stderr is not None
            assert "waiting for 1 call to end" in stderr.readline()
            # Also now it can be asked.
            (why,) = kernel.ask("why", name="driver")
            assert why["holders"][0]["task"] == f"control pid {cat.pid}"
            kernel.signal(signal.SIGINT)
            told = f"aiopde: read of /proc/driver/held by 'control pid {cat.pid}', at driver.py:"
            assert stderr.readline().startswith(told)
            kernel.signal(signal.SIGINT)
            assert kernel.process.wait(10) == -signal.SIGINT
            assert cat.wait(10) == 1

    def test_who_was_inside_goes(self, start_kernel: StartKernel, driver: Path) -> None:
        """
        When the last call inside has ended, so does the kernel, by itself.
        """
        kernel = start_kernel(str(driver))
        with kernel.other("cat", "driver/held") as cat:
            kernel.until("ps", lambda held: held)
            kernel.signal()
            kernel.until("why", lambda why: why, name="driver")
            cat.send_signal(signal.SIGINT)
            assert cat.wait(10) == 130
        assert kernel.process.wait(10) == 0

    def test_a_module_that_does_not_go(self, start_kernel: StartKernel, tmp_path: Path) -> None:
        """
        With nobody inside, the second Ctrl-C names the modules whose exit has not ended.
        """
        kernel = start_kernel(write(tmp_path, "stubborn", STUBBORN))
        kernel.signal()
        kernel.until("why", lambda why: why, name="stubborn")
        kernel.signal()
        stderr = kernel.process.stderr
        assert stderr is not None
        assert stderr.readline() == "aiopde: no call is inside; still unloading: stubborn\n"
        kernel.signal()
        assert kernel.process.wait(10) == -signal.SIGTERM

    @pytest.fixture
    def handlers_of_signals(self) -> Iterator[None]:
        """Leave the handling of signals as it was."""
        before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
        yield
        for number, handler in before:
            signal.signal(number, handler)

    @pytest.mark.usefixtures("handlers_of_signals")
    async def test_the_signals(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        The first one ends the kernel's life, the second tells who is inside, the third is final.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        life = anyio.CancelScope()
        async with Kernel() as kernel, anyio.create_task_group() as tg:
            kernel.proc.create("x", handlers.ops("read"))
            await tg.start(run_module._watch_signals, kernel, life)
            await start(tg, kernel.proc.read_bytes, "x")
            signal.raise_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                while not life.cancel_called:
                    await anyio.lowlevel.checkpoint()
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
            run_module._tell_waiting(kernel)
            signal.raise_signal(signal.SIGINT)
            err = ""
            with anyio.fail_after(10):
                while "in _enter" not in err and "helpers.py" not in err:
                    await anyio.lowlevel.checkpoint()
                    err += capsys.readouterr().err
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
            assert "waiting for 1 call to end" in err
            assert "aiopde: read of /proc/x by " in err
            handlers.let_go("read")

    async def test_nobody_is_inside(self) -> None:
        """
        With no call inside, the modules that have not gone are named, if there are any.
        """

        async def calm(kernel: Kernel) -> AsyncGenerator[None]:
            yield

        async with Kernel() as kernel:
            assert run_module._still_there(kernel).endswith("still unloading: nothing")
            await kernel.insmod(calm)
            assert run_module._still_there(kernel).endswith("still unloading: calm")

    def test_while_a_module_loads(self, tmp_path: Path) -> None:
        """
        Ctrl-C during an init cancels it.
        """
        source = (
            "import anyio, signal\nasync def module_main(kernel):\n"
            "    signal.raise_signal(signal.SIGINT)\n    await anyio.sleep_forever()\n    yield\n"
        )
        command = [sys.executable, "-m", "aiopde", "run", write(tmp_path, "slow", source)]
        done = subprocess.run(
            [*command, "--control", str(tmp_path / "s")],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
