"""Where a suspended coroutine stands, and what it waits for."""

from __future__ import annotations

import os
import sys
import sysconfig
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CORO_CREATED, getcoroutinestate, iscoroutine
from types import CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, cast

from ._result import Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

_HERE = os.path.dirname(__file__) + os.sep
# What stands between a task and its own code, or in the place of a library's call, is not shown.
_OWN = (_HERE, os.path.join(os.path.dirname(os.path.dirname(__file__)), "pytest_plugin."))
_LIBRARIES = tuple(
    sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def is_library(file: str) -> bool:
    """Whether a file of source is Python's, an installed package's or the explorer's own."""
    return file.startswith((*_LIBRARIES, _HERE, "<"))


def frames_of(coroutine: Any) -> Iterator[FrameType]:
    """Walk the frames of a suspended coroutine, outermost first."""
    while coroutine is not None:
        frame: FrameType | None
        if isinstance(coroutine, CoroutineType):
            running = cast("Any", coroutine)
            frame, coroutine = running.cr_frame, running.cr_await or _inside(running)
        elif isinstance(coroutine, GeneratorType):
            yielding = cast("Any", coroutine)
            frame, coroutine = yielding.gi_frame, yielding.gi_yieldfrom
        else:  # an asynchronous generator's step, say: Python does not tell whose
            return
        if frame is not None and not frame.f_code.co_filename.startswith(_OWN):
            yield frame


def _inside(coroutine: Any) -> Any:
    """Return what a library's wrapper that has not begun yet is going to await."""
    frame = coroutine.cr_frame
    if frame is None or getcoroutinestate(coroutine) != CORO_CREATED:
        return None
    if not is_library(frame.f_code.co_filename):
        return None
    local = frame.f_locals
    inner = local.get("coroutine") or local.get("coro") or getattr(local.get("self"), "_coro", None)
    return inner if iscoroutine(inner) else None


def location_of(frame: FrameType) -> Location:
    """The line a frame is at."""
    code = frame.f_code
    return Location(code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_name)


def stack_of(coroutine: Any) -> tuple[Location, ...]:
    """Where a suspended coroutine stands, outermost first."""
    return tuple(location_of(frame) for frame in frames_of(coroutine))


def place_of(coroutine: Any) -> Location | None:
    """The innermost line that is not a library's; None if the coroutine has ended."""
    return place_among(frames_of(coroutine))


def place_among(frames: Iterable[FrameType]) -> Location | None:
    """The innermost of some frames that is not a library's."""
    place = None
    for frame in frames:
        if place is None or not is_library(frame.f_code.co_filename):
            place = location_of(frame)
    return place


def waits_for(coroutine: Any) -> str:
    """Say what a suspended coroutine waits for: the library's call, and from where."""
    frames = list(frames_of(coroutine))
    return call_among(frames) if frames else "nothing"


def frames_here() -> list[FrameType]:
    """Return the frames of the task that runs, outermost first, down to the library's call."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_OWN):
            if frame.f_code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR):
                frames.append(frame)
        elif frames:  # what drives the task, or its scope
            break
        frame = frame.f_back
    return frames[::-1]


def call_among(frames: Sequence[FrameType], name: str = "") -> str:
    """Say what the innermost line that is not a library's calls, and where it stands."""
    inner = len(frames)
    while inner and is_library(frames[inner - 1].f_code.co_filename):
        inner -= 1
    if not inner:  # a task whose function is a library's
        public = (frame for frame in frames if not frame.f_code.co_name.startswith("_"))
        return next(public, frames[-1]).f_code.co_qualname if frames else name
    call = name or frames[inner - 1].f_code.co_qualname
    if inner < len(frames):
        call = frames[inner].f_code.co_qualname
    return f"{call} at {location_of(frames[inner - 1])}"
