"""A file descriptor: what each call answers, alive or gone, with a handler or without."""

from __future__ import annotations

import mmap
import os
import select
import stat
from errno import EACCES, EBADF, EFAULT, EINVAL, EIO, ENODEV, ENOENT, ENOTTY, EPERM, ESPIPE
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import pytest
from anyio import CancelScope, create_task_group
from anyio.abc import AsyncResource
from anyio.lowlevel import checkpoint

from aiopde import (
    DEFAULT_POLLMASK,
    MAX_RW_COUNT,
    Credentials,
    EntryRemovedError,
    File,
    HandlerError,
    Mapping,
    ProcFile,
    ProcFS,
    ProcOps,
)
from tests.helpers import (
    Handlers,
    Plain,
    all_blocked,
    answering,
    failing,
    opened,
    refused,
    start,
    state,
    too_late,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

READ_WRITE = os.O_RDWR


class Row(NamedTuple):
    """A row of CONTRACT.md, section 2: the answer, or the errno, in each column."""

    op: str
    method: str
    args: tuple[Any, ...]
    live: object
    absent: int
    gone: int

    async def call(self, file: ProcFile) -> object:
        answer = await getattr(file, self.method)(*self.args)
        if isinstance(answer, Mapping):
            await answer.aclose()
            return answer.value
        return answer


MAP = (5, mmap.PROT_READ, mmap.MAP_PRIVATE)
ROWS = {
    "read": Row("read", "read", (4,), b"cont", EIO, EIO),
    "read of nothing": Row("read", "read", (0,), b"", EIO, EIO),
    "read by read_iter": Row("read_iter", "read", (4,), b"cont", EIO, EIO),
    "pread": Row("read", "pread", (3, 1), b"ont", EIO, EIO),
    "pread by read_iter": Row("read_iter", "pread", (3, 1), b"ont", EIO, EIO),
    "readv": Row("read", "readv", ([4],), [b"cont"], EIO, EIO),
    "readv by read_iter": Row("read_iter", "readv", ([9],), [b"content"], EIO, EIO),
    "write": Row("write", "write", (b"abc",), 3, EIO, EIO),
    "pwrite": Row("write", "pwrite", (b"abc", 2), 3, EIO, EIO),
    "lseek": Row("lseek", "lseek", (3, os.SEEK_CUR), 4, ESPIPE, EINVAL),
    "ioctl": Row("ioctl", "ioctl", (100, 5), 105, ENOTTY, ENOTTY),
    "compat_ioctl": Row("compat_ioctl", "compat_ioctl", (100, 5), 95, ENOTTY, ENOTTY),
    "mmap": Row("mmap", "mmap", MAP, MAP, EIO, EIO),
}
rows = pytest.mark.parametrize("row", ROWS.values(), ids=list(ROWS))


class TestTable:
    """What each call answers: CONTRACT.md, section 2."""

    @rows
    async def test_live(self, row: Row) -> None:
        """
        With a handler the answer is the handler's.
        """
        async with opened(Handlers().ops(row.op)) as file:
            assert await row.call(file) == row.live

    @rows
    async def test_live_and_plain(self, row: Row) -> None:
        """
        A plain function for a handler makes no difference.
        """
        handlers: dict[str, Any] = {row.op: getattr(Plain(), row.op)}
        async with opened(ProcOps(**handlers)) as file:
            assert await row.call(file) == row.live

    @rows
    async def test_permanent(self, row: Row) -> None:
        """
        On a permanent entry it is the handler's too.
        """
        async with opened(Handlers().ops(row.op, permanent=True)) as file:
            assert await row.call(file) == row.live

    @rows
    @pytest.mark.parametrize("permanent", [False, True])
    async def test_absent(self, row: Row, permanent: bool) -> None:
        """
        Without a handler it is procfs's own error, permanent or not; never that of the VFS.
        """
        async with opened(ProcOps(permanent=permanent)) as file:
            with refused(row.absent):
                await row.call(file)

    @rows
    async def test_gone(self, row: Row) -> None:
        """
        After the removal it is the dead value; no handler was called, and nothing has moved.
        """
        handlers = Handlers()
        async with opened(handlers.ops(row.op)) as file:
            file.file.pos = 2
            await file.entry.remove()
            with pytest.raises(EntryRemovedError) as caught:
                await row.call(file)
            assert caught.value.errno == row.gone
            assert caught.value.filename == "/proc/x"
            assert (handlers.log, file.tell()) == ([], 2)

    @rows
    async def test_gone_and_plain(self, row: Row) -> None:
        """
        Plain handlers are not called either.
        """
        handlers: dict[str, Any] = {row.op: getattr(Plain(), row.op)}
        async with opened(ProcOps(**handlers)) as file:
            await file.entry.remove()
            with refused(row.gone):
                await row.call(file)
            assert file.tell() == 0

    @rows
    async def test_dying(self, row: Row) -> None:
        """
        While a removal still waits for a call inside, others get the dead value already.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", row.op))
            file = await proc.open("x", READ_WRITE)
            handlers.hold_up("open")
            await start(tg, proc.open, "x")
            await start(tg, entry.remove)
            assert state(entry) == "dying"
            with refused(row.gone):
                await row.call(file)
            assert handlers.log == ["open 1", "open 2"]
            handlers.let_go("open")

    @rows
    async def test_absent_and_gone(self, row: Row) -> None:
        """
        Without a handler, a removal changes nothing for read and write; lseek stays ESPIPE.
        """
        async with opened() as file:
            await file.entry.remove()
            with refused(row.absent):
                await row.call(file)

    @rows
    async def test_an_error_reaches_the_caller(self, row: Row) -> None:
        """
        What a handler raises is what the caller gets: the same object.
        """
        exc = PermissionError(EPERM, "no")
        async with opened(failing(exc, row.op)) as file:
            with pytest.raises(PermissionError) as caught:
                await row.call(file)
            assert caught.value is exc
            assert (file.tell(), file.entry.in_use) == (0, 0)

    @rows
    async def test_a_bug_reaches_the_caller(self, row: Row) -> None:
        """
        So does an exception that is no OSError; the call has left the guard all the same.
        """
        async with opened(failing(ZeroDivisionError(), row.op)) as file:
            with pytest.raises(ZeroDivisionError):
                await row.call(file)
            assert (file.tell(), file.entry.in_use) == (0, 0)

    @rows
    async def test_a_cancelled_call_has_left(self, row: Row) -> None:
        """
        Cancelling a call cancels its handler; nothing is counted any more, and nothing moved.
        """
        handlers = Handlers()
        async with opened(handlers.ops(row.op)) as file, create_task_group() as tg:
            handlers.hold_up(row.op)
            call = await start(tg, row.call, file)
            assert (handlers.busy, file.entry.in_use) == (True, 1)
            call.cancel()
            await all_blocked()
            assert call.cancelled
            assert (handlers.busy, file.entry.in_use, file.tell()) == (False, 0, 0)
            await file.entry.remove()

    @rows
    async def test_a_call_inside_ends_with_its_own_result(self, row: Row) -> None:
        """
        A call that was let in before removal began answers as if nothing were.
        """
        handlers = Handlers()
        async with opened(handlers.ops(row.op)) as file, create_task_group() as tg:
            handlers.hold_up(row.op)
            call = await start(tg, row.call, file)
            remover = await start(tg, file.entry.remove)
            assert (call.done, remover.done) == (False, False)
            handlers.let_go(row.op)
            await all_blocked()
            assert call.result == row.live
            assert remover.done

    @rows
    async def test_the_error_names_the_call(self, row: Row) -> None:
        """
        ``call`` is the call that was refused, and the message says it.
        """
        async with opened(Handlers().ops(row.op)) as file:
            await file.entry.remove()
            with pytest.raises(EntryRemovedError, match=f"cannot {row.method}: ") as caught:
                await row.call(file)
            assert caught.value.call == row.method

    async def test_poll(self) -> None:
        """
        poll says what its handler says; without one, or gone, or both: readable and writable.
        """
        handlers = Handlers()
        async with opened(handlers.ops("poll")) as with_handler, opened() as without:
            assert await with_handler.poll() == select.POLLIN | select.POLLPRI
            assert await without.poll() == 0x145 == DEFAULT_POLLMASK
            for file in (with_handler, without):
                await file.entry.remove()
                assert await file.poll() == 0x145
                assert await file.poll(select.POLLPRI) == 0
            assert handlers.log == ["poll None"]

    @pytest.mark.parametrize("permanent", [False, True])
    async def test_close(self, permanent: bool) -> None:
        """
        The last close runs the release handler, if there is one; gone, it runs no more.
        """
        handlers = Handlers()
        async with opened(handlers.ops("open", "release", permanent=permanent)):
            assert handlers.log == ["open 1"]
        assert handlers.log == ["open 1", "release 1"]
        async with opened():
            pass

    async def test_close_of_what_is_gone(self) -> None:
        """
        What the removal released is not released again.
        """
        handlers = Handlers()
        async with opened(handlers.ops("release")) as file:
            await file.entry.remove()
            assert handlers.log == ["release None"]
        assert handlers.log == ["release None"]

    @pytest.mark.parametrize("ops", [("open", "release"), ()])
    async def test_open_of_what_is_gone(self, ops: tuple[str, ...]) -> None:
        """
        An entry whose removal has begun cannot be opened: ENOENT, and no handler is called.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops(*ops))
            await entry.remove()
            with too_late("open", ENOENT):
                await proc.open(entry)
            assert handlers.log == []

    async def test_attributes_of_what_is_gone(self) -> None:
        """
        stat, chmod and chown of an open file work on, gone or not.
        """
        async with opened() as file:
            await file.entry.remove()
            file.chmod(0o600)
            file.chown(1, 2)
            found = file.stat()
            assert (found.st_mode, found.st_uid, found.st_gid) == (stat.S_IFREG | 0o600, 1, 2)


