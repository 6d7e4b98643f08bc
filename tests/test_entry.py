"""One node of the tree: its attributes, its inode number, its use count, its place."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import stat
from errno import EINVAL
from typing import TYPE_CHECKING

import pytest
from anyio import Event, create_task_group
from anyio.abc import AsyncResource

from aiopde import (
    Credentials,
    EntryStatistics,
    ProcDirEntry,
    ProcFS,
    ProcOps,
    UseCount,
    UseCountStatistics,
)
from tests.helpers import Handlers, all_blocked, refused, start, state, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER, GROUP = 1000, 100
owner = Credentials(uid=OWNER, gid=1, groups=frozenset({GROUP}))
stranger = Credentials(uid=7, gid=7)


class TestWhatItIs:
    def test_is_not_made_by_hand(self) -> None:
        """
        A tree makes its entries: what one consists of cannot be passed to the class.
        """
        with pytest.raises(TypeError, match="takes no arguments"):
            ProcDirEntry("x", 0o444)  # type: ignore[call-arg]

    async def test_kinds(self) -> None:
        """
        Its type is that of a regular file, a directory or a symlink; a mount point is a directory.
        """
        async with ProcFS() as proc:
            kinds = [
                (entry.type, entry.is_dir())
                for entry in (
                    proc.create("f", ProcOps()),
                    proc.mkdir("d"),
                    proc.create_mount_point("m"),
                    proc.symlink("l", "f"),
                )
            ]
        directory = (stat.S_IFDIR, True)
        assert kinds == [(stat.S_IFREG, False), directory, directory, (stat.S_IFLNK, False)]

    async def test_name_path_and_parent(self) -> None:
        """
        It knows its name, its parent, and its path from the mount point on.
        """
        async with ProcFS(mountpoint="/run/proc") as proc:
            directory = proc.mkdir("driver")
            entry = proc.create("driver/x", ProcOps())
            assert (entry.name, entry.path) == ("x", "/run/proc/driver/x")
            assert entry.parent is directory
            assert directory.parent is proc.root

    async def test_the_name_stays(self) -> None:
        """
        A name cannot be set: its tree would not find the entry any more, nor ever end.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            with pytest.raises(AttributeError):
                entry.name = "y"  # type: ignore[misc]
            await entry.remove()
            assert proc.listdir() == []

    @pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, pickle.dumps])
    async def test_nothing_that_is_counted_can_be_copied(
        self, copying: Callable[[object], object]
    ) -> None:
        """
        A copy of an entry, a file or a guard would have a count of its own, which nobody waits for.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            async with await proc.open("x") as file:
                for each in (entry, file, file.file, UseCount("pool")):
                    with pytest.raises(TypeError, match=r"^<.*> cannot be copied or pickled: "):
                        copying(each)
            assert entry.statistics().open_files == 0

    async def test_the_root(self) -> None:
        """
        The root is its own parent, has inode number 1, and the mount point for its path.
        """
        async with ProcFS() as proc:
            assert proc.root.parent is proc.root
            assert (proc.root.path, proc.root.ino, proc.root.mode) == ("/proc", 1, 0o555)

    async def test_the_path_below_a_mount_point_of_one_slash(self) -> None:
        """
        With the tree mounted at "/", a path begins with that one slash.
        """
        async with ProcFS(mountpoint="/") as proc:
            assert proc.root.path == "/"
            proc.mkdir("driver")
            assert proc.create("driver/x", ProcOps()).path == "/driver/x"

    async def test_the_path_outlives_the_entry(self) -> None:
        """
        An entry that is gone still tells where it was.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            entry = proc.create("d/x", ProcOps())
            await proc.remove_subtree("d")
            assert entry.path == "/proc/d/x"

    async def test_permanent(self) -> None:
        """
        Whether it is permanent is in its table.
        """
        async with ProcFS() as proc:
            assert proc.create("x", ProcOps(permanent=True)).permanent
            assert not proc.create("y", ProcOps()).permanent
            assert not proc.mkdir("d").permanent

    async def test_repr(self) -> None:
        """
        Its repr shows path, mode, calls inside, open files if there are any, and its state.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), mode=0o640)
            assert repr(entry) == "<ProcDirEntry '/proc/x' -rw-r----- in_use=0 live>"
            async with await proc.open("x"):
                assert repr(entry).endswith(" in_use=0 open_files=1 live>")
            await entry.remove()
            assert repr(entry) == "<ProcDirEntry '/proc/x' -rw-r----- in_use=0 gone>"

    async def test_is_an_async_resource(self) -> None:
        """
        What takes any ``anyio.abc.AsyncResource`` takes an entry.
        """
        async with ProcFS() as proc:
            assert isinstance(proc.mkdir("d"), AsyncResource)


class TestCallsInside:
    async def test_counts_handlers_of_all_its_files(self) -> None:
        """
        in_use tells how many calls are inside, on all open files together.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("read", "poll"))
            one, two = await proc.open("x"), await proc.open("x")
            handlers.hold_up("read")
            handlers.hold_up("poll")
            assert entry.in_use == 0
            async with create_task_group() as tg:
                for n, (file, call) in enumerate(((one, "read"), (two, "read"), (two, "poll"))):
                    await start(tg, getattr(file, call))
                    assert entry.in_use == n + 1
                remover = await start(tg, entry.remove)
                assert entry.in_use == 3
                handlers.let_go("read")
                await all_blocked()
                assert (entry.in_use, remover.done) == (1, False)
                handlers.let_go("poll")
            assert entry.in_use == 0

    async def test_counts_opens(self) -> None:
        """
        An open is inside as long as its handler runs.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open"))
            async with create_task_group() as tg:
                await start(tg, proc.open, "x")
                assert (entry.in_use, entry.statistics().open_files) == (1, 0)
                handlers.let_go("open")
                await all_blocked()
                assert (entry.in_use, entry.statistics().open_files) == (0, 1)

    async def test_can_be_used_as_a_guard(self) -> None:
        """
        use() and unuse() guard what an entry stands for: its removal waits for that too.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            assert entry.use()
            async with create_task_group() as tg:
                remover = await start(tg, entry.remove)
                assert (remover.done, entry.use()) == (False, False)
                entry.unuse()
                await all_blocked()
                assert remover.done

    async def test_a_reader_of_one_entry_does_not_count_for_another(self) -> None:
        """
        Each entry has its own count.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            ops = handlers.ops("read")
            one, two = proc.create("one", ops), proc.create("two", ops)
            handlers.hold_up("read")
            async with create_task_group() as tg:
                await start(tg, (await proc.open("one")).read)
                assert (one.in_use, two.in_use) == (1, 0)
                await two.remove()
                handlers.let_go("read")


class TestStatistics:
    async def test_is_a_frozen_snapshot(self) -> None:
        """
        statistics() tells all there is to see, and stays what it was.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            before = entry.statistics()
            assert before == EntryStatistics(in_use=0, removing=False, open_files=0, state="live")
            assert isinstance(before, UseCountStatistics)
            await entry.remove()
            assert before.state == "live"
            with pytest.raises(dataclasses.FrozenInstanceError):
                before.state = ""  # type: ignore[misc]

    async def test_states_of_a_removal(self) -> None:
        """
        live, then dying while calls are inside, releasing while files are, and gone.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "read", "release"))
            file = await proc.open("x")
            states = [state(entry)]
            handlers.hold_up("read")
            handlers.hold_up("release")
            async with create_task_group() as tg:
                await start(tg, file.read)
                states.append(state(entry))
                await start(tg, entry.remove)
                states.append(state(entry))
                handlers.let_go("read")
                await all_blocked()
                states.append(state(entry))
                handlers.let_go("release")
            states.append(state(entry))
            assert states == ["live", "live", "dying", "releasing", "gone"]
            assert (entry.statistics().removing, file.closed) == (True, False)

    async def test_counts_files_that_wait_for_their_release(self) -> None:
        """
        open_files counts open files, not descriptors, until they are released.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            one, two = await proc.open("x"), await proc.open("x")
            one.dup()
            assert entry.statistics().open_files == 2
            await two.aclose()
            assert entry.statistics().open_files == 1
            await entry.remove()
            assert entry.statistics().open_files == 0


