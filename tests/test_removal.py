"""Removal: the name at once, then the calls inside, then each release, exactly once."""

from errno import EIO, ENOENT, EPERM

import anyio
import pytest
from anyio import CancelScope, create_task_group

from aiopde import File, ProcFS, ProcOps
from tests.helpers import Busy, Handlers, all_blocked, refused, start, state


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
            assert len(proc._reaper.removals) == 1  # pyright: ignore[reportPrivateUsage]
            await busy.leave()
            assert not proc._reaper.removals  # pyright: ignore[reportPrivateUsage]
            await busy.file.aclose()
            assert not busy.entry._open_files
