"""One module: references, background tasks, what it registers, and calls that come too late."""

from __future__ import annotations

import logging
import os
import warnings
from errno import EINVAL
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import File, Kernel, ModuleInfo, ModuleState, ProcDirEntry, ProcOps, this_module
from tests.drivers import empty, fail
from tests.helpers import Handlers, all_blocked, refused, start, state, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class TestReferences:
    """try_module_get and module_put."""

    async def test_count(self) -> None:
        """
        The count that is shown begins at 0, and each get and put moves it by one.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(empty)
            assert module.refcnt == 0
            assert kernel.try_module_get(module)
            assert module.try_get()
            module.get()
            assert module.refcnt == kernel.lsmod()[0].refcnt == 3
            for _ in range(3):
                kernel.module_put(module)
            assert module.refcnt == 0

    async def test_code_that_is_no_module(self) -> None:
        """
        None stands for code that no module holds: a reference to it is always there.
        """
        async with Kernel() as kernel:
            assert kernel.try_module_get(None)
            kernel.module_put(None)

    async def test_a_put_too_many(self) -> None:
        """
        A put without its get is an error, before it takes the base count.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(empty)
            with pytest.raises(RuntimeError, match="once for each"):
                module.put()
            assert module.try_get()

    async def test_while_it_is_loading(self) -> None:
        """
        A module whose init runs has a reference of its own, and others may take one.
        """
        may_load = anyio.Event()

        async def slow(kernel: Kernel) -> AsyncIterator[None]:
            await may_load.wait()
            yield

        async with Kernel() as kernel, create_task_group() as tg:
            insmod = await start(tg, kernel.insmod, slow)
            module = kernel.find_module("slow")
            assert module is not None
            assert (module.state, module.refcnt) == (ModuleState.COMING, 1)
            assert module.try_get()
            may_load.set()
            await wait_all_tasks_blocked()
            assert insmod.result is module
            assert module.refcnt == 1
            module.put()

    async def test_not_of_one_that_goes_or_is_gone(self) -> None:
        """
        Once it is going, nobody gets a reference, and the count that is shown is -1.
        """
        seen: list[object] = []

        async def going(kernel: Kernel) -> AsyncIterator[None]:
            module = this_module()
            yield
            seen.extend([module.try_get(), module.refcnt, module.state])

        async with Kernel() as kernel:
            module = await kernel.insmod(going)
            await kernel.rmmod("going")
            assert seen == [False, -1, ModuleState.GOING]
            assert not kernel.try_module_get(module)
            assert module.state is ModuleState.GONE

    async def test_not_of_one_that_is_forced_out(self) -> None:
        """
        References that were held when it was forced out do not let others in.
        """
        seen: list[object] = []

        async def forced(kernel: Kernel) -> AsyncIterator[None]:
            module = this_module()
            yield
            seen.extend([module.try_get(), module.refcnt])

        async with Kernel() as kernel:
            module = await kernel.insmod(forced)
            assert module.try_get()
            await kernel.rmmod("forced", os.O_TRUNC)
            assert seen == [False, 1]
            assert not module.try_get()
            module.put()
            assert not module.try_get()


class TestInfo:
    def test_line(self) -> None:
        """
        A module is shown as a line of /proc/modules.
        """
        info = ModuleInfo("x", 100, 2, ("b", "a"), ModuleState.LIVE, permanent=True)
        assert str(info) == "x 100 2 b,a,[permanent], Live 0x0000000000000000"
        info = ModuleInfo("x", 0, -1, (), ModuleState.GOING, permanent=False)
        assert str(info) == "x 0 -1 - Unloading 0x0000000000000000"

    async def test_repr(self) -> None:
        """
        A module's repr tells its state and count.
        """
        async with Kernel() as kernel:
            assert repr(await kernel.insmod(empty)) == "<Module 'empty' LIVE refcnt=0>"


