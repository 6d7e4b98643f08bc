"""Waiting for an unload: who holds it up, deadlocks through others, and the end of the grace."""

from __future__ import annotations

import logging
from errno import EDEADLK, EIO
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group

from aiopde import File, Kernel, ModuleState, ProcOps, RemovalTimeoutError, _watch, this_module
from tests.helpers import SLACK, Call, Handlers, all_blocked, refused, start, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

GRACE = 0.02


@pytest.fixture
def looks_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits looks for a deadlock soon, and not only after half a second."""
    monkeypatch.setattr(_watch, "_FIRST_LOOK", GRACE)


def module_of(read: Callable[[File, int, int], Awaitable[bytes]], name: str = "x") -> Any:
    """Make a module with one file, whose exit removes it."""

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        async with kernel.proc.create(name, ProcOps(read=read)):
            yield

    return main


def stuck_exit(may_go: anyio.Event) -> Any:
    """Make a module whose exit waits for something; D5 is one such."""

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        yield
        await may_go.wait()

    return main


class TestDeadlock:
    """A handler that waits for the unload of its own module."""

    @pytest.mark.parametrize("how", ["rmmod", "reload", "wait_gone"])
    async def test_directly(self, how: str) -> None:
        """
        D1: it is told at once, with EDEADLK, and nothing is changed.
        """
        told: list[bool] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            with refused(EDEADLK):
                if how == "wait_gone":
                    await module.wait_gone()
                await getattr(kernel, how)("m")
            told.append(True)
            return b""

        async with Kernel() as kernel:
            module = await kernel.insmod(module_of(read), "m")
            await kernel.proc.read_bytes("x")
            assert told
            assert [info.name for info in kernel.lsmod()] == ["m"]

    async def test_through_a_child(self) -> None:
        """
        D1: a task that the handler waits for is told within a second, with the way round.

        The unload goes on, and ends with the call. Its exit, which can do nothing about it, is
        not told.
        """
        children: list[Call[None]] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            async with create_task_group() as tg:
                children.append(Call(lambda: kernel.rmmod("m")))
                tg.start_soon(children[0].run, name="child")
            return b"read"[pos : pos + size]

        async with Kernel() as kernel, create_task_group() as tg:
            module = await kernel.insmod(module_of(read), "m")
            reader = Call((await kernel.proc.open("x")).read)
            began = anyio.current_time()
            tg.start_soon(reader.run, name="reader")
            await module.wait_gone()
            assert anyio.current_time() - began < 1 + SLACK
            with refused(EDEADLK) as caught:
                _ = children[0].result
            assert str(caught.value).splitlines()[1:] == [
                "  task 'child' waits for task 'module m'",
                "  task 'module m' waits for the removal of '/proc/x'",
                "  which waits for the read of '/proc/x' in task 'reader'",
                "  task 'reader' waits for task 'child': 'm'",
            ]
            await all_blocked()
            assert reader.result == b"read"
        assert kernel.uses_after_free == 0

    @pytest.mark.usefixtures("looks_soon")
    async def test_crosswise(self) -> None:
        """
        D6: of two handlers that unload each other's module, one is told; then all comes to an end.
        """
        told: list[OSError] = []
        may_go = anyio.Event()

        def unloading(other: str) -> Any:
            async def read(file: File, size: int, pos: int) -> bytes:
                await may_go.wait()
                try:
                    await kernel.rmmod(other)
                except OSError as exc:
                    told.append(exc)
                return b""

            return read

        async with Kernel() as kernel, create_task_group() as tg:
            modules = [
                await kernel.insmod(module_of(unloading(other), name), name)
                for name, other in (("a", "b"), ("b", "a"))
            ]
            readers = [await start(tg, (await kernel.proc.open(name)).read) for name in "ab"]
            may_go.set()
            for module in modules:
                await module.wait_gone()
            await all_blocked()
            assert [reader.result for reader in readers] == [b"", b""]
        assert [exc.errno for exc in told] == [EDEADLK]

    @pytest.mark.usefixtures("looks_soon")
    async def test_through_a_removal(self) -> None:
        """
        D6: so does a circle through a removal by one handler, and an unload by the other.
        """
        told: list[int | None] = []
        may_go = anyio.Event()

        async def removing(file: File, size: int, pos: int) -> bytes:
            await may_go.wait()
            await other.remove()
            return b""

        async def unloading(file: File, size: int, pos: int) -> bytes:
            await may_go.wait()
            with refused(EDEADLK) as caught:
                await kernel.rmmod("m")
            told.append(caught.value.errno)
            return b""

        async with Kernel() as kernel, create_task_group() as tg:
            module = await kernel.insmod(module_of(removing), "m")
            other = kernel.proc.create("y", ProcOps(read=unloading))
            readers = [await start(tg, (await kernel.proc.open(name)).read) for name in "xy"]
            may_go.set()
            await module.wait_gone()
            await all_blocked()
            assert [reader.result for reader in readers] == [b"", b""]
        assert told == [EDEADLK]

    @pytest.mark.usefixtures("looks_soon")
    async def test_an_outsider_is_not_told(self) -> None:
        """
        Who waits for an unload that waits for others, or joins it, waits on.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            module = await kernel.insmod(module_of(handlers.read), "m")
            await start(tg, (await kernel.proc.open("x")).read)
            waiting = [await start(tg, kernel.rmmod, "m"), await start(tg, module.wait_gone)]
            await anyio.sleep(4 * GRACE)
            assert [each.done for each in waiting] == [False, False]
            handlers.let_go("read")
            await module.wait_gone()
            await all_blocked()
            assert [each.result for each in waiting] == [None, None]

    @pytest.mark.usefixtures("looks_soon")
    async def test_its_own_task_is_not_told(self) -> None:
        """
        A module's own task may unload it: that is no circle, for the task is cancelled in the end.
        """
        handlers, inside = Handlers(), anyio.Event()
        handlers.hold_up("read")

        async def task(kernel: Kernel) -> None:
            await inside.wait()
            await kernel.rmmod("main")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(task, kernel)
            async with kernel.proc.create("x", handlers.ops("read")):
                yield

        async with Kernel() as kernel, create_task_group() as tg:
            module = await kernel.insmod(main)
            reader = await start(tg, (await kernel.proc.open("x")).read)
            inside.set()
            await anyio.sleep(4 * GRACE)
            assert (module.state, kernel.oopses) == (ModuleState.GOING, 0)
            handlers.let_go("read")
            await module.wait_gone()
            assert reader.result == b"content"


