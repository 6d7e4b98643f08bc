"""The order within an execution: which steps happen before which, and which race."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, final

from ._accesses import ADD, READ

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from ._accesses import Event

Class: TypeAlias = "Hashable"
"""What two executions have in common if and only if they are equivalent."""


@final
class Order:
    """
    Happens-before over the steps of an execution, as sets of bits.

    A step happens before another if it is of the same task and earlier, or made the other
    possible, or touched the same thing earlier, one of them writing; and what follows from that.
    Two steps race if they touch the same thing and nothing else orders them.
    """

    __slots__ = ("before", "events", "races")

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.before: list[int] = []
        """Of each step, the bits of those that happen before it."""
        self.races: list[tuple[int, int]] = []
        self._order()

    def _order(self) -> None:
        touched: dict[int, list[int]] = {}
        for number, event in enumerate(self.events):
            before = 0
            for cause in event.after:
                before |= self.before[cause.number] | 1 << cause.number
            # Latest first: an earlier one that a later one follows is no race of ours.
            others = _touch(event, touched)
            while others := others & ~before:
                other = others.bit_length() - 1
                # Never a step of its own task: the last of those is among its causes.
                self.races.append((other, number))
                before |= self.before[other] | 1 << other
            self.before.append(before)

    def without(self, first: int) -> list[Event]:
        """Return what comes after a step and does not need it."""
        before = self.before
        return [
            event
            for event in self.events[first + 1 :]
            if event.real and not before[event.number] >> first & 1
        ]

    def equivalence_class(self) -> Class:
        """
        Describe the execution by what happens before what.

        A cancellation that never came counts as one that came too late: they are equivalent.
        """
        lanes: dict[str, int] = {}
        for event in self.events:
            lanes[event.lane.name] = lanes.get(event.lane.name, 0) | 1 << event.number
        return frozenset((event.lane.name, *self._clock(event, lanes)) for event in self.events)

    def _clock(self, event: Event, lanes: dict[str, int]) -> Iterator[tuple[str, int]]:
        before = self.before[event.number] | 1 << event.number
        for name in sorted(lanes):
            count = (before & lanes[name]).bit_count()
            if count:
                yield name, count


def _touch(event: Event, touched: dict[int, list[int]]) -> int:
    """
    Add a step; return the earlier ones that touched the same, in a way in which order matters.

    Args:
        touched: Of each key, the steps that read it, those that add to it, and the others.
    """
    found, this = 0, 1 << event.number
    for key, kinds in event.accesses.items():
        steps = touched.get(key)
        if steps is None:
            steps = touched[key] = [0, 0, 0]
        readers, adders, others = steps
        if kinds == READ:
            found |= adders | others
            steps[0] = readers | this
        elif kinds == ADD:
            found |= readers | others
            steps[1] = adders | this
        else:
            found |= readers | adders | others
            steps[2] = others | this
    return found
