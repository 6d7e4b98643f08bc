"""
What a step touches: which attribute of which object it reads or writes, whom it wakes.

Two steps of different tasks depend on each other when they touch the same attribute of the same
object, one of them writing, or when one makes the other possible. That has to be seen in full, or
the search leaves out what it should not; and finely, or it leaves out nothing: "the same object"
is far too coarse.

Names of objects are the same in every execution: where an object was made (by which task, in which
of its steps, as which in that step) does not depend on how the tasks are interleaved. An object
that was there before is known by itself.
"""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

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
from ._opaque import in_own_code, is_opaque
from ._result import Touch
from ._stacks import frames_of, place_among
from ._uses import TRUTH, use_at

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable
    from types import FrameType

    from ._backend import Backend
    from ._lane import Lane
    from ._run import Run
    from ._uses import Use

READ: Final = 1
WRITE: Final = 2
ADD: Final = 4
"""What commutes with itself, but not with reading: the end of one task of a group."""

UNHOOKED: Final = "a SimpleNamespace made before the search; one made in it can be hooked"
"""A note."""

_MACHINERY = ("CancelScope", "TaskGroup", "Nursery", "WatchedFuture", "scope", "invariant")
"""What is left out where people read."""

Accesses: TypeAlias = dict[int, int]
"""Of each key, the kinds of access, or-ed."""


def conflict(a: Accesses, b: Accesses) -> bool:
    """Whether two steps touch the same thing in a way in which their order matters."""
    if len(b) < len(a):
        a, b = b, a
    for key, kinds in a.items():
        other = b.get(key, 0)
        if other and (kinds != other or kinds not in (READ, ADD)):
            return True
    return False


@final
class Event:
    """A step, as the search sees it."""

    __slots__ = ("accesses", "after", "lane", "number", "place", "real")

    def __init__(self, lane: Lane, number: int, after: list[Event], *, real: bool = True) -> None:
        self.lane = lane
        self.real = real
        """Whether it was made; not so a cancellation that never came."""
        self.number = number
        """Its place in the execution."""
        self.accesses: Accesses = {}
        self.place = ""
        """Where its task stood after it."""
        self.after = after
        """What made it possible: the step before, and who woke or started its task."""


