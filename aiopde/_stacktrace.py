"""Where tasks stand, and what they await, read off their frames (kernel/stacktrace.c)."""

from __future__ import annotations

import gc
import os
import sys
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

import anyio

from ._trace import running_task

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from types import FrameType

    from anyio import TaskInfo

# The beginning of our own files' names.
_OURS: Final = os.path.join(os.path.dirname(__file__), "_")
# What an awaited object's frame, and what that awaits, are called: a coroutine's, those of a
# generator that acts as one, an async generator's.
_LINKS: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
# What Python puts in between without telling what it stands for; the garbage collector knows.
_OPAQUE: Final = frozenset(
    {"anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
)


def all_tasks() -> Iterator[tuple[TaskInfo, tuple[list[FrameType], Any]]]:
    """
    Go through the tasks of this loop: each one's frames, and what it awaits in the end.

    By their names, for the loop keeps them in sets, which have another order each time.
    """
    current = running_task()
    for info in sorted(anyio.get_running_tasks(), key=lambda info: info.name or ""):
        yield info, (own_frames(info), None) if info == current else chain(info.coro)


def chain(awaited: Any) -> tuple[list[FrameType], Any]:
    """Return the frames along a chain of awaits, outermost first, and what is at its end."""
    frames: list[FrameType] = []
    while True:
        frame, following = _step(awaited)
        if frame is not None:
            frames.append(frame)
        if following is None:
            return frames, awaited
        awaited = following


def coroutine_of(awaited: Any, wanted: FrameType) -> object:
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


def own_frames(info: TaskInfo | None) -> list[FrameType]:
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


def written(frames: Sequence[FrameType]) -> Iterator[str]:
    """Write the frames down, the innermost first, without our own."""
    for frame in reversed(frames):
        code = frame.f_code
        if not code.co_filename.startswith(_OURS):
            yield f"{code.co_filename}:{frame.f_lineno} in {code.co_name}"


def on_the_stack(codes: Container[int]) -> bool:
    """Tell whether the caller was called, in the end, by one of these; *codes* are their ids."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and id(frame.f_code) not in codes:
        frame = frame.f_back
    return frame is not None


def stack_of(info: TaskInfo) -> tuple[str, ...]:
    """Tell where a task stands, as :attr:`Holder.stack` does of a call."""
    return tuple(written(chain(info.coro)[0]))
