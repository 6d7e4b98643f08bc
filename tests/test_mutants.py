"""The mistakes of tests/mutants.py, which is a command of its own, fit the source."""

from __future__ import annotations

import builtins
import dis
from importlib import import_module
from types import CodeType
from typing import TYPE_CHECKING

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

mutants = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


@mutants
def test_fits_the_source(mutant: Mutant) -> None:
    """
    What a mutant changes is there, once: who changes it there changes the mutant too.
    """
    assert (ROOT / "aiopde" / mutant.file).read_text().count(mutant.old) == 1


@mutants
def test_can_run(mutant: Mutant) -> None:
    """
    It is a mistake in what the code does: no name is missing, whose NameError anything notices.
    """
    text = (ROOT / "aiopde" / mutant.file).read_text()
    changed = set(globals_in(compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")))
    new = changed - {*globals_in(compile(text, mutant.file, "exec"))}
    module = import_module(f"aiopde.{mutant.file.removesuffix('.py')}")
    assert new <= {*vars(module), *vars(builtins)}


def globals_in(code: CodeType) -> Iterator[str]:
    """Go through the global names that code uses, and all that is nested in it."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            yield instruction.argval
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from globals_in(const)
