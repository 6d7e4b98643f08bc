"""
Dynamic partial-order reduction: one execution for each class of equivalent schedules.

Two schedules are equivalent when they differ only in the order of steps that do not depend on each
other (Mazurkiewicz). After each execution its races are found: pairs of steps that depend on each
other and that nothing else orders. For each, the other order is planned where the first of the two
was made, unless a step is planned there that can lead to it (source sets), and what was seen is
not begun again (sleep sets). Abdulla, Aronis, Jonsson, Sagonas: Source sets, JACM 2017.

A step is all that a task does between two checkpoints, and what it touches depends on what it
reads. So we do not know what the second step of a race will touch once it comes first, and the
wakeup trees of the same paper, which need that exactly, lose executions here: seen with three
tasks of which one looks before it writes. Instead the steps that reverse a race are followed as
long as they can be; that keeps almost all executions from ending asleep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from ._accesses import Accesses, conflict
from ._execution import Diverged
from ._strategies import go_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._accesses import Event
    from ._execution import Execution
    from ._lane import Lane
    from ._order import Order
    from ._tracker import Tracker


BEGINNINGS: Final = 3
"""How often we begin again, before we say that there is no end to it."""


@final
class Node:
    """A state on the path of the execution: what was done from it, and what is to be done."""

    __slots__ = ("accesses", "begun", "plan", "sleep", "taken")

    def __init__(self, sleep: dict[str, Accesses]) -> None:
        self.sleep = sleep
        """Whose next step need not be made from here: what comes of it was seen."""
        self.plan: dict[str, list[str]] = {}
        """Whose step is to be made from here, and whose after that."""
        self.begun: set[str] = set()
        """Whose step was made from here, or is being made."""
        self.taken = ""
        """Whose step is being made."""
        self.accesses: Accesses = {}
        """What that touched, when it was made last."""

    def knows(self, lane: str) -> bool:
        """Whether the step of a task was, is or will be made from here."""
        return lane in self.begun or lane in self.plan

    def take(self, lane: str) -> None:
        """Make the step of a task."""
        self.taken = lane
        self.begun.add(lane)


@final
class Explorer:
    """
    The path of the current execution, and what is planned from each state on it.

    Args:
        tracker: What sees the steps.
        prefix: The choices to begin with; others from the same states are somebody else's.
        sleep: Whose next step need not be made after these.
        depth: After how many choices to give up, having taken every one of them; None for never.
    """

    def __init__(
        self,
        tracker: Tracker,
        prefix: Sequence[str] = (),
        sleep: dict[str, Accesses] | None = None,
        depth: int | None = None,
    ) -> None:
        self.tracker = tracker
        self._prefix = prefix
        self._sleep = sleep or {}
        self._depth = depth
        self.deep = False
        """Whether the execution was given up for its depth."""
        self._fixed = 1
        """How many of the states are not ours to go back to."""
        self._nodes: list[Node] = [Node({})]
        """The states before each step; the first step is the scenario's, and no choice."""
        self._again = 0
        """How many of the first steps are made again, and have to touch what they touched."""
        self._beginnings = 0
        """How often we began again, as they did not."""
        self._begins_again = False
        self._choices = 0
        self._guide: list[str] = []
        """Whose steps are to follow the last one on the path, latest first."""

    def choose(self, ready: list[Lane], last: Lane | None) -> Lane | None:
        """Follow the path to its end, and then the plan, and then go on somehow."""
        step = len(self.tracker.events)
        if step == 1:
            self._choices = 0
        self._choices += len(ready) > 1
        if step < len(self._nodes):
            return self._find(self._nodes[step].taken, ready)
        if self._choices <= len(self._prefix):
            return self._follow_prefix(ready)
        self.deep = self._depth is not None and self._choices > self._depth
        if self.deep:
            return None
        return self._begin(step, ready, last)

    def _begin(self, step: int, ready: list[Lane], last: Lane | None) -> Lane | None:
        node = Node(self.sleep_after(step - 1) if step > self._fixed else dict(self._sleep))
        awake = [lane for lane in ready if lane.name not in node.sleep]
        if not awake:
            return None
        lane = self._guided(awake) or go_on(awake, last)
        node.take(lane.name)
        if self._depth is not None:
            node.plan = {other.name: [] for other in awake if other is not lane}
        self._nodes.append(node)
        return lane

    def _follow_prefix(self, ready: list[Lane]) -> Lane:
        node = Node({})
        name = self._prefix[self._choices - 1] if len(ready) > 1 else ready[0].name
        node.take(name)
        lane = self._find(name, ready)
        self._nodes.append(node)
        self._fixed = len(self._nodes)
        return lane

    def _guided(self, awake: list[Lane]) -> Lane | None:
        while self._guide:
            name = self._guide.pop()
            for lane in awake:
                if lane.name == name:
                    return lane
        return None

    def _find(self, name: str, ready: list[Lane]) -> Lane:
        for lane in ready:
            if lane.name == name:
                return lane
        can = ", ".join(lane.name for lane in ready)
        msg = f"step {len(self.tracker.events) + 1} was made by {name}, and now only {can} can move"
        raise Diverged(msg)

    def sleep_after(self, depth: int) -> dict[str, Accesses]:
        """Return whose next step need not be made after a step of the path."""
        node = self._nodes[depth]
        made = self.tracker.events[depth].accesses
        return {
            lane: accesses
            for lane, accesses in node.sleep.items()
            if lane != node.taken and not conflict(accesses, made)
        }

    def plan(self, order: Order, execution: Execution) -> None:
        """Plan the other order of each race, where its first step was made."""
        if not self._is_as_before():
            self._begin_again()
        if self._begins_again:
            return
        if execution.cut:
            return
        for first, second in order.races:
            # Else it was made by somebody else, or after everybody was given his turn.
            if self._fixed <= first < len(self._nodes):
                node, detour = self._nodes[first], order.without(first)
                for last in _to_come_first(node, detour, order.events[second]):
                    self._plan_from(node, detour, last, order)

    def _is_as_before(self) -> bool:
        """Whether the steps that were made again have touched what they touched before."""
        nodes, events = self._nodes, self.tracker.events
        known = range(1, self._again)  # the first is in no order with any
        is_same = self.tracker.is_same
        same = all(is_same(nodes[step].accesses, events[step].accesses) for step in known)
        for node, event in zip(nodes, events, strict=False):
            node.accesses = event.accesses
        return same

    def _begin_again(self) -> None:
        """
        Forget what was seen: of a program that has filled its caches by now, it is not true.

        What sleeps is known by what it touched, under names that count what was made before it.
        """
        if self._beginnings == BEGINNINGS:
            self.tracker.notes.add(self._what_is_kept())
            return
        self._beginnings += 1
        self._begins_again = True
        self._nodes = [Node({})]
        self._fixed = 1
        self._guide = []
        self._again = 0

    def _what_is_kept(self) -> str:
        kept = "something that is kept from one schedule to the next"
        unborn = ", ".join(self.tracker.names.unborn())
        # A copy that is its own garbage, say: it cannot be told from what was there before.
        return f"{kept}; or is made anew, and by no __init__: {unborn}" if unborn else kept

    def _plan_from(self, node: Node, detour: list[Event], last: Event, order: Order) -> None:
        """Plan that a step comes before the one that was made from a state."""
        needed = [event for event in detour if order.before[last.number] >> event.number & 1]
        # What the last step will touch is not known, so it comes first only if it is alone.
        best = initials(needed, order) or [last.lane.name]
        if not any(node.knows(lane) for lane in (*best, *initials(detour, order))):
            lane = next((lane for lane in best if lane not in node.sleep), best[0])
            names = [event.lane.name for event in detour if event is not last]
            names.append(last.lane.name)
            names.remove(lane)
            node.plan[lane] = names[::-1]

    def advance(self) -> bool:
        """Go back to the last state from which something is to be done; False if there is none."""
        if self._begins_again:
            self._begins_again = False
            return True
        while len(self._nodes) > self._fixed:
            node = self._nodes[-1]
            node.sleep[node.taken] = self.tracker.events[len(self._nodes) - 1].accesses
            lane = next((lane for lane in node.plan if lane not in node.sleep), None)
            if lane is not None:
                self._guide = node.plan.pop(lane)
                self._again = len(self._nodes) - 1
                node.take(lane)
                return True
            self._nodes.pop()
        return False


def _to_come_first(node: Node, detour: list[Event], last: Event) -> list[Event]:
    """
    Return what is to come before the step made from a state, the other side of a race being *last*.

    That, unless its task sleeps there: what comes of it as the first was seen. Then it has to come
    after what it depends on; and that is told by what it touches there, not what it touched here.
    """
    asleep = node.sleep.get(last.lane.name)
    if asleep is None or last.lane.name in node.begun:
        return [last]
    return [event for event in detour if conflict(asleep, event.accesses)]


def initials(steps: list[Event], order: Order) -> list[str]:
    """Return whose step can be the first of these, all of them being made."""
    first: list[str] = []
    seen = 0
    lanes: set[str] = set()
    for event in steps:
        if event.lane.name not in lanes and not order.before[event.number] & seen:
            first.append(event.lane.name)
        lanes.add(event.lane.name)
        seen |= 1 << event.number
    return first
