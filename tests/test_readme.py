"""The README's programs run as they stand there, on every loop."""

import re
from functools import partial
from pathlib import Path
from types import CodeType

import anyio
import pytest

from tests.conftest import BACKENDS

ROOT = Path(__file__).parents[1]
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def programs() -> dict[str, CodeType]:
    found: dict[str, CodeType] = {}
    for readme in ROOT.glob("README.md"):
        text = readme.read_text(encoding="utf-8")
        for block in PYTHON_BLOCK.finditer(text):
            if not re.search(r"\brun\(", block[1]):
                continue  # a fragment
            lines_before = text.count("\n", 0, block.start(1))
            # The empty lines make a traceback count as README.md does.
            source = "\n" * lines_before + block[1]
            found[f"line {lines_before + 1}"] = compile(source, readme, "exec")
    return found


PROGRAMS = programs()


def test_there_are_programs() -> None:
    """
    A change of the README's layout does not silently end these tests.
    """
    assert PROGRAMS


@pytest.mark.parametrize("loop", BACKENDS)
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_program_runs(program: CodeType, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A program copied from the README ends without an error.
    """
    backend, options = BACKENDS[loop]
    run = partial(anyio.run, backend=backend, backend_options=options)
    monkeypatch.setattr(anyio, "run", run)
    exec(program, {"__name__": "__main__"})


def test_the_transcript_is_what_the_example_prints() -> None:
    """
    Nobody has typed it.
    """
    printed = (ROOT / "tests/examples/mount.out").read_text(encoding="utf-8")
    assert f"```console\n{printed}```" in (ROOT / "README.md").read_text(encoding="utf-8")
