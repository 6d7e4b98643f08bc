"""What is quick (fast_acquire) does what the long way does: open, close, read at once, release."""

from __future__ import annotations

import os
from errno import EACCES, EDEADLK, EIO, ENOENT
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopde import (
    Credentials,
    File,
    HandlerError,
    ProcDirEntry,
    ProcFile,
    ProcFS,
    ProcOps,
    TraceRecord,
    trace,
)
from aiopde._descriptor import handle_class

from .helpers import Handlers, all_blocked, refused, start, state, too_late

if TYPE_CHECKING:
    from collections.abc import Callable

# The short way is only for what never yields; each test goes both ways, and sees no difference.
both = pytest.mark.parametrize("fast", [True, False], ids=["fast", "default"])


def create(proc: ProcFS, ops: ProcOps, name: str = "x", **how: Any) -> ProcDirEntry:
    entry = proc.create(name, ops, mode=0o600, **how)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        handle_class(entry, flags)  # as after the first open, which goes the long way
    return entry


@both
class TestOpen:
    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
    async def test_by_entry_and_by_path(self, fast: bool, flags: int) -> None:
        """
        An entry and a path to it open the same file, each time again, with these flags.
        """
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc:
            proc.mkdir("d")
            entry = create(proc, handlers.ops("open", "release"), "d/x")
            for what in (entry, "d/x", "/proc/d/x", "d/../d/x"):
                async with await proc.open(what, flags) as file:
                    assert (file.entry, file.flags, file.tell()) == (entry, flags, 0)
            assert handlers.log == [f"{op} {n}" for n in range(1, 5) for op in ("open", "release")]

    async def test_what_is_not_there(self, fast: bool) -> None:
        """
        No name, a name below a file, and a directory that is no file get their errors.
        """
        async with ProcFS(fast_acquire=fast) as proc:
            create(proc, ProcOps())
            proc.create("below", ProcOps(), parent=proc.lookup("x"))
            for path in ("y", "y/x"):
                with refused(ENOENT):
                    await proc.open(path)
            for path in ("x/below", "x/"):
                with pytest.raises(NotADirectoryError):
                    await proc.open(path)
            assert (await proc.open("")).entry is proc.root

    async def test_what_is_going(self, fast: bool) -> None:
        """
        What has its name still, but is shut already, is not found.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        proc, may_leave = ProcFS(fast_acquire=fast), anyio.Event()

        async def live() -> None:
            async with proc:
                for name in ("a", "b"):
                    create(proc, handlers.ops("read"), name)
                await may_leave.wait()

        async with anyio.create_task_group() as tg:
            await start(tg, live)
            file = await proc.open("a")
            reader = await start(tg, file.read)
            may_leave.set()
            await all_blocked()
            assert proc.root._children.get("b") is not None
            with refused(ENOENT):
                proc.lookup("b")
            for call in (proc.open, proc.read_bytes):
                with refused(ENOENT):
                    await call("b")
            handlers.let_go("read")
            await all_blocked()
            assert reader.result == b"content"
            await file.aclose()

    async def test_links_and_killable_entries(self, fast: bool) -> None:
        """
        What needs more than the short way is opened all the same.
        """
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, handlers.ops("open", "read"), killable=True)
            proc.symlink("link", "x")
            for what in (entry, "x", "link"):
                async with await proc.open(what) as file:
                    assert (file.entry, await file.read()) == (entry, b"content")
                assert await proc.read_bytes(what) == b"content"

    async def test_rights(self, fast: bool) -> None:
        """
        Mode bits count for everybody but the superuser, at open and at a read at once.
        """
        somebody = Credentials(uid=1000)
        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, Handlers().ops("read"))
            for what in (entry, "x"):
                with refused(EACCES):
                    await proc.open(what, cred=somebody)
                with refused(EACCES):
                    await proc.read_bytes(what, cred=somebody)

    async def test_a_failed_open_leaves_nothing(self, fast: bool) -> None:
        """
        After an error of the handler, or nonsense from it, no file is open and nobody inside.
        """
        handlers = Handlers()
        handlers.errors["open"] = OSError(EIO, "no")

        async def nonsense(file: File) -> Any:
            return 5

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, handlers.ops("open", "read", "release"))
            for call in (proc.open, proc.read_bytes):
                with refused(EIO):
                    await call(entry)
            other = create(proc, ProcOps(open=nonsense, read=handlers.read), "y")
            for call in (proc.open, proc.read_bytes):
                with pytest.raises(HandlerError, match="must return None"):
                    await call(other)
            for each in (entry, other):
                numbers = each.statistics()
                assert (numbers.in_use, numbers.open_files) == (0, 0)
            assert handlers.log == ["open 1", "open 2"]

    async def test_plain_handlers(self, fast: bool) -> None:
        """
        A plain open handler and a plain release handler are called as others are.
        """
        log: list[str] = []

        def handler(op: str) -> Callable[[File], None]:
            return lambda file: log.append(op)

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps(open=handler("open"), release=handler("release")))
            await (await proc.open(entry)).aclose()
            left = await proc.open(entry)
            await entry.remove()
            await left.aclose()
            assert log == ["open", "release"] * 2

    async def test_no_handlers(self, fast: bool) -> None:
        """
        Files need neither an open handler nor a release handler.
        """
        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps())
            first, second, third = [await proc.open(entry) for _ in range(3)]
            await second.aclose()
            assert entry.statistics().open_files == 2
            await entry.remove()
            await first.aclose()
            await third.aclose()

    async def test_dead_on_arrival(self, fast: bool) -> None:
        """
        An open that is inside when removal begins, and succeeds, is released by that removal.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS(fast_acquire=fast) as proc, anyio.create_task_group() as tg:
            entry = create(proc, handlers.ops("open", "read", "release"))
            opener = await start(tg, proc.open, entry)
            remover = await start(tg, entry.remove)
            assert state(entry) == "dying"
            with too_late("open", ENOENT):
                await proc.open(entry)
            with too_late("open", ENOENT):
                await proc.read_bytes(entry)
            handlers.let_go("open")
            await all_blocked()
            assert remover.done
            with too_late("read", EIO):
                await opener.result.read()
            await opener.result.aclose()
            assert handlers.log == ["open 1", "open 1 goes on", "release 1"]


