"""The table of modules: loading, unloading, what is refused, and another version in the place."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from contextvars import ContextVar
from errno import (
    EBUSY,
    EDEADLK,
    EEXIST,
    EINTR,
    EIO,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOMEM,
    EWOULDBLOCK,
)
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import (
    File,
    Kernel,
    ModuleState,
    ProcFile,
    ProcOps,
    RemovalTimeoutError,
    TraceRecord,
    depends,
    this_module,
    trace,
)
from tests.helpers import Handlers, refused, start, state, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from aiopde._kmod import Program

FORCE = os.O_TRUNC | os.O_NONBLOCK


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


class TestKernel:
    async def test_has_a_tree(self) -> None:
        """
        A kernel has one tree, which has one file: the list of modules.
        """
        async with Kernel(mountpoint="/p") as kernel:
            assert kernel.proc.listdir() == ["modules"]
            assert kernel.proc.root.path == "/p"
            assert repr(kernel) == "<Kernel '/p' modules=[]>"
        assert state(kernel.proc.root) == "gone"

    async def test_several(self) -> None:
        """
        Two kernels in one program know nothing of each other.
        """
        driver = Driver()
        async with Kernel() as one, Kernel() as two:
            await one.insmod(driver.main, "pdemod")
            assert (two.lsmod(), two.proc.listdir()) == ([], ["modules"])
            await two.insmod(driver.main, "pdemod")
            await one.rmmod("pdemod")
            assert lines(two) == ["pdemod 0  Live"]

    async def test_takes_modules_inside_its_block_only(self) -> None:
        """
        Before and after, insmod and reload are refused.
        """
        kernel = Kernel()
        with pytest.raises(RuntimeError, match="async with Kernel"):
            await kernel.insmod(pdemod)
        async with kernel:
            pass
        for call in (kernel.insmod(pdemod), kernel.reload("pdemod")):
            with pytest.raises(RuntimeError, match="async with Kernel"):
                await call

    async def test_exit_unloads_what_is_left(self) -> None:
        """
        Leaving it unloads every module, the last one first, and by force if need be.
        """
        log: list[str] = []

        def module(name: str) -> Any:
            async def main(kernel: Kernel) -> AsyncIterator[None]:
                log.append(f"init {name}")
                yield
                log.append(f"exit {name}")

            return main

        async def run() -> None:
            async with Kernel() as kernel:
                for name in "abc":
                    await kernel.insmod(module(name), name)
                await kernel.insmod(permanent)
                assert kernel.try_module_get(kernel.find_module("b"))

        with pytest.warns(ResourceWarning, match="/proc/permanent"):
            await run()
        assert log[3:] == ["exit c", "exit b", "exit a"]

    async def test_exit_is_not_cut_short(self) -> None:
        """
        Cancelling who leaves it does not spare it the wait for the calls inside.
        """
        driver = Driver()
        driver.handlers.hold_up("read")
        kernel = Kernel()

        async def run() -> None:
            async with kernel:
                await kernel.insmod(driver.main, "pdemod")
                await anyio.sleep_forever()

        async with create_task_group() as tg:
            block = await start(tg, run)
            await start(tg, kernel.proc.read_bytes, "pdemod")
            block.cancel()
            await wait_all_tasks_blocked()
            assert (block.done, driver.log[-1]) == (False, "exit")
            driver.handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert block.cancelled
        assert driver.log[-1] == "exit ends"

    async def test_exit_ends_an_init(self) -> None:
        """
        An init that still runs is cancelled, and its insmod gets EINTR.
        """
        async with create_task_group() as tg:
            async with Kernel() as kernel:

                async def endless(kernel: Kernel) -> None:
                    kernel.proc.mkdir("x")
                    await anyio.sleep_forever()

                insmod = await start(tg, kernel.insmod, endless)
                waiter = await start(tg, kernel.insmod, endless)
            await wait_all_tasks_blocked()
            with refused(EINTR):
                _ = insmod.result
            with refused(EBUSY):
                _ = waiter.result

    async def test_exit_passes_an_error_on(self) -> None:
        """
        The error of the block is not wrapped; but it comes with those nobody has seen.
        """
        with pytest.raises(ValueError, match="of the block"):
            async with Kernel():
                fail(ValueError("of the block"))

        async def bad_exit(kernel: Kernel) -> AsyncIterator[None]:
            yield
            fail(ValueError("of exit"))

        async def run() -> None:
            async with Kernel() as kernel:
                await kernel.insmod(bad_exit)
                fail(ValueError("of the block"))

        with pytest.raises(ExceptionGroup) as caught:
            await run()
        assert [str(exc) for exc in caught.value.exceptions] == ["of the block", "of exit"]

    async def test_exit_ends_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        With a grace it does not wait for ever for a call that never ends, and tells which.
        """
        monkeypatch.setattr("aiopde._watch.UNWIND", 0.01)
        driver = Driver()
        driver.handlers.hold_up("read")
        kernel = Kernel(grace=0.02)

        async def run() -> None:
            async with kernel:
                await kernel.insmod(driver.main, "pdemod")
                await start(tg, kernel.proc.read_bytes, "pdemod")

        async with create_task_group() as tg:
            with pytest.raises(RemovalTimeoutError) as caught:
                await run()
            assert [holder.path for holder in caught.value.holders] == ["/proc/pdemod"]
            driver.handlers.let_go("read")

    async def test_traces(self) -> None:
        """
        A module's coming and going are tracepoints.
        """
        records: list[TraceRecord] = []
        async with Kernel() as kernel:
            with trace(records.append):
                await kernel.insmod(pdemod)
                await kernel.rmmod("pdemod")
        assert [(r.event, r.path) for r in records] == [("insmod", "pdemod"), ("rmmod", "pdemod")]


