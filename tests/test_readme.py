"""The programs of the READMEs run as they stand there, on every loop, and so do some pieces."""

import ast
import errno
import re
import warnings
from functools import partial
from pathlib import Path
from types import CodeType

import anyio
import pytest

import aiopde
from tests.conftest import BACKENDS

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "aiopde/testing/README.md")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MODULES = {module.__name__: module for module in (anyio, errno, warnings)}
NAMES = {name: getattr(aiopde, name) for name in aiopde.__all__} | MODULES


def blocks(*, whole: bool) -> dict[str, CodeType]:
    """The programs, which begin with what they import; or the pieces, which do not."""
    found: dict[str, CodeType] = {}
    for readme in READMES if whole else READMES[:1]:
        text = readme.read_text(encoding="utf-8")
        for block in PYTHON_BLOCK.finditer(text):
            if block[1].startswith("import ") != whole:
                continue
            lines_before = text.count("\n", 0, block.start(1))
            # The empty lines make a traceback count as the file does.
            source = "\n" * lines_before + block[1]
            flags = 0 if whole else ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            code = compile(source, readme, "exec", flags, dont_inherit=True)
            found[f"{readme.relative_to(ROOT)} line {lines_before + 1}"] = code
    return found


PROGRAMS, PIECES = blocks(whole=True), blocks(whole=False)


def test_there_are_programs() -> None:
    """
    A change of the README's layout does not silently end these tests.
    """
    assert PROGRAMS
    assert PIECES


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


@pytest.mark.parametrize("piece", PIECES.values(), ids=list(PIECES))
async def test_piece_runs(piece: CodeType) -> None:
    """
    So does a piece of one, given a tree and a kernel, and its names; what it asserts is true.
    """
    async with aiopde.Kernel() as kernel:
        await eval(piece, NAMES | {"kernel": kernel, "proc": kernel.proc})


def test_the_transcript_is_what_the_example_prints() -> None:
    """
    Nobody has typed it.
    """
    printed = (ROOT / "tests/examples/mount.out").read_text(encoding="utf-8")
    assert f"```console\n{printed}```" in (ROOT / "README.md").read_text(encoding="utf-8")
