"""Release handlers that fail: everything is released all the same, and somebody is told."""

from errno import EIO
from typing import Any

import pytest
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import File, ProcFS, ProcOps
from tests.helpers import Busy, Call, Handlers, all_blocked, start, state


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

    @pytest.mark.parametrize("held_up", [False, True])
    async def test_reach_who_leaves_the_tree(self, held_up: bool) -> None:
        """
        If the remover was cancelled and nobody awaits the removal again, they end the tree's block.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EIO, "cannot")
        if held_up:
            handlers.hold_up("release")

        async def use_and_leave() -> None:
            async with ProcFS() as proc, create_task_group() as tg:
                entry = proc.create("x", handlers.ops("read", "release"))
                file = await proc.open("x")
                handlers.hold_up("read")
                reader = await start(tg, file.read)
                remover = await start(tg, entry.remove)
                remover.cancel()
                await all_blocked()
                handlers.let_go("read")
                await all_blocked()
                if held_up:
                    assert (state(entry), remover.done) == ("releasing", True)
                    handlers.let_go("release")
                assert reader.result == b"content"

        with pytest.raises(ExceptionGroup, match="not everything had gone well") as caught:
            await use_and_leave()
        assert caught.value.exceptions == (handlers.errors["release"],)
        assert handlers.log.count("release None") == 1

    @pytest.mark.parametrize("removed", [False, True])
    @pytest.mark.parametrize("kind", ["suspending", "coroutine", "plain"])
    async def test_of_the_last_call_out_are_logged(
        self, kind: str, removed: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """
        Closed with a call inside, a file is released by that: the call has a result of its own.

        So has a removal that waits for it.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def suspending(file: File) -> None:
            await checkpoint()
            raise OSError(EIO, "cannot")

        async def coroutine(file: File) -> None:
            raise OSError(EIO, "cannot")

        def plain(file: File) -> None:
            raise OSError(EIO, "cannot")

        release = {"suspending": suspending, "coroutine": coroutine, "plain": plain}[kind]
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", ProcOps(read=handlers.read, release=release))
            file = await proc.open("x")
            reader = await start(tg, file.read)
            await file.aclose()
            remover = await start(tg, entry.remove) if removed else None
            handlers.let_go("read")
            await all_blocked()
            assert reader.result == b"content"
            assert entry.statistics().open_files == 0
            assert remover is None or (remover.result, state(entry)) == (None, "gone")
        ours = [record.getMessage() for record in caplog.records if record.name == "aiopde"]
        assert ours == ["the release handler of /proc/x failed"]

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
