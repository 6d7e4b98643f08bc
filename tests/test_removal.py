"""Removal: the name at once, then the calls inside, then each release, exactly once."""

from contextvars import ContextVar
from errno import EINVAL, EIO, ENOENT, ENOTEMPTY, EPERM
from typing import Any

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from aiopde import File, ProcDirEntry, ProcFile, ProcFS, ProcOps
from tests.helpers import Call, Handlers, all_blocked, refused, start, state, unchanged

who: ContextVar[str] = ContextVar("who", default="nobody")


class Busy:
    """An entry with a reader inside, who stays until it may go."""

    def __init__(self, proc: ProcFS, name: str, parent: ProcDirEntry | None = None) -> None:
        self.handlers = Handlers()
        ops = self.handlers.ops("open", "read", "release")
        self.proc = proc
        self.entry = proc.create(name, ops, parent=parent)
        self.log = self.handlers.log

    async def enter(self, tg: TaskGroup) -> None:
        self.handlers.hold_up("read")
        self.file = await self.proc.open(self.entry)
        self.reader = await start(tg, self.file.read)

    async def leave(self) -> None:
        self.handlers.let_go("read")
        await all_blocked()
        assert self.reader.result == b"content"

    @property
    def released(self) -> bool:
        return "release 1" in self.log


class TestUnlinking:
    async def test_the_name_is_free_at_once(self) -> None:
        """
        While the removal still waits, its name can be taken anew, by an entry of its own.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            remover = await start(tg, proc.remove, "x")
            assert proc.listdir() == []
            new = proc.create("x", Handlers(b"new").ops("read"))
            assert new.ino != busy.entry.ino
            assert await proc.read_bytes("x") == b"new"
            with refused(ENOENT):
                await proc.open(busy.entry)
            await busy.leave()
            assert remover.done
            assert (state(busy.entry), proc.lookup("x")) == ("gone", new)

    async def test_comes_before_anything_is_waited_for(self) -> None:
        """
        A remover that is cancelled from the start has unlinked and refused all the same.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            with CancelScope() as scope:
                scope.cancel()
                await proc.remove("x")
            assert scope.cancelled_caught
            assert (proc.listdir(), state(busy.entry)) == ([], "dying")
            await busy.leave()
            assert (state(busy.entry), busy.released) == ("gone", True)

    async def test_of_a_directory_in_use(self) -> None:
        """
        The name of a directory is free at once too, and what is in the new one is apart.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            old = proc.mkdir("d")
            busy = Busy(proc, "d/x")
            await busy.enter(tg)
            await start(tg, proc.remove_subtree, "d")
            new = proc.mkdir("d")
            proc.create("d/x", Handlers(b"new").ops("read"))
            assert await proc.read_bytes("d/x") == b"new"
            await busy.leave()
            assert (state(old), state(new), proc.listdir("d")) == ("gone", "live", ["x"])


class TestDraining:
    async def test_waits_for_every_call_inside(self) -> None:
        """
        remove() returns after the last call that was inside has left, and no handler runs then.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            more = [await start(tg, (await proc.open("x")).read) for _ in range(2)]
            remover = await start(tg, busy.entry.remove)
            more[0].cancel()
            await all_blocked()
            assert (busy.handlers.busy, remover.done) == (True, False)
            await busy.leave()
            assert (busy.handlers.busy, remover.done) == (False, True)
            log = list(busy.log)
            with refused(EIO):
                await busy.file.read()
            await busy.file.aclose()
            assert busy.log == log

    async def test_does_not_wait_for_open_files(self) -> None:
        """
        Files that are open, and nobody is inside of, hold up no removal.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "read"))
            file = await proc.open("x")
            await entry.remove()
            assert (state(entry), file.closed) == ("gone", False)

    async def test_waits_for_an_open_inside(self) -> None:
        """
        An open whose handler runs is a call inside like any other.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open"))
            await start(tg, proc.open, "x")
            remover = await start(tg, entry.remove)
            assert not remover.done
            handlers.let_go("open")
            await all_blocked()
            assert remover.done

    async def test_leaves_other_entries_alone(self) -> None:
        """
        While one removal waits, other entries work, and can be removed.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            other = proc.create("y", Handlers(b"other").ops("read"))
            await busy.enter(tg)
            await start(tg, busy.entry.remove)
            assert await proc.read_bytes("y") == b"other"
            await other.remove()
            assert (state(other), state(busy.entry)) == ("gone", "dying")
            await busy.leave()

    async def test_of_a_symlink_does_not_wait_for_who_followed_it(self) -> None:
        """
        An open through a symlink is inside the target, not the link.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("open"))
            link = proc.symlink("link", "x")
            opener = await start(tg, proc.open, "link")
            await link.remove()
            assert (state(link), opener.done) == ("gone", False)
            handlers.let_go("open")

    async def test_by_a_handler_of_another_entry(self) -> None:
        """
        A handler may remove another entry, and register new ones.
        """
        async with ProcFS() as proc:
            handlers = Handlers()
            other = proc.create("other", handlers.ops("open", "release"))
            await proc.open("other")

            async def read(file: File, size: int, pos: int) -> bytes:
                await other.remove()
                proc.create("new", ProcOps())
                return b""

            proc.create("x", ProcOps(read=read))
            assert await proc.read_bytes("x") == b""
            assert handlers.log == ["open 1", "release 1"]
            assert proc.listdir() == ["x", "new"]


