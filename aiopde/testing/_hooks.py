"""
Hooks that see attributes being read and written: in place while a search needs them, then gone.

Which classes: those of the program. That is, not Python's, not an installed package's, nor the
explorer's; but the parts of anyio, asyncio and trio that tasks meet at, and what the user names.
"""

from __future__ import annotations

import builtins
import gc
import sys
from contextlib import contextmanager
from enum import Enum
from functools import partial, wraps
from types import MemberDescriptorType, ModuleType, SimpleNamespace, WrapperDescriptorType
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final
from weakref import WeakKeyDictionary

from ._accesses import READ
from ._containers import Namespace, copy_of, is_container
from ._opaque import PLAIN
from ._programs import is_programs

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterable

    from ._tracker import Tracker

Undo: TypeAlias = list[tuple[Any, str, object]]
_ABSENT = object()
_JUDGED: WeakKeyDictionary[type, bool] = WeakKeyDictionary()

_MEETING_PLACES: dict[str, tuple[str, ...]] = {
    "asyncio.locks": ("Lock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"),
    "asyncio.queues": ("Queue", "PriorityQueue", "LifoQueue"),
    "trio._sync": (
        "CapacityLimiter",
        "Semaphore",
        "_LockImpl",
        "Lock",
        "StrictFIFOLock",
        "Condition",
    ),
    "trio._channel": ("MemoryChannelState", "MemorySendChannel", "MemoryReceiveChannel"),
    "trio._core._parking_lot": ("ParkingLot",),
    "anyio._backends._asyncio": ("Lock", "Semaphore", "CapacityLimiter"),
    "anyio._core._synchronization": ("Lock", "Condition", "Semaphore", "CapacityLimiter"),
    "anyio.streams.memory": (
        "_MemoryObjectStreamState",
        "MemoryObjectReceiveStream",
        "MemoryObjectSendStream",
    ),
}
"""Classes whose every attribute counts."""

_ONLY: dict[tuple[str, str], frozenset[str]] = {
    # The order in which tasks wait for an event does not matter: all of them are woken.
    ("asyncio.locks", "Event"): frozenset({"_value"}),
    ("trio._sync", "Event"): frozenset({"_flag"}),
    ("trio._core._run", "CancelScope"): frozenset({"_cancel_called", "_shield", "_deadline"}),
    ("anyio._backends._asyncio", "CancelScope"): frozenset(
        {"_cancel_called", "_shield", "_deadline"}
    ),
}
"""Classes of which only some attributes count."""

_WAITS_FOR_GROUP = (
    ("asyncio.taskgroups", "TaskGroup", "__aexit__"),
    ("anyio._backends._asyncio", "TaskGroup", "__aexit__"),
    ("trio._core._run", "Nursery", "_nested_child_finished"),
)
"""Where a task begins to wait for the tasks of a group."""


@contextmanager
def hooks(tracker: Tracker, also: Collection[type] = ()) -> Generator[None]:
    """See every access to an attribute that counts, and tell the tracker."""
    undo: Undo = []
    gc.callbacks.append(tracker.collecting)
    try:
        classes = _own_classes()
        for own in classes:
            try:
                _hook_class(own, tracker, undo, None)
            except TypeError:  # its metaclass is in the way
                tracker.notes.add(f"{own.__qualname__}, which does not let itself be hooked")
        for wanted in [*also, Namespace]:
            _hook_class(wanted, tracker, undo, None)
        for name in [name for name in sys.modules if name == "types" or is_programs(name)]:
            _replace_namespace(sys.modules[name], undo)
        for cls, only in _library_classes():
            _hook_class(cls, tracker, undo, only)
        for module, kind, method in _WAITS_FOR_GROUP:
            group: Any = getattr(sys.modules.get(module), kind, None)
            if group is not None:
                _hook_init(group, tracker, undo)
                _hook_wait(group, method, tracker, undo)
        _hook_class_statement(tracker, undo)
        tracker.look_at_classes = partial(_changes, _of_classes(classes))
        yield
    finally:
        gc.callbacks.remove(tracker.collecting)
        tracker.look_at_classes = set  # a task that was given up has the tracker for ever
        for cls, name, value in reversed(undo):
            if value is _ABSENT:
                delattr(cls, name)
            else:
                setattr(cls, name, value)


