"""
Who is inside an entry, and who waits for whom.

Nothing is noted while calls run, so nothing is paid for it: when somebody asks, the answer is read
off the tasks, by walking each one's chain of awaits. The frames of the few functions that run
handlers are known by their code.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import RunVar

from . import _open
from ._entry import ProcDirEntry
from ._file import ProcFile
from ._open_file import File
from ._removal import Removal, is_below
from ._trace import running_task

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from types import FrameType

    from anyio import TaskInfo

    Awaited = Callable[[FrameType], Iterable[int]]

# The functions that are inside while their frame lives: the variable that tells where, and the
# operation (None: it is in a variable of that name).
_FUNCTIONS: Final[dict[Callable[..., object], tuple[str, str | None]]] = {
    ProcFile._read: ("file", "read"),
    ProcFile._read_run: ("file", "read"),
    ProcFile._write: ("file", "write"),
    ProcFile._write_run: ("file", "write"),
    ProcFile._readv: ("file", "readv"),
    ProcFile._lseek: ("file", "lseek"),
    File.call: ("self", None),
    File.run_open: ("self", "open"),
    File.run_release: ("self", "release"),
    _open.read_entry: ("entry", "read"),
    _open.write_entry: ("entry", "write"),
    _open._release_one_shot: ("file", "release"),
}
# ... but not while they await one of these: they are not inside yet, or no more; or what they
# await is a site itself, which knows better what they are at.
_ASIDES: Final = (
    File.take_position,
    File.leave_position_and_release,
    File.release_late,
    File.release,
    File.run_open,
    _open._release_one_shot,
)
# Those that run plain handlers, which nobody waits for, so that they are no sites.
_PLAIN: Final[dict[Callable[..., object], str]] = {
    ProcFile._read_plain: "file",
    ProcFile._write_plain: "file",
    ProcFile._aclose_quick: "file",
    File.run_release_now: "self",
    Removal._release_all: "file",
}
# By identity: to hash or compare a code object is to do so with all that is in it.
_SITES: Final[dict[int, tuple[str, str | None]]] = {}
_HANDLERS: Final = {id(function.__code__): variable for function, variable in _PLAIN.items()}
_ASIDE: Final = frozenset(id(function.__code__) for function in _ASIDES)
# The beginning of our own files' names.
_OURS: Final = os.path.join(os.path.dirname(__file__), "_")


def add_site(function: Callable[..., object], place: str, op: str | None) -> None:
    """Have a function known as one that is inside, while it has a variable *place*."""
    _SITES[id(function.__code__)] = place, op
    _HANDLERS[id(function.__code__)] = place


for _function, _site in _FUNCTIONS.items():
    add_site(_function, *_site)
# What an awaited object's frame, and what that awaits, are called: a coroutine's, those of a
# generator that acts as one, an async generator's.
_LINKS: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
# What Python puts in between without telling what it stands for; the garbage collector knows.
_OPAQUE: Final = frozenset(
    {"anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A call that is inside an entry."""

    task: str
    """The name of the task it runs in."""
    path: str
    """The entry's path."""
    op: str
    """``"open"``, ``"read"`` and so on, or ``"release"``."""
    stack: tuple[str, ...]
    """Where it stands, the innermost frame first, each as ``"file.py:12 in read"``."""
    killable: bool
    """Whether the end of a removal's grace cancels it."""
    waited: float | None = None
    """
    For how many seconds the entry's removal has been waiting; None if none is. A call has been
    inside for at least as long: none is let in once removal has begun. (When it came in was not
    noted, since every call would have to pay for that.)
    """

    def __str__(self) -> str:
        where = ", called at ".join(self.stack) or "?"
        waited = "" if self.waited is None else f", whose removal has waited {self.waited:.1f} s"
        return f"task {self.task!r} in {self.op} of {self.path!r}{waited}, at {where}"


def holders(root: ProcDirEntry) -> list[Holder]:
    """Find the calls inside an entry and all below it. Not a checkpoint."""
    return [holder for holder, _, _ in calls(root)]


def calls(root: ProcDirEntry) -> Iterator[tuple[Holder, ProcDirEntry, object]]:
    """
    Go through the calls inside an entry and all below it: holder, entry, and the coroutine it is.

    That tells one call from the next of the same task, and may be remembered weakly: so who looks
    twice knows how long it has lasted, and calls note no time. None for a call of the running task.
    """
    for info, (frames, _) in _all_tasks():
        for index, (entry, op) in sites(frames):
            if is_below(entry, root):
                stack = tuple(_stack(frames[index + 1 :]))
                killable = entry.killable and op != "release"
                name, waited = info.name or "?", _waited(entry)
                holder = Holder(name, entry.path, op, stack, killable, waited)
                yield holder, entry, _coroutine_of(info.coro, frames[index])


