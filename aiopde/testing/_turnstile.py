"""
Complete control of trio by nothing but its public interface: the fallback of _trio.py.

Each task is put behind a turnstile: whatever wakes it, it then waits until it is let through. Who
goes next is decided when nobody else moves, that is, when ``wait_all_tasks_blocked()`` returns; so
a scenario cannot use that for itself here. Half as fast as the hook, and the same schedules.
"""

from __future__ import annotations

import math
import types
from typing import TYPE_CHECKING, Any, NamedTuple, final

from ._causes import is_interrupt
from ._lying import let_lie
from ._outside import no_threads_of_trio
from ._run import Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from ._execution import Search, Settings
    from ._lane import Lane
    from ._race import Race

FAR = 1e300
"""A deadline from here on never comes."""
PATIENCE = 100
"""How many steps a task gets to end in, while an execution is being cleared away."""


@final
class Gate:
    """What stands between trio and a task's coroutine."""

    def __init__(self, driver: TurnstileDriver, number: int, coroutine: Any) -> None:
        self._driver = driver
        self.number = number
        self.coroutine = coroutine
        self.over = False
        self.patience = PATIENCE
        """How often it still may go by an open turnstile: what catches all would do so for ever."""
        self.dismissed = False
        """Whether the coroutine is to be left where it is, and the task to end."""

    async def run(self) -> Any:
        """Be the task's coroutine; trio asks those things that it does not ask a generator."""
        return await self._pass_on()

    @types.coroutine
    def _pass_on(self) -> Generator[Any, Any, Any]:
        """Drive the coroutine, and wait at the turnstile each time before it moves."""
        try:
            message = None
            while True:
                yield from self._driver.queue_up(self)
                if self.dismissed:
                    let_lie(self.coroutine)
                    return None
                try:
                    trap = self.coroutine.send(message)
                except StopIteration as stop:
                    return stop.value
                message = yield trap
        finally:
            self.over = True


class _Ended(NamedTuple):
    outcome: Any
    error: BaseException | None


