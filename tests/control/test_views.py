"""Who is inside, since when, and what a removal waits for; asked over a real socket."""

from __future__ import annotations

import gc
from errno import ENOENT
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group

from aiopde import Kernel, ModuleState, ProcOps, this_module
from aiopde.control import _views
from tests.helpers import Handlers, all_blocked, refused, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import Serve


class Clock:
    """The time that is told, as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._offset = 0.0
        self._real = anyio.current_time
        monkeypatch.setattr(anyio, "current_time", lambda: self._real() + self._offset)

    def advance(self, seconds: float) -> None:
        self._offset += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def functions(stack: list[str]) -> list[str]:
    return [frame.rpartition(" in ")[2] for frame in stack]


class TestPs:
    async def test_who_is_inside(self, serve: Serve) -> None:
        """
        Each call is told with task, entry, operation and stack; by path, only those below.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            served.proc.mkdir("d")
            served.proc.create("d/x", handlers.ops("read"), killable=True)
            assert await served.ask("ps") == []
            await start(tg, served.proc.read_bytes, "d/x")
            (told,) = await served.ask("ps")
            assert (told["path"], told["op"], told["killable"]) == ("/proc/d/x", "read", True)
            assert functions(told["stack"])[-2:] == ["_enter", "read"]
            assert len(await served.ask("ps", path="d")) == 1
            assert await served.ask("ps", path="modules") == []
            with refused(ENOENT):
                await served.ask("ps", path="y")
            handlers.let_go("read")

    async def test_a_client_is_told_by_its_process(self, serve: Serve) -> None:
        """
        A call that came over the socket is its process's, so that an operator can find it.
        """
        import os

        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            served.proc.create("x", handlers.ops("read"))
            file = (await served.ask("open", path="x"))["file"]
            await start(tg, served.ask, "read", file=file)
            from aiopde.control import connect

            async with await connect(served.path) as other:
                (told,) = await other.ask("ps")
            assert told["task"] == f"control pid {os.getpid()}"
            handlers.let_go("read")

    async def test_since_when(self, serve: Serve, clock: Clock) -> None:
        """
        A call has been inside at least since it was first seen; the next one starts from 0.
        """
        handlers = Handlers()

        async def read_on(file: Any) -> None:
            await file.read()
            await file.read()

        async with serve() as served, create_task_group() as tg:
            served.proc.create("x", handlers.ops("read"))
            file = await served.proc.open("x")
            handlers.hold_up("read")
            await start(tg, read_on, file)
            clock.advance(60)
            assert (await served.ask("ps"))[0]["seconds"] < 10
            clock.advance(100)
            assert 100 <= (await served.ask("ps"))[0]["seconds"] < 110
            handlers.let_go("read")
            handlers.hold_up("read")
            await all_blocked()
            assert (await served.ask("ps"))[0]["seconds"] < 10
            handlers.let_go("read")

    async def test_since_before_the_removal(self, serve: Serve, clock: Clock) -> None:
        """
        Whoever is inside of what is being removed, has been so for longer than that.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            entry = served.proc.create("x", handlers.ops("read"))
            await start(tg, served.proc.read_bytes, "x")
            await start(tg, entry.remove)
            clock.advance(5)
            assert 5 <= (await served.ask("ps"))[0]["seconds"] < 10
            handlers.let_go("read")

    async def test_nothing_is_kept_alive(self, serve: Serve) -> None:
        """
        What was seen is remembered only as long as it lasts.
        """
        handlers = Handlers()
        looks = _views.Looks()
        async with serve() as served, create_task_group() as tg:
            served.proc.create("x", handlers.ops("read"))
            handlers.hold_up("read")
            await start(tg, served.proc.read_bytes, "x")
            assert len(looks.look(served.proc.root)) == len(looks._first) == 1
            handlers.let_go("read")
            await all_blocked()
            gc.collect()  # the loop's own cycles
            assert len(looks._first) == 0

    async def test_a_call_that_asks_itself(self, serve: Serve) -> None:
        """
        A handler may look too; its own call has only just begun, as far as anybody knows.
        """
        looks = _views.Looks()
        found: list[float] = []

        async def read(file: Any, size: int, pos: int) -> bytes:
            found.extend(told["seconds"] for _, told in looks.look(file.entry))
            return b""

        async with serve() as served:
            served.proc.create("x", ProcOps(read=read))
            await served.proc.read_bytes("x")
        assert found == [0.0]


class TestWhy:
    async def test_nothing_to_explain(self, serve: Serve) -> None:
        """
        What is not going has no reason not to be gone; what there is not is ENOENT.
        """

        async def calm(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("file", ProcOps()):
                yield

        async with serve() as served:
            await served.kernel.insmod(calm)
            for name in ("calm", "file", "/proc/file", ""):
                assert await served.ask("why", name=name) == []
            for name in ("calmer", "/sys/file", "file/x"):
                with refused(ENOENT):
                    await served.ask("why", name=name)

    async def test_a_module_that_waits_for_a_call(self, serve: Serve, clock: Clock) -> None:
        """
        An unload is told with its age, the calls in its entries, and where its exit stands; and
        once, though what it removes has the same name.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def driver(kernel: Kernel) -> AsyncIterator[None]:
            directory = kernel.proc.mkdir("driver")
            kernel.proc.create("x", handlers.ops("read"), parent=directory)
            yield
            await directory.remove()

        async with serve() as served, create_task_group() as tg:
            other = served.proc.create("other", handlers.ops("read"))
            await served.kernel.insmod(driver)
            await start(tg, served.proc.read_bytes, "driver/x")
            await start(tg, served.proc.read_bytes, "other")
            await start(tg, served.kernel.rmmod, "driver")
            clock.advance(7)
            (told,) = await served.ask("why", name="driver")
            assert (told["kind"], told["name"]) == ("module", "driver")
            assert 7 <= told["seconds"] < 10
            assert [holder["path"] for holder in told["holders"]] == ["/proc/driver/x"]
            assert [task["task"] for task in told["tasks"]] == ["module driver"]
            assert "driver" in functions(told["tasks"][0]["stack"])
            assert other.in_use == 1
            handlers.let_go("read")

    async def test_a_module_whose_own_code_is_stuck(self, serve: Serve) -> None:
        """
        With no call inside, where exit and the background tasks stand says why.
        """
        gate = anyio.Event()

        async def stubborn(kernel: Kernel) -> AsyncIterator[None]:
            this_module().start_soon(wait_in_background, name="background")
            yield
            await wait_in_exit()

        async def wait_in_exit() -> None:
            await gate.wait()

        async def wait_in_background() -> None:
            await gate.wait()

        async with serve() as served, create_task_group() as tg:
            await served.kernel.insmod(stubborn)
            await start(tg, served.kernel.rmmod, "stubborn")
            (told,) = await served.ask("why", name="stubborn")
            assert told["holders"] == []
            stacks = {task["task"]: functions(task["stack"]) for task in told["tasks"]}
            assert "wait_in_exit" in stacks["module stubborn"]
            assert "wait_in_background" in stacks["background"]
            gate.set()

    async def test_an_entry(self, serve: Serve, clock: Clock) -> None:
        """
        A removal is told when one asks for its entry, what is below it, or what it is below.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            served.proc.mkdir("d")
            served.proc.mkdir("d/e")
            served.proc.create("d/e/x", handlers.ops("read"))
            served.proc.create("d/f", ProcOps())
            await start(tg, served.proc.read_bytes, "d/e/x")
            await start(tg, served.proc.remove_subtree, "d/e")
            clock.advance(3)
            for name in ("d", "d/e", "d/e/x", "/proc/d/e/", ""):
                (told,) = await served.ask("why", name=name)
                assert (told["kind"], told["name"], told["tasks"]) == ("entry", "/proc/d/e", [])
                assert [holder["path"] for holder in told["holders"]] == ["/proc/d/e/x"]
                assert 3 <= told["seconds"] < 10
            assert await served.ask("why", name="d/f") == []
            handlers.let_go("read")

    async def test_two_removals_of_one_name(self, serve: Serve) -> None:
        """
        A name that was taken anew and removed again has two removals.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            for _ in range(2):
                served.proc.create("x", handlers.ops("read"))
                await start(tg, served.proc.read_bytes, "x")
                await start(tg, served.proc.remove, "x")
            assert len(await served.ask("why", name="x")) == 2
            handlers.let_go("read")

    async def test_a_module_whose_init_has_failed(self, serve: Serve) -> None:
        """
        Nobody asked it to unload, so there is no since; what it waits for is told.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        may_fail = anyio.Event()

        async def failing(kernel: Kernel) -> None:
            kernel.proc.create("x", handlers.ops("read"))
            await may_fail.wait()
            msg = "in init"
            raise ValueError(msg)

        async with serve() as served, create_task_group() as tg:
            insmod = await start(tg, served.kernel.insmod, failing)
            await start(tg, served.proc.read_bytes, "x")
            may_fail.set()
            await all_blocked()
            (told,) = await served.ask("why", name="failing")
            assert told["seconds"] is None
            assert [holder["op"] for holder in told["holders"]] == ["read"]
            handlers.let_go("read")
            await all_blocked()
            assert isinstance(insmod.error, ValueError)

    async def test_a_removal_that_nobody_waits_for_yet(self, serve: Serve) -> None:
        """
        A removal that has only just begun has taken no time.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            entry = served.proc.create("x", handlers.ops("read"))
            await start(tg, served.proc.read_bytes, "x")
            assert entry.remove_self()
            told = _views.tell_why(served.kernel, _views.Looks(), "x")
            assert told[0]["seconds"] == 0
            handlers.let_go("read")

    async def test_a_reload(self, serve: Serve) -> None:
        """
        While the old version waits for its calls, the new one is live, and the old one told.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def twice(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("x", handlers.ops("read")):
                yield

        async with serve() as served, create_task_group() as tg:
            await served.kernel.insmod(twice)
            await start(tg, served.proc.read_bytes, "x")
            await start(tg, served.kernel.reload, "twice", twice)
            states = [module["state"] for module in await served.ask("lsmod")]
            assert states == [ModuleState.LIVE.value, ModuleState.GOING.value]
            (told,) = await served.ask("why", name="twice")
            assert len(told["holders"]) == 1
            handlers.let_go("read")
