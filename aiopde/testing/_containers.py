"""
Containers: a list, a set, a dictionary or the like can be changed by anybody who has it at hand.

No hook sees that. So each is compared, after every step, with a copy from before.
"""

from __future__ import annotations

import io
import random
from array import array
from collections import Counter, deque
from collections.abc import MutableMapping
from types import CoroutineType, GeneratorType, SimpleNamespace
from typing import Any

CONTAINERS = (list, dict, set, deque, bytearray, SimpleNamespace)
PARTED = (list, set, dict)
"""Those of which one element or key may be asked for."""
UNNAMED = ("unnamed",)
"""Stands for elements and keys that have no name of their own."""
OPAQUE = (io.IOBase, array, random.Random)


def is_container(value: object) -> bool:
    """Whether something is compared after each step with what it was before."""
    return isinstance(value, CONTAINERS)


def is_opaque(value: object) -> bool:
    """Whether something can change unseen: an iterator, a stream, an array, a random generator."""
    if isinstance(value, OPAQUE):
        return True
    kind = type(value)
    return hasattr(kind, "__next__") and not isinstance(value, (GeneratorType, CoroutineType))


def copy_of(value: Any) -> list[Any]:
    """Return what is in a container: the elements, or the keys and then the values."""
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


def same_keys(before: list[Any], now: list[Any]) -> bool:
    """Whether a dictionary has the keys it had, in the order it had."""
    half = len(before) // 2
    return len(before) == len(now) and all(map(_is, before[:half], now[:half]))


def _by_key(copy: list[Any]) -> dict[int, Any]:
    half = len(copy) // 2
    return {id(key): id(value) for key, value in zip(copy[:half], copy[half:], strict=True)}


def same(before: list[Any], now: list[Any]) -> bool:
    """Whether a container is as it was."""
    return len(before) == len(now) and all(map(_is, before, now))


def _is(a: object, b: object) -> bool:
    return a is b or (type(a) is int and a == b)