class TestModules:
    """lsmod and /proc/modules."""

    async def test_file(self) -> None:
        """
        The tree serves the list in the kernel's format, the last loaded first.
        """
        async with Kernel() as kernel:
            assert await kernel.proc.read_text("/proc/modules") == ""
            await kernel.insmod(pdemod)
            await kernel.insmod(pdedep)
            await kernel.insmod(permanent)
            sizes = [info.size for info in kernel.lsmod()]
            assert all(size > 0 for size in sizes)
            assert (await kernel.proc.read_text("/proc/modules")).splitlines() == [
                f"permanent {sizes[0]} 0 [permanent], Live 0x0000000000000000",
                f"pdedep {sizes[1]} 0 - Live 0x0000000000000000",
                f"pdemod {sizes[2]} 1 pdedep, Live 0x0000000000000000",
            ]
            with pytest.warns(ResourceWarning):
                await kernel.rmmod("permanent", FORCE)

    async def test_states(self) -> None:
        """
        A module is Loading with one reference, then Live, then Unloading with -1.
        """
        driver = Driver()
        driver.init_may_end = anyio.Event()
        driver.handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            await start(tg, kernel.insmod, driver.main, "pdemod")
            assert lines(kernel) == ["pdemod 1  Loading"]
            driver.init_may_end.set()
            await wait_all_tasks_blocked()
            assert lines(kernel) == ["pdemod 0  Live"]
            await start(tg, kernel.proc.read_bytes, "pdemod")
            await start(tg, kernel.rmmod, "pdemod")
            assert lines(kernel) == ["pdemod -1  Unloading"]
            driver.handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert lines(kernel) == []

    async def test_unformed_is_not_listed(self) -> None:
        """
        A module whose dependencies are still being loaded is not in the list.
        """
        driver = Driver()
        driver.init_may_end = anyio.Event()

        @depends("pdemod")
        async def user(kernel: Kernel) -> AsyncIterator[None]:
            yield

        programs: dict[str, Program] = {"pdemod": driver.main, "user": user}
        async with Kernel(modules=programs) as kernel, create_task_group() as tg:
            modprobe = await start(tg, kernel.modprobe, "user")
            assert lines(kernel) == ["pdemod 1  Loading"]
            driver.init_may_end.set()
            await wait_all_tasks_blocked()
            assert modprobe.result.name == "user"


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
            with pytest.raises(TypeError, match="unexpected keyword"):
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
        monkeypatch.setattr("aiopde._kernel.PATIENCE", 0.0)
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
        for fail in (0, ENOMEM):
            driver = Driver()
            driver.init_may_end = anyio.Event()
            async with Kernel() as kernel, create_task_group() as tg:
                insmod = await start(tg, kernel.insmod, driver.main, "x", fail_init=fail)
                modprobe = await start(tg, kernel.modprobe, "x")
                assert not modprobe.done
                driver.init_may_end.set()
                await wait_all_tasks_blocked()
                if fail:
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


