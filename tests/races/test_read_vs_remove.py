"""A call on an open file and the removal of its entry."""

from __future__ import annotations

from errno import EINVAL, EIO, ENOTTY, ESPIPE
from typing import TYPE_CHECKING, Any

import pytest

from aiopde import DEFAULT_POLLMASK, EntryRemovedError, ProcFile
from tests.conformance._quiet import quiet

from ._stage import DATA, Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Call = Callable[[ProcFile], Awaitable[Any]]

CALLS: dict[str, tuple[Call, object]] = {
    "read": (lambda f: f.read(5), DATA[:5]),
    "read_iter": (lambda f: f.read(5), DATA[:5]),
    "write": (lambda f: f.write(b"abc"), 3),
    "lseek": (lambda f: f.lseek(7), 0),
    "poll": (lambda f: f.poll(), 0),
    "ioctl": (lambda f: f.ioctl(99), 0),
    "compat_ioctl": (lambda f: f.compat_ioctl(99), 0),
}
# What each call answers where there is no handler, and once removal has begun (CONTRACT §2).
ERRORS: dict[str, tuple[Call, int, int]] = {
    "read": (lambda f: f.read(5), EIO, EIO),
    "pread": (lambda f: f.pread(5, 0), EIO, EIO),
    "readv": (lambda f: f.readv([5]), EIO, EIO),
    "write": (lambda f: f.write(b"abc"), EIO, EIO),
    "pwrite": (lambda f: f.pwrite(b"abc", 0), EIO, EIO),
    "lseek": (lambda f: f.lseek(7), ESPIPE, EINVAL),
    "ioctl": (lambda f: f.ioctl(99), ENOTTY, ENOTTY),
    "compat_ioctl": (lambda f: f.compat_ioctl(99), ENOTTY, ENOTTY),
    "mmap": (lambda f: f.mmap(1), EIO, EIO),
}
ALL_OPS = "read write lseek poll ioctl compat_ioctl mmap"


class TestInside:
    @pytest.mark.parametrize("op", CALLS)
    async def test_L1_B1_removal_waits_for_the_handler_inside(self, op: str) -> None:
        """
        A handler that runs when removal begins is waited for, and its result reaches the caller.
        """
        async with Stage() as s:
            entry = s.create("x", op)
            file = await s.opened("file", entry)
            call, result = CALLS[op]
            s.start("caller", call, file)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            assert s.busy == {"caller", "remover"}
            assert entry.statistics().in_use == 1
            assert entry.statistics().state == "dying"

            s.go("caller")
            await quiet()
            assert s.value("caller") == result
            assert s.log[-2:] == ["caller done", "remover done"]

    @pytest.mark.parametrize("op", CALLS)
    async def test_A3_removal_may_come_at_any_turn_of_a_call(self, op: str) -> None:
        """
        Wherever removal meets a call, the call is inside and waited for, or refused; never both.
        """
        for turns in range(6):
            async with Stage() as s:
                entry = s.create("x", op)
                file = await s.opened("file", entry)
                s.start("caller", CALLS[op][0], file)
                await s.start_after(turns, "remover", entry.remove)
                await quiet()
                inside = f"caller {op} file" in s.stopped
                assert s.busy == ({"caller", "remover"} if inside else set())
                assert entry.statistics().in_use == inside

    async def test_L1_an_error_of_the_handler_lets_removal_go_on_too(self) -> None:
        """
        A handler that fails while its entry is going has left all the same.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("reader", file.read, 5)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            s.go("reader", error=OSError(EINVAL, "no"))
            await quiet()
            assert s.errno("reader") == EINVAL
            assert s.busy == set()

    async def test_B1_every_reader_is_waited_for(self) -> None:
        """
        Removal ends after the last of many calls, on many files, whoever leaves first.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            for name in ("a", "b"):
                file = await s.opened(name, entry)
                s.start(f"reader of {name}", file.read, 5)
                s.start(f"preader of {name}", file.pread, 5, 0)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            readers = ["preader of a", "reader of b", "reader of a", "preader of b"]
            for left, reader in enumerate(readers):
                assert entry.statistics().in_use == 4 - left
                assert "remover" in s.busy
                s.go(reader)
                await quiet()
            assert s.busy == set()

    async def test_B28_two_calls_through_one_descriptor_are_two(self) -> None:
        """
        What is counted is the calls: two tasks that share a descriptor both hold removal up.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("one", file.pread, 5, 0)
            s.start("two", file.pread, 5, 0)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            s.go("one")
            await quiet()
            assert s.busy == {"two", "remover"}
            s.go("two")
            await quiet()
            assert s.busy == set()

    async def test_A1_a_cancelled_reader_has_left(self) -> None:
        """
        Cancelling the call that removal waits for lets removal go on.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("reader", file.read, 5)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            s.cancel("reader")
            await quiet()
            assert s.cancelled("reader")
            assert s.busy == set()

    async def test_A1_a_cancelled_waiter_is_passed_over(self) -> None:
        """
        The position of a file goes to who still waits for it, and removal waits for nobody else.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            for name in ("first", "second", "third"):
                s.start(name, file.read, 2)
                await quiet()
            s.cancel("second")
            await quiet()
            s.go("first")
            await quiet()
            assert s.stopped == {"third read file"}
            s.start("remover", entry.remove)
            await quiet()
            s.go("third")
            await quiet()
            assert s.value("third") == DATA[2:4]
            assert s.busy == set()

    async def test_L3_L4_with_nobody_inside_there_is_nothing_to_wait_for(self) -> None:
        """
        Removal right after the last call has left waits for nothing.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("reader", file.read, 5)
            await quiet()
            s.go("reader")
            s.start("remover", entry.remove)
            await quiet()
            assert s.log[-2:] == ["reader done", "remover done"]

    async def test_an_open_file_is_no_call(self) -> None:
        """
        I38: files that are merely open do not hold removal up, however many.
        """
        async with Stage() as s:
            entry = s.create("x", "read release")
            for number in range(5):
                await s.opened(f"file {number}", entry)
            s.start("remover", entry.remove)
            await quiet()
            s.let_all_go()
            await quiet()
            assert s.busy == set()


