"""The tree: its life, from entering it to what leaving it waits for."""

from __future__ import annotations

import asyncio
from errno import EIO, ENOENT
from typing import Any

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import File, ProcFS, ProcOps
from tests.conftest import BACKENDS
from tests.helpers import Handlers, all_blocked, refused, start, state, tree, unchanged


class TestTree:
    async def test_can_be_entered_once(self) -> None:
        """
        A tree has one life: entering it again is refused, inside and after it.
        """
        proc = ProcFS()
        async with proc as same:
            assert same is proc
            with pytest.raises(RuntimeError, match="entered once: make another"):
                await proc.__aenter__()
        with pytest.raises(RuntimeError, match="entered once: make another"):
            await proc.__aenter__()

    async def test_takes_entries_while_it_is_entered(self) -> None:
        """
        Before and after, registering is refused with the cure.
        """
        proc = ProcFS()

        def refuse() -> None:
            cure = r"inside 'async with ProcFS\(\) as proc:'"
            with pytest.raises(RuntimeError, match=cure):
                proc.create("x", ProcOps())
            with pytest.raises(RuntimeError, match=cure):
                proc.mkdir("d")
            with pytest.raises(RuntimeError, match=cure):
                proc.symlink("l", "x")
            with pytest.raises(RuntimeError, match=cure):
                proc.create_mount_point("m")
            assert tree(proc).keys() == {"/proc"}

        refuse()
        async with proc:
            proc.create("x", ProcOps())
        refuse()

    @pytest.mark.parametrize(
        "mountpoint", ["", "proc", "x/y", "/proc/", "//", "/x//y", "/x/./y", "/x/../y", "/.."]
    )
    def test_mountpoint_is_an_absolute_path(self, mountpoint: str) -> None:
        """
        What absolute paths begin with begins with a slash itself, and does not end with one.
        """
        with pytest.raises(ValueError, match=f"absolute path, as '/proc', not '{mountpoint}'"):
            ProcFS(mountpoint=mountpoint)

    async def test_repr(self) -> None:
        """
        Its repr tells where it is mounted, and whether it is open.
        """
        proc = ProcFS(mountpoint="/run")
        assert repr(proc) == "<ProcFS '/run' not entered>"
        async with proc:
            assert repr(proc) == "<ProcFS '/run' open>"
        assert repr(proc) == "<ProcFS '/run' closed>"

    async def test_several_live_side_by_side(self) -> None:
        """
        Two trees in one program know nothing of each other.
        """
        async with ProcFS() as one, ProcFS(mountpoint="/other") as two:
            one.create("x", ProcOps())
            assert (one.listdir(), two.listdir()) == (["x"], [])
            with refused(ENOENT):
                two.lookup("/proc/x")

    async def test_takes_no_entries_of_another(self) -> None:
        """
        A parent from another tree is a mistake: nothing is registered or removed in either.
        """
        async with ProcFS() as one, ProcFS() as two:
            directory = one.mkdir("d")
            one.create("d/x", ProcOps())
            with unchanged(one), unchanged(two):
                with pytest.raises(ValueError, match="belongs to another ProcFS"):
                    two.create("y", ProcOps(), parent=directory)
                with pytest.raises(ValueError, match="belongs to another ProcFS"):
                    await two.remove("x", parent=directory)

    async def test_a_parent_that_is_no_entry(self) -> None:
        """
        A name in the place of the parent is a TypeError that shows where an entry comes from.
        """
        name: Any = "d"
        async with ProcFS() as proc:
            proc.mkdir(name)
            with unchanged(proc):
                with pytest.raises(TypeError, match=r"as mkdir\(\) returns it, not 'd'"):
                    proc.create("x", ProcOps(), parent=name)
                with pytest.raises(TypeError, match=r"as mkdir\(\) returns it, not 'd'"):
                    await proc.remove("x", parent=name)

    async def test_an_entry_in_the_place_of_a_name(self) -> None:
        """
        Who wants to remove an entry is told that it does that itself.
        """
        async with ProcFS() as proc:
            entry: Any = proc.create("x", ProcOps())
            with pytest.raises(TypeError, match=r"has a remove\(\) of its own"):
                await proc.remove(entry)
            assert entry._linked


