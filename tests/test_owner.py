"""Whose code runs, and whose is what it registers: `this_module`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from aiopde import File, Kernel, Module, ProcFS, ProcOps, this_module
from tests.drivers import empty

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TestThisModule:
    async def test_in_init_exit_and_background(self) -> None:
        """
        It is the module, in all of the module's own code.
        """
        seen: list[Module] = []

        async def task() -> None:
            seen.append(this_module())

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            seen.append(this_module())
            this_module().start_soon(task)
            yield
            seen.append(this_module())

        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            await wait_all_tasks_blocked()
            await kernel.rmmod("main")
        assert seen == [module] * 3

    async def test_elsewhere(self) -> None:
        """
        Elsewhere there is none; neither is a module's context left in who loads it.
        """
        async with Kernel() as kernel:
            await kernel.insmod(empty)
            with pytest.raises(RuntimeError, match="init, exit, background tasks and"):
                this_module()
            await kernel.rmmod("empty")
            with pytest.raises(RuntimeError, match="init, exit, background tasks and"):
                this_module()

    @pytest.mark.parametrize("plain", [False, True])
    async def test_in_a_handler(self, *, plain: bool) -> None:
        """
        A handler runs in its caller's task and context, and is its own module's code all the same.
        """
        seen: list[Module] = []

        def plain_read(file: File, size: int, pos: int) -> bytes:
            seen.append(this_module())
            return b""

        async def read(file: File, size: int, pos: int) -> bytes:
            await anyio.lowlevel.checkpoint()
            return plain_read(file, size, pos)

        async def release(file: File) -> None:
            seen.append(this_module())

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            ops = ProcOps(read=plain_read if plain else read, release=release)
            async with kernel.proc.create("x", ops):
                yield

        async def other(kernel: Kernel) -> AsyncIterator[None]:
            await kernel.proc.read_bytes("x")
            async with await kernel.proc.open("x") as file:
                await file.read()
            yield

        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            await kernel.insmod(other)
            assert seen == [module] * 4
            await kernel.proc.read_bytes("x")
            assert seen == [module] * 6

    async def test_in_a_handler_of_the_program(self) -> None:
        """
        A handler that belongs to no module is none of the module's that calls it.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            with pytest.raises(RuntimeError, match="init, exit, background tasks and"):
                this_module()
            return b"told"[pos : pos + size]

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            for tree in (kernel.proc, other):
                assert await tree.read_bytes("x") == b"told"
            yield

        async with Kernel() as kernel, ProcFS() as other:
            for tree in (kernel.proc, other):
                tree.create("x", ProcOps(read=read))
            await kernel.insmod(main)