@final
class TurnstileDriver:
    """Runs executions in one ``trio.run``, each step as a :class:`Run` says."""

    def __init__(
        self, scenario: Callable[[Race], Awaitable[Any]], search: Search, settings: Settings
    ) -> None:
        import trio
        import trio.testing

        self._trio: Any = trio
        self._scenario = scenario
        self._clock: Any = trio.testing.MockClock()
        self._gates: dict[Any, Gate] = {}
        self._waiting: dict[Any, Gate] = {}
        """Who waits at the turnstile."""
        self._arrived: list[Any] = []
        self._watching = False
        self._open = False
        """Whether everybody may go, as an execution is being cleared away."""
        self._began = 0.0
        self._outside: Any = None
        """What a task is in that is in no scope of the scenario."""
        self._main_ended = _Ended(None, None)
        self.run = Run(search, settings, self)

    def drive(self) -> str:
        """Run executions until the search is over; return its verdict."""
        with no_threads_of_trio(self.run):
            self._trio.run(self._arbitrate, clock=self._clock, instruments=[self])
        return self.run.verdict

    # -- the turnstile ----------------------------------------------------------------------------

    def task_spawned(self, task: Any) -> None:
        """Put a new task behind a turnstile; trio's hook, called before it is scheduled."""
        if self._watching:
            gate = self._gates[task] = Gate(self, len(self._gates), task.coro)
            task.coro = gate.run()

    def queue_up(self, gate: Gate) -> Generator[Any, Any, None]:
        """Wait to be let through, unless the execution is being cleared away."""
        if gate.dismissed:
            return
        if self._open and gate.patience:
            gate.patience -= 1
            return
        task = self._trio.lowlevel.current_task()
        self._waiting[task] = gate
        self._arrived.append(task)
        lowlevel = self._trio.lowlevel

        def go_on_waiting(_: object) -> Any:
            # A cancellation, too: it is for the coroutine's own next checkpoint to see.
            return lowlevel.Abort.FAILED

        yield from lowlevel.wait_task_rescheduled(go_on_waiting).__await__()

    def _let_through(self, task: Any) -> None:
        del self._waiting[task]
        self._trio.lowlevel.reschedule(task)

    # -- the arbiter ------------------------------------------------------------------------------

    async def _arbitrate(self) -> None:
        while not self.run.over:
            await self._execute()

    async def _execute(self) -> None:
        run = self.run
        self._gates, self._waiting, self._arrived = {}, {}, []
        self._main_ended = _Ended(None, None)
        self._began = self._trio.current_time()
        async with self._trio.open_nursery() as nursery:
            self._watching, self._open = True, False
            nursery.start_soon(self._be_main)
            await self._quiet()
            main = next(iter(self._gates))
            self._outside = getattr(main, "_cancel_status", None)
            run.begin(main)
            self._arrived.clear()
            self._let_through(main)
            try:
                while await self._step(main):
                    pass
            except Exception as mistake:
                # Out of here at once, the nursery would wait for who waits at the turnstile.
                run.break_off(mistake)
            run.end()
            await self._clear_away(nursery)
            self._watching = False
        outcome, error = self._main_ended
        if run.error is not None:
            raise run.error
        if error is not None and is_interrupt(error):
            raise KeyboardInterrupt from error
        run.finish(outcome, error)

    async def _be_main(self) -> None:
        outcome, error = None, None
        try:
            main = self.run.lanes[0]
            if main.scope is None:
                outcome = await self._scenario(self.run.race)
            else:
                with main.scope:
                    outcome = await self._scenario(self.run.race)
        except BaseException as exc:
            error = exc
        self._main_ended = _Ended(outcome, error)

    async def _step(self, main: Any) -> bool:
        """Let one task through; say whether the scenario goes on."""
        run = self.run
        await self._quiet()
        if self._gates[main].over:
            return False
        self._wake()
        lane = run.pick()
        while run.going and lane is None:
            if not await self._wait():
                run.deadlock()
                break
            lane = run.pick()
        if lane is not None and lane.task is not None:
            self._let_through(lane.task)
        return run.going

    def _wake(self) -> None:
        """Tell who can move now, in the order of their birth."""
        tasks, self._arrived = self._arrived, []
        tasks.sort(key=lambda task: self._gates[task].number)
        self.run.wake(tasks)

    async def _wait(self) -> bool:
        """Nobody can move: let time pass; say whether that can change anything."""
        seconds = self._trio.lowlevel.current_statistics().seconds_to_next_deadline
        if seconds >= FAR or math.isinf(seconds):
            return False
        self._clock.jump(max(0.0, seconds))
        if self.run.watch is not None:
            self.run.watch.jump(self._trio.current_time() - self._began)
        await self._quiet()
        self._wake()
        return True

    async def _quiet(self) -> None:
        await self._trio.testing.wait_all_tasks_blocked()

    async def _clear_away(self, nursery: Any) -> None:
        """End what is left: by a cancellation, and what heeds none, by leaving it where it is."""
        self._open = True
        for task in list(self._waiting):
            self._let_through(task)
        nursery.cancel_scope.cancel()
        with self._trio.CancelScope(shield=True):
            await self._quiet()
            while left := [task for task, gate in self._gates.items() if not gate.over]:
                # The youngest: whoever waits for it is waked by its end.
                self._gates[left[-1]].dismissed = True
                self._trio.lowlevel.reschedule(left[-1])
                await self._quiet()

    # -- what Run asks ----------------------------------------------------------------------------

    def is_over(self, task: Any) -> bool:
        """Whether a task has ended."""
        return task is None or self._gates[task].over

    def coroutine(self, task: Any) -> Any:
        """Return the outermost coroutine of a task."""
        return self._gates[task].coroutine

    def task_name(self, task: Any) -> str:
        """Return the name a task was given, or its function's."""
        return task.name  # type: ignore[no-any-return]

    def can_cancel(self, lane: Lane) -> None:
        """Put a new task into a scope of its own; the scenario enters it when it begins."""
        lane.scope = self._trio.CancelScope()
        gate = self._gates[lane.task]
        if lane.parent is not None:
            gate.coroutine = _within(lane.scope, gate.coroutine)

    def scopes(self, task: Any) -> Iterator[Any]:
        """Yield the cancel scopes a task is in that can reach it, innermost first."""
        status = getattr(task, "_cancel_status", None)
        if status is None:
            getattr(self.run.watch, "notes", set[str]()).add("cancel scopes: this trio is too new")
        while status is not None and status is not self._outside:
            yield status._scope
            status = None if status._scope.shield else status._parent

    def group(self, task: Any) -> Any:
        """Return the nursery a task is in; None for the scenario's own."""
        return None if self.run.lanes[0].task is task else task.parent_nursery

    def ended_group(self, group: Any) -> Any:
        """Return the task that waited for a nursery, if its last task has just ended."""
        return None if group.child_tasks else group.parent_task


async def _within(scope: Any, coroutine: Awaitable[Any]) -> Any:
    with scope:
        return await coroutine
