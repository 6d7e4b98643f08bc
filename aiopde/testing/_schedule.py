"""A schedule: which task moved, wherever more than one could; as data and as a short string."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Self, cast, final

from ._causes import refused

CANCEL = "!"
"""Before a task's name: not its next step, but the arrival of a cancellation."""
_UNSAFE = re.compile(r"[^\w/<>-]+")
_PIECE = re.compile(r"(!?[\w/<>-]+)(?:\*([1-9]\d*))?")
_EMPTY = "-"


def safe_name(name: str) -> str:
    """Make a task's name fit for a schedule's string."""
    return _UNSAFE.sub("_", name).strip("_") or "task"


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """
    Which task moved, at each step where more than one could.

    Steps where only one task could move are left out, so that a string is short, and fits both
    backends, which differ in how many such steps there are. ``str()`` gives the string::

        reader*2.remover.!reader

    says: twice the reader, then the remover, then a cancellation arrives at the reader.
    """

    choices: tuple[str, ...] = ()
    """The names of the tasks, in order; ``"!name"`` is a cancellation of that task."""

    def __post_init__(self) -> None:
        if isinstance(cast("object", self.choices), str):
            msg = (
                f"Schedule() wants the names of tasks: Schedule.parse({self.choices!r}) reads text"
            )
            raise refused(TypeError(msg))

    def __str__(self) -> str:
        runs = ((name, sum(1 for _ in same)) for name, same in groupby(self.choices))
        text = ".".join(name if n == 1 else f"{name}*{n}" for name, n in runs)
        if text == _EMPTY:  # a task of that name
            return f"{text}*1"
        return text or _EMPTY

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a schedule from its string.

        Raises:
            TypeError: It is no string.
            ValueError: It is none of a schedule.
        """
        if not isinstance(cast("object", text), str):
            msg = f"Schedule.parse() wants a string, as 'reader*2.remover', not {text!r:.60}"
            raise refused(TypeError(msg))
        if text.strip() in ("", _EMPTY):
            return cls()
        choices: list[str] = []
        for piece in text.strip().split("."):
            found = _PIECE.fullmatch(piece)
            if found is None:
                msg = f"not a schedule: {text!r}, at {piece!r}; one looks like reader*2.remover"
                raise refused(ValueError(msg))
            choices += [found[1]] * int(found[2] or 1)
        return cls(tuple(choices))

    @property
    def switches(self) -> int:
        """How often another task moves than the one before."""
        return sum(a != b for a, b in zip(self.choices, self.choices[1:], strict=False))
