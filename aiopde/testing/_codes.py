"""What is read out of a code object once, as it is asked for at every line that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

T = TypeVar("T")


def once(read: Callable[[CodeType], T]) -> Callable[[CodeType], T]:
    """Have a function of a code object called once for each, and its result remembered."""
    # By id: to hash a code object is to read all of it. The reference takes the entry away before
    # another can have that id.
    known: dict[int, tuple[ref[CodeType], T]] = {}

    def remembered(code: CodeType) -> T:
        number = id(code)
        found = known.get(number)
        if found is None:
            gone = ref(code, lambda _: known.pop(number))
            found = known[number] = gone, read(code)
        return found[1]

    return remembered
