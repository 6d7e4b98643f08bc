"""Reads, writes and seeks: what handlers get, what callers get, and where the position is then."""

from __future__ import annotations

import os
from errno import EINVAL, EIO, EPERM, ESPIPE
from functools import partial
from typing import Any

import pytest
from anyio import create_task_group

from aiopde import MAX_RW_COUNT, File, HandlerError, ProcOps
from tests.helpers import Handlers, Plain, all_blocked, answering, failing, opened, refused, start


class TestRead:
    async def test_advances_the_position(self) -> None:
        """
        Each read begins where the last one ended; at the end it returns nothing.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            assert [await file.read(4) for _ in range(3)] == [b"cont", b"ent", b""]
            assert file.tell() == 7

    async def test_asks_for_a_gib_by_default(self) -> None:
        """
        Without a size the handler is asked for more than anybody has at hand.
        """
        sizes: list[int] = []

        async def read(file: File, size: int, pos: int) -> bytes:
            sizes.append(size)
            return b""

        async with opened(ProcOps(read=read)) as file:
            assert await file.read() == b""
            assert sizes == [2**30 - 1]

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

    @pytest.mark.parametrize("fast", [False, True])
    @pytest.mark.parametrize("plain", [False, True])
    async def test_sizes_at_the_limits(self, plain: bool, fast: bool) -> None:
        """
        Each reaches the handler as it is, up to the most that one read moves.
        """
        sizes: list[int] = []

        def read(file: File, size: int, pos: int) -> bytes:
            sizes.append(size)
            return b""

        async def slowly(file: File, size: int, pos: int) -> bytes:
            return read(file, size, pos)

        given = [0, 1, 2**30 - 1, 2**30, MAX_RW_COUNT - 1, MAX_RW_COUNT]
        async with opened(ProcOps(read=read if plain else slowly), fast_acquire=fast) as file:
            for size in (*given, MAX_RW_COUNT + 1, 1 << 40):
                await file.read(size)
            assert sizes == [*given, MAX_RW_COUNT, MAX_RW_COUNT]
            assert (file.tell(), file.entry.in_use) == (0, 0)

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
        wrong: list[Any] = ["10", 1.5, 0.0, None]
        async with opened(ops, fast_acquire=fast, killable=killable) as file:
            for size in wrong:
                with pytest.raises(TypeError, match=rf"as read\(4096\), not {size!r}"):
                    await file.read(size)
            with pytest.raises(TypeError, match=r"as readv\(\[20, 30\]\), not bytearray"):
                await file.readv([bytearray(4)])  # type: ignore[list-item]
            for given in (4096, 1 << 40):
                with pytest.raises(TypeError, match="mine"):
                    await file.read(given)
            assert (file.tell(), file.entry.in_use) == (0, 0)


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
