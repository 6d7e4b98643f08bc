"""The mistakes of tests/mutants.py, which is a command of its own, fit the source."""

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_fits_the_source(mutant: Mutant) -> None:
    """
    What a mutant changes is there, once: who changes it there changes the mutant too.
    """
    assert (ROOT / "aiopde" / mutant.file).read_text().count(mutant.old) == 1
