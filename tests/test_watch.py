"""Waiting for a removal, with an eye on the clock: its grace, who is told of it, what is logged."""

from __future__ import annotations

import logging
import math
import pickle
from contextlib import suppress
from errno import EIO, ETIMEDOUT
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group

from aiopde import File, Holder, ProcFile, ProcFS, ProcOps, RemovalTimeoutError, _deadlock, _watch
from tests.helpers import SLACK, Call, Handlers, all_blocked, refused, start, state, wait_until
from tests.stuck import GRACE, stuck, tasks_and_ops

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from trio.testing import MockClock

    from aiopde._removal import Removal

    Use = Callable[[ProcFS, ProcFile], Awaitable[object]]


@pytest.fixture
def unwind_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that were cancelled have less time to end than a real second."""
    monkeypatch.setattr(_watch, "UNWIND", GRACE)


@pytest.fixture
def reports() -> Generator[list[logging.LogRecord]]:
    """What is logged."""
    found: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    handler = Collector()
    logging.getLogger("aiopde").addHandler(handler)
    yield found
    logging.getLogger("aiopde").removeHandler(handler)


class TestGrace:
    @pytest.mark.parametrize("killable", [False, True])
    async def test_calls_that_end_in_time(self, *, killable: bool) -> None:
        """
        A removal whose calls end before its grace does is like any other.
        """
        async with stuck(killable) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=3600)
            it.let_go()
            await all_blocked()
            assert remover.result is None
            assert (it.reader.result, state(it.entry)) == (b"content", "gone")

    async def test_a_stuck_call_is_reported(self) -> None:
        """
        When the grace has ended the remover gets an error that tells who is inside, and where.
        """
        async with stuck() as it:
            with pytest.raises(RemovalTimeoutError) as caught:
                await it.entry.remove(grace=GRACE)
            (holder,) = caught.value.holders
            assert (holder.task, holder.path, holder.op) == ("reader", "/proc/x", "read")
            assert holder.stack[-1].endswith(" in read")
            assert holder.waited == pytest.approx(caught.value.seconds, abs=0.1)
            assert caught.value.seconds > 0.9 * GRACE  # uvloop's clock has milliseconds only
            assert str(holder) in str(caught.value)

    async def test_what_was_reported_goes_on_dying(self) -> None:
        """
        After that the entry refuses every call; it is gone when the call has ended by itself.
        """
        async with stuck() as it:
            file = await it.proc.open("x")
            with pytest.raises(RemovalTimeoutError):
                await it.entry.remove(grace=GRACE)
            assert state(it.entry) == "dying"
            with refused(EIO):
                await file.read()
            it.let_go()
            await it.entry.remove()
            assert state(it.entry) == "gone"
            assert it.reader.result == b"content"
            assert it.handlers.log.count("release None") == 2

    async def test_a_later_removal_joins(self) -> None:
        """
        Whoever awaits it again waits for the same removal, with a grace of its own.
        """
        async with stuck() as it, create_task_group() as tg:
            for _ in range(3):
                with pytest.raises(RemovalTimeoutError):
                    await it.entry.remove(grace=GRACE)
            joiner = await start(tg, it.entry.remove)
            assert not joiner.done
            it.let_go()
            await all_blocked()
            assert joiner.result is None

    async def test_a_killable_call_gets_eio(self) -> None:
        """
        B27: if it is killable the handler is cancelled, its caller gets EIO, the removal succeeds.
        """
        async with stuck(killable=True) as it:
            await it.entry.remove(grace=GRACE)
            await all_blocked()
            assert state(it.entry) == "gone"
            with refused(EIO) as caught:
                _ = it.reader.result
            assert not it.reader.cancelled
            assert "grace" in str(caught.value)
            assert caught.value.filename == "/proc/x"
            assert not it.handlers.busy

    async def test_not_before_its_time(self) -> None:
        """
        A killable call is let be until the grace has ended.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=3600)
            assert (remover.done, it.reader.done) == (False, False)
            it.let_go()

    async def test_of_a_mixture(self) -> None:
        """
        Of calls of both kinds, the killable ones are cancelled, and the others reported.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            readers: dict[str, Call[bytes]] = {}
            for name in ("a", "b", "c"):
                proc.create(f"d/{name}", handlers.ops("read"), killable=name != "b")
                readers[name] = await start(tg, proc.read_bytes, f"d/{name}")
            with pytest.raises(RemovalTimeoutError) as caught:
                await directory.remove(grace=GRACE)
            await all_blocked()
            assert [holder.path for holder in caught.value.holders] == ["/proc/d/b"]
            assert [readers[name].done for name in "abc"] == [True, False, True]
            handlers.let_go("read")
            await directory.remove()
            assert readers["b"].result == b"content"

    async def test_nobody_else_is_killed(self) -> None:
        """
        Calls in killable entries that stay are let be.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            readers: list[Call[bytes]] = []
            for name in ("x", "y"):
                proc.create(name, handlers.ops("read"), killable=True)
                readers.append(await start(tg, proc.read_bytes, name))
            await proc.remove("x", grace=GRACE)
            await all_blocked()
            assert [reader.done for reader in readers] == [True, False]
            handlers.let_go("read")

    @pytest.mark.parametrize("how", ["entry", "remove", "remove_subtree", "tree"])
    async def test_wherever_it_is_said(self, how: str) -> None:
        """
        remove(), remove_subtree() and the entry's own remove() take it; the tree has a default.
        """
        async with stuck(grace=GRACE if how == "tree" else None) as it:
            removals = {
                "entry": lambda: it.entry.remove(grace=GRACE),
                "remove": lambda: it.proc.remove("x", grace=GRACE),
                "remove_subtree": lambda: it.proc.remove_subtree("x", grace=GRACE),
                "tree": lambda: it.proc.remove("x"),
            }
            with pytest.raises(RemovalTimeoutError):
                await removals[how]()
            it.let_go()

    async def test_the_trees_can_be_overridden(self) -> None:
        """
        Infinity stands for no grace at all, where the tree has one.
        """
        async with stuck(grace=GRACE) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=math.inf)
            await anyio.sleep(2 * GRACE)
            assert not remover.done
            it.let_go()

    @pytest.mark.parametrize("killable", [False, True])
    async def test_of_nothing(self, *, killable: bool) -> None:
        """
        With a grace of 0 the calls that are inside are dealt with at once.
        """
        async with stuck(killable) as it:
            if killable:
                await it.entry.remove(grace=0)
                assert state(it.entry) == "gone"
            else:
                with pytest.raises(RemovalTimeoutError):
                    await it.entry.remove(grace=0)

    async def test_of_nothing_with_nobody_inside(self) -> None:
        """
        There is nothing to time out where there is nothing to wait for.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("release"))
            await proc.open("x")
            await entry.remove(grace=0)
            assert state(entry) == "gone"

    async def test_cancelled_before_its_end(self) -> None:
        """
        A remover that is cancelled gets its cancellation, and the grace is forgotten with it.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove, grace=0.5)
            remover.cancel()
            await all_blocked()
            assert remover.cancelled
            await anyio.sleep(0.6)
            assert not it.reader.done

    @pytest.mark.parametrize("grace", [-1, math.nan, 10**400])
    async def test_that_is_no_time(self, grace: float) -> None:
        """
        Less than nothing is a ValueError, of a tree as of a removal, which then has not begun.
        """
        for name in ("grace", "hung_task_timeout"):
            options: dict[str, Any] = {name: grace}
            with pytest.raises(ValueError, match=f"{name} is a number of seconds >= 0"):
                ProcFS(**options)
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            with pytest.raises(ValueError, match="grace is a number of seconds >= 0"):
                await entry.remove(grace=grace)
            assert state(entry) == "live"

    async def test_that_is_no_number(self) -> None:
        """
        It is a TypeError with the same words.
        """
        grace: Any = "soon"
        with pytest.raises(TypeError, match=r"grace is a number of .* not 'soon'"):
            ProcFS(grace=grace)

    @pytest.mark.usefixtures("unwind_soon")
    async def test_of_what_no_task_shows(self) -> None:
        """
        What was let in by hand is in no task: the error says that much.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), killable=True)
            entry.use()
            with pytest.raises(RemovalTimeoutError, match="no call in a task") as caught:
                await entry.remove(grace=GRACE)
            assert caught.value.holders == ()
            entry.unuse()


class TestJoiners:
    async def test_a_joiners_grace_is_its_own(self) -> None:
        """
        The grace of one who joins ends for that one only; the first goes on waiting.
        """
        async with stuck() as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            with pytest.raises(RemovalTimeoutError):
                await it.entry.remove(grace=GRACE)
            assert not remover.done
            it.let_go()
            await all_blocked()
            assert remover.result is None

    async def test_a_joiners_grace_kills_for_all(self) -> None:
        """
        In a killable entry it ends the removal for everybody.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            await it.entry.remove(grace=GRACE)
            await all_blocked()
            assert remover.result is None
            with refused(EIO):
                _ = it.reader.result

    async def test_one_that_joins_for_a_child(self) -> None:
        """
        Who joins the removal of a directory for one entry in it ends what is inside of that only.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            readers: dict[str, Call[bytes]] = {}
            for name in ("d/x", "d/y"):
                proc.create(name, handlers.ops("read"), killable=True)
                readers[name] = await start(tg, proc.read_bytes, name)
            child = proc.lookup("d/x")
            remover = await start(tg, directory.remove)
            await child.remove(grace=GRACE)
            await all_blocked()
            assert (state(child), remover.done) == ("gone", False)
            assert [reader.done for reader in readers.values()] == [True, False]
            handlers.let_go("read")

    async def test_one_that_joins_for_a_child_is_told_of_that(self) -> None:
        """
        Its error is about that entry, and the calls inside of it.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            for name in ("d/x", "d/y"):
                proc.create(name, handlers.ops("read"))
                await start(tg, proc.read_bytes, name)
            child = proc.lookup("d/x")
            await start(tg, directory.remove)
            with pytest.raises(RemovalTimeoutError) as caught:
                await child.remove(grace=GRACE)
            assert caught.value.filename == "/proc/d/x"
            assert [holder.path for holder in caught.value.holders] == ["/proc/d/x"]
            handlers.let_go("read")

    async def test_kills_where_others_still_remove(self) -> None:
        """
        What was removed by somebody else, and is gone, is no matter when the grace ends.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            for name in ("x", "y"):
                proc.create(f"d/{name}", handlers.ops("read"), killable=True)
            first, second = [await start(tg, proc.read_bytes, f"d/{name}") for name in "xy"]
            for name in ("x", "y"):
                await start(tg, proc.remove, f"d/{name}")
            remover = await start(tg, directory.remove)
            first.cancel()
            await all_blocked()
            assert (remover.done, second.done) == (False, False)
            _watch.kill_calls(directory._removal)
            await all_blocked()
            assert remover.result is None
            with refused(EIO):
                _ = second.result


class TestReleases:
    @pytest.mark.parametrize("killable", [False, True])
    async def test_one_that_does_not_end_is_reported(self, *, killable: bool) -> None:
        """
        A release handler is never cut short; the grace of its removal ends with a report of it.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("release"), killable=killable)
            await proc.open("x")
            with pytest.raises(RemovalTimeoutError) as caught:
                await entry.remove(grace=GRACE)
            assert tasks_and_ops(caught.value) == [("removal of /proc/x", "release")]
            assert caught.value.seconds < 1 + SLACK
            assert handlers.busy
            assert state(entry) == "releasing"
            handlers.let_go("release")
            await entry.remove()
            assert handlers.log[-1].endswith("goes on")

    async def test_so_is_a_closers(self) -> None:
        """
        A closer inside its release handler holds up a removal, and is named.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            tg.start_soon((await proc.open("x")).aclose, name="closer")
            await all_blocked()
            with pytest.raises(RemovalTimeoutError) as caught:
                await entry.remove(grace=GRACE)
            assert tasks_and_ops(caught.value) == [("closer", "release")]
            handlers.let_go("release")

    async def test_of_a_killed_call_runs(self) -> None:
        """
        The file of a call that was killed is released, once, by a handler that is let end.
        """
        async with stuck(killable=True) as it, create_task_group() as tg:
            it.handlers.hold_up("release")
            remover = await start(tg, it.entry.remove, grace=0)
            await all_blocked()
            assert (it.reader.done, remover.done) == (True, False)
            assert state(it.entry) == "releasing"
            it.handlers.let_go("release")
            await all_blocked()
            assert remover.result is None
            assert it.handlers.log[1:] == ["release None", "release None goes on"]


class TestRemovalTimeoutError:
    ERROR = RemovalTimeoutError(
        "/proc/x", 1.23456, (Holder("reader", "/proc/x", "read", ("a.py:1 in read",), False),)
    )

    def test_is_a_timeout(self) -> None:
        """
        Who catches TimeoutError or OSError gets it; it has an errno and names the path.
        """
        assert isinstance(self.ERROR, TimeoutError)
        assert self.ERROR.errno == ETIMEDOUT
        assert self.ERROR.filename == "/proc/x"

    def test_tells_who_it_waits_for(self) -> None:
        """
        Each call has a line of its own.
        """
        lines = str(self.ERROR).splitlines()
        assert lines == [
            f"[Errno {ETIMEDOUT}] removal still waits after 1.23 s, for 1 call(s)",
            "  task 'reader' in read of '/proc/x', at a.py:1 in read: '/proc/x'",
        ]

    def test_can_be_pickled(self) -> None:
        """
        It may go to another process as it is.
        """
        copy = pickle.loads(pickle.dumps(self.ERROR))  # noqa: S301  our own
        assert str(copy) == str(self.ERROR)
        assert (copy.seconds, copy.holders) == (self.ERROR.seconds, self.ERROR.holders)


class TestHungTask:
    async def test_is_logged_once(self, reports: list[logging.LogRecord]) -> None:
        """
        A removal that waits for long logs a warning which tells who holds it; and no second one.
        """
        async with stuck(hung_task_timeout=GRACE) as it, create_task_group() as tg:
            removers = [await start(tg, it.entry.remove) for _ in range(3)]
            await wait_until(lambda: reports)
            await anyio.sleep(2 * GRACE)
            assert not any(remover.done for remover in removers)
            it.let_go()
            (report,) = reports
            assert report.levelno == logging.WARNING
            first, second = report.getMessage().splitlines()
            assert first == "removal of /proc/x has waited for 0.0 s, for 1 call(s)"
            assert second.startswith(
                "  task 'reader' in read of '/proc/x', whose removal has waited"
            )

    async def test_is_not_logged_in_time(self, reports: list[logging.LogRecord]) -> None:
        """
        A removal that ends in time logs nothing.
        """
        async with stuck(hung_task_timeout=3600) as it, create_task_group() as tg:
            remover = await start(tg, it.entry.remove)
            it.let_go()
            await all_blocked()
            assert remover.done
        assert reports == []

    async def test_may_be_switched_off(self, reports: list[logging.LogRecord]) -> None:
        """
        With None nothing is logged however long it takes.
        """
        async with stuck(hung_task_timeout=None) as it, create_task_group() as tg:
            await start(tg, it.entry.remove)
            await anyio.sleep(2 * GRACE)
            it.let_go()
        assert reports == []

    @pytest.mark.parametrize("how", ["cancelled", "timed out", "remove_self"])
    async def test_of_one_that_nobody_awaits(
        self, how: str, reports: list[logging.LogRecord]
    ) -> None:
        """
        It is logged too of a removal that goes on without its caller; once.
        """
        async with stuck(hung_task_timeout=GRACE) as it:
            if how == "remove_self":
                it.entry.remove_self()
            elif how == "timed out":
                with pytest.raises(RemovalTimeoutError):
                    await it.entry.remove(grace=0)
            else:
                with CancelScope() as scope:
                    scope.cancel()
                    await it.entry.remove()
            await wait_until(lambda: reports)
            await anyio.sleep(2 * GRACE)
            assert [report.levelname for report in reports] == ["WARNING"]

    async def test_at_the_end_of_the_tree(self, reports: list[logging.LogRecord]) -> None:
        """
        The end of the tree is a removal like any other; it says where the call is.
        """
        async with stuck(hung_task_timeout=GRACE) as it, create_task_group() as tg:

            async def let_go_later() -> None:
                await wait_until(lambda: reports)
                it.let_go()

            tg.start_soon(let_go_later)
            await it.entry.remove()
        assert len(reports) == 1

    async def test_of_what_no_task_shows(self, reports: list[logging.LogRecord]) -> None:
        """
        Where no call is seen the report does not make one up.
        """
        async with ProcFS(hung_task_timeout=GRACE) as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps())
            entry.use()
            await start(tg, entry.remove)
            await wait_until(lambda: reports)
            entry.unuse()
        (report,) = reports
        assert report.getMessage().endswith(" s, for what is no call in a task of this loop")


@pytest.mark.trio
class TestClock:
    """Times that are too long for a test, on a clock that jumps."""

    async def test_the_hung_task_report_comes_after_ten_seconds(
        self, autojump_clock: MockClock, reports: list[logging.LogRecord]
    ) -> None:
        """
        By default a removal is reported when it has waited for 10 s.
        """
        async with stuck() as it, create_task_group() as tg:
            began = anyio.current_time()
            await start(tg, it.entry.remove)
            await anyio.sleep_until(began + 9.9)
            assert reports == []
            await anyio.sleep_until(began + 10.1)
            assert [report.getMessage().split(",")[0] for report in reports] == [
                "removal of /proc/x has waited for 10.0 s"
            ]
            await anyio.sleep(1000)
            assert len(reports) == 1
            it.let_go()

    async def test_killed_calls_have_a_second(self, autojump_clock: MockClock) -> None:
        """
        A call that was cancelled when the grace ended may take a second to end.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            with suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            with CancelScope(shield=True):
                await anyio.sleep(file.data)
            return b"late"

        async with ProcFS(grace=5) as proc, create_task_group() as tg:
            for name, seconds in (("quick", 0.9), ("slow", 1.1)):
                proc.create(name, ProcOps(read=read), data=seconds, killable=True)
                await start(tg, (await proc.open(name)).read)
            began = anyio.current_time()
            await proc.remove("quick")
            assert anyio.current_time() - began == pytest.approx(5.9)
            with pytest.raises(RemovalTimeoutError) as caught:
                await proc.remove("slow")
            assert caught.value.seconds == pytest.approx(6)

    @pytest.mark.parametrize("began", [0, 0.1, 0.3, 0.7, 1.1, 12345.678])
    @pytest.mark.parametrize("grace", [0.1, 0.3, 0.7, 1e-9])
    async def test_the_clock_does_not_round_it_away(
        self, autojump_clock: MockClock, began: float, grace: float
    ) -> None:
        """
        Whatever the time of day: when the grace is over it is over, and nothing spins.
        """
        async with stuck() as it:
            await anyio.sleep(began)
            with pytest.raises(RemovalTimeoutError):
                await it.entry.remove(grace=grace)

    async def test_a_deadlock_is_looked_for_ever_less_often(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        After half a second, and then each time it has waited twice as long; never before.
        """
        looks: list[float] = []
        find_cycle = _deadlock.find_cycle

        def count(removal: Removal, event: anyio.Event) -> list[str] | None:
            looks.append(round(anyio.current_time() - began, 3))
            return find_cycle(removal, event)

        monkeypatch.setattr(_watch, "find_cycle", count)
        async with stuck() as it, create_task_group() as tg:
            began = anyio.current_time()
            await start(tg, it.entry.remove)
            await anyio.sleep(10)
            assert looks == [0.5, 1, 2, 4, 8]
            it.let_go()

    async def test_nobody_looks_for_one_that_nobody_awaits(
        self, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A removal that goes on by itself waits for nobody who could wait for it.
        """
        monkeypatch.setattr(_watch, "find_cycle", None)
        async with stuck() as it:
            it.entry.remove_self()
            await anyio.sleep(100)
