"""
What changes without our seeing it: whatever is not known to be seen, or never to change.

A list of what is dangerous would be one entry short for ever. So it is the harmless that is listed.
"""

from __future__ import annotations

import datetime
import io
import logging
import random
import re
import types
import weakref
from array import array
from contextvars import ContextVar, Token
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from ._containers import CONTAINERS, is_container
from ._hooks import PACKAGE, is_programs

if TYPE_CHECKING:
    from types import FrameType

OPAQUE: Final = (io.IOBase, array, random.Random)
"""Those whose classes below them are no better."""

_HARMLESS: Final = (
    *(int, float, complex, str, bytes, tuple, frozenset, range, slice, type, property),
    *(type(None), type(...), type(NotImplemented), Decimal, Fraction, Enum, PurePath, re.Pattern),
    *(datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, re.Match),
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType),
    *(types.CoroutineType, types.CodeType, types.FrameType, types.TracebackType),
    *(types.GenericAlias, types.MappingProxyType, types.WrapperDescriptorType),
    *(
        weakref.ref,
        logging.Logger,
        logging.LoggerAdapter,
        Token,
        staticmethod,
        classmethod,
    ),
)
_SEEN: Final = frozenset(("_asyncio", "asyncio", "trio", "anyio", "uvloop", "outcome", "sniffio"))
"""Packages whose objects are hooked, or are the loop's own."""
_TOOLS: Final = frozenset(("_pytest", "dis", "pluggy", "typing", "aiopde"))
_KINDS: dict[type, bool] = {}


def in_own_code(frame: FrameType) -> bool:
    """Whether this is aiopde's code, in which we have looked by hand at what is shared."""
    return frame.f_code.co_filename.startswith(PACKAGE)


def is_opaque(value: object) -> bool:
    """Whether something can change unseen: an iterator, a queue, an array, a view of memory."""
    thing: Any = value
    kind: type[Any] = thing.__class__
    if DULL[kind]:
        return False
    if isinstance(value, ContextVar):
        return _holds_what_changes(thing)
    if isinstance(value, (BaseException, partial)):
        return any(name[:2] != "__" for name in value.__dict__)
    return not _harmless(kind)


def _holds_what_changes(variable: ContextVar[Any]) -> bool:
    try:
        inside = variable.get()
    except LookupError:
        return False
    return is_container(inside) or not _harmless(inside.__class__)


def _harmless(kind: type) -> bool:
    known = _KINDS.get(kind)
    if known is None:
        known = _KINDS[kind] = _judge(kind)
    return known


def _judge(kind: Any) -> bool:
    if issubclass(kind, OPAQUE):
        return False
    if issubclass(kind, _HARMLESS) or kind is object:
        return True
    module: str = kind.__module__
    return module.partition(".")[0] in _SEEN | _TOOLS or is_programs(module)


class _Dull(dict[Any, bool]):
    def __missing__(self, kind: Any) -> bool:
        odd = issubclass(
            kind, (*CONTAINERS, types.SimpleNamespace, tuple, ContextVar, BaseException, partial)
        )
        self[kind] = dull = not odd and _harmless(kind)
        return dull


DULL: Final = _Dull()
"""Whether whatever is of a class can be passed by: it does not change unseen, and holds nothing."""
