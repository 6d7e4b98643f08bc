"""A task under control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from ._cancel import Canceller

MAIN = "main"
"""The lane of the scenario itself."""


@final
class Lane:
    """A task under our control, from its birth to its end; or the canceller of one."""

    # Of the class until they change: one is made for every task of every schedule.
    cancels: Canceller | None = None
    children: dict[str, int] | None = None
    """How many of each name it has started."""
    scope: Any = None
    """What cancels it, where a cancellation is a choice."""
    canceller: Lane | None = None
    """The lane that cancels this one, where that is a choice."""

    def __init__(self, name: str, index: int, parent: Lane | None, task: Any = None) -> None:
        self.name: str = name
        self.index: int = index
        self.parent: Lane | None = parent
        self.task: Any = task
        """The loop's task; None for a canceller."""
        self.step: Any = None
        """What the loop calls for its next step, where that is kept here."""
