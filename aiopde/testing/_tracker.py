"""
The watcher that notes what each step of an execution touches, and what made it possible.

The hooks of _hooks.py and _variables.py call it while a task moves.
"""

from __future__ import annotations

from contextlib import contextmanager
from operator import is_
from threading import get_ident
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, final

from ._accesses import ADD, READ, WRITE, Accesses, Event
from ._containers import is_container
from ._contents import Contents
from ._names import Names
from ._opaque import PLAIN, held_by, is_dying, is_opaque
from ._programs import in_own_code
from ._stacks import frames_of, place_among
from ._uses import use_at

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable
    from types import FrameType

    from ._backend import Backend
    from ._lane import Lane
    from ._result import Touch
    from ._run import Run
    from ._uses import Use

T = TypeVar("T")


@final
class Tracker:
    """A watcher that notes what each step touches; the hooks of _hooks.py call it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.notes: set[str] = set()
        """What was met that cannot be tracked."""
        self.accesses: Accesses | None = None
        """Where to note accesses; None while no task moves."""
        self.names: Names = Names()
        self._contents = Contents(self.names, self.notes, self._see_opaque)
        self._run: Run | None = None
        self._insight: Backend | None = None
        self._pending: dict[Lane, list[Event]] = {}
        self._steps: dict[Lane, int] = {}
        self._ends: dict[int, list[Event]] = {}
        self._groups: dict[Lane, list[object]] = {}
        self._opaque: dict[int, tuple[object, set[str]]] = {}
        """What changes without our seeing it, and who has it at hand."""
        self._modules: dict[int, tuple[ModuleType, dict[str, object]]] = {}
        """Modules that may be used by another name, and what was in them."""
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
        self._thread = get_ident()
        self._paused: Accesses | None = None
        """Where to note accesses when garbage has been collected."""
        self.collects: bool = False
        """Whether that is going on."""

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
        for kind in self.names.forget():
            self.notes.add(f"a {kind} of which nobody saw the birth: unpickled, or by __new__")
        self._contents.forget()
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
            self.names.give(main.scope, ("scope", main.name))

    def before(self, lane: Lane, ready: list[Lane]) -> None:
        """Open the books for a step."""
        event = Event(lane, len(self.events), self._pending.pop(lane, []))
        self.events.append(event)
        self._event = event
        self._steps[lane] = self._steps.get(lane, 0) + 1
        self.names.begin_step(lane.name, self._steps[lane])
        self._see_scopes(lane)
        for group in self._groups.get(lane, ()):
            self.names.note(event.accesses, (self.names.of(group), "group"), READ)
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
        for module, variables in self._modules.values():
            self.notes |= _changes(module, variables)
        self._contents.compare(event.accesses)
        event.place = f"{lane.name} step {self._steps[lane]}: {self._place(lane, over)}"
        if over:
            self._see_end(lane, event, woken)
        else:
            self._see_scopes(lane)
            self._pending.setdefault(lane, []).append(event)
        for other in woken:
            if other is not lane:
                self._pending.setdefault(other, []).append(event)
                self.names.note(event.accesses, (other.name, "wake"), WRITE)
            if other not in self._steps:
                self._contents.born(other.name)
                self._see_victim(other, event)
        if lane.parent is None and self._steps[lane] == 1:
            self._see_victim(lane, event)
        self._see_cancelled(event)
        for number, reads in enumerate(self._reads):
            if any(event.accesses.get(key, 0) & ~READ for key in reads):
                # The order of two such steps can be seen by the invariant, if by nobody else.
                self.names.note(event.accesses, ("invariant", number), WRITE)
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
                self.names.give(lane.scope, ("scope", lane.name))

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
                    self.names.note(event.accesses, (lane.name, "cancel()"), WRITE)
                else:
                    self.names.note(
                        event.accesses, (self.names.of(lane.scope), "_cancel_called"), WRITE
                    )
                self.names.note(event.accesses, (lane.name, "wake"), WRITE)
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
            name = self.names.of(scope)
            self.names.note(accesses, (name, "_cancel_called"), READ)
            self.names.note(accesses, (name, "_shield"), READ)
        self.names.note(accesses, (lane.name, "cancel()"), READ)

    def _see_cancelled(self, event: Event) -> None:
        """Who cancels a task and who wakes it depend on each other: the first one gets it."""
        assert self._insight is not None
        assert self._run is not None
        keys = self.names.scopes
        if not any(key in keys and kinds & WRITE for key, kinds in event.accesses.items()):
            return
        for lane in self._run.lanes:
            if lane.task is None or lane is event.lane or self._insight.is_over(lane.task):
                continue
            for scope in self._insight.scopes(lane.task):
                key = self.names.number((self.names.of(scope), "_cancel_called"))
                if event.accesses.get(key, 0) & WRITE:
                    self.names.note(event.accesses, (lane.name, "wake"), WRITE)

    def _see_end(self, lane: Lane, event: Event, woken: list[Lane]) -> None:
        """Who waits for a group waits for each task of it."""
        assert self._insight is not None
        assert self._run is not None
        self.names.note(event.accesses, (lane.name, "end"), WRITE)
        group = self._insight.group(lane.task)
        if group is None:
            return
        self.names.note(event.accesses, (self.names.of(group), "group"), ADD)
        ends = self._ends.setdefault(id(group), [])
        ends.append(event)
        waiter = self._run.by_task.get(self._insight.ended_group(group))
        if waiter in woken:
            self._pending.setdefault(waiter, []).extend(ends)

    def is_same(self, before: Accesses, now: Accesses) -> bool:
        """Whether a step has touched the same as once before, by whatever names we learnt since."""
        if before == now:
            return True
        learnt = now.keys() - before.keys()
        return before.items() <= now.items() and all(map(self._contents.is_alias, learnt))

    def touched(self) -> tuple[Touch, ...]:
        """Say what the last step touched of the program's own, for people."""
        return self.names.touches(self.events[-1].accesses)

    # -- accesses ---------------------------------------------------------------------------------

    def touch(self, thing: object, field: str, write: bool) -> None:
        """Note an access; what the hooks call."""
        accesses = self.accesses
        if accesses is not None:
            try:
                key = self.names.fields[id(thing)][field]
            except KeyError:
                key = self.names.key(thing, field)
            accesses[key] = accesses.get(key, 0) | (WRITE if write else READ)

    def touch_thing(self, thing: object, field: str, write: bool) -> None:
        """Note an access to what the scenario names itself; it may be anything."""
        self.touch_name(self.names.of_any(thing), field, write=write)

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
                self.names.note(self.accesses, (lane.name, field), WRITE if write else READ)
                if field == "cancel()":
                    self.names.note(self.accesses, (lane.name, "wake"), WRITE)

    def created(self, thing: object) -> None:
        """Note that an object is new, and give it its name."""
        if self._event is not None:  # looked at or not: somebody may meet it later
            self.names.created(thing)

    def look_away(self, call: Callable[..., T], *args: Any) -> T:
        """Make a call whose accesses do not count."""
        accesses, self.accesses = self.accesses, None
        try:
            return call(*args)
        finally:
            self.accesses = accesses

    def collecting(self, phase: str, info: dict[str, int]) -> None:
        """
        See that garbage is about to be collected, or was; one of the functions of gc.callbacks.

        When that happens is nobody's step: it is what earlier executions have left behind, as the
        table of names holds what this one has made. But it may have a ``__del__``.
        """
        if get_ident() != self._thread:
            return
        self.collects = phase == "start"
        if self.collects:
            self._paused, self.accesses = self.accesses, None
        else:
            self.accesses, self._paused = self._paused, None

    def finalizer_writes(self, thing: object, field: str) -> None:
        """Note that what is run with the garbage changes what tasks have met."""
        going = self._run is not None and self._run.going
        if going and id(thing) in self.names.fields:
            what = f"{type(thing).__qualname__}.{field}"
            self.notes.add(f"{what}, written by a finalizer: nobody knows when one is called")

    def touch_name(self, owner: Hashable, name: str, *, write: bool) -> None:
        """Note an access to a variable: of a file, where all of one name are taken for one."""
        if self.accesses is not None:
            self.names.note(self.accesses, (owner, name), WRITE if write else READ)

    def see_held(
        self, value: object, frame: FrameType, uses: list[Use] | None, place: Hashable = None
    ) -> None:
        """
        Note that a step has something at hand that can be changed without a hook.

        A list, a dictionary or a set is compared after each step with what it was before, so it
        does not matter who changed it, and by which name.

        Args:
            frame: Who has it.
            uses: Which parts of it that asks for; None for any.
            place: What holds it; None if that is a local variable.
        """
        accesses = self.accesses
        if accesses is None or self._event is None:
            return
        if is_container(value):
            for use in uses or (None,):
                self._contents.see(value, place, accesses, self._contents.part(value, use, frame))
            return
        self._see_other(value, frame)
        for inner in held_by(value):
            if not PLAIN[type(inner)]:
                self.see_held(inner, frame, None, place)

    def see_value(self, thing: object, field: str, value: object, frame: FrameType) -> None:
        """
        Note that what an attribute holds can be changed without touching the attribute.

        The hooks do not call it for what is PLAIN: that is, for most.

        Args:
            frame: What reads or writes the attribute.
        """
        use = None
        if is_container(value):
            # To read code makes named tuples, by lines that would be looked at themselves.
            use = self.look_away(use_at, frame, field)
        self.see_held(value, frame, use and [use], (self.names.of(thing), f"{field}[]"))

    def see_module(self, module: ModuleType) -> None:
        """Note that somebody has a module at hand, and may use it in a way that we do not see."""
        if id(module) not in self._modules:
            self._modules[id(module)] = module, dict(vars(module))

    def _see_other(self, value: object, frame: FrameType) -> None:
        if (is_opaque(value) or isinstance(value, BaseException)) and not in_own_code(frame):
            self._see_opaque(value)

    def _see_opaque(self, value: object) -> None:
        """Note that a task has something at hand that may change unseen, or may come to."""
        assert self._event is not None
        holders = self._opaque.setdefault(id(value), (value, set()))[1]
        holders.add(self._event.lane.name)
        kind = type(value).__qualname__
        if is_dying(value):
            self.notes.add(f"a {kind}, whose object goes when nobody has it any more")
        elif len(holders) > 1 and is_opaque(value):
            self.notes.add(f"a {kind} that several tasks use")


def _changes(module: ModuleType, before: dict[str, object]) -> set[str]:
    now = vars(module)
    # Almost always nothing has changed, which is found out in C.
    same = len(now) == len(before) and all(map(is_, now, before))
    if same and all(map(is_, now.values(), before.values())):
        return set()
    return {
        f"{module.__name__}.{name}, which changes, and the module has another name, too"
        for name in before.keys() | now.keys()
        # What a module is first imported for becomes an attribute of the one above.
        if now.get(name) is not before.get(name) and not isinstance(now.get(name), ModuleType)
    }
