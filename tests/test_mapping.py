"""What mmap returns: a hold on the open file, until it is closed."""

from __future__ import annotations

import mmap
import os
from errno import EACCES, EINVAL, EIO, ENODEV

import pytest
from anyio import CancelScope, create_task_group
from anyio.abc import AsyncResource

from aiopde import ProcFS, ProcOps
from tests.helpers import Handlers, all_blocked, answering, opened, refused, start, state, too_late


class TestMmap:
    async def test_hands_out_anything(self) -> None:
        """
        The mapping's value is what the handler returned.
        """
        thing = object()
        async with opened(answering(mmap=thing)) as file:
            mapping = await file.mmap(4096)
            assert isinstance(mapping, AsyncResource)
            assert mapping.value is thing
            assert repr(mapping) == f"<Mapping of {file.file!r}>"
            await mapping.aclose()

    async def test_is_shared_and_for_reading_by_default(self) -> None:
        """
        Only the length must be said.
        """
        async with opened(Handlers().ops("mmap")) as file, await file.mmap(7) as mapping:
            assert mapping.value == (7, mmap.PROT_READ, mmap.MAP_SHARED)

    @pytest.mark.parametrize("length", [0, -1])
    async def test_of_nothing(self, length: int) -> None:
        """
        A length below 1 is EINVAL, before anything else is looked at.
        """
        async with opened(Handlers().ops("mmap"), os.O_WRONLY) as file:
            with refused(EINVAL):
                await file.mmap(length)
            await file.entry.remove()
            with refused(EINVAL):
                await file.mmap(length)

    async def test_what_is_gone_comes_before_the_access_mode(self) -> None:
        """
        A removed entry says EIO, whatever the file was opened for.
        """
        async with opened(Handlers().ops("mmap"), os.O_WRONLY) as file:
            with refused(EACCES):
                await file.mmap(1)
            await file.entry.remove()
            with too_late("mmap", EIO):
                await file.mmap(1)

    async def test_holds_the_open_file(self) -> None:
        """
        While a mapping is there, closing the file releases nothing; the last munmap does.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "mmap", "release"))
            file = await proc.open("x")
            one, two = await file.mmap(1), await file.mmap(1)
            await file.aclose()
            await one.aclose()
            assert "release 1" not in handlers.log
            await two.aclose()
            assert handlers.log[-1] == "release 1"

    async def test_a_file_closed_meanwhile_is_held_too(self) -> None:
        """
        A close while the mmap handler runs does not release what is being mapped.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "mmap", "release"))
            file = await proc.open("x")
            handlers.hold_up("mmap")
            async with create_task_group() as tg:
                mapper = await start(tg, file.mmap, 1)
                await file.aclose()
                handlers.let_go("mmap")
                await all_blocked()
                assert handlers.log == ["open 1", "mmap 1", "mmap 1 goes on"]
                await mapper.result.aclose()
                assert handlers.log[-1] == "release 1"
            await entry.remove()
            assert handlers.log.count("release 1") == 1
            assert proc.create("y", ProcOps()).ino == entry.ino

    async def test_one_that_failed_holds_nothing(self) -> None:
        """
        Without a mapping nothing is held: the last close releases.
        """
        handlers = Handlers()
        handlers.errors["mmap"] = OSError(ENODEV, "no")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            file = await proc.open("x")
            with refused(ENODEV):
                await file.mmap(1)
            await file.aclose()
            assert handlers.log[-1] == "release None"

    async def test_one_that_failed_after_the_close_holds_nothing(self) -> None:
        """
        The same if the file was closed while the handler ran: it is released, once.
        """
        handlers = Handlers()
        handlers.errors["mmap"] = OSError(ENODEV, "no")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            file = await proc.open("x")
            handlers.hold_up("mmap")
            async with create_task_group() as tg:
                mapper = await start(tg, file.mmap, 1)
                await file.aclose()
                handlers.let_go("mmap")
                await all_blocked()
                with refused(ENODEV):
                    mapper.result  # noqa: B018
            assert handlers.log.count("release None") == 1

    async def test_does_not_delay_a_removal(self) -> None:
        """
        A removal releases the file, mapped or not; the mapping lives on, and holds the number.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("mmap", "release"))
            file = await proc.open("x")
            mapping = await file.mmap(1)
            await file.aclose()
            await entry.remove()
            assert (handlers.log[-1], state(entry)) == ("release None", "gone")
            assert mapping.value is not None
            await mapping.aclose()
            assert handlers.log.count("release None") == 1

    async def test_may_be_closed_twice(self) -> None:
        """
        Closing a mapping again does nothing.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            async with await proc.open("x") as file:
                mapping = await file.mmap(1)
                await mapping.aclose()
                await mapping.aclose()
                assert handlers.log == ["mmap None"]
                assert repr(mapping) == "<Mapping of <closed>>"

    async def test_closes_also_when_cancelled(self) -> None:
        """
        A cancelled munmap raises, and the mapping is given up all the same.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            async with await proc.open("x") as file:
                mapping = await file.mmap(1)
            with CancelScope() as scope:
                scope.cancel()
                await mapping.aclose()
            assert scope.cancelled_caught
            assert handlers.log[-1] == "release None"
