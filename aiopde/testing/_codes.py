"""What is read out of a code object once, as it is asked for at every line that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

T = TypeVar("T")


def once(read: Callable[[CodeType], T]) -> Callable[[CodeType], T]:
    """Have a function of a code object called once for each, and its result remembered."""
    # By id: to hash a code object is to read all of it. And with the object, to keep its id.
    known: dict[int, tuple[CodeType, T]] = {}

    def remembered(code: CodeType) -> T:
        found = known.get(id(code))
        if found is None:
            found = known[id(code)] = code, read(code)
        return found[1]

    return remembered
