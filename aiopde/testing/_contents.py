"""
What is in the lists, sets and dictionaries that steps have at hand.

Each is compared after every step with what it was before, so it does not matter who changed it,
and by which name. It is known by the place where it was met first. Where tasks meet it at places
that nothing puts in an order, another execution may begin with another of them: so it is then known
by all of these, and what is touched is touched at each, in every execution from there on.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, final

from ._accesses import ADD, READ, WRITE
from ._containers import (
    BUILT_IN,
    LENGTH,
    PARTED,
    UNNAMED,
    At,
    changed,
    copy_of,
    is_container,
    place_in,
    places,
    same,
    stays,
)
from ._opaque import held_by, is_opaque
from ._uses import TRUTH

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import FrameType

    from ._accesses import Accesses
    from ._names import Names
    from ._uses import Use

UNHOOKED: Final = "a SimpleNamespace made before the search; one made in it can be hooked"
"""A note."""

IDS: Final = 1 << 32
"""From here on a number may be an id(), which is another in each execution."""


@final
class Contents:
    """The containers that were met in an execution, and what was in them."""

    def __init__(self, names: Names, notes: set[str], tell: Callable[[object], None]) -> None:
        self._names = names
        self._notes = notes
        self._tell = tell
        self._met: dict[int, tuple[Any, int, tuple[str, int], Any]] = {}
        """Each container, its key, in whose step it was met first, and what was in it."""
        self._births: dict[str, tuple[str, int]] = {}
        """In whose step each task was started."""
        self._inner: dict[int, set[int]] = {}
        """Of the key of a container, those of the containers in it."""
        self._others: dict[int, list[object]] = {}
        """Of the key of a container, what is in it that may change unseen."""
        self._aliases: dict[int, list[int]] = {}
        """Of the key of a container, the others that it has in some execution."""

    def forget(self) -> None:
        """Forget the execution before."""
        self._met = {}
        self._births = {}
        self._inner = {}
        self._others = {}

    def born(self, lane: str) -> None:
        """Note that this step has started a task."""
        self._births.setdefault(lane, self._names.step)

    # -- reading ----------------------------------------------------------------------------------

    def see(self, value: Any, place: Hashable, accesses: Accesses, part: Hashable = None) -> None:
        """
        Note that a step has a container at hand.

        Args:
            value: The container.
            place: What holds it; None if that is a local variable.
            accesses: Where to note it.
            part: The only part that is asked for; None if it may be any.
        """
        if type(value) is SimpleNamespace:
            self._notes.add(UNHOOKED)
        key = self._key(value, place)
        if key in self._inner:
            self._read_inner(key, accesses, {key})
        for other in self._others.get(key, ()):
            self._tell(other)
        for each in self._keys(key):
            if part is None:
                accesses[each] = accesses.get(each, 0) | READ
            else:
                self._names.note(accesses, self._part_of(each, part), READ)
                rest = LENGTH if isinstance(part, At) else UNNAMED
                self._names.note(accesses, self._part_of(each, rest), READ)

    def _key(self, value: Any, place: Hashable) -> int:
        """Return the key of a container; that of the place, if it has none yet."""
        found = self._met.get(id(value))
        if found is not None and found[2][0] == self._names.step[0]:
            return found[1]  # as always: no time to be lost
        here = self._names.number((self._names.met(value), "[]") if place is None else place)
        if found is None:
            self._met[id(value)] = value, here, self._names.step, copy_of(value)
            self._see_inner(value, here)
            return here
        if found[1] != here and not self._comes_after(found[2]):
            self._alias(found[1], here)
        return found[1]

    def _comes_after(self, earlier: tuple[str, int]) -> bool:
        """Whether this step comes after another in any order: of its task, or before its birth."""
        now: tuple[str, int] | None = self._names.step
        while now is not None:
            if now[0] == earlier[0]:
                return earlier[1] <= now[1]
            now = self._births.get(now[0])
        return False

    def _alias(self, key: int, place: int) -> None:
        for one, other in ((key, place), (place, key)):
            known = self._aliases.setdefault(one, [])
            if other not in known:
                known.append(other)

    def _keys(self, key: int) -> tuple[int, ...]:
        aliases = self._aliases.get(key)
        return (key,) if aliases is None else (key, *aliases)

    def part(self, value: object, use: Use | None, frame: FrameType) -> Hashable:
        """Return the name of the only part that is asked for; None if it may be any."""
        sort = type(value)
        if use is None or sort not in PARTED:
            return None
        if use.of == "truth":
            return TRUTH
        asked = frame.f_locals.get(use.local) if use.local else use.constant
        if use.of == "[]" and sort is list:
            return place_in(value, asked)
        return self._part_name(asked)

    def _part_name(self, part: object) -> Hashable:
        """Return the name of an element or key; None if it may be equal to something else."""
        if type(part) is str or (type(part) is int and abs(part) < IDS):
            return part
        return self._names.of_new(part) if type(part).__eq__ is object.__eq__ else None

    def _part_of(self, key: int, part: Hashable) -> Hashable:
        name, field = self._names.labels[key]
        return name, (field, part)

    def is_alias(self, key: int) -> bool:
        """Whether a key is that of a container, or of a part of one, that is known by others."""
        name, field = self._names.labels[key]
        whole: Any = field if isinstance(field, str) else field[0]
        return self._names.number((name, whole)) in self._aliases

    # -- what is inside ---------------------------------------------------------------------------

    def _see_inner(self, value: Any, key: int) -> None:
        """Compare what a container or tuple has in it, too; all of one have one name."""
        name, field = self._names.labels[key]
        held: object = value
        insides: Any = value if isinstance(held, tuple) else self._met[id(value)][3]
        for inner in insides:
            if is_container(inner):
                inner_key = self._key(inner, (name, f"{field}[]"))
                self._inner.setdefault(key, set()).add(inner_key)
                continue
            if is_opaque(inner):
                self._others.setdefault(key, []).append(inner)
            if held := held_by(inner):
                self._see_inner(held, key)

    def _read_inner(self, key: int, accesses: Accesses, done: set[int]) -> None:
        for inner in self._inner.get(key, ()):
            for each in self._keys(inner):
                accesses[each] = accesses.get(each, 0) | READ
            if inner not in done:
                done.add(inner)
                self._read_inner(inner, accesses, done)

    # -- writing ----------------------------------------------------------------------------------

    def compare(self, accesses: Accesses) -> None:
        """Note what a step has changed."""
        for value, key, step, before in list(self._met.values()):
            held: object = value
            # Most are empty, and stay so.
            now = copy_of(value) if before or type(held) not in BUILT_IN or value else before
            if now is not before and not same(before, now):
                self._met[id(value)] = value, key, step, now
                self._see_inner(value, key)
                # Values of different keys, or in different places, can change in any order; new
                # ones come in an order.
                sort = type(held)
                kind = ADD if stays(sort, before, now) else WRITE
                for each in self._keys(key):
                    accesses[each] = accesses.get(each, 0) | kind
                    if sort in PARTED:
                        self._note_parts(sort, each, before, now, accesses)

    def _note_parts(
        self, sort: type, key: int, before: list[Any], now: list[Any], accesses: Accesses
    ) -> None:
        # What leaves one place of a list and what comes to another does not depend on each other.
        note = self._names.note
        in_place = sort is list and len(before) == len(now)
        for part in changed(before, now, pairs=sort is dict):
            name = self._part_name(part)
            part_key = self._part_of(key, UNNAMED if name is None else name)
            note(accesses, part_key, ADD if in_place else WRITE)
        for place in places(before, now) if in_place else ():
            note(accesses, self._part_of(key, place), WRITE)
        if sort is list and not in_place:
            note(accesses, self._part_of(key, LENGTH), WRITE)
        if bool(before) != bool(now):
            note(accesses, self._part_of(key, TRUTH), WRITE)
