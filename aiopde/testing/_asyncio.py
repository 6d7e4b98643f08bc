"""Complete control of asyncio: an event loop whose queue is ours, with a virtual clock."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import sys
import threading
from asyncio import Handle
from contextlib import suppress
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias, final

from ._aiotasks import Tasks
from ._aiowatch import WatchedFuture, WatchedTask
from ._lane import MAIN
from ._lying import let_lie
from ._outside import THREAD, no_threads_of_anyio, refuse, tasks_only
from ._run import Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._execution import Search, Settings
    from ._lane import Lane
    from ._race import Race
    from ._tracker import Tracker

FAR = 1e300
"""A timer from here on never comes."""
PASSES = 3
"""How often per step we run what was called soon: a cancelled scope of anyio calls for ever."""
PASSES_WHEN_QUIET = 20
"""The same where no task can move, before we believe that this stays so."""
ROUNDS = 10
"""How often we ask what is left of an execution to end, before we give it up."""

_index = attrgetter("index")
_EVENT_WAIT = asyncio.Event.wait.__code__
_Step: TypeAlias = tuple["Callable[..., object]", tuple[Any, ...], contextvars.Context]


@final
class _Soon(Handle):
    """A handle that does not ask the loop whether to remember where it was made."""

    __slots__ = ()

    def __init__(self, callback: Any, args: Any, loop: Loop, context: Any) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None


@final
@tasks_only
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
        self._born: list[tuple[Any, _Step]] = []
        """Tasks that have no lane yet, and their first steps."""
        self._lane_of: Callable[[Any], Lane | None] = _nobody
        self._ready: list[Lane] = []
        """Who can move, as the explorer knows it; who comes to can is added here."""
        self._step_kind: type | None = None
        """What asyncio's C part calls for the step of a task, once we have seen it."""
        self._tasks = Tasks()
        self._victims = bool(settings.cancel)
        """Whether cancellation is a choice."""
        self._scheduled: list[asyncio.TimerHandle]
        self._thread_id: int | None
        self._task_factory: object
        self._tracker: Tracker | None = None
        self._context = contextvars.copy_context()
        self.explored = Run(search, settings, self._tasks)

    def drive(self) -> str:
        """Run executions until the search is over; return its verdict."""
        try:
            with no_threads_of_anyio(self):
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
        if kind is self._step_kind or (kind is not FunctionType and self._is_step(callback, kind)):
            lane = self._lane_of(callback.__self__)
            if lane is None:
                self._born.append((callback.__self__, (callback, args, context)))
            else:
                lane.step = callback, args, context
                self._ready.append(lane)
            return None
        handle = _Soon(callback, args, self, context)
        self._soon.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        """Note a callback, or refuse another thread's: that would wait for its answer for ever."""
        if threading.get_ident() != self._thread_id:
            refuse(self.explored, THREAD, "call_soon_threadsafe()")
        return self.call_soon(callback, *args, context=context)

    def _is_step(self, callback: Any, kind: type) -> bool:
        """Whether a callback with a task as its ``__self__`` is that task's next step."""
        if kind is BuiltinFunctionType:
            return bool(callback.__name__ == "task_wakeup")
        if kind is MethodType:  # asyncio without its C part
            return callback.__name__ in ("__step", "__wakeup")
        if kind.__name__ == "TaskStepMethWrapper":
            self._step_kind = kind
            return True
        return False

    def create_task(self, coro: Any, **kwargs: Any) -> Any:
        """Create a task; where it can be a victim, one that anyio manages gets its own scope."""
        if self._victims:
            coro = self._tasks.cancellable(coro)
        if self._tracker is not None:
            return WatchedTask(self._tracker, coro, loop=self, **kwargs)
        if self._task_factory is None:
            return asyncio.Task(coro, loop=self, **kwargs)
        return super().create_task(coro, **kwargs)

    def create_future(self) -> Any:
        """Create a future. Those an event's waiters have for themselves are nobody's business."""
        if self._tracker is not None and sys._getframe(1).f_code is not _EVENT_WAIT:
            return WatchedFuture(self._tracker, self)
        future: asyncio.Future[Any] = asyncio.Future(loop=self)
        return future

    def call_exception_handler(self, context: Any) -> None:
        """Fail the execution for what a callback raised; nobody else would hear of it."""
        error = context.get("exception")
        if self.explored.going and error is not None:
            self.explored.fail("exception", f"{context['message']}: {error!r}", error)

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
        self._tasks.forget()
        self._tracker = getattr(run.upcoming_watch, "tracker", None)
        self._lane_of = _nobody
        context = self._context.copy()
        if self._tracker is None:
            main: Any = asyncio.Task(self._main(), loop=self, name=MAIN, context=context)
        else:
            main = self.create_task(self._main(), name=MAIN, context=context)
        run.begin(main)
        self._lane_of, self._ready = run.by_task.get, run.ready
        _, run.lanes[0].step = self._born.pop()
        self._born.clear()
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
        run, ready = self.explored, self._ready
        lane: Lane | None = run.lanes[0]
        while lane is not None:
            others = len(ready)
            callback, args, context = lane.step
            # SystemExit goes through the loop, but its task has it, too. No `with suppress` here:
            # this is the one place that every step of every search goes through.
            try:  # noqa: SIM105
                context.run(callback, *args)
            except SystemExit:
                pass
            if self._soon:
                self._drain(PASSES)
            if self._born or len(ready) - others > 1 or run.watch is not None:
                self._wake(others)
            if main.done():
                return
            others = len(ready)
            lane = run.pick()
            if lane is None or lane.task is None:
                lane = self._pick_again(lane, others)

    def _pick_again(self, lane: Lane | None, others: int) -> Lane | None:
        """Go on where nobody can move, or a canceller has made its step; None at the end."""
        run = self.explored
        while run.going:
            if lane is not None:
                self._drain(PASSES)
            elif not self._wait():
                run.deadlock()
                break
            self._wake(others)
            others = len(self._ready)
            lane = run.pick()
            if lane is not None and lane.task is not None:
                return lane
        return None

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

    def _wake(self, others: int) -> None:
        """Put who came to be ready beside *others* in an order that no set of anyio's decides."""
        run, ready = self.explored, self._ready
        if len(ready) - others > 1:
            ready[others:] = sorted(ready[others:], key=_index)
        for task, step in self._born:
            lane = run.adopt(task)
            lane.step = step
            ready.append(lane)
        self._born.clear()
        if run.watch is not None:
            run.woken += ready[others:]

    def _wait(self) -> bool:
        """Nobody can move: let time pass; say whether that changed anything."""
        self._drain(PASSES_WHEN_QUIET)
        timers = self._scheduled
        while timers and not (self._born or self._ready):
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
        return bool(self._born or self._ready)

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
            self._wake(len(self._ready))
            steps = [lane.step for lane in self._ready]
            self._ready.clear()
            if not steps and not self._wait():
                break
            for callback, args, context in steps:
                with suppress(SystemExit):
                    context.run(callback, *args)

    def _left(self) -> list[Any]:
        self._wake(len(self._ready))
        return [lane.task for lane in self.explored.lanes if not self._tasks.is_over(lane.task)]

    def _give_up(self) -> None:
        """Let lie what does not end; it must not speak up later."""
        for lane in self.explored.lanes:
            if not self._tasks.is_over(lane.task):
                lane.task._log_destroy_pending = False
                let_lie(lane.task)

    def _finish(self, main: Any) -> None:
        run = self.explored
        if run.error is not None:
            raise run.error
        outcome, error = None, None
        if main.done() and not main.cancelled():
            error = main.exception()
            outcome = None if error else main.result()
        elif run.execution.failure is None:
            error = asyncio.CancelledError("the scenario ended by a cancellation nobody caught")
        for task in run.by_task:
            if task._log_traceback and task is not main:
                error = task.exception()  # which nobody has asked for
        run.finish(outcome, error)


def _nobody(task: object) -> None:
    """Find the lane of a task before there is any."""


def _is_repeated(handle: Any) -> bool:
    """Whether a callback is anyio cancelling once more, which is no new access."""
    return getattr(handle._callback, "__name__", "") == "_deliver_cancellation"
