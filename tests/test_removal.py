"""Removal: the name at once, then the calls inside, then each release, exactly once."""

from errno import EINVAL, EIO, ENOENT, ENOTEMPTY, EPERM

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group

from aiopde import File, ProcDirEntry, ProcFS, ProcOps
from tests.helpers import Busy, Handlers, all_blocked, refused, start, state, unchanged


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
            assert not busy.entry.open_files
