"""Runs the command line in this process."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from aiopde.cli import main
from aiopde.cli.race import _course


class Result(NamedTuple):
    code: object
    out: str
    err: str


RunCommand = Callable[..., Result]


@pytest.fixture
def run_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Call ``aiopde ARGUMENTS...``, with races of three rounds."""
    monkeypatch.setattr(_course, "ROUNDS", 3)

    def run(*arguments: str) -> Result:
        code: object
        try:
            code = main(arguments)
        except SystemExit as exc:
            code = exc.code
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return run
