"""Another version in the place of a module: what is seen of both, and when."""

from __future__ import annotations

from errno import EBUSY, EEXIST, EINTR, EIO, ENOENT, EWOULDBLOCK
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import Kernel, ModuleState, ProcFile, ProcOps, depends, this_module
from tests.drivers import Driver, fail, lines
from tests.helpers import Handlers, refused, start, state, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


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
