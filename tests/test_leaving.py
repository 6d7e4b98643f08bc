"""Leaving a tree whose calls do not end: the grace, what is told, and what is given up."""

from __future__ import annotations

from errno import EIO
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import ProcDirEntry, ProcFile, ProcFS, RemovalTimeoutError
from tests.helpers import Handlers, all_blocked, refused, start, state
from tests.stuck import GRACE, begin, tasks_and_ops

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Use = Callable[[ProcFS, ProcFile], Awaitable[object]]


class Leaving:
    """A tree that is left with a call inside."""

    def __init__(self, grace: float = GRACE, **how: Any) -> None:
        self.proc = ProcFS(grace=grace, hung_task_timeout=None)
        self.how = how
        self.handlers = Handlers()
        self.entry: ProcDirEntry

    async def enter(self, *held: str) -> None:
        for op in held:
            self.handlers.hold_up(op)
        ops = self.handlers.ops("read", "release")
        self.entry = self.proc.create("x", ops, **self.how)


class TestLeaving:
    """The end of a ProcFS with a grace always comes, and does not hide what it had to leave."""

    async def test_with_a_stuck_call(self) -> None:
        """
        It raises RemovalTimeoutError, which names the call.
        """
        it = Leaving()
        async with create_task_group() as tg:
            with pytest.raises(RemovalTimeoutError) as caught:  # noqa: PT012  its end raises
                async with it.proc as proc:
                    await it.enter("read")
                    tg.start_soon((await proc.open("x")).read, name="reader")
                    await all_blocked()
            assert tasks_and_ops(caught.value) == [("reader", "read")]
            assert caught.value.filename == "/proc"
            it.handlers.let_go("read")
        assert it.entry.in_use == 0

    async def test_after_an_error(self) -> None:
        """
        The block's own exception comes with it, in a group.
        """
        it, exc = Leaving(), KeyError("mine")
        async with create_task_group() as tg:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
                async with it.proc as proc:
                    await it.enter("read")
                    await start(tg, (await proc.open("x")).read)
                    raise exc
            assert caught.value.exceptions[0] is exc
            assert isinstance(caught.value.exceptions[1], RemovalTimeoutError)
            it.handlers.let_go("read")

    @pytest.mark.parametrize("how", ["cancelled", "timed out", "remove_self"])
    @pytest.mark.parametrize("grace", [0, GRACE])
    async def test_with_a_removal_that_goes_on(self, how: str, grace: float) -> None:
        """
        A removal that nobody awaits any more does not hold it up either; it is given up.

        Also if its task has not come to run yet, which trio leaves to chance.
        """
        it = Leaving(grace)
        before = len(anyio.get_running_tasks())
        async with create_task_group() as tg:
            with pytest.raises(RemovalTimeoutError) as caught:  # noqa: PT012  its end raises
                async with it.proc as proc:
                    await it.enter("read")
                    await start(tg, (await proc.open("x")).read)
                    await begin(it.entry, how)
            assert [holder.op for holder in caught.value.holders] == ["read"]
            assert len(anyio.get_running_tasks()) == before + 1
            it.handlers.let_go("read")

    @pytest.mark.parametrize("how", ["cancelled", "remove_self"])
    async def test_kills_what_others_remove(self, how: str) -> None:
        """
        A removal of a directory, as the end of the tree is, ends calls where others remove, too.
        """
        it = Leaving(killable=True)
        async with create_task_group() as tg:
            async with it.proc as proc:
                await it.enter("read")
                reader = await start(tg, (await proc.open("x")).read)
                await begin(it.entry, how)
            with refused(EIO):
                _ = reader.result

    async def test_with_killable_calls(self) -> None:
        """
        Calls that may be killed are, and then all is well.
        """
        it = Leaving(killable=True)
        async with create_task_group() as tg:
            async with it.proc as proc:
                await it.enter("read")
                reader = await start(tg, (await proc.open("x")).read)
            await all_blocked()
            with refused(EIO):
                _ = reader.result
        assert (state(it.entry), state(it.proc.root)) == ("gone", "gone")

    @pytest.mark.parametrize("how", ["", "cancelled", "remove_self"])
    async def test_with_a_stuck_release(self, how: str) -> None:
        """
        A release handler that does not end is reported, and cut short: there is nobody to wait.
        """
        it = Leaving()
        with pytest.raises(RemovalTimeoutError) as caught:  # noqa: PT012  its end raises
            async with it.proc as proc:
                await it.enter("release")
                await proc.open("x")
                await begin(it.entry, how)
        assert [holder.op for holder in caught.value.holders] == ["release"]
        assert not it.handlers.busy

    async def test_when_cancelled(self) -> None:
        """
        A cancellation does not make it shorter or longer, and the error is not lost.
        """
        it = Leaving()
        async with create_task_group() as tg:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
                with CancelScope() as scope:
                    async with it.proc as proc:
                        await it.enter("read")
                        await start(tg, (await proc.open("x")).read)
                        scope.cancel()
                        await checkpoint()
            assert [type(exc) for exc in caught.value.exceptions] == [RemovalTimeoutError]
            it.handlers.let_go("read")
