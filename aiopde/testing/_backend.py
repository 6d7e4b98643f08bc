"""What a run needs of the loop it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._lane import Lane


class Abandoned(BaseException):
    """Thrown into what is left of an execution that is over; not to be caught."""


class Backend(Protocol):
    """What a run needs of the loop it is on."""

    def is_over(self, task: Any) -> bool:
        """Whether a task has ended; a canceller has none, and is over."""
        ...

    def coroutine(self, task: Any) -> Any:
        """The outermost coroutine of a task."""

    def task_name(self, task: Any) -> str:
        """The name the task was given, or its function's."""
        ...

    def can_cancel(self, lane: Lane) -> None:
        """Prepare a new task, so that it can be cancelled."""

    def scopes(self, task: Any) -> Iterator[Any]:
        """Yield the cancel scopes a task is in that can reach it, innermost first."""
        ...

    def group(self, task: Any) -> Any:
        """Return the task group a task is in; None if it is in none."""

    def ended_group(self, group: Any) -> Any:
        """Return the task that waited for a group, if its last task has just ended."""