class TestGrace:
    async def test_that_is_no_time(self) -> None:
        """
        It is refused before anything is begun.
        """
        may_go = anyio.Event()
        may_go.set()
        async with Kernel() as kernel:
            module = await kernel.insmod(stuck_exit(may_go), "m")
            with pytest.raises(ValueError, match="grace is a number of seconds >= 0"):
                await kernel.rmmod("m", grace=-1)
            assert module.state is ModuleState.LIVE

    async def test_of_an_exit_that_does_not_end(self) -> None:
        """
        D5: the error tells where the module's exit stands, without a second's delay.
        """
        may_go = anyio.Event()
        async with Kernel() as kernel:
            module = await kernel.insmod(stuck_exit(may_go), "m")
            with pytest.raises(RemovalTimeoutError) as caught:
                await kernel.rmmod("m", grace=GRACE)
            assert caught.value.seconds < 1 + SLACK
            (holder,) = caught.value.holders
            assert (holder.task, holder.path, holder.op) == ("module m", "m", "exit")
            assert any(line.endswith(" in main") for line in holder.stack)
            may_go.set()
            await module.wait_gone()

    @pytest.mark.parametrize("killable", [False, True])
    async def test_of_the_tree_does_not_fail_an_exit(self, *, killable: bool) -> None:
        """
        It is for who waits for the unload; exit goes on waiting, and frees what it has to free.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        log: list[str] = []

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            entry = kernel.proc.create("x", handlers.ops("read"), killable=killable)
            yield
            await entry.remove()
            log.append(f"freed, with {entry.in_use} inside")

        async with Kernel(grace=GRACE) as kernel, create_task_group() as tg:
            module = await kernel.insmod(main)
            await start(tg, kernel.proc.read_bytes, "x")
            if killable:
                await kernel.rmmod("main")
            else:
                with pytest.raises(RemovalTimeoutError) as caught:
                    await kernel.rmmod("main")
                assert caught.value.seconds < 1 + SLACK
                await anyio.sleep(2 * GRACE)
                assert (module.state, log) == (ModuleState.GOING, [])
                handlers.let_go("read")
                await module.wait_gone()
            assert log == ["freed, with 0 inside"]

    async def test_of_a_task_that_does_not_end(self) -> None:
        """
        So does it with a task in background that heeds no cancellation.
        """
        may_go = anyio.Event()

        async def task() -> None:
            with CancelScope(shield=True):
                await may_go.wait()

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(task, name="worker")
            yield

        async with Kernel() as kernel:
            module = await kernel.insmod(main)
            with pytest.raises(RemovalTimeoutError) as caught:
                await kernel.rmmod("main", grace=GRACE)
            found = {(holder.task, holder.op) for holder in caught.value.holders}
            assert found == {("module main", "exit"), ("worker", "a task")}
            may_go.set()
            await module.wait_gone()

    async def test_kills_one_after_the_other(self) -> None:
        """
        Calls that may be killed are, at once, also those that exit comes to wait for later.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            entries = [
                kernel.proc.create(name, handlers.ops("read"), killable=True) for name in "abc"
            ]
            yield
            for entry in entries:
                await entry.remove()

        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(main)
            readers = [await start(tg, kernel.proc.read_bytes, name) for name in "abc"]
            began = anyio.current_time()
            await kernel.rmmod("main", grace=GRACE)
            assert anyio.current_time() - began < 1 + SLACK
            await all_blocked()
            for reader in readers:
                with refused(EIO):
                    _ = reader.result

    async def test_kills_who_comes_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        As long as exit gets on it has more time, and who came in meanwhile is killed too.
        """
        monkeypatch.setattr(_watch, "UNWIND", 0.5)
        handlers = Handlers()
        handlers.hold_up("read")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            entries = [
                kernel.proc.create(name, handlers.ops("read"), killable=True) for name in "ab"
            ]
            yield
            await entries[0].remove()
            tg.start_soon(late.run)
            while not entries[1].in_use:
                await anyio.lowlevel.checkpoint()
            await entries[1].remove()

        late = Call(lambda: kernel.proc.read_bytes("b"))
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(main)
            await start(tg, kernel.proc.read_bytes, "a")
            await kernel.rmmod("main", grace=GRACE)
            await all_blocked()
            with refused(EIO):
                _ = late.result

    async def test_at_the_end_of_the_kernel(self) -> None:
        """
        An exit that does not end is cut short there, and the error tells of it.
        """
        with pytest.raises(ExceptionGroup) as caught:
            await leave_with(stuck_exit(anyio.Event()))
        (exc,) = caught.value.exceptions
        assert isinstance(exc, RemovalTimeoutError)
        assert [holder.op for holder in exc.holders] == ["exit"]


async def leave_with(main: Any) -> None:
    async with Kernel(grace=GRACE) as kernel:
        await kernel.insmod(main, "m")


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What we have logged: asyncio has things to say of its own when the machine is slow."""
    return [record for record in caplog.records if record.name == "aiopde"]


