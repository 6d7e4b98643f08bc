"""
Names of what steps touch, and numbers for them: the same in every execution.

Where an object was made (by which task, in which of its steps, as which in that step) does not
depend on how the tasks are interleaved. An object that was there before is known by itself: it has
to be the same one in each execution.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, final

from ._accesses import READ
from ._result import Touch

if TYPE_CHECKING:
    from collections.abc import Hashable

    from ._accesses import Accesses

_MACHINERY: Final = (
    *("CancelScope", "TaskGroup", "Nursery", "WatchedFuture"),
    *("scope", "invariant"),
)
"""What is left out where people read."""


@final
class Names:
    """The names of objects, and the number of each key: of a pair of a name and a field."""

    def __init__(self) -> None:
        self.labels: list[Any] = []
        """The keys by their numbers."""
        self.scopes: set[int] = set()
        """The keys that stand for a cancel scope being cancelled."""
        self._numbers: dict[Hashable, int] = {}
        self.fields: dict[int, dict[str, int]] = {}
        """Of each object that has a name, by id: the numbers of its attributes met so far."""
        self._fields: defaultdict[Any, dict[str, int]] = defaultdict(dict)
        """The same by name, in whichever execution."""
        self._old: dict[int, tuple[object, Hashable]] = {}
        """Objects that were there before the search, and their names."""
        self._new: dict[int, tuple[object, Hashable]] = {}
        self._peers: dict[str, dict[Hashable, int]] = {}
        """The objects of each class that were named to people."""
        self.step: tuple[str, int] = ("", 0)
        """Whose step it is, and as which of his."""
        self._born = 0
        self._met: dict[int, int] = {}
        self._unborn: list[Any] = []
        """What was taken for old in this execution, as nobody saw it being made."""
        self._executions = 0
        self._latecomers: set[str] = set()
        """The classes of what was taken for old, and was not met in the first execution."""

    def forget(self) -> set[str]:
        """Forget what the execution before made; return the classes of what it made unseen."""
        self._new = {}
        self.fields = {number: self._fields[name] for number, (_, name) in self._old.items()}
        unborn, self._unborn = self._unborn, []
        if self._executions > 1:
            self._latecomers |= {type(thing).__qualname__ for thing in unborn}
        self._executions += 1
        # Who holds it: our list, our table, the loop's variable, and the call's argument.
        return {type(thing).__qualname__ for thing in unborn if sys.getrefcount(thing) <= 4}

    def unborn(self) -> list[str]:
        """Return the classes of which something new turned up again and again, and no birth."""
        return sorted(self._latecomers.difference(name[0] for name in self._fields))

    def begin_step(self, lane: str, step: int) -> None:
        """Note who makes what comes now."""
        self.step = lane, step
        self._born = 0
        self._met = {}

    def give(self, thing: object, name: Hashable) -> None:
        """Give an object a name, or another one."""
        self._new[id(thing)] = thing, name
        self.fields[id(thing)] = self._fields[name]

    def created(self, thing: object) -> None:
        """Note that an object is new, and name it after the step that made it."""
        if id(thing) not in self._new:
            self._born += 1
            self.give(thing, (type(thing).__qualname__, *self.step, self._born))

    def of_new(self, thing: object) -> Hashable:
        """Return the name of an object this execution made; None if it did not."""
        found = self._new.get(id(thing))
        return None if found is None else found[1]

    def of(self, thing: object) -> Hashable:
        """Return the name of an object."""
        found = self._new.get(id(thing)) or self._old.get(id(thing))
        if found is not None:
            return found[1]
        name = ("old", type(thing).__qualname__, len(self._old))
        self._old[id(thing)] = thing, name
        self.fields[id(thing)] = self._fields[name]
        self._unborn.append(thing)
        return name

    def of_any(self, thing: object) -> Hashable:
        """Return a name for anything: those of a class whose birth nobody saw have only one."""
        if isinstance(thing, (str, int)):
            return (repr(thing),)
        found = self._new.get(id(thing))
        return (type(thing).__qualname__,) if found is None else found[1]

    def met(self, thing: object) -> Hashable:
        """Return the name of something that has none yet but where it is met, in any order."""
        number = self._met.setdefault(id(thing), len(self._met))
        return (type(thing).__qualname__, *self.step, "met", number)

    # -- keys -------------------------------------------------------------------------------------

    def key(self, thing: object, field: str) -> int:
        """Return the number of an attribute of an object, where :attr:`fields` has none yet."""
        name = self.of(thing)
        number = self._fields[name][field] = self.number((name, field))
        return number

    def number(self, key: Hashable) -> int:
        """Return the number of a key."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            self.labels.append(key)
            if isinstance(key, tuple) and key[1] == "_cancel_called":
                self.scopes.add(number)
        return number

    def note(self, accesses: Accesses, key: Hashable, kind: int) -> None:
        """Note an access under a key."""
        number = self.number(key)
        accesses[number] = accesses.get(number, 0) | kind

    def portable(
        self, sleep: dict[str, Accesses]
    ) -> tuple[tuple[str, tuple[tuple[Hashable, int], ...]], ...]:
        """Return a sleep set in terms that hold in any process; what has none is left out."""
        return tuple(
            (lane, tuple((self.labels[key], kinds) for key, kinds in accesses.items()))
            for lane, accesses in sleep.items()
            if not any(_is_old(self.labels[key]) for key in accesses)
        )

    # -- for people -------------------------------------------------------------------------------

    def touches(self, accesses: Accesses) -> tuple[Touch, ...]:
        """Say what was touched of the program's own."""
        found: dict[str, bool] = {}
        for number, kinds in accesses.items():
            label = self._say(self.labels[number]).removesuffix("[]").removesuffix(".")
            if label:
                found[label] = found.get(label, False) or bool(kinds & ~READ)
        return tuple(Touch(label, write) for label, write in found.items())

    def _say(self, key: Any) -> str:
        name, field = key
        if isinstance(field, tuple):  # a part of something, which has another key for the whole
            return self._say((name, field[0]))
        if isinstance(name, str):  # a task, or a file with a variable
            return "" if field in ("cancel()", "end", "wake") else str(field)
        kind = str(name[1] if name[0] == "old" else name[0]).rpartition(".")[2]
        if kind in _MACHINERY:
            return ""
        peers = self._peers.setdefault(kind, {})
        return f"{kind}#{peers.setdefault(name, len(peers) + 1)}.{field}"


def owner_of(thing: Any) -> Hashable:
    """
    Return the name of a module or function, as the owner of its attributes.

    A module is its file, as its functions know it: its attributes are their variables. A function
    is the place of its source: each execution makes those anew that tasks define.
    """
    if isinstance(thing, ModuleType):
        return getattr(thing, "__file__", None) or thing.__name__
    return thing.__qualname__, thing.__code__.co_filename, thing.__code__.co_firstlineno


def _is_old(key: Any) -> bool:
    return isinstance(key[0], tuple) and key[0][0] == "old"
