"""
What is in the lists, sets and dictionaries that steps have at hand.

Each is compared after every step with what it was before, so it does not matter who changed it,
and by which name.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, final

from ._accesses import ADD, READ, WRITE
from ._containers import (
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
from ._uses import TRUTH

if TYPE_CHECKING:
    from collections.abc import Hashable
    from types import FrameType

    from ._accesses import Accesses
    from ._names import Names
    from ._uses import Use

UNHOOKED: Final = "a SimpleNamespace made before the search; one made in it can be hooked"
"""A note."""


@final
class Contents:
    """The containers that were met in an execution, and what was in them."""

    def __init__(self, names: Names, notes: set[str]) -> None:
        self._names = names
        self._notes = notes
        self._met: dict[int, tuple[Any, int, Any]] = {}
        self._inner: dict[int, set[int]] = {}
        """Of the key of a container, those of the containers in it."""

    def forget(self) -> None:
        """Forget the execution before."""
        self._met = {}
        self._inner = {}

    # -- reading ----------------------------------------------------------------------------------

    def see(
        self, value: Any, key: int, accesses: Accesses, use: Use | None, frame: FrameType
    ) -> None:
        """
        Note that a step has a container at hand.

        Args:
            value: The container.
            key: The one under which it is known, unless it has another already.
            accesses: Where to note it.
            use: What it is at hand for; None for anything.
            frame: Who has it.
        """
        if type(value) is SimpleNamespace:
            self._notes.add(UNHOOKED)
        found = self._met.get(id(value))
        if found is None:
            self._met[id(value)] = value, key, copy_of(value)
            self._see_inner(value, key)
        else:
            key = found[1]
        if key in self._inner:
            self._read_inner(key, accesses, {key})
        part = self._part(value, use, frame)
        if part is None:
            accesses[key] = accesses.get(key, 0) | READ
        else:
            self._names.note(accesses, self._part_of(key, part), READ)
            rest = LENGTH if isinstance(part, At) else UNNAMED
            self._names.note(accesses, self._part_of(key, rest), READ)

    def _part(self, value: object, use: Use | None, frame: FrameType) -> Hashable:
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
        if type(part) is str or type(part) is int:
            return part
        return self._names.of_new(part) if type(part).__eq__ is object.__eq__ else None

    def _part_of(self, key: int, part: Hashable) -> Hashable:
        name, field = self._names.labels[key]
        return name, (field, part)

    # -- what is inside ---------------------------------------------------------------------------

    def _see_inner(self, value: Any, key: int) -> None:
        """Compare what a container or tuple has in it, too; all of one have one name."""
        name, field = self._names.labels[key]
        held: object = value
        insides: Any = value if isinstance(held, tuple) else self._met[id(value)][2]
        for inner in insides:
            if type(inner) is tuple:
                self._see_inner(inner, key)
            elif is_container(inner):
                inner_key = self._names.number((name, f"{field}[]"))
                found = self._met.get(id(inner))
                if found is None:
                    self._met[id(inner)] = inner, inner_key, copy_of(inner)
                    self._see_inner(inner, inner_key)
                self._inner.setdefault(key, set()).add(found[1] if found else inner_key)

    def _read_inner(self, key: int, accesses: Accesses, done: set[int]) -> None:
        for inner in self._inner.get(key, ()):
            accesses[inner] = accesses.get(inner, 0) | READ
            if inner not in done:
                done.add(inner)
                self._read_inner(inner, accesses, done)

    # -- writing ----------------------------------------------------------------------------------

    def compare(self, accesses: Accesses) -> None:
        """Note what a step has changed."""
        for value, key, before in list(self._met.values()):
            held: object = value
            now = copy_of(value)
            if not same(before, now):
                self._met[id(value)] = value, key, now
                self._see_inner(value, key)
                # Values of different keys, or in different places, can change in any order; new
                # ones come in an order.
                sort = type(held)
                kind = ADD if stays(sort, before, now) else WRITE
                accesses[key] = accesses.get(key, 0) | kind
                if sort in PARTED:
                    self._note_parts(sort, key, before, now, accesses)

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