class TestHungTask:
    async def test_of_an_exit(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        An exit that takes long is logged, with where it stands; once, whoever else waits.
        """
        may_go = anyio.Event()
        with caplog.at_level(logging.WARNING, "aiopde"):
            async with Kernel(hung_task_timeout=GRACE) as kernel, create_task_group() as tg:
                module = await kernel.insmod(stuck_exit(may_go), "m")
                await start(tg, kernel.rmmod, "m")
                await wait_until(lambda: own_records(caplog))
                await anyio.sleep(2 * GRACE)
                may_go.set()
                await module.wait_gone()
        (record,) = own_records(caplog)
        first, second = record.getMessage().splitlines()
        assert first.startswith("unload of m has waited for ")
        assert second.startswith("  task 'module m' in exit of 'm', at ")

    async def test_of_a_removal_in_it(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        What a removal reports is not reported again.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        with caplog.at_level(logging.WARNING, "aiopde"):
            async with Kernel(hung_task_timeout=GRACE) as kernel, create_task_group() as tg:
                await kernel.insmod(module_of(handlers.read), "m")
                await start(tg, (await kernel.proc.open("x")).read)
                await start(tg, kernel.rmmod, "m")
                await wait_until(lambda: own_records(caplog))
                await anyio.sleep(2 * GRACE)
                handlers.let_go("read")
        (record,) = own_records(caplog)
        assert record.getMessage().startswith("removal of /proc/x has waited for ")
