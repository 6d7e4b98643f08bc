"""``aiopde run``: keeps a kernel alive, with modules, a control socket, and maybe a mount."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from aiopde import Kernel
from aiopde.control import Mounts, serve_control

from . import _loops
from ._errors import CommandError
from ._failure import Failure, describe, only_one
from ._text import calls, line_of
from .modules import is_file

if TYPE_CHECKING:
    import argparse

    from anyio.abc import TaskGroup, TaskStatus


DEMO: Final = "demo"
PROGRAMS: Final = {DEMO: str(Path(__file__).with_name("_demo.py"))}
"""The modules that any such kernel knows by name."""

WHAT_TO_TRY: Final = """\
No module was named, so this is a demonstration. In another shell:

  aiopde tree                  what there is
  aiopde cat -f demo/clock     follow a file that changes
  aiopde write demo/greeting 'good evening'
  aiopde cat demo/slow         takes 30 seconds; meanwhile, in a third shell:
  aiopde ps                    who is inside
  aiopde rmmod demo            waits for the one who is inside, and for nobody else
  aiopde why demo              tells what it waits for
  aiopde modprobe demo         loads it again
  aiopde mount /tmp/x          for ls, cat, grep -r; make an empty directory /tmp/x first
  aiopde top                   all of it, live

Ctrl-C unloads everything and ends this."""


def run(options: argparse.Namespace) -> int:
    """Run a kernel until Ctrl-C or SIGTERM; return the exit code."""
    logging.basicConfig(format="aiopde: %(message)s", level=logging.WARNING)
    sys.path.insert(0, os.getcwd())  # for import paths, as python -m does
    server = _Server(options)
    try:
        _loops.start(server.serve, options.backend)
    except ExceptionGroup as exc:
        raise Failure(only_one(exc)) from None
    if server.failure is not None:
        raise server.failure
    return 0


class _Server:
    """A kernel, and what it is seen by."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._modules: list[str] = options.modules or [DEMO]
        self._mount: str | None = options.mount and os.path.abspath(options.mount)
        self.failure: CommandError | None = None
        """Why it did not come to live."""

    async def serve(self) -> None:
        """Load, tell, wait for a signal, unload."""
        kernel = Kernel(modules=PROGRAMS, module_path=self._options.module_path)
        # The socket is around the kernel: while it is left, one can ask what it waits for.
        async with anyio.create_task_group() as tg:
            async with kernel:
                life = anyio.CancelScope()
                await tg.start(_watch_signals, kernel, life)
                with life:
                    try:
                        # Before the kernel: who is inside by a mount does not hold it up.
                        async with Mounts(kernel.proc) as mounts:
                            await self._live(kernel, mounts, tg)
                    except CommandError as exc:
                        self.failure = exc
                _tell_waiting(kernel)
            tg.cancel_scope.cancel()

    async def _live(self, kernel: Kernel, mounts: Mounts, tg: TaskGroup) -> None:
        try:
            socket = await tg.start(serve_control, kernel, self._options.control, mounts)
        except OSError as exc:
            raise CommandError(describe(exc)) from None
        for name in self._modules:
            await self._load(kernel, name)
        if self._mount is not None:
            await _mount(mounts, self._mount)
        self._announce(socket)
        await anyio.sleep_forever()

    async def _load(self, kernel: Kernel, name: str) -> None:
        try:
            if self._is_known(name):
                await kernel.modprobe(name)
            else:
                await kernel.insmod(name)
        except Exception as exc:  # whatever its init raises
            raise Failure(exc) from None

    def _is_known(self, name: str) -> bool:
        folders = [Path(folder) for folder in self._options.module_path]
        found = name in PROGRAMS or any((folder / f"{name}.py").is_file() for folder in folders)
        return found and not is_file(name)

    def _announce(self, socket: str) -> None:
        options = self._options
        if options.json:
            told = {"pid": os.getpid(), "control": socket, "mount": self._mount}
            print(json.dumps(told | {"modules": self._modules}), flush=True)
            return
        print(f"Kernel of process {os.getpid()}, on {options.backend}: {', '.join(self._modules)}")
        print(f"Its control socket is {socket}")
        if self._mount is not None:
            print(f"Its tree is mounted at {self._mount}")
        if options.control is not None:
            print(f"Tell other shells: export AIOPDE_CONTROL={socket}")
        print(f"\n{WHAT_TO_TRY}" if not options.modules else "Ctrl-C ends it.", flush=True)


async def _mount(mounts: Mounts, path: str) -> None:
    try:
        await mounts.mount(path)
    except (ImportError, OSError, ExceptionGroup) as exc:
        msg = f"cannot mount at {path}: {describe(only_one(exc))}"
        raise CommandError(msg) from None


async def _watch_signals(
    kernel: Kernel, life: anyio.CancelScope, *, task_status: TaskStatus[None]
) -> None:
    """End it at the first signal, tell who is inside at the second; the third kills."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        await anext(signals)
        life.cancel()
        await anext(signals)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    print(_still_there(kernel), file=sys.stderr)


def _tell_waiting(kernel: Kernel) -> None:
    inside = len(kernel.proc.holders())
    if inside:
        hint = "Ctrl-C again tells who; a third one ends without them"
        print(f"aiopde: waiting for {calls(inside)} to end ({hint})", file=sys.stderr)


def _still_there(kernel: Kernel) -> str:
    lines = [
        f"aiopde: {holder.op} of {holder.path} by {holder.task!r}, at {line_of(holder.stack)}"
        for holder in kernel.proc.holders()
    ]
    names = ", ".join(info.name for info in kernel.lsmod())
    return "\n".join(lines) or f"aiopde: no call is inside; still unloading: {names or 'nothing'}"