class TestRmmod:
    async def test_runs_exit(self) -> None:
        """
        The classical module: load, read, unload (g01); it cannot be opened then.
        """
        driver = Driver()
        async with Kernel() as kernel:
            module = await kernel.insmod(driver.main, "pdemod")
            assert await kernel.proc.read_bytes("pdemod") == b"pdemod says hello\n"
            await kernel.rmmod("pdemod")
            assert driver.log[-2:] == ["exit", "exit ends"]
            assert module.state is ModuleState.GONE
            assert kernel.find_module("pdemod") is None
            with refused(ENOENT):
                await kernel.proc.open("pdemod")

    async def test_unknown(self) -> None:
        """
        A module that is not there is ENOENT, whatever is wrong with its name (g08).
        """
        async with Kernel() as kernel:
            for name in ("none", "", "x" * 56):
                with refused(ENOENT):
                    await kernel.rmmod(name)
            with refused(ENAMETOOLONG):
                await kernel.insmod(pdemod, "x" * 56)

    async def test_order_of_the_checks(self) -> None:
        """
        Of several reasons the first in Linux's order is told: users, state, exit, references.
        """

        @depends("permanent")
        async def user(kernel: Kernel) -> AsyncIterator[None]:
            yield

        async with Kernel() as kernel:
            module = await kernel.insmod(permanent)
            await kernel.insmod(user)
            with refused(EWOULDBLOCK):
                await kernel.rmmod("permanent")
            await kernel.rmmod("user")
            assert module.try_get()
            with refused(EBUSY):
                await kernel.rmmod("permanent")
            module.put()
            with pytest.warns(ResourceWarning, match="/proc/permanent"):
                await kernel.rmmod("permanent", FORCE)

    @pytest.mark.parametrize("flags", [os.O_NONBLOCK, 0])
    async def test_never_waits_for_references(self, flags: int) -> None:
        """
        A reference is EWOULDBLOCK at once, with O_NONBLOCK or without; force overrides it.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(pdemod)
            assert kernel.try_module_get(module)
            with refused(EWOULDBLOCK):
                await kernel.rmmod("pdemod", flags)
            assert (module.state, module.refcnt) == (ModuleState.LIVE, 1)
            await kernel.rmmod("pdemod", FORCE)
            assert module.refcnt == 1
            module.put()

    async def test_while_it_is_loading(self) -> None:
        """
        A module whose init runs is EBUSY, forced or not.
        """
        driver = Driver()
        driver.init_may_end = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            await start(tg, kernel.insmod, driver.main, "pdemod")
            for flags in (0, FORCE):
                with refused(EBUSY):
                    await kernel.rmmod("pdemod", flags)
            driver.init_may_end.set()

    async def test_open_files_are_released(self) -> None:
        """
        An open file is no reference: it is released, and dead (g02, g23).
        """
        driver = Driver()
        async with Kernel() as kernel:
            module = await kernel.insmod(driver.main, "pdemod")
            files = [await kernel.proc.open("pdemod") for _ in range(3)]
            assert module.refcnt == 0
            await kernel.rmmod("pdemod")
            expected = ["exit", "release 3", "release 2", "release 1", "exit ends"]
            assert driver.log[-5:] == expected
            for file in files:
                with too_late("read", EIO):
                    await file.read()
                await file.aclose()

    async def test_old_file_after_a_new_life(self) -> None:
        """
        A file of the first life stays dead in the second (g16).
        """
        driver = Driver()
        async with Kernel() as kernel:
            await kernel.insmod(driver.main, "pdemod")
            async with await kernel.proc.open("pdemod") as file:
                await kernel.rmmod("pdemod")
                await kernel.insmod(driver.main, "pdemod")
                with too_late("read", EIO):
                    await file.read(6)
                async with await kernel.proc.open("pdemod") as new:
                    assert await new.read(6) == b"pdemod"

    async def test_errors_of_exit(self) -> None:
        """
        Whatever exit raises, the module is unloaded, and rmmod tells.
        """

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.mkdir("x")
            yield
            fail(ValueError("exit"))

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with pytest.warns(ResourceWarning), pytest.raises(ExceptionGroup) as caught:
                await kernel.rmmod("main")
            assert caught.group_contains(ValueError, match="exit", depth=1)
            assert (kernel.lsmod(), kernel.proc.listdir()) == ([], ["modules"])

    async def test_from_its_own_handler(self) -> None:
        """
        A handler that unloads its own module gets EDEADLK, and nothing has changed.
        """
        kernel = Kernel()

        async def read(file: File, size: int, pos: int) -> bytes:
            with refused(EDEADLK):
                await kernel.rmmod("main")
            with refused(EDEADLK):
                await kernel.reload("main")
            return b""

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("x", ProcOps(read=read))
            yield
            await kernel.proc.remove("x")

        async with kernel:
            await kernel.insmod(main)
            await kernel.proc.read_bytes("x")
            assert lines(kernel) == ["main 0  Live"]

    async def test_grace(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        When the grace ends, calls that may be killed are; others are reported, and go on.
        """
        monkeypatch.setattr("aiopde._watch.UNWIND", 0.05)
        handlers = Handlers()
        handlers.hold_up("read")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            soft = kernel.proc.create("soft", handlers.ops("read"), killable=True)
            hard = kernel.proc.create("hard", handlers.ops("read"))
            yield
            await soft.remove()
            await hard.remove()

        async with Kernel() as kernel, create_task_group() as tg:
            module = await kernel.insmod(main)
            soft = await start(tg, kernel.proc.read_bytes, "soft")
            hard = await start(tg, kernel.proc.read_bytes, "hard")
            with pytest.raises(RemovalTimeoutError) as caught:
                await kernel.rmmod("main", grace=0.01)
            assert [holder.path for holder in caught.value.holders] == ["/proc/hard"]
            await wait_all_tasks_blocked()
            with refused(EIO):
                _ = soft.result
            with refused(EBUSY):
                await kernel.rmmod("main")
            handlers.let_go("read")
            await module.wait_gone()
            await wait_all_tasks_blocked()
            assert hard.result == b"content"


