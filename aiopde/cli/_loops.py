"""The event loops to choose from, and how a command runs on one."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import anyio

from ._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

LOOPS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
"""By the name a user knows: anyio's name of the backend, and its options."""


def run(main: Callable[[], Awaitable[None]], loop: str) -> None:
    """
    Run *main* on the loop of that name.

    Raises:
        CommandError: The loop is not installed.
        KeyboardInterrupt: Ctrl-C; *main* was cancelled, and has cleaned up.
    """
    if find_spec(loop) is None:
        msg = f"{loop} is not installed here: pip install 'aiopde[{loop}]', or take another loop"
        raise CommandError(msg)
    backend, options = LOOPS[loop]
    if anyio.run(_run_until_interrupted, main, backend=backend, backend_options=options):
        raise KeyboardInterrupt


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