class TestReleasing:
    async def test_newest_first(self) -> None:
        """
        Files still open are released in the opposite order of their opens.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "release"))
            for _ in range(4):
                await proc.open("x")
            await entry.remove()
            assert handlers.log[4:] == ["release 4", "release 3", "release 2", "release 1"]

    async def test_newest_first_with_plain_handlers(self) -> None:
        """
        The order is the same for handlers that cannot wait.
        """
        released: list[File] = []
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=released.append))
            files = [(await proc.open("x")).file for _ in range(4)]
            await entry.remove()
            assert released == files[::-1]

    async def test_the_order_is_that_of_the_ends_of_the_opens(self) -> None:
        """
        An open that began first and finished last counts as the newest.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            handlers.hold_up("open")
            await start(tg, proc.open, "x")
            gate = handlers._gates.pop("open")  # pyright: ignore[reportPrivateUsage]
            await proc.open("x")
            gate.set()
            await all_blocked()
            await entry.remove()
            assert handlers.log[-2:] == ["release 1", "release 2"]

    async def test_begins_when_the_last_call_is_out(self) -> None:
        """
        No file is released while a call is inside any other.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            await proc.open("x")
            await start(tg, busy.entry.remove)
            assert "release 2" not in busy.log
            await busy.leave()
            assert busy.log[-2:] == ["release 2", "release 1"]

    async def test_once_for_each_open_that_succeeded(self) -> None:
        """
        Not for one that failed, was cancelled, or was closed before; and not again at a close.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            kept, closed = await proc.open("x"), await proc.open("x")
            await closed.aclose()
            handlers.errors["open"] = PermissionError(EPERM, "no")
            with refused(EPERM):
                await proc.open("x")
            del handlers.errors["open"]
            handlers.hold_up("open")
            cancelled = await start(tg, proc.open, "x")
            cancelled.cancel()
            await all_blocked()
            await entry.remove()
            await kept.aclose()
            releases = [call for call in handlers.log if call.startswith("release")]
            assert releases == ["release 2", "release 1"]

    async def test_once_for_all_duplicates(self) -> None:
        """
        An open file is released once, however many descriptors it has.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "release"))
            file = await proc.open("x")
            others = [file.dup(), file.dup()]
            await entry.remove()
            for each in (file, *others):
                await each.aclose()
            assert handlers.log == ["open 1", "release 1"]

    async def test_without_a_handler(self) -> None:
        """
        Where there is no release handler there is nothing to call.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            async with await proc.open("x"):
                await entry.remove()
                assert entry.statistics().open_files == 0

    async def test_what_the_handler_returns_is_ignored(self) -> None:
        """
        The result of a release is nobody's business, async or plain.
        """

        async def release(file: File) -> int:
            return -5

        def plain_release(file: File) -> int:
            return 7

        async with ProcFS() as proc:
            for handler in (release, plain_release):
                entry = proc.create("x", ProcOps(release=handler))
                await proc.open("x")
                await entry.remove()


