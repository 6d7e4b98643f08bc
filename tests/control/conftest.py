"""A kernel with a control socket, in this process."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopde import Kernel
from aiopde.control import connect, serve_control

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from aiopde.control import Client

    Serve = Callable[..., AbstractAsyncContextManager["Served"]]


class Served:
    """A kernel that is asked over its socket."""

    def __init__(self, kernel: Kernel, path: str, client: Client) -> None:
        self.kernel = kernel
        self.proc = kernel.proc
        self.path = path
        self.client = client
        self.ask = client.ask


async def until(condition: Callable[[], object]) -> None:
    """Return when it is true: when something has come over a socket, which no loop can tell."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Run a kernel with a control socket for the time of a block, and connect to it."""

    @asynccontextmanager
    async def serve(**how: Any) -> AsyncGenerator[Served]:
        async with anyio.create_task_group() as tg:
            async with Kernel(**how) as kernel:
                path = await tg.start(serve_control, kernel, os.path.join(tmp_path, "s"))
                async with await connect(path) as client:
                    yield Served(kernel, path, client)
            tg.cancel_scope.cancel()

    return serve
