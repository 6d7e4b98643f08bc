"""What the one who looks has chosen to see."""

from __future__ import annotations


class View:
    """Where the tree is scrolled to, and whether time stands still."""

    def __init__(self) -> None:
        self.first = 0
        """The first line of the tree that is shown."""
        self.paused = False
        self.ended = False

    def press(self, key: str) -> None:
        """Obey a key; others do nothing."""
        if key == "q":
            self.ended = True
        elif key in {" ", "p"}:
            self.paused = not self.paused
        elif key in {"j", "down"}:
            self.first += 1
        elif key in {"k", "up"}:
            self.first -= 1
        elif key in {"g", "home"}:
            self.first = 0

    def scroll(self, lines: int, room: int) -> int:
        """Return the first of so many lines that is to be seen where there is room for so many."""
        self.first = max(0, min(self.first, lines - room))
        return self.first