class TestDeadOnArrival:
    async def test_an_open_that_was_inside_succeeds(self) -> None:
        """
        An open that was let in before removal began returns a file, which is dead and released.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read", "release"))
            opener = await start(tg, proc.open, "x")
            remover = await start(tg, entry.remove)
            handlers.let_go("open")
            await all_blocked()
            assert remover.done
            assert handlers.log == ["open 1", "open 1 goes on", "release 1"]
            file = opener.result
            with refused(EIO):
                await file.read()
            await file.aclose()
            assert handlers.log[-1] == "release 1"

    async def test_the_removal_waits_for_its_release(self) -> None:
        """
        Such a file's release is the removal's, which ends after it.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            opener = await start(tg, proc.open, "x")
            remover = await start(tg, entry.remove)
            handlers.let_go("open")
            await all_blocked()
            assert (opener.done, remover.done, handlers.log[-1]) == (True, False, "release 1")
            closer = await start(tg, opener.result.aclose)
            assert not closer.done
            handlers.let_go("release")
            await all_blocked()
            assert (closer.done, remover.done) == (True, True)

    @pytest.mark.parametrize("how", ["fails", "is cancelled"])
    async def test_an_open_that_does_not_succeed(self, how: str) -> None:
        """
        One that fails, or is cancelled, is not released.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        if how == "fails":
            handlers.errors["open"] = PermissionError(EPERM, "no")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            opener = await start(tg, proc.open, "x")
            remover = await start(tg, entry.remove)
            assert (opener.done, remover.done) == (False, False)
            if how == "fails":
                handlers.let_go("open")
            else:
                opener.cancel()
            await all_blocked()
            assert (opener.done, remover.done) == (True, True)
            assert "release 1" not in handlers.log
            assert (opener.error is None) == (how == "is cancelled")


class TestHandOff:
    """Closers and removers wait for each other's releases, and never run one twice."""

    async def test_a_closer_waits_for_the_removers_release(self) -> None:
        """
        A close of what the removal is just releasing returns when that is over.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            file = await proc.open("x")
            remover = await start(tg, entry.remove)
            closer = await start(tg, file.aclose)
            assert (file.closed, closer.done, remover.done) == (True, False, False)
            handlers.let_go("release")
            await all_blocked()
            assert (closer.done, remover.done) == (True, True)
            assert handlers.log == ["open 1", "release 1", "release 1 goes on"]

    async def test_a_remover_waits_for_the_closers_release(self) -> None:
        """
        A removal that comes while a close is releasing ends after that, and calls nothing.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            file = await proc.open("x")
            closer = await start(tg, file.aclose)
            remover = await start(tg, entry.remove)
            assert (closer.done, remover.done, proc.listdir()) == (False, False, [])
            assert state(entry) == "releasing"
            handlers.let_go("release")
            await all_blocked()
            assert (closer.done, remover.done) == (True, True)
            assert handlers.log == ["open 1", "release 1", "release 1 goes on"]

    async def test_a_cancelled_closer_waits_all_the_same(self) -> None:
        """
        A closer cancelled while the removal releases returns when that is over, not before.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            file = await proc.open("x")
            await start(tg, entry.remove)
            closer = await start(tg, file.aclose)
            closer.cancel()
            await all_blocked()
            assert not closer.done
            handlers.let_go("release")
            await all_blocked()
            assert closer.done

    async def test_a_cancelled_closer_strands_no_remover(self) -> None:
        """
        A closer cancelled in its release finishes it, and the removal that waits for it ends.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            file = await proc.open("x")
            closer = await start(tg, file.aclose)
            remover = await start(tg, entry.remove)
            closer.cancel()
            await all_blocked()
            assert (closer.done, remover.done) == (False, False)
            handlers.let_go("release")
            await all_blocked()
            assert (closer.done, remover.done) == (True, True)

    async def test_a_cancelled_remover_strands_no_closer(self) -> None:
        """
        A remover cancelled in a release raises at once; the release goes on, and the closer waits.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            file = await proc.open("x")
            remover = await start(tg, entry.remove)
            closer = await start(tg, file.aclose)
            remover.cancel()
            await all_blocked()
            assert (remover.cancelled, closer.done) == (True, False)
            handlers.let_go("release")
            await all_blocked()
            assert (closer.done, state(entry)) == (True, "gone")
            assert handlers.log.count("release 1 goes on") == 1

    async def test_a_cancelled_remover_that_waits_for_a_closer(self) -> None:
        """
        A remover cancelled while a closer releases raises at once; the removal ends after that.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            other = await proc.open("x")
            file = await proc.open("x")
            await start(tg, file.aclose)
            remover = await start(tg, entry.remove)
            remover.cancel()
            await all_blocked()
            assert (remover.cancelled, state(entry)) == (True, "releasing")
            handlers.let_go("release")
            await all_blocked()
            assert state(entry) == "gone"
            assert handlers.log[2:] == ["release 2", "release 2 goes on", "release 1"]
            await other.aclose()

    async def test_others_close_while_one_is_released(self) -> None:
        """
        While the removal is in one file's release, closers release the others themselves.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            files = [await proc.open("x") for _ in range(3)]
            remover = await start(tg, entry.remove)
            gate = handlers._gates.pop("release")  # pyright: ignore[reportPrivateUsage]
            assert handlers.log[-1] == "release 3"
            await files[0].aclose()
            await files[1].aclose()
            assert (handlers.log[-2:], remover.done) == (["release 1", "release 2"], False)
            gate.set()
            await all_blocked()
            assert remover.done
            assert sum(call.startswith("release") for call in handlers.log) == 4  # one goes on

    async def test_a_close_does_not_wait_for_a_call_in_another_file(self) -> None:
        """
        While the removal waits for a reader, closing another file releases it at once.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            other = await proc.open("x")
            remover = await start(tg, busy.entry.remove)
            await other.aclose()
            assert (busy.log[-1], remover.done) == ("release 2", False)
            await busy.leave()
            assert busy.log[-1] == "release 1"

    async def test_a_close_after_its_release_returns_at_once(self) -> None:
        """
        What was released while the removal goes on with another file is not waited for.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            may_end = Event()

            async def release(file: File) -> None:
                handlers.log.append(f"release {file.private_data}")
                if file.private_data == 1:
                    await may_end.wait()

            entry = proc.create("x", ProcOps(open=handlers.open, release=release))
            _first, second = await proc.open("x"), await proc.open("x")
            remover = await start(tg, entry.remove)
            assert handlers.log[-2:] == ["release 2", "release 1"]
            await second.aclose()
            assert not remover.done
            may_end.set()

    async def test_a_release_may_remove_another_entry(self) -> None:
        """
        A release handler may wait for another removal; whoever waits for it waits for both.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "busy")
            await busy.enter(tg)

            async def release(file: File) -> None:
                await busy.entry.remove()

            entry = proc.create("x", ProcOps(release=release))
            file = await proc.open("x")
            remover = await start(tg, entry.remove)
            closer = await start(tg, file.aclose)
            assert (remover.done, closer.done) == (False, False)
            await busy.leave()
            assert (remover.done, closer.done) == (True, True)


class TestJoining:
    async def test_everybody_returns_when_it_is_gone(self) -> None:
        """
        Who removes what is being removed waits for the end too, by entry or by name.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            busy = Busy(proc, "d/x")
            await busy.enter(tg)
            removers = [
                await start(tg, proc.remove, "d/x"),
                await start(tg, busy.entry.remove),
                await start(tg, proc.remove, "d/x"),
                await start(tg, proc.remove_subtree, "x", parent=directory),
                await start(tg, busy.entry.aclose),
            ]
            assert [remover.done for remover in removers] == [False] * 5
            await busy.leave()
            for remover in removers:
                assert remover.result is None

    async def test_waits_for_the_releases_too(self) -> None:
        """
        Gone means released: a joiner does not return before.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            await proc.open("x")
            await start(tg, entry.remove)
            joiner = await start(tg, entry.remove)
            assert not joiner.done
            handlers.let_go("release")
            await all_blocked()
            assert joiner.done

    async def test_after_the_end_returns_at_once(self) -> None:
        """
        An entry that is gone can be removed by who still has it; by name it is ENOENT.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            await entry.remove()
            await entry.remove()
            with refused(ENOENT):
                await proc.remove("x")
            with refused(ENOENT):
                await proc.remove_subtree("x")

    async def test_a_stale_entry_does_not_remove_its_successor(self) -> None:
        """
        remove() is about the entry, not about whatever has its name now.
        """
        async with ProcFS() as proc:
            old = proc.create("x", ProcOps())
            await old.remove()
            new = proc.create("x", ProcOps())
            await old.remove()
            assert proc.lookup("x") is new

    async def test_by_name_means_the_entry_that_has_it(self) -> None:
        """
        If the name was taken anew, that one is removed, and the old one is not waited for.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            await start(tg, busy.entry.remove)
            new = proc.create("x", ProcOps())
            await proc.remove("x")
            assert (state(new), state(busy.entry)) == ("gone", "dying")
            await busy.leave()

    async def test_by_name_means_the_newest_of_those_that_go(self) -> None:
        """
        Of several entries of one name that are being removed, the last one to have it is meant.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            entries: list[Busy] = []
            for _ in range(8):
                entries.append(Busy(proc, "x"))
                await entries[-1].enter(tg)
                await start(tg, entries[-1].entry.remove)
            joiner = await start(tg, proc.remove, "x")
            for busy in entries:
                assert not joiner.done
                await busy.leave()
            assert joiner.done

    async def test_cancelled(self) -> None:
        """
        A joiner that is cancelled raises at once, and nothing else happens.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            remover, joiner, other = [await start(tg, busy.entry.remove) for _ in range(3)]
            joiner.cancel()
            await all_blocked()
            assert (joiner.cancelled, remover.done, other.done) == (True, False, False)
            await busy.leave()
            assert (remover.done, other.done) == (True, True)

    async def test_something_below_what_is_being_removed(self) -> None:
        """
        Who joins for a child returns when the child is gone, though the directory is not yet.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first, second = Busy(proc, "d/a"), Busy(proc, "d/b")
            for busy in (first, second):
                await busy.enter(tg)
            remover = await start(tg, directory.remove)
            by_entry = await start(tg, first.entry.remove)
            by_name = await start(tg, proc.remove, "a", parent=directory)
            await first.leave()
            assert (by_entry.done, by_name.done, remover.done) == (True, True, False)
            assert state(first.entry) == "gone"
            await second.leave()
            assert remover.done

    async def test_a_directory_in_the_middle(self) -> None:
        """
        Any directory on the way to where a removal stands can be joined, and ends in its turn.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            top = proc.mkdir("top")
            middle = proc.mkdir("top/middle")
            inner, outer = Busy(proc, "top/middle/x"), Busy(proc, "top/longer name")
            for busy in (inner, outer):
                await busy.enter(tg)
            remover = await start(tg, top.remove)
            joiner = await start(tg, middle.remove)
            by_name = await start(tg, proc.remove_subtree, "middle", parent=top)
            with refused(ENOENT):
                await proc.remove("nope", parent=top)
            await inner.leave()
            assert (joiner.done, by_name.done, remover.done) == (True, True, False)
            await outer.leave()
            assert remover.done


