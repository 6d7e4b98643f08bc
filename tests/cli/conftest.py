"""Runs the command line: in this process, and kernels for it in others."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from aiopde.cli import _client, main
from aiopde.cli.race import _course
from aiopde.control import connect


class Result(NamedTuple):
    code: object
    out: str
    err: str


RunCommand = Callable[..., Result]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Call ``aiopde ARGUMENTS...``, with races of three rounds."""
    monkeypatch.setattr(_course, "ROUNDS", 3)
    # On asyncio, coverage loses sight of who called anyio.run() as soon as a task was cancelled in
    # it (Python 3.11 only). What runs in other processes here runs on asyncio.
    monkeypatch.setattr(_client, "LOOP", "trio")

    def run(*arguments: str) -> Result:
        code: object
        try:
            code = main(arguments)
        except SystemExit as exc:
            code = exc.code
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return run


@contextmanager
def running(command: list[str], **how: Any) -> Generator[subprocess.Popen[str]]:
    """Run a process for the time of a block, and end it in any case."""
    pipe = subprocess.PIPE
    how = {"stdout": pipe, "stderr": pipe, "text": True} | how
    with subprocess.Popen(command, **how) as process:
        try:
            yield process
        finally:
            process.kill()


class Running:
    """A kernel in a process of its own, which `aiopde run` keeps alive."""

    def __init__(self, process: subprocess.Popen[str], told: dict[str, Any]) -> None:
        self.process = process
        self.pid: int = told["pid"]
        self.control: str = told["control"]
        self.told = told

    def ask(self, method: str, **params: Any) -> Any:
        """Ask it without the command line."""

        async def main() -> Any:
            async with await connect(self.control) as client:
                return await client.ask(method, **params)

        return anyio.run(main, backend="trio")  # see run_command

    def until(self, method: str, condition: Callable[[Any], object], **params: Any) -> Any:
        """Ask again and again, until the answer is what is waited for."""
        deadline = time.monotonic() + 10
        while not condition(answer := self.ask(method, **params)):
            assert time.monotonic() < deadline, answer
        return answer

    def command(self, *arguments: str) -> list[str]:
        """The command line of another process that talks to it."""
        return [sys.executable, "-m", "aiopde", *arguments, "--control", self.control]

    @contextmanager
    def other(self, *arguments: str, **how: Any) -> Generator[subprocess.Popen[str]]:
        """Run a command in another process for the time of a block."""
        with running(self.command(*arguments), **how) as process:
            yield process

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Stop it, and return exit code, output and errors."""
        self.signal()
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err


StartKernel = Callable[..., Running]


@contextmanager
def kernels(folder: Path) -> Generator[StartKernel]:
    """Start `aiopde run ARGUMENTS...`, and end it after the block; its socket is in *folder*."""
    with ExitStack() as stack:

        def start(*arguments: str, **how: Any) -> Running:
            command = [sys.executable, "-m", "aiopde", "run", "--json", *arguments]
            if "--control" not in arguments and "env" not in how:
                command += ["--control", str(folder / "s")]
            process = stack.enter_context(running(command, **how))
            assert process.stdout is not None
            return Running(process, json.loads(process.stdout.readline()))

        yield start


@pytest.fixture
def start_kernel(tmp_path: Path) -> Generator[StartKernel]:
    """Start a kernel, and end it after the test."""
    with kernels(tmp_path) as start:
        yield start


@pytest.fixture(scope="class")
def lasting_kernel(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """A kernel with the driver, for tests that leave it as it was: to start one takes longer."""
    folder = tmp_path_factory.mktemp("kernel")
    with kernels(folder) as start:
        yield start(str(write_driver(folder)))


DRIVER = '''
import anyio
from aiopde import ProcOps

async def module_main(kernel, *, greeting="hello"):
    """Serve /proc/driver."""
    content = bytearray(str(greeting).encode())

    async def read(file, size, pos):
        return bytes(content[pos : pos + size])

    async def write(file, data, pos):
        content[pos : pos + len(data)] = data
        return len(data)

    async def hold(file, size, pos):
        await anyio.sleep_forever()

    async def take_nothing(file, data, pos):
        return 0

    driver = kernel.proc.mkdir("driver")
    kernel.proc.create("greeting", ProcOps(read=read, write=write), parent=driver, mode=0o644)
    kernel.proc.create("held", ProcOps(read=hold), parent=driver)
    kernel.proc.create("full", ProcOps(write=take_nothing), parent=driver, mode=0o200)
    kernel.proc.symlink("link", "greeting", parent=driver)
    yield
    await driver.remove()
'''


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A module in a file, with an entry whose readers stay inside."""
    return write_driver(tmp_path)


def write_driver(folder: Path) -> Path:
    file = folder / "driver.py"
    file.write_text(DRIVER)
    return file
