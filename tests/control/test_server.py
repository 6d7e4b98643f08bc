"""The server: many requests, any input, clients that go away; on real sockets, on each loop."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import asynccontextmanager
from errno import EADDRINUSE, EAGAIN, EBADMSG, EIO, EMFILE, EMSGSIZE, EPERM
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group

from aiopde import Kernel, ModuleState, ProcFS, ProcOps
from aiopde.control import _place, _server, _stream, connect, default_socket, serve_control
from aiopde.control._server import MAX_IN_FLIGHT
from aiopde.control._stream import connect_to
from aiopde.control._wire import MAX_REQUEST
from tests.helpers import Call, Handlers, all_blocked, refused, start

from .conftest import until

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from aiopde.control import Client
    from aiopde.control._stream import Stream

    from .conftest import Serve


class Raw:
    """A client that sends whatever it likes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""
        self.send_eof = stream.send_eof

    async def send(self, *messages: dict[str, Any] | bytes) -> None:
        lines = [m if isinstance(m, bytes) else json.dumps(m).encode() + b"\n" for m in messages]
        await self._stream.send(b"".join(lines))

    async def receive(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = await self._stream.receive()
            if not data:
                raise EOFError
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply


@asynccontextmanager
async def raw(path: str) -> AsyncGenerator[Raw]:
    async with await connect_to(path) as stream:
        yield Raw(stream)


def count_tasks(*names: str) -> int:
    tasks = [task.name or "" for task in anyio.get_running_tasks()]
    return sum(any(name in task for name in names) for task in tasks)


BAD: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"lsmod\n", EBADMSG),
    "empty": (b"\n", EBADMSG),
    "a list": (b"[1, 2]\n", EBADMSG),
    "bytes": (bytes(range(11, 256)) + b"\n", EBADMSG),
    "deep": (b"[" * 200_000 + b"\n", EBADMSG),
    "no method": (b'{"params": {}}\n', EBADMSG),
    "wrong params": (b'{"method": "ps", "params": 3}\n', EBADMSG),
    "long": (b"x" * (MAX_REQUEST + 1) + b"\n", EMSGSIZE),
    "very long": (b"x" * (3 * MAX_REQUEST) + b"\n", EMSGSIZE),
}


class TestInput:
    @pytest.mark.parametrize(("line", "errno"), BAD.values(), ids=list(BAD))
    async def test_what_is_no_request(self, serve: Serve, line: bytes, errno: int) -> None:
        """
        It is answered with an error, and the connection and all others go on.
        """
        async with serve() as served, raw(served.path) as client:
            async with create_task_group() as tg:
                tg.start_soon(client.send, line, {"id": 2, "method": "lsmod"})
                error = await client.receive()
                assert (error["id"], error["error"]["errno"]) == (None, errno)
                assert await client.receive() == {"id": 2, "result": []}
            assert await served.ask("lsmod") == []

    async def test_the_id_comes_back_with_an_error(self, serve: Serve) -> None:
        """
        An error of a request that has an id is told with it.
        """
        async with serve() as served, raw(served.path) as client:
            await client.send({"id": "a", "method": 3}, {"id": 7, "method": "nonsense"})
            assert (await client.receive())["id"] == "a"
            assert (await client.receive())["id"] == 7

    async def test_without_an_id(self, serve: Serve) -> None:
        """
        Who asks one thing only needs no id.
        """
        async with serve() as served, raw(served.path) as client:
            await client.send({"method": "lsmod"})
            assert await client.receive() == {"id": None, "result": []}

    async def test_in_pieces(self, serve: Serve) -> None:
        """
        A request may arrive byte by byte.
        """
        async with serve() as served, raw(served.path) as client:
            for byte in b'{"id": 1, "method": "lsmod"}\n':
                await client.send(bytes([byte]))
            assert await client.receive() == {"id": 1, "result": []}

    async def test_a_client_that_says_nothing(self, serve: Serve) -> None:
        """
        Who connects and goes, or stops in the middle of a line, disturbs nobody.
        """
        async with serve() as served:
            for data in (b"", b'{"id": 1, "met'):
                async with raw(served.path) as client:
                    await client.send(data)
            assert await served.ask("lsmod") == []


