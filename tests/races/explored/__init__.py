"""
The same pairs of calls, in every order there is: what a race may end in, and nothing else.

Each scenario is run to exhaustion, undisturbed and with each of its actors cancelled at each of
its checkpoints, on both loops where that does not take long; the invariants are checked after
every step (_play.py). test_fast.py does it again where the quick ways are taken. test_mutants.py
breaks the package on purpose, and sees how many schedules it takes to notice.
"""

import pytest

pytest.register_assert_rewrite(f"{__name__}._play")