class TestAccessMode:
    @pytest.mark.parametrize(
        ("flags", "name"),
        [
            (os.O_WRONLY, "read"),
            (os.O_WRONLY, "pread"),
            (os.O_WRONLY, "readv"),
            (os.O_RDONLY, "write"),
            (os.O_RDONLY, "pwrite"),
            (os.O_PATH, "read"),
            (os.O_PATH, "pread"),
            (os.O_PATH, "readv"),
            (os.O_PATH, "write"),
            (os.O_PATH, "pwrite"),
            (os.O_PATH, "lseek"),
            (os.O_PATH, "ioctl"),
            (os.O_PATH, "compat_ioctl"),
            (os.O_PATH, "mmap"),
        ],
    )
    @pytest.mark.parametrize("removed", [False, True])
    @pytest.mark.parametrize("absent", [False, True])
    async def test_comes_first(self, flags: int, name: str, removed: bool, absent: bool) -> None:
        """
        A file not opened for a call says EBADF, with a handler or without, alive or gone.
        """
        row = ROWS[name]
        ops = ProcOps() if absent else Handlers().ops(row.op)
        async with opened(ops, flags) as file:
            if removed:
                await file.entry.remove()
            with refused(EBADF):
                await row.call(file)

    async def test_is_each_descriptors_own(self) -> None:
        """
        Files of one entry, opened in different ways, do not disturb each other.
        """
        async with ProcFS() as proc:
            proc.create("x", Handlers(b"content").ops("read", "write"))
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                file = await proc.open("x", flags)
                for call, args, refusing in (
                    ("read", [1], os.O_WRONLY),
                    ("write", [b"!"], os.O_RDONLY),
                ):
                    if flags == refusing:
                        with refused(EBADF):
                            await getattr(file, call)(*args)
                    else:
                        await getattr(file, call)(*args)

    @pytest.mark.parametrize(
        ("flags", "prot", "share", "allowed"),
        [
            (os.O_RDONLY, mmap.PROT_READ, mmap.MAP_SHARED, True),
            (os.O_RDONLY, mmap.PROT_WRITE, mmap.MAP_SHARED, False),
            (os.O_RDONLY, mmap.PROT_WRITE, mmap.MAP_PRIVATE, True),
            (os.O_WRONLY, mmap.PROT_READ, mmap.MAP_SHARED, False),
            (os.O_WRONLY, mmap.PROT_WRITE, mmap.MAP_SHARED, False),
            (os.O_RDWR, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, True),
        ],
    )
    async def test_of_a_mapping(self, flags: int, prot: int, share: int, allowed: bool) -> None:
        """
        A mapping wants a file open for reading; shared and writable, one for writing too.
        """
        handlers = Handlers()
        async with opened(handlers.ops("mmap"), flags) as file:
            if allowed:
                await (await file.mmap(1, prot, share)).aclose()
            else:
                with refused(EACCES):
                    await file.mmap(1, prot, share)
            assert bool(handlers.log) == allowed

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
    async def test_other_calls_do_not_ask(self, flags: int) -> None:
        """
        lseek, poll and ioctl work however the file was opened.
        """
        async with opened(Handlers().ops("lseek", "poll", "ioctl"), flags) as file:
            assert await file.lseek(3) == 3
            assert await file.poll() == select.POLLIN | select.POLLPRI
            assert await file.ioctl(100, 1) == 101


