"""
What changes without our seeing it: whatever is not known to be seen, or never to change.

A list of what is dangerous would be one entry short for ever. So it is the harmless that is listed.
"""

from __future__ import annotations

import datetime
import gc
import io
import logging
import os
import random
import re
import types
from array import array
from contextvars import ContextVar, Token
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import cache, partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary, ref

from ._containers import CONTAINERS, is_container
from ._programs import is_programs

if TYPE_CHECKING:
    from collections.abc import Callable

OPAQUE: Final = (io.IOBase, array, random.Random)
"""Those whose classes below them are no better."""

_EMPTY: Final[dict[Any, Any]] = {}
_VIEWS: Final[tuple[type[Any], ...]] = (
    *(type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items())),
    types.MappingProxyType,
)
_DYING: Final = (ref, WeakValueDictionary, WeakKeyDictionary, WeakSet)
_HARMLESS: Final[tuple[type[Any], ...]] = (
    *(int, float, complex, str, bytes, tuple, frozenset, range, slice, type, property),
    *(type(None), type(...), type(NotImplemented), Decimal, Fraction, Enum, PurePath, re.Pattern),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, re.Match),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType),
    *(types.CoroutineType, types.CodeType, types.FrameType, types.TracebackType),
    *(types.GenericAlias, types.WrapperDescriptorType, types.MethodWrapperType),
    *(logging.Logger, logging.LoggerAdapter, Token, staticmethod, classmethod, *_VIEWS),
)
_SEEN: Final = frozenset(("_asyncio", "asyncio", "trio", "anyio", "uvloop", "outcome", "sniffio"))
"""Packages whose objects are hooked, or are the loop's own."""
_TOOLS: Final = frozenset(("_pytest", "dis", "pluggy", "typing", "aiopde"))
_CODE: Final = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)
_ENVIRON: Final = {id(call): os.environ for call in (os.getenv, os.putenv, os.unsetenv)}
"""Functions that are a way to what they do not name."""


def is_fixed(name: str, value: object) -> bool:
    """Whether a name was given by ``def``, ``class`` or ``import``, and stands for just that."""
    if not isinstance(value, _CODE) or id(value) in _ENVIRON:
        return False
    thing: Any = value
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(thing.__self__, (types.ModuleType, type))
    given: str = thing.__name__
    return given == name or given.endswith(f".{name}")


def held_by(value: object) -> tuple[Any, ...]:
    """Return what can be reached through something that no hook is in."""
    thing: Any = value
    environ = _ENVIRON.get(id(value))
    if environ is not None:
        return (environ,)
    look = _HOLDERS.get(type(value))
    if look is not None:
        return look(value)
    if isinstance(value, BaseException):
        return (*value.args, *value.__dict__.values())
    if isinstance(value, tuple):
        return tuple(thing)
    # What it works on, be it an iterator or a library's object, others may have at hand, too.
    return tuple(filter(is_container, gc.get_referents(value))) if is_opaque(value) else ()


_HOLDERS: Final[dict[type, Callable[[Any], tuple[Any, ...]]]] = {
    partial: lambda held: (held.func, *held.args, *held.keywords.values()),
    types.MethodType: lambda method: (method.__self__,),
    types.MethodWrapperType: lambda method: (method.__self__,),
    types.BuiltinFunctionType: lambda method: (method.__self__,),
    **dict.fromkeys(_VIEWS, lambda view: tuple(gc.get_referents(view))),
}
"""Of a function of C, that is its module, which is harmless."""


def is_dying(value: object) -> bool:
    """Whether something changes when nobody has some other object any more: nobody sees that."""
    return isinstance(value, _DYING)


def is_opaque(value: object) -> bool:
    """Whether something can change unseen: an iterator, a queue, an array, a view of memory."""
    thing: Any = value
    kind: Any = thing.__class__
    if PLAIN[kind]:
        return False
    if isinstance(value, ContextVar):
        return _holds_what_changes(thing)
    if isinstance(value, (BaseException, partial)):
        return bool(value.__dict__)
    return not _harmless(kind)


def _holds_what_changes(variable: ContextVar[Any]) -> bool:
    try:
        inside = variable.get()
    except LookupError:
        return False
    return is_container(inside) or not _harmless(inside.__class__)


@cache
def _harmless(kind: Any) -> bool:
    if issubclass(kind, OPAQUE):
        return False
    if issubclass(kind, _HARMLESS) or kind is object:
        return True
    module: str = kind.__module__
    return module.partition(".")[0] in _SEEN | _TOOLS or is_programs(module)


class _Plain(dict[Any, bool]):
    def __missing__(self, kind: Any) -> bool:
        looked_at = (tuple, ContextVar, BaseException, types.FunctionType, *_HOLDERS)
        held = issubclass(kind, (*CONTAINERS, types.SimpleNamespace, *looked_at))
        self[kind] = plain = not held and _harmless(kind)
        return plain


PLAIN: Final = _Plain()
"""Of each class, whether nothing is to be looked at in what is of it: it is so with most."""


def forget_classes() -> None:
    """Forget what classes were met: a search is over, and they may go when the program does."""
    PLAIN.clear()
    _harmless.cache_clear()
