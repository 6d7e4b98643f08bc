"""Opening: the open handler, and the calls that open, read or write, and close at once."""

from __future__ import annotations

import os
from errno import EACCES, EINVAL, EIO, EISDIR, ENOENT, EPERM
from typing import Any

import pytest
from anyio import CancelScope, create_task_group
from anyio.lowlevel import checkpoint

from aiopde import Credentials, File, HandlerError, ProcFile, ProcFS, ProcOps
from tests.helpers import (
    Handlers,
    Plain,
    all_blocked,
    answering,
    opened,
    refused,
    start,
    too_late,
    unchanged,
)


class TestOpenHandler:
    async def test_runs_before_the_file_is_there(self) -> None:
        """
        open is called with the new file, which is at position 0.
        """
        seen: list[tuple[str, int, int]] = []

        async def open_it(file: File) -> None:
            seen.append((file.entry.path, file.flags, file.pos))

        async with opened(ProcOps(open=open_it), os.O_RDONLY):
            assert seen == [("/proc/x", os.O_RDONLY, 0)]

    async def test_an_error_opens_nothing(self) -> None:
        """
        What it raises reaches the caller; nothing was opened, and nothing will be released.
        """
        handlers = Handlers()
        handlers.errors["open"] = PermissionError(EPERM, "no")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "release"))
            with refused(EPERM):
                await proc.open("x")
            assert (entry.in_use, entry.statistics().open_files) == (0, 0)
            await entry.remove()
            assert handlers.log == ["open 1"]

    async def test_cancelled_opens_nothing(self) -> None:
        """
        An open that is cancelled inside its handler opened nothing.
        """
        handlers = Handlers()
        handlers.hold_up("open")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "release"))
            opener = await start(tg, proc.open, "x")
            opener.cancel()
            await all_blocked()
            assert opener.cancelled
            assert (entry.in_use, entry.statistics().open_files) == (0, 0)
            await entry.remove()
            assert handlers.log == ["open 1"]

    async def test_success_is_not_lost(self) -> None:
        """
        Once the handler has succeeded the caller gets the file, cancelled meanwhile or not.
        """
        opened_files: list[ProcFile] = []
        with CancelScope() as scope:

            async def open_it(file: File) -> None:
                with CancelScope(shield=True):
                    await checkpoint()
                    scope.cancel()

            async with ProcFS() as proc:
                proc.create("x", ProcOps(open=open_it))
                opened_files.append(await proc.open("x"))
                await opened_files[0].aclose()
        assert [file.closed for file in opened_files] == [True]

    @pytest.mark.parametrize("answer", [None, 0])
    @pytest.mark.parametrize("plain", [False, True])
    async def test_success_is_none_or_zero(self, answer: Any, plain: bool) -> None:
        """
        open returns nothing; 0, the kernel's way to say so, will do.
        """
        ops = ProcOps(open=lambda file: answer) if plain else answering(open=answer)
        async with opened(ops) as file:
            assert not file.closed

    @pytest.mark.parametrize("answer", [1, -2, "ok", True, object()])
    @pytest.mark.parametrize("plain", [False, True])
    async def test_nonsense(self, answer: Any, plain: bool) -> None:
        """
        Anything else is EINVAL, naming the handler; nothing was opened.
        """
        ops = ProcOps(open=lambda file: answer) if plain else answering(open=answer)
        async with ProcFS() as proc:
            entry = proc.create("x", ops)
            with pytest.raises(HandlerError, match="it must return None") as caught:
                await proc.open("x")
            assert (caught.value.errno, caught.value.call) == (EINVAL, "open")
            assert (entry.in_use, entry.statistics().open_files) == (0, 0)

    async def test_two_opens_run_side_by_side(self) -> None:
        """
        An open that waits holds up no other open, nor a read.
        """
        handlers = Handlers()
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read"))
            file = await proc.open("x")
            handlers.hold_up("open")
            openers = [await start(tg, proc.open, "x") for _ in range(2)]
            assert entry.in_use == 2
            assert await file.read() == b"content"
            handlers.let_go("open")
            await all_blocked()
            for opener in openers:
                await opener.result.aclose()


