"""The end of a descriptor: what a close releases, and what is left of it then."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, EIO
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import File, ProcFile, ProcFS, ProcOps
from tests.helpers import Handlers, Plain, all_blocked, answering, opened, refused, start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class TestDup:
    async def test_shares_the_position(self) -> None:
        """
        Duplicates have one position, one set of flags and one private_data.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            other = file.dup()
            assert await file.read(4) == b"cont"
            assert await other.read(4) == b"ent"
            assert other.file is file.file
            assert (file.tell(), other.flags) == (7, file.flags)

    async def test_the_last_close_releases(self) -> None:
        """
        One release for all duplicates, when the last one is closed.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "release"))
            files = [await proc.open("x")]
            files += [files[0].dup(), files[0].dup()]
            for file in files:
                assert handlers.log == ["open 1"]
                await file.aclose()
            assert handlers.log == ["open 1", "release 1"]

    async def test_each_is_closed_by_itself(self) -> None:
        """
        Closing one leaves the others open.
        """
        async with opened(Handlers(b"content").ops("read")) as file:
            other = file.dup()
            await file.aclose()
            assert (file.closed, other.closed) == (True, False)
            assert await other.read() == b"content"

    async def test_of_one_that_is_gone(self) -> None:
        """
        A dead file can be duplicated, and both are dead.
        """
        async with opened(Handlers().ops("read")) as file:
            await file.entry.remove()
            other = file.dup()
            with refused(EIO):
                await other.read()
            await other.aclose()

    async def test_of_directories(self) -> None:
        """
        A duplicate of a directory lists on where the other stopped.
        """
        async with ProcFS() as proc, await proc.open("") as file:
            other = file.dup()
            assert len(await file.getdents(1)) == len(await other.getdents(2)) == 1


class TestClose:
    async def test_at_the_end_of_a_block(self) -> None:
        """
        ``async with`` closes, also after an error.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            with pytest.raises(KeyError):
                async with file:
                    raise KeyError
            assert file.closed
            assert handlers.log == ["release None"]

    @pytest.mark.parametrize("fast", [False, True])
    async def test_twice_does_nothing(self, *, fast: bool) -> None:
        """
        Closing what is closed is no error, and releases nothing.
        """
        handlers = Handlers()
        async with ProcFS(fast_acquire=fast) as proc:
            proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            await file.aclose()
            await file.aclose()
            assert handlers.log == ["release None"]

    async def test_by_any_task(self) -> None:
        """
        A file belongs to no task: another one may use it and close it.
        """
        async with opened(Handlers(b"content").ops("read")) as file, create_task_group() as tg:
            assert (await start(tg, file.read)).result == b"content"
            await start(tg, file.aclose)
            assert file.closed

    async def test_closes_also_when_cancelled(self) -> None:
        """
        A cancelled close raises, and has closed; the release handler has run to its end.
        """
        handlers = Handlers()

        class Table:
            async def release(self, file: File) -> None:
                handlers.log.append("begun")
                await checkpoint()
                handlers.log.append("ended")

        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(Table()))
            file = await proc.open("x")
            with CancelScope() as scope:
                scope.cancel()
                await file.aclose()
            assert scope.cancelled_caught
            assert (file.closed, handlers.log) == (True, ["begun", "ended"])

    async def test_cancelled_in_the_release_waits_for_its_end(self) -> None:
        """
        A release handler that has begun is not cut short.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            async with create_task_group() as tg:
                closer = await start(tg, file.aclose)
                closer.cancel()
                await all_blocked()
                assert (closer.done, handlers.busy) == (False, True)
                handlers.let_go("release")
                await all_blocked()
                assert closer.done
            assert handlers.log == ["release None", "release None goes on"]

    async def test_an_error_of_the_release_handler(self) -> None:
        """
        It reaches who closes; the file is closed and released all the same.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EIO, "cannot")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("release"))
            file = await proc.open("x")
            with refused(EIO):
                await file.aclose()
            assert (file.closed, entry.statistics().open_files) == (True, 0)
            await entry.remove()
            assert handlers.log == ["release None"]

    @pytest.mark.parametrize("answer", [None, 7, OSError(EIO, "not raised")], ids=repr)
    async def test_what_the_release_handler_returns_is_ignored(self, answer: Any) -> None:
        """
        A release cannot be refused: its result is nobody's business, as in Linux.
        """
        async with opened(answering(release=answer)) as file:
            await file.aclose()
        async with opened(ProcOps(release=lambda file: answer)) as file:
            await file.aclose()

    async def test_releases_what_cannot_wait_without_a_shield(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A release handler without any await is run as it is.
        """
        released: list[File] = []

        async def release(file: File) -> None:
            released.append(file)

        async with ProcFS() as proc:
            entries = [
                proc.create("async", ProcOps(release=release)),
                proc.create("plain", ProcOps(release=released.append)),
            ]
            for entry in entries:
                file = await proc.open(entry)
                with monkeypatch.context() as patch:
                    patch.delattr(anyio, "CancelScope")
                    await file.aclose()
        assert len(released) == 2


CLOSED_CALLS: dict[str, Callable[[ProcFile], Awaitable[object]]] = {
    "read": lambda file: file.read(),
    "pread": lambda file: file.pread(1, 0),
    "readv": lambda file: file.readv([1]),
    "readv of nothing": lambda file: file.readv([]),
    "write": lambda file: file.write(b""),
    "pwrite": lambda file: file.pwrite(b"", 0),
    "lseek": lambda file: file.lseek(0),
    "poll": lambda file: file.poll(),
    "ioctl": lambda file: file.ioctl(3),
    "ioctl FIOCLEX": lambda file: file.ioctl(0x5451),
    "compat_ioctl": lambda file: file.compat_ioctl(3),
    "mmap": lambda file: file.mmap(1),
    "getdents": lambda file: file.getdents(),
}


BAD_ARGUMENTS: dict[str, Callable[[ProcFile], Awaitable[object]]] = {
    "pread": lambda file: file.pread(-1, 0),
    "pwrite": lambda file: file.pwrite(b"", -1),
    "lseek": lambda file: file.lseek(0, 99),
    "mmap": lambda file: file.mmap(0),
    "getdents": lambda file: file.getdents(0),
}


class TestClosed:
    @pytest.mark.parametrize("call", CLOSED_CALLS.values(), ids=list(CLOSED_CALLS))
    @pytest.mark.parametrize("path", ["file", "plain", "absent", "directory"])
    @pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_PATH])
    async def test_every_call_is_refused(
        self, call: Callable[[ProcFile], Awaitable[object]], path: str, flags: int
    ) -> None:
        """
        On a closed descriptor every call says EBADF, whatever it was open on.
        """
        async with ProcFS() as proc:
            proc.create("file", ProcOps.of(Handlers()))
            proc.create("plain", ProcOps.of(Plain()))
            proc.create("absent", ProcOps())
            proc.mkdir("directory")
            file = await proc.open(path, flags)
            await file.aclose()
            with refused(EBADF):
                await call(file)

    @pytest.mark.parametrize("call", BAD_ARGUMENTS.values(), ids=list(BAD_ARGUMENTS))
    @pytest.mark.parametrize("path", ["file", "directory"])
    async def test_whatever_the_arguments(
        self, call: Callable[[ProcFile], Awaitable[object]], path: str
    ) -> None:
        """
        Arguments that make no sense do not change that it is closed.
        """
        async with ProcFS() as proc:
            proc.create("file", ProcOps.of(Handlers()))
            proc.mkdir("directory")
            file = await proc.open(path)
            await file.aclose()
            with pytest.raises(OSError) as caught:
                await call(file)
            assert caught.value.errno in {EBADF, EINVAL}

    @pytest.mark.parametrize("name", ["entry", "file", "flags"])
    async def test_every_look_is_refused(self, name: str) -> None:
        """
        A closed descriptor has no entry, no file and no flags: EBADF.
        """
        async with opened() as file:
            await file.aclose()
            with refused(EBADF):
                getattr(file, name)

    @pytest.mark.parametrize(
        ("call", "args"),
        [
            ("tell", []),
            ("dup", []),
            ("stat", []),
            ("chmod", [0]),
            ("chown", [0, 0]),
            ("truncate", [0]),
            ("fsync", []),
        ],
        ids=str,
    )
    async def test_every_plain_call_is_refused(self, call: str, args: list[int]) -> None:
        """
        Nor has it attributes, or a duplicate: EBADF.
        """
        async with opened() as file:
            await file.aclose()
            with refused(EBADF):
                getattr(file, call)(*args)

    async def test_while_a_call_is_inside(self) -> None:
        """
        Who is inside when another task closes the descriptor ends as if nothing were.
        """
        handlers = Handlers(b"content")
        async with opened(handlers.ops("read")) as file, create_task_group() as tg:
            handlers.hold_up("read")
            reader = await start(tg, file.read)
            await file.aclose()
            with refused(EBADF):
                await file.read()
            handlers.let_go("read")
            await all_blocked()
            assert reader.result == b"content"
