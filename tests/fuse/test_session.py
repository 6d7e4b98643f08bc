"""The conversation with the kernel, with a socket in the kernel's place."""

import errno
import os
import select
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest

from aiopde import ProcFS, ProcOps
from aiopde.fuse import _session
from aiopde.fuse._inodes import Inodes
from aiopde.fuse._notifier import Notifier
from aiopde.fuse._operations import Operations
from aiopde.fuse._protocol import (
    BATCH_FORGET_IN,
    ENTRY_OUT,
    FORGET_ONE,
    IN_HEADER,
    INIT_IN,
    INIT_OUT,
    INTERRUPT_IN,
    IOCTL_COMPAT,
    IOCTL_IN,
    IOCTL_OUT,
    MINOR,
    OPEN_IN,
    OPEN_OUT,
    OUT_HEADER,
    POLL_IN,
    POLL_OUT,
    POLL_SCHEDULE_NOTIFY,
    READ_IN,
    RENAME_IN,
    ROOT_ID,
    Notice,
    Opcode,
    dirent,
)
from aiopde.fuse._session import Session, Waiting
from tests.helpers import Handlers, all_blocked, refused

FLUSH = 25


class Kernel:
    """
    The other end: it asks, and is answered.

    Like /dev/fuse, a socket of this kind hands over one message at a time.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._unique = 0

    def ask(self, opcode: int, nodeid: int = ROOT_ID, body: bytes = b"") -> int:
        self._unique += 2
        length = IN_HEADER.size + len(body)
        header = IN_HEADER.pack(length, opcode, self._unique, nodeid, 0, 0, 0, 0)
        self._end.send(header + body)
        return self._unique

    def answer(self) -> tuple[int, int, bytes]:
        """Return the next answer: to which request, errno, body."""
        message = self._end.recv(1 << 20)
        length, error, unique = OUT_HEADER.unpack_from(message)
        assert length == len(message)
        return unique, -error, message[OUT_HEADER.size :]

    async def call(self, opcode: int, nodeid: int = ROOT_ID, body: bytes = b"") -> bytes:
        """Ask, and return the body of the answer, or raise its error."""
        unique = self.ask(opcode, nodeid, body)
        await all_blocked()
        answered, error, answer = self.answer()
        assert answered == unique
        if error:
            raise OSError(error, os.strerror(error))
        return answer

    async def look_up(self, name: str, nodeid: int = ROOT_ID) -> int:
        answer = await self.call(Opcode.LOOKUP, nodeid, name.encode() + b"\0")
        found: int = ENTRY_OUT.unpack(answer)[0]
        return found

    async def open(self, name: str) -> int:
        nodeid = await self.look_up(name)
        answer = await self.call(Opcode.OPEN, nodeid, OPEN_IN.pack(os.O_RDONLY))
        number: int = OPEN_OUT.unpack(answer)[0]
        return number

    def nothing_left(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], 0)
        return not ready


@asynccontextmanager
async def conversation(proc: ProcFS) -> AsyncGenerator[tuple[Kernel, Session, Operations]]:
    """Serve a tree to a socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(5)
        async with anyio.create_task_group() as tg:
            operations = Operations(proc.root, Notifier(ours.fileno()), tg)
            session = Session(ours.fileno(), operations.table, tg, anyio.Event())
            tg.start_soon(session.run)
            yield Kernel(theirs), session, operations
            await operations.aclose()
            tg.cancel_scope.cancel()


@contextmanager
def failing(name: str, error: int, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """A system call fails once in the block."""
    real = getattr(os, name)
    errors = [OSError(error, os.strerror(error))]

    def call(*args: object) -> object:
        if errors:
            raise errors.pop()
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, call)
        yield
    assert not errors


async def test_kernel_and_server_agree_on_what_both_can() -> None:
    """The older version of the two, and of the capabilities those both know."""
    async with ProcFS() as proc, conversation(proc) as (kernel, session, _):
        init = INIT_IN.pack(7, MINOR + 5, 4096, 0b1001)
        major, minor, readahead, flags, *_ = INIT_OUT.unpack(
            await kernel.call(Opcode.INIT, 0, init + bytes(48))
        )
        await session.agreed()
        assert (major, minor, readahead, flags) == (7, MINOR, 4096, 0b1001)


@pytest.mark.parametrize("version", [(6, 99), (7, 8)])
async def test_a_kernel_too_old_is_refused(version: tuple[int, int]) -> None:
    """By the mount itself, and with both versions named."""
    async with ProcFS() as proc, conversation(proc) as (kernel, session, _):
        with refused(errno.EPROTO):
            await kernel.call(Opcode.INIT, 0, INIT_IN.pack(*version, 0, 0))
        with refused(errno.EPROTO) as caught:
            await session.agreed()
        assert f"FUSE {version[0]}.{version[1]}" in str(caught.value)