class TestRead:
    async def test_advances_the_position(self) -> None:
        """
        Each read begins where the last one ended; at the end it returns nothing.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            assert [await file.read(4) for _ in range(3)] == [b"cont", b"ent", b""]
            assert file.tell() == 7

    async def test_reads_as_much_as_may_be_by_default(self) -> None:
        """
        Without a size the handler is asked for the most one read moves.
        """
        sizes: list[int] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            sizes.append(size)
            return b""

        async with opened(ProcOps(read=read)) as file:
            assert await file.read() == b""
            assert sizes == [MAX_RW_COUNT]

    async def test_is_never_asked_for_more(self) -> None:
        """
        A larger size is cut to that, as in Linux; so is the sum of a readv.
        """
        sizes: list[int] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            sizes.append(size)
            return b""

        for ops in (ProcOps(read=read), ProcOps(read_iter=read)):
            async with opened(ops) as file:
                await file.read(MAX_RW_COUNT + 1)
                await file.pread(MAX_RW_COUNT + 1, 0)
                await file.readv([MAX_RW_COUNT, 1])
        assert max(sizes) == MAX_RW_COUNT

    async def test_a_short_read_is_not_the_end(self) -> None:
        """
        A handler may return less than asked; only nothing is the end.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            return b"abc"[pos : pos + 1]

        async with opened(ProcOps(read=read)) as file:
            assert [await file.read(100) for _ in range(4)] == [b"a", b"b", b"c", b""]

    @pytest.mark.parametrize("kind", [Handlers, Plain])
    async def test_a_negative_size(self, kind: type) -> None:
        """
        A size below 0 is a ValueError with the cure in it; nothing is called, nobody inside.
        """
        async with opened(ProcOps.of(kind())) as file:
            with pytest.raises(ValueError, match="not -1; leave it out for all there is"):
                await file.read(-1)
            with pytest.raises(ValueError, match=r"readv? wants a size >= 0, not -2"):
                await file.readv([5, -2])
            assert (file.tell(), file.entry.in_use) == (0, 0)

    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("op", ["read", "read_iter"])
    @pytest.mark.parametrize(
        "answer", [b"12345", "text", 3, None, bytearray(b"1"), [b"1"]], ids=repr
    )
    async def test_nonsense(self, answer: Any, op: str, plain: bool) -> None:
        """
        More bytes than asked for, or something else than bytes: EIO, naming the handler.
        """

        def answer_plainly(file: File, size: int, pos: int) -> Any:
            return answer

        handlers: dict[str, Any] = {op: answer_plainly}
        ops = ProcOps(**handlers) if plain else answering(**{op: answer})
        for call, *args in (("read", 4), ("pread", 4, 0), ("readv", [4])):
            async with opened(ops) as file:
                with pytest.raises(HandlerError) as caught:
                    await getattr(file, str(call))(*args)
                assert (caught.value.errno, caught.value.call) == (EIO, op)
                assert f"the {op} handler" in str(caught.value)
                assert f"answer_plainly returned {answer!r}" in str(caught.value) or not plain
                assert "it must return 0 to 4 bytes" in str(caught.value)
                assert (file.tell(), file.entry.in_use) == (0, 0)

    async def test_an_async_function_behind_a_plain_one(self) -> None:
        """
        A plain handler that returns a coroutine is told so, and the coroutine is closed.
        """
        coroutine: Any = checkpoint()
        async with opened(ProcOps(read=lambda file, size, pos: coroutine)) as file:
            with pytest.raises(HandlerError, match="an async function behind a plain one"):
                await file.read()
        assert coroutine.cr_frame is None

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("killable", [False, True])
    @pytest.mark.parametrize("plain", [False, True])
    async def test_a_size_that_is_no_number(self, plain: bool, killable: bool, fast: bool) -> None:
        """
        It is a TypeError that shows the call, before any handler runs; a handler's own is its own.
        """

        def mistake(file: File, size: int, pos: int) -> bytes:
            raise TypeError("mine")

        ops = ProcOps(read=mistake) if plain else failing(TypeError("mine"), "read")
        wrong: Any = "10"
        async with opened(ops, fast_acquire=fast, killable=killable) as file:
            with pytest.raises(TypeError, match=r"as read\(4096\), not '10'"):
                await file.read(wrong)
            with pytest.raises(TypeError, match=r"as readv\(\[20, 30\]\), not bytearray"):
                await file.readv([bytearray(4)])  # type: ignore[list-item]
            for size in (4096, 1 << 40):
                with pytest.raises(TypeError, match="mine"):
                    await file.read(size)
            assert (file.tell(), file.entry.in_use) == (0, 0)

    async def test_a_handler_without_a_name(self) -> None:
        """
        A handler that has no name, a partial for example, is shown as it is.
        """

        async def read(file: File, size: int, pos: int) -> Any:
            return 7

        async with opened(ProcOps(read=partial(read))) as file:
            with pytest.raises(HandlerError, match=r"handler functools.partial\(.*\) returned 7"):
                await file.read()


