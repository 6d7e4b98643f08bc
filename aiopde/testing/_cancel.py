"""Cancellation as a choice: a lane of one step, which cancels another task."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from ._lane import Lane


@final
class Canceller:
    """Cancels its victim once; whether and when is for the search to choose."""

    __slots__ = ("delivered", "victim")

    def __init__(self, victim: Lane) -> None:
        self.victim: Lane = victim
        self.delivered: bool = False

    def deliver(self) -> None:
        """Cancel the victim: it wakes at once if it waits, else at its next checkpoint."""
        self.delivered = True
        self.victim.scope.cancel()