# -- another version ----------------------------------------------------------------------------


def version(number: int, *names: str, handlers: Handlers | None = None) -> Any:
    """Make a version of a module, with files of these names that tell the version."""
    handlers = handlers or Handlers(str(number).encode())

    async def main(
        kernel: Kernel, gate: anyio.Event | None = None, bad: bool = False
    ) -> AsyncIterator[int]:
        for name in names:
            head, _, _ = name.rpartition("/")
            if head and head not in kernel.proc.listdir():
                kernel.proc.mkdir(head)
            kernel.proc.create(name, handlers.ops("read", "release"))
            if gate is not None:
                await gate.wait()
        if bad:
            for name in names:
                await kernel.proc.remove(name)
            fail(ValueError("init"))
        yield number
        for name in names:
            await kernel.proc.remove(name)
            await anyio.lowlevel.checkpoint()
        for head in sorted({name.rpartition("/")[0] for name in names} - {""}):
            await kernel.proc.remove(head)

    return main


class TestReload:
    async def test_names_change_places(self) -> None:
        """
        Names that both have lead to the new version, others come and go; exit finds its own.
        """
        async with Kernel() as kernel:
            old = await kernel.insmod(version(1, "a", "b", "d/x"), "m")
            new = await kernel.reload("m", version(2, "b", "c", "d/y"))
            assert (old.state, new.state) == (ModuleState.GONE, ModuleState.LIVE)
            assert kernel.find_module("m") is new
            assert kernel.proc.listdir() == ["b", "c", "d", "modules"]
            assert kernel.proc.listdir("d") == ["y"]
            assert await kernel.proc.read_text("b") == "2"
            assert kernel.proc.root.nlink == 3
            await kernel.rmmod("m")
            assert kernel.proc.listdir() == ["modules"]
            assert kernel.proc.root.nlink == 2

    async def test_nobody_sees_the_new_one_before(self) -> None:
        """
        While the new init runs, the old version serves, and is all one sees but for lsmod.
        """
        gate = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(version(1, "a", "d/x"), "m")
            reload = await start(tg, kernel.reload, "m", version(2, "a", "d/x", "z"), gate=gate)
            assert lines(kernel) == ["m 1  Loading", "m 0  Live"]
            assert kernel.proc.listdir() == ["a", "d", "modules"]
            assert await kernel.proc.read_text("a") == await kernel.proc.read_text("d/x") == "1"
            gate.set()
            await wait_all_tasks_blocked()
            assert reload.result.exports == 2
            assert await kernel.proc.read_text("a") == await kernel.proc.read_text("d/x") == "2"
            assert lines(kernel) == ["m 0  Live"]

    async def test_waits_for_calls_inside_the_old_one(self) -> None:
        """
        A call inside the old version ends there, with its result; the new one serves meanwhile.
        """
        handlers = Handlers(b"1")
        handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(version(1, "a", "b", handlers=handlers), "m")
            idle = await kernel.proc.open("a")
            read = await start(tg, kernel.proc.read_text, "a")
            reload = await start(tg, kernel.reload, "m", version(2, "a", "b"))
            assert (reload.done, lines(kernel)) == (False, ["m 0  Live", "m -1  Unloading"])
            assert await kernel.proc.read_text("a") == "2"
            assert await kernel.proc.read_text("b") == "2"
            with too_late("read", EIO):
                await idle.read()
            handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert (read.result, reload.done) == ("1", True)
            assert "read None goes on" in handlers.log
            assert handlers.log[-2:] == ["release None", "release None"]
            assert await kernel.proc.read_text("b") == "2"
            await idle.aclose()

    @pytest.mark.parametrize("wait", [False, True])
    async def test_init_that_fails(self, wait: bool) -> None:
        """
        The old version runs on, with its files, and is not touched by what the new one undid.
        """
        gate = anyio.Event() if wait else None
        async with Kernel() as kernel, create_task_group() as tg:
            old = await kernel.insmod(version(1, "a", "b"), "m")
            async with await kernel.proc.open("a") as file:
                new = version(2, "a", "b")
                reload = await start(tg, kernel.reload, "m", new, gate=gate, bad=True)
                if gate is not None:
                    gate.set()
                    await wait_all_tasks_blocked()
                with pytest.raises(ValueError, match="init"):
                    _ = reload.result
                assert kernel.proc.listdir() == ["a", "b", "modules"]
                assert await file.read() == b"1"
            assert (old.state, lines(kernel)) == (ModuleState.LIVE, ["m 0  Live"])
            await kernel.reload("m", version(3, "a"))

    async def test_same_program(self, tmp_path: Path) -> None:
        """
        Without a program it is the same again, a file read anew; parameters are kept.
        """
        path = tmp_path / "m.py"
        text = "async def module_main(kernel, a, b=1):\n    yield ('one', a, b)\n"
        path.write_text(text)
        async with Kernel() as kernel:
            await kernel.insmod(path, a=5)
            path.write_text(text.replace("one", "two"))
            assert (await kernel.reload("m", b=2)).exports == ("two", 5, 2)

    async def test_refused(self) -> None:
        """
        What rmmod refuses, reload does; and a reload on top of another.
        """
        gate = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            with refused(ENOENT):
                await kernel.reload("m")
            old = await kernel.insmod(version(1, "a"), "m")
            assert old.try_get()
            with refused(EWOULDBLOCK):
                await kernel.reload("m")
            old.put()
            await start(tg, kernel.reload, "m", version(2, "a"), gate=gate)
            for call in (kernel.rmmod("m"), kernel.reload("m")):
                with refused(EBUSY):
                    await call
            with refused(EEXIST):
                await kernel.insmod(version(3), "m")
            gate.set()

    @pytest.mark.parametrize("how", ["reference", "user"])
    async def test_refused_late(self, how: str) -> None:
        """
        Who refers to the old version while the new init runs keeps it; the new exit runs.
        """
        gate = anyio.Event()

        @depends("m")
        async def user(kernel: Kernel) -> AsyncIterator[None]:
            yield

        async with Kernel() as kernel, create_task_group() as tg:
            old = await kernel.insmod(version(1, "a"), "m")
            reload = await start(tg, kernel.reload, "m", version(2, "a", "b"), gate=gate)
            if how == "user":
                await kernel.insmod(user)
            else:
                assert old.try_get()
            gate.set()
            await wait_all_tasks_blocked()
            with refused(EWOULDBLOCK):
                _ = reload.result
            assert kernel.find_module("m") is old
            assert kernel.proc.listdir() == ["a", "modules"]
            assert await kernel.proc.read_text("a") == "1"
            if how == "reference":
                old.put()

    async def test_new_name_taken_meanwhile(self) -> None:
        """
        Who registers a name that is new in the new version, before that is there, wins.
        """
        gate = anyio.Event()
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(version(1, "a"), "m")
            reload = await start(tg, kernel.reload, "m", version(2, "b", "a"), gate=gate)
            theirs = kernel.proc.create("b", ProcOps())
            gate.set()
            await wait_all_tasks_blocked()
            with refused(EEXIST) as caught:
                _ = reload.result
            assert caught.value.filename == "/proc/b"
            assert kernel.proc.lookup("b") is theirs
            assert await kernel.proc.read_text("a") == "1"

    async def test_cancelled_during_init(self) -> None:
        """
        A reload cancelled then leaves the old version as it was.
        """
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(version(1, "a"), "m")
            reload = await start(tg, kernel.reload, "m", version(2, "a"), gate=anyio.Event())
            reload.cancel()
            await wait_all_tasks_blocked()
            assert reload.cancelled
            assert lines(kernel) == ["m 0  Live"]
            assert await kernel.proc.read_text("a") == "1"

    async def test_cancelled_later(self) -> None:
        """
        Cancelled when the new version is there, the old one goes without its caller.
        """
        handlers = Handlers(b"1")
        handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            old = await kernel.insmod(version(1, "a", handlers=handlers), "m")
            read = await start(tg, kernel.proc.read_text, "a")
            reload = await start(tg, kernel.reload, "m", version(2, "a"))
            reload.cancel()
            await wait_all_tasks_blocked()
            assert reload.cancelled
            assert old.state is ModuleState.GOING
            handlers.let_go("read")
            await old.wait_gone()
            assert read.done
            assert await kernel.proc.read_text("a") == "2"

    async def test_again_before_the_old_one_is_gone(self) -> None:
        """
        A third version may come while the first still goes; each exit finds its own names.
        """
        handlers = [Handlers(b"1"), Handlers(b"2")]
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(version(1, "a", "b", handlers=handlers[0]), "m")
            reads: list[Any] = []
            for n in (0, 1):
                handlers[n].hold_up("read")
                reads.append(await start(tg, kernel.proc.read_text, "a"))
                following = handlers[1] if n == 0 else None
                await start(tg, kernel.reload, "m", version(n + 2, "a", "b", handlers=following))
            assert lines(kernel) == ["m 0  Live", "m -1  Unloading", "m -1  Unloading"]
            for n in (0, 1):
                handlers[n].let_go("read")
                await wait_all_tasks_blocked()
                assert await kernel.proc.read_text("b") == "3"
            assert [read.result for read in reads] == ["1", "2"]
            assert lines(kernel) == ["m 0  Live"]

    async def test_name_of_the_old_one_taken_afterwards(self) -> None:
        """
        A name only the old version had is free at the switch; its exit does not take it away.
        """
        handlers = Handlers(b"1")
        handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(version(1, "a", "b", handlers=handlers), "m")
            await start(tg, kernel.proc.read_text, "a")
            reload = await start(tg, kernel.reload, "m", version(2, "a"))
            assert kernel.proc.listdir() == ["a", "modules"]
            theirs = kernel.proc.create("b", ProcOps())
            handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert reload.done
            assert kernel.proc.lookup("b") is theirs
            assert state(theirs) == "live"

    async def test_background_tasks_take_turns_too(self) -> None:
        """
        What a background task registers belongs to its version, before the switch and after.
        """

        def main(number: int) -> Any:
            async def task(kernel: Kernel, events: list[anyio.Event]) -> None:
                registered, may_end, ended = events
                kernel.proc.create("x", Handlers(str(number).encode()).ops("read"))
                registered.set()
                await may_end.wait()
                await kernel.proc.remove("x")
                ended.set()

            async def main(kernel: Kernel) -> AsyncIterator[None]:
                events = [anyio.Event() for _ in range(3)]
                this_module().start_soon(task, kernel, events)
                await events[0].wait()
                yield
                events[1].set()
                await events[2].wait()

            return main

        async with Kernel() as kernel:
            await kernel.insmod(main(1), "m")
            assert await kernel.proc.read_text("x") == "1"
            await kernel.reload("m", main(2))
            assert await kernel.proc.read_text("x") == "2"
            await kernel.rmmod("m")
            assert kernel.proc.listdir() == ["modules"]

    async def test_errors_of_the_old_exit(self) -> None:
        """
        The new version is live, and who reloads is told what went wrong with the old.
        """

        async def bad(kernel: Kernel) -> AsyncIterator[None]:
            yield
            fail(ValueError("exit"))

        async with Kernel() as kernel:
            await kernel.insmod(bad, "m")
            with pytest.raises(ExceptionGroup) as caught:
                await kernel.reload("m", version(2, "a"))
            assert caught.group_contains(ValueError, match="exit")
            assert lines(kernel) == ["m 0  Live"]

    async def test_kernel_left_meanwhile(self) -> None:
        """
        Leaving the kernel during a reload ends both versions.
        """
        kernel = Kernel()
        async with create_task_group() as tg:
            async with kernel:
                await kernel.insmod(version(1, "a"), "m")
                reload = await start(tg, kernel.reload, "m", version(2, "a"), gate=anyio.Event())
            await wait_all_tasks_blocked()
            with refused(EINTR):
                _ = reload.result
        assert kernel.lsmod() == []


async def test_rmmod_and_insmod_with_a_pinned_file() -> None:
    """
    A module that is reloaded in a loop under an open file registers anew each time (B25).
    """
    driver = Driver()
    async with Kernel() as kernel:
        files: list[ProcFile] = []
        for _ in range(5):
            await kernel.insmod(driver.main, "pdemod")
            files.append(await kernel.proc.open("pdemod"))
            await kernel.rmmod("pdemod")
        for file in files:
            await file.aclose()
        assert driver.log.count("init") == driver.log.count("exit ends") == 5
