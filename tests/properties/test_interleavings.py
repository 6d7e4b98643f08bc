"""Hundreds of programs whose calls run into each other at random; only invariants are asserted."""

from __future__ import annotations

import pytest

from ._chaos import VERBS, Chaos


@pytest.mark.parametrize("seed", range(150))
async def test_invariants_hold_in_random_interleavings(seed: int) -> None:
    """
    Calls, removals and cancellations that meet anywhere leave everything counted and released.
    """
    async with Chaos(seed) as chaos:
        for _ in range(chaos.random.randrange(10, 60)):
            chaos.do(chaos.random.choice(VERBS))
            await chaos.dawdle(3)