class TestPread:
    async def test_leaves_the_position(self) -> None:
        """
        pread reads where it is told to, and the position stays.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            await file.read(2)
            assert await file.pread(3, 4) == b"ent"
            assert await file.read(2) == b"nt"

    async def test_needs_no_lseek(self) -> None:
        """
        Whether a file can seek is no matter for pread and pwrite.
        """
        async with opened(Handlers().ops("read", "write")) as file:
            with refused(ESPIPE):
                await file.lseek(1)
            assert await file.pread(3, 1) == b"ont"
            assert await file.pwrite(b"xy", 1) == 2

    @pytest.mark.parametrize(("size", "offset"), [(-1, 0), (0, -1), (-1, -1)])
    async def test_negative_numbers(self, size: int, offset: int) -> None:
        """
        A negative size or offset is EINVAL.
        """
        async with opened(Handlers().ops("read")) as file:
            with refused(EINVAL):
                await file.pread(size, offset)


class TestReadv:
    async def test_is_one_call_of_read_iter(self) -> None:
        """
        read_iter fills all buffers in one call.
        """
        handlers = Handlers(b"content")
        async with opened(handlers.ops("read_iter")) as file:
            assert await file.readv([2, 0, 4, 3]) == [b"co", b"", b"nten", b"t"]
            assert (handlers.log, file.tell()) == (["read_iter None"], 7)

    async def test_is_a_call_of_read_for_each_buffer(self) -> None:
        """
        read fills one buffer after the other, until one is not filled.
        """
        handlers = Handlers(b"content")
        async with opened(handlers.ops("read")) as file:
            assert await file.readv([2, 4, 3, 3]) == [b"co", b"nten", b"t", b""]
            assert (len(handlers.log), file.tell()) == (3, 7)

    @pytest.mark.parametrize("sizes", [[], [0], [0, 0]])
    async def test_of_nothing(self, sizes: list[int]) -> None:
        """
        Without a byte to read nothing is called, alive or gone, as in Linux.
        """
        handlers = Handlers()
        for op in ("read", "read_iter"):
            async with opened(handlers.ops(op)) as file:
                assert await file.readv(sizes) == [b""] * len(sizes)
                await file.entry.remove()
                assert await file.readv(sizes) == [b""] * len(sizes)
        assert handlers.log == []

    async def test_takes_any_iterable(self) -> None:
        """
        The sizes may come from anywhere.
        """
        async with opened(Handlers(b"content").ops("read_iter")) as file:
            assert await file.readv(size for size in (3, 3)) == [b"con", b"ten"]

    async def test_an_error_after_some_bytes_is_left_for_the_next(self) -> None:
        """
        What was read before an error is returned; the next call meets the error again.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            if pos == 3:
                raise PermissionError(EPERM, "no")
            return b"x" * size

        async with opened(ProcOps(read=read)) as file:
            assert await file.readv([1, 2, 3]) == [b"x", b"xx", b""]
            with refused(EPERM):
                await file.readv([1, 2])
            assert file.tell() == 3

    async def test_an_error_after_no_bytes_is_raised(self) -> None:
        """
        An empty buffer in front does not make an error look like the end of the file.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            if size:
                raise PermissionError(EPERM, "no")
            return b""

        async with opened(ProcOps(read=read)) as file:
            with refused(EPERM):
                await file.readv([0, 1])

    async def test_a_removal_between_two_buffers(self) -> None:
        """
        Each buffer is a call of its own: once removal has begun, what was read is all.
        """
        handlers = Handlers(b"content")
        async with opened(handlers.ops("read")) as file, create_task_group() as tg:
            handlers.hold_up("read")
            reader = await start(tg, file.readv, [2, 2])
            remover = await start(tg, file.entry.remove)
            handlers.let_go("read")
            await all_blocked()
            assert (reader.result, remover.done) == ([b"co", b""], True)
            assert handlers.log == ["read None", "read None goes on"]

    async def test_a_bug_in_the_middle(self) -> None:
        """
        What is no OSError is never kept back.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            return b"x" * size if pos == 0 else b"x" * (1 // 0)

        async with opened(ProcOps(read=read)) as file:
            with pytest.raises(ZeroDivisionError):
                await file.readv([1, 1])
            assert (file.tell(), file.entry.in_use) == (1, 0)


class TestWrite:
    async def test_advances_the_position(self) -> None:
        """
        Each write begins where the last one ended.
        """
        handlers = Handlers(b"")
        async with opened(handlers.ops("write")) as file:
            assert await file.write(b"abc") == 3
            assert await file.write(b"de") == 2
            assert (handlers.content, file.tell()) == (b"abcde", 5)

    async def test_a_handler_may_take_less(self) -> None:
        """
        The position advances by what was taken.
        """
        async with opened(answering(write=2)) as file:
            assert await file.write(b"abc") == 2
            assert file.tell() == 2

    @pytest.mark.parametrize(
        "data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"aXbXcX")[::2]]
    )
    async def test_takes_bytes_of_any_kind(self, data: Any) -> None:
        """
        Handlers get ``bytes``, whatever kind of them was passed.
        """
        got: list[object] = []

        async def write(file: File, data: bytes, pos: int) -> int:
            got.append(data)
            return len(data)

        async with opened(ProcOps(write=write)) as file:
            assert await file.write(data) == 3
            assert await file.pwrite(data, 0) == 3
            assert got == [b"abc", b"abc"]
            assert {type(data) for data in got} == {bytes}

    @pytest.mark.parametrize("kind", [Handlers, Plain])
    @pytest.mark.parametrize("data", ["text", 3, None, [1]], ids=repr)
    async def test_what_is_no_bytes(self, data: Any, kind: type) -> None:
        """
        Anything else is a TypeError; nothing is called.
        """
        async with opened(ProcOps.of(kind())) as file:
            for call in (file.write, partial(file.pwrite, offset=0)):
                with pytest.raises(TypeError):
                    await call(data)
            assert (file.tell(), file.entry.in_use) == (0, 0)

    async def test_text_is_told_the_cure(self) -> None:
        """
        Text must be encoded, which the error says.
        """
        async with opened(Handlers().ops("write")) as file:
            with pytest.raises(TypeError, match=r"text\.encode\(\), or use write_text\(\)"):
                await file.write("text")  # type: ignore[arg-type]

    @pytest.mark.parametrize("answer", [4, -1, None, b"abc", 1.0, True, "3"], ids=repr)
    async def test_nonsense(self, answer: Any) -> None:
        """
        More than was given, less than nothing, or no number: EIO, naming the handler.
        """
        for call, *args in (("write", b"abc"), ("pwrite", b"abc", 0)):
            async with opened(answering(write=answer)) as file:
                with pytest.raises(HandlerError, match="how many bytes it took, 0 to 3") as caught:
                    await getattr(file, str(call))(*args)
                assert (caught.value.errno, caught.value.call) == (EIO, "write")
                assert (file.tell(), file.entry.in_use) == (0, 0)

    async def test_plain_nonsense(self) -> None:
        """
        A plain handler is checked as well.
        """
        async with opened(ProcOps(write=lambda file, data, pos: 9)) as file:
            with pytest.raises(HandlerError):
                await file.write(b"abc")
            assert file.tell() == 0

    async def test_append_is_the_handlers_business(self) -> None:
        """
        O_APPEND changes nothing by itself; the handler sees it in the flags.
        """
        positions: list[tuple[int, bool]] = []

        async def write(file: File, data: bytes, pos: int) -> int:
            positions.append((pos, bool(file.flags & os.O_APPEND)))
            return len(data)

        async with opened(ProcOps(write=write), os.O_WRONLY | os.O_APPEND) as file:
            await file.write(b"abc")
            await file.write(b"abc")
            assert positions == [(0, True), (3, True)]

    async def test_pwrite_leaves_the_position(self) -> None:
        """
        pwrite writes where it is told to.
        """
        handlers = Handlers(b"")
        async with opened(handlers.ops("write")) as file:
            assert await file.pwrite(b"abc", 2) == 3
            assert (handlers.content, file.tell()) == (b"\0\0abc", 0)

    async def test_pwrite_at_a_negative_offset(self) -> None:
        """
        A negative offset is EINVAL.
        """
        async with opened(Handlers().ops("write")) as file:
            with refused(EINVAL):
                await file.pwrite(b"abc", -1)


class TestLseek:
    async def test_sets_the_position(self) -> None:
        """
        What the handler returns is the new position.
        """
        handlers = Handlers(b"content")
        async with opened(handlers.ops("read", "lseek")) as file:
            assert await file.lseek(4) == 4
            assert file.tell() == 4
            assert await file.read() == b"ent"

    async def test_the_handler_decides(self) -> None:
        """
        offset and whence are the handler's to make sense of, together with the position.
        """
        seen: list[tuple[int, int, int]] = []

        async def lseek(file: File, offset: int, whence: int) -> int:
            seen.append((offset, whence, file.pos))
            return 42

        async with opened(ProcOps(lseek=lseek)) as file:
            assert await file.lseek(-7, os.SEEK_END) == 42
            assert await file.lseek(8, os.SEEK_DATA) == 42
            assert seen == [(-7, os.SEEK_END, 0), (8, os.SEEK_DATA, 42)]

    @pytest.mark.parametrize("whence", [-1, 5, 99])
    async def test_no_such_whence(self, whence: int) -> None:
        """
        A whence there is not is EINVAL, before the handler or its absence is looked at.
        """
        async with opened(Handlers().ops("lseek")) as file, opened() as other:
            for each in (file, other):
                with refused(EINVAL):
                    await each.lseek(0, whence)

    @pytest.mark.parametrize("answer", [-1, None, b"", 1.0, True], ids=repr)
    async def test_nonsense(self, answer: Any) -> None:
        """
        A negative position, or none: EIO, naming the handler; the position stays.
        """
        async with opened(answering(lseek=answer)) as file:
            file.file.pos = 3
            with pytest.raises(HandlerError, match="the new position, >= 0") as caught:
                await file.lseek(1)
            assert (caught.value.errno, file.tell(), file.entry.in_use) == (EIO, 3, 0)


class TestPoll:
    @pytest.mark.parametrize(
        ("ready", "events", "answer"),
        [
            (select.POLLIN, select.POLLIN | select.POLLOUT, select.POLLIN),
            (select.POLLIN, select.POLLOUT, 0),
            (select.POLLHUP, select.POLLIN, select.POLLHUP),
            (select.POLLERR | select.POLLPRI, 0, select.POLLERR),
            (0, select.POLLIN, 0),
        ],
    )
    async def test_tells_what_was_asked_for(self, ready: int, events: int, answer: int) -> None:
        """
        Of what is ready, poll tells what was asked for; errors and hang-ups also unasked.
        """
        async with opened(answering(poll=ready)) as file:
            assert await file.poll(events) == answer

    async def test_asks_for_everything_by_default(self) -> None:
        """
        Without events, all usual ones are asked for.
        """
        everything = DEFAULT_POLLMASK | select.POLLPRI
        async with opened(answering(poll=0xFFFF)) as file:
            assert await file.poll() & everything == everything

    @pytest.mark.parametrize("answer", [None, b"", "r", True, 1.0], ids=repr)
    async def test_nonsense(self, answer: Any) -> None:
        """
        What is no mask is EIO, naming the handler.
        """
        async with opened(answering(poll=answer)) as file:
            with pytest.raises(HandlerError, match=r"a mask of select\.POLL") as caught:
                await file.poll()
            assert (caught.value.errno, file.entry.in_use) == (EIO, 0)

    async def test_a_plain_handler(self) -> None:
        """
        A plain function for a handler makes no difference.
        """
        async with opened(ProcOps.of(Plain())) as file:
            assert await file.poll() == select.POLLIN | select.POLLPRI

    async def test_an_error_reaches_the_caller(self) -> None:
        """
        What the handler raises is what the caller gets.
        """
        async with opened(failing(PermissionError(EPERM, "no"), "poll")) as file:
            with refused(EPERM):
                await file.poll()

    async def test_one_that_is_inside_ends_as_if_nothing_were(self) -> None:
        """
        A poll let in before removal began says what its handler says; removal waits for it.
        """
        handlers = Handlers()
        async with opened(handlers.ops("poll")) as file, create_task_group() as tg:
            handlers.hold_up("poll")
            poller = await start(tg, file.poll)
            remover = await start(tg, file.entry.remove)
            assert not remover.done
            handlers.let_go("poll")
            await all_blocked()
            assert (poller.result, remover.done) == (select.POLLIN | select.POLLPRI, True)


class TestIoctl:
    async def test_passes_anything(self) -> None:
        """
        The argument is anything the two have agreed upon.
        """
        args: list[object] = []

        async def ioctl(file: File, cmd: int, arg: Any) -> int:
            args.append(arg)
            return -1

        async with opened(ProcOps(ioctl=ioctl)) as file:
            thing = object()
            assert await file.ioctl(3, thing) == -1
            assert await file.ioctl(3) == -1
            assert args == [thing, 0]

    async def test_the_two_kinds_are_apart(self) -> None:
        """
        A compat_ioctl does not serve an ioctl, nor the other way round.
        """
        async with (
            opened(Handlers().ops("ioctl")) as only_ioctl,
            opened(Handlers().ops("compat_ioctl")) as only_compat,
        ):
            with refused(ENOTTY):
                await only_ioctl.compat_ioctl(3)
            with refused(ENOTTY):
                await only_compat.ioctl(3)

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    @pytest.mark.parametrize("cmd", [0x5450, 0x5451])
    async def test_numbers_that_just_succeed(self, cmd: int, name: str) -> None:
        """
        FIONCLEX and FIOCLEX never reach a handler: the VFS says 0, alive or gone.
        """
        handlers = Handlers()
        async with opened(handlers.ops("ioctl", "compat_ioctl")) as file:
            assert await getattr(file, name)(cmd) == 0
            await file.entry.remove()
            assert await getattr(file, name)(cmd) == 0
        assert handlers.log == []

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    @pytest.mark.parametrize("cmd", [1, 2, 0x541B, 0x5421, 0x5452, 0x5460])
    async def test_numbers_that_write_to_memory(self, cmd: int, name: str) -> None:
        """
        FIONREAD and its like never reach a handler either: EFAULT, as there is no memory here.
        """
        handlers = Handlers()
        async with opened(handlers.ops("ioctl", "compat_ioctl")) as file:
            with refused(EFAULT):
                await getattr(file, name)(cmd)
        assert handlers.log == []

    @pytest.mark.parametrize("cmd", [0, 3, 0x5401, 0xC0185879])
    async def test_other_numbers_reach_the_handler(self, cmd: int) -> None:
        """
        Any other number is the handler's, also one that looks like a terminal's.
        """
        async with opened(Handlers().ops("ioctl")) as file:
            assert await file.ioctl(cmd) == cmd

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    async def test_a_handler_that_does_not_know_it(self, name: str) -> None:
        """
        ENOIOCTLCMD, the kernel's "not one of mine", becomes ENOTTY.
        """
        async with opened(failing(OSError(515, "?"), name)) as file:
            with refused(ENOTTY):
                await getattr(file, name)(3)

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    @pytest.mark.parametrize("answer", [None, b"", True, 1.0], ids=repr)
    async def test_nonsense(self, answer: Any, name: str) -> None:
        """
        What is no number is EIO, naming the handler.
        """
        async with opened(answering(**{name: answer})) as file:
            with pytest.raises(HandlerError, match=f"the {name} handler .* a number") as caught:
                await getattr(file, name)(3)
            assert (caught.value.errno, caught.value.call) == (EIO, name)


class TestMmap:
    async def test_hands_out_anything(self) -> None:
        """
        The mapping's value is what the handler returned.
        """
        thing = object()
        async with opened(answering(mmap=thing)) as file:
            mapping = await file.mmap(4096)
            assert isinstance(mapping, AsyncResource)
            assert mapping.value is thing
            assert repr(mapping) == f"<Mapping of {file.file!r}>"
            await mapping.aclose()

    async def test_is_shared_and_for_reading_by_default(self) -> None:
        """
        Only the length must be said.
        """
        async with opened(Handlers().ops("mmap")) as file, await file.mmap(7) as mapping:
            assert mapping.value == (7, mmap.PROT_READ, mmap.MAP_SHARED)

    @pytest.mark.parametrize("length", [0, -1])
    async def test_of_nothing(self, length: int) -> None:
        """
        A length below 1 is EINVAL, before anything else is looked at.
        """
        async with opened(Handlers().ops("mmap"), os.O_WRONLY) as file:
            with refused(EINVAL):
                await file.mmap(length)
            await file.entry.remove()
            with refused(EINVAL):
                await file.mmap(length)

    async def test_what_is_gone_comes_before_the_access_mode(self) -> None:
        """
        A removed entry says EIO, whatever the file was opened for.
        """
        async with opened(Handlers().ops("mmap"), os.O_WRONLY) as file:
            with refused(EACCES):
                await file.mmap(1)
            await file.entry.remove()
            with too_late("mmap", EIO):
                await file.mmap(1)

    async def test_holds_the_open_file(self) -> None:
        """
        While a mapping is there, closing the file releases nothing; the last munmap does.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "mmap", "release"))
            file = await proc.open("x")
            one, two = await file.mmap(1), await file.mmap(1)
            await file.aclose()
            await one.aclose()
            assert "release 1" not in handlers.log
            await two.aclose()
            assert handlers.log[-1] == "release 1"

    async def test_a_file_closed_meanwhile_is_held_too(self) -> None:
        """
        A close while the mmap handler runs does not release what is being mapped.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "mmap", "release"))
            file = await proc.open("x")
            handlers.hold_up("mmap")
            async with create_task_group() as tg:
                mapper = await start(tg, file.mmap, 1)
                await file.aclose()
                handlers.let_go("mmap")
                await all_blocked()
                assert handlers.log == ["open 1", "mmap 1", "mmap 1 goes on"]
                await mapper.result.aclose()
                assert handlers.log[-1] == "release 1"
            await entry.remove()
            assert handlers.log.count("release 1") == 1
            assert proc.create("y", ProcOps()).ino == entry.ino

    async def test_one_that_failed_holds_nothing(self) -> None:
        """
        Without a mapping nothing is held: the last close releases.
        """
        handlers = Handlers()
        handlers.errors["mmap"] = OSError(ENODEV, "no")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            file = await proc.open("x")
            with refused(ENODEV):
                await file.mmap(1)
            await file.aclose()
            assert handlers.log[-1] == "release None"

    async def test_one_that_failed_after_the_close_holds_nothing(self) -> None:
        """
        The same if the file was closed while the handler ran: it is released, once.
        """
        handlers = Handlers()
        handlers.errors["mmap"] = OSError(ENODEV, "no")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            file = await proc.open("x")
            handlers.hold_up("mmap")
            async with create_task_group() as tg:
                mapper = await start(tg, file.mmap, 1)
                await file.aclose()
                handlers.let_go("mmap")
                await all_blocked()
                with refused(ENODEV):
                    mapper.result  # noqa: B018
            assert handlers.log.count("release None") == 1

    async def test_does_not_delay_a_removal(self) -> None:
        """
        A removal releases the file, mapped or not; the mapping lives on, and holds the number.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("mmap", "release"))
            file = await proc.open("x")
            mapping = await file.mmap(1)
            await file.aclose()
            await entry.remove()
            assert (handlers.log[-1], state(entry)) == ("release None", "gone")
            assert mapping.value is not None
            await mapping.aclose()
            assert handlers.log.count("release None") == 1

    async def test_may_be_closed_twice(self) -> None:
        """
        Closing a mapping again does nothing.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            async with await proc.open("x") as file:
                mapping = await file.mmap(1)
                await mapping.aclose()
                await mapping.aclose()
                assert handlers.log == ["mmap None"]
                assert repr(mapping) == "<Mapping of <closed>>"

    async def test_closes_also_when_cancelled(self) -> None:
        """
        A cancelled munmap raises, and the mapping is given up all the same.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("mmap", "release"))
            async with await proc.open("x") as file:
                mapping = await file.mmap(1)
            with CancelScope() as scope:
                scope.cancel()
                await mapping.aclose()
            assert scope.cancelled_caught
            assert handlers.log[-1] == "release None"


class TestDup:
    async def test_shares_the_position(self) -> None:
        """
        Duplicates have one position, one set of flags and one private_data.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            other = file.dup()
            assert await file.read(4) == b"cont"
            assert await other.read(4) == b"ent"
            assert other.file is file.file
            assert (file.tell(), other.flags) == (7, file.flags)

    async def test_the_last_close_releases(self) -> None:
        """
        One release for all duplicates, when the last one is closed.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "release"))
            files = [await proc.open("x")]
            files += [files[0].dup(), files[0].dup()]
            for file in files:
                assert handlers.log == ["open 1"]
                await file.aclose()
            assert handlers.log == ["open 1", "release 1"]

    async def test_each_is_closed_by_itself(self) -> None:
        """
        Closing one leaves the others open.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            other = file.dup()
            await file.aclose()
            assert (file.closed, other.closed) == (True, False)
            assert await other.read() == b"content"

    async def test_of_one_that_is_gone(self) -> None:
        """
        A dead file can be duplicated, and both are dead.
        """
        async with opened(Handlers().ops("read")) as file:
            await file.entry.remove()
            other = file.dup()
            with refused(EIO):
                await other.read()
            await other.aclose()

    async def test_of_directories(self) -> None:
        """
        A duplicate of a directory lists on where the other stopped.
        """
        async with ProcFS() as proc, await proc.open("") as file:
            other = file.dup()
            assert len(await file.getdents(1)) == len(await other.getdents(2)) == 1


