"""A search in parts: together the parts are the whole, and none is begun twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aiopde.testing import explore
from aiopde.testing._explorer import split
from tests.testing._guard import Guard, race_of
from tests.testing._programs import BACKENDS, with_anyio


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_parts_are_the_whole(backend: str, strategy: str, depth: int) -> None:
    """As many complete executions, and the same outcomes, each as often."""
    options: dict[str, Any] = {"backend": backend, "strategy": strategy}
    whole = explore(race_of(Guard), **options)
    outcomes: Counter[object] = Counter()
    runs = 0
    shards = split(race_of(Guard), depth, **options)
    assert len({shard.prefix for shard in shards}) == len(shards) > 1
    for shard in shards:
        part = explore(race_of(Guard), shard=shard, **options)
        assert part.verdict == "exhaustive"
        outcomes.update(part.outcomes)
        runs += part.schedules - part.blocked
    assert outcomes.keys() == whole.outcomes.keys()
    assert runs == whole.schedules - whole.blocked
    assert strategy == "dpor" or outcomes == whole.outcomes


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_what_is_over_before_that_depth(strategy: str) -> None:
    """A schedule with fewer choices is a part of its own."""
    shards = split(with_anyio(2, 1), 99, strategy=strategy)
    assert len(shards) == (6 if strategy == "dfs" else 1)
    assert all(explore(with_anyio(2, 1), shard=s, strategy=strategy).schedules == 1 for s in shards)
