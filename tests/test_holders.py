"""Who is inside an entry: told for every call there is, wherever it stands."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from functools import partial
from types import CoroutineType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
import trio
from anyio import Event, create_task_group

from aiopde import File, Holder, ProcFile, ProcFS, ProcOps, _holders, _stacktrace, trace
from tests.helpers import Handlers, all_blocked, lines, ops_of, start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from aiopde import ProcDirEntry

    Use = Callable[[ProcFS, ProcFile], Coroutine[Any, Any, object]]

# What a user calls, the handler that is held up, and what holders() calls it.
CALLS: dict[str, tuple[str, Use, str]] = {
    "open": ("open", lambda proc, _: proc.open("x"), "open"),
    "read": ("read", lambda _, file: file.read(), "read"),
    "pread": ("read", lambda _, file: file.pread(1, 0), "read"),
    "readv": ("read", lambda _, file: file.readv([1]), "readv"),
    "write": ("write", lambda _, file: file.write(b"x"), "write"),
    "pwrite": ("write", lambda _, file: file.pwrite(b"x", 0), "write"),
    "lseek": ("lseek", lambda _, file: file.lseek(0), "lseek"),
    "poll": ("poll", lambda _, file: file.poll(), "poll"),
    "poll that waits": ("poll", lambda _, file: file.poll(timeout=None), "poll"),
    "ioctl": ("ioctl", lambda _, file: file.ioctl(100), "ioctl"),
    "compat_ioctl": ("compat_ioctl", lambda _, file: file.compat_ioctl(100), "compat_ioctl"),
    "mmap": ("mmap", lambda _, file: file.mmap(1), "mmap"),
    "close": ("release", lambda _, file: file.aclose(), "release"),
    "read_bytes, opening": ("open", lambda proc, _: proc.read_bytes("x"), "open"),
    "read_bytes": ("read", lambda proc, _: proc.read_bytes("x"), "read"),
    "read_bytes, closing": ("release", lambda proc, _: proc.read_bytes("x"), "release"),
    "write_bytes, opening": ("open", lambda proc, _: proc.write_bytes("x", b"x"), "open"),
    "write_bytes": ("write", lambda proc, _: proc.write_bytes("x", b"x"), "write"),
    "write_bytes, closing": ("release", lambda proc, _: proc.write_bytes("x", b"x"), "release"),
}
OPS = ("open", "read", "write", "lseek", "poll", "ioctl", "compat_ioctl", "mmap", "release")


@asynccontextmanager
async def held(op: str, use: Use, **how: Any) -> AsyncGenerator[ProcDirEntry]:
    """An entry with one call inside: *use*, held up in its handler for *op*."""
    handlers = Handlers()
    async with ProcFS() as proc, create_task_group() as tg:
        entry = proc.create("x", handlers.ops(*OPS), mode=0o666, **how)
        file = await proc.open("x", os.O_RDWR)
        handlers.hold_up(op)
        tg.start_soon(partial(use, proc, file), name="user")
        await all_blocked()
        try:
            yield entry
        finally:
            handlers.let_go(op)
            await all_blocked()
            await file.aclose()


class TestOneCall:
    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("killable", [False, True])
    async def test_of_each_kind(self, call: str, fast: bool, killable: bool) -> None:
        """
        Whatever a call does, while its handler runs it is told, once, with task and operation.
        """
        op, use, name = CALLS[call]
        async with held(op, use, fast_acquire=fast, killable=killable) as entry:
            (holder,) = entry.holders()
            assert (holder.task, holder.path, holder.op) == ("user", "/proc/x", name)
        assert entry.holders() == []

    @pytest.mark.parametrize("call", CALLS)
    async def test_while_traced(self, call: str) -> None:
        """
        Calls that go the longer way of the tracepoints are told too.
        """
        op, use, name = CALLS[call]
        with trace(bool):
            async with held(op, use) as entry:
                assert ops_of(entry.holders()) == [("/proc/x", name)]

    @pytest.mark.parametrize("call", CALLS)
    async def test_killable(self, call: str) -> None:
        """
        It tells which calls the end of a grace cancels: those of such entries, but no release.
        """
        op, use, name = CALLS[call]
        async with held(op, use, killable=True) as entry:
            (holder,) = entry.holders()
            assert holder.killable == (name != "release")

    @pytest.mark.parametrize("call", CALLS)
    async def test_where_it_stands(self, call: str) -> None:
        """
        The stack leads from where the task waits to the handler; no frames of the guard's own.
        """
        op, use, _ = CALLS[call]
        async with held(op, use) as entry:
            (holder,) = entry.holders()
        assert lines(holder)[-2:] == ["_enter", op]
        assert lines(holder)[0] != "_enter"
        assert "/aiopde/" not in "".join(holder.stack)
        assert f"{__file__.replace('test_holders', 'helpers')}:" in holder.stack[-1]

    async def test_as_text(self) -> None:
        """
        A holder reads as a sentence, for logs and errors.
        """
        holder = Holder("user", "/proc/x", "read", ("b.py:2 in wait", "a.py:1 in read"), False)
        text = "task 'user' in read of '/proc/x', at b.py:2 in wait, called at a.py:1 in read"
        assert str(holder) == text
        assert str(Holder("user", "/proc/x", "read", (), False)).endswith("'/proc/x', at ?")
        late = Holder("user", "/proc/x", "read", (), False, 1.25)
        assert str(late).endswith("'/proc/x', whose removal has waited 1.2 s, at ?")

    async def test_how_long_it_has_been_waited_for(self) -> None:
        """
        Once a removal waits it tells for how long, whoever else joins; before that, nothing.
        """
        async with held("read", lambda _, file: file.read()) as entry, create_task_group() as tg:
            (holder,) = entry.holders()
            assert holder.waited is None
            began = anyio.current_time()
            await start(tg, entry.remove)
            await anyio.sleep(0.02)
            await start(tg, entry.remove)
            (holder,) = entry.holders()
            assert holder.waited is not None
            assert 0.015 < holder.waited <= anyio.current_time() - began
            tg.cancel_scope.cancel()

    async def test_plain_handlers_are_never_inside(self) -> None:
        """
        A plain function is never waited for, and so holds nothing, even when it asks itself.
        """
        found: list[list[Holder]] = []

        def read(file: File, size: int, pos: int) -> bytes:
            found.append(file.entry.holders())
            return b""

        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            await (await proc.open("x")).read()
        assert found == [[]]


class TestWhichAreInside:
    async def test_nobody(self) -> None:
        """
        An entry that nobody is inside of has no holders, be it open.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            await proc.open("x")
            assert entry.holders() == proc.holders() == []

    async def test_below_what_is_asked_about(self) -> None:
        """
        A directory tells of all below it, a tree of everything, an entry only of itself.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.mkdir("d")
            for name in ("x", "d/y", "d/z"):
                proc.create(name, handlers.ops("read"))
                await start(tg, proc.read_bytes, name)
            assert ops_of(proc.lookup("d/y").holders()) == [("/proc/d/y", "read")]
            below = [("/proc/d/y", "read"), ("/proc/d/z", "read")]
            assert ops_of(proc.lookup("d").holders()) == below
            assert ops_of(proc.holders()) == [*below, ("/proc/x", "read")]
            assert ops_of(proc.holders(proc.lookup("x"))) == [("/proc/x", "read")]
            handlers.let_go("read")

    async def test_trees_do_not_mix(self) -> None:
        """
        A tree tells of its own entries only.
        """
        async with held(*CALLS["read"][:2]), ProcFS() as other:
            assert other.holders() == []

    async def test_not_who_waits_for_the_position(self) -> None:
        """
        A second reader of the same file is not inside yet; a removal will not wait for it.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read", "lseek"))
            file = await proc.open("x")
            for call in (file.read, file.read, partial(file.readv, [1]), partial(file.lseek, 0)):
                await start(tg, call)
            assert ops_of(entry.holders()) == [("/proc/x", "read")]
            handlers.let_go("read")

    async def test_a_handler_that_waits_at_another_door(self) -> None:
        """
        Whose handler waits for the position of another file is inside its own entry all the same.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))
            file = await proc.open("x")

            async def read(outer: File, size: int, pos: int) -> bytes:
                return await file.read()

            entry = proc.create("outer", ProcOps(read=read))
            await start(tg, file.read)
            await start(tg, (await proc.open("outer")).read)
            assert ops_of(entry.holders()) == [("/proc/outer", "read")]
            handlers.let_go("read")

    async def test_one_task_inside_of_several(self) -> None:
        """
        A handler that reads another file is inside both.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read"))

            async def read(file: File, size: int, pos: int) -> bytes:
                return await proc.read_bytes("x")

            proc.create("outer", ProcOps(read=read))
            await start(tg, (await proc.open("outer")).read)
            assert ops_of(proc.holders()) == [("/proc/outer", "read"), ("/proc/x", "read")]
            handlers.let_go("read")

    @pytest.mark.parametrize("call", ["read", "pread", "readv", "write", "lseek", "ioctl"])
    @pytest.mark.parametrize("killable", [False, True])
    async def test_who_leaves_last_and_releases(self, call: str, killable: bool) -> None:
        """
        The last one out of a file that was closed meanwhile is in its release, and nowhere else.
        """
        op, use, _ = CALLS[call]
        handlers = Handlers()
        handlers.hold_up(op)
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops(*OPS), mode=0o666, killable=killable)
            file = await proc.open("x", os.O_RDWR)
            await start(tg, use, proc, file)
            await file.aclose()
            handlers.let_go(op)
            await all_blocked()
            assert ops_of(entry.holders()) == [("/proc/x", "release")]
            handlers.let_go("release")

    async def test_not_who_waits_for_a_release(self) -> None:
        """
        Of a closer and a removal one runs the release handler; only that one is told.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            await start(tg, entry.remove)
            await start(tg, file.aclose)
            (holder,) = entry.holders()
            assert (holder.task, holder.op) == ("removal of /proc/x", "release")
            handlers.let_go("release")

    async def test_also_of_what_is_being_removed(self) -> None:
        """
        It tells who a removal waits for, while it waits.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read"))
            await start(tg, (await proc.open("x")).read)
            await start(tg, entry.remove)
            assert ops_of(entry.holders()) == [("/proc/x", "read")]
            handlers.let_go("read")
            await all_blocked()
            assert entry.holders() == []


