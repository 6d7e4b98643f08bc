"""Seq files as entries: create_seq and create_single, opened, read and removed."""

import os
import stat
from collections.abc import AsyncIterator
from errno import EBADF, EINVAL, EIO, ENOTTY, ESPIPE
from typing import Any

import pytest
from anyio import create_task_group

from aiopde import DEFAULT_POLLMASK, ProcFS, SeqFile, SeqOps
from tests.helpers import Handlers, all_blocked, refused, start, state, unchanged


async def numbers() -> AsyncIterator[str]:
    for n in range(5):
        yield f"{n}\n"


class Walk(Handlers):
    """The four callbacks over a list; they log, and can be held up, like other handlers."""

    def __init__(self, *items: str) -> None:
        super().__init__()
        self.items = items

    def seq_ops(self) -> SeqOps:
        return SeqOps(start=self.start, next=self.next, stop=self.stop, show=self.show)

    def _item(self, pos: int) -> str | None:
        return self.items[pos] if pos < len(self.items) else None

    async def start(self, m: SeqFile, pos: int) -> str | None:
        await self._enter(f"start {pos}", m.file)
        return self._item(pos)

    async def next(self, m: SeqFile, item: str, pos: int) -> tuple[str | None, int]:
        return self._item(pos + 1), pos + 1

    async def stop(self, m: SeqFile, item: str | None) -> None:
        await self._enter("stop", m.file)

    async def show(self, m: SeqFile, item: str) -> None:
        m.puts(item)


class TestSeq:
    async def test_from_an_async_generator(self) -> None:
        """
        Each record that the generator yields is part of the file.
        """
        async with ProcFS() as proc:
            proc.create_seq("numbers", numbers)
            assert await proc.read_text("numbers") == "0\n1\n2\n3\n4\n"

    async def test_from_four_callbacks(self) -> None:
        """
        The kernel's own interface does it too; ``m.file`` is the open file.
        """
        walk = Walk("a", "b", "c")
        async with ProcFS() as proc:
            proc.create_seq("walk", walk.seq_ops())
            async with await proc.open("walk") as file:
                assert await file.read() == b"abc"
                assert file.file.private_data.file is file.file
            assert walk.log[0].startswith("start 0")

    async def test_is_an_entry_like_any_other(self) -> None:
        """
        Mode, parent, data and the rest are as for create().
        """
        async with ProcFS() as proc:
            parent = proc.mkdir("d")
            entry = proc.create_seq("x", numbers, mode=0o640, parent=parent, data=7)
            other = proc.create_single("y", lambda: "", mode=0o600, parent=parent, data=8)
            assert (entry.path, entry.mode, entry.data) == ("/proc/d/x", 0o640, 7)
            assert (other.path, other.mode, other.data) == ("/proc/d/y", 0o600, 8)
            assert stat.S_ISREG(entry.type)
            assert proc.create_seq("default", numbers).mode == 0o444
            assert proc.create_seq("fast", numbers, fast_acquire=True).fast_acquire

    async def test_each_open_walks_by_itself(self) -> None:
        """
        Two opens of one file do not disturb each other.
        """
        async with ProcFS() as proc:
            proc.create_seq("numbers", numbers)
            async with await proc.open("numbers") as one, await proc.open("numbers") as two:
                assert await one.read(2) == b"0\n"
                assert await two.read(4) == b"0\n1\n"
                assert await one.read(4) == b"1\n2\n"

    async def test_pread_is_a_slice(self) -> None:
        """
        At every offset pread gives what a read of the whole has there.
        """
        async with ProcFS() as proc:
            proc.create_seq("numbers", numbers)
            whole = await proc.read_bytes("numbers")
            async with await proc.open("numbers") as file:
                for offset in range(len(whole) + 2):
                    assert await file.pread(3, offset) == whole[offset : offset + 3]
                assert file.tell() == 0

    async def test_readv_is_one_read(self) -> None:
        """
        Several buffers are filled in one pass.
        """
        async with ProcFS() as proc:
            proc.create_seq("numbers", numbers)
            async with await proc.open("numbers") as file:
                assert await file.readv([3, 3]) == [b"0\n1", b"\n2\n"]

    async def test_lseek(self) -> None:
        """
        It can seek: to a place, or from where it is; not from the end.
        """
        async with ProcFS() as proc:
            proc.create_seq("numbers", numbers)
            async with await proc.open("numbers") as file:
                assert await file.lseek(4) == 4
                assert await file.read(2) == b"2\n"
                assert await file.lseek(-4, os.SEEK_CUR) == 2
                assert await file.read(2) == b"1\n"
                assert await file.lseek(99) == 99
                assert await file.read() == b""
                for offset, whence in ((0, os.SEEK_END), (-1, os.SEEK_SET), (0, os.SEEK_DATA)):
                    with refused(EINVAL):
                        await file.lseek(offset, whence)

    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY])
    async def test_pwrite(self, flags: int) -> None:
        """
        A seq file has no positional write at all: ESPIPE, however it was opened, alive or gone.
        """
        async with ProcFS() as proc:
            entry = proc.create_seq("numbers", numbers)
            async with await proc.open("numbers", flags) as file:
                for _ in range(2):
                    with refused(ESPIPE):
                        await file.pwrite(b"", 0)
                    await entry.remove()

    async def test_what_it_has_no_handler_for(self) -> None:
        """
        The rest is absent: write and mmap are EIO, ioctl is ENOTTY, poll is always ready.
        """
        async with ProcFS() as proc:
            proc.create_seq("numbers", numbers)
            async with await proc.open("numbers", os.O_RDWR) as file:
                with refused(EIO):
                    await file.write(b"")
                with refused(EIO):
                    await file.mmap(1)
                with refused(ENOTTY):
                    await file.ioctl(3)
                assert await file.poll() == DEFAULT_POLLMASK


