"""Loading modules: init, its end and its errors, what it depends on, and who waits for that."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from contextvars import ContextVar
from errno import EBUSY, EEXIST, ELOOP, ENOENT, ENOMEM, EWOULDBLOCK
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import File, Kernel, ModuleState, ProcOps, depends
from tests.drivers import FORCE, Driver, fail, lines, needing, pdedep, pdemod
from tests.helpers import Handlers, refused, start, state

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path


class TestInsmod:
    async def test_kinds_of_programs(self) -> None:
        """
        A module is an async generator function, or gives a context manager, or is a coroutine.
        """
        log: list[str] = []

        class Manager:
            def __init__(self, kernel: Kernel, text: str) -> None:
                self.text = text

            async def __aenter__(self) -> str:
                log.append("enter")
                return self.text

            async def __aexit__(self, *exc: object) -> None:
                log.append(f"exit {exc}")

        @asynccontextmanager
        async def decorated(kernel: Kernel) -> AsyncGenerator[int, None]:
            yield 5

        async with Kernel() as kernel:
            assert (await kernel.insmod(Manager, text="x")).exports == "x"
            assert (await kernel.insmod(decorated)).exports == 5
            assert (await kernel.insmod(pdemod)).exports == "a symbol"
            assert [info.permanent for info in kernel.lsmod()] == [False] * 3
            await kernel.rmmod("Manager")
        assert log == ["enter", "exit (None, None, None)"]

    async def test_a_module_that_exits_at_once(self, tmp_path: Path) -> None:
        """
        What calls exit() while it loads is not loaded; what that means, who loads it decides.
        """
        (tmp_path / "quits.py").write_text("raise SystemExit('no config')\n")

        async def stops(kernel: Kernel) -> AsyncGenerator[None]:
            kernel.proc.create("x", ProcOps())
            yield sys.exit("no licence")

        async with Kernel(module_path=[tmp_path]) as kernel:
            with pytest.raises(SystemExit, match="no config"):
                await kernel.modprobe("quits")
            with pytest.raises(SystemExit, match="no licence"):
                await kernel.insmod(stops)
            assert (lines(kernel), kernel.proc.listdir()) == ([], ["modules"])
            await kernel.insmod(pdemod)

    async def test_a_module_that_exits_in_its_exit(self) -> None:
        """
        An exit() there does not stop the unload half-way; whoever unloads is told of it.
        """

        async def stops(kernel: Kernel) -> AsyncGenerator[None]:
            kernel.proc.create("x", ProcOps())
            yield
            sys.exit("enough")

        async with Kernel() as kernel:
            await kernel.insmod(stops)
            with (
                pytest.warns(ResourceWarning, match="/proc/x"),
                pytest.raises(BaseExceptionGroup) as caught,
            ):
                await kernel.rmmod("stops")
            assert caught.group_contains(SystemExit, match="enough")
            assert (lines(kernel), kernel.proc.listdir()) == ([], ["modules"])

    async def test_other_results(self) -> None:
        """
        A main function that is none of these is a TypeError that tells what is.
        """

        def wrong(kernel: Kernel) -> int:
            return 5

        async def no_yield(kernel: Kernel, numbers: tuple[int, ...] = ()) -> AsyncIterator[int]:
            for number in numbers:
                yield number

        async with Kernel() as kernel:
            with pytest.raises(TypeError, match="yields once"):
                await kernel.insmod(wrong)
            with pytest.raises(TypeError, match="has no parameter size"):
                await kernel.insmod(pdemod, size=4)
            with pytest.raises(RuntimeError, match="yield"):
                await kernel.insmod(no_yield)
            await kernel.insmod(no_yield, numbers=(1,))
            await kernel.rmmod("no_yield")
            await kernel.insmod(no_yield, numbers=(1, 2))
            with pytest.raises(ExceptionGroup):
                await kernel.rmmod("no_yield")
            assert kernel.lsmod() == []

    async def test_task_group_around_the_yield(self) -> None:
        """
        A module may hold a task group or a cancel scope from init to exit, whoever calls those.
        """
        log: list[str] = []

        async def work() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                log.append("work ends")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            async with create_task_group() as group:
                group.start_soon(work)
                yield
                group.cancel_scope.cancel()
            log.append("exit ends")

        async with Kernel() as kernel, create_task_group() as tg:
            await start(tg, kernel.insmod, main)
            await start(tg, kernel.rmmod, "main")
            assert log == ["work ends", "exit ends"]

    async def test_entries_work_before_init_ends(self) -> None:
        """
        What init has registered can be called at once, as in Linux (g13).
        """
        driver = Driver()
        driver.init_may_end = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            await start(tg, kernel.insmod, driver.main, "pdemod")
            assert await kernel.proc.read_bytes("pdemod") == b"pdemod says hello\n"
            driver.init_may_end.set()

    async def test_error_of_init(self) -> None:
        """
        Init's error reaches insmod's caller, exit does not run, and the name is free (g12).
        """
        driver = Driver()
        async with Kernel() as kernel:
            for errno in (ENOMEM, EEXIST):
                with refused(errno):
                    await kernel.insmod(driver.main, "pdemod", fail_init=errno)
                assert (kernel.lsmod(), kernel.proc.listdir()) == ([], ["modules"])
            assert driver.log == ["init", "init"]
            await kernel.insmod(driver.main, "pdemod")
            await kernel.rmmod("pdemod")

    async def test_entries_of_an_init_that_failed(self) -> None:
        """
        I43: exit is not run, what is left is removed for it; insmod waits for the calls inside.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        may_fail = anyio.Event()

        async def main(kernel: Kernel) -> None:
            kernel.proc.create("x", handlers.ops("read", "release"))
            await may_fail.wait()
            fail(ValueError("init"))

        async with Kernel() as kernel, create_task_group() as tg:
            insmod = await start(tg, kernel.insmod, main)
            read = await start(tg, kernel.proc.read_bytes, "x")
            may_fail.set()
            await wait_all_tasks_blocked()
            assert not insmod.done
            assert (kernel.proc.listdir(), lines(kernel)) == (["modules"], ["main 1  Unloading"])
            with refused(EBUSY):
                await kernel.insmod(main)
            handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert read.result == b"content"
            with pytest.raises(ValueError, match="init"):
                _ = insmod.result

    async def test_entry_name_taken(self) -> None:
        """
        A module whose entry's name is taken fails, and the other entry is unharmed (g15).
        """
        driver = Driver()
        async with Kernel() as kernel:
            theirs = kernel.proc.create("pdemod", ProcOps())
            with refused(EEXIST):
                await kernel.insmod(driver.main, "pdemod")
            assert state(theirs) == "live"
            assert kernel.lsmod() == []

    async def test_twice(self) -> None:
        """
        A name that is loaded is EEXIST.
        """
        async with Kernel() as kernel:
            await kernel.insmod(pdemod)
            with refused(EEXIST):
                await kernel.insmod(pdemod)

    @pytest.mark.parametrize(("fail", "errno"), [(0, EEXIST), (ENOMEM, EBUSY)])
    async def test_while_it_is_loading(self, fail: int, errno: int) -> None:
        """
        A second insmod waits for the first: EEXIST if that succeeds, else EBUSY.
        """
        driver = Driver()
        driver.init_may_end = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            first = await start(tg, kernel.insmod, driver.main, "x", fail_init=fail)
            second = await start(tg, kernel.insmod, driver.main, "x")
            assert not second.done
            driver.init_may_end.set()
            await wait_all_tasks_blocked()
            assert (first.error is None) == (not fail)
            with refused(errno):
                _ = second.result

    async def test_is_a_checkpoint(self) -> None:
        """
        Each coroutine method is one, before anything happens.
        """
        async with Kernel() as kernel:
            await kernel.insmod(pdemod)
            for call in (
                lambda: kernel.insmod(pdedep),
                lambda: kernel.rmmod("pdemod"),
                lambda: kernel.reload("pdemod"),
                lambda: kernel.modprobe("pdedep"),
            ):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught
                assert lines(kernel) == ["pdemod 0  Live"]

    async def test_cancelled(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        A cancelled insmod raises at once; init is cancelled, what it did is undone without it.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def main(kernel: Kernel) -> None:
            kernel.proc.create("x", handlers.ops("read"))
            try:
                await anyio.sleep_forever()
            finally:
                fail(ValueError("when cancelled"))

        async with Kernel() as kernel, create_task_group() as tg:
            insmod = await start(tg, kernel.insmod, main)
            read = await start(tg, kernel.proc.read_bytes, "x")
            module = kernel.find_module("main")
            assert module is not None
            insmod.cancel()
            await wait_all_tasks_blocked()
            assert insmod.cancelled
            assert module.state is ModuleState.GOING
            handlers.let_go("read")
            await module.wait_gone()
            assert read.done
            assert kernel.proc.listdir() == ["modules"]
            assert "when cancelled" in caplog.text

    async def test_cancelled_too_late(self) -> None:
        """
        An init that succeeds although it was cancelled is taken back, as a block would be.
        """
        log: list[str] = []
        may_end = anyio.Event()

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            with anyio.CancelScope(shield=True):
                await may_end.wait()
            kernel.proc.mkdir("x")
            async with create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                try:
                    yield
                except BaseException as exc:
                    log.append(type(exc).__name__)
                    raise

        async with Kernel() as kernel, create_task_group() as tg:
            insmod = await start(tg, kernel.insmod, main)
            insmod.cancel()
            await wait_all_tasks_blocked()
            assert insmod.cancelled
            may_end.set()
            await wait_all_tasks_blocked()
            assert (kernel.lsmod(), kernel.proc.listdir()) == ([], ["modules"])
            assert log in (["Cancelled"], ["CancelledError"])

    async def test_context(self) -> None:
        """
        Init has the context of who loads, exit that of who unloads, release handlers too.
        """
        who: ContextVar[str] = ContextVar("who", default="nobody")
        seen: list[str] = []

        def release(file: File) -> None:
            seen.append(f"release {who.get()}")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            seen.append(f"init {who.get()}")
            kernel.proc.create("x", ProcOps(release=release))
            yield
            seen.append(f"exit {who.get()}")
            await kernel.proc.remove("x")

        async with Kernel() as kernel:
            who.set("A")
            await kernel.insmod(main)
            async with await kernel.proc.open("x"):
                who.set("R")
                await kernel.rmmod("main")
            assert seen == ["init A", "exit R", "release R"]


class TestDepends:
    async def test_missing(self) -> None:
        """
        A module whose dependency is not loaded is ENOENT; so is one whose dependency goes (g03).
        """
        driver = Driver()
        driver.handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            with refused(ENOENT):
                await kernel.insmod(pdedep)
            await kernel.insmod(driver.main, "pdemod")
            await start(tg, kernel.proc.read_bytes, "pdemod")
            await start(tg, kernel.rmmod, "pdemod")
            with refused(ENOENT):
                await kernel.insmod(pdedep)
            driver.handlers.let_go("read")

    async def test_still_loading(self) -> None:
        """
        A dependency whose init still runs is waited for.
        """

        @depends("pdemod")
        async def needs_it(kernel: Kernel) -> AsyncIterator[None]:
            yield

        driver = Driver()
        driver.init_may_end = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            await start(tg, kernel.insmod, driver.main, "pdemod")
            user = await start(tg, kernel.insmod, needs_it)
            assert [info.state.name for info in kernel.lsmod()] == ["COMING"]
            driver.init_may_end.set()
            await wait_all_tasks_blocked()
            assert user.done
            assert [info.state.name for info in kernel.lsmod()] == ["LIVE", "LIVE"]

    async def test_loading_for_too_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        But not for ever: then it is EBUSY.
        """
        monkeypatch.setattr("aiopde._modules.PATIENCE", 0.0)
        driver = Driver()
        driver.init_may_end = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            await start(tg, kernel.insmod, driver.main, "pdemod")
            with refused(EBUSY):
                await kernel.insmod(pdedep)
            driver.init_may_end.set()

    async def test_holds_what_it_uses(self) -> None:
        """
        A dependency stays as long as its user (g09), whose failure gives it back.
        """

        @depends("pdemod")
        async def fails(kernel: Kernel) -> None:
            fail(ValueError("init"))

        async with Kernel() as kernel:
            await kernel.insmod(pdemod)
            with pytest.raises(ValueError, match="init"):
                await kernel.insmod(fails)
            await kernel.insmod(pdedep)
            assert lines(kernel) == ["pdedep 0  Live", "pdemod 1 pdedep Live"]
            for flags in (os.O_NONBLOCK, 0, FORCE):
                with refused(EWOULDBLOCK) as caught:
                    await kernel.rmmod("pdemod", flags)
                assert "pdedep" in str(caught.value)
            with refused(EWOULDBLOCK):
                await kernel.reload("pdemod")
            await kernel.rmmod("pdedep")
            await kernel.rmmod("pdemod")
            assert lines(kernel) == []


class TestModprobe:
    async def test_loads_dependencies_first(self) -> None:
        """
        What a module needs is loaded before it; what is loaded already is left alone.
        """
        programs = {"pdemod": pdemod, "pdedep": pdedep}
        async with Kernel(modules=programs) as kernel:
            module = await kernel.modprobe("pdedep")
            assert lines(kernel) == ["pdedep 0  Live", "pdemod 1 pdedep Live"]
            assert await kernel.modprobe("pdedep") is module
            await kernel.rmmod("pdedep")
            await kernel.modprobe("pdedep")
            assert lines(kernel) == ["pdedep 0  Live", "pdemod 1 pdedep Live"]

    async def test_looks_into_folders(self, tmp_path: Path) -> None:
        """
        A name that is none of the programs is that of a file in one of the folders.
        """
        text = "async def module_main(kernel, text='none'):\n    yield text\n"
        (tmp_path / "disk.py").write_text(text)
        async with Kernel(module_path=[tmp_path / "empty", tmp_path]) as kernel:
            module = await kernel.modprobe("disk", text="some")
            assert module.exports == "some"

    async def test_does_not_leave_the_folders(self, tmp_path: Path) -> None:
        """
        A name is no path: what lies beside the folders is not loaded by it.
        """
        (tmp_path / "beside.py").write_text("async def module_main(kernel):\n    yield\n")
        (tmp_path / "modules").mkdir()
        async with Kernel(module_path=[tmp_path / "modules"]) as kernel:
            for name in ("../beside", str(tmp_path / "beside")):
                with refused(ENOENT):
                    await kernel.modprobe(name)

    def test_one_folder_is_no_list(self, tmp_path: Path) -> None:
        """
        One folder in the place of several is refused, and not looked into letter by letter.
        """
        for folder in (str(tmp_path), tmp_path):
            one: Any = folder
            with pytest.raises(TypeError, match=r"a list of folders: pass \["):
                Kernel(module_path=one)

    async def test_unknown(self) -> None:
        """
        A name that nothing has is ENOENT, and so is a dependency of that name.
        """
        async with Kernel(modules={"pdedep": pdedep}) as kernel:
            with refused(ENOENT):
                await kernel.modprobe("none")
            with refused(ENOENT):
                await kernel.modprobe("pdedep")
            assert kernel.find_module("pdedep") is None

    async def test_waits_for_one_that_is_loading(self) -> None:
        """
        If somebody else is loading it, that is waited for; if that fails, it is EBUSY.
        """
        for errno in (0, ENOMEM):
            driver = Driver()
            driver.init_may_end = anyio.Event()
            async with Kernel() as kernel, create_task_group() as tg:
                insmod = await start(tg, kernel.insmod, driver.main, "x", fail_init=errno)
                modprobe = await start(tg, kernel.modprobe, "x")
                assert not modprobe.done
                driver.init_may_end.set()
                await wait_all_tasks_blocked()
                if errno:
                    with refused(EBUSY):
                        _ = modprobe.result
                else:
                    assert modprobe.result is insmod.result

    async def test_a_circle(self) -> None:
        """
        Modules that depend on each other, or on themselves, are ELOOP, and none is left.
        """

        circle = {"a": "b", "b": "c", "c": "a", "self": "self"}
        programs = {name: needing(need) for name, need in circle.items()}
        async with Kernel(modules=programs) as kernel:
            for name in ("a", "self"):
                with refused(ELOOP):
                    await kernel.modprobe(name)
            assert kernel.lsmod() == []

    async def test_a_circle_of_two_tasks(self) -> None:
        """
        Also when each of two tasks has loaded one half of the circle.
        """
        may_go_on = anyio.Event()

        async def gate(kernel: Kernel) -> AsyncIterator[None]:
            await may_go_on.wait()
            yield

        programs = {"gate": gate, "a": needing("gate", "b"), "b": needing("gate", "a")}
        async with Kernel(modules=programs) as kernel, create_task_group() as tg:
            calls = [await start(tg, kernel.modprobe, name) for name in "ab"]
            may_go_on.set()
            await wait_all_tasks_blocked()
            assert all(call.done for call in calls)
            errors = {getattr(call.error, "errno", 0) for call in calls}
            assert errors <= {ELOOP, EBUSY}
            assert ELOOP in errors
