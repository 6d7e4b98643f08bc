"""What was given up must not speak up later, not even at the end of the interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import anyio
from anyio.lowlevel import checkpoint
from aiopde.testing import _selfcheck, explore

if sys.argv[2:]:
    _selfcheck.hook_works = lambda: False


async def stubborn(event):
    while not event.is_set():
        try:
            await event.wait()
        except BaseException:
            continue


async def scenario():
    async with anyio.create_task_group() as tg:
        tg.start_soon(stubborn, anyio.Event())
        tg.start_soon(checkpoint)


print(explore(scenario, backend=sys.argv[1]).failure.kind)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio", "trio turnstile"])
def test_the_interpreter_can_end(backend: str) -> None:
    """It would throw GeneratorExit into a coroutine that loops on whatever comes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *backend.split()],
        capture_output=True,
        text=True,
        timeout=25,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("deadlock\n", "")
