"""The client: finds its kernel, asks in turn, and says what is wrong when there is none."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from errno import EACCES, EBADMSG, ECONNREFUSED, EIO, ENAMETOOLONG, ENOENT, ENOTSOCK, EPERM
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group

from aiopde.control import _stream, connect
from aiopde.control._place import listen
from tests.helpers import Handlers, all_blocked, refused, start

from .conftest import until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from .conftest import Serve


@contextmanager
def refused_kindly(errno: int) -> Generator[None]:
    """The block ends with an error that tells how to start a kernel."""
    with refused(errno) as caught:
        yield
    assert "no kernel is running there: start one with 'aiopde run'" in str(caught.value)


def make_file(path: Path) -> str:
    path.write_text("")
    return str(path)


class TestConnecting:
    async def test_nothing_there(self, tmp_path: Path) -> None:
        """
        Without a socket one is told how to start a kernel.
        """
        with refused_kindly(ENOENT):
            await connect(tmp_path / "s")

    async def test_nobody_there(self, tmp_path: Path) -> None:
        """
        Nor does a socket alone make a kernel.
        """
        listen(str(tmp_path / "s")).close()
        with refused_kindly(ECONNREFUSED):
            await connect(tmp_path / "s")

    @pytest.mark.parametrize(("path", "errno"), [("", ENOENT), ("x" * 200, ENAMETOOLONG)])
    async def test_no_path_of_a_socket(self, path: str, errno: int) -> None:
        """
        Of what is no path of a socket, the error says which it was.
        """
        with refused(errno) as caught:
            await connect(path)
        assert caught.value.filename == path

    async def test_no_socket(self, tmp_path: Path) -> None:
        """
        Nor a file; which error that is, the operating system says.
        """
        path = make_file(tmp_path / "s")
        with pytest.raises(OSError, match="no kernel is running there") as caught:
            await connect(path)
        assert caught.value.errno in {ECONNREFUSED, ENOTSOCK}

    async def test_not_allowed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Another error is the operating system's own.
        """

        class Forbidding(socket.socket):
            def connect(self, path: object, /) -> None:
                raise PermissionError(EACCES, "Permission denied")

        monkeypatch.setattr(socket, "socket", Forbidding)
        with refused(EACCES):
            await connect("/somewhere")

    async def test_nothing_at_the_default_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If the folder of the default socket is not even there, no kernel is.
        """
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        with refused_kindly(ENOENT):
            await connect()

    async def test_a_place_that_anybody_can_take(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Where somebody else could have put a socket, nobody connects.
        """
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        os.mkdir(tmp_path / "aiopde")
        os.chmod(tmp_path / "aiopde", 0o777)  # noqa: S103  that is the mistake
        with refused(EPERM):
            await connect()

    async def test_a_kernel_that_is_busy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Where many wait to be let in, the client waits too; cancelled, it has gone.
        """
        path = str(tmp_path / "s")
        waits = anyio.Event()
        sleep = anyio.sleep

        async def sleep_visibly(seconds: float) -> None:
            waits.set()
            await sleep(seconds)

        monkeypatch.setattr(anyio, "sleep", sleep_visibly)
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(path)
            busy.listen(0)
            async with create_task_group() as tg, await connect(path) as first:
                late = await start(tg, connect, path)
                await waits.wait()
                cancelled = await start(tg, connect, path)
                cancelled.cancel()
                busy.accept()[0].close()
                await until(lambda: late.done)
                await late.result.aclose()
                with refused(EIO):
                    await first.ask("lsmod")


class TestAsking:
    async def test_in_turn(self, serve: Serve) -> None:
        """
        Two tasks may ask one client: the second waits, and each gets its own reply.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            served.proc.create("x", handlers.ops("read"))
            file = (await served.ask("open", path="x"))["file"]
            read = await start(tg, served.ask, "read", file=file)
            lsmod = await start(tg, served.ask, "lsmod")
            assert (read.done, lsmod.done) == (False, False)
            handlers.let_go("read")
            await until(lambda: lsmod.done)
            assert read.result["data"]
            assert lsmod.result == []

    async def test_after_one_that_was_cancelled(self, serve: Serve) -> None:
        """
        The reply to a request that nobody waits for any more is skipped.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            served.proc.create("x", handlers.ops("read"))
            file = (await served.ask("open", path="x"))["file"]
            read = await start(tg, served.ask, "read", file=file)
            read.cancel()
            handlers.let_go("read")
            await all_blocked()
            assert await served.ask("lsmod") == []

    async def test_a_long_request_and_a_long_reply(self, serve: Serve) -> None:
        """
        Messages longer than what a socket takes at once arrive whole, both ways.
        """
        name = "x" * 500_000
        async with serve() as served:
            with pytest.raises(OSError, match="no such module") as caught:
                await served.ask("modinfo", name=name)
            assert caught.value.filename == name

    async def test_the_kernel_goes(self, tmp_path: Path) -> None:
        """
        A kernel that ends before it answers is an error, now and for every later request.
        """
        path = str(tmp_path / "s")
        with listen(path) as listener:
            async with await connect(path) as client:
                listener.accept()[0].close()
                for _ in range(2):
                    with refused(EIO) as caught:
                        await client.ask("lsmod")
                    assert "has gone before it answered" in str(caught.value)

    @pytest.mark.parametrize("reply", [b"nonsense\n", b"x" * (17 << 20)], ids=["short", "long"])
    async def test_what_is_no_kernel(self, reply: bytes, tmp_path: Path) -> None:
        """
        Who answers with something else is no kernel, and cannot fill the client's memory.
        """
        path = str(tmp_path / "s")
        with listen(path) as listener:
            async with (
                await connect(path) as client,
                await _stream.accept(listener) as server,
                create_task_group() as tg,
            ):
                tg.start_soon(server.send, reply)
                with refused(EBADMSG):
                    await client.ask("lsmod")
                tg.cancel_scope.cancel()
