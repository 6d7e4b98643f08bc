"""The examples run on every loop, and print what is kept in tests/examples/*.out."""

import runpy
from pathlib import Path

import pytest

from tests.conftest import BACKENDS
from tests.fuse.harness import needs_mount

EXAMPLES = sorted(Path(__file__).parents[1].glob("examples/*.py"))
EXPECTED = Path(__file__).parent / "examples"

MOUNTS = {"mount", "service_with_procfs"}


def each_of(examples: list[Path]) -> pytest.MarkDecorator:
    """Parametrize a test by examples; some need a mount."""
    marked = [
        pytest.param(path, id=path.stem, marks=[needs_mount] if path.stem in MOUNTS else [])
        for path in examples
    ]
    return pytest.mark.parametrize("example", marked)


each_example = each_of(EXAMPLES)
# The others bring a loop of their own.
each_coroutine = each_of(
    [path for path in EXAMPLES if "async def main()" in path.read_text(encoding="utf-8")]
)


def test_each_output_has_its_example() -> None:
    """
    No example is left out, and no output is left over.
    """
    outputs = sorted(path.stem for path in EXPECTED.glob("*.out"))
    assert [path.stem for path in EXAMPLES] == outputs != []


@each_coroutine
async def test_output(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The loop makes no difference to what an example prints.
    """
    await runpy.run_path(str(example))["main"]()
    assert capsys.readouterr().out == expected(example)


@each_example
@pytest.mark.parametrize("loop", BACKENDS)
def test_as_a_program(
    example: Path, loop: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    `python examples/x.py LOOP` does the same, whatever the loop.
    """
    monkeypatch.setattr("sys.argv", [str(example), loop])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out == expected(example)


@each_example
def test_the_docstring_says_how_to_run_it(example: Path) -> None:
    """
    Who reads an example knows how to run it, and on what.
    """
    command = f"python examples/{example.name} [asyncio|trio|uvloop]"
    assert command in runpy.run_path(str(example))["__doc__"]


def expected(example: Path) -> str:
    return (EXPECTED / example.with_suffix(".out").name).read_text(encoding="utf-8")