class TestLooks:
    async def test_flags(self) -> None:
        """
        The flags are those of the open, without what matters to open itself.
        """
        only_once = os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOCTTY
        kept = os.O_RDWR | os.O_NONBLOCK | os.O_APPEND
        async with opened(flags=kept | only_once) as file:
            assert file.flags == kept

    async def test_the_file_is_what_handlers_get(self) -> None:
        """
        ``file.file`` is the object the handlers see: one for all calls and duplicates.
        """
        seen: list[File] = []

        class Table:
            async def open(self, file: File) -> None:
                seen.append(file)
                file.private_data = "mine"

            async def read(self, file: File, size: int, pos: int) -> bytes:
                seen.append(file)
                return b""

            async def release(self, file: File) -> None:
                seen.append(file)

        async with opened(ProcOps.of(Table()), data="data") as file:
            await file.dup().read()
            inner = file.file
            assert (inner.entry, inner.data) == (file.entry, "data")
            assert (inner.private_data, inner.flags, inner.pos) == ("mine", os.O_RDWR, 0)
            await file.entry.remove()
        assert seen == [inner] * 3

    async def test_private_data_is_none_at_first(self) -> None:
        """
        Without an open handler there is no private data.
        """
        async with opened() as file:
            assert file.file.private_data is None

    async def test_repr(self) -> None:
        """
        The repr of a descriptor, and of its file, shows the path, the position, and who is inside.
        """
        handlers = Handlers()
        async with opened(handlers.ops("read")) as file, create_task_group() as tg:
            await file.read(3)
            assert repr(file) == "<ProcFile <File '/proc/x' pos=3 in_use=0>>"
            handlers.hold_up("read")
            await start(tg, file.read)
            assert repr(file.file) == "<File '/proc/x' pos=3 in_use=1>"
            await start(tg, file.entry.remove)
            assert repr(file.file) == "<File '/proc/x' pos=3 in_use=1>"
            handlers.let_go("read")
        await file.aclose()
        assert repr(file) == "<ProcFile <closed>>"

    async def test_chmod_and_chown(self) -> None:
        """
        The entry's attributes can be changed through an open file, with the same rights.
        """
        async with opened() as file:
            file.chown(1, 2)
            file.chmod(0o600, cred=Credentials(uid=1))
            assert (file.entry.mode, file.entry.uid, file.entry.gid) == (0o600, 1, 2)
            with refused(EPERM):
                file.chmod(0o777, cred=Credentials(uid=3))
            with refused(EPERM):
                file.chown(3, 3, cred=Credentials(uid=3))

    async def test_truncate_changes_nothing(self) -> None:
        """
        truncate succeeds on a file open for writing, and there is nothing to see of it.
        """
        async with opened(flags=os.O_WRONLY) as file:
            file.entry.size = 5
            file.truncate(0)
            await file.entry.remove()
            file.truncate(99)
            assert file.stat().st_size == 5
            with refused(EINVAL):
                file.truncate(-1)

    async def test_truncate_needs_a_file_open_for_writing(self) -> None:
        """
        On a file open for reading, or a directory, it is EINVAL.
        """
        async with opened(flags=os.O_RDONLY) as file:
            with refused(EINVAL):
                file.truncate(0)
        async with ProcFS() as proc, await proc.open("") as directory:
            with refused(EINVAL):
                directory.truncate(0)

    async def test_fsync(self) -> None:
        """
        There is nothing to sync: EINVAL, alive or gone.
        """
        async with opened() as file:
            for _ in range(2):
                with refused(EINVAL):
                    file.fsync()
                await file.entry.remove()

    async def test_is_an_async_resource(self) -> None:
        """
        What takes any ``anyio.abc.AsyncResource`` takes a file.
        """
        async with opened() as file:
            assert isinstance(file, AsyncResource)


