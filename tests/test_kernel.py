"""A kernel: its life, what it tells of its modules, and what it refuses to unload."""

from __future__ import annotations

import os
from errno import EBUSY, EDEADLK, EINTR, EIO, ENAMETOOLONG, ENOENT, EWOULDBLOCK
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import (
    File,
    Kernel,
    ModuleState,
    ProcOps,
    RemovalTimeoutError,
    TraceRecord,
    depends,
    trace,
)
from tests.drivers import FORCE, Driver, fail, lines, pdedep, pdemod, permanent
from tests.helpers import Handlers, refused, start, state, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiopde._kmod import Program


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


def test_may_be_made_before_there_is_a_loop() -> None:
    """
    A kernel, like a tree, can be a global of a program, and is entered where its loop runs.
    """
    kernel = Kernel()

    async def main() -> None:
        async with kernel:
            assert kernel.proc.listdir() == ["modules"]

    anyio.run(main)
