"""A file made by an async generator: one for each open file, and when it begins anew."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, wait_all_tasks_blocked

from aiopde import _records, _seq_read
from aiopde._records import records
from tests.seq_helpers import (
    ERROR,
    Hook,
    OpenFile,
    Reader,
    async_generator,
    blocks,
    raises,
    takes_none,
    takes_two,
)


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of 8 bytes and buffers of up to 64."""
    monkeypatch.setattr(_seq_read, "PAGE_SIZE", 8)
    for module in (_seq_read, _records):
        monkeypatch.setattr(module, "MAX_BUFFER", 64)


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

    @pytest.mark.usefixtures("small_buffers")
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