async def test_what_is_not_known_is_not_implemented() -> None:
    """The kernel then does without: it flushes no more, or has no xattrs."""
    async with ProcFS() as proc, conversation(proc) as (kernel, _, _):
        for opcode in [FLUSH, 22, 4711]:
            with refused(errno.ENOSYS):
                await kernel.call(opcode)


async def test_answers_that_wait_for_nothing_need_no_task() -> None:
    """They are given by the task that reads; one that waits keeps it, and another reads on."""
    handlers = Handlers()
    async with ProcFS() as proc, conversation(proc) as (kernel, session, _):
        proc.create("f", handlers.ops("open", "read", "release"))
        before = {task.id for task in anyio.get_running_tasks()}
        number = await kernel.open("f")
        read = READ_IN.pack(number, 0, 100, 0, 0, 0)
        assert await kernel.call(Opcode.READ, 2, read) == b"content"
        assert {task.id for task in anyio.get_running_tasks()} == before
        handlers.hold_up("read")
        waiting = [kernel.ask(Opcode.READ, 2, read) for _ in range(3)]
        await all_blocked()
        assert len(anyio.get_running_tasks()) == len(before) + 3
        assert sorted(session.inside) == waiting
        handlers.let_go("read")
        await all_blocked()
        assert sorted(kernel.answer() for _ in waiting) == [(n, 0, b"content") for n in waiting]
        assert len(anyio.get_running_tasks()) == len(before)


async def test_what_waits_can_be_closed() -> None:
    """As a coroutine whose loop is gone: its ``finally`` blocks run."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("closed")

    async def outer(inner: Waiting) -> bytes:
        return await inner

    for close_at_once in [True, False]:
        coroutine: Any = waits()
        waiting = Waiting(1, 0, coroutine, coroutine.send(None))
        around = outer(waiting)
        around.send(None)
        if close_at_once:
            around.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                around.throw(KeyboardInterrupt())
    assert ended == ["closed", "closed"]


async def test_an_interrupt_cancels_the_call_it_names() -> None:
    """And no other; one that comes too late does nothing."""
    handlers = Handlers()
    async with ProcFS() as proc, conversation(proc) as (kernel, session, _):
        entry = proc.create("f", handlers.ops("read"))
        number = await kernel.open("f")
        handlers.hold_up("read")
        first, second = (
            kernel.ask(Opcode.READ, 2, READ_IN.pack(number, 0, 9, 0, 0, 0)) for _ in range(2)
        )
        await all_blocked()
        for _ in range(2):
            kernel.ask(Opcode.INTERRUPT, 0, INTERRUPT_IN.pack(first))
        await all_blocked()
        assert kernel.answer() == (first, errno.EINTR, b"")
        assert (list(session.inside), entry.in_use) == ([second], 1)
        handlers.let_go("read")
        await all_blocked()
        assert kernel.answer() == (second, 0, b"content")
        assert kernel.nothing_left()
        kernel.ask(Opcode.INTERRUPT, 0, INTERRUPT_IN.pack(second))
        await all_blocked()
        assert kernel.nothing_left()


async def test_a_flood_of_requests_lets_other_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a number of them, though more are there."""
    monkeypatch.setattr(_session, "_BATCH", 4)
    turns: list[str] = []
    async with ProcFS() as proc, conversation(proc) as (kernel, session, _):

        def noted(nodeid: int, body: memoryview) -> None:
            turns.append("request")

        async def other() -> None:
            while turns.count("request") < 24:
                turns.append("other")
                await anyio.lowlevel.checkpoint()

        session._table[Opcode.FORGET] = noted
        for _ in range(24):
            kernel.ask(Opcode.FORGET)
        async with anyio.create_task_group() as tg:
            tg.start_soon(other)
        first = turns.index("request")
        # On trio the other may have its turn before the first four, and again after the next.
        assert "other" in turns[first : first + 9]


async def test_forgetting_counts() -> None:
    """An inode is forgotten when each lookup was taken back; unknown ones are ESTALE."""
    async with ProcFS() as proc, conversation(proc) as (kernel, _, operations):
        for name in "fg":
            proc.create(name, ProcOps())
        f, g = await kernel.look_up("f"), await kernel.look_up("g")
        assert await kernel.look_up("f") == f
        forget = b"".join(FORGET_ONE.pack(*pair) for pair in [(f, 1), (g, 1), (99, 1)])
        kernel.ask(Opcode.BATCH_FORGET, 0, BATCH_FORGET_IN.pack(3) + forget)
        kernel.ask(Opcode.FORGET, ROOT_ID, bytes([255]) * 8)
        await all_blocked()
        assert len(operations.inodes) == 2
        with refused(errno.ESTALE):
            await kernel.call(Opcode.GETATTR, g, bytes(16))
        assert await kernel.look_up("g") > g


