"""Plays a scenario by real system calls on a mount, made by threads of other processes."""

from __future__ import annotations

import signal
import warnings
from typing import TYPE_CHECKING, Final

import anyio

from aiopde import Credentials, Kernel as Library

from ._actors import Actor, Process
from ._ground import SECONDS_TO_HANG, Ground, ground
from ._machine import furnish
from ._player import Player, implied
from ._quiet import quiet
from ._remote import Remote
from ._words import number

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._scenario import Answer, Scenario, Step
    from ._words import Result

_SERVERS_VERBS: Final = frozenset({"insmod", "rmmod", "modstate"})
_MADE: Final = {"open": "fd", "reopen": "as", "dup": "as", "epoll_create": "ep"}
"""By verb: what it calls the descriptor it makes."""
_NOT_OPEN: Final = 400
"""A number no descriptor has."""
_PAUSE: Final = 0.0003


async def play(scenario: Scenario) -> list[Answer]:
    """Play a scenario, and return what each step did."""
    answers: list[Answer] = []
    twice = any("/proc2" in path for step in scenario.steps for path in step.args.values())
    names = ["proc", "proc2"] if twice else ["proc"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", ResourceWarning)
        async with Library() as library:
            furnish(library.proc)
            async with ground(library.proc, names) as there, anyio.create_task_group() as tasks:
                player = MountPlayer(library, tasks, there)
                try:
                    answers += [await player.step(step) for step in scenario.steps]
                finally:
                    await player.end()
    return answers


class MountPlayer(Player):
    """The director of actors that are threads and processes."""

    def __init__(self, library: Library, tasks: TaskGroup, there: Ground) -> None:
        super().__init__(library, tasks)
        self._there = there
        there.tell_refused_opens(self.kernel)

    def leaves_out(self, verb: str) -> bool:
        """Leave nothing out: there is a cache of names."""
        return False

    async def _let_pass(self, milliseconds: float) -> None:
        await self._settle()
        if any(actor.timed for actor in self._actors if actor.calling):
            await anyio.sleep(milliseconds / 1000)
        self.machine.advance(milliseconds)
        await self._settle()

    async def _settle(self) -> None:
        with anyio.fail_after(SECONDS_TO_HANG):
            while True:
                await quiet()
                if self._still():
                    return
                await anyio.sleep(_PAUSE)

    @property
    def _actors(self) -> list[Remote]:
        return [actor for actor in self.machine.actors.values() if isinstance(actor, Remote)]

    # What may go on is a thread that does not sleep, the kernel that asks, and what is in a pipe.
    # If no thread has run while we looked at the others, there was a moment when all slept.
    def _still(self) -> bool:
        calling = [actor for actor in self._actors if actor.calling]
        before = [actor.asleep() for actor in calling]
        if not all(before) or self._there.asked():
            return False
        if any(actor.ready() for actor in self._actors if not actor.ended):
            return False
        return before == [actor.asleep() for actor in calling]

    async def _fork(self, name: str) -> None:
        actor = Remote(name, Process())
        await self._there.worker.start(actor, "fork")
        self._start(actor)

    def _actor(self, name: str) -> Actor:
        if name not in self.machine.actors:
            self._start(Remote(name, self._main))
        return self.machine.actors[name]

    async def _act(self, actor: Actor) -> None:
        assert isinstance(actor, Remote)
        if not actor.pid:
            actor.calling = True
            await self._there.worker.start(actor, "thread")
            actor.calling = False
        await super()._act(actor)

    def _signal(self, actor: Actor, name: str) -> None:
        assert isinstance(actor, Remote)
        if actor.ended:
            return
        actor.kill(getattr(signal, f"SIG{name}"))
        if name == "KILL" and not actor.busy:
            actor.hand(implied(actor, "nop"))
        # In a call of its own it is in the kernel's hands; in one we make for it, in ours.
        if not actor.calling:
            actor.signal(name)

    async def _die(self, actor: Actor) -> None:
        assert isinstance(actor, Remote)
        actor.calling = True
        await anyio.wait_readable(actor.pidfd)
        actor.calling = False
        actor.ended = True
        self._finish(actor, {"killed": "SIGKILL"})
        actor.steps.clear()

    async def _call(self, actor: Actor, step: Step) -> Result:
        assert isinstance(actor, Remote)
        if step.verb in _SERVERS_VERBS:
            return await super()._call(actor, step)
        args = {**step.args}
        for key in {"fd", "at", "ep"} - {_MADE.get(step.verb)}:
            if key in args:
                args[key] = str(self.machine.fds.get(args[key], _NOT_OPEN))
        actor.timed = number(args.get("timeout", "0")) > 0
        result = await actor.call(step.verb, args)
        return _ended(actor, step) if result is None else self._learn(actor, step, result)

    def _learn(self, actor: Actor, step: Step, result: Result) -> Result:
        if "made" in result:
            self.machine.fds[step.args[_MADE[step.verb]]] = result.pop("made")
        if step.verb == "setuid":
            actor.cred = Credentials(uid=number(step.args["uid"]))
        return result


def _ended(actor: Remote, step: Step) -> Result:
    """Say how a process has come to its end."""
    actor.ended = True
    if step.verb == "exit":
        return {"exited": number(step.args["code"])}
    return {"killed": "SIGKILL"} if actor.killed else {"raised": "the process has died of it"}