class TestSubtree:
    async def test_order(self) -> None:
        """
        Depth first, children in the order of a listing, a directory after all that is in it.
        """
        handlers = Handlers()
        log: list[str] = []

        async def release(file: File) -> None:
            log.append(file.entry.path.removeprefix("/proc/"))

        ops = ProcOps(open=handlers.open, release=release)
        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.create("d/z", ops)
            proc.create("d/bb", ops)
            proc.create("d/a", ops)
            proc.mkdir("d/s")
            proc.create("d/s/1", ops)
            proc.mkdir("d/s/t")
            proc.create("d/s/t/1", ops)
            for name in ("bb", "s/t/1", "a", "z", "s/1"):
                await proc.open(f"d/{name}")
            await proc.remove_subtree("d")
            assert log == ["d/a", "d/s/1", "d/s/t/1", "d/z", "d/bb"]

    async def test_directories_are_gone_after_what_is_in_them(self) -> None:
        """
        While a child is waited for, what comes before it is gone, the rest is dying.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            before = proc.create("d/a", ProcOps())
            busy = Busy(proc, "d/b")
            sub = proc.mkdir("d/c")
            after = proc.create("d/c/x", ProcOps())
            await busy.enter(tg)
            file = await proc.open("d/c/x")
            remover = await start(tg, directory.remove)
            assert (state(before), state(busy.entry)) == ("gone", "dying")
            assert [state(entry) for entry in (sub, after, directory)] == ["releasing"] * 3
            assert after.statistics().open_files == 1
            assert list(directory.children) == [sub]
            await busy.leave()
            assert remover.done
            assert {state(entry) for entry in (busy.entry, sub, after, directory)} == {"gone"}
            assert (directory.nlink, list(directory.children)) == (2, [])
            await file.aclose()

    async def test_is_shut_as_a_whole(self) -> None:
        """
        Before anything is waited for, every call on every file below is refused.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            busy = Busy(proc, "d/a")
            proc.mkdir("d/sub")
            late = proc.create("d/sub/x", Handlers().ops("read"))
            file = await proc.open("d/sub/x")
            await busy.enter(tg)
            await start(tg, directory.remove)
            with refused(EIO):
                await file.read()
            with refused(ENOENT):
                await proc.open(late)
            await busy.leave()

    @pytest.mark.parametrize("kind", ["file", "symlink", "directory", "mount point"])
    @pytest.mark.parametrize("how", ["remove", "remove_subtree", "entry"])
    async def test_of_anything(self, kind: str, how: str) -> None:
        """
        Every kind of entry can be removed in every way, if there is nothing in it.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            before = proc.stat("d")
            entry = {
                "file": lambda: proc.create("d/x", ProcOps()),
                "symlink": lambda: proc.symlink("d/x", "nowhere"),
                "directory": lambda: proc.mkdir("d/x"),
                "mount point": lambda: proc.create_mount_point("d/x"),
            }[kind]()
            await (entry.remove() if how == "entry" else getattr(proc, how)("d/x"))
            assert (state(entry), proc.listdir("d"), proc.stat("d")) == ("gone", [], before)

    async def test_names_are_relative_to_a_parent(self) -> None:
        """
        What to remove is named as for a registration.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            proc.mkdir("d/e")
            for name in ("d/e/1", "d/e/2", "d/e/3", "d/4"):
                proc.create(name, ProcOps())
            await proc.remove("d/e/1")
            await proc.remove("e/2", parent=directory)
            await proc.remove_subtree("e", parent=directory)
            assert proc.listdir("d") == ["4"]

    async def test_remove_wants_it_empty(self) -> None:
        """
        remove() of what has something in it is ENOTEMPTY, for a file as for a directory.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.create("d/x", ProcOps())
            proc.create("f", ProcOps())
            proc.create("f/x", ProcOps())
            for name in ("d", "f"):
                with unchanged(proc), refused(ENOTEMPTY):
                    await proc.remove(name)
            await proc.remove("d/x")
            await proc.remove("d")
            assert proc.listdir() == ["f"]

    async def test_what_is_below_a_file_goes_with_it(self) -> None:
        """
        Entries below a file, reachable by no path, are removed with it.
        """
        async with ProcFS() as proc:
            file = proc.create("f", ProcOps())
            below = proc.create("f/x", ProcOps())
            await file.remove()
            assert state(below) == "gone"

    @pytest.mark.parametrize("name", ["d", "d/sub", "d/sub/x"])
    async def test_a_permanent_entry_is_found_first(self, name: str) -> None:
        """
        With a permanent entry anywhere below nothing is touched: EINVAL.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            proc.create("d/a", ProcOps())
            proc.mkdir("d/sub")
            permanent = proc.create("d/sub/x", Handlers(b"for ever").ops("read", permanent=True))
            proc.create("d/z", ProcOps())
            for removal in (
                proc.remove_subtree(name),
                proc.lookup(name).remove(),
                proc.lookup(name).aclose(),
            ):
                with unchanged(proc), refused(EINVAL) as caught:
                    await removal
                assert caught.value.filename == permanent.path
            assert await proc.read_bytes("d/sub/x") == b"for ever"

    async def test_a_permanent_entry_itself(self) -> None:
        """
        A permanent entry can be removed in no way.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(permanent=True))
            for removal in (proc.remove("x"), proc.remove_subtree("x"), entry.remove()):
                with unchanged(proc), refused(EINVAL):
                    await removal
            assert state(entry) == "live"

    async def test_does_not_wait_for_calls_in_a_permanent_entry(self) -> None:
        """
        The refusal comes at once, whoever is inside.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("read", permanent=True))
            handlers.hold_up("read")
            reader = await start(tg, (await proc.open("x")).read)
            with refused(EINVAL):
                await entry.remove()
            handlers.let_go("read")
            await all_blocked()
            assert reader.result == b"content"


