"""
Who is inside an entry, and who waits for whom.

Nothing is noted while calls run, so nothing is paid for it: when somebody asks, the answer is read
off the tasks, by walking each one's chain of awaits. The frames of the few functions that hold a
guard are known by their code.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from . import _file, _open_file
from ._entry import ProcDirEntry
from ._file import ProcFile
from ._open_file import File
from ._removal import Removal, is_below

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, FrameType

    from anyio import TaskInfo

# The functions that are inside while their frame lives: the variable that tells where, and the
# operation (None: it is in a variable of that name).
_SITES: Final[dict[CodeType, tuple[str, str | None]]] = {
    ProcFile._read.__code__: ("file", "read"),
    ProcFile._read_run.__code__: ("file", "read"),
    ProcFile._write.__code__: ("file", "write"),
    ProcFile._write_run.__code__: ("file", "write"),
    ProcFile._readv.__code__: ("file", "readv"),
    ProcFile._lseek.__code__: ("file", "lseek"),
    File.call.__code__: ("self", None),
    File.run_release.__code__: ("self", "release"),
    _file.open_entry.__code__: ("entry", "open"),
    _file.read_entry.__code__: ("entry", "read"),
    _file.write_entry.__code__: ("entry", "write"),
}
# ... unless they still wait to be let in.
_AT_THE_DOOR: Final = File.take_position.__code__


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

    def __str__(self) -> str:
        where = ", called at ".join(self.stack) or "?"
        return f"task {self.task!r} in {self.op} of {self.path!r}, at {where}"


def holders(root: ProcDirEntry) -> list[Holder]:
    """Find the calls inside an entry and all below it. Not a checkpoint."""
    found: list[Holder] = []
    for info in anyio.get_running_tasks():
        frames = task_frames(info)
        for index, (entry, op) in sites(frames):
            if is_below(entry, root):
                stack = tuple(_stack(frames[index + 1 :]))
                name = info.name or "?"
                found.append(Holder(name, entry.path, op, stack, entry.killable))
    return found


def own_sites() -> list[ProcDirEntry]:
    """Return the entries that the running task is inside of."""
    return [entry for _, (entry, _) in sites(_own_frames())]


def sites(frames: Sequence[FrameType]) -> Iterator[tuple[int, tuple[ProcDirEntry, str]]]:
    """Find which of the frames, outermost first, are inside an entry: index, entry, operation."""
    for index, frame in enumerate(frames):
        site = _SITES.get(frame.f_code)
        if site is None or any(inner.f_code is _AT_THE_DOOR for inner in frames[index + 1 :]):
            continue
        variables = frame.f_locals
        place: Any = variables.get(site[0])
        if place is not None:
            entry = place if isinstance(place, ProcDirEntry) else place.entry
            yield index, (entry, site[1] or variables["op"])


def task_frames(info: TaskInfo) -> list[FrameType]:
    """Return the frames of a task, outermost first."""
    if info.id == anyio.get_current_task().id:
        return _own_frames()
    frames: list[FrameType] = []
    awaited: Any = info.coro
    while awaited is not None:
        # A coroutine, a generator that acts as one, or an async generator.
        for kind, link in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                frames.append(frame)
                awaited = getattr(awaited, f"{kind}_{link}")
                break
        else:
            break
    return frames


def _own_frames() -> list[FrameType]:
    # A running coroutine does not tell what it awaits; its frames are on the stack instead.
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _stack(frames: Sequence[FrameType]) -> Iterator[str]:
    """Write the frames down, the innermost first, without those between guard and handler."""
    for frame in reversed(frames):
        code = frame.f_code
        if code.co_filename not in {__file__, _file.__file__, _open_file.__file__}:
            yield f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


# -- deadlocks ----------------------------------------------------------------------------------


def find_cycle(removal: Removal) -> list[str] | None:
    """
    Find out whether a removal waits for itself; tell the way round, one line for each step.

    It waits for the calls inside what it removes, each of these for what its task awaits: another
    removal, or the tasks of its task group. Only what is seen to be awaited counts: a task group
    whose block has not ended yet is not waited for.
    """
    tasks = {info.id: _Waiter(info) for info in anyio.get_running_tasks()}
    # The one who asks is awake, and so does not seem to wait for what it does wait for.
    tasks[anyio.get_current_task().id].removals.append(removal)
    return _search(removal, removal, tasks, set())


class _Waiter:
    """A task: which entries it is inside of, which removals and which tasks it waits for."""

    def __init__(self, info: TaskInfo) -> None:
        frames = task_frames(info)
        self.name = info.name or "?"
        self.inside = [site for _, site in sites(frames)]
        self.removals = list(_awaited_removals(frames))
        self.tasks = {number for frame in frames for number in _awaited_tasks(frame)}


def _awaited_removals(frames: Sequence[FrameType]) -> Iterator[Removal]:
    for frame in frames:
        if frame.f_code is Removal.wait.__code__:
            yield frame.f_locals["self"]


def _awaited_tasks(frame: FrameType) -> set[int]:
    # Neither anyio nor asyncio says in public what a task group still waits for. Where these
    # names are others, no cycle through a task group is found, and the hung-task report is left.
    name = frame.f_code.co_qualname
    if name == "TaskGroup.__aexit__":
        return {id(task) for task in getattr(frame.f_locals["self"], "_tasks", ())}
    if name == "Nursery._nested_child_finished":
        return {id(task) for task in frame.f_locals["self"].child_tasks}
    return set()


def _search(
    at: Removal, goal: Removal, tasks: dict[int, _Waiter], seen: set[object]
) -> list[str] | None:
    seen.add(at)
    what = f"the removal of {at.root.path!r} waits for"
    for number, task in tasks.items():
        inside = [(entry, op) for entry, op in task.inside if at.waits_for(entry)]
        if inside and number not in seen:
            way = _search_task(number, goal, tasks, seen)
            if way is not None:
                entry, op = inside[0]
                return [f"{what} the {op} of {entry.path!r} in task {task.name!r}", *way]
    return None


def _search_task(
    number: int, goal: Removal, tasks: dict[int, _Waiter], seen: set[object]
) -> list[str] | None:
    seen.add(number)
    task = tasks[number]
    for removal in task.removals:
        step = f"task {task.name!r} waits for the removal of {removal.root.path!r}"
        if removal is goal:
            return [step]
        way = None if removal in seen else _search(removal, goal, tasks, seen)
        if way is not None:
            return [step, *way]
    for child in task.tasks - seen:
        way = _search_task(child, goal, tasks, seen) if child in tasks else None
        if way is not None:
            return [f"task {task.name!r} waits for task {tasks[child].name!r}", *way]
    return None