class TestClose:
    async def test_at_the_end_of_a_block(self) -> None:
        """
        ``async with`` closes, also after an error.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            with pytest.raises(KeyError):
                async with file:
                    raise KeyError
            assert file.closed
            assert handlers.log == ["release None"]

    @pytest.mark.parametrize("fast", [False, True])
    async def test_twice_does_nothing(self, *, fast: bool) -> None:
        """
        Closing what is closed is no error, and releases nothing.
        """
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc:
            proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            await file.aclose()
            await file.aclose()
            assert handlers.log == ["release None"]

    async def test_by_any_task(self) -> None:
        """
        A file belongs to no task: another one may use it and close it.
        """
        async with opened(Handlers(b"content").ops("read")) as file, create_task_group() as tg:
            assert (await start(tg, file.read)).result == b"content"
            await start(tg, file.aclose)
            assert file.closed

    async def test_closes_also_when_cancelled(self) -> None:
        """
        A cancelled close raises, and has closed; the release handler has run to its end.
        """
        handlers = Handlers()

        class Table:
            async def release(self, file: File) -> None:
                handlers.log.append("begun")
                await checkpoint()
                handlers.log.append("ended")

        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(Table()))
            file = await proc.open("x")
            with CancelScope() as scope:
                scope.cancel()
                await file.aclose()
            assert scope.cancelled_caught
            assert (file.closed, handlers.log) == (True, ["begun", "ended"])

    async def test_cancelled_in_the_release_waits_for_its_end(self) -> None:
        """
        A release handler that has begun is not cut short.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            async with create_task_group() as tg:
                closer = await start(tg, file.aclose)
                closer.cancel()
                await all_blocked()
                assert (closer.done, handlers.busy) == (False, True)
                handlers.let_go("release")
                await all_blocked()
                assert closer.done
            assert handlers.log == ["release None", "release None goes on"]

    async def test_an_error_of_the_release_handler(self) -> None:
        """
        It reaches who closes; the file is closed and released all the same.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EIO, "cannot")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            with refused(EIO):
                await file.aclose()
            assert (file.closed, entry.statistics().open_files) == (True, 0)
            await entry.remove()
            assert handlers.log == ["release None"]

    @pytest.mark.parametrize("answer", [None, 7, OSError(EIO, "not raised")], ids=repr)
    async def test_what_the_release_handler_returns_is_ignored(self, answer: Any) -> None:
        """
        A release cannot be refused: its result is nobody's business, as in Linux.
        """
        async with opened(answering(release=answer)) as file:
            await file.aclose()
        async with opened(ProcOps(release=lambda file: answer)) as file:
            await file.aclose()

    async def test_releases_what_cannot_wait_without_a_shield(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A release handler without any await is run as it is.
        """
        released: list[File] = []

        async def release(file: File) -> None:
            released.append(file)

        async with ProcFS() as proc:
            entries = [
                proc.create("async", ProcOps(release=release)),
                proc.create("plain", ProcOps(release=released.append)),
            ]
            for entry in entries:
                file = await proc.open(entry)
                with monkeypatch.context() as patch:
                    patch.delattr(anyio, "CancelScope")
                    await file.aclose()
        assert len(released) == 2


