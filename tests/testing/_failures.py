"""Failures made by hand, for those who draw them."""

from __future__ import annotations

from aiopde.testing import Failure, Location, Result, Schedule, Step, Touch, Waiter

HERE = __file__


def guard(*names: str) -> None:  # pragma: no cover  it is only looked at
    """Stands for a program: the lines below are shown as source."""
    in_use = len(names)  # line 12
    print(in_use)  # noqa: T201  line 13 <&>


def at(line: int, function: str = "guard") -> Location:
    return Location(HERE, line, function)


STEPS = (
    Step("main", (), None, at(12), ("reader", "remover")),
    Step(
        "reader", ("remover", "!remover"), at(11), at(12), touched=(Touch("count.in_use", False),)
    ),
    Step(
        "remover",
        ("reader", "!remover"),
        None,
        at(13),
        touched=(Touch("count.in_use", True), Touch("other", True)),
    ),
    Step("!remover", ("reader", "remover"), None, None, ("remover",)),
    Step("remover", ("reader",), at(13), None, ("main",), marks=("ends", "raises ValueError('x')")),
    Step("reader", ("main",), at(12), at(13), touched=(Touch("count.in_use", True),)),
)

DEADLOCK = Failure(
    "deadlock",
    "nobody can move: main waits",
    Schedule(("reader", "remover", "!remover", "remover")),
    steps=STEPS,
    waiting=(Waiter("main", "Event.wait", (at(12, "main"), at(13))),),
)


def result(failure: Failure | None = DEADLOCK, strategy: str = "auto") -> Result:
    return Result("trio", strategy, "sampled (7)", 7, failure, int(failure is not None))


def long(steps: int, names: int) -> Failure:
    """A failure of so many steps of so many tasks, each of which makes three in a row."""
    tasks = [f"task{i}" for i in range(names)]
    made: list[Step] = []
    for number in range(steps):
        name = tasks[number // 3 % names]
        others = tuple(task for task in tasks if task != name)
        made.append(Step(name, others, at(12), at(13)))
    return Failure("livelock", "still moving", Schedule(("task0",)), steps=tuple(made))
