"""Tasks and futures of asyncio that tell a tracker who looks at them, and who ends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._tracker import Tracker


class WatchedFuture(asyncio.Future[Any]):
    """A future whose end is a write, and whose use is a read."""

    def __init__(self, tracker: Tracker, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._tracker = tracker
        tracker.created(self)

    def done(self) -> bool:
        self._tracker.touch(self, "result", False)
        return super().done()

    def result(self) -> Any:
        self._tracker.touch(self, "result", False)
        return super().result()

    def exception(self) -> BaseException | None:
        self._tracker.touch(self, "result", False)
        return super().exception()

    def cancelled(self) -> bool:
        self._tracker.touch(self, "result", False)
        return super().cancelled()

    def __await__(self) -> Generator[Any, None, Any]:
        self._tracker.touch(self, "result", False)
        return super().__await__()

    def set_result(self, result: Any, /) -> None:
        self._tracker.touch(self, "result", True)
        super().set_result(result)

    def set_exception(self, exception: Any, /) -> None:
        self._tracker.touch(self, "result", True)
        super().set_exception(exception)

    def cancel(self, msg: Any | None = None) -> bool:
        self._tracker.touch(self, "result", True)
        return super().cancel(msg)


class WatchedTask(asyncio.Task[Any]):
    """A task whose end is a write, whose use is a read, and that knows its group."""

    def __init__(self, tracker: Tracker, coro: Any, **kwargs: Any) -> None:
        self._tracker = tracker
        self.group: Any = None
        super().__init__(coro, **kwargs)

    def done(self) -> bool:
        self._tracker.touch_task(self, "end", False)
        return super().done()

    def result(self) -> Any:
        self._tracker.touch_task(self, "end", False)
        return super().result()

    def exception(self) -> BaseException | None:
        self._tracker.touch_task(self, "end", False)
        return super().exception()

    def cancelled(self) -> bool:
        self._tracker.touch_task(self, "end", False)
        return super().cancelled()

    def __await__(self) -> Generator[Any, None, Any]:
        self._tracker.touch_task(self, "end", False)
        return super().__await__()

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: Any = None) -> None:
        group = _group_of(fn)
        if group is None:
            self._tracker.touch_task(self, "end", False)
        else:
            self.group = group
        super().add_done_callback(fn, context=context)

    def cancel(self, msg: Any | None = None) -> bool:
        self._tracker.touch_task(self, "cancel()", True)
        return super().cancel(msg)


def _group_of(callback: Any) -> Any:
    """Return the task group that wants to be told of a task's end by this callback."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.TaskGroup):
        return owner
    for cell in getattr(callback, "__closure__", None) or ():
        if hasattr(cell.cell_contents, "_on_completed_fut"):
            return cell.cell_contents
    return None
