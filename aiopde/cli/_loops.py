"""The event loops to choose from, and how a command runs on one."""

from __future__ import annotations

import signal
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from ._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

T = TypeVar("T")

LOOPS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
"""By the name a user knows: anyio's name of the backend, and its options."""


def run(main: Callable[[], Awaitable[T]], loop: str) -> T:
    """
    Run *main* on the loop of that name; return what it does, or raise that.

    Raises:
        CommandError: The loop is not installed.
        KeyboardInterrupt: Ctrl-C; *main* was cancelled, and has cleaned up.
    """
    results: list[T] = []
    errors: list[Exception] = []

    # Here, or the task group would wrap it.
    async def noted() -> None:
        try:
            results.append(await main())
        except Exception as exc:
            errors.append(exc)

    if start(partial(_run_until_interrupted, noted), loop):
        raise KeyboardInterrupt
    for error in errors:
        raise error
    return results[0]


def start(main: Callable[[], Awaitable[T]], loop: str) -> T:
    """
    Run *main*, which sees to Ctrl-C itself.

    Raises:
        CommandError: The loop is not installed.
    """
    if find_spec(loop) is None:
        msg = f"{loop} is not installed here: pip install 'aiopde[{loop}]', or take another loop"
        raise CommandError(msg)
    backend, options = LOOPS[loop]
    return anyio.run(main, backend=backend, backend_options=options)


# As a cancellation Ctrl-C comes at checkpoints, and every finally runs as on any other day. Left
# to Python it may come between any two instructions: after a count was raised, say, and before
# the try that would lower it.
async def _run_until_interrupted(main: Callable[[], Awaitable[None]]) -> bool:
    interrupted = False

    async def watch(*, task_status: TaskStatus[None]) -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            await anext(signals)
        # From here on a second Ctrl-C is Python's own: it ends also what cannot be cancelled.
        interrupted = True
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        await tasks.start(watch)
        await main()
        tasks.cancel_scope.cancel()
    return interrupted
