"""Who waits for whom: a removal that waits for itself is found, and told (lockdep)."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import RunVar

from ._holders import sites
from ._removal import Removal, is_below
from ._stacktrace import all_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from anyio import TaskInfo

    from ._entry import ProcDirEntry

    Awaited = Callable[[FrameType], Iterable[int]]


def find_cycle(removal: Removal, event: anyio.Event) -> list[str] | None:
    """
    Find out whether who asks waits for itself; tell the way round, one line for each step.

    Who asks waits for *event* of a removal. That waits for the calls inside what it removes, each
    of these for what its task awaits: another removal, a task, or those of a task group. Only what
    is seen to be awaited counts: a task group whose block has not ended yet is not waited for. Who
    only waits for others that wait in a circle is not told: one of these will be.
    """
    me = anyio.get_current_task().id
    now, began = anyio.current_time(), time.perf_counter()
    until, suspects = _latest_look.get((now, frozenset[int]()))
    if now < until and me not in suspects:
        return None
    look = Look()
    # Who asks is awake, and so does not seem to wait for what it does wait for.
    look.waiters[me].removals = [(removal, goal_of(removal, event))]
    suspects = look.suspects()
    rest = max(_REST, _REST_PER_LOOK * (time.perf_counter() - began))
    _latest_look.set((now + rest, suspects))
    return look.way_round(me) if me in suspects else None


# To look goes through all tasks, and any number of them may ask: they share what one has seen for
# this long, in seconds; and for so many times as long as it took, which leaves time for the rest.
_REST: Final = 0.1
_REST_PER_LOOK: Final = 20
# Until when that holds, and which tasks may be in a circle. No references, which would keep
# entries alive.
_latest_look: Final[RunVar[tuple[float, frozenset[int]]]] = RunVar("_latest_look")


class _Waiter:
    """A task: which entries it is inside of, which removals and which tasks it waits for."""

    def __init__(
        self, info: TaskInfo, frames: Sequence[FrameType], end: Any, awaited: Awaited
    ) -> None:
        self.name = info.name or "?"
        self.inside = [site for _, site in sites(frames)]
        self.removals = list(_awaited_removals(frames))
        self.tasks = {number for frame in frames for number in _awaited_tasks(frame)}
        self.tasks |= _awaited_futures(end)
        self.tasks |= {number for frame in frames for number in awaited(frame)}
        self.handle = _handle_of(frames)


class Look:
    """
    Which task waits for which, as seen at one moment.

    Args:
        awaited: Tells which other tasks a frame waits for.
    """

    def __init__(self, awaited: Awaited = lambda frame: ()) -> None:
        self.waiters = {info.id: _Waiter(info, *found, awaited) for info, found in all_tasks()}
        handles = {waiter.handle: number for number, waiter in self.waiters.items()}
        for waiter in self.waiters.values():
            waiter.tasks |= {handles[each] for each in waiter.tasks & handles.keys()}
        # The calls inside what each removal removes.
        self._calls: dict[object, list[tuple[int, ProcDirEntry, str]]] = {}
        for number, waiter in self.waiters.items():
            for entry, op in waiter.inside:
                self._calls.setdefault(entry._removal, []).append((number, entry, op))

    def suspects(self) -> frozenset[int]:
        """Find the tasks that may wait in a circle: few or none, and those that do among them."""
        found = {number: {other for other, _ in self._edges(number)} for number in self.waiters}
        before = -1
        while len(found) != before:
            before = len(found)
            # Who waits for nobody, or is waited for by nobody, is in no circle.
            ends = set[int]().union(*found.values())
            left = {n: others & found.keys() for n, others in found.items() if n in ends}
            found = {n: others for n, others in left.items() if others}
        return frozenset(found)

    def way_round(self, me: int) -> list[str] | None:
        """Find the shortest way from a task back to itself, as lines of text."""
        came = self._reachable(me)
        if me not in came:
            return None
        number, way = came[me]
        while number != me:
            number, why = came[number]
            way = [*why, *way]
        return way

    def _reachable(self, start: int) -> dict[int, tuple[int, list[str]]]:
        """Find whom a task waits for in the end, and of each, who waits for it and why."""
        came: dict[int, tuple[int, list[str]]] = {}
        todo = [start]
        for number in todo:
            for other, why in self._edges(number):
                if other not in came:
                    came[other] = number, why
                    todo.append(other)
        return came

    def _edges(self, number: int) -> Iterator[tuple[int, list[str]]]:
        """Find the tasks that a task waits for, and say why."""
        waiter = self.waiters[number]
        for removal, goal in waiter.removals:
            why = f"task {waiter.name!r} waits for the removal of {goal.path!r}"
            for other, entry, op in self._calls_in_the_way(removal, goal):
                call = f"the {op} of {entry.path!r} in task {self.waiters[other].name!r}"
                yield other, [why, f"which waits for {call}"]
        for other in waiter.tasks & self.waiters.keys():
            yield other, [f"task {waiter.name!r} waits for task {self.waiters[other].name!r}"]

    def _calls_in_the_way(
        self, removal: Removal, goal: ProcDirEntry
    ) -> Iterator[tuple[int, ProcDirEntry, str]]:
        """Find the calls that a removal has to wait for before *goal* is gone."""
        # Of the others in its subtree, those before *goal* are not told from those after it.
        places = (removal._current, goal)
        for call in self._calls.get(removal, ()):
            if any(is_below(call[1], place) for place in places):
                yield call
        for other in removal._others:
            if any(is_below(other.root, place) for place in places):
                yield from self._calls_in_the_way(other, other.root)


def goal_of(removal: Removal, event: anyio.Event) -> ProcDirEntry:
    """Return what is gone when who waits for *event* goes on: who joins need not want it all."""
    return next((entry for entry, e in removal._events.items() if e is event), removal.root)


def _awaited_removals(frames: Sequence[FrameType]) -> Iterator[tuple[Removal, ProcDirEntry]]:
    for frame in frames:
        if frame.f_code is Removal.wait.__code__:
            removal: Removal = frame.f_locals["self"]
            yield removal, goal_of(removal, frame.f_locals["event"])


def _awaited_tasks(frame: FrameType) -> set[int]:
    # Neither anyio nor asyncio says in public what a task group still waits for. Where these
    # names are others, no cycle through a task group is found, and the hung-task report is left.
    name = frame.f_code.co_qualname
    if name == "TaskGroup.__aexit__":
        return {id(task) for task in getattr(frame.f_locals["self"], "_tasks", ())}
    if name == "TaskHandle.__await__":
        return {id(frame.f_locals["self"])}
    if name == "Nursery._nested_child_finished":
        return {id(task) for task in frame.f_locals["self"].child_tasks}
    if name in {"_wait", "wait_for"} and frame.f_globals.get("__name__") == "asyncio.tasks":
        # By way of a future of its own; wait_for() does so in Python 3.11.
        variables = frame.f_locals
        return {id(task) for task in (variables["fs"] if name == "_wait" else [variables["fut"]])}
    return set()


def _handle_of(frames: Sequence[FrameType]) -> int | None:
    """Return the id of the handle that anyio's task group gave for a task, if it gave one."""
    if not frames or frames[0].f_code.co_qualname != "TaskHandle._run_coro":
        return None
    return id(frames[0].f_locals["self"])


def _awaited_futures(awaited: Any) -> set[int]:
    # An asyncio task that is awaited itself, or those of a gather() or a shield().
    if type(awaited).__name__ != "FutureIter":
        return set()
    futures = gc.get_referents(awaited)
    return {
        id(one)
        for each in futures
        for one in (each, *getattr(each, "_children", ()), *_shielded(each))
    }


def _shielded(future: Any) -> Iterator[object]:
    # The outer future knows of the inner one by what it does when it is cancelled.
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", "").startswith("shield."):
            yield from (cell.cell_contents for cell in callback.__closure__)