CLOSED_CALLS: dict[str, Callable[[ProcFile], Awaitable[object]]] = {
    "read": lambda file: file.read(),
    "pread": lambda file: file.pread(1, 0),
    "readv": lambda file: file.readv([1]),
    "readv of nothing": lambda file: file.readv([]),
    "write": lambda file: file.write(b""),
    "pwrite": lambda file: file.pwrite(b"", 0),
    "lseek": lambda file: file.lseek(0),
    "poll": lambda file: file.poll(),
    "ioctl": lambda file: file.ioctl(3),
    "ioctl FIOCLEX": lambda file: file.ioctl(0x5451),
    "compat_ioctl": lambda file: file.compat_ioctl(3),
    "mmap": lambda file: file.mmap(1),
    "getdents": lambda file: file.getdents(),
}
BAD_ARGUMENTS: dict[str, Callable[[ProcFile], Awaitable[object]]] = {
    "pread": lambda file: file.pread(-1, 0),
    "pwrite": lambda file: file.pwrite(b"", -1),
    "lseek": lambda file: file.lseek(0, 99),
    "mmap": lambda file: file.mmap(0),
    "getdents": lambda file: file.getdents(0),
}


class TestClosed:
    @pytest.mark.parametrize("call", CLOSED_CALLS.values(), ids=list(CLOSED_CALLS))
    @pytest.mark.parametrize("path", ["file", "plain", "absent", "directory"])
    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
    async def test_every_call_is_refused(
        self, call: Callable[[ProcFile], Awaitable[object]], path: str, flags: int
    ) -> None:
        """
        On a closed descriptor every call says EBADF, whatever it was open on.
        """
        async with ProcFS() as proc:
            proc.create("file", ProcOps.of(Handlers()))
            proc.create("plain", ProcOps.of(Plain()))
            proc.create("absent", ProcOps())
            proc.mkdir("directory")
            file = await proc.open(path, flags)
            await file.aclose()
            with refused(EBADF):
                await call(file)

    @pytest.mark.parametrize("call", BAD_ARGUMENTS.values(), ids=list(BAD_ARGUMENTS))
    @pytest.mark.parametrize("path", ["file", "directory"])
    async def test_whatever_the_arguments(
        self, call: Callable[[ProcFile], Awaitable[object]], path: str
    ) -> None:
        """
        Arguments that make no sense do not change that it is closed.
        """
        async with ProcFS() as proc:
            proc.create("file", ProcOps.of(Handlers()))
            proc.mkdir("directory")
            file = await proc.open(path)
            await file.aclose()
            with pytest.raises(OSError) as caught:
                await call(file)
            assert caught.value.errno in {EBADF, EINVAL}

    @pytest.mark.parametrize("name", ["entry", "file", "flags"])
    async def test_every_look_is_refused(self, name: str) -> None:
        """
        A closed descriptor has no entry, no file and no flags: EBADF.
        """
        async with opened() as file:
            await file.aclose()
            with refused(EBADF):
                getattr(file, name)

    @pytest.mark.parametrize(
        ("call", "args"),
        [
            ("tell", []),
            ("dup", []),
            ("stat", []),
            ("chmod", [0]),
            ("chown", [0, 0]),
            ("truncate", [0]),
            ("fsync", []),
        ],
        ids=str,
    )
    async def test_every_plain_call_is_refused(self, call: str, args: list[int]) -> None:
        """
        Nor has it attributes, or a duplicate: EBADF.
        """
        async with opened() as file:
            await file.aclose()
            with refused(EBADF):
                getattr(file, call)(*args)

    async def test_while_a_call_is_inside(self) -> None:
        """
        Who is inside when another task closes the descriptor ends as if nothing were.
        """
        handlers = Handlers(b"content")
        async with opened(handlers.ops("read")) as file, create_task_group() as tg:
            handlers.hold_up("read")
            reader = await start(tg, file.read)
            await file.aclose()
            with refused(EBADF):
                await file.read()
            handlers.let_go("read")
            await all_blocked()
            assert reader.result == b"content"