class TestContextManager:
    async def test_removes_at_the_end(self) -> None:
        """
        ``async with`` gives the entry, and removes it when the block ends.
        """
        async with ProcFS() as proc:
            async with proc.create("x", ProcOps()) as entry:
                assert proc.lookup("x") is entry
            assert (state(entry), proc.listdir()) == ("gone", [])

    async def test_removes_also_after_an_error(self) -> None:
        """
        An error in the block passes, and the entry is removed.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            proc.create("d/x", ProcOps())
            with pytest.raises(KeyError):
                async with entry:
                    raise KeyError
            assert state(entry) == "gone"

    async def test_removes_also_when_cancelled(self) -> None:
        """
        A cancelled block removes the entry too; calls inside are waited for by nobody here.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("read"))
            file = await proc.open("x")
            handlers.hold_up("read")

            async def serve() -> None:
                async with entry:
                    await Event().wait()

            async with create_task_group() as tg:
                await start(tg, file.read)
                server = await start(tg, serve)
                server.cancel()
                await all_blocked()
                assert (server.cancelled, proc.listdir(), state(entry)) == (True, [], "dying")
                handlers.let_go("read")
                await all_blocked()
                assert state(entry) == "gone"

    async def test_may_be_removed_before_the_end(self) -> None:
        """
        Who removes it inside the block finds nothing left to do at its end.
        """
        async with ProcFS() as proc:
            async with proc.create("x", ProcOps()) as entry:
                await entry.remove()
                proc.create("x", ProcOps())
            assert proc.listdir() == ["x"]

    async def test_aclose_is_remove(self) -> None:
        """
        aclose() does what remove() does.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            await entry.aclose()
            await entry.aclose()
            assert state(entry) == "gone"

    async def test_the_root_is_not_removed(self) -> None:
        """
        The root goes with its ProcFS only: EINVAL.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(EINVAL):
                await proc.root.remove()
        assert state(proc.root) == "gone"
