"""
Properties: what holds for any program, not for one story.

test_usecount.py        the guard against the kernel's integer (_kernel.py)
test_programs.py        whole programs (_play.py) against a model of the contract (_model.py): after
                        each step everybody has gone as far as they can, and who waits for what,
                        what calls returned, and every number there is must be the model's
test_interleavings.py   programs whose calls run into each other (_chaos.py): there only what
                        always holds is asserted, at every point
test_tree.py            names, paths and listings against plain dicts

Which of the contract's invariants are checked where: I1, I3, I5, I8, I9, I10, I11, I12, I14, I15,
I17 - I20, I22 - I26, I28, I29, I31, I33 - I38 by the programs, as the model would differ; I1, I3,
I5, I7, I8, I15, I16, I19, I23, I25, I33, I35 by the interleavings; I2, I6, I7 by the guard's; I23 -
I25 by the tree's; I4 and I21 in races/; I13, I27, I30 and I32 there, or not at all: no table is
read late (B12, B13), there is no lock, listings are in test_readdir_vs_remove.py, and Python counts
references.

``python -m tests.mutants`` breaks the package in fifty ways and sees that these tests notice.
"""

import pytest

# So that what they assert says what was there instead.
pytest.register_assert_rewrite(f"{__name__}._play", f"{__name__}._chaos")
