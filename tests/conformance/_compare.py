"""Whether an answer of ours is the one expected, and where it differs if not."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ._scenario import UNKNOWN, Answer, Event

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from ._rules import Expected
    from ._scenario import Step
    from ._words import Result

_KERNEL_DETAIL: Final = frozenset({"dev", "signals"})
_SETS: Final = frozenset({"revents", "flags"})


@dataclass(frozen=True, slots=True)
class Difference:
    """What was expected of one thing, and what came."""

    field: str
    """Of an answer."""
    expected: object
    ours: object


class Pairs:
    """
    Which number of ours is which of the recording's.

    Both only count in the order of appearance: equal there must be equal here, and different
    different. That is enough also where we see more, or less, than Linux did.
    """

    def __init__(self) -> None:
        self._ours: dict[Hashable, Hashable] = {}
        self._theirs: dict[Hashable, Hashable] = {}

    def same(self, theirs: Hashable, ours: Hashable) -> bool:
        """Tell whether the two may be one; from then on they are."""
        known = self._ours.setdefault(theirs, ours), self._theirs.setdefault(ours, theirs)
        return known == (ours, theirs)


class Comparison:
    """Compares the answers of one scenario, step by step."""

    def __init__(self, *, racy: bool) -> None:
        self._racy = racy
        self._pairs = Pairs()

    def difference(self, step: Step, expected: Expected, ours: Answer) -> Difference | None:
        """Return the first difference, if there is any."""
        pairs_before = deepcopy(self._pairs)
        loose = expected.loose or self._racy or bool(step.others)
        # FORMAT does not say what join answers; who is blocked is compared all the same.
        checks: dict[str, Callable[[Any, Any], bool]] = {
            "res": _whatever if step.verb == "join" else self._same_result,
            "done": self._same_done,
            "blocked": _equal,
            "events": self._alike if loose else self._same_events,
            "refusals": _same_refusals,
        }
        for field, same in checks.items():
            theirs, mine = getattr(expected.answer, field), getattr(ours, field)
            if not same(theirs, mine):
                self._pairs = pairs_before
                return Difference(field, theirs, mine)
        return None

    def _same_result(self, theirs: Result, ours: Result) -> bool:
        keys = theirs.keys() | ours.keys()
        return all(
            key in theirs and key in ours and self._same(key, theirs[key], ours[key])
            for key in keys - _KERNEL_DETAIL
        )

    def _same(self, key: str, theirs: Any, ours: Any) -> bool:
        if key == "ino":
            return theirs is None or self._pairs.same((key, theirs), (key, ours))
        if key in _SETS:
            return set(theirs.split("|")) == set(ours.split("|"))
        return bool(theirs == ours)

    def _same_done(self, theirs: dict[int, Result], ours: dict[int, Result]) -> bool:
        same = theirs.keys() == ours.keys()
        return same and all(self._same_result(theirs[number], ours[number]) for number in theirs)

    def _same_events(self, theirs: Sequence[Event], ours: Sequence[Event]) -> bool:
        pairs = zip(theirs, ours, strict=False)
        return len(theirs) == len(ours) and all(self._same_event(*pair) for pair in pairs)

    def _same_event(self, theirs: Event, ours: Event) -> bool:
        if replace(theirs, file=None) != replace(ours, file=None):
            return False
        return self._pairs.same((theirs.ent, theirs.file), (ours.ent, ours.file))

    def _alike(self, theirs: Sequence[Event], ours: Sequence[Event]) -> bool:
        if self._same_events(sorted(theirs, key=_actor), sorted(ours, key=_actor)):
            return True
        return self._racy and _releases_aside(theirs) == _releases_aside(ours)


def _equal(theirs: object, ours: object) -> bool:
    return theirs == ours


def _whatever(theirs: object, ours: object) -> bool:
    return True


def _actor(event: Event) -> str:
    return event.by


def _releases_aside(events: Sequence[Event]) -> tuple[list[Event], Counter[Event]]:
    """Forget who ran a release, which is what the kernel's own race is about; but not how often."""
    releases = Counter(replace(event, by="") for event in events if event.op == "release")
    return sorted((each for each in events if each.op != "release"), key=_actor), releases


def _same_refusals(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    pairs = zip(theirs, ours, strict=False)
    return len(theirs) == len(ours) and all(one in {UNKNOWN, other} for one, other in pairs)
