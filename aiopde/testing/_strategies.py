"""Searches without knowledge of what steps do: orders, samples, bounds, all of it, replay."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, final

from ._execution import Diverged, Plan, first_come

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._execution import Choose, Search
    from ._lane import Lane


def fifo() -> Search:
    """Run one execution in the plain order: who could move first, moves."""
    yield Plan(first_come)
    return "sampled (1)"


def at_random(rng: random.Random) -> Choose:
    """Choose with the same chance for all that can move."""
    draw = rng.random

    def choose(ready: list[Lane], last: Lane | None) -> Lane:
        return ready[int(draw() * len(ready))]

    return choose


def sample(seed: int | str, count: int) -> Search:
    """Run executions in which every choice is made at random."""
    plan = Plan(at_random(random.Random(seed)))
    for _ in range(count):
        yield plan
    return f"sampled ({count})"


def in_turn(ready: list[Lane], last: Lane | None) -> list[Lane]:
    """Order who can move: who moved last, then the others in order of birth, then cancellations."""
    born = 0
    if last is not None:
        born = last.index if last.cancels is None else last.cancels.victim.index
    return sorted(ready, key=lambda lane: (lane.cancels is not None, lane.index < born, lane.index))


def go_on(ready: list[Lane], last: Lane | None) -> Lane:
    """Choose who moved last, if he can go on, and else who is next in order of birth."""
    return last if last is not None and last in ready else in_turn(ready, last)[0]


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
        self.choices = choices
        self._then = then
        self._depth = 0

    @property
    def left(self) -> int:
        """How many of its choices were not asked for."""
        return max(0, len(self.choices) - self._depth)

    def __call__(self, ready: list[Lane], last: Lane | None) -> Lane | None:
        """Choose who moves next; only who could have moved counts as a choice."""
        if len(ready) == 1:
            return ready[0]
        depth = self._depth
        self._depth += 1
        if depth >= len(self.choices):
            return self._then(ready, last)
        name = self.choices[depth]
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

    @property
    def depth(self) -> int:
        """How many choices this execution had so far."""
        return self._depth

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
            return all_of_it(complete)


def all_of_it(complete: bool) -> str:
    """Return the verdict where no schedule is left: executions of loops may have been cut short."""
    return "exhaustive" if complete else "bounded (loops cut short)"


Cost = Callable[[int, "list[Lane]", "Lane | None"], int]


def delays(number: int, ready: list[Lane], last: Lane | None) -> int:
    """Count who is passed over: what a choice costs in delay-bounded search."""
    return number


def preemptions(number: int, ready: list[Lane], last: Lane | None) -> int:
    """Count a task that is left though it could go on: the cost in preemption-bounded search."""
    return int(number > 0 and last in ready)


@final
class Bounded:
    """
    The schedules that leave the plain way at a limited cost, those of the least cost first.

    Each schedule is known by the last choice at which it leaves the plain way, and is run once.
    """

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._todo: dict[int, list[tuple[tuple[int, str], ...]]] = {0: [()]}
        """What is to be run, by its cost: of each choice, which was taken, and who that was."""
        self._path: tuple[tuple[int, str], ...] = ()
        self._before = 0
        self._spent = 0
        self._costs: list[list[tuple[int, str]]] = []
        """What each choice beyond the path could have cost, in all, and who it would have been."""
        self._depth = 0

    def advance(self, bound: int) -> bool:
        """Go to the next schedule of at most that cost; False if there is none."""
        self._grow()
        for cost in sorted(self._todo):
            if cost <= bound and self._todo[cost]:
                self._path = self._todo[cost].pop()
                self._depth = self._spent = 0
                self._costs = []
                return True
        return False

    @property
    def complete(self) -> bool:
        """Whether there is nothing left at any cost."""
        return not any(self._todo.values())

    def _grow(self) -> None:
        plain = [(0, costs[0][1]) for costs in self._costs]
        for depth, costs in reversed(list(enumerate(self._costs))):
            for number in reversed(range(1, len(costs))):
                cost, name = costs[number]
                path = (*self._path, *plain[:depth], (number, name))
                self._todo.setdefault(cost, []).append(path)
        self._costs = []

    def choose(self, ready: list[Lane], last: Lane | None) -> Lane:
        """Go on along the path, and then the plain way."""
        options = in_turn(ready, last)
        depth = self._depth
        self._depth += 1
        number = 0
        if depth < len(self._path):
            number, name = self._path[depth]
            if number >= len(options) or options[number].name != name:
                can = ", ".join(lane.name for lane in options)
                msg = (
                    f"the same choices before, but at choice {depth + 1} there moved {name}, "
                    f"and now can {can}"
                )
                raise Diverged(msg)
        else:
            self._costs.append(
                [
                    (self._spent + self._cost(n, ready, last), lane.name)
                    for n, lane in enumerate(options)
                ]
            )
        self._spent += self._cost(number, ready, last)
        return options[number]


def bounded(most: int, cost: Cost, what: str) -> Search:
    """Run every schedule of at most so many delays or preemptions."""
    tree = Bounded(cost)
    plan = Plan(tree.choose)
    complete = True
    while tree.advance(most):
        execution = yield plan
        complete = complete and not execution.unfair
    return all_of_it(complete) if tree.complete else f"bounded (≤ {most} {what})"


@final
class Priorities:
    """
    Chooses by priorities that change a few times (PCT): finds what needs few orderings.

    Burckhardt, Kothari, Musuvathi, Nagarakatte: A randomized scheduler with probabilistic
    guarantees of finding bugs, ASPLOS 2010. How long an execution is, is measured as we go.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._length = 1
        self._depth = 0
        self._priorities: dict[str, float] = {}
        self._changes: set[int] = set()

    def begin(self, depth: int) -> None:
        """Draw the priorities anew, and *depth* - 1 places where they change."""
        self._length = max(self._length, self._depth)
        self._depth = 0
        self._priorities = {}
        places = range(self._length)
        self._changes = set(self._rng.sample(places, min(depth - 1, len(places))))

    def choose(self, ready: list[Lane], last: Lane | None) -> Lane:
        """Choose who is most urgent."""
        for lane in ready:
            if lane.name not in self._priorities:
                self._priorities[lane.name] = self._rng.random()
        best = max(ready, key=lambda lane: self._priorities[lane.name])
        if self._depth in self._changes:
            self._priorities[best.name] = -self._depth - 1
            best = max(ready, key=lambda lane: self._priorities[lane.name])
        self._depth += 1
        return best


DEPTHS = (3, 4, 5)
"""How many orderings PCT looks for, in turn, where nothing else is asked for."""


def pct(seed: int | str, count: int, depths: Sequence[int] = DEPTHS) -> Search:
    """Run executions by random priorities."""
    priorities = Priorities(random.Random(seed))
    plan = Plan(priorities.choose)
    for number in range(count):
        priorities.begin(depths[number % len(depths)])
        yield plan
    return f"sampled ({count})"
