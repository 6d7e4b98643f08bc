"""
Who is inside an entry.

Nothing is noted while calls run, so nothing is paid for it: when somebody asks, the answer is read
off the tasks, by walking each one's chain of awaits. The frames of the few functions that run
handlers are known by their code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from . import _invoke, _open, _read_write
from ._entry import ProcDirEntry
from ._file import ProcFile
from ._open_file import File
from ._removal import Removal, is_below
from ._stacktrace import all_tasks, coroutine_of, on_the_stack, own_frames, written
from ._trace import running_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType


# The functions that are inside while their frame lives: the variable that tells where, and the
# operation (None: it is in a variable of that name).
_FUNCTIONS: Final[dict[Callable[..., object], tuple[str, str | None]]] = {
    _read_write.read: ("file", "read"),
    _read_write.read_run: ("file", "read"),
    _read_write.write: ("file", "write"),
    _read_write.write_run: ("file", "write"),
    _read_write.readv: ("file", "readv"),
    _read_write.lseek: ("file", "lseek"),
    File._call: ("self", None),
    _invoke.run_open: ("file", "open"),
    File._run_release: ("self", "release"),
    _open._at_once: ("entry", None),
    _open._release_one_shot: ("file", "release"),
}
# ... but not while they await one of these: they are not inside yet, or no more; or what they
# await is a site itself, which knows better what they are at.
_ASIDES: Final = (
    File._take_position,
    File._leave_position_and_release,
    File._release_late,
    File._release,
    _invoke.run_open,
    _open._release_one_shot,
)
# Those that run plain handlers, which nobody waits for, so that they are no sites.
_PLAIN: Final[dict[Callable[..., object], str]] = {
    _read_write.read_plain: "file",
    _read_write.write_plain: "file",
    ProcFile._aclose_quick: "file",
    File._run_release_now: "self",
    Removal._release_all: "file",
}
# By identity: to hash or compare a code object is to do so with all that is in it.
_SITES: Final[dict[int, tuple[str, str | None]]] = {}
_PLAIN_CODES: Final = frozenset(id(function.__code__) for function in _PLAIN)
_HANDLERS: Final = {id(function.__code__): variable for function, variable in _PLAIN.items()}
_ASIDE: Final = frozenset(id(function.__code__) for function in _ASIDES)


def add_site(function: Callable[..., object], place: str, op: str | None) -> None:
    """Have a function known as one that is inside, while it has a variable *place*."""
    _SITES[id(function.__code__)] = place, op
    _HANDLERS[id(function.__code__)] = place


for _function, _site in _FUNCTIONS.items():
    add_site(_function, *_site)


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
    for info, (frames, _) in all_tasks():
        for index, (entry, op) in sites(frames):
            if is_below(entry, root):
                stack = tuple(written(frames[index + 1 :]))
                killable = entry.killable and op != "release"
                name, waited = info.name or "?", _waited(entry)
                holder = Holder(name, entry.path, op, stack, killable, waited)
                yield holder, entry, coroutine_of(info.coro, frames[index])


def _waited(entry: ProcDirEntry) -> float | None:
    removal = entry._removal
    if not isinstance(removal, Removal) or removal.began is None:
        return None
    return anyio.current_time() - removal.began


def standing(path: str, tasks: Mapping[int, str]) -> list[Holder]:
    """Tell where some tasks stand; *tasks* says of each, by its id, what it is at."""
    return [
        Holder(info.name or "?", path, tasks[info.id], tuple(written(frames)), killable=False)
        for info, (frames, _) in all_tasks()
        if info.id in tasks
    ]


def own_sites() -> list[ProcDirEntry]:
    """Return the entries that the running task is inside of."""
    if not on_the_stack(_SITES):  # the usual case, and all that it costs
        return []
    return [entry for _, (entry, _) in sites(own_frames(running_task()))]


def in_any_handler(*, plain: bool = False) -> bool:
    """
    Tell whether a handler is on the stack, or a *plain* one.

    Be it another task's, which has started this one eagerly: that goes on when this one waits.
    """
    return on_the_stack(_PLAIN_CODES if plain else _HANDLERS)


def running_handler() -> ProcDirEntry | None:
    """Return the entry whose handler is running, plain or not; the innermost, if several are."""
    if not on_the_stack(_HANDLERS):
        return None
    for frame in reversed(own_frames(running_task())):
        variable = _HANDLERS.get(id(frame.f_code))
        place: Any = variable and frame.f_locals.get(variable)
        if place is not None:
            return place if isinstance(place, ProcDirEntry) else place.entry
    return None  # it is another task's, which has started this one eagerly


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