class TestLookingTwice:
    @pytest.mark.parametrize("call", CALLS)
    async def test_a_call_that_lasts_is_known_again(self, call: str) -> None:
        """
        As long as a call lasts, it is the same coroutine; and the next one is another.
        """
        op, use, _ = CALLS[call]
        async with held(op, use) as entry:
            first, again = ([call for *_, call in _holders.calls(entry)] for _ in range(2))
            assert isinstance(first[0], CoroutineType)
            assert first == again

    async def test_a_call_of_the_running_task_is_nameless(self) -> None:
        """
        A handler that asks while it runs finds itself, and no coroutine for it.
        """
        found: list[object] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            found.extend(call for *_, call in _holders.calls(file.entry))
            return b""

        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            await proc.read_bytes("x")
        assert found == [None]

    async def test_where_any_task_stands(self) -> None:
        """
        Also a task that is inside no entry tells where it waits, the innermost frame first.
        """

        async def stand() -> None:
            await Event().wait()

        async with create_task_group() as tg:
            tg.start_soon(stand, name="stander")
            await all_blocked()
            (info,) = (info for info in anyio.get_running_tasks() if info.name == "stander")
            functions = [line.rpartition(" in ")[2] for line in _stacktrace.stack_of(info)]
            assert functions.index("wait") < functions.index("stand")
            tg.cancel_scope.cancel()


