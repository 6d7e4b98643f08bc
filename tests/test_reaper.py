"""Who sees a removal through: the first, who joins, and the tree when they have left."""

from contextvars import ContextVar
from errno import EIO, ENOENT

from anyio import CancelScope, Event, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import File, ProcDirEntry, ProcFile, ProcFS, ProcOps
from tests.helpers import Busy, Handlers, all_blocked, refused, start, state

who: ContextVar[str] = ContextVar("who", default="nobody")


class Slow:
    """An entry whose release handlers take until they may end."""

    def __init__(self, proc: ProcFS) -> None:
        self.handlers = Handlers()
        self.handlers.hold_up("release")
        self.entry = proc.create("x", self.handlers.ops("open", "release"))
        self.log = self.handlers.log

    async def end(self) -> None:
        self.handlers.let_go("release")
        await all_blocked()


class TestHandOff:
    """Closers and removers wait for each other's releases, and never run one twice."""

    async def test_a_closer_waits_for_the_removers_release(self) -> None:
        """
        A close of what the removal is just releasing returns when that is over.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            file = await proc.open("x")
            remover = await start(tg, slow.entry.remove)
            closer = await start(tg, file.aclose)
            assert (file.closed, closer.done, remover.done) == (True, False, False)
            await slow.end()
            assert (closer.done, remover.done) == (True, True)
            assert slow.log == ["open 1", "release 1", "release 1 goes on"]

    async def test_a_remover_waits_for_the_closers_release(self) -> None:
        """
        A removal that comes while a close is releasing ends after that, and calls nothing.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            file = await proc.open("x")
            closer = await start(tg, file.aclose)
            remover = await start(tg, slow.entry.remove)
            assert (closer.done, remover.done, proc.listdir()) == (False, False, [])
            assert state(slow.entry) == "releasing"
            await slow.end()
            assert (closer.done, remover.done) == (True, True)
            assert slow.log == ["open 1", "release 1", "release 1 goes on"]

    async def test_a_cancelled_closer_waits_all_the_same(self) -> None:
        """
        A closer cancelled while the removal releases returns when that is over, not before.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            file = await proc.open("x")
            await start(tg, slow.entry.remove)
            closer = await start(tg, file.aclose)
            closer.cancel()
            await all_blocked()
            assert not closer.done
            await slow.end()
            assert closer.done

    async def test_a_cancelled_closer_strands_no_remover(self) -> None:
        """
        A closer cancelled in its release finishes it, and the removal that waits for it ends.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            file = await proc.open("x")
            closer = await start(tg, file.aclose)
            remover = await start(tg, slow.entry.remove)
            closer.cancel()
            await all_blocked()
            assert (closer.done, remover.done) == (False, False)
            await slow.end()
            assert (closer.done, remover.done) == (True, True)

    async def test_a_cancelled_remover_strands_no_closer(self) -> None:
        """
        A remover cancelled in a release raises at once; the release goes on, and the closer waits.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            file = await proc.open("x")
            remover = await start(tg, slow.entry.remove)
            closer = await start(tg, file.aclose)
            remover.cancel()
            await all_blocked()
            assert (remover.cancelled, closer.done) == (True, False)
            await slow.end()
            assert (closer.done, state(slow.entry)) == (True, "gone")
            assert slow.log.count("release 1 goes on") == 1

    async def test_a_cancelled_remover_that_waits_for_a_closer(self) -> None:
        """
        A remover cancelled while a closer releases raises at once; the removal ends after that.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            other = await proc.open("x")
            file = await proc.open("x")
            await start(tg, file.aclose)
            remover = await start(tg, slow.entry.remove)
            remover.cancel()
            await all_blocked()
            assert (remover.cancelled, state(slow.entry)) == (True, "releasing")
            await slow.end()
            assert state(slow.entry) == "gone"
            assert slow.log[2:] == ["release 2", "release 2 goes on", "release 1"]
            await other.aclose()

    async def test_others_close_while_one_is_released(self) -> None:
        """
        While the removal is in one file's release, closers release the others themselves.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            slow = Slow(proc)
            files = [await proc.open("x") for _ in range(3)]
            remover = await start(tg, slow.entry.remove)
            gate = slow.handlers._gates.pop("release")  # pyright: ignore[reportPrivateUsage]
            assert slow.log[-1] == "release 3"
            await files[0].aclose()
            await files[1].aclose()
            assert (slow.log[-2:], remover.done) == (["release 1", "release 2"], False)
            gate.set()
            await all_blocked()
            assert remover.done
            assert sum(call.startswith("release") for call in slow.log) == 4  # one goes on

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