class TestLeaving:
    async def test_removes_all_that_is_left(self) -> None:
        """
        At the end of the block everything is gone, permanent entries too.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            entries = [
                proc.create("d/x", ProcOps()),
                proc.create("permanent", ProcOps(permanent=True)),
                proc.symlink("link", "d"),
                proc.create_mount_point("m"),
                proc.lookup("d"),
                proc.root,
            ]
        assert [state(entry) for entry in entries] == ["gone"] * 6
        assert proc.root.nlink == 2

    async def test_children_first(self) -> None:
        """
        Open files are released in the order of a subtree removal.
        """
        released: list[str] = []
        async with ProcFS() as proc:
            ops = ProcOps(release=lambda file: released.append(file.entry.path))
            proc.mkdir("d")
            for name in ("zz", "a", "d/x", "d/y"):
                proc.create(name, ops)
                await proc.open(name)
        assert released == ["/proc/a", "/proc/d/x", "/proc/d/y", "/proc/zz"]

    async def test_files_left_open_are_dead(self) -> None:
        """
        A file outlives its tree: calls on it are refused, and it can be closed.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "read", "release"))
            file, root = await proc.open("x"), await proc.open("")
        with refused(EIO):
            await file.read()
        assert file.stat().st_nlink == 1
        assert [name.name for name in await root.getdents()] == [".", ".."]
        await file.aclose()
        await root.aclose()
        assert handlers.log == ["open 1", "release 1"]
        with refused(ENOENT):
            await proc.open("x")

    async def test_waits_for_the_calls_inside(self) -> None:
        """
        The block ends when nobody is inside any more; meanwhile nothing can be registered.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with create_task_group() as tg:
            may_leave = Event()
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    proc.create("x", handlers.ops("read"))
                    await may_leave.wait()

            server = await start(tg, serve)
            reader = await start(tg, (await proc.open("x")).read)
            may_leave.set()
            await all_blocked()
            assert (server.done, proc.listdir()) == (False, [])
            with refused(ENOENT):
                proc.lookup("x")
            with pytest.raises(RuntimeError, match="takes no entries"):
                proc.create("y", ProcOps())
            handlers.let_go("read")
            await all_blocked()
            assert (server.done, reader.result) == (True, b"content")

    async def test_an_error_in_the_block_passes_as_it_is(self) -> None:
        """
        The exception that ends the block reaches the outside unwrapped, after all is removed.
        """
        exc, proc = KeyError("mine"), ProcFS()
        with pytest.raises(KeyError) as caught:  # noqa: PT012  its end raises
            async with proc:
                proc.create("x", ProcOps())
                raise exc
        assert caught.value is exc
        assert (state(proc.root), list(tree(proc))) == ("gone", ["/proc"])

    async def test_cancellation_does_not_cut_it_short(self) -> None:
        """
        A cancelled block ends cancelled, after all is removed: calls inside and releases too.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        handlers.hold_up("release")
        async with create_task_group() as tg:
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    proc.create("x", handlers.ops("open", "read", "release"))
                    await Event().wait()

            server = await start(tg, serve)
            reader = await start(tg, (await proc.open("x")).read)
            server.cancel()
            await all_blocked()
            assert (server.done, state(proc.root)) == (False, "releasing")
            handlers.let_go("read")
            await all_blocked()
            assert (server.done, reader.result) == (False, b"content")
            assert handlers.log[-1] == "release 1"
            handlers.let_go("release")
            await all_blocked()
            assert (server.cancelled, state(proc.root)) == (True, "gone")

    @pytest.mark.parametrize(
        "anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]
    )
    @pytest.mark.parametrize("ends_by_itself", [False, True])
    async def test_nor_does_asyncios_own_cancellation(self, *, ends_by_itself: bool) -> None:
        """
        A ``task.cancel()``, as Ctrl-C makes it, knows no shields; the removal ends all the same.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with create_task_group() as tg:
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    proc.create("x", handlers.ops("open", "read", "release"))
                    await may_leave.wait()

            may_leave = Event()
            server = asyncio.create_task(serve())
            await all_blocked()
            reader = await start(tg, (await proc.open("x")).read)
            if ends_by_itself:
                may_leave.set()
                await all_blocked()
            for _ in range(2):  # the first one may end the block; others disturb the leaving
                server.cancel()
                await all_blocked()
            assert (server.done(), state(proc.root)) == (False, "releasing")
            handlers.let_go("read")
            with pytest.raises(asyncio.CancelledError):
                await server
            assert (reader.result, state(proc.root)) == (b"content", "gone")
            assert handlers.log[-1] == "release 1"

    @pytest.mark.parametrize("cancelled", [False, True])
    @pytest.mark.parametrize("fails", [False, True])
    async def test_waits_for_removals_that_go_on(self, *, cancelled: bool, fails: bool) -> None:
        """
        A removal whose caller was cancelled ends before the tree does, however the block ends.
        """
        released: list[str] = []

        async def release(file: File) -> None:
            await checkpoint()
            released.append(file.entry.name)

        exc, proc = KeyError("mine"), ProcFS()
        caught: list[BaseException] = []
        with CancelScope() as outer:
            try:
                async with proc:
                    entry = proc.create("x", ProcOps(release=release))
                    await proc.open("x")
                    with CancelScope() as scope:
                        scope.cancel()
                        await entry.remove()
                    if cancelled:
                        outer.cancel()
                    if fails:
                        raise exc
                    await checkpoint()
            except KeyError as raised:
                caught.append(raised)
        assert (released, state(proc.root)) == (["x"], "gone")
        assert caught == ([exc] if fails else [])
        assert outer.cancelled_caught == (cancelled and not fails)

    async def test_waits_for_removals_by_others(self) -> None:
        """
        So does one that a task from elsewhere has begun, and begins meanwhile.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with create_task_group() as tg:
            may_leave = Event()
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    for name in ("one", "two"):
                        proc.create(name, handlers.ops("read"))
                    await may_leave.wait()

            server = await start(tg, serve)
            entries = [proc.lookup("one"), proc.lookup("two")]
            for name in ("one", "two"):
                await start(tg, (await proc.open(name)).read)
            removers = [await start(tg, entries[0].remove)]
            may_leave.set()
            await all_blocked()
            removers.append(await start(tg, entries[1].remove))
            removers[1].cancel()
            await all_blocked()
            assert [removers[0].done, removers[1].cancelled, server.done] == [False, True, False]
            handlers.let_go("read")
            await all_blocked()
            assert (removers[0].done, server.done) == (True, True)
            assert [state(entry) for entry in entries] == ["gone", "gone"]

    async def test_removes_what_was_registered_in_what_is_gone(self) -> None:
        """
        Entries in a directory that was removed before them are removed and released too.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            await directory.remove()
            sub = proc.mkdir("sub", parent=directory)
            ghosts = [
                proc.create(name, handlers.ops("open", "release"), parent=parent)
                for name, parent in (("a", directory), ("b", sub), ("c", directory))
            ]
            for ghost in ghosts:
                await proc.open(ghost)
            await ghosts[2].remove()
        assert [state(ghost) for ghost in ghosts] == ["gone"] * 3
        assert sorted(handlers.log[3:]) == ["release 1", "release 2", "release 3"]

    async def test_of_an_empty_tree(self) -> None:
        """
        A tree that was never used is left without a trace.
        """
        before = len(anyio.get_running_tasks())
        async with ProcFS() as proc:
            assert len(anyio.get_running_tasks()) == before
        assert state(proc.root) == "gone"

    async def test_waits_in_no_task_of_its_own(self) -> None:
        """
        Only removals whose callers are gone have a task; leaving has none.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with create_task_group() as tg:

            async def serve() -> None:
                async with ProcFS() as proc:
                    proc.create("x", handlers.ops("release"))
                    await proc.open("x")

            before = len(anyio.get_running_tasks())
            await start(tg, serve)
            assert len(anyio.get_running_tasks()) == before + 1
            handlers.let_go("release")

    @pytest.mark.parametrize("loop", BACKENDS)
    def test_the_end_of_the_program_does_not_cut_it_short(self, loop: str) -> None:
        """
        A SystemExit or KeyboardInterrupt while it is left passes, after all is removed.
        """
        released: list[str] = []

        def release(file: File) -> None:
            released.append(file.entry.name)
            if file.entry.name == "a":
                raise SystemExit

        async def main() -> None:
            proc = ProcFS()
            with pytest.raises(SystemExit):  # noqa: PT012  its end raises
                async with proc:
                    for name in "ab":
                        proc.create(name, ProcOps(release=release))
                        await proc.open(name)
            assert (released, state(proc.root)) == (["a", "b"], "gone")

        backend, options = BACKENDS[loop]
        anyio.run(main, backend=backend, backend_options=options)