class TestCreatedMeanwhile:
    async def test_is_swept_away(self) -> None:
        """
        What is registered below a directory that is being removed works, and goes with it.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            busy = Busy(proc, "d/a")
            await busy.enter(tg)
            remover = await start(tg, directory.remove)
            handlers = Handlers(b"new")
            new = proc.create("new", handlers.ops("open", "read", "release"), parent=directory)
            file = await proc.open(new)
            assert await file.read() == b"new"
            with refused(ENOENT):
                proc.lookup("d/new")
            await busy.leave()
            assert (remover.done, state(new), handlers.log[-1]) == (True, "gone", "release 1")

    async def test_is_waited_for(self) -> None:
        """
        A call inside such an entry is waited for like any other.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first = Busy(proc, "d/a")
            await first.enter(tg)
            remover = await start(tg, directory.remove)
            second = Busy(proc, "b", directory)
            await second.enter(tg)
            await first.leave()
            assert (remover.done, state(second.entry)) == (False, "dying")
            await second.leave()
            assert remover.done

    async def test_while_the_directory_itself_is_waited_for(self) -> None:
        """
        Even if only the directory is left to wait for, what comes into it is swept away.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            assert directory.use()
            remover = await start(tg, directory.remove)
            new = proc.create("new", ProcOps(), parent=directory)
            below = proc.mkdir("sub", parent=directory)
            directory.unuse()
            await all_blocked()
            assert remover.done
            assert (state(new), state(below), state(directory)) == ("gone", "gone", "gone")

    async def test_by_a_handler_of_what_is_removed(self) -> None:
        """
        A handler that registers something below its own entry leaves nothing behind.
        """
        created: list[ProcDirEntry] = []
        handlers = Handlers()

        async def read(file: File, size: int, pos: int) -> bytes:
            await handlers.read(file, size, pos)
            created.append(proc.create("below", ProcOps(), parent=file.entry))
            return b""

        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=read))
            handlers.hold_up("read")
            await start(tg, (await proc.open("x")).read)
            remover = await start(tg, entry.remove)
            handlers.let_go("read")
            await all_blocked()
            assert (remover.done, state(created[0])) == (True, "gone")

    async def test_by_a_release_handler(self) -> None:
        """
        Nor does a release handler.
        """
        created: list[ProcDirEntry] = []

        async def release(file: File) -> None:
            created.append(proc.create("below", ProcOps(), parent=file.entry))

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=release))
            await proc.open("x")
            await entry.remove()
            assert [state(entry) for entry in created] == ["gone"]

    async def test_may_be_removed_by_itself(self) -> None:
        """
        Who removes such an entry need not wait for the directory, but the directory for it.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first = Busy(proc, "d/a")
            await first.enter(tg)
            remover = await start(tg, directory.remove)
            second = Busy(proc, "b", directory)
            await second.enter(tg)
            other = await start(tg, second.entry.remove)
            await first.leave()
            assert (remover.done, other.done) == (False, False)
            await second.leave()
            assert (remover.done, other.done) == (True, True)

    async def test_may_be_removed_with_its_directory(self) -> None:
        """
        The same for a directory created meanwhile, with something in it.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first = Busy(proc, "d/a")
            await first.enter(tg)
            remover = await start(tg, directory.remove)
            sub = proc.mkdir("sub", parent=directory)
            second = Busy(proc, "b", sub)
            await second.enter(tg)
            other = await start(tg, second.entry.remove)
            await first.leave()
            assert (remover.done, other.done) == (False, False)
            await second.leave()
            assert (remover.done, other.done) == (True, True)

    async def test_in_a_directory_that_is_gone(self) -> None:
        """
        Registering in a directory that is gone succeeds, and can be used by who has it open.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            async with await proc.open("d") as file:
                await directory.remove()
                ghost = proc.create("ghost", Handlers(b"ghost").ops("read"), parent=directory)
                assert [name.name for name in await file.getdents()] == [".", "..", "ghost"]
                assert proc.lookup("ghost", dir_fd=file) is ghost
                assert await proc.read_bytes(ghost) == b"ghost"
                with refused(ENOENT):
                    proc.lookup("d/ghost")
                await ghost.remove()
                assert (state(ghost), list(directory.children)) == ("gone", [])


