"""Plays a scenario against aiopde: one task for each actor, one step after the other."""

from __future__ import annotations

import warnings
from errno import EINTR
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aiopde import HandlerError, Kernel as Library, UseAfterFreeError

from . import _file_calls, _module_calls, _path_calls, _poll_calls, _vfs_calls
from ._actors import CURRENT, ERESTARTSYS, Actor, Process
from ._calls import CALLS, Caller, Machine
from ._file_calls import nop
from ._kernel import VERBS, Kernel
from ._machine import furnish
from ._quiet import quiet
from ._scenario import Answer, Step
from ._words import LEFT_OUT, Result, failed, number

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._scenario import Scenario

# Importing these is what fills CALLS.
_CALL_MODULES: Final = (_file_calls, _module_calls, _path_calls, _poll_calls, _vfs_calls)
WINDOW: Final = 150.0
"""Milliseconds for which nothing must happen before a step counts as played."""
DIRECTOR: Final = "-"
_DIRECTORS_VERBS: Final = frozenset({"fork", "signal", "blocked", "join"})
_SIGNALS: Final = frozenset({"USR1", "USR2", "KILL", "STOP", "CONT"})
SEES_DENTRIES: Final = frozenset({"fdlink", "readlink_fd", "getcwd"})
"""Verbs that show the kernel's cache of names, and change nothing: they are left out."""


def unplayable(scenario: Scenario) -> str | None:
    """Say why a scenario cannot be played at all, if so."""
    for step in scenario.steps:
        verb = step.verb
        if verb == "signal" and step.args["sig"] not in _SIGNALS:
            return f"signal {step.args['sig']} is not played"
        if verb not in CALLS and verb not in VERBS | _DIRECTORS_VERBS | SEES_DENTRIES:
            return f"{verb} is not played"
    return None


async def play(scenario: Scenario) -> list[Answer]:
    """Play a scenario, and return what each step did."""
    answers: list[Answer] = []
    with warnings.catch_warnings():
        # Some scenarios are mistakes, which the library says so of.
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        async with Library() as library, anyio.create_task_group() as tasks:
            furnish(library.proc)
            player = Player(library, tasks)
            try:
                answers += [await player.step(step) for step in scenario.steps]
            finally:
                await player.end()
    return answers


class Player:
    """The director, the actors it has made, and what they have finished."""

    def __init__(self, library: Library, tasks: TaskGroup) -> None:
        self.kernel = Kernel(library, tasks)
        self.machine = Machine(library.proc, self.kernel)
        self._tasks = tasks
        self._main = Process()
        self._finished: dict[int, Result] = {}
        CURRENT.set(Actor(DIRECTOR, self._main))

    def leaves_out(self, verb: str) -> bool:
        """Tell whether there is nothing here that a verb could show."""
        return verb in SEES_DENTRIES

    async def step(self, step: Step) -> Answer:
        """Hand a step to its actor, wait until nothing can move, and say what happened."""
        if self.leaves_out(step.verb):
            self._finished[step.number] = LEFT_OUT
        elif step.actor == DIRECTOR:
            self._finished[step.number] = await self._try_to_direct(step)
        else:
            self._actor(step.actor).hand(step)
        await self._let_pass(WINDOW)
        return self._answer(step)

    async def _let_pass(self, milliseconds: float) -> None:
        await quiet()
        self.machine.advance(milliseconds)
        await quiet()

    def _answer(self, step: Step) -> Answer:
        done, self._finished = self._finished, {}
        res = done.pop(step.number, {"pending": True})
        blocked = frozenset(actor.name for actor in self.machine.actors.values() if actor.busy)
        events, refusals = self.kernel.take_log()
        res = {key: value for key, value in res.items() if key != "actor"}
        return Answer(res, done, blocked, events, refusals)

    async def end(self) -> None:
        """End every call that still waits, and the actors."""
        self.kernel.let_go()
        await quiet()
        self._tasks.cancel_scope.cancel()

    # -- the director ----------------------------------------------------------------------------

    async def _try_to_direct(self, step: Step) -> Result:
        try:
            return await self._direct(step)
        except OSError as exc:
            return failed(exc.errno or 0)

    async def _direct(self, step: Step) -> Result:
        args = step.args
        match step.verb:
            case "fork":
                await self._fork(args["actor"])
                return {"ok": True}
            case "signal":
                self._signal(self._actor(args["actor"]), args["sig"])
                return {"ret": 0}
            case "blocked" | "join":
                await self._let_pass(number(args["ms"]))
                return {"blocked": self._actor(args["actor"]).busy}
            case verb:
                return await self.kernel.perform(verb, args)

    async def _fork(self, name: str) -> None:
        self._start(Actor(name, self._main.fork()))

    def _signal(self, actor: Actor, name: str) -> None:
        if actor.ended:
            return
        if name == "KILL" and not actor.busy:
            # Something to be killed in.
            actor.hand(implied(actor, "nop"))
        actor.signal(name)

    # -- the actors ------------------------------------------------------------------------------

    def _actor(self, name: str) -> Actor:
        if name not in self.machine.actors:
            self._start(Actor(name, self._main))
        return self.machine.actors[name]

    def _start(self, actor: Actor) -> None:
        self.machine.actors[actor.name] = actor
        self._tasks.start_soon(self._act, actor)

    async def _act(self, actor: Actor) -> None:
        CURRENT.set(actor)
        with actor.life:
            while not actor.ended:
                await self._take(actor, await actor.next_step())
        if not actor.ended:
            await self._die(actor)

    async def _take(self, actor: Actor, step: Step) -> None:
        await actor.while_stopped()
        result = await self._until_not_restarted(actor, step)
        if not actor.ended:
            await checkpoint_if_cancelled()
        self._finish(actor, result)

    async def _die(self, actor: Actor) -> None:
        result = await self._attempt(actor, implied(actor, "exit"))
        self._finish(actor, {"killed": "SIGKILL"} if "exited" in result else result)
        actor.steps.clear()

    def _finish(self, actor: Actor, result: Result) -> None:
        self._finished[actor.steps.popleft().number] = {"actor": actor.name} | result

    async def _until_not_restarted(self, actor: Actor, step: Step) -> Result:
        while True:
            result = await self._attempt(actor, step)
            signalled = actor.interrupts("intr")
            restart = await actor.deliver()
            if not signalled or result.get("errno") != str(ERESTARTSYS):
                return result
            if not restart:
                return failed(EINTR)

    async def _attempt(self, actor: Actor, step: Step) -> Result:
        try:
            if step.verb in VERBS:
                return await self.kernel.perform(step.verb, step.args)
            return await self._call(actor, step)
        except OSError as exc:
            if isinstance(exc, HandlerError) and exc.call == "open":
                self.kernel.refused(exc.errno or 0)
            return failed(exc.errno or 0)
        except UseAfterFreeError as exc:
            return {"freed": f"{exc.handler} of {exc.entry}", "module": exc.module}
        except Exception as exc:
            return {"raised": repr(exc)}

    async def _call(self, actor: Actor, step: Step) -> Result:
        return await CALLS.get(step.verb, nop)(Caller(self.machine, actor), step.args)


def implied(actor: Actor, verb: str) -> Step:
    """Make a step that no scenario has."""
    return Step(-1, actor.name, verb, {"code": "0"}, "", Answer({}))
