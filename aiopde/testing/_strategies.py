"""Searches without knowledge of what steps do: orders, samples, bounds, all of it, replay."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, final

from ._run import Diverged, Plan, first_come

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._run import Choose, Lane, Search


def fifo() -> Search:
    """Run one execution in the plain order: who could move first, moves."""
    yield Plan(first_come)
    return "sampled (1)"


def sample(seed: int, count: int) -> Search:
    """Run executions in which every choice is made at random, alike for all that can move."""
    rng = random.Random(seed)
    draw = rng.random

    def choose(ready: list[Lane], last: Lane | None) -> Lane:
        return ready[int(draw() * len(ready))]

    plan = Plan(choose)
    for _ in range(count):
        yield plan
    return f"sampled ({count})"


def go_on(ready: list[Lane], last: Lane | None) -> Lane:
    """Choose who moved last, if he can go on, and else who is next in order of birth."""
    if last in ready:
        return last
    born = 0 if last is None else last.index
    return min(ready, key=lambda lane: (lane.cancels is not None, lane.index < born, lane.index))


def follow(choices: Sequence[str], then: Choose = go_on) -> Choose:
    """Choose by names, leaving out those that cannot move, and then go on in some other way."""
    names = iter(choices)

    def choose(ready: list[Lane], last: Lane | None) -> Lane | None:
        for name in names:
            for lane in ready:
                if lane.name == name:
                    return lane
        return then(ready, last)

    return choose


@final
class Replay:
    """Chooses by names, and takes no other way."""

    def __init__(self, choices: Sequence[str], then: Choose = go_on) -> None:
        self._choices = choices
        self._then = then
        self._depth = 0

    def __call__(self, ready: list[Lane], last: Lane | None) -> Lane | None:
        """Choose who moves next; only who could have moved counts as a choice."""
        if len(ready) == 1:
            return ready[0]
        depth = self._depth
        self._depth += 1
        if depth >= len(self._choices):
            return self._then(ready, last)
        name = self._choices[depth]
        for lane in ready:
            if lane.name == name:
                return lane
        can = ", ".join(lane.name for lane in ready)
        msg = f"choice {depth + 1} of the schedule is {name}, which cannot move; {can} can"
        raise Diverged(msg)


@final
class Branches:
    """The choices of one execution, as a path in a tree that is walked depth first."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._replay = Replay(prefix)
        self._prefix = prefix
        self._path: list[tuple[int, list[Lane]]] = []
        """At each choice, which one was taken, of which."""
        self._depth = 0

    def choose(self, ready: list[Lane], last: Lane | None) -> Lane | None:
        """Go on along the path, and then to the first child each time."""
        depth = self._depth - len(self._prefix)
        self._depth += 1
        if depth < 0:
            return self._replay(ready, last)
        if depth == len(self._path):
            self._path.append((0, list(ready)))
            return ready[0]
        taken, before = self._path[depth]
        if len(ready) != len(before) or ready[taken].name != before[taken].name:
            raise Diverged(_difference(self._depth, before, ready))
        return ready[taken]

    def advance(self) -> bool:
        """Go to the next path; False if there is none."""
        self._depth = 0
        self._replay = Replay(self._prefix)
        path = self._path
        while path:
            taken, ready = path.pop()
            if taken + 1 < len(ready):
                path.append((taken + 1, ready))
                return True
        return False


def _difference(number: int, before: list[Lane], now: list[Lane]) -> str:
    was = ", ".join(lane.name for lane in before)
    can = ", ".join(lane.name for lane in now)
    return f"the same choices before, but at choice {number} there moved {was}, and now {can}"


def depth_first(prefix: Sequence[str] = ()) -> Search:
    """Run every schedule there is, or that begins with some choices."""
    branches = Branches(prefix)
    plan = Plan(branches.choose)
    complete = True
    while True:
        execution = yield plan
        complete = complete and not execution.unfair
        if not branches.advance():
            return "exhaustive" if complete else "bounded (loops cut short)"


def replay(choices: Sequence[str]) -> Search:
    """Run one schedule."""
    yield Plan(Replay(choices))
    return "replayed"


def make(strategy: str, seed: int, count: int) -> Search:
    """Make a search from its name; a number after a colon is its bound."""
    name, _, _number = strategy.partition(":")
    if name == "fifo":
        return fifo()
    if name == "random":
        return sample(seed, count)
    if name == "dfs":
        return depth_first()
    msg = f"no strategy {strategy!r}: there are fifo, random, dfs"
    raise ValueError(msg)