class TestSingle:
    @pytest.mark.parametrize("text", ["grüße\n", "grüße\n".encode()], ids=["str", "bytes"])
    async def test_from_one_function(self, text: str | bytes) -> None:
        """
        The file is the text that an async function returns.
        """

        async def show() -> str | bytes:
            return text

        async with ProcFS() as proc:
            proc.create_single("x", show)
            assert await proc.read_text("x") == "grüße\n"

    async def test_from_one_that_writes(self) -> None:
        """
        Or what it writes; ``m.private`` is the entry's data then (single_open).
        """

        async def show(m: SeqFile) -> None:
            m.puts(f"{m.private} of ")
            m.write(m.file.entry.name.encode())

        async with ProcFS() as proc:
            proc.create_single("x", show, data="data")
            assert await proc.read_text("x") == "data of x"

    async def test_private_is_the_data_at_the_open(self) -> None:
        """
        What the entry's data was when the file was opened stays the file's.
        """

        async def show(m: SeqFile) -> None:
            m.puts(m.private)

        async with ProcFS() as proc:
            entry = proc.create_single("x", show, data="old")
            async with await proc.open("x") as file:
                entry.data = "new"
                assert await file.read() == b"old"
            assert await proc.read_text("x") == "new"

    async def test_is_one_snapshot(self) -> None:
        """
        However many reads it takes, the text is made once for each pass.
        """
        made: list[int] = []

        async def show() -> str:
            made.append(len(made))
            return f"made {len(made)} times"

        async with ProcFS() as proc:
            proc.create_single("x", show)
            async with await proc.open("x") as file:
                assert b"".join([await file.read(4) for _ in range(5)]) == b"made 1 times"
                await file.lseek(0)
                assert await file.read() == b"made 2 times"


