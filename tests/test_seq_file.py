"""seq_file: the order of the handlers' calls, what each read gets, and what errors leave behind."""

# What show sees of its buffer is recorded, and nobody else may see it.
# pyright: reportPrivateUsage=false

import asyncio
import functools
import itertools
import json
import zlib
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from errno import EINTR, EINVAL, EIO, ENOMEM, errorcode
from os import SEEK_CUR, SEEK_END, SEEK_SET
from pathlib import Path
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from hypothesis import given, settings, strategies as st

from aiopde import _seq_file
from aiopde._seq_file import (
    PAGE_SIZE,
    SEQ_SKIP,
    SeqFile,
    SeqOps,
    records,
    seq_lseek,
    seq_open,
    seq_read,
    seq_release,
    single,
)

RECORDED = Path(__file__).parent / "conformance" / "recorded"


class OpenFile:
    """As much of an open file as a seq file needs."""

    def __init__(self, ops: SeqOps) -> None:
        self.private_data: Any = None
        self.pos = 0
        self.ops = ops
        self.m = seq_open(self, ops)

    async def read(self, size: int) -> bytes:
        """Read at the position, and advance it as read(2) does."""
        data = await seq_read(self, size, self.pos)
        self.pos += len(data)
        return data

    async def pread(self, size: int, pos: int) -> bytes:
        """Read elsewhere."""
        return await seq_read(self, size, pos)

    async def lseek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Set the position."""
        return await seq_lseek(self, offset, whence)

    async def read_all(self, size: int = 1 << 20) -> bytes:
        """Read up to the end of file, and no further."""
        chunks = [await self.read(size)]
        while chunks[-1]:
            chunks.append(await self.read(size))
        return b"".join(chunks)

    async def release(self) -> None:
        """Release as the file layer does."""
        result = self.ops.release(self)
        if isinstance(result, Awaitable):
            await result


Hook = Callable[[], Awaitable[None]]


def raises(exception: BaseException) -> Hook:
    """A hook that fails."""

    async def hook() -> None:
        raise exception

    return hook


async def blocks() -> None:
    """A hook that waits until it is cancelled."""
    await Event().wait()


class Walk:
    """
    Handlers that walk a list, log each call, and do at each what a test wants.

    Calls are logged, and hooks found, by names as in "start(0) show(0) next(0) stop".
    """

    def __init__(self, *items: bytes) -> None:
        self.items = items
        self.log: list[str] = []
        self.hooks: dict[str, Hook] = {}
        self.skip: set[int] = set()
        self.ops = SeqOps(start=self.start, next=self.next, stop=self.stop, show=self.show)

    async def _call(self, name: str) -> None:
        self.log.append(name)
        if hook := self.hooks.get(name):
            await hook()

    def _item(self, pos: int) -> int | None:
        return pos if pos < len(self.items) else None

    async def start(self, m: SeqFile, pos: int) -> int | None:
        """Find the item at a position."""
        await self._call(f"start({pos})")
        return self._item(pos)

    async def next(self, m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        """Find the item after another."""
        assert item == pos
        await self._call(f"next({pos})")
        return self._item(pos + 1), pos + 1

    async def stop(self, m: SeqFile, item: int | None) -> None:
        """Be told what the last item was."""
        self.stopped_at = item
        await self._call("stop")

    async def show(self, m: SeqFile, item: int) -> int | None:
        """Write an item."""
        if self.items[item]:
            m.write(self.items[item])
        await self._call(f"show({item})")
        return SEQ_SKIP if item in self.skip else None

    def taken(self) -> str:
        """Give the log, and begin a new one."""
        log, self.log = self.log, []
        return " ".join(log)

    def balanced(self) -> bool:
        """Whether each start had its stop before the next start."""
        ends = [name[:4] for name in self.log if name[:4] in ("star", "stop")]
        return ends == ["star", "stop"] * (len(ends) // 2)


# -- what the kernel did ------------------------------------------------------------------------


class Recorded:
    """The kernel module's "seq" and "single" entries: the same content, the same log."""

    def __init__(self, args: dict[str, str]) -> None:
        self.log: list[str] = []
        self.results: dict[str, str] = {}
        self.single = args["kind"] == "single"
        self.settings = {"reclen": "8", **args}
        if self.single:
            self.ops = single(self.show_all)
        else:
            self.ops = SeqOps(start=self.start, next=self.next, stop=self.stop, show=self.show)

    def set(self, args: dict[str, str]) -> None:
        """Obey the step "set"."""
        self.settings.update(args)
        if "op" in args:
            self.results[args["op"]] = args["ret"]

    def _find(self, index: int) -> int | None:
        return index + 1 if index < int(self.settings["nrec"]) else None

    def _exit(self, call: str, result: int) -> int:
        self.log.append(f"{call} = {result}")
        if result < 0:
            raise OSError(-result, errorcode[-result])
        return result

    async def start(self, m: SeqFile, pos: int) -> int | None:
        """Numbers from 1 on."""
        item = self._find(pos)
        self._exit(f"start pos={pos}", item or 0)
        return item

    async def next(self, m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        """One more."""
        found = self._find(pos + 1)
        self._exit(f"next pos={pos}", found or 0)
        return found, pos + 1

    async def stop(self, m: SeqFile, item: int | None) -> None:
        """Nothing."""
        self._exit(f"stop v={item or 0}", 0)

    async def show(self, m: SeqFile, item: int) -> int:
        """The number before, with zeros, and a line feed."""
        width = int(self.settings["reclen"]) - 1
        call = f"show rec={item - 1} bufsize={m._size} count={len(m._buffer)}"
        return self._show(m, call, f"{item - 1:0{width}}\n")

    async def show_all(self, m: SeqFile) -> int:
        """The text that was set."""
        text = self.settings["data"]
        if text.startswith("%{"):
            times, _, char = text[2:-1].partition("*")
            text = int(times) * char
        return self._show(m, f"show bufsize={m._size}", text)

    def _show(self, m: SeqFile, call: str, text: str) -> int:
        result = self.results.get("show", "none")
        if result != "none":
            return self._exit(call, int(result))
        m.puts(text)
        return self._exit(call, 0)


class Player:
    """Plays the steps of a recording that reach a seq file."""

    def __init__(self) -> None:
        self.entries: dict[str, Recorded] = {}
        self.files: dict[str, OpenFile] = {}

    async def play(self, verb: str, args: dict[str, str]) -> object:
        """Do one step; return what its result shows."""
        if verb == "create":
            self.entries[args["name"]] = Recorded(args)
        elif verb == "set":
            self.entries[args["ent"]].set(args)
        elif verb == "open":
            self.files[args["fd"]] = OpenFile(self.entries[Path(args["path"]).name].ops)
        elif verb == "dup":
            self.files[args["as"]] = self.files[args["fd"]]
        elif verb == "fdpos":
            return self.files[args["fd"]].pos
        elif verb != "close":
            return await self._call(self.files[args["fd"]], verb, args)
        return None

    async def _call(self, file: OpenFile, verb: str, args: dict[str, str]) -> object:
        sizes = sum(int(args[key]) for key in ("n", "n1", "n2") if key in args)
        try:
            if verb == "lseek":
                return await file.lseek(int(args["off"]), {"SET": 0, "CUR": 1}[args["whence"]])
            if verb == "pread":
                return self._shown(await file.pread(sizes, int(args["off"])))
            assert verb in ("read", "readv", "splice")  # here all of them are one call
            return self._shown(await file.read(sizes))
        except OSError as error:
            return errorcode[error.errno or 0]

    def _shown(self, data: bytes) -> object:
        return data if len(data) <= 256 else (len(data), zlib.crc32(data))

    def events(self) -> list[str]:
        """What the handlers did since last asked."""
        log = [event for entry in self.entries.values() for event in entry.log]
        for entry in self.entries.values():
            entry.log.clear()
        return log


def recorded_result(result: dict[str, Any]) -> object:
    """Read a recorded result as `Player` would return it."""
    if "errno" in result:
        return result["errno"]
    if "crc32" in result:
        return result["ret"], result["crc32"]
    if "data" in result:
        return result["data"].encode("latin-1")
    return result.get("pos", result.get("ret"))


def recorded_events(step: dict[str, Any]) -> list[str]:
    """Read the handlers' calls of a step as `Recorded` logs them."""
    events = [event for event in step.get("events", []) if event["op"] in _seq_file._PARAMETERS]
    entries, exits = events[::2], events[1::2]
    assert {event["phase"] for event in entries} <= {"enter"}
    return [
        f"{enter['op']} {enter['arg']} = {leave['ret']}"
        for enter, leave in zip(entries, exits, strict=True)
    ]


# Those of seq files, but for the two that wait at gates, which have tests of their own.
RECORDINGS = sorted(
    path.stem
    for pattern in ("f*.json", "a22*.json")
    for path in RECORDED.glob(pattern)
    if path.stem not in ("f18_seq_start_inflight_intr", "f25_seq_two_readers_inflight")
)


class TestRecordings:
    @pytest.mark.parametrize("name", RECORDINGS)
    async def test_calls_what_linux_calls(self, name: str) -> None:
        """
        Same results, same calls, same positions, same size and fill of the buffer as recorded.
        """
        steps = json.loads((RECORDED / f"{name}.json").read_text())["steps"]
        player = Player()
        for step in steps:
            if step["verb"] == "remove_entry":
                break  # what comes after does not reach the seq file
            result = await player.play(step["verb"], step["args"])
            assert player.events() == recorded_events(step), step["text"]
            if result is not None:
                assert result == recorded_result(step["res"]), step["text"]

    def test_there_are_recordings(self) -> None:
        """
        The recordings are where they are looked for.
        """
        assert len(RECORDINGS) == 15

    async def test_an_interrupted_start_is_stopped(self) -> None:
        """
        As in f18: start fails with EINTR, stop gets no item, the error is the reader's.
        """
        walk = Walk(b"a")
        walk.hooks["start(0)"] = raises(InterruptedError(EINTR, "interrupted"))
        file = OpenFile(walk.ops)
        with pytest.raises(InterruptedError):
            await file.read(100)
        assert walk.taken() == "start(0) stop"
        assert walk.stopped_at is None

    async def test_two_open_files_are_read_at_once(self) -> None:
        """
        As in f25: two readers on two files are in show at the same time.
        """
        walk, gate = Walk(b"a", b"b"), Event()
        walk.hooks["show(0)"] = gate.wait
        got: list[bytes] = []

        async def reader() -> None:
            got.append(await OpenFile(walk.ops).read(100))

        async with create_task_group() as tg:
            tg.start_soon(reader)
            tg.start_soon(reader)
            await wait_all_tasks_blocked()
            assert walk.taken() == "start(0) show(0) start(0) show(0)"
            gate.set()
        assert got == [b"ab", b"ab"]


# -- every way to read gives the same bytes -----------------------------------------------------

ITEMS = (b"", b"one\n", b"", b"", b"three\n", b"4", b"", b"five\n", b"")
CONTENT = b"".join(ITEMS)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of 8 bytes and buffers of up to 64."""
    monkeypatch.setattr(_seq_file, "PAGE_SIZE", 8)
    monkeypatch.setattr(_seq_file, "MAX_BUFFER", 64)


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
            patch.setattr(_seq_file, "PAGE_SIZE", 8)
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


# -- the buffer ---------------------------------------------------------------------------------


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


# -- skipped records ----------------------------------------------------------------------------


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


# -- errors -------------------------------------------------------------------------------------

ERROR = OSError(EIO, "broken")


class TestErrors:
    @pytest.mark.parametrize(
        ("place", "log", "stopped_at"),
        [
            ("start(0)", "start(0) stop", None),
            ("show(0)", "start(0) show(0) stop", 0),
            ("next(0)", "start(0) show(0) next(0) stop", None),
            ("show(1)", "start(0) show(0) next(0) show(1) stop", 1),
        ],
    )
    async def test_before_the_first_byte_are_returned(
        self, place: str, log: str, stopped_at: int | None
    ) -> None:
        """
        I39, I42: an error on the way to the first record with bytes is the reader's, after stop.
        """
        walk = Walk(b"", b"a")
        walk.hooks[place] = raises(ERROR)
        file = OpenFile(walk.ops)
        with pytest.raises(OSError, match="broken") as failure:
            await file.read(100)
        assert failure.value is ERROR
        assert walk.taken() == log
        assert walk.stopped_at == stopped_at

        walk.hooks.clear()
        assert await file.read_all() == b"a"

    @pytest.mark.parametrize("place", ["start(1)", "show(1)"])
    async def test_after_the_first_byte_wait_for_the_next_read(self, place: str) -> None:
        """
        Bytes left from the last read are returned first; the error recurs then.
        """
        walk = Walk(b"abc", b"def")
        walk.hooks[place] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        assert await file.read(100) == b"bc"
        with pytest.raises(OSError, match="broken"):
            await file.read(100)
        walk.hooks.clear()
        assert await file.read_all() == b"def"
        assert walk.balanced()

    async def test_of_show_take_its_record_back(self) -> None:
        """
        A later record that fails ends the batch before it, whole, and is tried again.
        """
        walk = Walk(b"ab", b"cd", b"ef")
        walk.hooks["show(1)"] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.read(100) == b"ab"
        assert walk.taken() == "start(0) show(0) next(0) show(1) stop"
        with pytest.raises(OSError, match="broken"):
            await file.read(100)
        walk.hooks.clear()
        assert await file.read(100) == b"cdef"

    async def test_of_next_end_the_batch(self) -> None:
        """
        A next that fails after a record counts as having moved on: nothing is shown twice.
        """
        walk = Walk(b"ab", b"cd", b"ef")
        walk.hooks["next(1)"] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.read(100) == b"abcd"
        assert walk.taken() == "start(0) show(0) next(0) show(1) next(1) stop"
        assert walk.stopped_at is None
        assert await file.read(100) == b"ef"

    @pytest.mark.parametrize("place", ["start(0)", "show(1)", "next(1)"])
    @pytest.mark.parametrize("call", ["pread", "lseek"])
    async def test_on_the_way_to_an_offset_begin_anew(self, place: str, call: str) -> None:
        """
        An error before the offset is returned; whatever was known about the position is not.
        """
        walk = Walk(b"ab", b"cd", b"ef")
        file = OpenFile(walk.ops)
        assert await file.read(3) == b"abc"
        walk.hooks[place] = raises(ERROR)
        with pytest.raises(OSError, match="broken"):
            await (file.pread(1, 5) if call == "pread" else file.lseek(5))
        assert walk.balanced()
        assert file.pos == (3 if call == "pread" else 0)
        assert repr(file.m) == "<SeqFile index=0 read_pos=0>"

        walk.hooks.clear()
        assert await file.read_all() == (b"def" if call == "pread" else b"abcdef")

    @pytest.mark.parametrize(("offset", "left"), [(1, b"b"), (2, b"")])
    async def test_beyond_the_offset_do_not_matter(self, offset: int, left: bytes) -> None:
        """
        A next that fails after the record with the offset ends that walk, and nothing else.
        """
        walk = Walk(b"ab", b"cd")
        walk.hooks["next(0)"] = raises(ERROR)
        file = OpenFile(walk.ops)
        assert await file.lseek(offset) == offset
        assert walk.taken() == "start(0) show(0) next(0) stop"
        assert await file.read(len(left) or 2) == left or b"cd"
        assert await file.read_all() == (b"cd" if left else b"")


class TestStop:
    async def test_gets_the_last_item(self) -> None:
        """
        stop gets the item shown last but one when there are more, None at the end.
        """
        walk = Walk(b"a", b"b")
        file = OpenFile(walk.ops)
        await file.read(1)
        assert walk.stopped_at == 1
        await file.read(1)
        assert walk.stopped_at is None

    @pytest.mark.parametrize("size", [1, 100])
    async def test_its_error_undoes_the_read(self, size: int) -> None:
        """
        What stop raises is the reader's, also after good bytes; these come again.
        """
        walk = Walk(b"ab", b"cd")
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        walk.hooks["stop"] = raises(ERROR)
        with pytest.raises(OSError, match="broken"):
            await file.read(size)
        walk.hooks.clear()
        assert await file.read_all() == b"bcd"

    @pytest.mark.parametrize("kind", [OSError, ZeroDivisionError])
    async def test_its_error_does_not_hide_another(self, kind: type[Exception]) -> None:
        """
        After an error of start, next or show, that of stop is but a note on it.
        """
        walk = Walk(b"a")
        walk.hooks = {"show(0)": raises(kind("first")), "stop": raises(ERROR)}
        with pytest.raises(kind, match="first") as failure:
            await OpenFile(walk.ops).read(1)
        assert failure.value.__notes__ == [
            "stop= handler Walk.stop then raised OSError(5, 'broken')"
        ]

    async def test_nothing_is_kept_after_it(self) -> None:
        """
        Between reads the file holds on to no item.
        """
        file = OpenFile(Walk(b"a", b"b").ops)
        await file.read(1)
        assert file.private_data._item is None


PLACES = ["start(1)", "show(1)", "next(1)", "show(2)", "next(2)"]


class TestBugs:
    @pytest.mark.parametrize("place", PLACES)
    async def test_are_raised_at_once_and_undone(self, place: str) -> None:
        """
        An exception that is no OSError is never deferred; the file is where it was, and whole.
        """
        walk = Walk(b"abc", b"def", b"ghi")
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        walk.hooks[place] = raises(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await file.read(100)
        assert walk.balanced()
        assert file.pos == 1
        walk.hooks.clear()
        assert await file.read_all() == b"bcdefghi"

    async def test_in_a_seek_leave_it_where_it_was(self) -> None:
        """
        The same for a seek: the bytes left of a record are still there.
        """
        walk = Walk(b"abc", b"def")
        file = OpenFile(walk.ops)
        assert await file.read(1) == b"a"
        walk.hooks["show(0)"] = raises(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await file.lseek(5)
        walk.taken()
        assert await file.read(2) == b"bc"
        assert walk.taken() == "start(1) show(1) next(1) stop"

    @pytest.mark.parametrize("got", ["text", 2, -EIO, True, b""])
    async def test_show_must_not_return_text(self, got: object) -> None:
        """
        A show that returns what has no meaning is named, with what it should do.
        """
        walk = Walk(b"a")

        def show(m: SeqFile, item: int) -> Any:
            return got

        ops = SeqOps(start=walk.start, next=walk.next, stop=walk.stop, show=show)
        with pytest.raises(TypeError, match=r"show= handler .*show returned .*m\.puts\(\)"):
            await OpenFile(ops).read(10)
        assert walk.balanced()

    @pytest.mark.parametrize("got", [None, 1, (1, 2, 3), (1,), (1, "2"), [1, 2]])
    async def test_next_must_return_a_pair(self, got: object) -> None:
        """
        A next that returns something else is named, with what it should return.
        """
        walk = Walk(b"a")

        async def wrong(m: SeqFile, item: int, pos: int) -> Any:
            return got

        ops = SeqOps(start=walk.start, next=wrong, stop=walk.stop, show=walk.show)
        with pytest.raises(TypeError, match=r"next= handler .*wrong returned .*its position"):
            await OpenFile(ops).read(10)
        assert walk.log == ["start(0)", "show(0)", "stop"]

    @pytest.mark.parametrize("field", ["start", "next", "stop", "show"])
    async def test_a_coroutine_behind_a_plain_function_is_named(self, field: str) -> None:
        """
        A plain function that returns a coroutine is an error, not an item.
        """
        walk = Walk(b"a")
        fields: dict[str, Any] = {
            name: getattr(walk, name) for name in ("start", "next", "stop", "show")
        }
        hidden = fields[field]

        def plain(*args: Any) -> Any:
            return hidden(*args)

        fields[field] = plain
        with pytest.raises(TypeError, match=f"{field}= .*plain .* no coroutine .*async function"):
            await OpenFile(SeqOps(**fields)).read(10)


class TestStuckNext:
    async def test_is_moved_on_and_named_once(self) -> None:
        """
        B22: a next that leaves the position is warned about once, and each record comes once.
        """
        walk = Walk(b"a", b"b", b"c")

        async def stuck(m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
            return (await walk.next(m, item, pos))[0], pos

        ops = SeqOps(start=walk.start, next=stuck, stop=walk.stop, show=walk.show)
        with pytest.warns(RuntimeWarning, match=r"buggy next= handler .*stuck"):
            assert await OpenFile(ops).read_all() == b"abc"
        assert await OpenFile(ops).read_all(1) == b"abc"  # a second warning would be an error


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


# -- waiting and cancellation -------------------------------------------------------------------


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


class Reader:
    """A task that reads and can be cancelled."""

    def __init__(self, file: OpenFile, name: str, done: list[str]) -> None:
        self.file = file
        self.name = name
        self.done = done
        self.scope = CancelScope()

    async def pread(self, size: int, pos: int) -> None:
        """Read and say so."""
        with self.scope:
            data = await self.file.pread(size, pos)
            self.done.append(f"{self.name} {data.decode()}")


class TestCancellation:
    @pytest.mark.parametrize("place", PLACES)
    async def test_is_undone_after_stop(self, place: str) -> None:
        """
        Cancelled in any handler, a read still runs stop to its end, and leaves the file as it was.
        """
        walk = Walk(b"abc", b"def", b"ghi")
        file, done = OpenFile(walk.ops), list[str]()
        assert await file.read(1) == b"a"
        walk.taken()

        async def stop() -> None:
            await checkpoint()
            done.append("stopped")

        walk.hooks = {place: blocks, "stop": stop}
        reader = Reader(file, "reader", done)
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 1)
            await wait_all_tasks_blocked()
            assert walk.log[-1] == place
            reader.scope.cancel()
        assert reader.scope.cancelled_caught
        assert done == ["stopped"]
        assert walk.log.count("stop") == 1
        assert walk.stopped_at == (int(place[5]) if place.startswith("show") else None)

        walk.hooks.clear()
        assert await file.read_all() == b"bcdefghi"

    async def test_in_stop_calls_it_no_second_time(self) -> None:
        """
        stop itself may be cancelled: it was called, and the read is undone.
        """
        walk = Walk(b"abc")
        file = OpenFile(walk.ops)
        walk.hooks["stop"] = blocks
        reader = Reader(file, "reader", [])
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 0)
            await wait_all_tasks_blocked()
            reader.scope.cancel()
        assert reader.scope.cancelled_caught
        assert walk.taken() == "start(0) show(0) next(0) stop"
        walk.hooks.clear()
        assert await file.read_all() == b"abc"

    async def test_is_not_lost_in_a_failing_stop(self) -> None:
        """
        A stop that raises after a cancellation does not turn it into an error.
        """
        walk = Walk(b"abc")
        walk.hooks = {"show(0)": blocks, "stop": raises(ERROR)}
        reader = Reader(OpenFile(walk.ops), "reader", [])
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 0)
            await wait_all_tasks_blocked()
            reader.scope.cancel()
        assert reader.scope.cancelled_caught

    async def test_in_a_seek_leaves_the_position(self) -> None:
        """
        A cancelled seek did not happen.
        """
        walk = Walk(b"abc", b"def")
        file = OpenFile(walk.ops)
        await file.read(1)
        walk.hooks["show(1)"] = blocks
        with CancelScope() as scope:
            async with create_task_group() as tg:
                tg.start_soon(file.lseek, 5)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert file.pos == 1
        walk.hooks.clear()
        assert await file.read_all() == b"bcdef"

    async def test_by_asyncio_itself_is_undone_too(self, anyio_backend_name: str) -> None:
        """
        A task cancelled without a cancel scope leaves the file as it was.
        """
        if anyio_backend_name != "asyncio":
            pytest.skip("trio knows no other cancellation than that of scopes")
        walk = Walk(b"abc", b"def")
        file = OpenFile(walk.ops)
        walk.hooks["show(1)"] = blocks
        task = asyncio.create_task(file.read(100))
        await wait_all_tasks_blocked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        walk.hooks.clear()
        assert walk.balanced()
        assert await file.read_all() == b"abcdef"


class TestOneAtATime:
    async def test_reads_of_one_file_wait_for_each_other(self) -> None:
        """
        Between a start and its stop nobody else gets in; who came first is next.
        """
        walk, gate, done = Walk(b"abc", b"def"), Event(), list[str]()
        walk.hooks["show(0)"] = gate.wait
        file = OpenFile(walk.ops)
        async with create_task_group() as tg:
            for name, pos in (("first", 0), ("second", 4), ("third", 1)):
                tg.start_soon(Reader(file, name, done).pread, 2, pos)
                await wait_all_tasks_blocked()
            assert walk.log == ["start(0)", "show(0)"]
            gate.set()
        assert done == ["first ab", "second ef", "third bc"]
        assert walk.balanced()

    async def test_who_gives_up_waiting_disturbs_nobody(self) -> None:
        """
        A reader cancelled while another one reads leaves that one, and the next, alone.
        """
        walk, gate, done = Walk(b"abc"), Event(), list[str]()
        walk.hooks["show(0)"] = gate.wait
        file = OpenFile(walk.ops)
        second = Reader(file, "second", done)
        async with create_task_group() as tg:
            tg.start_soon(Reader(file, "first", done).pread, 2, 0)
            await wait_all_tasks_blocked()
            tg.start_soon(second.pread, 2, 1)
            await wait_all_tasks_blocked()
            second.scope.cancel()
            tg.start_soon(file.lseek, 2)
            await wait_all_tasks_blocked()
            gate.set()
        assert done == ["first ab"]
        assert file.pos == 2
        assert await file.read(5) == b"c"

    @pytest.mark.parametrize("failure", [ERROR, ZeroDivisionError()])
    async def test_an_error_lets_the_next_one_in(self, failure: Exception) -> None:
        """
        However a read ends, the file can be read again.
        """
        walk = Walk(b"abc")
        walk.hooks["show(0)"] = raises(failure)
        file = OpenFile(walk.ops)
        for _ in range(2):
            with pytest.raises(type(failure)):
                await file.read(1)


# -- registration -------------------------------------------------------------------------------


def seq_ops(**fields: Any) -> SeqOps:
    """Make a good table, but for these fields."""
    walk = Walk()
    good: dict[str, Any] = {
        "start": walk.start,
        "next": walk.next,
        "stop": walk.stop,
        "show": walk.show,
    }
    return SeqOps(**(good | fields))


class CallableObject:
    async def __call__(self, m: SeqFile, item: int, pos: int) -> tuple[None, int]:
        return None, pos + 1


async def takes_none() -> None: ...


def takes_m(m: SeqFile) -> None: ...


async def takes_two(m: SeqFile, pos: int) -> None: ...


def generator(m: SeqFile, pos: int) -> Iterator[int]:  # pragma: no cover  never called
    yield pos


async def async_generator(m: SeqFile, pos: int) -> AsyncIterator[int]:  # pragma: no cover
    yield pos


NO_FUNCTIONS: list[tuple[str, Any, str]] = [
    ("start", None, r"async def start\(m, pos\); got None"),
    ("next", 5, r"async def next\(m, item, pos\); got 5"),
    ("stop", OpenFile, r"async def stop\(m, item\); got <class "),
    ("show", takes_m, r"async def show\(m, item\); takes_m takes \(m: "),
    ("start", generator, r" generator is a generator: return instead"),
    ("start", async_generator, r"async_generator is a generator: return instead"),
]


class TestSeqOps:
    @pytest.mark.parametrize(("field", "handler", "message"), NO_FUNCTIONS)
    def test_refuses_what_cannot_be_called(self, field: str, handler: object, message: str) -> None:
        """
        A handler that cannot work is refused when the table is made, with the right call.
        """
        with pytest.raises(TypeError, match=rf"SeqOps\({field}=\.\.\.\) wants .*{message}"):
            seq_ops(**{field: handler})

    def test_refuses_a_call_in_place_of_the_function(self) -> None:
        """
        A coroutine is the likeliest mistake: the message says which parentheses to drop.
        """
        m: Any = None
        with pytest.raises(TypeError, match=r"pass takes_two, not takes_two\(\)"):
            seq_ops(start=takes_two(m, 0))

    async def test_takes_whatever_can_be_called(self) -> None:
        """
        Plain functions, partials, built-ins and callable objects will do.
        """
        stopped: list[object] = []

        def stop(*args: object) -> None:
            stopped.append(args)

        def start(extra: int, m: SeqFile, pos: int) -> int | None:
            return 1 if pos < 3 else None

        def show(m: SeqFile, item: int) -> None:
            m.puts(f"{m.index}")

        ops = SeqOps(
            start=functools.partial(start, 1),
            next=CallableObject(),
            stop=stop,
            show=show,
        )
        assert await OpenFile(ops).read_all() == b"012"
        assert len(stopped) == 4
        seq_ops(stop=max)  # a built-in that does not tell its parameters

    def test_is_fixed(self) -> None:
        """
        A table cannot be changed once it is made.
        """
        ops = seq_ops()
        with pytest.raises(AttributeError):
            ops.start = takes_two  # type: ignore[misc]


class TestOpenAndRelease:
    async def test_release_ends_it(self) -> None:
        """
        A released file is no seq file any more.
        """
        file = OpenFile(Walk(b"a").ops)
        await file.release()
        assert file.private_data is None
        with pytest.raises(TypeError, match=r"has to call seq_open\(file, ops\)"):
            await file.read(1)
        with pytest.raises(TypeError, match="no seq file"):
            await file.lseek(1)
        with pytest.raises(TypeError, match="no seq file"):
            seq_release(file)

    def test_open_needs_private_data(self) -> None:
        """
        A file whose private_data is in use is not overwritten.
        """
        file = OpenFile(Walk().ops)
        with pytest.raises(RuntimeError, match=r"private_data for itself, .*SeqFile index=0"):
            seq_open(file, file.ops)

    def test_handlers_know_their_file(self) -> None:
        """
        m.file is the open file, m.private is free for use.
        """
        file = OpenFile(Walk().ops)
        assert file.m is file.private_data
        assert file.m.file is file
        assert file.m.private is None
        assert not file.m.overflowed


# -- single -------------------------------------------------------------------------------------


class TestSingle:
    @pytest.mark.parametrize("text", ["hé", "hé".encode()])
    async def test_text_may_be_returned(self, text: str | bytes) -> None:
        """
        A function without parameters returns the whole content.
        """

        async def show() -> str | bytes:
            return text

        def plain() -> str | bytes:
            return text

        assert await OpenFile(single(show)).read_all() == "hé".encode()
        assert await OpenFile(single(plain)).read_all(1) == "hé".encode()

    async def test_who_can_take_m_gets_it(self) -> None:
        """
        A parameter that may be left out is passed all the same.
        """

        def show(m: SeqFile | None = None) -> None:
            assert m is not None
            m.puts("with m")

        assert await OpenFile(single(show)).read_all() == b"with m"

    async def test_is_one_snapshot(self) -> None:
        """
        Its function runs once a pass, and again for each doubling of the buffer.
        """
        calls = 0

        async def show() -> str:
            nonlocal calls
            calls += 1
            return str(calls) * 5000

        file = OpenFile(single(show))
        assert await file.read_all(100) == b"2" * 5000
        assert calls == 2
        await file.lseek(0)
        assert await file.read_all(100) == b"3" * 5000

    async def test_may_be_skipped(self) -> None:
        """
        SEQ_SKIP makes an empty file.
        """

        async def show(m: SeqFile) -> int:
            m.puts("never mind")
            return SEQ_SKIP

        assert await OpenFile(single(show)).read_all() == b""

    @pytest.mark.parametrize("got", [None, 0, 5, bytearray(b"a")])
    async def test_must_return_text(self, got: object) -> None:
        """
        A function that was given nothing to write to must return text.
        """

        def wrong() -> Any:
            return got

        with pytest.raises(TypeError, match=r"show= handler .*wrong returned .*show\(m\)"):
            await OpenFile(single(wrong)).read(1)

    async def test_names_the_function_that_returns_nonsense(self) -> None:
        """
        An error names the function that was passed, not something made of it.
        """

        async def wrong(m: SeqFile) -> Any:
            return "text"

        with pytest.raises(TypeError, match=r"test_names.*wrong returned 'text'"):
            await OpenFile(single(wrong)).read(1)

    @pytest.mark.parametrize(
        ("show", "message"),
        [
            (5, "got 5"),
            (takes_two, "takes_two takes"),
            (generator, "is a generator"),
            (OpenFile, "got <class"),
        ],
    )
    def test_refuses_what_cannot_be_called(self, show: Any, message: str) -> None:
        """
        What can be called neither with m nor without is refused.
        """
        with pytest.raises(TypeError, match=rf"single\(show=\.\.\.\) wants .*{message}"):
            single(show)

    def test_refuses_a_call_in_place_of_the_function(self) -> None:
        """
        So is a coroutine, with the cure.
        """
        unawaited: Any = takes_none()
        with pytest.raises(TypeError, match=r"pass takes_none, not takes_none\(\)"):
            single(unawaited)


# -- records ------------------------------------------------------------------------------------


class Lines:
    """An async generator function that says what it does."""

    def __init__(self, *items: Any) -> None:
        self.items = items
        self.log: list[str] = []
        self.hooks: dict[str, Hook] = {}

    async def __call__(self) -> AsyncIterator[Any]:
        """Yield the items."""
        await self._log("begin")
        try:
            for number, item in enumerate(self.items):
                await self._log(f"{number}")
                yield item
        finally:
            await self._log("end")

    async def _log(self, what: str) -> None:
        self.log.append(what)
        if hook := self.hooks.get(what):
            await hook()

    def taken(self) -> str:
        """Give the log, and begin a new one."""
        log, self.log = self.log, []
        return " ".join(log)


class TestRecords:
    @pytest.mark.parametrize("size", [1, 3, 100])
    async def test_takes_one_step_for_each(self, size: int) -> None:
        """
        The generator runs once however many reads there are; what is empty is left out.
        """
        lines = Lines("", "ab\n", b"", b"cd\n", "é\udcff", "")
        file = OpenFile(records(lines))
        assert await file.read_all(size) == b"ab\ncd\n\xc3\xa9\xff"
        assert await file.read(size) == b""
        assert lines.taken() == "begin 0 1 2 3 4 5 end"

    async def test_an_overflow_does_not_repeat_a_step(self) -> None:
        """
        A record that did not fit is shown again, not made again.
        """
        lines = Lines("x" * 9000, "y" * 100000)
        assert await OpenFile(records(lines)).read_all() == b"x" * 9000 + b"y" * 100000
        assert lines.taken() == "begin 0 1 end"

    async def test_each_open_file_has_its_own(self) -> None:
        """
        Two open files are two walks.
        """
        lines = Lines("a", "b")
        ops = records(lines)
        first, second = OpenFile(ops), OpenFile(ops)
        assert await first.read(1) == await second.read(1) == b"a"
        assert lines.taken() == "begin 0 1 begin 0 1"
        await first.release()
        assert await second.read_all() == b"b"

    async def test_a_rewind_begins_anew(self) -> None:
        """
        At offset 0 there is always a new walk, and the old one is closed first.
        """
        lines = Lines("a", "b", "c")
        file = OpenFile(records(lines))
        assert await file.read(1) == b"a"
        await file.lseek(0)
        assert lines.taken() == "begin 0 1"
        lines.items = ("A", "B")
        assert await file.read_all() == b"AB"
        assert lines.taken() == "end begin 0 1 end"

    async def test_an_empty_one_is_asked_again_after_a_rewind(self) -> None:
        """
        That there was nothing is not remembered longer than any other content.
        """
        lines = Lines()
        file = OpenFile(records(lines))
        assert await file.read(1) == b""
        lines.items = ("a",)
        assert await file.read_all() == b"a"

    async def test_a_read_elsewhere_walks_from_the_beginning(self) -> None:
        """
        pread at an offset starts a generator of its own pass; sequential reads then walk again.
        """
        lines = Lines("ab", "cd", "ef")
        file = OpenFile(records(lines))
        assert await file.read(1) == b"a"
        assert await file.pread(2, 3) == b"de"
        assert lines.taken() == "begin 0 1 end begin 0 1 2 end"
        assert await file.read_all() == b"bcdef"

    async def test_a_seek_beyond_the_end_finds_the_end(self) -> None:
        """
        Beyond the last record there is nothing, and no error.
        """
        file = OpenFile(records(Lines("ab")))
        assert await file.lseek(7) == 7
        assert await file.read(10) == b""

    @pytest.mark.parametrize("begun", [False, True])
    async def test_release_closes_it(self, begun: bool) -> None:
        """
        A generator does not outlive its file; one that never began needs nothing.
        """
        lines = Lines("a", "b")
        file = OpenFile(records(lines))
        if begun:
            await file.read(1)
        await file.release()
        assert file.private_data is None
        assert lines.taken() == ("begin 0 1 end" if begun else "")

    async def test_an_error_of_its_own_is_the_readers(self) -> None:
        """
        An OSError comes up where its record would be; a new walk then goes up to there.
        """
        lines = Lines("ab", "cd", "ef")
        lines.hooks["1"] = raises(ERROR)
        file = OpenFile(records(lines))
        assert await file.read(100) == b"ab"
        for _ in range(2):
            with pytest.raises(OSError, match="broken"):
                await file.read(100)
        lines.taken()
        lines.hooks.clear()
        assert await file.read_all() == b"cdef"
        assert lines.taken() == "begin 0 1 2 end"

    async def test_a_bug_is_raised_at_once(self) -> None:
        """
        Another exception is raised by the read that met it, which is undone.
        """
        lines = Lines("ab", "cd")
        lines.hooks["1"] = raises(ZeroDivisionError())
        file = OpenFile(records(lines))
        with pytest.raises(ZeroDivisionError):
            await file.read(100)
        lines.hooks.clear()
        assert await file.read_all() == b"abcd"

    @pytest.mark.parametrize("place", ["begin", "0", "1", "end"])
    async def test_cancellation_loses_nothing(self, place: str) -> None:
        """
        A generator that was cancelled is replaced, and the reads go on where they were.
        """
        lines = Lines("ab", "cd")
        file = OpenFile(records(lines))
        lines.hooks[place] = blocks
        reader = Reader(file, "reader", [])
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 100, 0)
            await wait_all_tasks_blocked()
            reader.scope.cancel()
        assert reader.scope.cancelled_caught
        lines.hooks.clear()
        lines.taken()
        assert await file.read_all() == b"abcd"
        assert lines.taken() == "begin 0 1 end"

    async def test_cancellation_between_two_reads_goes_on_behind(self) -> None:
        """
        The new walk skips what was read already.
        """
        lines = Lines("ab", "cd", "ef", "gh")
        file = OpenFile(records(lines))
        assert await file.read(3) == b"abc"
        lines.hooks["3"] = blocks
        with CancelScope() as scope:
            async with create_task_group() as tg:
                tg.start_soon(file.read, 100)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert lines.taken() == "begin 0 1 2 3 end"
        lines.hooks.clear()
        assert await file.read_all() == b"defgh"
        assert lines.taken() == "begin 0 1 2 3 end"

    async def test_cancelling_its_end_loses_nothing(self) -> None:
        """
        A generator that was to be closed is not asked again, even if closing it was cancelled.
        """
        lines = Lines("ab", "cd", "ef")
        file = OpenFile(records(lines))
        assert await file.read(1) == b"a"
        lines.hooks["end"] = blocks
        reader = Reader(file, "reader", [])
        async with create_task_group() as tg:
            tg.start_soon(reader.pread, 1, 0)
            await wait_all_tasks_blocked()
            reader.scope.cancel()
        assert lines.taken() == "begin 0 1 end"
        lines.hooks.clear()
        assert await file.read_all() == b"bcdef"

    async def test_failing_to_end_does_not_stop_the_next(self) -> None:
        """
        What a closed generator raises is the reader's; the walk after it is a new one.
        """
        lines = Lines("ab", "cd")
        file = OpenFile(records(lines))
        await file.read(1)
        lines.hooks["end"] = raises(ERROR)
        with pytest.raises(OSError, match="broken"):
            await file.pread(1, 0)
        lines.hooks.clear()
        assert await file.pread(4, 0) == b"abcd"

    async def test_yields_nothing_but_text(self) -> None:
        """
        The generator that yields something else is named, and closed as any other.
        """
        ends = 0

        async def wrong() -> AsyncIterator[Any]:
            nonlocal ends
            try:
                yield "ab"
                yield None
            finally:
                ends += 1

        file = OpenFile(records(wrong))
        for _ in range(2):
            with pytest.raises(TypeError, match=r"wrong yielded None: yield str or bytes"):
                await file.read(100)
        await file.release()
        assert ends == 2

    @pytest.mark.usefixtures("small_pages")
    async def test_a_record_too_large_is_not_kept(self) -> None:
        """
        After ENOMEM the next pass gets what there is by then.
        """
        lines = Lines("x" * 64)
        file = OpenFile(records(lines))
        with pytest.raises(OSError, match="more than 64 bytes"):
            await file.read(100)
        lines.items = ("a",)
        assert await file.read_all() == b"a"

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (5, "got 5"),
            (async_generator, "async_generator takes"),
            (takes_two, "takes_two takes"),
            (takes_none, "takes_none is no async generator function"),
        ],
    )
    def test_refuses_everything_else(self, function: Any, message: str) -> None:
        """
        Only an async generator function without parameters will do.
        """
        with pytest.raises(TypeError, match=rf"records\(function=\.\.\.\) wants .*{message}"):
            records(function)

    def test_refuses_a_call_in_place_of_the_function(self) -> None:
        """
        One generator cannot serve every open file.
        """
        m: Any = None
        unstarted: Any = async_generator(m, 0)
        with pytest.raises(TypeError, match=r"pass async_generator, not async_generator\(\)"):
            records(unstarted)