class TestManyAtOnce:
    async def test_requests_run_beside_each_other(self, serve: Serve) -> None:
        """
        One that waits holds up none; replies come in the order in which they are ready.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, raw(served.path) as client:
            served.proc.create("x", handlers.ops("read"))
            await client.send({"id": 1, "method": "open", "params": {"path": "x"}})
            file = (await client.receive())["result"]["file"]
            await client.send({"id": 2, "method": "read", "params": {"file": file}})
            await client.send({"id": 3, "method": "lsmod"})
            assert (await client.receive())["id"] == 3
            handlers.let_go("read")
            assert (await client.receive())["id"] == 2

    async def test_long_replies_do_not_mix(self, serve: Serve) -> None:
        """
        Two replies that a socket cannot take at once come one after the other.
        """
        async with serve() as served, raw(served.path) as client:
            for number in range(3000):
                served.proc.create(f"entry{number}", ProcOps())
            await client.send({"id": 1, "method": "tree"}, {"id": 2, "method": "tree"})
            await all_blocked()
            assert {(await client.receive())["id"] for _ in range(2)} == {1, 2}

    async def test_not_too_many(self, serve: Serve) -> None:
        """
        Over the limit a request is refused, and those that run go on.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, raw(served.path) as client:
            served.proc.create("x", handlers.ops("read"))
            await client.send({"id": 0, "method": "open", "params": {"path": "x"}})
            file = (await client.receive())["result"]["file"]
            params = {"file": file, "offset": 0}
            for number in range(MAX_IN_FLIGHT):
                await client.send({"id": number, "method": "read", "params": params})
            await client.send({"id": "more", "method": "lsmod"})
            refusal = await client.receive()
            assert (refusal["id"], refusal["error"]["errno"]) == ("more", EAGAIN)
            handlers.let_go("read")
            ids = {(await client.receive())["id"] for _ in range(MAX_IN_FLIGHT)}
            assert ids == set(range(MAX_IN_FLIGHT))

    async def test_rmmod_waits_while_others_ask_why(self, serve: Serve) -> None:
        """
        The real thing: rmmod of one client waits for a read of another; a third asks who it is.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def driver(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("x", handlers.ops("read")):
                yield

        async with (
            serve() as served,
            await connect(served.path) as reader,
            await connect(served.path) as remover,
            create_task_group() as tg,
        ):
            await served.kernel.insmod(driver)
            file = (await reader.ask("open", path="x"))["file"]
            read = await start(tg, reader.ask, "read", file=file)
            rmmod = await start(tg, remover.ask, "rmmod", name="driver")
            assert await served.ask("lsmod") != []
            (why,) = await served.ask("why", name="driver")
            (ps,) = await served.ask("ps")
            assert why["holders"][0]["task"] == ps["task"] == f"control pid {os.getpid()}"
            handlers.let_go("read")
            await until(lambda: read.done)
            await until(lambda: rmmod.done)
            assert read.result
            assert rmmod.result["name"] == "driver"
            with refused(EIO):
                await reader.ask("read", file=file)

    async def test_a_grace_that_ends(self, serve: Serve) -> None:
        """
        Who is inside arrives with the error; the unload goes on.
        """
        from aiopde import RemovalTimeoutError

        handlers = Handlers()
        handlers.hold_up("read")

        async def driver(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("x", handlers.ops("read")):
                yield

        async with serve() as served, create_task_group() as tg:
            module = await served.kernel.insmod(driver)
            await start(tg, served.proc.read_bytes, "x")
            with pytest.raises(RemovalTimeoutError) as caught:
                await served.ask("rmmod", name="driver", grace=0)
            assert [holder.path for holder in caught.value.holders] == ["/proc/x"]
            assert module.state is ModuleState.GOING
            handlers.let_go("read")
            await module.wait_gone()


class TestGoingAway:
    async def test_a_read_is_taken_back(self, serve: Serve) -> None:
        """
        The call of a client that hangs up is cancelled and leaves; its files are closed.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            entry = served.proc.create("x", handlers.ops("open", "read", "release"))
            client = await connect(served.path)
            file = (await client.ask("open", path="x"))["file"]
            read = await start(tg, client.ask, "read", file=file)
            assert entry.in_use == 1
            read.cancel()
            await client.aclose()
            await until(lambda: not entry.in_use)
            await until(lambda: not entry._open_files)
            assert handlers.log[-1] == "release 1"

    async def test_an_unload_goes_on(self, serve: Serve) -> None:
        """
        Who asked for it may go: what began to go never comes back, and ends without him.
        """
        handlers = Handlers()
        handlers.hold_up("read")

        async def driver(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("x", handlers.ops("read")):
                yield

        async with serve() as served, create_task_group() as tg:
            module = await served.kernel.insmod(driver)
            await start(tg, served.proc.read_bytes, "x")
            client = await connect(served.path)
            rmmod = await start(tg, client.ask, "rmmod", name="driver")
            rmmod.cancel()
            await client.aclose()
            assert [told["name"] for told in await served.ask("why", name="driver")] == ["driver"]
            handlers.let_go("read")
            await module.wait_gone()

    async def test_an_init_is_undone(self, serve: Serve, tmp_path: Path) -> None:
        """
        Who hangs up during insmod has not loaded anything.
        """
        source = (
            "import anyio\nasync def module_main(kernel):\n"
            "    kernel.proc.mkdir('half')\n    await anyio.sleep_forever()\n    yield\n"
        )
        (tmp_path / "slow.py").write_text(source)
        async with serve() as served, create_task_group() as tg:
            client = await connect(served.path)
            program = str(tmp_path / "slow.py")
            insmod = await start(tg, client.ask, "insmod", program=program)
            assert served.proc.listdir() == ["half", "modules"]
            insmod.cancel()
            await client.aclose()
            await until(lambda: served.kernel.find_module("slow") is None)
            assert served.proc.listdir() == ["modules"]

    async def test_who_only_sends_no_more_gets_his_reply(self, serve: Serve) -> None:
        """
        As after `echo ... | socat`: the end of the requests is not the end of the client.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, raw(served.path) as client:
            served.proc.create("x", handlers.ops("read"))
            await client.send({"id": 1, "method": "open", "params": {"path": "x"}})
            file = (await client.receive())["result"]["file"]
            await client.send({"id": 2, "method": "read", "params": {"file": file}})
            client.send_eof()
            await all_blocked()
            handlers.let_go("read")
            assert (await client.receive())["id"] == 2
            with pytest.raises(EOFError):
                await client.receive()

    async def test_also_if_it_takes_no_time(self, serve: Serve) -> None:
        """
        A reply that was ready when the end of the requests came is sent.
        """
        async with serve() as served:
            for _ in range(20):
                async with raw(served.path) as client:
                    await client.send({"id": 1, "method": "lsmod"}, {"id": 2, "method": "tree"})
                    client.send_eof()
                    assert {(await client.receive())["id"] for _ in range(2)} == {1, 2}

    async def test_and_when_he_goes_it_is_taken_back(self, serve: Serve) -> None:
        """
        Also who had sent his last request before is seen to hang up.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served:
            entry = served.proc.create("x", handlers.ops("read"))
            async with raw(served.path) as client:
                await client.send({"id": 1, "method": "open", "params": {"path": "x"}})
                file = (await client.receive())["result"]["file"]
                await client.send({"id": 2, "method": "read", "params": {"file": file}})
                client.send_eof()
                await all_blocked()
                assert entry.in_use == 1
            await until(lambda: not entry.in_use)

    async def test_at_any_step(self, serve: Serve) -> None:
        """
        A client that hangs up after any number of steps leaves nothing: no call, file or task.
        """
        handlers = Handlers()

        async def driver(kernel: Kernel) -> AsyncIterator[None]:
            async with kernel.proc.create("x", handlers.ops("open", "read", "release")):
                yield

        async def use(path: str) -> None:
            async with await connect(path) as client:
                await client.ask("modprobe", name="driver")
                file = (await client.ask("open", path="x"))["file"]
                await client.ask("read", file=file)
                await client.ask("rmmod", name="driver")

        async with serve(modules={"driver": driver}) as served:
            await served.ask("lsmod")
            tasks, files = len(anyio.get_running_tasks()), len(os.listdir("/proc/self/fd"))
            for steps in range(80):
                async with create_task_group() as tg:
                    tg.start_soon(use, served.path)
                    for _ in range(steps):
                        await anyio.lowlevel.checkpoint()
                    tg.cancel_scope.cancel()
                await until(lambda: len(os.listdir("/proc/self/fd")) == files)
                await until(lambda: count_tasks("_serve", "control pid") == 1)
                # What was asked for last may have been done.
                module = served.kernel.find_module("driver")
                if module is not None and module.state is ModuleState.LIVE:
                    await served.kernel.rmmod("driver")
                await until(lambda: len(anyio.get_running_tasks()) == tasks)
            opened = sum(line.startswith("open") for line in handlers.log)
            released = sum(line.startswith("release") for line in handlers.log)
            assert opened == released

    async def test_before_the_reply(self, serve: Serve) -> None:
        """
        A reply that nobody takes is dropped.
        """
        async with serve() as served:
            for _ in range(5):
                async with raw(served.path) as client:
                    await client.send({"id": 1, "method": "tree"}, b"nonsense\n")
            assert await served.ask("lsmod") == []

    async def test_a_release_that_raises_is_logged(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        """
        When files are closed for who has gone, nobody else could be told.
        """
        handlers = Handlers()
        handlers.errors["release"] = ValueError("in release")
        async with serve() as served:
            entry = served.proc.create("x", handlers.ops("release"))
            async with await connect(served.path) as client:
                for _ in range(2):
                    await client.ask("open", path="x")
            await until(lambda: not entry._open_files)
            await until(lambda: "release handlers failed" in caplog.text)
            assert caplog.text.count("ValueError: in release") == 2
            assert await served.ask("lsmod") == []


class TestWhoMayConnect:
    async def test_a_stranger_is_told_so(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Another user's process gets one line, and no more.
        """
        async with serve() as served:
            await served.ask("lsmod")
            monkeypatch.setattr(_server, "peer_of", a_stranger)
            async with await connect(served.path) as client:
                with refused(EPERM) as caught:
                    await client.ask("lsmod")
                assert "not 4711" in str(caught.value)
                with refused(EIO):
                    await client.ask("lsmod")
            monkeypatch.undo()
            assert await served.ask("lsmod") == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
    @pytest.mark.parametrize("mode", [0o600, 0o666])
    async def test_a_real_one(self, mode: int) -> None:
        """
        The mode of the socket keeps another user out; if it did not, the server would.
        """
        told: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # noqa: S103  so that the stranger gets as far as that
            async with create_task_group() as tg, Kernel() as kernel:
                path = await tg.start(serve_control, kernel, f"{folder}/s")
                os.chmod(path, mode)
                done = await anyio.run_process([sys.executable, "-c", STRANGER, path])
                told.append(done.stdout.decode())
                tg.cancel_scope.cancel()
        assert ("PermissionError" if mode == 0o600 else "answers user 0, not 65534") in told[0]


def a_stranger(connection: socket.socket) -> _place.Peer:
    return _place.peer_of(connection)._replace(uid=4711)


STRANGER = """
import os, socket, sys
os.setgid(65534)
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
try:
    client.connect(sys.argv[1])
    print(client.recv(1000).decode())
except PermissionError as exc:
    print(repr(exc))
"""


class TestItself:
    async def test_at_the_default_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Without a path, server and client meet in the user's private folder.
        """
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        async with create_task_group() as tg, Kernel() as kernel:
            path = await tg.start(serve_control, kernel)
            assert path == default_socket()
            async with await connect() as client:
                assert await client.ask("lsmod") == []
            tg.cancel_scope.cancel()
        assert os.listdir(tmp_path / "aiopde") == []

    async def test_of_a_tree_without_a_kernel(self, tmp_path: Path) -> None:
        """
        A tree is no kernel: that is said before there is a socket.
        """
        async with ProcFS() as proc:
            tree: Any = proc
            with pytest.raises(TypeError, match="wants a Kernel, not <ProcFS"):
                await serve_control(tree, tmp_path / "s")
        assert os.listdir(tmp_path) == []

    async def test_two_at_one_place(self, serve: Serve) -> None:
        """
        The second is refused, and the first goes on.
        """
        async with serve() as served, Kernel() as other:
            with refused(EADDRINUSE):
                await serve_control(other, served.path)
            assert await served.ask("lsmod") == []

    async def test_its_end(self, tmp_path: Path) -> None:
        """
        Cancelled, it takes the calls of its clients back, closes their files, and hangs up.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as outer:
            entry = kernel.proc.create("x", handlers.ops("read", "release"))
            clients: list[Client] = []
            reads: list[Call[Any]] = []
            async with create_task_group() as tg:
                path = await tg.start(serve_control, kernel, tmp_path / "s")
                clients.append(client := await connect(path))
                file, _ = [(await client.ask("open", path="x"))["file"] for _ in range(2)]
                reads.append(await start(outer, client.ask, "read", file=file))
                tg.cancel_scope.cancel()
            assert (entry.in_use, entry.statistics().open_files) == (0, 0)
            await until(lambda: reads[0].done)
            assert isinstance(reads[0].error, OSError)
            assert "has gone" in str(reads[0].error)
            await clients[0].aclose()

    async def test_while_the_kernel_is_left(self, tmp_path: Path) -> None:
        """
        Around the kernel, it tells also then what that waits for.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        kernel, leave = Kernel(), anyio.Event()

        async def live() -> None:
            async with kernel:
                await leave.wait()

        async with create_task_group() as tg:
            await start(tg, live)
            path = await tg.start(serve_control, kernel, tmp_path / "s")
            kernel.proc.create("x", handlers.ops("read"))
            await start(tg, kernel.proc.read_bytes, "x")
            leave.set()
            await all_blocked()
            async with await connect(path) as client:
                (told,) = await client.ask("why", name="x")
                assert (told["name"], len(told["holders"])) == ("/proc", 1)
            handlers.let_go("read")
            await all_blocked()
            tg.cancel_scope.cancel()

    async def test_a_reply_too_long(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        What would fill the client's memory is an error that says so.
        """
        async with serve() as served:
            monkeypatch.setattr(_server, "MAX_REPLY", 300)
            with refused(EMSGSIZE):
                await served.ask("tree")
            assert await served.ask("lsmod") == []

    async def test_no_more_descriptors(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """
        When nobody can be taken in it is logged and tried again; who is connected goes on.
        """
        fails = iter([True])

        async with serve() as served:
            accept = _stream.accept

            async def accept_or_fail(listener: socket.socket) -> Stream:
                if next(fails, False):
                    raise OSError(EMFILE, "Too many open files")
                return await accept(listener)

            monkeypatch.setattr(_server, "accept", accept_or_fail)
            async with await connect(served.path), await connect(served.path) as client:
                assert await client.ask("lsmod") == []
            assert "takes nobody in" in caplog.text
