"""
Complete control of trio, by the hook that its own test support uses for determinism.

All that touches trio's private parts is here: ``_r`` and ``_ALLOW_DETERMINISTIC_SCHEDULING`` of
``trio._core._run``, the runner's queue and a few attributes of a task. With the flag set, trio
hands each batch of runnable tasks to ``_r.shuffle()``; ours shortens it to the one that was chosen.
After that task's step an instrument puts the next one into the same batch, so that a whole
execution, and the one after it, are one turn of trio's loop. Whether a release of trio still works
like that is found out by counting; where it does not, see _turnstile.py.
"""

from __future__ import annotations

import contextvars
import math
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, final

from ._backend import Abandoned
from ._causes import is_interrupt
from ._lying import let_lie
from ._outside import no_threads_of_trio
from ._run import Run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator

    from ._execution import Search, Settings
    from ._lane import Lane
    from ._race import Race

BREATH = 1_000
"""After how many steps trio's own loop gets a turn: it sees to Ctrl-C and to real I/O."""
FAR = 1e300
"""A deadline from here on never comes."""

PATIENCE = 200
"""How many steps what is left of an execution may make before it is asked again to end."""

ROUNDS = 10
"""How often it is asked, before we give it up."""

_birth = attrgetter("_counter")


@final
class VirtualClock:
    """Stands still while anybody can move, and then jumps to the next deadline."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.now = 0.0

    def start_clock(self) -> None:
        """Begin to count; trio calls it."""

    def current_time(self) -> float:
        """Return the virtual time, in seconds."""
        return self.now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump; trio calls it where no task can move: the one place that can tell a deadlock."""
        if self._driver.somebody_waits_for_quiet():
            return math.inf  # trio wakes him first, and at once
        if deadline < FAR:
            self.now = max(self.now, deadline)
            self._driver.jumped()
            return 0
        return self._driver.stuck()


@final
class Shuffle:
    """Stands in for the random generator of trio's loop while ours is on."""

    def __init__(self, driver: Driver, original: Any) -> None:
        self._driver = driver
        self._original = original

    def shuffle(self, batch: list[Any]) -> None:
        """Leave one task in the batch; another thread's trio keeps its own way."""
        if self._driver.is_here():
            self._driver.batch_begins(batch)
        else:
            self._original.shuffle(batch)

    def __getattr__(self, name: str) -> Any:
        """Pass on what trio may want besides, as another thread's does that begins."""
        return getattr(self._original, name)