class TestTooLate:
    @pytest.mark.parametrize("call", ERRORS)
    async def test_L2_a_call_after_removal_began_is_refused(self, call: str) -> None:
        """
        While removal waits for one call, every other one is refused, without running a handler.
        """
        async with Stage() as s:
            entry = s.create("x", ALL_OPS)
            file = await s.opened("file", entry)
            other = await s.opened("other", entry)
            s.start("reader", other.read, 5)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            log = list(s.log)
            make, _, errno = ERRORS[call]
            s.start("late", make, file)
            await quiet()
            assert s.errno("late") == errno
            assert isinstance(s.actors["late"].error, EntryRemovedError)
            assert s.log == [*log, "late done"]
            assert file.tell() == 0
            assert entry.statistics().in_use == 1

    @pytest.mark.parametrize("call", ERRORS)
    async def test_B7_B11_no_handler_means_the_default_and_then_the_dead_value(
        self, call: str
    ) -> None:
        """
        Without a handler a call gets procfs's own answer while the entry lives, and after that.
        """
        async with Stage() as s:
            entry = s.create("x")
            file = await s.opened("file", entry)
            make, absent, dead = ERRORS[call]
            s.start("live", make, file)
            await quiet()
            assert s.errno("live") == absent
            assert entry.statistics().in_use == 0
            s.start("remover", entry.remove)
            await quiet()
            s.start("late", make, file)
            await quiet()
            # An open file without lseek was made unseekable for good when it was opened (B11).
            assert s.errno("late") == (ESPIPE if call == "lseek" else dead)

    async def test_a_poll_of_a_dead_file_says_ready(self) -> None:
        """
        Dead or without a handler, poll says 0x145.
        """
        async with Stage() as s:
            entry = s.create("x", "poll")
            file = await s.opened("file", entry)
            s.start("remover", entry.remove)
            await quiet()
            s.start("poller", file.poll)
            await quiet()
            assert s.value("poller") == DEFAULT_POLLMASK

    async def test_B14_files_made_of_records_can_be_sought_in(self) -> None:
        """
        Each way of making a file knows whether it has an lseek handler.
        """
        async with Stage() as s:

            async def text() -> str:
                return "text"

            entry = s.know(s.proc.create_single("x", text))
            s.start("file", s.proc.open, entry)
            await quiet()
            s.start("seeker", s.value("file").lseek, 2)
            await quiet()
            assert s.value("seeker") == 2

    async def test_who_waits_for_the_position_is_not_inside(self) -> None:
        """
        A reader that waits for another one on its file is refused once removal has begun.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("first", file.read, 5)
            await quiet()
            s.start("second", file.read, 5)
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            assert entry.statistics().in_use == 1
            s.go("first")
            await quiet()
            assert s.value("first") == DATA[:5]
            assert s.errno("second") == EIO
            assert s.busy == set()
            assert [line for line in s.log if "read file" in line] == ["first read file"]

    async def test_who_got_the_position_in_time_is_inside(self) -> None:
        """
        I10: a reader that was handed the position before removal began gets its result.
        """
        async with Stage() as s:
            entry = s.create("x", "read")
            file = await s.opened("file", entry)
            s.start("first", file.read, 5)
            await quiet()
            s.start("second", file.read, 3)
            await quiet()
            s.go("first")
            await quiet()
            s.start("remover", entry.remove)
            await quiet()
            assert s.busy == {"second", "remover"}
            s.go("second")
            await quiet()
            assert s.value("second") == DATA[5:8]
