"""Complete control of asyncio: an event loop whose queue is ours, with a virtual clock."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
from asyncio import Handle
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias, final

import anyio
import anyio._backends._asyncio  # before the hooks look for its classes

from ._aiotasks import WatchedFuture, WatchedTask
from ._lying import let_lie
from ._run import MAIN, Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from ._footprint import Tracker
    from ._run import Lane, Race, Search, Settings

FAR = 1e300
"""A timer from here on never comes."""
PASSES = 3
"""How often per step we run what was called soon: a cancelled scope of anyio calls for ever."""
PASSES_WHEN_QUIET = 20
"""The same where no task can move, before we believe that this stays so."""
ROUNDS = 10
"""How often we ask what is left of an execution to end, before we give it up."""

_EVENT_WAIT = asyncio.Event.wait.__code__
_Step: TypeAlias = tuple["Callable[..., object]", tuple[Any, ...], contextvars.Context]


def _is_step(callback: Any, kind: type) -> bool:
    """Whether a callback with a task as its ``__self__`` is that task's next step."""
    if kind is BuiltinFunctionType:
        return bool(callback.__name__ == "task_wakeup")
    if kind is MethodType:  # asyncio without its C part
        return callback.__name__ in ("__step", "__wakeup")
    return kind.__name__ == "TaskStepMethWrapper"