@final
class Driver:
    """Runs executions in one ``trio.run``, each step as a :class:`Run` says."""

    def __init__(
        self, scenario: Callable[[Race], Awaitable[Any]], search: Search, settings: Settings
    ) -> None:
        import trio

        self._trio: Any = trio
        self._module: Any = self._trio._core._run
        self._scenario = scenario
        self._clock = VirtualClock(self)
        self._batch: list[Any] = []
        """Trio's list of who moves next."""
        self._hooked_in = False
        """Whether trio has shown us that list."""
        self._runner: Any = None
        self._runq: Any = None
        self._host: Any = None
        self._outside: Any = None
        """What a task is in that is in no scope of the scenario."""
        self._newest_of_trio = 0
        self._breath = BREATH
        self._held: Lane | None = None
        self._rounds = 0
        """How often what is left of the execution was asked to end."""
        self._gave_up = False
        """Whether something of this run of trio was left where it was."""
        self._patience = 0
        """How many more steps it may make before it is asked again."""
        self.run = Run(search, settings, self)

    def drive(self) -> str:
        """Run executions until the search is over; return its verdict."""
        with self._hooked(), no_threads_of_trio(self.run):
            while not self.run.over:
                self._run_trio()
        return self.run.verdict

    def _run_trio(self) -> None:
        self._hooked_in = False  # of another run of trio it has the list, which nobody looks at now
        try:
            self._trio.run(self._be_host, clock=self._clock, instruments=[self])
        except (RuntimeError, self._trio.TrioInternalError):
            # What was given up may be in places where trio looks for it in vain.
            if not self._gave_up:
                raise
        self._gave_up = False
        if not self.run.idle:
            self.run.finish(None, None)  # the host did not end, but was replaced

    @contextmanager
    def _hooked(self) -> Generator[None]:
        module = self._module
        before = module._r, module._ALLOW_DETERMINISTIC_SCHEDULING
        module._r = Shuffle(self, module._r)
        module._ALLOW_DETERMINISTIC_SCHEDULING = True
        try:
            yield
        finally:
            module._r, module._ALLOW_DETERMINISTIC_SCHEDULING = before

    # -- the host: the scenario runs in its task --------------------------------------------------

    async def _be_host(self) -> None:
        self._runner = self._module.GLOBAL_RUN_CONTEXT.runner
        self._runq = self._runner.runq
        self._newest_of_trio = max(task._counter for task in self._runner.tasks)
        self._host = host = self._trio.lowlevel.current_task()
        self._outside = host._cancel_status
        context = contextvars.copy_context()
        while not self.run.over:
            # What a scenario sets in its context is gone for the next one.
            host.context = context.copy()
            await self._trio.lowlevel.cancel_shielded_checkpoint()
            await self._execute()

    async def _execute(self) -> None:
        run = self.run
        outcome, error = None, None
        self._clock.now = 0.0
        self._rounds = 0
        self._patience = 0
        run.begin(self._host)
        try:
            main = run.lanes[0]
            if main.scope is None:
                outcome = await self._scenario(run.race)
            else:
                with main.scope:
                    outcome = await self._scenario(run.race)
        except BaseException as exc:
            error = exc
        if run.going and self._runq:
            self._wake(None)  # it may have started what it leaves behind
        while not run.end():
            await self._trio.lowlevel.cancel_shielded_checkpoint()
        if run.error is not None:
            raise run.error
        if error is not None and is_interrupt(error):
            raise KeyboardInterrupt from error
        run.finish(outcome, error)

    # -- the loop ---------------------------------------------------------------------------------

    def is_here(self) -> bool:
        """Whether this is the thread of our run."""
        return getattr(self._module.GLOBAL_RUN_CONTEXT, "runner", None) is self._runner is not None

    def somebody_waits_for_quiet(self) -> bool:
        """Whether a task is in ``wait_all_tasks_blocked()``."""
        return bool(self._runner is not None and self._runner.waiting_for_idle)

    def jumped(self) -> None:
        """Tell that the clock was set forward."""
        if self.run.watch is not None:
            self.run.watch.jump(self._clock.now)

    def stuck(self) -> float:
        """Nobody can move, and no deadline will change that."""
        if self.run.idle or self.is_over(self._host):
            return math.inf
        if self.run.going:
            self.run.deadlock()
        while not self._runq:
            self._clear_away()
        return 0

    def batch_begins(self, batch: list[Any]) -> None:
        """Trio's loop has had its turn; *batch* is all that can move."""
        self._batch = batch
        self._hooked_in = True
        if self.run.going:
            self._runq.extendleft(reversed(batch))
            batch.clear()
            self._refill()

    def after_task_step(self, task: object) -> None:
        """Put the next task into the batch; trio's hook after each step."""
        if self._hooked_in and not self._batch:
            self._go_on()

    def _go_on(self) -> None:
        try:
            if self.run.going:
                self._refill()
            if not self.run.going:
                self._flush()
        except BaseException as exc:
            # What is raised in here would only switch the hook off.
            self.run.break_off(exc)
            self._flush()

    def _refill(self) -> None:
        run = self.run
        lane, self._held = self._held, None
        while True:
            if self._runq:
                self._wake(lane)
            if self._batch:
                self._held = lane
                return
            lane = lane or run.pick()
            if lane is None or lane.task is not None:
                break
            lane = None
        if lane is not None:
            self._breath -= 1
            if self._breath:
                self._batch.append(lane.task)
            else:
                self._breath = BREATH
                self._held = lane
                self._runq.append(lane.task)

    def _wake(self, held: Lane | None) -> None:
        """Tell who can move now, in an order that does not depend on trio's sets of tasks."""
        tasks = list(self._runq)
        self._runq.clear()
        if len(tasks) > 1:
            tasks.sort(key=_birth)
        if tasks[0]._counter <= self._newest_of_trio or held is not None:
            tasks = self._without_trios(tasks, held)
        self.run.wake(tasks)

    def _without_trios(self, tasks: list[Any], held: Lane | None) -> list[Any]:
        """Let trio's own tasks move at once; leave out the one that was chosen already."""
        chosen = None if held is None else held.task
        ours: list[Any] = []
        for task in tasks:
            if task is self._host or task._counter > self._newest_of_trio:
                if task is not chosen:
                    ours.append(task)
            else:
                self._batch.append(task)
        return ours

    def _flush(self) -> None:
        """Let everybody go, in trio's order: nothing counts any more."""
        self._patience -= 1
        if self._patience < 0 and not self.run.idle:
            self._clear_away()
        self._runq.extend(lane.task for lane in self.run.ready if lane.task is not None)
        self.run.ready.clear()
        if self._breath > 1:
            self._breath -= 1
            self._batch.extend(self._runq)
            self._runq.clear()
        else:
            self._breath = BREATH

    def _clear_away(self) -> None:
        """End what is left: the scenario first, and if that is not enough, every task."""
        self._patience = PATIENCE
        self._rounds += 1
        lanes = self.run.lanes if self._rounds > 1 else self.run.lanes[:1]
        tasks = [lane.task for lane in lanes if not self.is_over(lane.task)]
        if self._rounds > ROUNDS and tasks:
            self._replace(tasks[-1])  # the youngest: whoever waits for it is waked by its end
            return
        for task in tasks:
            # A system task that ends with an error ends trio's run.
            self._gave_up |= task.parent_nursery is self._runner.system_nursery
            if task._abort_func is not None:
                task._attempt_abort(_abandon)
            elif task._next_send is not None and self._rounds > 1:
                task._next_send = self._module.capture(_abandon)

    def _replace(self, task: Any) -> None:
        """End a task that heeds nothing, by giving it something else to do; trio.run ends, too."""
        self._gave_up = True
        let_lie(task.coro)
        task.coro = _nothing()
        if task._next_send_fn is None:
            self._runner.reschedule(task)
        task._next_send_fn, task._next_send = task.coro.send, None

    # -- what Run asks ----------------------------------------------------------------------------

    def is_over(self, task: Any) -> bool:
        """Whether a task has ended."""
        return task is None or task.coro.cr_frame is None

    def coroutine(self, task: Any) -> Any:
        """Return the outermost coroutine of a task."""
        return task.coro

    def task_name(self, task: Any) -> str:
        """Return the name a task was given, or its function's."""
        return task.name  # type: ignore[no-any-return]

    def can_cancel(self, lane: Lane) -> None:
        """Put a new task into a scope of its own; the scenario's is entered by the host."""
        lane.scope = self._trio.CancelScope()
        task = lane.task
        if task is not self._host:
            task.coro = _within(lane.scope, task.coro)
            task._next_send_fn = task.coro.send

    def scopes(self, task: Any) -> Iterator[Any]:
        """Yield the cancel scopes a task is in that can reach it, innermost first."""
        status = task._cancel_status
        while status is not None and status is not self._outside:
            yield status._scope
            status = None if status._scope._shield else status._parent

    def group(self, task: Any) -> Any:
        """Return the nursery a task is in; None for the scenario's own."""
        return None if task is self._host else task.parent_nursery

    def ended_group(self, group: Any) -> Any:
        """Return the task that waited for a nursery, if its last task has just ended."""
        return group.parent_task if group._closed else None


async def _within(scope: Any, coroutine: Awaitable[Any]) -> Any:
    with scope:
        return await coroutine


async def _nothing() -> None:
    pass


def _abandon() -> NoReturn:
    raise Abandoned