@both
class TestClose:
    async def test_in_any_order(self, fast: bool) -> None:
        """
        The first, the last and one between are taken out, and the rest is released newest first.
        """
        order: list[int] = []

        async def release(file: File) -> None:
            order.append(file.pos)

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps(release=release))
            files: list[ProcFile] = []
            for n in range(7):
                files.append(await proc.open(entry))
                files[n].file.pos = n
            for n in (3, 0, 6):
                await files[n].aclose()
            assert entry.statistics().open_files == 4
            await files[3].aclose()  # twice does nothing
            await entry.remove()
            assert (order, entry.statistics().open_files) == ([3, 0, 6, 5, 4, 2, 1], 0)

    async def test_an_error_of_the_handler(self, fast: bool) -> None:
        """
        What the release handler raises reaches the closer; the file is closed all the same.
        """

        async def release(file: File) -> None:
            raise OSError(EIO, "no")

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps(release=release))
            file = await proc.open(entry)
            with refused(EIO):
                await file.aclose()
            assert (file.closed, entry.statistics().open_files) == (True, 0)

    async def test_errors_stop_no_other_release(self, fast: bool) -> None:
        """
        Every file is released by a removal, whatever handlers raise.
        """
        released: list[File] = []

        async def release(file: File) -> None:
            released.append(file)
            raise OSError(EIO, "no")

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps(release=release))
            files = [await proc.open(entry) for _ in range(3)]
            copy = files[0].dup()
            await files[0].aclose()
            with pytest.raises(ExceptionGroup) as caught:
                await entry.remove()
            assert (len(caught.value.exceptions), len(set(released))) == (3, 3)
            number = entry.ino
            for file in (copy, *files[1:]):
                assert proc.create("y", ProcOps()).ino != number  # files left open hold it
                await file.aclose()
                await proc.remove("y")
            assert proc.create("y", ProcOps()).ino == number

    async def test_errors_while_somebody_listens(self, fast: bool) -> None:
        """
        The same with tracepoints on.
        """

        async def release(file: File) -> None:
            raise OSError(EIO, "no")

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps(release=release))
            files = [await proc.open(entry) for _ in range(3)]
            with trace(lambda record: None), pytest.raises(ExceptionGroup) as caught:
                await entry.remove()
            assert len(caught.value.exceptions) == len(files)

    async def test_with_a_call_inside(self, fast: bool) -> None:
        """
        A close under a call leaves the release to that call.
        """
        handlers = Handlers()

        async def release(file: File) -> None:
            handlers.log.append("release")

        async with ProcFS(fast_acquire=fast) as proc, anyio.create_task_group() as tg:
            entry = create(proc, ProcOps(read=handlers.read, release=release))
            handlers.hold_up("read")
            file = await proc.open(entry)
            reader = await start(tg, file.read)
            await file.aclose()
            assert handlers.log == ["read None"]
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, handlers.log[-1]) == (b"content", "release")


