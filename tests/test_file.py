"""A file descriptor: what each call answers, alive or gone, with a handler or without."""

from __future__ import annotations

import mmap
import os
import select
import stat
from errno import EACCES, EBADF, EINVAL, EIO, ENOENT, ENOTTY, EPERM, ESPIPE
from typing import Any, NamedTuple

import pytest
from anyio import create_task_group
from anyio.abc import AsyncResource

from aiopde import (
    DEFAULT_POLLMASK,
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