class TestErrorsAtTheEnd:
    """What release handlers raised, and nobody was told of."""

    async def test_of_its_own_releases(self) -> None:
        """
        Errors of the releases at the end come in a group, after everything is released.
        """
        released: list[str] = []

        def release(file: File) -> None:
            released.append(file.entry.name)
            raise OSError(EIO, file.entry.name)

        proc = ProcFS()
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with proc:
                for name in "ab":
                    proc.create(name, ProcOps(release=release))
                    await proc.open(name)
        assert [str(exc) for exc in caught.value.exceptions] == ["[Errno 5] a", "[Errno 5] b"]
        assert (released, state(proc.root)) == (["a", "b"], "gone")

    @pytest.mark.parametrize("plain", [False, True])
    async def test_of_a_removal_that_nobody_awaited(self, *, plain: bool) -> None:
        """
        So do those of a removal whose caller was cancelled, and which nobody joined.
        """
        exc = OSError(EIO, "cannot")

        async def release(file: File) -> None:
            await checkpoint()
            raise exc

        def plain_release(file: File) -> None:
            raise exc

        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                entry = proc.create("x", ProcOps(release=plain_release if plain else release))
                await proc.open("x")
                with CancelScope() as scope:
                    scope.cancel()
                    await entry.remove()
        assert caught.value.exceptions == (exc,)

    async def test_are_told_once(self) -> None:
        """
        What a remover was told of is not told again.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            for name in ("x", "d/y"):
                proc.create(name, ProcOps(release=lambda file: 1 // 0))
                await proc.open(name)
            for remove in (proc.lookup("x").remove, proc.lookup("d").remove):
                with pytest.raises(ExceptionGroup):
                    await remove()

    async def test_come_after_the_blocks_own(self) -> None:
        """
        If the block failed too, its exception is the first in the group.
        """
        exc = KeyError("mine")
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                proc.create("x", ProcOps(release=lambda file: 1 // 0))
                await proc.open("x")
                raise exc
        assert caught.value.exceptions[0] is exc
        assert isinstance(caught.value.exceptions[1], ZeroDivisionError)
        assert len(caught.value.exceptions) == 2

    async def test_of_a_block_that_was_cancelled(self) -> None:
        """
        Errors come out of a cancelled block too; the cancellation is not lost to the loop.
        """
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            with CancelScope() as scope:
                async with ProcFS() as proc:
                    proc.create("x", ProcOps(release=lambda file: 1 // 0))
                    await proc.open("x")
                    scope.cancel()
                    await checkpoint()
        assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
        await checkpoint()

    async def test_of_a_program_that_ends(self) -> None:
        """
        What is no error but the end of a program is not swallowed by errors of releases.
        """
        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                proc.create("x", ProcOps(release=lambda file: 1 // 0))
                await proc.open("x")
                raise SystemExit
        assert {type(exc) for exc in caught.value.exceptions} == {SystemExit, ZeroDivisionError}
