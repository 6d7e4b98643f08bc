"""seq_file: the order of the handlers' calls, what each read gets, and what errors leave behind."""

import itertools
from array import array
from collections.abc import AsyncIterator
from errno import EINVAL, ENOMEM
from os import SEEK_CUR, SEEK_END, SEEK_SET

import pytest
from hypothesis import given, settings, strategies as st

from aiopde import _seq_read
from aiopde._records import records
from aiopde._seq_file import SeqFile, SeqOps
from aiopde._seq_read import PAGE_SIZE, seq_lseek, seq_read
from aiopde._single import single
from tests.seq_helpers import OpenFile, Walk

ITEMS = (b"", b"one\n", b"", b"", b"three\n", b"4", b"", b"five\n", b"")
CONTENT = b"".join(ITEMS)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of 8 bytes and buffers of up to 64."""
    monkeypatch.setattr(_seq_read, "PAGE_SIZE", 8)
    monkeypatch.setattr(_seq_read, "MAX_BUFFER", 64)


class TestContent:
    @pytest.mark.parametrize("size", range(1, len(CONTENT) + 2))
    async def test_does_not_depend_on_the_chunks(self, size: int) -> None:
        """
        Reads of any size give the same file, whether one after the other or each by its offset.
        """
        walk = Walk(*ITEMS)
        assert await OpenFile(walk.ops).read_all(size) == CONTENT

        file, chunks = OpenFile(walk.ops), list[bytes]()
        while not chunks or chunks[-1]:
            chunks.append(await OpenFile(walk.ops).pread(size, len(b"".join(chunks))))
            assert await file.pread(size, len(b"".join(chunks[:-1]))) == chunks[-1]
        assert b"".join(chunks) == CONTENT
        assert walk.balanced()

    @pytest.mark.parametrize("pos", range(len(CONTENT) + 3))
    async def test_is_the_same_from_every_offset(self, pos: int) -> None:
        """
        A pread, and a seek with reads after it, begin with the byte that is there (B21, I40).
        """
        walk = Walk(*ITEMS)
        file = OpenFile(walk.ops)
        data = await file.pread(100, pos)
        assert CONTENT[pos:].startswith(data)
        assert bool(data) == (pos < len(CONTENT))
        assert file.pos == 0
        assert await file.lseek(pos) == file.pos == pos
        assert await file.read_all(3) == CONTENT[pos:]
        assert walk.balanced()

    @pytest.mark.usefixtures("small_pages")
    @pytest.mark.parametrize("size", [1, 5, 100])
    async def test_is_the_same_whatever_the_buffer(self, size: int) -> None:
        """
        Records that make the buffer grow appear once and whole, in traverse too.
        """
        walk = Walk(b"a" * 7, b"b" * 8, b"c" * 31, b"", b"d" * 32, b"e")
        content = b"".join(walk.items)
        assert await OpenFile(walk.ops).read_all(size) == content
        for pos in range(len(content)):
            file = OpenFile(walk.ops)
            await file.lseek(pos)
            assert await file.read_all(size) == content[pos:]
        assert walk.balanced()


class Model:
    """The lengths of reads, by the rules of the contract; of sessions it knows nothing."""

    def __init__(self, items: list[bytes], page: int) -> None:
        self.items = items
        self.buffer = page
        self.pos = 0
        self.known_pos = 0
        self.index = 0
        self.left: bytes = b""

    def fit(self, item: bytes) -> None:
        while len(item) >= self.buffer:
            self.buffer *= 2

    def go_to(self, pos: int) -> None:
        if pos == self.known_pos:
            return
        self.known_pos, self.index, self.left = pos, 0, b""
        while pos and self.index < len(self.items):
            item = self.items[self.index]
            self.fit(item)
            self.index += 1
            self.left = item[pos:]
            pos -= min(pos, len(item))

    def read(self, size: int, pos: int) -> bytes:
        if size == 0:
            return b""
        if pos == 0:
            self.index, self.left = 0, b""
        self.go_to(pos)
        data, self.left = self.left[:size], self.left[size:]
        if not self.left:
            batch = self.batch(size - len(data))
            self.left = batch[size - len(data) :]
            data += batch[: size - len(data)]
        self.known_pos += len(data)
        return data

    def batch(self, room: int) -> bytes:
        batch = b""
        for item in self.items[self.index :]:
            if batch and (len(batch) >= room or len(batch) + len(item) >= self.buffer):
                break
            if not batch:
                self.fit(item)
            batch += item
            self.index += 1
        return batch


calls = st.tuples(
    st.sampled_from(["read", "pread", "lseek"]), st.integers(0, 40), st.integers(0, 90)
)


class TestModel:
    @settings(max_examples=150)
    @given(items=st.lists(st.integers(0, 20).map(lambda n: b"x" * n)), steps=st.lists(calls))
    async def test_agrees_with_the_rules(
        self, items: list[bytes], steps: list[tuple[str, int, int]]
    ) -> None:
        """
        Any reads and seeks in any order return as many bytes as the contract says.
        """
        items = [bytes(65 + i % 26 for i in range(n, n + len(x))) for n, x in enumerate(items)]
        walk, model = Walk(*items), Model(items, page=8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_seq_read, "PAGE_SIZE", 8)
            file = OpenFile(walk.ops)
            for call, size, pos in steps:
                if call == "lseek":
                    assert await file.lseek(pos) == pos
                    model.go_to(pos)
                elif call == "pread":
                    assert await file.pread(size, pos) == model.read(size, pos)
                else:
                    pos = file.pos
                    assert await file.read(size) == model.read(size, pos)
        assert walk.balanced()

    @settings(max_examples=100)
    @given(items=st.lists(st.binary(max_size=30)), sizes=st.lists(st.integers(1, 50), min_size=1))
    async def test_a_generator_reads_like_handlers(
        self, items: list[bytes], sizes: list[int]
    ) -> None:
        """
        The records of a generator come out the same, at any chunking, in one pass.
        """
        steps = 0

        async def lines() -> AsyncIterator[bytes]:
            nonlocal steps
            for item in items:
                steps += 1
                yield item

        file = OpenFile(records(lines))
        data, chunk_sizes = b"", itertools.cycle(sizes)
        while chunk := await file.read(next(chunk_sizes)):
            data += chunk
        await file.release()
        assert data == b"".join(items)
        assert steps == len(items)


class TestBuffer:
    @pytest.mark.parametrize(("length", "shows"), [(PAGE_SIZE - 1, 1), (PAGE_SIZE, 2)])
    async def test_exactly_full_is_an_overflow(self, length: int, shows: int) -> None:
        """
        A record must leave one byte of the buffer free, or it is shown again in twice the room.
        """
        walk = Walk(b"x" * length)
        assert await OpenFile(walk.ops).read(1) == b"x"
        assert walk.log.count("show(0)") == shows
        assert walk.balanced()

    @pytest.mark.parametrize(("length", "together"), [(95, True), (96, False)])
    async def test_a_record_that_does_not_fit_waits(self, length: int, together: bool) -> None:
        """
        What would fill the buffer after another record is taken back, and shown in the next read.
        """
        walk = Walk(b"x" * 4000, b"y" * length)
        file = OpenFile(walk.ops)
        assert len(await file.read(1 << 20)) == (4000 + length if together else 4000)
        assert file.m.index == (2 if together else 1)
        assert await file.read_all() == (b"" if together else b"y" * length)

    async def test_takes_back_the_part_that_did_fit(self) -> None:
        """
        Of a record written in parts, of which some fit behind another one, nothing is left.
        """
        walk = Walk(b"x" * 2000, b"y" * 50)

        async def show(m: SeqFile, item: int) -> None:
            await walk.show(m, item)
            await walk.show(m, item)

        ops = SeqOps(start=walk.start, next=walk.next, stop=walk.stop, show=show)
        assert await OpenFile(ops).read_all() == b"x" * 4000 + b"y" * 100

    async def test_stays_as_large_as_it_has_become(self) -> None:
        """
        After a large record, small ones come in larger batches.
        """
        walk = Walk(b"x" * 5000, *[b"y" * 1000] * 9)
        file = OpenFile(walk.ops)
        assert await file.read(5000) == b"x" * 5000
        assert len(await file.read(1 << 20)) == 8000

    async def test_tells_show_that_it_overflowed(self) -> None:
        """
        `overflowed` is false until something did not fit, and nothing more is added then.
        """
        told: list[bool] = []

        async def show(m: SeqFile) -> None:
            told.append(m.overflowed)
            m.write(b"x" * 4000)
            told.append(m.overflowed)
            m.write(b"y" * 96)
            told.append(m.overflowed)
            m.write(b"z")

        assert await OpenFile(single(show)).read(5000) == b"x" * 4000 + b"y" * 96 + b"z"
        assert told == [False, False, True, False, False, False]

    @pytest.mark.usefixtures("small_pages")
    async def test_has_a_largest_size(self) -> None:
        """
        B20, I41: a record that no buffer may hold is ENOMEM; the next begins with one page again.
        """
        walk = Walk(b"x" * 64)
        file = OpenFile(walk.ops)
        for _ in range(2):
            with pytest.raises(OSError, match=r"Walk\.show") as failure:
                await file.read(1)
            assert failure.value.errno == ENOMEM
            assert walk.taken() == " ".join(["start(0) show(0) stop"] * 4)
        walk.items = (b"x" * 8,)
        assert await file.read(100) == b"x" * 8
        assert walk.log.count("show(0)") == 2

    @pytest.mark.usefixtures("small_pages")
    async def test_out_of_memory_waits_until_the_bytes_before_are_read(self) -> None:
        """
        ENOMEM after some bytes is reported by the next read, as any other error.
        """
        file = OpenFile(Walk(b"abc", b"x" * 64).ops)
        assert await file.read(1) == b"a"
        assert await file.read(100) == b"bc"
        with pytest.raises(OSError, match="more than 64 bytes"):
            await file.read(100)
        with pytest.raises(OSError, match="more than 64 bytes"):
            await file.lseek(10)
        assert file.pos == 0

    async def test_takes_text_and_bytes(self) -> None:
        """
        puts takes str and bytes, names from os.listdir among them; write whatever holds bytes.
        """

        async def show(m: SeqFile) -> None:
            m.puts("é\udcff")
            m.puts(b"\x00")
            m.write(bytearray(b"b"))
            m.write(memoryview(array("H", [0x4141])))

        data = await OpenFile(single(show)).read_all()
        assert data == b"\xc3\xa9\xff\x00bAA"

    async def test_counts_bytes(self) -> None:
        """
        What is written is measured in bytes, whatever it consists of.
        """
        shows = 0

        async def show(m: SeqFile) -> None:
            nonlocal shows
            shows += 1
            m.write(memoryview(array("H", [0x4141] * (PAGE_SIZE // 2))))

        assert await OpenFile(single(show)).read(1) == b"A"
        assert shows == 2

    @pytest.mark.parametrize(("call", "got"), [("puts", 5), ("puts", None), ("write", "a")])
    async def test_takes_nothing_else(self, call: str, got: object) -> None:
        """
        What is no text is a TypeError in the handler that wrote it.
        """

        async def show(m: SeqFile) -> None:
            getattr(m, call)(got)

        with pytest.raises(TypeError, match="bytes"):
            await OpenFile(single(show)).read(10)

    async def test_text_written_outside_of_show_is_no_endless_file(self) -> None:
        """
        Text of start goes before its record; without a record after it, it and stop's are dropped.
        """
        walk = Walk(b"a")

        async def start(m: SeqFile, pos: int) -> int | None:
            m.puts("<")
            return await walk.start(m, pos)

        def stop(m: SeqFile, item: object) -> None:
            m.puts(">")

        ops = SeqOps(start=start, next=walk.next, stop=stop, show=walk.show)
        assert await OpenFile(ops).read_all() == b"<a>"

    async def test_text_that_next_cannot_fit_in_loses_no_record(self) -> None:
        """
        An overflow in next is not one of the record before it.
        """
        walk = Walk(b"ab", b"cd")

        async def step(m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
            m.puts("x" * PAGE_SIZE)
            return await walk.next(m, item, pos)

        ops = SeqOps(start=walk.start, next=step, stop=walk.stop, show=walk.show)
        assert await OpenFile(ops).read_all() == b"abcd"


class TestSkip:
    async def test_leaves_records_out(self) -> None:
        """
        SEQ_SKIP takes back what show wrote: in front, in the middle and at the end.
        """
        walk = Walk(b"0", b"1", b"2", b"3")
        walk.skip = {0, 2, 3}
        assert await OpenFile(walk.ops).read_all() == b"1"

    async def test_counts_for_offsets(self) -> None:
        """
        A record left out has no bytes, for pread and lseek too.
        """
        walk = Walk(b"00", b"11", b"22", b"33")
        walk.skip = {0, 2}
        for pos in range(5):
            file = OpenFile(walk.ops)
            await file.lseek(pos)
            assert await file.read_all() == b"1133"[pos:]

    @pytest.mark.parametrize("pos", [0, 1])
    async def test_beats_overflow(self, pos: int) -> None:
        """
        A record left out need not fit, so it is not shown again.
        """
        walk = Walk(b"x" * 5000, b"ab", b"x" * 5000, b"c")
        walk.skip = {0, 2}
        assert await OpenFile(walk.ops).pread(100, pos) == b"abc"[pos:]
        assert walk.log.count("show(0)") == 1

    async def test_zero_is_as_good_as_none(self) -> None:
        """
        show may return 0, as it does in C.
        """
        walk = Walk(b"a")

        async def show(m: SeqFile, item: int) -> int:
            await walk.show(m, item)
            return 0

        ops = SeqOps(start=walk.start, next=walk.next, stop=walk.stop, show=show)
        assert await OpenFile(ops).read_all() == b"a"


class TestLseek:
    @pytest.mark.parametrize(
        ("offset", "whence"),
        [(0, SEEK_END), (0, 17), (-1, SEEK_SET), (-2, SEEK_CUR), (1 << 63, SEEK_SET)],
    )
    async def test_refuses_what_linux_refuses(self, offset: int, whence: int) -> None:
        """
        EINVAL for the end, which nobody knows, and for positions that are none.
        """
        walk = Walk(b"abc")
        file = OpenFile(walk.ops)
        await file.read(1)
        walk.taken()
        with pytest.raises(OSError, match="cannot lseek") as failure:
            await file.lseek(offset, whence)
        assert failure.value.errno == EINVAL
        assert (file.pos, walk.taken()) == (1, "")

    async def test_counts_from_the_position(self) -> None:
        """
        SEEK_CUR adds to the position, which may then be beyond the end.
        """
        file = OpenFile(Walk(b"abc", b"def").ops)
        await file.read(1)
        await file.pread(1, 4)
        assert await file.lseek(3, SEEK_CUR) == 4
        assert await file.read(1) == b"e"
        assert await file.lseek(-4, SEEK_CUR) == 1
        assert await file.lseek((1 << 63) - 2, SEEK_CUR) == (1 << 63) - 1
        assert await file.read(1) == b""

    async def test_to_where_the_file_stands_calls_nothing(self) -> None:
        """
        A seek to the position of the last read is free, and keeps what is left of the record.
        """
        walk = Walk(b"abc")
        file = OpenFile(walk.ops)
        await file.read(1)
        walk.taken()
        assert await file.lseek(0, SEEK_CUR) == 1
        assert await file.pread(1, 1) == b"b"
        assert walk.taken() == ""
        assert await file.lseek(2) == 2
        assert file.pos == 2


class TestCheckpoints:
    def test_a_read_that_need_not_wait_awaits_nothing(self) -> None:
        """
        With handlers that do not wait, reads and seeks need no event loop.
        """
        file = OpenFile(Walk(b"abc").ops)
        for call, result in ((seq_read(file, 2, 0), b"ab"), (seq_lseek(file, 1, SEEK_SET), 1)):
            with pytest.raises(StopIteration) as returned:
                call.send(None)
            assert returned.value.value == result
