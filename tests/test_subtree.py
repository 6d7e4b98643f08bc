"""Removal of a directory: all below it, in the kernel's order, and what comes meanwhile."""

from errno import EINVAL, EIO, ENOENT, ENOTEMPTY

import pytest
from anyio import Event, create_task_group

from aiopde import File, ProcDirEntry, ProcFS, ProcOps
from tests.helpers import Busy, Handlers, all_blocked, refused, start, state, unchanged


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
            assert list(directory._children) == [sub]
            await busy.leave()
            assert remover.done
            assert {state(entry) for entry in (busy.entry, sub, after, directory)} == {"gone"}
            assert (directory.nlink, list(directory._children)) == (2, [])
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
                assert (state(ghost), list(directory._children)) == ("gone", [])


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