class TestWhereItIsAsked:
    async def test_in_the_handler_itself(self) -> None:
        """
        A handler may ask who is inside: itself, and where it asks.
        """
        found: list[Holder] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            found.extend(file.entry.holders())
            return b""

        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            await (await proc.open("x")).read()
        assert ops_of(found) == [("/proc/x", "read")]
        assert lines(found[0])[-1] == "read"

    async def test_in_a_callback(self) -> None:
        """
        It may be asked where no task runs, as in a callback of the loop.
        """
        found: list[Holder] = []
        async with held(*CALLS["read"][:2]) as entry:
            in_a_callback(lambda: found.extend(entry.holders()))
            await all_blocked()
        assert ops_of(found) == [("/proc/x", "read")]

    async def test_by_a_task_that_was_started_eagerly(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A task that runs at once, on top of the one that starts it, has frames of its own.
        """
        found: list[Holder] = []

        async def ask(entry: ProcDirEntry) -> None:
            found.extend(entry.holders())
            assert _holders.own_sites() == []
            assert _holders.running_handler() is None

        async def read(file: File, size: int, pos: int) -> bytes:
            eager = ask(file.entry)
            task = SimpleNamespace(id=0, coro=eager, name="eager")
            with monkeypatch.context() as patch:
                patch.setattr(_holders, "running_task", lambda: task)
                patch.setattr(anyio, "get_running_tasks", lambda: [task])
                with pytest.raises(StopIteration):
                    eager.send(None)
            assert _holders.own_sites() == [file.entry]
            assert _holders.running_handler() is file.entry
            return b""

        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            await (await proc.open("x")).read()
        assert found == []


def in_a_callback(function: Callable[[], object]) -> None:
    try:
        asyncio.get_running_loop().call_soon(function)
    except RuntimeError:
        trio.lowlevel.current_trio_token().run_sync_soon(function)


class TestCosts:
    async def test_calls_note_nothing(self) -> None:
        """
        Between calls there is nothing that could tell: no task, no entry keeps a record of them.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("read"))
            file = await proc.open("x")
            await file.read()
            slots = [getattr(file.file, name, None) for name in File.__slots__]
            assert not any(isinstance(slot, (list, dict, set)) for slot in slots)
            assert entry.holders() == []


@pytest.mark.parametrize("function", _holders._FUNCTIONS, ids=lambda function: function.__name__)
def test_a_frame_tells_where_it_is(function: Callable[..., object]) -> None:
    """
    Each function that runs handlers has the variables by which its frames are read.
    """
    variable, op = _holders._FUNCTIONS[function]
    wanted = {variable} if op else {variable, "op"}
    assert wanted <= {*cast("Any", function).__code__.co_varnames}
