"""Readers that come and go while the module is reloaded."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import EntryRemovedError, File, Kernel, ProcOps
from tests.helpers import Handlers, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def version(number: int) -> Any:
    async def main(kernel: Kernel) -> AsyncIterator[None]:
        data: dict[str, bytes] = {}

        async def read(file: File, size: int, pos: int) -> bytes:
            assert data, "called before init was done, or after exit"
            await anyio.lowlevel.checkpoint()
            text = data[file.entry.name]
            return text[pos : pos + size]

        for name in ("a", "b"):
            kernel.proc.create(name, ProcOps(read=read))
            await anyio.lowlevel.checkpoint()
        data.update({name: f"{name} of version {number}".encode() for name in ("a", "b")})
        yield
        for name in ("b", "a"):
            await kernel.proc.remove(name)
            await anyio.lowlevel.checkpoint()
        data.clear()

    return main


async def test_no_reader_finds_the_name_missing() -> None:
    """
    Through a hundred reloads each open succeeds and each whole read is of one version.
    """
    seen: set[bytes] = set()
    stop = anyio.Event()

    async def reader(kernel: Kernel, name: str) -> None:
        while not stop.is_set():
            content = await kernel.proc.read_bytes(name)
            assert content.startswith(f"{name} of version ".encode())
            seen.add(content)

    async def keeps_it_open(kernel: Kernel) -> None:
        while not stop.is_set():
            async with await kernel.proc.open("a") as file:
                with suppress(EntryRemovedError):
                    version = await file.pread(100, 0)
                    while not stop.is_set():
                        assert await file.pread(100, 0) == version

    async with Kernel() as kernel:
        await kernel.insmod(version(1), "m")
        async with create_task_group() as tg:
            for name in ("a", "a", "b"):
                tg.start_soon(reader, kernel, name)
            tg.start_soon(keeps_it_open, kernel)
            for number in range(2, 102):
                await kernel.reload("m", version(number))
            stop.set()
        assert kernel.uses_after_free == 0
        assert len(seen) > 50
        assert len(kernel.lsmod()) == 1


async def test_a_file_stays_with_its_version() -> None:
    """
    A call inside goes on in the version that let it in; the file never reaches the other one.
    """
    old, new = Handlers(b"old"), Handlers(b"new")

    def main(handlers: Handlers) -> Any:
        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("x", handlers.ops("open", "read", "release"))
            yield
            await kernel.proc.remove("x")

        return main

    old.hold_up("read")
    async with Kernel() as kernel, create_task_group() as tg:
        await kernel.insmod(main(old), "m")
        file = await kernel.proc.open("x")
        read = await start(tg, file.read)
        reload = await start(tg, kernel.reload, "m", main(new))
        async with await kernel.proc.open("x") as other:
            assert await other.read() == b"new"
        old.let_go("read")
        await wait_all_tasks_blocked()
        assert (read.result, reload.done) == (b"old", True)
        await file.aclose()
        assert old.log == ["open 1", "read 1", "read 1 goes on", "release 1"]
        assert new.log == ["open 1", "read 1", "release 1"]