async def test_what_is_gone_wakes_nobody_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever polls is woken by the removal once, and does not have to ask for ever."""
    woken: list[int] = []

    def poll(self: Notifier, handle: int) -> None:
        woken.append(handle)

    monkeypatch.setattr(Notifier, "poll", poll)
    async with ProcFS() as proc, conversation(proc) as (kernel, _, operations):
        entry = proc.create("f", Handlers().ops("poll"))
        number = await kernel.open("f")
        ask = POLL_IN.pack(number, 1, POLL_SCHEDULE_NOTIFY, select.POLLHUP)
        assert await kernel.call(Opcode.POLL, 2, ask) == POLL_OUT.pack(0)
        assert list(operations._polls._waiting) == [number]
        await entry.remove()
        for _ in range(3):
            assert await kernel.call(Opcode.POLL, 2, ask) == POLL_OUT.pack(0)
        assert (woken, list(operations._polls._waiting)) == ([1], [])


async def test_a_32_bit_ioctl_is_the_compat_one() -> None:
    """As the kernel tells by a flag."""
    handlers = Handlers()
    async with ProcFS() as proc, conversation(proc) as (kernel, _, _):
        proc.create("f", handlers.ops("ioctl", "compat_ioctl"))
        number = await kernel.open("f")
        for flags, result in [(0, 10), (IOCTL_COMPAT, 4)]:
            body = IOCTL_IN.pack(number, flags, 7, 3, 0, 0)
            assert await kernel.call(Opcode.IOCTL, 2, body) == IOCTL_OUT.pack(result)


async def test_the_old_rename_is_refused_as_the_new_one() -> None:
    """EPERM over what is there, ENOENT to a new name."""
    async with ProcFS() as proc, conversation(proc) as (kernel, _, _):
        proc.create("f", ProcOps())
        for new, error in [(b"f", errno.EPERM), (b"new", errno.ENOENT)]:
            with refused(error):
                body = RENAME_IN.pack(ROOT_ID) + b"f\0" + new + b"\0"
                await kernel.call(Opcode.RENAME, ROOT_ID, body)


async def test_a_symlink_that_goes_is_read_no_more() -> None:
    """EINVAL, as in procfs."""
    async with ProcFS() as proc, conversation(proc) as (kernel, _, _):
        link = proc.symlink("l", "target")
        nodeid = await kernel.look_up("l")
        assert await kernel.call(Opcode.READLINK, nodeid) == b"target"
        await link.remove()
        with refused(errno.EINVAL):
            await kernel.call(Opcode.READLINK, nodeid)


async def test_the_kernel_may_drop_what_it_has_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOENT, to a read or an answer: its caller was killed. Life goes on."""
    async with ProcFS() as proc, conversation(proc) as (kernel, session, _):
        proc.create("f", ProcOps())
        with failing("readv", errno.ENOENT, monkeypatch):
            await kernel.look_up("f")
        with failing("writev", errno.ENOENT, monkeypatch):
            kernel.ask(Opcode.LOOKUP, ROOT_ID, b"f\0")
            await all_blocked()
        assert kernel.nothing_left()
        with failing("readv", errno.ENODEV, monkeypatch):
            kernel.ask(Opcode.STATFS)
            await all_blocked()
        assert session._ended.is_set()


@pytest.mark.parametrize("call", ["readv", "writev"])
async def test_any_other_error_of_the_device_comes_out(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be a mistake of ours, and not to be passed over."""

    async def fails() -> None:
        async with ProcFS() as proc, conversation(proc) as (kernel, _, _):
            with failing(call, errno.EFAULT, monkeypatch):
                kernel.ask(Opcode.STATFS)
                await anyio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await fails()
    assert caught.group_contains(OSError, match="Bad address")


def test_a_line_of_a_listing_is_padded() -> None:
    """To eight bytes, which the kernel counts on."""
    for name in [b"a", b"12345678", b"123456789"]:
        line = dirent(1, 2, name, 8)
        assert len(line) % 8 == 0
        assert line.rstrip(b"\0").endswith(name)


async def test_an_inode_pins_its_number() -> None:
    """Until the kernel has forgotten it, no other entry has it."""
    async with ProcFS() as proc:
        inodes = Inodes(proc.root)
        entry = proc.create("f", ProcOps())
        inode = inodes.look_up(entry)
        assert inodes.find(entry) is inode
        await entry.remove()
        assert proc.create("g", ProcOps()).ino != entry.ino
        inodes.clear()
        assert proc.create("h", ProcOps()).ino == entry.ino
        assert len(inodes) == 1


def test_notices_have_the_kernels_numbers() -> None:
    """They are told from errors by their sign."""
    assert [int(notice) for notice in Notice] == [1, 2, 3]