class TestTwoAtOnce:
    """Removals of a directory and of what is in it, by different tasks."""

    async def test_the_directory_waits_for_its_child(self) -> None:
        """
        Who removes a directory returns after what others remove in it is gone too.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            proc.mkdir("d/sub")
            busy = Busy(proc, "d/sub/x")
            await busy.enter(tg)
            child = await start(tg, busy.entry.remove)
            parent = await start(tg, directory.remove)
            assert (child.done, parent.done, proc.listdir()) == (False, False, [])
            await busy.leave()
            assert (child.done, parent.done) == (True, True)

    async def test_a_child_can_be_taken_over(self) -> None:
        """
        A child whose turn is to come can be removed at once, and the directory waits for that.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first, second = Busy(proc, "d/a"), Busy(proc, "d/b")
            idle = proc.create("d/c", ProcOps())
            for busy in (first, second):
                await busy.enter(tg)
            parent = await start(tg, directory.remove)
            await idle.remove()
            assert state(idle) == "gone"
            child = await start(tg, proc.remove, "b", parent=directory)
            await second.leave()
            assert (child.done, state(second.entry), second.released) == (True, "gone", True)
            assert not parent.done
            await first.leave()
            assert parent.done

    async def test_the_directory_waits_for_who_took_over(self) -> None:
        """
        If the child takes longer than the rest, the directory is gone after it.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first, second = Busy(proc, "d/a"), Busy(proc, "d/b")
            for busy in (first, second):
                await busy.enter(tg)
            parent = await start(tg, directory.remove)
            child = await start(tg, second.entry.remove)
            await first.leave()
            assert (parent.done, child.done) == (False, False)
            await second.leave()
            assert (parent.done, child.done) == (True, True)

    @pytest.mark.parametrize("order", ["ac", "ca"])
    async def test_the_directory_waits_for_all_others(self, order: str) -> None:
        """
        Removals that began before and after the directory's are all waited for, in any order.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            busy = {name: Busy(proc, f"d/{name}") for name in "ac"}
            proc.create("d/b", ProcOps())
            for each in busy.values():
                await each.enter(tg)
            children = {"a": await start(tg, busy["a"].entry.remove)}
            parent = await start(tg, directory.remove)
            children["c"] = await start(tg, busy["c"].entry.remove)
            for name in order:
                assert (parent.done, children[name].done) == (False, False)
                await busy[name].leave()
                assert children[name].done
            assert parent.done

    async def test_a_directory_below_can_be_taken_over(self) -> None:
        """
        Who takes over a directory does all that is in it; three levels wait for each other.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            top = proc.mkdir("top")
            first = Busy(proc, "top/a")
            middle = proc.mkdir("top/middle")
            second = Busy(proc, "top/middle/b")
            third = Busy(proc, "top/middle/c")
            for busy in (first, second, third):
                await busy.enter(tg)
            removers = [
                await start(tg, top.remove),
                await start(tg, middle.remove),
                await start(tg, third.entry.remove),
            ]
            await first.leave()
            await second.leave()
            assert [remover.done for remover in removers] == [False] * 3
            assert (state(first.entry), state(second.entry)) == ("gone", "gone")
            await third.leave()
            assert [remover.done for remover in removers] == [True] * 3

    async def test_an_idle_child_does_not_wait_for_a_busy_one(self) -> None:
        """
        What comes first is released first, though somebody else is removing what comes later.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            idle = proc.create("d/a", handlers.ops("open", "release"))
            busy = Busy(proc, "d/b")
            await proc.open("d/a")
            await busy.enter(tg)
            await start(tg, busy.entry.remove)
            await start(tg, directory.remove)
            assert (handlers.log, state(idle)) == (["open 1", "release 1"], "gone")
            await busy.leave()

    async def test_a_child_may_wait_for_one_before_it(self) -> None:
        """
        A handler inside one child may wait for the end of another, also if its own is taken over.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first = Busy(proc, "d/a")
            may_go = Event()

            async def read(file: File, size: int, pos: int) -> bytes:
                await may_go.wait()
                await first.entry.remove()
                return b""

            second = proc.create("d/b", ProcOps(read=read))
            await first.enter(tg)
            await start(tg, (await proc.open("d/b")).read)
            parent = await start(tg, directory.remove)
            child = await start(tg, second.remove)
            may_go.set()
            await first.leave()
            assert (parent.done, child.done) == (True, True)


class TestCancelled:
    async def test_while_it_waits_for_calls(self) -> None:
        """
        A cancelled remover raises at once; the removal goes on to its end without it.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            remover = await start(tg, busy.entry.remove)
            remover.cancel()
            await all_blocked()
            assert (remover.cancelled, busy.reader.done) == (True, False)
            assert state(busy.entry) == "dying"
            with refused(EIO):
                await busy.file.pread(1, 0)
            await busy.leave()
            assert (state(busy.entry), busy.released) == ("gone", True)

    async def test_while_it_waits_in_a_release(self) -> None:
        """
        Cancelled in a release handler that waits, it raises at once; the handler runs to its end.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            await proc.open("x")
            await proc.open("x")
            remover = await start(tg, entry.remove)
            remover.cancel()
            await all_blocked()
            assert (remover.cancelled, handlers.log[-1]) == (True, "release 2")
            handlers.let_go("release")
            await all_blocked()
            assert handlers.log[-2:] == ["release 2 goes on", "release 1"]
            assert state(entry) == "gone"

    async def test_can_be_awaited_again(self) -> None:
        """
        After a cancellation, awaiting it again joins the removal, as often as one likes.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            for _ in range(3):
                remover = await start(tg, busy.entry.remove)
                remover.cancel()
                await all_blocked()
                assert (remover.cancelled, state(busy.entry)) == (True, "dying")
            last = await start(tg, proc.remove, "x")
            assert not last.done
            await busy.leave()
            assert (last.result, state(busy.entry)) == (None, "gone")

    async def test_when_there_was_nothing_to_wait_for(self) -> None:
        """
        A remover cancelled in the checkpoint at the end has removed everything.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.mkdir("d")
            entry = proc.create("d/x", handlers.ops("open"))
            await proc.open("d/x")
            with CancelScope() as scope:
                scope.cancel()
                await proc.remove_subtree("d")
            assert scope.cancelled_caught
            assert (state(entry), proc.listdir()) == ("gone", [])

    async def test_in_the_middle_of_a_subtree(self) -> None:
        """
        The rest of a subtree is removed in the same order without its remover.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            children = [Busy(proc, f"d/{name}") for name in "abc"]
            for busy in children:
                await busy.enter(tg)
            remover = await start(tg, directory.remove)
            await children[0].leave()
            remover.cancel()
            await all_blocked()
            assert remover.cancelled
            joiner = await start(tg, directory.remove)
            await children[2].leave()
            assert (state(children[2].entry), children[2].released) == ("releasing", False)
            await children[1].leave()
            assert (joiner.done, state(directory)) == (True, "gone")

    async def test_while_it_waits_for_another_removal(self) -> None:
        """
        A removal whose caller was cancelled still waits for those of others.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            busy = Busy(proc, "d/x")
            await busy.enter(tg)
            child = await start(tg, busy.entry.remove)
            parent = await start(tg, directory.remove)
            for each in (parent, child):
                each.cancel()
                await all_blocked()
                assert each.cancelled
            assert state(directory) != "gone"
            await busy.leave()
            assert (state(busy.entry), state(directory)) == ("gone", "gone")

    async def test_release_handlers_see_the_removers_context(self) -> None:
        """
        Context variables are the remover's, whoever runs the release in the end.
        """
        seen: list[str] = []

        async def release(file: File) -> None:
            await checkpoint()
            seen.append(who.get())

        async def remove(name: str, entry: ProcDirEntry) -> None:
            who.set(name)
            await entry.remove()

        def plain_release(file: File) -> None:
            seen.append(who.get())

        async with ProcFS() as proc, create_task_group() as tg:
            for name, handler in (("one", release), ("two", plain_release)):
                entry = proc.create(name, ProcOps(release=handler))
                await proc.open(name)
                await start(tg, remove, name, entry)
            assert seen == ["one", "two"]

            handlers = Handlers()
            for name, handler in (("three", release), ("four", plain_release)):
                entry = proc.create(name, ProcOps(read=handlers.read, release=handler))
                handlers.hold_up("read")
                await start(tg, (await proc.open(name)).read)
                remover = await start(tg, remove, name, entry)
                joiner = await start(tg, remove, "a joiner", entry)
                remover.cancel()
                await all_blocked()
                handlers.let_go("read")
                await all_blocked()
                assert joiner.done
            assert seen == ["one", "two", "three", "four"]
        assert who.get() == "nobody"

    async def test_a_closer_runs_the_release_in_its_own_context(self) -> None:
        """
        A release at a close sees the closer's context variables.
        """
        seen: list[str] = []

        async def release(file: File) -> None:
            await checkpoint()
            seen.append(who.get())

        async def close(name: str, file: ProcFile) -> None:
            who.set(name)
            await file.aclose()

        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", ProcOps(release=release))
            await start(tg, close, "closer", await proc.open("x"))
            assert seen == ["closer"]


def errors_of(call: Call[None]) -> list[Exception]:
    """What the release handlers raised that a remover was told of."""
    error: Any = call.error
    assert type(error) is ExceptionGroup
    return list(error.exceptions)


class TestErrorsOfReleases:
    @pytest.mark.parametrize("plain", [False, True])
    async def test_reach_the_remover_after_everything(self, plain: bool) -> None:
        """
        They stop no other release; the remover gets them all, in a group, when it is gone.
        """
        released: list[File] = []

        def plain_release(file: File) -> None:
            released.append(file)
            if len(released) != 2:
                raise OSError(len(released), "cannot")

        async def release(file: File) -> None:
            await checkpoint()
            plain_release(file)

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=plain_release if plain else release))
            for _ in range(3):
                await proc.open("x")
            with pytest.raises(ExceptionGroup, match="release handlers failed") as caught:
                await proc.remove("x")
            assert [str(exc) for exc in caught.value.exceptions] == [
                "[Errno 1] cannot",
                "[Errno 3] cannot",
            ]
            assert (len(released), state(entry)) == (3, "gone")

    async def test_that_are_no_oserrors(self) -> None:
        """
        Any exception of a release handler is treated so.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=lambda file: 1 // 0))
            await proc.open("x")
            with pytest.raises(ExceptionGroup) as caught:
                await entry.remove()
            assert isinstance(caught.value.exceptions[0], ZeroDivisionError)

    async def test_reach_everybody_who_awaits_it(self) -> None:
        """
        Who began the removal and who joined it get the same errors.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EIO, "cannot")
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            await proc.open("x")
            removers = [await start(tg, entry.remove), await start(tg, entry.remove)]
            removers.append(await start(tg, proc.remove, "x"))
            handlers.let_go("release")
            await all_blocked()
            for remover in removers:
                assert errors_of(remover) == [handlers.errors["release"]]

    async def test_reach_who_awaits_it_again(self) -> None:
        """
        If the remover was cancelled, they reach whoever awaits the removal next, during or after.
        """
        for join_early in (True, False):
            handlers = Handlers()
            handlers.errors["release"] = OSError(EIO, "cannot")
            handlers.hold_up("release")
            async with ProcFS() as proc, create_task_group() as tg:
                entry = proc.create("x", handlers.ops("release"))
                await proc.open("x")
                remover = await start(tg, entry.remove)
                remover.cancel()
                await all_blocked()
                joiner = await start(tg, entry.remove) if join_early else None
                handlers.let_go("release")
                await all_blocked()
                joiner = joiner or await start(tg, entry.remove)
                assert errors_of(joiner) == [handlers.errors["release"]]
                await entry.remove()  # has been told, and is not told again

    async def test_when_cancelled_at_the_end(self) -> None:
        """
        A remover cancelled in its last checkpoint was told nothing: the next one is.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=lambda file: 1 // 0))
            await proc.open("x")
            with CancelScope() as scope:
                scope.cancel()
                await entry.remove()
            assert scope.cancelled_caught
            with pytest.raises(ExceptionGroup):
                await entry.remove()

    async def test_who_joins_for_a_child_hears_of_that(self) -> None:
        """
        A joiner gets the errors of what it waits for, not those of other entries.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            children = [Busy(proc, f"d/{name}") for name in "abc"]
            for n, busy in enumerate(children):
                busy.handlers.errors["release"] = OSError(n + 1, busy.entry.name)
                await busy.enter(tg)
            remover = await start(tg, directory.remove)
            joiners: list[Call[None]] = []
            for busy in children:
                joiners.append(await start(tg, proc.remove, busy.entry.name, parent=directory))
                if busy is children[0]:
                    await busy.leave()
            for busy in children[1:]:
                await busy.leave()
            assert [[str(exc) for exc in errors_of(joiner)] for joiner in joiners] == [
                ["[Errno 1] a"],
                ["[Errno 2] b"],
                ["[Errno 3] c"],
            ]
            assert "[Errno 1] a" in [str(exc) for exc in errors_of(remover)]

    async def test_who_joins_for_another_child_hears_nothing(self) -> None:
        """
        If the errors are all of other entries, a joiner returns as if there were none.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            directory = proc.mkdir("d")
            first, second = Busy(proc, "d/a"), Busy(proc, "d/b")
            first.handlers.errors["release"] = OSError(EIO, "cannot")
            for busy in (first, second):
                await busy.enter(tg)
            remover = await start(tg, directory.remove)
            await first.leave()
            joiner = await start(tg, proc.remove, "b", parent=directory)
            await second.leave()
            assert joiner.result is None
            assert errors_of(remover) == [first.handlers.errors["release"]]

    async def test_of_a_close_are_the_closers(self) -> None:
        """
        What a release run by a close raises reaches the closer, not the removal that waits for it.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EIO, "cannot")
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            closer = await start(tg, file.aclose)
            remover = await start(tg, entry.remove)
            handlers.let_go("release")
            await all_blocked()
            assert closer.error is handlers.errors["release"]
            assert remover.result is None

    async def test_of_the_removal_are_not_the_closers(self) -> None:
        """
        A closer that waits for the removal's release is not told of its error.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EIO, "cannot")
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            remover = await start(tg, entry.remove)
            closer = await start(tg, file.aclose)
            handlers.let_go("release")
            await all_blocked()
            assert errors_of(remover) == [handlers.errors["release"]]
            assert closer.result is None

    async def test_what_stops_the_program_stops_the_remover(self) -> None:
        """
        An exception that is no error reaches the remover; the removal goes on without it.
        """
        released: list[File] = []

        def release(file: File) -> None:
            released.append(file)
            if len(released) == 1:
                raise SystemExit

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(release=release))
            for _ in range(2):
                await proc.open("x")
            with pytest.raises(SystemExit):
                await entry.remove()
            await entry.remove()
            assert (len(released), state(entry)) == (2, "gone")


