"""Small programs of several tasks, to be explored: counted ones, and ones made at random."""

from __future__ import annotations

import asyncio
from math import factorial
from typing import TYPE_CHECKING, Any

import anyio
import trio
from anyio.lowlevel import checkpoint

from aiopde.testing._dpor import Explorer
from aiopde.testing._drive import drive
from aiopde.testing._execution import Plan, Settings
from aiopde.testing._hooks import hooks
from aiopde.testing._order import Order
from aiopde.testing._strategies import Branches
from aiopde.testing._tracker import Tracker
from aiopde.testing._variables import variables

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Hashable

    from aiopde.testing._execution import Execution, Search
    from aiopde.testing._lane import Lane

BACKENDS = ("asyncio", "trio")

Op = tuple[str, str]
"""What a task of a random program does in one step, and to which variable."""
Program = list[list[Op]]


def orders(tasks: int, checkpoints: int) -> int:
    """How many orders there are of tasks with so many checkpoints each."""
    steps = checkpoints + 1
    return factorial(tasks * steps) // int(factorial(steps) ** tasks)


def with_anyio(tasks: int, checkpoints: int) -> Callable[[], Awaitable[None]]:
    async def task() -> None:
        for _ in range(checkpoints):
            await checkpoint()

    async def scenario() -> None:
        async with anyio.create_task_group() as tg:
            for number in range(tasks):
                tg.start_soon(task, name=f"t{number}")

    return scenario


def with_asyncio(tasks: int, checkpoints: int) -> Callable[[], Awaitable[None]]:
    async def task() -> None:
        for _ in range(checkpoints):
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with asyncio.TaskGroup() as tg:
            for number in range(tasks):
                tg.create_task(task(), name=f"t{number}")

    return scenario


def with_trio(tasks: int, checkpoints: int) -> Callable[[], Awaitable[None]]:
    async def task() -> None:
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(tasks):
                nursery.start_soon(task, name=f"t{number}")

    return scenario


def _variables() -> tuple[Callable[[str, str, int], int], Callable[[], object]]:
    """Make what tasks share as variables of a function; return how to use it, and its end."""
    table: dict[str, int] = {"x": 1, "y": 2}
    slots = [0, 0]
    names = ["y"]

    def use(op: str, name: str, value: int) -> int:
        place = "xyz".index(name) % 2
        if op == "store":
            slots[place] = value
        elif op == "bump":
            slots[place] += value
        elif op == "peek":
            value = slots[place]
        elif op == "grow":
            slots.insert(0, value)
        elif op == "enter":
            table[name] = value
        elif op == "find" and name in table:
            value = table[name]
        elif op == "count" and name in table:
            table[name] += value
        elif op == "know" and name not in names:
            names.append(name)
        elif op == "forget" and names:
            names.pop()
        return value

    return use, lambda: (tuple(table.items()), tuple(slots), tuple(names))


class Memory:
    """What the tasks of a random program share."""

    def __init__(self) -> None:
        self.x = self.y = self.z = 0
        self.event = anyio.Event()
        self.table: dict[str, int] = {"x": 1, "y": 2}
        self.box = ["y"]
        self.use, self.end = _variables()


def scenario_of(program: Program) -> Callable[[], Awaitable[object]]:
    """Make a scenario; it returns what is in memory at the end."""

    async def scenario() -> object:
        memory = Memory()
        try:
            async with anyio.create_task_group() as tg:
                for number, ops in enumerate(program):
                    tg.start_soon(_task, memory, ops, tg, name=f"t{number}")
        except* ZeroDivisionError:
            pass
        table, box = tuple(memory.table.items()), tuple(memory.box)
        return memory.x, memory.y, memory.z, table, box, memory.end()

    return scenario


async def _task(memory: Memory, ops: list[Op], tg: Any) -> None:
    read = 0
    for number, (op, name) in enumerate(ops):
        if number:
            await checkpoint()
        if op == "read":
            read += getattr(memory, name)
        elif op == "write":
            setattr(memory, name, 3 * read + number + len(ops))
        elif op == "look":
            # What the step touches next depends on what it finds.
            if getattr(memory, name):
                read += memory.y
            else:
                memory.z = 7
        elif op in ("put", "get", "has", "any", "append", "drop", "delete"):
            read = _use_containers(memory, op, name, read + number + len(ops))
        elif op in ("store", "bump", "peek", "grow", "enter", "find", "count", "know", "forget"):
            read = memory.use(op, name, 3 * read + number + len(ops))
        elif op == "set":
            memory.event.set()
        elif op == "wait":
            await memory.event.wait()
        elif op == "crash":
            raise ZeroDivisionError
        elif op == "spawn":
            tg.start_soon(_task, memory, ops[number + 1 :], tg, name="child")
            return
        else:
            assert op == "cancel"
            tg.cancel_scope.cancel()


def _use_containers(memory: Memory, op: str, name: str, value: int) -> int:
    if op == "put":
        memory.table[name] = value
    elif op == "get" and name in memory.table:
        value = memory.table[name]
    elif op == "delete" and name in memory.table:
        del memory.table[name]
    elif op == "has" and name not in memory.box:
        memory.x = value
    elif op == "any" and memory.box:
        memory.y = value
    elif op == "append":
        memory.box.append(name)
    elif op == "drop" and name in memory.box:
        memory.box.remove(name)
    return value


Met = dict[object, set["Hashable"]]
"""The classes of equivalent executions that were met, and how those of each ended."""


def all_classes(scenario: Any, backend: str, cancel: Collection[str] = ()) -> Met:
    """Run every schedule, and tell the classes apart."""
    branches = Branches()

    def choose(ready: list[Lane], last: Lane | None) -> Lane | None:
        return ready[0] if len(ready) == 1 else branches.choose(ready, last)

    met: Met = {}
    drive(scenario, _meet(met, choose, branches.advance), Settings(backend, cancel=cancel))
    return met


def _meet(met: Met, choose: Any, advance: Callable[[], bool]) -> Search:
    tracker = Tracker()
    with hooks(tracker), variables(tracker):
        while True:
            execution = yield Plan(choose, tracker)
            order = Order(tracker.complete_events())
            met.setdefault(order.equivalence_class(), set()).add(execution.outcome)
            if not advance():
                return ""


def reduced_classes(
    scenario: Any, backend: str, cancel: Collection[str] = ()
) -> tuple[Met, list[Execution]]:
    """Run what the reduced search runs; return the classes, and every execution."""
    met: Met = {}
    executions: list[Execution] = []
    drive(scenario, _reduce(met, executions), Settings(backend, cancel=cancel))
    return met, executions


def _reduce(met: Met, executions: list[Execution]) -> Search:
    tracker = Tracker()
    explorer = Explorer(tracker)
    with hooks(tracker), variables(tracker):
        while True:
            execution = yield Plan(explorer.choose, tracker)
            executions.append(execution)
            order = Order(tracker.complete_events())
            if not execution.cut:
                met.setdefault(order.equivalence_class(), set()).add(execution.outcome)
            explorer.plan(order, execution)
            if not explorer.advance():
                return ""


def search_that_fails() -> Any:
    """A strategy with a mistake in it."""

    def choose(ready: object, last: object) -> Any:
        raise LookupError("mine")

    yield Plan(choose)