def _replace_namespace(module: ModuleType, undo: Undo) -> None:
    """Have what a module makes as a SimpleNamespace be one that can be hooked."""
    for name, value in list(vars(module).items()):
        if value is SimpleNamespace:
            _replace(module, name, Namespace, undo)


def _of_classes(classes: list[type]) -> list[tuple[type, str, object, list[Any] | None]]:
    """Return the attributes that classes have themselves, and what is in them."""
    return [
        (cls, name, value, _inside(value))
        for cls in classes
        for name, value in vars(cls).items()
        if name[:2] != "__" and not hasattr(value, "__get__")
    ]


def _inside(value: object) -> list[Any] | None:
    return copy_of(value) if is_container(value) else None


def _changes(before: list[tuple[type, str, object, list[Any] | None]]) -> set[str]:
    """Say what changed: no hook of ours sees an attribute of a class being written."""
    return {
        f"{cls.__qualname__}.{name}, which belongs to the class: give it to an object"
        for cls, name, value, inside in before
        if name in vars(cls) and (vars(cls)[name] is not value or _inside(value) != inside)
    }


def _library_classes() -> Iterable[tuple[type, frozenset[str] | None]]:
    for module, names in _MEETING_PLACES.items():
        for name in names:
            cls = getattr(sys.modules.get(module), name, None)
            if cls is not None:
                yield cls, None
    for (module, name), only in _ONLY.items():
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None:
            yield cls, only


def _own_classes() -> list[type]:
    """Every class there is whose module is the program's."""
    found: dict[type, None] = {}
    todo: list[type] = [object]
    while todo:
        cls: type
        for cls in type.__subclasses__(todo.pop()):
            if cls not in found:
                found[cls] = None
                todo.append(cls)
    return [cls for cls in found if _counts(cls)]


def _counts(cls: type) -> bool:
    known = _JUDGED.get(cls)
    if known is None:
        plain = not issubclass(cls, (type, BaseException, Enum))
        known = _JUDGED[cls] = plain and is_programs(cls.__module__)
    return known


def _hook_class(cls: Any, tracker: Tracker, undo: Undo, only: frozenset[str] | None) -> None:
    """Replace what a class does when its attributes are accessed."""
    own = cast("dict[str, Any]", dict(cls.__dict__))
    for name, member in own.items():
        if isinstance(member, MemberDescriptorType) and (only is None or name in only):
            _replace(cls, name, Slot(member, name, tracker), undo)
    if cls.__dictoffset__:
        _hook_dict(cls, tracker, undo, only)
    if "__init__" in vars(cls) or isinstance(cls.__init__, WrapperDescriptorType):
        _hook_init(cls, tracker, undo)


def _hook_class_statement(tracker: Tracker, undo: Undo) -> None:
    """
    See that a class is made when it is too late to hook it.

    Not hooked then and there: its decorators come after that, and copy what they find.
    """
    build: Any = builtins.__build_class__

    def build_class(*args: Any, **kwargs: Any) -> Any:
        cls = build(*args, **kwargs)
        if tracker.accesses is not None and _counts(cls):
            what = f"the class {cls.__qualname__}, made (or imported) by the scenario itself"
            tracker.notes.add(f"{what}: make it before")
        return cls

    _replace(builtins, "__build_class__", build_class, undo)


def _replace(cls: type | ModuleType, name: str, value: object, undo: Undo) -> None:
    before = vars(cls).get(name, _ABSENT)
    setattr(cls, name, value)
    undo.append((cls, name, before))  # not if it failed: to undo that would fail, too