class TestCosts:
    """No task, event or record exists while nobody needs one."""

    async def test_a_removal_nobody_is_in_the_way_of_makes_no_event(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A whole life without any contention needs no event, no scope and no task group.
        """
        released: list[File] = []
        async with ProcFS() as proc:
            with monkeypatch.context() as patch:
                for name in ("Event", "CancelScope", "create_task_group"):
                    patch.delattr(anyio, name)
                handlers = Handlers()
                ops = ProcOps(open=handlers.open, read=handlers.read, release=released.append)
                proc.mkdir("d")
                proc.create("d/x", ops)
                async with await proc.open("d/x") as file:
                    await file.read()
                await proc.open("d/x")
                await proc.read_bytes("d/x")
                await proc.remove_subtree("d")
            assert len(released) == 3

    async def test_a_removal_that_waits_for_calls_makes_no_task(self) -> None:
        """
        Its own caller does all of it, as long as that can be cancelled without harm.
        """
        released: list[File] = []
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=handlers.read, release=released.append))
            handlers.hold_up("read")
            await start(tg, (await proc.open("x")).read)
            tasks = len(anyio.get_running_tasks())
            await start(tg, entry.remove)
            assert len(anyio.get_running_tasks()) == tasks + 1
            handlers.let_go("read")
            await all_blocked()
            assert (len(released), len(anyio.get_running_tasks())) == (1, tasks - 1)

    async def test_a_task_ends_with_the_removal_that_needed_it(self) -> None:
        """
        Only a removal whose caller is gone, or whose release might wait, has a task of its own.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            tasks = len(anyio.get_running_tasks())
            remover = await start(tg, busy.entry.remove)
            remover.cancel()
            await all_blocked()
            running = {task.name for task in anyio.get_running_tasks()}
            assert (len(running), "removal of /proc/x" in running) == (tasks + 1, True)
            await busy.leave()
            assert len(anyio.get_running_tasks()) == tasks - 1

    async def test_nothing_is_kept_of_what_is_gone(self) -> None:
        """
        After a removal, however it went, the tree knows nothing of it any more.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            remover = await start(tg, busy.entry.remove)
            remover.cancel()
            await all_blocked()
            assert len(proc._removals) == 1  # pyright: ignore[reportPrivateUsage]
            await busy.leave()
            assert not proc._removals  # pyright: ignore[reportPrivateUsage]
            await busy.file.aclose()
            assert not busy.entry.open_files