class TestRefused:
    @pytest.mark.parametrize(
        ("thing", "cure"),
        [
            (lambda: numbers(), "pass numbers, not numbers()"),
            (lambda: Walk, "async def"),
            (lambda: None, "async def"),
            (lambda: [b"record"], "async def"),
            (lambda: Walk().show, "async def"),
        ],
        ids=["generator", "class", "None", "list", "function"],
    )
    async def test_no_records(self, thing: Any, cure: str) -> None:
        """
        What makes no records is a TypeError that shows what does; nothing is registered.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError) as caught:
                proc.create_seq("x", thing())
            assert cure in str(caught.value)

    @pytest.mark.parametrize(
        ("thing", "cure"),
        [
            (lambda: Walk().stop(SeqFile.__new__(SeqFile), None), "not stop()"),
            (lambda: Walk, "async def show"),
            (lambda: "text", "async def show"),
            (lambda: numbers, "return the value instead of yielding it"),
            (lambda: Walk().next, "async def show"),
        ],
        ids=["coroutine", "class", "text", "generator function", "wrong function"],
    )
    async def test_no_text(self, thing: Any, cure: str) -> None:
        """
        What makes no text is a TypeError that shows what does; nothing is registered.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError) as caught:
                proc.create_single("x", thing())
            assert cure in str(caught.value)


class TestRemoval:
    async def test_what_was_buffered_is_lost(self) -> None:
        """
        Once removed, the rest of a record that was read in part is not there any more: EIO.
        """
        async with ProcFS() as proc:
            entry = proc.create_seq("numbers", numbers)
            async with await proc.open("numbers") as file:
                assert await file.read(1) == b"0"
                await entry.remove()
                for call in (file.read(), file.pread(1, 1)):
                    with refused(EIO):
                        await call
                with refused(EINVAL):
                    await file.lseek(0)
                assert file.tell() == 1

    async def test_waits_for_a_walk_that_is_inside(self) -> None:
        """
        A read that walks is inside the guard all the way; stop is called before removal goes on.
        """
        walk = Walk("a", "b")
        walk.hold_up("start 0")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create_seq("walk", walk.seq_ops())
            reader = await start(tg, (await proc.open("walk")).read)
            remover = await start(tg, entry.remove)
            assert (reader.done, remover.done) == (False, False)
            walk.let_go("start 0")
            await all_blocked()
            assert (reader.result, remover.done) == (b"ab", True)
            assert walk.log[-1].startswith("stop")

    async def test_closes_the_generator(self) -> None:
        """
        A generator that a file has not read to the end is closed with the file, or by the removal.
        """
        ended: list[str] = []

        async def endless() -> AsyncIterator[str]:
            try:
                while True:
                    yield "record"
            finally:
                ended.append("ended")

        async with ProcFS() as proc:
            entry = proc.create_seq("endless", endless)
            async with await proc.open("endless") as file:
                await file.read(3)
                assert ended == []
            assert ended == ["ended"]
            async with await proc.open("endless") as file:
                await file.read(3)
                await entry.remove()
                assert ended == ["ended"] * 2
            assert ended == ["ended"] * 2

    async def test_of_one_that_was_never_read(self) -> None:
        """
        Opening and closing, or removing, makes no generator and calls no callback.
        """
        walk = Walk("a")
        async with ProcFS() as proc:
            for entry in (
                proc.create_seq("walk", walk.seq_ops()),
                proc.create_seq("numbers", numbers),
                proc.create_single("single", lambda: ""),
            ):
                async with await proc.open(entry):
                    pass
                async with await proc.open(entry):
                    await entry.remove()
                    assert state(entry) == "gone"
        assert walk.log == []

    async def test_of_a_path_descriptor(self) -> None:
        """
        A descriptor opened with O_PATH has no walk to release, neither closed nor removed.
        """
        async with ProcFS() as proc:
            entry = proc.create_seq("numbers", numbers)
            async with await proc.open("numbers", os.O_PATH) as file:
                with refused(EBADF):
                    await file.read()
            file = await proc.open("numbers", os.O_PATH)
            await entry.remove()
            await file.aclose()
