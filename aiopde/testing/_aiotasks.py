"""What asyncio and anyio tell of a task; what a run on asyncio asks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final

import anyio
import anyio._backends._asyncio  # before the hooks look for its classes

from ._lane import MAIN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterator

    from ._lane import Lane


@final
class Tasks:
    """Knows the tasks of a loop: a :class:`Backend`."""

    def __init__(self) -> None:
        self._scopes: dict[Any, anyio.CancelScope] = {}
        """What cancels a task, by its coroutine, where cancellation is a choice."""

    def forget(self) -> None:
        """Forget the execution before."""
        self._scopes.clear()

    def cancellable(self, coroutine: Any) -> Any:
        """Return what a task is to run; if anyio manages it, in a scope of its own."""
        if not _is_anyios(coroutine):
            return coroutine
        scope = anyio.CancelScope()
        coroutine = _within(scope, coroutine)
        self._scopes[coroutine] = scope
        return coroutine

    def is_over(self, task: Any) -> bool:
        """Whether a task has ended."""
        return task is None or task.done()

    def coroutine(self, task: Any) -> Any:
        """Return the outermost coroutine of a task."""
        return task.get_coro()

    def task_name(self, task: Any) -> str:
        """Return the name a task was given, or its function's."""
        name: str = task.get_name()
        if name.startswith("Task-") and name[5:].isdecimal():
            # What is awaited of an async generator is a coroutine without a name.
            coroutine = task.get_coro()
            name = getattr(coroutine, "__name__", None) or type(coroutine).__name__
        return name

    def can_cancel(self, lane: Lane) -> None:
        """Say what cancels a task: a scope, if anyio manages it, or the task itself."""
        if lane.name == MAIN:
            # Not anyio.CancelScope(), which asks what loop the task is on: there is none yet.
            lane.scope = anyio._backends._asyncio.CancelScope()
        else:
            lane.scope = self._scopes.get(lane.task.get_coro(), lane.task)

    def scopes(self, task: Any) -> Iterator[Any]:
        """Yield the cancel scopes of anyio's a task is in that can reach it, innermost first."""
        module: Any = anyio._backends._asyncio
        state = module._task_states.get(task)
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            yield scope
            scope = None if scope._shield else scope._parent_scope

    def group(self, task: Any) -> Any:
        """Return the task group a task is in; None if it is in none."""
        return task.group

    def ended_group(self, group: Any) -> Any:
        """Return the task that waited for a group, if its last task has just ended."""
        waited = group._on_completed_fut
        if group._tasks or waited is None or not waited.done():
            return None
        if isinstance(group, asyncio.TaskGroup):
            return getattr(group, "_parent_task", None)
        return group.cancel_scope._host_task


def _is_anyios(coroutine: Coroutine[Any, Any, Any]) -> bool:
    code = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_filename.startswith(anyio.__path__[0])


async def _within(scope: anyio.CancelScope, coroutine: Awaitable[Any]) -> Any:
    with scope:
        return await coroutine