@final
class Loop(asyncio.BaseEventLoop):
    """
    Moves one task at a time, as a :class:`Run` says; there is no I/O and no real time.

    A callback that is no step of a task belongs to the step that asked for it, and runs right
    after that. The order in which asyncio lets tasks move, first come, first served, is one of
    many here: with real I/O the others come up too.
    """

    def __init__(
        self, scenario: Callable[[Race], Awaitable[Any]], search: Search, settings: Settings
    ) -> None:
        super().__init__()
        self._scenario = scenario
        self._now = 0.0
        self._soon: list[Handle] = []
        self._next_steps: dict[Any, _Step] = {}
        """The next step of each task that can move."""
        self._woken: list[Any] = []
        self._scopes: dict[Any, anyio.CancelScope] | None = {} if settings.cancel else None
        """What cancels a task, by its coroutine; None where cancellation is no choice."""
        self._scheduled: list[asyncio.TimerHandle]
        self._tracker: Tracker | None = None
        self._context = contextvars.copy_context()
        self.explored = Run(search, settings, self)

    def drive(self) -> str:
        """Run executions until the search is over; return its verdict."""
        try:
            self.run_forever()
        finally:
            self.close()
        return self.explored.verdict

    # -- what asyncio asks ------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        """Note a callback. Nobody looks at what is returned for the step of a task."""
        kind = callback.__class__
        if kind is not FunctionType and _is_step(callback, kind):
            task = callback.__self__
            self._next_steps[task] = callback, args, context
            self._woken.append(task)
            return None
        handle = Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        """Create a task; where it can be a victim, one that anyio manages gets its own scope."""
        if self._scopes is not None and _is_anyios(coro):
            scope = anyio.CancelScope()
            coro = _within(scope, coro)
            self._scopes[coro] = scope
        if self._tracker is not None:
            return WatchedTask(self._tracker, coro, loop=self, **kwargs)
        return super().create_task(coro, **kwargs)

    def create_future(self) -> Any:
        """Create a future. Those an event's waiters have for themselves are nobody's business."""
        if self._tracker is not None and sys._getframe(1).f_code is not _EVENT_WAIT:
            return WatchedFuture(self._tracker, self)
        return super().create_future()

    def call_exception_handler(self, context: Any) -> None:
        """Fail the execution for what a callback raised; nobody else would hear of it."""
        error = context.get("exception")
        if self.explored.going and error is not None:
            self.explored.fail("exception", f"{context['message']}: {error!r}", error)

    def _process_events(self, event_list: object) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    # -- the loop ---------------------------------------------------------------------------------

    def _run_once(self) -> None:
        while not self.explored.over:
            self._execute()
        self.stop()

    def _execute(self) -> None:
        run = self.explored
        self._now = 0.0
        self._soon.clear()
        self._scheduled.clear()
        self._next_steps.clear()
        if self._scopes is not None:
            self._scopes.clear()
        self._tracker = getattr(run.upcoming_watch, "tracker", None)
        context = self._context.copy()
        if self._tracker is None:
            main: Any = asyncio.Task(self._main(), loop=self, name=MAIN, context=context)
        else:
            main = self.create_task(self._main(), name=MAIN, context=context)
        self._woken.clear()
        run.begin(main)
        try:
            self._explore(main)
            if not run.end():
                self._clear_away(main)
            self._finish(main)
        except BaseException:
            self._give_up()
            raise

    async def _main(self) -> Any:
        lane = self.explored.lanes[0]
        if lane.scope is None:
            return await self._scenario(self.explored.race)
        with lane.scope:
            return await self._scenario(self.explored.race)

    def _explore(self, main: Any) -> None:
        run, steps = self.explored, self._next_steps
        task = main
        while True:
            callback, args, context = steps.pop(task)
            # SystemExit goes through the loop, but its task has it, too. No `with suppress` here:
            # this is the one place that every step of every search goes through.
            try:  # noqa: SIM105
                context.run(callback, *args)
            except SystemExit:
                pass
            if self._soon:
                self._drain(PASSES)
            if main.done():
                self._wake()  # it may have started what it leaves behind
                return
            lane = None
            while lane is None:
                if self._woken:
                    self._wake()
                lane = run.pick()
                if not run.going:
                    return
                if lane is None:
                    if not self._wait():
                        run.deadlock()
                        return
                elif lane.task is None:  # a canceller, which has made its step
                    lane = None
                    if self._soon:
                        self._drain(PASSES)
            task = lane.task

    def _drain(self, passes: int) -> None:
        for _ in range(passes):
            batch: list[Any] = self._soon
            self._soon = []
            for handle in batch:
                if handle._cancelled:
                    continue
                if self._tracker is not None and _is_repeated(handle):
                    self._tracker.look_away(handle._run)
                    continue
                # What handle._run() does, at half the price.
                try:
                    handle._context.run(handle._callback, *handle._args)
                except Exception as exc:
                    self.call_exception_handler({"message": f"{handle!r}", "exception": exc})
            if not self._soon:
                return

    def _wake(self) -> None:
        """Tell who can move now, in an order that does not depend on anyio's sets of tasks."""
        tasks, self._woken = self._woken, []
        known = self.explored.by_task
        if len(tasks) > 1:
            last = len(known)
            tasks.sort(key=lambda task: known[task].index if task in known else last)
        self.explored.wake(tasks)

    def _wait(self) -> bool:
        """Nobody can move: let time pass; say whether that changed anything."""
        self._drain(PASSES_WHEN_QUIET)
        timers = self._scheduled
        while timers and not self._woken:
            while timers and timers[0]._cancelled:
                heapq.heappop(timers)
            if timers and timers[0].when() >= FAR:
                return False
            if timers:
                self._now = max(self._now, timers[0].when())
                if self.explored.watch is not None:
                    self.explored.watch.jump(self._now)
            while timers and timers[0].when() <= self._now:
                timer = heapq.heappop(timers)
                if not timer._cancelled:
                    timer._run()
            self._drain(PASSES_WHEN_QUIET)
        return bool(self._woken)

    # -- the end of an execution ------------------------------------------------------------------

    def _clear_away(self, main: Any) -> None:
        """End what is left: the scenario first, and if that is not enough, every task."""
        for number in range(ROUNDS):
            self._run_freely()
            tasks = [main] if number == 0 else self._left()
            if not self._left():
                return
            for task in tasks:
                task.cancel()
        self._give_up()

    def _run_freely(self) -> None:
        """Let everybody go, first come, first served: nothing counts any more."""
        for _ in range(100):
            self._drain(PASSES)
            steps = list(self._next_steps.items())
            self._next_steps.clear()
            if not steps and not self._wait():
                break
            for _, (callback, args, context) in steps:
                with suppress(SystemExit):
                    context.run(callback, *args)
        self._woken.clear()

    def _left(self) -> list[Any]:
        self.explored.wake([task for task in self._woken if task not in self.explored.by_task])
        return [lane.task for lane in self.explored.lanes if not self.is_over(lane.task)]

    def _give_up(self) -> None:
        """Let lie what does not end; it must not speak up later."""
        for lane in self.explored.lanes:
            if not self.is_over(lane.task):
                lane.task._log_destroy_pending = False
                let_lie(lane.task)

    def _finish(self, main: Any) -> None:
        run = self.explored
        outcome, error = None, None
        if main.done() and not main.cancelled():
            error = main.exception()
            outcome = None if error else main.result()
        elif run.execution.failure is None:
            error = asyncio.CancelledError("the scenario ended by a cancellation nobody caught")
        for lane in run.lanes:
            if lane.task is not main and getattr(lane.task, "_log_traceback", False):
                error = lane.task.exception()  # which nobody has asked for
        run.finish(outcome, error)

    # -- what Run asks ----------------------------------------------------------------------------

    def is_over(self, task: Any) -> bool:
        """Whether a task has ended."""
        return task is None or task.done()

    def coroutine(self, task: Any) -> Any:
        """Return the outermost coroutine of a task."""
        return task.get_coro()

    def task_name(self, task: Any) -> str:
        """Return the name a task was given, or its function's."""
        name: str = task.get_name()
        if name.startswith("Task-") and name[5:].isdecimal():
            name = task.get_coro().__name__
        return name

    def can_cancel(self, lane: Lane) -> None:
        """Say what cancels a task: a scope, if anyio manages it, or the task itself."""
        if lane.name == MAIN:
            # Not anyio.CancelScope(), which asks what loop the task is on: there is none yet.
            lane.scope = anyio._backends._asyncio.CancelScope()
        else:
            assert self._scopes is not None
            lane.scope = self._scopes.get(lane.task.get_coro(), lane.task)

    def scopes(self, task: Any) -> Iterator[Any]:
        """Yield the cancel scopes of anyio's a task is in that can reach it, innermost first."""
        module: Any = anyio._backends._asyncio
        state = module._task_states.get(task)
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            yield scope
            scope = None if scope._shield else scope._parent_scope

    def group(self, task: Any) -> Any:
        """Return the task group a task is in; None if it is in none."""
        return task.group

    def ended_group(self, group: Any) -> Any:
        """Return the task that waited for a group, if its last task has just ended."""
        waited = group._on_completed_fut
        if group._tasks or waited is None or not waited.done():
            return None
        if isinstance(group, asyncio.TaskGroup):
            return getattr(group, "_parent_task", None)
        return group.cancel_scope._host_task


def _is_repeated(handle: Any) -> bool:
    """Whether a callback is anyio cancelling once more, which is no new access."""
    return getattr(handle._callback, "__name__", "") == "_deliver_cancellation"


def _is_anyios(coroutine: Coroutine[Any, Any, Any]) -> bool:
    code = getattr(coroutine, "cr_code", None)
    return code is not None and code.co_filename.startswith(anyio.__path__[0])


async def _within(scope: anyio.CancelScope, coroutine: Awaitable[Any]) -> Any:
    with scope:
        return await coroutine