@final
class Slot:
    """A descriptor before that of a slot."""

    __slots__ = ("_get", "_member", "_name", "_tracker")

    def __init__(self, member: Any, name: str, tracker: Tracker) -> None:
        self._member = member
        self._get = member.__get__
        self._name = name
        self._tracker = tracker

    def __get__(self, thing: Any, owner: type | None = None) -> Any:
        """Read."""
        if thing is None:
            return self
        tracker = self._tracker
        accesses = tracker.accesses
        if accesses is None:
            return self._get(thing, owner)
        # As touch() does, without a call of it: this is most of what a step costs.
        try:
            key = tracker.names.fields[id(thing)][self._name]
        except KeyError:
            key = tracker.names.key(thing, self._name)
        accesses[key] = accesses.get(key, 0) | READ
        value = self._get(thing, owner)
        if not PLAIN[type(value)]:
            tracker.see_value(thing, self._name, value, sys._getframe(1))
        return value

    def __set__(self, thing: Any, value: object) -> None:
        """Write."""
        tracker = self._tracker
        if tracker.accesses is not None:
            tracker.touch(thing, self._name, True)
            if not PLAIN[type(value)]:
                tracker.see_value(thing, self._name, value, sys._getframe(1))
        elif tracker.collects:
            tracker.finalizer_writes(thing, self._name)
        self._member.__set__(thing, value)

    def __delete__(self, thing: Any) -> None:
        """Delete: a write, too."""
        self._tracker.touch(thing, self._name, True)
        self._member.__delete__(thing)


def _hook_dict(cls: Any, tracker: Tracker, undo: Undo, only: frozenset[str] | None) -> None:
    """See the attributes an object has in its dictionary; once for a class and all below it."""
    if getattr(cls.__getattribute__, "_sees_attributes", False):
        return
    for hook in (
        _reading(cls.__getattribute__, tracker, only),
        _writing(cls.__setattr__, tracker, only),
        _deleting(cls.__delattr__, tracker, only),
    ):
        _replace(cls, hook.__name__, hook, undo)


def _reading(get: Any, tracker: Tracker, only: frozenset[str] | None) -> Any:
    def __getattribute__(self: Any, name: str) -> Any:
        if tracker.accesses is None or not _is_state(self, name, only):
            return get(self, name)
        tracker.touch(self, name, False)
        value = get(self, name)
        if not PLAIN[type(value)]:
            tracker.see_value(self, name, value, sys._getframe(1))
        return value

    __getattribute__._sees_attributes = True  # type: ignore[attr-defined]
    return __getattribute__


def _is_state(thing: Any, name: str, only: frozenset[str] | None) -> bool:
    """Whether an attribute that is read is no method, property or the like."""
    if only is not None:
        return name in only
    if name[:2] == "__":
        return False
    if name in object.__getattribute__(thing, "__dict__"):
        return True
    # Not there: what a class offers instead may be hidden by a write.
    for base in type(thing).__mro__:
        if name in vars(base):
            return not hasattr(vars(base)[name], "__get__")
    return True


def _writing(put: Any, tracker: Tracker, only: frozenset[str] | None) -> Any:
    def __setattr__(self: Any, name: str, value: object) -> None:
        counted = tracker.accesses is not None and (only is None or name in only)
        if counted and not hasattr(getattr(self.__class__, name, None), "__set__"):
            tracker.touch(self, name, True)
            if not PLAIN[type(value)]:
                tracker.see_value(self, name, value, sys._getframe(1))
        elif tracker.collects:
            tracker.finalizer_writes(self, name)
        put(self, name, value)

    return __setattr__


def _deleting(delete: Any, tracker: Tracker, only: frozenset[str] | None) -> Any:
    def __delattr__(self: Any, name: str) -> None:
        if only is None or name in only:
            tracker.touch(self, name, True)
        delete(self, name)

    return __delattr__


def _hook_init(cls: Any, tracker: Tracker, undo: Undo) -> None:
    init = cls.__init__
    # A class with only a __new__ of its own is called with arguments that object's takes not.
    bare = init is object.__init__ and cls.__new__ is not object.__new__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        tracker.created(self)
        if not bare:
            init(self, *args, **kwargs)

    _replace(cls, "__init__", __init__, undo)


def _hook_wait(cls: Any, method: str, tracker: Tracker, undo: Undo) -> None:
    own = cast("dict[str, Any]", dict(cls.__dict__))
    wait = own[method]

    @wraps(wait)
    async def hooked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with tracker.waiting_for(self):
            return await wait(self, *args, **kwargs)

    _replace(cls, method, hooked, undo)
