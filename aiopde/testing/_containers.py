"""
Containers: a list, a set, a dictionary or the like can be changed by anybody who has it at hand.

No hook sees that. So each is compared, after every step, with a copy from before.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import MutableMapping
from operator import is_
from types import SimpleNamespace
from typing import Any, NamedTuple

CONTAINERS = (list, dict, set, deque, bytearray)
BUILT_IN = frozenset(CONTAINERS)
"""Those that are false if and only if they are empty: of classes below them that is not sure."""
PARTED = (list, set, dict)
"""Those of which one element or key may be asked for."""
UNNAMED = ("unnamed",)
"""Stands for elements and keys that have no name of their own."""
LENGTH = ("length",)
"""Stands for how many elements a list has: whoever asks for a place in it depends on that."""


class Namespace(SimpleNamespace):
    """Stands in for SimpleNamespace during a search, as that cannot be hooked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


Namespace.__name__ = Namespace.__qualname__ = "namespace"  # what its repr() shows


class At(NamedTuple):
    """A place in a list."""

    place: int
    """Counted from the beginning."""


def is_container(value: object) -> bool:
    """Whether something is compared after each step with what it was before."""
    return isinstance(value, CONTAINERS) or type(value) is SimpleNamespace


def copy_of(value: Any) -> list[Any]:
    """Return what is in a container: the elements, or the keys and then the values."""
    kind: Any = value.__class__
    # These two first: to ask whether something is a mapping takes longer than the copy.
    if kind is dict:
        return [*value, *value.values()]
    if kind is list:
        return value.copy()  # type: ignore[no-any-return]
    if isinstance(value, SimpleNamespace):
        return copy_of(vars(value))
    if isinstance(value, MutableMapping):
        return [*value.keys(), *value.values()]
    return list(value)


def changed(before: list[Any], now: list[Any], *, pairs: bool) -> list[Any]:
    """Return the elements or keys that came, went, or stand for something else now."""
    if pairs:
        was, new = _by_key(before), _by_key(now)
    else:
        was, new = Counter(map(id, before)), Counter(map(id, now))
    things = {id(thing): thing for thing in (*before, *now)}
    return [things[part] for part in was.keys() | new.keys() if was.get(part) != new.get(part)]


def place_in(value: Any, index: object) -> At | None:
    """Return the place in a list that an index stands for; None if it is none."""
    if type(index) is not int or not -len(value) <= index < len(value):
        return None
    return At(index % len(value))


def places(before: list[Any], now: list[Any]) -> list[At]:
    """Return the places of a list, as long as it was, that hold something else now."""
    return [At(i) for i, pair in enumerate(zip(before, now, strict=True)) if not _is(*pair)]


def stays(sort: type, before: list[Any], now: list[Any]) -> bool:
    """Whether a dictionary has the keys it had, in their order, or a list as many elements."""
    if sort is list:
        return len(before) == len(now)
    half = len(before) // 2
    return sort is dict and len(before) == len(now) and all(map(_is, before[:half], now[:half]))


def _by_key(copy: list[Any]) -> dict[int, Any]:
    half = len(copy) // 2
    return {id(key): id(value) for key, value in zip(copy[:half], copy[half:], strict=True)}


def same(before: list[Any], now: list[Any]) -> bool:
    """Whether a container is as it was."""
    if len(before) != len(now):
        return False
    return all(map(is_, before, now)) or all(map(_is, before, now))


def _is(a: object, b: object) -> bool:
    return a is b or (type(a) is int and a == b)
