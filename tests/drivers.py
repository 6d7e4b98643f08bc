"""Modules to load, for the tests of kernels: one with an entry and a log, and how to read both."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from aiopde import Kernel, depends
from tests.helpers import Handlers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator


FORCE = os.O_TRUNC | os.O_NONBLOCK


async def empty(kernel: Kernel) -> AsyncIterator[None]:
    yield


def fail(exc: Exception) -> None:
    """Raise it; not known to, so that a ``yield`` after it makes sense."""
    raise exc


class Driver:
    """The module `pdemod` of the recordings: an entry of its name, and a log."""

    def __init__(self) -> None:
        self.handlers = Handlers(b"pdemod says hello\n")
        self.log = self.handlers.log
        self.init_may_end = anyio.Event()
        self.init_may_end.set()

    async def main(
        self, kernel: Kernel, name: str = "pdemod", fail_init: int = 0
    ) -> AsyncIterator[None]:
        self.log.append("init")
        kernel.proc.create(name, self.handlers.ops("open", "read", "release"))
        await self.init_may_end.wait()
        if fail_init:
            await kernel.proc.remove(name)
            fail(OSError(fail_init, "as the parameter says"))
        yield
        self.log.append("exit")
        await kernel.proc.remove(name)
        self.log.append("exit ends")


async def pdemod(kernel: Kernel) -> AsyncGenerator[str, None]:
    yield "a symbol"


@depends("pdemod")
async def pdedep(kernel: Kernel) -> AsyncIterator[None]:
    module = kernel.find_module("pdemod")
    assert module is not None
    assert module.exports == "a symbol"
    yield


async def permanent(kernel: Kernel) -> None:
    kernel.proc.mkdir("permanent")


def needing(*names: str) -> Any:
    """Make a module that depends on others."""
    return depends(*names)(asynccontextmanager(pdemod))


def lines(kernel: Kernel) -> list[str]:
    """What lsmod tells, without the sizes."""
    return [f"{i.name} {i.refcnt} {','.join(i.used_by)} {i.state.value}" for i in kernel.lsmod()]
