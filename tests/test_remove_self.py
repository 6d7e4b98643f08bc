"""A handler that removes its own entry: refused where it would wait for itself, or begun."""

from __future__ import annotations

import os
from errno import EDEADLK, EINVAL, EIO
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group

from aiopde import File, ProcFile, ProcFS, ProcOps
from tests.helpers import Handlers, all_blocked, refused, start, state
from tests.stuck import CALLS, OPS, stuck

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Use = Callable[[ProcFS, ProcFile], Awaitable[object]]


class TestRefusal:
    """A handler that awaits its own removal is told so at once."""

    @pytest.mark.parametrize("call", [*CALLS, "close"])
    @pytest.mark.parametrize("killable", [False, True])
    async def test_in_every_kind_of_call(self, call: str, *, killable: bool) -> None:
        """
        EDEADLK, and nothing was changed: the entry is there, and the call goes on.
        """
        wanted, use = CALLS.get(call, ("release", lambda _, file: file.aclose()))
        caught: list[OSError] = []

        class Suicidal(Handlers):
            async def _enter(self, op: str, file: File) -> None:
                if op == wanted:
                    with refused(EDEADLK) as error:
                        await file.entry.remove()
                    caught.append(error.value)
                    assert state(file.entry) == "live"

        async with ProcFS() as proc:
            ops = Suicidal(b"").ops(*OPS)
            entry = proc.create("x", ops, mode=0o666, killable=killable)
            async with await proc.open("x", os.O_RDWR) as file:
                await use(proc, file)
            assert caught
            assert state(entry) == "live"
            assert "remove_self()" in str(caught[0])
            assert caught[0].filename == "/proc/x"

    @pytest.mark.parametrize("which", ["d", "d/sub"])
    async def test_of_a_directory_around_it(self, which: str) -> None:
        """
        The same for the removal of a directory it is in, however far above.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            with refused(EDEADLK):
                await proc.remove_subtree(which)
            return b""

        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.mkdir("d/sub")
            proc.create("d/sub/x", ProcOps(read=read))
            await proc.read_bytes("d/sub/x")
            assert proc.listdir("d/sub") == ["x"]

    async def test_of_one_that_has_begun(self) -> None:
        """
        Nor may a handler join the removal that waits for it.
        """
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            await may_go.wait()
            with refused(EDEADLK):
                await file.entry.remove()
            return b"out"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            reader = await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            may_go.set()
            await all_blocked()
            assert (reader.result, remover.result) == (b"out", None)

    async def test_a_handler_may_remove_others(self) -> None:
        """
        Siblings, and what is below another directory, are none of its own.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            await proc.remove("y")
            await proc.remove_subtree("d")
            return b""

        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            proc.create("y", ProcOps())
            proc.mkdir("d")
            await (await proc.open("x")).read()
            assert proc.listdir() == ["x"]

    async def test_a_handler_that_has_left_may(self) -> None:
        """
        After its call a task is inside no more.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("read"))
            await (await proc.open("x")).read()
            await entry.remove()
            assert state(entry) == "gone"

    async def test_the_last_one_out_releases(self) -> None:
        """
        A release handler that the last call out runs is refused too.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        caught: list[int | None] = []

        async def release(file: File) -> None:
            with refused(EDEADLK) as error:
                await file.entry.remove()
            caught.append(error.value.errno)

        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", ProcOps(read=handlers.read, release=release))
            file = await proc.open("x")
            await start(tg, file.read)
            await file.aclose()
            handlers.let_go("read")
            await all_blocked()
        assert caught == [EDEADLK]


class TestRemoveSelf:
    @pytest.mark.parametrize("plain", [False, True])
    async def test_goes_when_the_handler_has_left(self, *, plain: bool) -> None:
        """
        The name is gone at once, the call ends with its result, and then the entry is gone.
        """
        seen: list[str] = []

        def plain_read(file: File, size: int, pos: int) -> bytes:
            assert file.entry.remove_self()
            seen.append(state(file.entry))
            assert proc.listdir() == []
            return b"bye"

        async def read(file: File, size: int, pos: int) -> bytes:
            data = plain_read(file, size, pos)
            await all_blocked()
            return data

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(read=plain_read if plain else read))
            file = await proc.open("x")
            assert await file.read() == b"bye"
            await entry.remove()
            assert state(entry) == "gone"
            with refused(EIO):
                await file.read()
        # Nobody can be beside a plain function, so it is not counted as inside.
        assert seen == ["releasing" if plain else "dying"]

    async def test_is_true_for_one(self) -> None:
        """
        Only the call that begins the removal is told so, be it by another way.
        """
        async with stuck() as it, create_task_group() as tg:
            assert it.entry.remove_self()
            assert not it.entry.remove_self()
            joiner = await start(tg, it.entry.remove)
            assert not it.entry.remove_self()
            it.let_go()
            await all_blocked()
            assert joiner.result is None
            assert not it.entry.remove_self()

    async def test_two_handlers(self) -> None:
        """
        Of two calls inside one is the one, and the removal waits for both.
        """
        answers: list[bool] = []
        may_go = anyio.Event()

        async def read(file: File, size: int, pos: int) -> bytes:
            answers.append(file.entry.remove_self())
            await may_go.wait()
            return b"bye"

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            files = [await proc.open("x") for _ in range(2)]
            readers = [await start(tg, files[0].read)]
            with refused(EIO):
                await files[1].read()
            joiner = await start(tg, entry.remove)
            assert (answers, joiner.done) == ([True], False)
            may_go.set()
            await all_blocked()
            assert (readers[0].result, joiner.done) == (b"bye", True)

    async def test_of_a_directory(self) -> None:
        """
        A handler may so remove the directory it is in.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            assert file.entry.parent.remove_self()
            return b"bye"

        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            proc.create("d/x", ProcOps(read=read))
            assert await (await proc.open("d/x")).read() == b"bye"
            await directory.remove()
            assert state(directory) == "gone"

    async def test_from_a_release_handler(self) -> None:
        """
        A release handler that the removal runs comes too late; one that a closer runs does not.
        """
        answers: list[bool] = []
        async with ProcFS() as proc:
            ops = ProcOps(release=lambda file: answers.append(file.entry.remove_self()))
            entry = proc.create("x", ops)
            first, _ = [await proc.open("x") for _ in range(2)]
            await first.aclose()
            await entry.remove()
            assert answers == [True, False]

    async def test_of_a_permanent_entry(self) -> None:
        """
        EINVAL, for that one and for a directory around it; nothing was changed.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            entry = proc.create("d/x", ProcOps(permanent=True))
            for each in (entry, directory):
                with refused(EINVAL):
                    each.remove_self()
            assert proc.listdir("d") == ["x"]

    async def test_of_the_root(self) -> None:
        """
        EINVAL: the root goes when its tree is left, here as in remove().
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps())
            with refused(EINVAL):
                proc.root.remove_self()
            assert proc.listdir() == ["x"]

    async def test_its_errors_are_not_lost(self) -> None:
        """
        What release handlers raise then reaches who joins, or comes when the tree is left.
        """
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                for name in ("x", "y"):
                    proc.create(name, ProcOps(release=lambda file: 1 // 0))
                    await proc.open(name)
                    proc.lookup(name).remove_self()
                with pytest.raises(ExceptionGroup):
                    await all_blocked_and_remove(proc)
        assert [type(exc) for exc in caught.value.exceptions] == [ZeroDivisionError]


async def all_blocked_and_remove(proc: ProcFS) -> None:
    entry = next(iter(proc._reaper.removals)).root
    await entry.remove()