@both
class TestReadAtOnce:
    async def test_in_pieces(self, fast: bool) -> None:
        """
        The handlers are called as by open, reads up to an empty one, and close.
        """
        log: list[object] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            log.append((pos, file.pos))
            return b"content"[pos : pos + 3]

        async def note(file: File) -> None:
            log.append(file.flags)

        async with ProcFS(fast_acquire=fast) as proc:
            create(proc, ProcOps(open=note, read=read, release=note))
            assert await proc.read_bytes("x") == b"content"
            assert log == [0, (0, 0), (3, 3), (6, 6), (7, 7), 0]

    @pytest.mark.parametrize("at", [0, 3])
    async def test_nonsense(self, fast: bool, at: int) -> None:
        """
        What is no bytes is refused, at first and later; what was opened is released.
        """
        released: list[File] = []

        async def read(file: File, size: int, pos: int) -> Any:
            return b"abc" if pos < at else ""

        async def release(file: File) -> None:
            released.append(file)

        async with ProcFS(fast_acquire=fast) as proc:
            entry = create(proc, ProcOps(read=read, release=release))
            with pytest.raises(HandlerError, match="must return"):
                await proc.read_bytes(entry)
            assert (entry.in_use, len(released)) == (0, 1)

    async def test_removal_waits_for_it(self, fast: bool) -> None:
        """
        It is inside from open to release, and the last one to leave lets the removal go on.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def release(file: File) -> None:
            handlers.log.append(state(entry))

        async with ProcFS(fast_acquire=fast) as proc, anyio.create_task_group() as tg:
            entry = create(proc, ProcOps(read=handlers.read, release=release))
            reader = await start(tg, proc.read_bytes, entry)
            remover = await start(tg, entry.remove)
            assert (remover.done, entry.in_use) == (False, 1)
            handlers.let_go("read")
            await all_blocked()
            assert (remover.done, reader.result, handlers.log[-1]) == (True, b"content", "dying")


@both
class TestDiagnostics:
    @pytest.mark.parametrize("op", ["open", "read"])
    @pytest.mark.parametrize("at_once", [True, False])
    async def test_holders(self, fast: bool, op: str, at_once: bool) -> None:
        """
        Who is inside is found, and with which operation.
        """
        handlers = Handlers()
        handlers.hold_up(op)

        async def open_and_read() -> None:
            await (await proc.open("x")).read()

        async with ProcFS(fast_acquire=fast) as proc, anyio.create_task_group() as tg:
            entry = create(proc, handlers.ops("open", "read"))
            await start(tg, (lambda: proc.read_bytes("x")) if at_once else open_and_read)
            assert [(holder.op, holder.path) for holder in entry.holders()] == [(op, "/proc/x")]
            handlers.let_go(op)
            await all_blocked()
            assert entry.holders() == []

    @pytest.mark.parametrize("op", ["open", "read"])
    async def test_self_removal(self, fast: bool, op: str) -> None:
        """
        A handler that awaits the removal of its own entry is told so.
        """

        async def handler(file: File, *args: Any) -> Any:
            await file.entry.remove()

        async with ProcFS(fast_acquire=fast) as proc:
            handlers: dict[str, Any] = dict.fromkeys(("read", op), handler)
            entry = create(proc, ProcOps(**handlers))
            with refused(EDEADLK):
                await proc.read_bytes(entry)
            with refused(EDEADLK):
                await (await proc.open(entry)).read()

    async def test_tracepoints(self, fast: bool) -> None:
        """
        Who listens sees every open, handler, release and removal, of idle entries too.
        """

        async def note(file: File) -> None:
            pass

        async def read(file: File, size: int, pos: int) -> bytes:
            return b""

        records: list[TraceRecord] = []
        async with ProcFS(fast_acquire=fast) as proc:
            top = proc.mkdir("d")
            entry = create(proc, ProcOps(open=note, read=read, release=note), "d/x")
            create(proc, ProcOps(), "d/y")
            with trace(records.append):
                await proc.read_bytes(entry)
                await (await proc.open(entry)).aclose()
                left = await proc.open(entry)
                await top.remove()
            await left.aclose()
        events = [(r.event, r.call) if r.call else r.event for r in records if r.path != "/proc/d"]
        opened, released = (
            [("enter", "open"), ("leave", "open")],
            [
                ("enter", "release"),
                ("leave", "release"),
            ],
        )
        assert events == [
            *opened,
            ("enter", "read"),
            ("leave", "read"),
            *released,
            *opened,
            "open",
            "release",
            *released,
            *opened,
            "open",
            "bias",
            "bias",
            "unlink",
            "drained",
            "release",
            *released,
            "gone",
            "unlink",
            "drained",
            "gone",
        ]


@both
class TestIdle:
    async def test_among_busy_ones(self, fast: bool) -> None:
        """
        What nobody uses goes in its order, up to what somebody does; then the rest.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with ProcFS(fast_acquire=fast) as proc, anyio.create_task_group() as tg:
            top = proc.mkdir("d")
            entries = [create(proc, handlers.ops("read"), f"d/e{n}") for n in range(9)]
            folder = proc.mkdir("d/f")
            below = create(proc, ProcOps(), "d/f/x")
            file = await proc.open("d/e4")
            reader = await start(tg, file.read)
            remover = await start(tg, top.remove)
            assert [state(entry) for entry in entries] == ["gone"] * 4 + ["dying"] + [
                "releasing"
            ] * 4
            assert state(below) == state(folder) == "gone"
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, remover.done) == (b"content", True)
            assert {state(entry) for entry in (*entries, folder, below, top)} == {"gone"}
            await file.aclose()