def stack_of(info: TaskInfo) -> tuple[str, ...]:
    """Tell where a task stands, as :attr:`Holder.stack` does of a call."""
    return tuple(_stack(_chain(info.coro)[0]))


def _waited(entry: ProcDirEntry) -> float | None:
    removal = entry._removal
    if not isinstance(removal, Removal) or removal.began is None:
        return None
    return anyio.current_time() - removal.began


def standing(path: str, tasks: Mapping[int, str]) -> list[Holder]:
    """Tell where some tasks stand; *tasks* says of each, by its id, what it is at."""
    return [
        Holder(info.name or "?", path, tasks[info.id], tuple(_stack(frames)), killable=False)
        for info, (frames, _) in _all_tasks()
        if info.id in tasks
    ]


def own_sites() -> list[ProcDirEntry]:
    """Return the entries that the running task is inside of."""
    if not _on_the_stack(_SITES):  # the usual case, and all that it costs
        return []
    return [entry for _, (entry, _) in sites(_own_frames(running_task()))]


def running_handler() -> ProcDirEntry | None:
    """Return the entry whose handler is running, plain or not; the innermost, if several are."""
    if not _on_the_stack(_HANDLERS):
        return None
    for frame in reversed(_own_frames(running_task())):
        variable = _HANDLERS.get(id(frame.f_code))
        place: Any = variable and frame.f_locals.get(variable)
        if place is not None:
            return place if isinstance(place, ProcDirEntry) else place.entry
    return None  # it is another task's, which has started this one eagerly


def _on_the_stack(codes: Container[int]) -> bool:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and id(frame.f_code) not in codes:
        frame = frame.f_back
    return frame is not None


def sites(frames: Sequence[FrameType]) -> Iterator[tuple[int, tuple[ProcDirEntry, str]]]:
    """Find which of the frames, outermost first, are inside an entry: index, entry, operation."""
    for index, frame in enumerate(frames):
        site = _SITES.get(id(frame.f_code))
        if site is None or any(id(f.f_code) in _ASIDE for f in frames[index + 1 : index + 2]):
            continue
        variables = frame.f_locals
        place: Any = variables.get(site[0])
        if place is not None:
            entry = place if isinstance(place, ProcDirEntry) else place.entry
            yield index, (entry, site[1] or variables["op"])


def _all_tasks() -> Iterator[tuple[TaskInfo, tuple[list[FrameType], Any]]]:
    """Go through the tasks of this loop: each one's frames, and what it awaits in the end."""
    current = running_task()
    for info in anyio.get_running_tasks():
        yield info, (_own_frames(info), None) if info == current else _chain(info.coro)


def _chain(awaited: Any) -> tuple[list[FrameType], Any]:
    """Return the frames along a chain of awaits, outermost first, and what is at its end."""
    frames: list[FrameType] = []
    while True:
        frame, following = _step(awaited)
        if frame is not None:
            frames.append(frame)
        if following is None:
            return frames, awaited
        awaited = following


def _coroutine_of(awaited: Any, wanted: FrameType) -> object:
    """Find, along a chain of awaits, the one whose frame is *wanted*."""
    while awaited is not None:
        frame, following = _step(awaited)
        if frame is wanted:
            return awaited
        awaited = following
    return None


def _step(awaited: Any) -> tuple[FrameType | None, Any]:
    """Return the frame of something awaited, if it has one, and what it awaits itself."""
    if isinstance(awaited, CoroutineType):  # as most are; the loop would find it, but slowly
        return awaited.cr_frame, awaited.cr_await
    for name, link in _LINKS:
        frame = getattr(awaited, name, None)
        if frame is not None:
            return frame, getattr(awaited, link)
    if type(awaited).__name__ in _OPAQUE:
        return None, next(iter(gc.get_referents(awaited)), None)
    return None, None


def _own_frames(info: TaskInfo | None) -> list[FrameType]:
    """Return the frames of the running task, if it is one."""
    # A running coroutine does not tell what it awaits; its frames are on the stack instead.
    frames: list[FrameType] = []
    # What is below it may be another task, which has started it eagerly.
    outermost = getattr(info.coro, "cr_frame", None) if info else None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append(frame)
        frame = None if frame is outermost else frame.f_back
    return frames[::-1]


def _stack(frames: Sequence[FrameType]) -> Iterator[str]:
    """Write the frames down, the innermost first, without our own."""
    for frame in reversed(frames):
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            yield f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


# -- deadlocks ----------------------------------------------------------------------------------


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
        self.waiters = {info.id: _Waiter(info, *found, awaited) for info, found in _all_tasks()}
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
