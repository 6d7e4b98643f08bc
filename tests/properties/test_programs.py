"""Random programs against the model of the contract, on every loop."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings, strategies as st

from ._play import VERBS, Play

PROGRAMS_IN_A_BLOCK = 25
WORDS = sorted(VERBS.elements())
STEPS = st.tuples(st.sampled_from(WORDS), st.integers(0, 31), st.integers(0, 31))


async def run(program: list[tuple[str, int, int]], *, traced: bool = False) -> None:
    async with Play(traced=traced) as play:
        for verb, x, y in program:
            await play.step(verb, x, y)
        await play.end()


@pytest.mark.timeout(60)  # a failure takes long to shrink
@settings(
    max_examples=100,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow],
)
@example(  # a file is gone, and a directory has its name
    program=[("create", 1, 1), ("open", 0, 2), ("remove", 0, 0), ("mkdir", 1, 0), ("open", 0, 1)]
)
@example(  # a directory is gone, and a file has its name
    program=[
        *(("mkdir", 1, 0), ("open", 0, 2), ("remove", 0, 0)),
        *(("create", 2, 1), ("open", 0, 1), ("write", 0, 1)),
    ]
)
@example(  # a write takes nothing
    program=[("create", 1, 0), ("open", 0, 2), ("go", 0, 0), ("write", 0, 1), ("go", 0, 2)]
)
@given(program=st.integers(1, 45).flatmap(lambda n: st.lists(STEPS, min_size=n, max_size=n)))
async def test_does_what_the_model_does(program: list[tuple[str, int, int]]) -> None:
    """
    After every step, who waits where, what calls returned and what statistics say is the model's.
    """
    await run(program)


@pytest.mark.parametrize("block", range(8))
async def test_does_what_the_model_does_in_the_same_programs_each_time(block: int) -> None:
    """
    The same for programs that do not change from run to run, and while somebody listens.
    """
    for number in range(PROGRAMS_IN_A_BLOCK):
        random = Random(block * PROGRAMS_IN_A_BLOCK + number)  # noqa: S311  repeatable
        await run(
            [
                (random.choice(WORDS), random.randrange(32), random.randrange(32))
                for _ in range(random.randrange(20, 60))
            ],
            traced=number % 2 == 1,
        )