@final
class Tracker:
    """A watcher that notes what each step touches; the hooks of _hooks.py call it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: set[str] = set()
        """What was met that cannot be tracked."""
        self.accesses: Accesses | None = None
        """Where to note accesses; None while no task moves."""
        self._keys: dict[Hashable, int] = {}
        self._labels: list[Any] = []
        self._peers: dict[str, dict[Hashable, int]] = {}
        """The objects of each class that were named to people."""
        self._scope_keys: set[int] = set()
        """The keys that stand for a cancel scope being cancelled."""
        self._old: dict[int, tuple[object, Hashable]] = {}
        """Objects that were there before the search, and their names."""
        self._names: dict[int, tuple[object, Hashable]] = {}
        self._containers: dict[int, tuple[Any, int, Any]] = {}
        self._inner: dict[int, set[int]] = {}
        """Of the key of a container, those of the containers in it."""
        self._run: Run | None = None
        self._insight: Backend | None = None
        self._pending: dict[Lane, list[Event]] = {}
        self._steps: dict[Lane, int] = {}
        self._born = 0
        self._ends: dict[int, list[Event]] = {}
        self._groups: dict[Lane, list[object]] = {}
        self._opaque: dict[int, tuple[object, set[str]]] = {}
        """What changes without our seeing it, and who has it at hand."""
        self._reads: list[Accesses] = []
        self._jumped = 0
        """How many steps there were when the clock last jumped."""
        self._event: Event | None = None
        self.look_on: Callable[[Tracker, FrameType], None] | None = None
        """What looks at a line of the program that waits, when it goes on."""
        self._waiting: dict[Lane, list[FrameType]] = {}
        self.look_at_classes: Callable[[], set[str]] = set
        """Tells what of the program's classes has changed unseen; asked in the first execution."""
        self._executions = 0

    @property
    def tracker(self) -> Tracker:
        """Itself; a watcher may have one, or be one."""
        return self

    # -- steps ------------------------------------------------------------------------------------

    def begin(self, run: Run) -> None:
        """Forget the execution before."""
        self._executions += 1
        self._run = run
        self._insight = run.backend
        self.events = []
        self._names = {}
        self._containers = {}
        self._inner = {}
        self._pending = {}
        self._steps = {}
        self._ends = {}
        self._groups = {}
        self._opaque = {}
        self._reads = []
        self._jumped = 0
        self._waiting = {}
        main = run.lanes[0]
        if main.scope is not None and main.scope is not main.task:
            self._names[id(main.scope)] = main.scope, ("scope", main.name)

    def before(self, lane: Lane, ready: list[Lane]) -> None:
        """Open the books for a step."""
        event = Event(lane, len(self.events), self._pending.pop(lane, []))
        self.events.append(event)
        self._event = event
        self._steps[lane] = self._steps.get(lane, 0) + 1
        self._born = 0
        self._see_scopes(lane)
        for group in self._groups.get(lane, ()):
            self._note(event.accesses, (self.name(group), "group"), READ)
        self.accesses = event.accesses
        if self.look_on is not None:
            for frame in self._waiting.pop(lane, ()):
                self.look_on(self, frame)

    def after(self, lane: Lane, woken: list[Lane], over: bool) -> None:
        """Close the books, and note what the step made possible."""
        event = self._event
        assert event is not None
        self.accesses = None
        if self._executions == 1:
            self.notes |= self.look_at_classes()
        self._compare(event.accesses)
        event.place = f"{lane.name} step {self._steps[lane]}: {self._place(lane, over)}"
        if over:
            self._see_end(lane, event, woken)
        else:
            self._see_scopes(lane)
            self._pending.setdefault(lane, []).append(event)
        for other in woken:
            if other is not lane:
                self._pending.setdefault(other, []).append(event)
                self._note(event.accesses, (other.name, "wake"), WRITE)
            if other not in self._steps:
                self._see_victim(other, event)
        if lane.parent is None and self._steps[lane] == 1:
            self._see_victim(lane, event)
        self._see_cancelled(event)
        for number, reads in enumerate(self._reads):
            if any(event.accesses.get(key, 0) & ~READ for key in reads):
                # The order of two such steps can be seen by the invariant, if by nobody else.
                self._note(event.accesses, ("invariant", number), WRITE)
                # And whether it holds now hangs on all it looked at, whoever wrote that before.
                for key in reads:
                    event.accesses[key] = event.accesses.get(key, 0) | READ

    def _place(self, lane: Lane, over: bool) -> str:
        if over or lane.task is None:
            return "over"
        assert self._run is not None
        frames = list(frames_of(self._run.coroutine(lane)))
        self._waiting[lane] = frames
        return str(place_among(frames))

    def suspects(self) -> str:
        """Say what may have been touched unseen."""
        if self.notes:
            return "It may be " + "; ".join(sorted(self.notes))
        return "Name what they share by race.touch(), or its class in track="

    def jump(self, time: float) -> None:
        """Note that what comes now comes after everything; what was before the last jump, does."""
        assert self._run is not None
        for lane in self._run.lanes:
            self._pending.setdefault(lane, []).extend(self.events[self._jumped :])
        self._jumped = len(self.events)

    def check_begins(self, number: int) -> None:
        """Note accesses as those of an invariant."""
        while len(self._reads) <= number:
            self._reads.append({})
        self.accesses = self._reads[number]

    def _see_victim(self, lane: Lane, event: Event) -> None:
        """A cancellation can come once its task is there."""
        if lane.canceller is not None:
            self._pending[lane.canceller] = [event]
            if lane.scope is not lane.task:
                self._names[id(lane.scope)] = lane.scope, ("scope", lane.name)

    def complete_events(self) -> list[Event]:
        """Return the steps, and at the end each cancellation that could have come and did not."""
        events = list(self.events)
        assert self._run is not None
        assert self._insight is not None
        for lane in self._run.lanes:
            canceller = lane.canceller
            if canceller is not None and canceller not in self._steps:
                event = Event(canceller, len(events), self._pending.get(canceller, []), real=False)
                if lane.scope is lane.task:
                    self._note(event.accesses, (lane.name, "cancel()"), WRITE)
                else:
                    self._note(event.accesses, (self.name(lane.scope), "_cancel_called"), WRITE)
                self._note(event.accesses, (lane.name, "wake"), WRITE)
                events.append(event)
        return events

    def _see_scopes(self, lane: Lane) -> None:
        """A step depends on whether the scopes around it are cancelled."""
        assert self._insight is not None
        assert self._event is not None
        accesses = self._event.accesses
        if lane.task is None:
            return
        self.accesses = None
        for scope in self._insight.scopes(lane.task):
            name = self.name(scope)
            self._note(accesses, (name, "_cancel_called"), READ)
            self._note(accesses, (name, "_shield"), READ)
        self._note(accesses, (lane.name, "cancel()"), READ)

    def _see_cancelled(self, event: Event) -> None:
        """Who cancels a task and who wakes it depend on each other: the first one gets it."""
        assert self._insight is not None
        assert self._run is not None
        keys = self._scope_keys
        if not any(key in keys and kinds & WRITE for key, kinds in event.accesses.items()):
            return
        for lane in self._run.lanes:
            if lane.task is None or lane is event.lane or self._insight.is_over(lane.task):
                continue
            for scope in self._insight.scopes(lane.task):
                key = self.number((self.name(scope), "_cancel_called"))
                if event.accesses.get(key, 0) & WRITE:
                    self._note(event.accesses, (lane.name, "wake"), WRITE)

    def _see_end(self, lane: Lane, event: Event, woken: list[Lane]) -> None:
        """Who waits for a group waits for each task of it."""
        assert self._insight is not None
        assert self._run is not None
        self._note(event.accesses, (lane.name, "end"), WRITE)
        group = self._insight.group(lane.task)
        if group is None:
            return
        self._note(event.accesses, (self.name(group), "group"), ADD)
        ends = self._ends.setdefault(id(group), [])
        ends.append(event)
        waiter = self._run.by_task.get(self._insight.ended_group(group))
        if waiter in woken:
            self._pending.setdefault(waiter, []).extend(ends)

    # -- accesses ---------------------------------------------------------------------------------

    def touch(self, thing: object, field: str, write: bool) -> None:
        """Note an access; what the hooks call."""
        accesses = self.accesses
        if accesses is not None:
            key = self.key(thing, field)
            accesses[key] = accesses.get(key, 0) | (WRITE if write else READ)

    @contextmanager
    def waiting_for(self, group: object) -> Generator[None]:
        """Note that each step of this task looks at a group, as long as it waits for that."""
        if self.accesses is None or self._event is None:
            yield  # trio's own, or an execution that is being cleared away
            return
        groups = self._groups.setdefault(self._event.lane, [])
        groups.append(group)
        self.touch(group, "group", write=True)
        try:
            yield
        finally:
            groups.remove(group)

    def touch_task(self, task: object, field: str, write: bool) -> None:
        """Note an access to a task of asyncio."""
        if self.accesses is not None and self._run is not None:
            lane = self._run.by_task.get(task)
            if lane is not None:
                self._note(self.accesses, (lane.name, field), WRITE if write else READ)
                if field == "cancel()":
                    self._note(self.accesses, (lane.name, "wake"), WRITE)

    def look_away(self, call: Callable[[], object]) -> None:
        """Make a call whose accesses do not count."""
        accesses, self.accesses = self.accesses, None
        try:
            call()
        finally:
            self.accesses = accesses

    def touch_name(self, file: str, name: str, *, write: bool) -> None:
        """Note an access to a variable; those of one name in one file are taken for one."""
        if self.accesses is not None:
            self._note(self.accesses, (file, name), WRITE if write else READ)

    def see_held(
        self, value: object, frame: FrameType, uses: list[Use] | None, name: str = ""
    ) -> None:
        """
        Note that a step has something at hand that can be changed without a hook.

        Args:
            frame: Who has it.
            uses: Which parts of it that asks for; None for any.
            name: The variable that holds it, of the module or an enclosing function.
        """
        if self.accesses is None or self._event is None:
            return
        if is_container(value):
            if name:
                key = self.number((frame.f_code.co_filename, f"{name}[]"))
            else:
                self.created(value)
                key = self.key(value, "[]")
            for use in uses or (None,):
                self._see(value, key, self.accesses, self._part(value, use, frame))
        elif type(value) is tuple:
            for inner in cast("Any", value):
                self.see_held(inner, frame, None, name)
        else:
            self._see_opaque(value, frame, self._event.lane)

    def _see_opaque(self, value: object, frame: FrameType, lane: Lane) -> None:
        """Note that a task has something at hand that may change unseen, if it is such a thing."""
        if not is_opaque(value) or in_own_code(frame):
            return
        holders = self._opaque.setdefault(id(value), (value, set()))[1]
        holders.add(lane.name)
        if len(holders) > 1:
            self.notes.add(f"a {type(value).__qualname__} that several tasks use")

    def created(self, thing: object) -> None:
        """Note that an object is new, and give it its name."""
        if self.accesses is not None and id(thing) not in self._names:
            self._name_new(thing)

    def key(self, thing: object, field: str) -> int:
        """Return the number of an attribute of an object."""
        return self.number((self.name(thing), field))

    def name(self, thing: object) -> Hashable:
        """Return the name of an object."""
        found = self._names.get(id(thing)) or self._old.get(id(thing))
        if found is not None:
            return found[1]
        name = ("old", type(thing).__qualname__, len(self._old))
        self._old[id(thing)] = thing, name
        return name

    def _name_new(self, thing: object) -> Hashable:
        event = self._event
        assert event is not None
        self._born += 1
        name = (type(thing).__qualname__, event.lane.name, self._steps[event.lane], self._born)
        self._names[id(thing)] = thing, name
        return name

    def number(self, key: Hashable) -> int:
        """Return the number of a key."""
        number = self._keys.get(key)
        if number is None:
            number = self._keys[key] = len(self._keys)
            self._labels.append(key)
            if isinstance(key, tuple) and key[1] == "_cancel_called":
                self._scope_keys.add(number)
        return number

    def _note(self, accesses: Accesses, key: Hashable, kind: int) -> None:
        number = self.number(key)
        accesses[number] = accesses.get(number, 0) | kind

    def portable(
        self, sleep: dict[str, Accesses]
    ) -> tuple[tuple[str, tuple[tuple[Hashable, int], ...]], ...]:
        """Return a sleep set in terms that hold in any process; what has none is left out."""
        return tuple(
            (lane, tuple((self._labels[key], kinds) for key, kinds in accesses.items()))
            for lane, accesses in sleep.items()
            if not any(_is_old(self._labels[key]) for key in accesses)
        )

    def touched(self) -> tuple[Touch, ...]:
        """Say what the last step touched of the program's own, for people."""
        found: dict[str, bool] = {}
        for number, kinds in self.events[-1].accesses.items():
            label = self._label(self._labels[number]).removesuffix("[]")
            if label:
                found[label] = found.get(label, False) or bool(kinds & ~READ)
        return tuple(Touch(label, write) for label, write in found.items())

    def _label(self, key: Any) -> str:
        name, field = key
        if isinstance(field, tuple):  # a part of something, which has another key for the whole
            return self._label((name, field[0]))
        if isinstance(name, str):  # a task, or a file with a variable
            return "" if field in ("cancel()", "end", "wake") else str(field)
        kind = str(name[1] if name[0] == "old" else name[0]).rpartition(".")[2]
        if kind in _MACHINERY:
            return ""
        peers = self._peers.setdefault(kind, {})
        return f"{kind}#{peers.setdefault(name, len(peers) + 1)}.{field}"

    # -- containers -------------------------------------------------------------------------------

    def see_value(self, thing: object, field: str, value: object, frame: FrameType) -> None:
        """
        Note that what an attribute holds can be changed without touching the attribute.

        A list, a dictionary or a set is compared after each step with what it was before, so it
        does not matter who changed it, and by which name.

        Args:
            frame: What reads or writes the attribute.
        """
        if self.accesses is None or self._event is None:
            return
        if is_container(value):
            key = self.key(thing, f"{field}[]")
            part = self._part(value, use_at(frame, field), frame)
            self._see(value, key, self.accesses, part)
        elif type(value) is tuple:
            for inner in cast("Any", value):
                self.see_value(thing, field, inner, frame)
        else:
            self._see_opaque(value, frame, self._event.lane)

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
        found = self._names.get(id(part))
        return found[1] if found is not None and type(part).__eq__ is object.__eq__ else None

    def _see(self, value: Any, key: int, accesses: Accesses, part: Hashable = None) -> None:
        found = self._containers.get(id(value))
        if type(value) is SimpleNamespace:
            self.notes.add(UNHOOKED)
        if found is None:
            self._containers[id(value)] = value, key, copy_of(value)
            self._see_inner(value, key)
        else:
            key = found[1]
        if key in self._inner:
            self._read_inner(key, accesses, {key})
        if part is None:
            accesses[key] = accesses.get(key, 0) | READ
        else:
            self._note(accesses, self._part_of(key, part), READ)
            rest = LENGTH if isinstance(part, At) else UNNAMED
            self._note(accesses, self._part_of(key, rest), READ)

    def _see_inner(self, value: Any, key: int) -> None:
        """Compare what a container or tuple has in it, too; all of one have one name."""
        name, field = self._labels[key]
        held: object = value
        insides: Any = value if isinstance(held, tuple) else self._containers[id(value)][2]
        for inner in insides:
            if type(inner) is tuple:
                self._see_inner(inner, key)
            elif is_container(inner):
                inner_key = self.number((name, f"{field}[]"))
                found = self._containers.get(id(inner))
                if found is None:
                    self._containers[id(inner)] = inner, inner_key, copy_of(inner)
                    self._see_inner(inner, inner_key)
                self._inner.setdefault(key, set()).add(found[1] if found else inner_key)

    def _read_inner(self, key: int, accesses: Accesses, done: set[int]) -> None:
        for inner in self._inner.get(key, ()):
            accesses[inner] = accesses.get(inner, 0) | READ
            if inner not in done:
                done.add(inner)
                self._read_inner(inner, accesses, done)

    def _part_of(self, key: int, part: Hashable) -> Hashable:
        name, field = self._labels[key]
        return name, (field, part)

    def _compare(self, accesses: Accesses) -> None:
        for value, key, before in list(self._containers.values()):
            held: object = value
            now = copy_of(value)
            if not same(before, now):
                self._containers[id(value)] = value, key, now
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
        in_place = sort is list and len(before) == len(now)
        for part in changed(before, now, pairs=sort is dict):
            name = self._part_name(part)
            part_key = self._part_of(key, UNNAMED if name is None else name)
            self._note(accesses, part_key, ADD if in_place else WRITE)
        for place in places(before, now) if in_place else ():
            self._note(accesses, self._part_of(key, place), WRITE)
        if sort is list and not in_place:
            self._note(accesses, self._part_of(key, LENGTH), WRITE)
        if bool(before) != bool(now):
            self._note(accesses, self._part_of(key, TRUTH), WRITE)


def _is_old(key: Any) -> bool:
    return isinstance(key[0], tuple) and key[0][0] == "old"
