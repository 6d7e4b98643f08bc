"""What happened in a race, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """The numbers so far; everybody in the race counts here, and the report reads them."""

    rounds: int = 0
    opened: int = 0
    """Opens that succeeded."""
    succeeded: int = 0
    """Reads that returned what the file contains."""
    refused_eio: int = 0
    """Reads that were refused, since removal had begun."""
    refused_enoent: int = 0
    """Opens that were refused: the name was gone, or going."""
    removals_refused: int = 0
    """Attempts to remove that were refused; each was made again."""
    in_flight: int = 0
    """Calls that were inside a handler when the removal of its entry began; all removals."""
    force_released: int = 0
    """Files the removal released, since their readers had not closed them."""
    handlers_after_removal: int = 0
    """Handlers that ran, or still ran, after the removal had returned."""
    removal_seconds: list[float] = field(default_factory=list[float])
    """How long each removal took, from its first attempt to its return."""

    @property
    def removals(self) -> int:
        """How many entries were removed."""
        return len(self.removal_seconds)

    @property
    def longest_removal(self) -> float:
        """In seconds."""
        return max(self.removal_seconds, default=0.0)

    @property
    def mean_removal(self) -> float:
        """In seconds."""
        return sum(self.removal_seconds) / max(1, self.removals)
