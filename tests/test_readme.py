"""The programs in the READMEs run as they stand there, on every loop."""

import re
from functools import partial
from pathlib import Path
from types import CodeType

import anyio
import pytest

from tests.conftest import BACKENDS

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "aiopde/testing/README.md")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def programs() -> dict[str, CodeType]:
    found: dict[str, CodeType] = {}
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        for block in PYTHON_BLOCK.finditer(text):
            if not re.search(r"\brun\(|= explore\(", block[1]):
                continue  # a fragment
            lines_before = text.count("\n", 0, block.start(1))
            # The empty lines make a traceback count as the file does.
            source = "\n" * lines_before + block[1]
            found[f"{readme.relative_to(ROOT)} line {lines_before + 1}"] = compile(
                source, readme, "exec"
            )
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