class TestFlags:
    async def test_that_are_no_number(self) -> None:
        """
        The mode of Python's own open() is a TypeError that shows what is meant.
        """
        mode: Any = "r"
        async with ProcFS() as proc:
            proc.create("x", ProcOps())
            with pytest.raises(TypeError, match=r"as os\.O_RDWR, not 'r'"):
                await proc.open("x", mode)


class TestOneShot:
    async def test_read_bytes_reads_to_the_end(self) -> None:
        """
        It opens, reads until there is no more, and releases.
        """
        handlers = Handlers(b"content")

        class Slowly(Handlers):
            async def read(self, file: File, size: int, pos: int) -> bytes:
                return await super().read(file, 3, pos)

        for table in (handlers, Slowly(b"content")):
            async with ProcFS() as proc:
                entry = proc.create("x", table.ops("open", "read", "release"))
                assert await proc.read_bytes("x") == b"content"
                assert await proc.read_bytes(entry) == b"content"
                assert entry.in_use == 0
            assert (table.log[0], table.log[-1]) == ("open 1", "release 2")
            assert handlers.log.count("release 1") == 1

    async def test_read_of_nothing(self) -> None:
        """
        An empty file has no bytes.
        """
        async with ProcFS() as proc:
            proc.create("x", Handlers(b"").ops("read"))
            assert await proc.read_bytes("x") == b""

    @pytest.mark.parametrize("kind", [Handlers, Plain])
    async def test_read_text(self, kind: type[Handlers | Plain]) -> None:
        """
        read_text decodes UTF-8.
        """
        handlers = kind()
        handlers.content = "grüße\n".encode()
        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(handlers))
            assert await proc.read_text("x") == "grüße\n"

    async def test_write_bytes_writes_everything(self) -> None:
        """
        It opens, writes until all is taken, and releases.
        """

        class Slowly(Handlers):
            async def write(self, file: File, data: bytes, pos: int) -> int:
                return await super().write(file, data[:3], pos)

        handlers = Slowly(b"")
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "write", "release"))
            await proc.write_bytes("x", b"content")
            assert handlers.content == b"content"
            assert handlers.log == ["open 1", "write 1", "write 1", "write 1", "release 1"]
            await proc.write_bytes(entry, b"other")
            assert handlers.content == b"other"

    async def test_write_of_nothing(self) -> None:
        """
        Writing no bytes is one call of the handler with none.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("write"))
            await proc.write_bytes("x", b"")
            assert handlers.log == ["write None"]

    @pytest.mark.parametrize("kind", [Handlers, Plain])
    async def test_write_text(self, kind: type[Handlers | Plain]) -> None:
        """
        write_text encodes UTF-8.
        """
        handlers = kind()
        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(handlers))
            await proc.write_text("x", "grüße\n")
            assert handlers.content == "grüße\n".encode()

    async def test_text_for_write_bytes(self) -> None:
        """
        Text is refused with the cure, before anything is opened; so are bytes for write_text.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "write"))
            with pytest.raises(TypeError, match=r"use write_text\(\)"):
                await proc.write_bytes("x", "text")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=r"use write_bytes\(\)"):
                await proc.write_text("x", b"bytes")  # type: ignore[arg-type]
            assert handlers.log == []

    async def test_a_handler_that_takes_no_more(self) -> None:
        """
        If a handler leaves some of it, that is EIO, and the file is released.
        """

        class Full(Handlers):
            async def write(self, file: File, data: bytes, pos: int) -> int:
                return await super().write(file, data[: 4 - pos], pos)

        handlers = Full(b"")
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("write", "release"))
            with pytest.raises(OSError, match="left 3 bytes") as caught:
                await proc.write_bytes("x", b"content")
            assert caught.value.errno == EIO
            assert handlers.log[-1] == "release None"

    @pytest.mark.parametrize("call", ["read", "write"])
    async def test_without_a_handler(self, call: str) -> None:
        """
        What the file cannot do is EIO, as for an open file; it was opened and is released.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "release"))
            with refused(EIO):
                await (proc.read_bytes("x") if call == "read" else proc.write_bytes("x", b""))
            assert handlers.log == ["open 1", "release 1"]
            assert entry.in_use == 0

    @pytest.mark.parametrize("op", ["open", "read", "write", "release"])
    @pytest.mark.parametrize("exc", [PermissionError(EPERM, "no"), ZeroDivisionError()], ids=repr)
    async def test_an_error_of_any_handler(self, op: str, exc: Exception) -> None:
        """
        It reaches the caller; what was opened is released, and nobody is inside any more.
        """
        handlers = Handlers(b"")
        handlers.errors[op] = exc
        async with ProcFS() as proc:
            entry = proc.create("x", handlers.ops("open", "read", "write", "release"))
            with pytest.raises(type(exc)) as caught:
                await (proc.write_bytes("x", b"content") if op == "write" else proc.read_bytes("x"))
            assert caught.value is exc
            assert entry.in_use == 0
            assert ("release 1" in handlers.log) == (op != "open")

    @pytest.mark.parametrize("answer", [b"x" * 9, 8, None], ids=repr)
    async def test_nonsense(self, answer: Any) -> None:
        """
        The handlers' answers are checked here too.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", answering(write=answer, read=7))
            with pytest.raises(HandlerError):
                await proc.write_bytes("x", b"content")
            with pytest.raises(HandlerError):
                await proc.read_bytes("x")
            assert entry.in_use == 0

    async def test_is_whole(self) -> None:
        """
        A removal that begins meanwhile waits for all of it, the release included.
        """
        handlers = Handlers(b"content")
        handlers.hold_up("read")
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read", "release"))
            reader = await start(tg, proc.read_bytes, "x")
            remover = await start(tg, entry.remove)
            handlers.let_go("read")
            await all_blocked()
            assert (remover.done, entry.in_use) == (False, 1)
            handlers.let_go("release")
            await all_blocked()
            assert (reader.result, remover.done) == (b"content", True)
            assert handlers.log.count("release 1") == 1

    async def test_of_what_is_gone(self) -> None:
        """
        An entry whose removal has begun is ENOENT.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps.of(Handlers()))
            await entry.remove()
            with too_late("open", ENOENT):
                await proc.read_bytes(entry)
            with too_late("open", ENOENT):
                await proc.write_bytes(entry, b"")

    @pytest.mark.parametrize("held_up", ["open", "read"])
    async def test_cancelled_it_has_closed(self, held_up: str) -> None:
        """
        Cancelled, it is not inside any more, and has released what it opened.
        """
        handlers = Handlers()
        handlers.hold_up(held_up)
        async with ProcFS() as proc, create_task_group() as tg:
            entry = proc.create("x", handlers.ops("open", "read", "release"))
            reader = await start(tg, proc.read_bytes, "x")
            reader.cancel()
            await all_blocked()
            assert (reader.cancelled, entry.in_use) == (True, 0)
            assert ("release 1" in handlers.log) == (held_up == "read")
            await entry.remove()

    async def test_a_release_that_has_begun_is_not_cut_short(self) -> None:
        """
        Cancelled in the release handler, it waits for its end.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with ProcFS() as proc, create_task_group() as tg:
            proc.create("x", handlers.ops("read", "release"))
            reader = await start(tg, proc.read_bytes, "x")
            reader.cancel()
            await all_blocked()
            assert (reader.done, handlers.busy) == (False, True)
            handlers.let_go("release")
            await all_blocked()
            assert (reader.done, handlers.log[-1]) == (True, "release None goes on")

    async def test_of_directories(self) -> None:
        """
        A directory can be neither read nor written: EISDIR.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            for path in ("d", "", entry):
                with refused(EISDIR):
                    await proc.read_bytes(path)
                with refused(EISDIR):
                    await proc.write_bytes(path, b"")

    async def test_rights_and_paths(self) -> None:
        """
        Paths are walked and mode bits checked as for open; a symlink is followed.
        """
        stranger = Credentials(uid=7, gid=7)
        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(Handlers(b"content")), mode=0o640)
            link = proc.symlink("link", "x")
            assert await proc.read_bytes("link") == b"content"
            with unchanged(proc):
                with refused(EACCES):
                    await proc.read_text("x", cred=stranger)
                with refused(EACCES):
                    await proc.write_text("x", "text", cred=stranger)
                with refused(ENOENT):
                    await proc.read_bytes("nope")
                with pytest.raises(OSError):
                    await proc.read_bytes(link)