class TestBackground:
    """start_soon."""

    async def test_ends_after_exit_and_before_rmmod_returns(self) -> None:
        """
        A task is cancelled when exit has run, and rmmod waits for its end.
        """
        log: list[str] = []

        async def task() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                log.append(f"task ends, entry is {state(entries[0])}")

        entries: list[ProcDirEntry] = []

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(task, name="worker")
            entries.append(kernel.proc.create("x", ProcOps()))
            yield
            await kernel.proc.remove("x")
            log.append("exit ends")

        async with Kernel() as kernel:
            await kernel.insmod(main)
            await wait_all_tasks_blocked()
            assert any(task.name == "worker" for task in anyio.get_running_tasks())
            await kernel.rmmod("main")
            assert log == ["exit ends", "task ends, entry is gone"]

    async def test_ends_after_the_entries_that_exit_forgot(self) -> None:
        """
        Also those are gone before a task is cancelled that their handlers may need.
        """
        entries: list[ProcDirEntry] = []
        states: list[str] = []

        async def task() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                states.append(state(entries[0]))

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(task)
            entries.append(kernel.proc.create("x", ProcOps()))
            await wait_all_tasks_blocked()
            yield

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with pytest.warns(ResourceWarning, match="/proc/x"):
                await kernel.rmmod("main")
            assert states == ["gone"]

    async def test_is_cancelled_if_init_fails(self) -> None:
        """
        Init's error reaches insmod's caller after the tasks it has started are over.
        """
        log: list[str] = []

        async def task() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("over")

        async def main(kernel: Kernel) -> None:
            this_module().start_soon(task)
            await wait_all_tasks_blocked()
            fail(ValueError("init"))

        async with Kernel() as kernel:
            with pytest.raises(ValueError, match="init"):
                await kernel.insmod(main)
            assert log == ["over"]

    async def test_crash(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        One that fails stops nothing else; it is logged, counted, and raised by rmmod.
        """
        log: list[str] = []

        async def crash() -> None:
            fail(ValueError("a crash"))

        async def go_on() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("cancelled")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(go_on)
            this_module().start_soon(crash)
            yield
            log.append("exit")

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with caplog.at_level(logging.ERROR, "aiopde"):
                await wait_all_tasks_blocked()
            assert "main" in caplog.text
            assert "a crash" in caplog.text
            assert (kernel.oopses, log) == (1, [])
            with pytest.raises(ExceptionGroup, match="'main' is unloaded") as caught:
                await kernel.rmmod("main")
            assert [str(exc) for exc in caught.value.exceptions] == ["a crash"]
            assert log == ["exit", "cancelled"]
            assert kernel.lsmod() == []

    async def test_crash_that_nobody_asked_about(self) -> None:
        """
        If nobody unloads the module, leaving the kernel raises it.
        """

        async def crash() -> None:
            fail(ValueError("a crash"))

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(crash)
            yield

        async def run() -> None:
            async with Kernel() as kernel:
                await kernel.insmod(main)
                await wait_all_tasks_blocked()

        with pytest.raises(ExceptionGroup, match="nobody awaited") as caught:
            await run()
        assert caught.group_contains(ValueError, match="a crash")

    async def test_may_unload_its_own_module(self) -> None:
        """
        A background task may rmmod its module: it is cancelled on the way.
        """

        async def task(kernel: Kernel) -> None:
            await kernel.rmmod("main")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(task, kernel)
            yield

        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            await module.wait_gone()
            assert kernel.lsmod() == []

    async def test_not_when_it_is_gone(self) -> None:
        """
        A module that is gone starts no tasks.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(empty)
            await kernel.rmmod("empty")
            with pytest.raises(RuntimeError, match="gone"):
                module.start_soon(anyio.sleep, 0)

    async def test_shows_in_holders(self) -> None:
        """
        A background task that is inside an entry is found there, and where it stands.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def task(kernel: Kernel) -> None:
            await kernel.proc.read_bytes("x")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("x", handlers.ops("read"))
            this_module().start_soon(task, kernel, name="worker")
            yield
            await kernel.proc.remove("x")

        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            await wait_all_tasks_blocked()
            (holder,) = module.holders()
            assert (holder.task, holder.path, holder.op) == ("worker", "/proc/x", "read")
            assert "_enter" in holder.stack[0] or any("_enter" in line for line in holder.stack)
            handlers.let_go("read")


class TestRegistrations:
    async def test_that_exit_forgot(self) -> None:
        """
        They are removed, with a warning that names them, and no other.
        """

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            for name in ("kept", "forgotten"):
                kernel.proc.mkdir(name)
            kernel.proc.create("forgotten/x", ProcOps())
            yield
            await kernel.proc.remove("kept")

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with pytest.warns(ResourceWarning) as caught:
                await kernel.rmmod("main")
            (warning,) = caught
            assert "'main'" in str(warning.message)
            assert "/proc/forgotten, /proc/forgotten/x:" in str(warning.message)
            assert "kept" not in str(warning.message)
            assert kernel.proc.listdir() == ["modules"]

    async def test_warning_as_an_error(self) -> None:
        """
        Where warnings are errors, rmmod raises it when all is done.
        """

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.mkdir("x")
            yield

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(ExceptionGroup) as caught:
                    await kernel.rmmod("main")
            assert caught.group_contains(ResourceWarning)
            assert (kernel.lsmod(), kernel.proc.listdir()) == ([], ["modules"])

    async def test_by_a_task_that_is_being_cancelled(self) -> None:
        """
        What a background task registers at the very last is found too.
        """

        async def task(kernel: Kernel) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                kernel.proc.mkdir("late")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(task, kernel)
            await wait_all_tasks_blocked()
            yield

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with pytest.warns(ResourceWarning, match="/proc/late"):
                await kernel.rmmod("main")
            assert kernel.proc.listdir() == ["modules"]

    @pytest.mark.parametrize("where", ["proc", "dev"])
    async def test_by_a_handler(self, where: str) -> None:
        """
        What a handler registers in its caller's task belongs to the handler's module.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            if where == "proc":
                kernel.proc.create("made", ProcOps())
            else:
                kernel.dev.register("made", ProcOps(), owner=None)
            return b""

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("x", ProcOps(read=read)):
                yield

        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            await kernel.proc.read_bytes("x")
            assert [entry.name for entry in module._entries] == ["x", "made"]
            with pytest.warns(ResourceWarning, match=f"/{where}/made"):
                await kernel.rmmod("main")
            assert kernel.proc.listdir() == ["modules"]
            assert len(kernel.dev.root._children) == 0

    async def test_by_a_handler_while_it_is_unloaded(self) -> None:
        """
        Also what a call registers that the unload waits for, and what a call of that registers.
        """
        inside, may_go = anyio.Event(), [anyio.Event(), anyio.Event()]

        async def first(file: File, size: int, pos: int) -> bytes:
            await may_go[0].wait()
            kernel.proc.create("second", ProcOps(read=second))
            tg.start_soon((await kernel.proc.open("second")).read)
            await inside.wait()
            return b"first"[pos : pos + size]

        async def second(file: File, size: int, pos: int) -> bytes:
            inside.set()
            await may_go[1].wait()
            kernel.proc.create("third", ProcOps())
            return b"second"[pos : pos + size]

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("first", ProcOps(read=first))
            yield

        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(main)
            read = await start(tg, (await kernel.proc.open("first")).read)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                rmmod = await start(tg, kernel.rmmod, "main")
                may_go[0].set()
                await all_blocked()
                assert (read.result, rmmod.done) == (b"first", False)
                may_go[1].set()
                await all_blocked()
            assert rmmod.done
            assert kernel.proc.listdir() == ["modules"]
            (warning,) = caught
            assert "/proc/first, /proc/second, /proc/third:" in str(warning.message)

    async def test_that_somebody_else_is_removing(self) -> None:
        """
        A removal that others began is waited for, and is nothing to warn of.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("x", handlers.ops("read"))
            yield

        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(main)
            read = await start(tg, kernel.proc.read_bytes, "x")
            remove = await start(tg, kernel.proc.remove, "x")
            rmmod = await start(tg, kernel.rmmod, "main")
            assert not rmmod.done
            handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert read.result == b"content"
            assert (remove.done, rmmod.done) == (True, True)

    async def test_that_cannot_be_removed(self) -> None:
        """
        What somebody has put a permanent entry into stays, and rmmod says so.
        """

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.mkdir("x")
            yield

        async with Kernel() as kernel:
            await kernel.insmod(main)
            kernel.proc.create("x/y", ProcOps(permanent=True))
            with pytest.warns(ResourceWarning), pytest.raises(ExceptionGroup) as caught:
                await kernel.rmmod("main")
            assert caught.group_contains(OSError, match="permanent")
            assert kernel.lsmod() == []

    async def test_permanent(self) -> None:
        """
        A module registers nothing permanent (B32); there is nothing left of the attempt.
        """
        tried: list[ModuleState] = []

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            with unchanged(kernel.proc), refused(EINVAL):
                kernel.proc.create("x", ProcOps(permanent=True))
            tried.append(this_module().state)
            yield

        async with Kernel() as kernel:
            await kernel.insmod(main)
        assert tried == [ModuleState.COMING]

    async def test_that_others_made_are_not_its_own(self) -> None:
        """
        What stands below a module's entry, or was there before, is not the module's.
        """

        async with Kernel() as kernel:
            theirs = kernel.proc.create("theirs", ProcOps())
            module = await kernel.insmod(empty)
            assert len(module._entries) == 0
            await kernel.rmmod("empty")
            assert state(theirs) == "live"
