"""What can be asked for, and what comes back; asked over a real socket, on each loop."""

from __future__ import annotations

import base64
import os
import select
from errno import (
    EBADF,
    EBUSY,
    EEXIST,
    EINVAL,
    EIO,
    EMFILE,
    ENOENT,
    ENOSYS,
    ENOTDIR,
    EWOULDBLOCK,
)
from typing import TYPE_CHECKING, Any

import pytest
from anyio import create_task_group

from aiopde import File, Kernel, ProcOps, WaitQueue, depends, this_module
from aiopde.control import RemoteError
from aiopde.control._methods import MAX_FILES, MAX_READ, METHODS
from tests.helpers import Handlers, all_blocked, refused, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .conftest import Serve, Served

GREETER = '''
from aiopde import ProcOps

async def module_main(kernel, greeting="hello"):
    """Say hello."""
    async def read(file, size, pos):
        return str(greeting).encode()[pos:pos + size]
    async with kernel.proc.create("greeter", ProcOps(read=read)):
        yield
'''


@pytest.fixture
def greeter(tmp_path: Path) -> Path:
    """A module in a file."""
    file = tmp_path / "greeter.py"
    file.write_text(GREETER)
    return file


def rewrite(file: Path, source: str) -> None:
    file.write_text(source)


def decoded(told: dict[str, str]) -> bytes:
    return base64.b64decode(told["data"])


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def read_file(served: Served, path: str) -> bytes:
    file = (await served.ask("open", path=path))["file"]
    data = decoded(await served.ask("read", file=file))
    await served.ask("close", file=file)
    return data


WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "missing": ("modinfo", {}),
    "unknown": ("lsmod", {"all": True}),
    "private": ("call", {"method": "lsmod", "params": {}}),
    "number for a name": ("modinfo", {"name": 3}),
    "null for a name": ("modinfo", {"name": None}),
    "list for a path": ("ls", {"path": ["a"]}),
    "text for a number": ("read", {"file": "3"}),
    "bool for a number": ("read", {"file": True}),
    "bool for seconds": ("rmmod", {"name": "x", "grace": True}),
    "text for seconds": ("rmmod", {"name": "x", "grace": "1"}),
    "negative seconds": ("rmmod", {"name": "x", "grace": -1}),
    "number for a bool": ("rmmod", {"name": "x", "force": 1}),
    "text for params": ("insmod", {"program": "./x.py", "params": "a=1"}),
    "fraction for a size": ("tree", {"limit": 1.5}),
    "no limit": ("tree", {"limit": 0}),
    "self": ("ps", {"self": 1}),
}


class TestParameters:
    @pytest.mark.parametrize(("method", "params"), WRONG.values(), ids=list(WRONG))
    async def test_wrong_ones(self, serve: Serve, method: str, params: dict[str, Any]) -> None:
        """
        Whatever a client passes, it is told what is wrong, and the kernel goes on.
        """
        async with serve() as served:
            with refused(ENOSYS if method not in METHODS else EINVAL) as caught:
                await served.ask(method, **params)
            assert caught.value.strerror
            assert await served.ask("lsmod") == []

    async def test_an_unknown_method_is_told_what_there_is(self, serve: Serve) -> None:
        """
        The error lists the methods.
        """
        async with serve() as served:
            with refused(ENOSYS) as caught:
                await served.ask("lsmood")
            assert "lsmod, modinfo" in str(caught.value)


class TestModules:
    async def test_from_load_to_unload(self, serve: Serve, greeter: Path) -> None:
        """
        A module in a file is loaded with parameters, described, reloaded, and unloaded.
        """
        async with serve(module_path=[greeter.parent]) as served:
            told = await served.ask("insmod", program=str(greeter), params={"greeting": "hi"})
            assert (told["name"], told["state"], told["refcnt"]) == ("greeter", "Live", 0)
            assert await served.ask("lsmod") == [told]
            assert await read_file(served, "greeter") == b"hi"

            more = await served.ask("modinfo", name="greeter")
            assert more["filename"] == str(greeter)
            assert more["description"] == "Say hello."
            assert more["params"] == {"greeting": "'hi'"}
            assert more["entries"] == ["/proc/greeter"]
            assert more["depends"] == []

            await served.ask("reload", name="greeter", params={"greeting": 5})
            assert await read_file(served, "greeter") == b"5"
            gone = await served.ask("rmmod", name="greeter", grace=5)
            assert gone["name"] == "greeter"
            assert gone["seconds"] >= 0
            assert await served.ask("lsmod") == []
            assert (await served.ask("modprobe", name="greeter"))["name"] == "greeter"

    async def test_under_another_name(self, serve: Serve, greeter: Path) -> None:
        """
        A module is called as is asked for; a second one of the name is refused.
        """
        async with serve() as served:
            await served.ask("insmod", program=str(greeter), name="hello")
            with refused(EEXIST):
                await served.ask("insmod", program=str(greeter), name="hello")

    async def test_what_refuses(self, serve: Serve) -> None:
        """
        The errors are those of the kernel, with errno and words.
        """
        async with serve() as served:
            for method, params, errno in (
                ("modinfo", {"name": "x"}, ENOENT),
                ("rmmod", {"name": "x"}, ENOENT),
                ("modprobe", {"name": "x"}, ENOENT),
                ("reload", {"name": "x"}, ENOENT),
                ("insmod", {"program": "/does/not/exist.py"}, ENOENT),
            ):
                with refused(errno):
                    await served.ask(method, **params)

    async def test_an_init_that_raises(self, serve: Serve, greeter: Path) -> None:
        """
        The caller is told what was raised, and on which line of the module; nothing is loaded.
        """
        rewrite(greeter, "async def module_main(kernel):\n    yield 1 / 0\n")
        async with serve() as served:
            with pytest.raises(RemoteError) as caught:
                await served.ask("insmod", program=str(greeter))
            assert caught.value.kind == "ZeroDivisionError"
            assert caught.value.where == f"{greeter}:2 in module_main"
            assert await served.ask("lsmod") == []

    @pytest.mark.parametrize(
        ("source", "kind"),
        [("def module_main(:", "SyntaxError"), ("import nothing_there", "ModuleNotFoundError")],
    )
    async def test_a_file_that_is_wrong(
        self, serve: Serve, greeter: Path, source: str, kind: str
    ) -> None:
        """
        A file that cannot even be read as Python says so.
        """
        rewrite(greeter, source)
        async with serve() as served:
            with pytest.raises(RemoteError) as caught:
                await served.ask("insmod", program=str(greeter))
            assert caught.value.kind == kind
            assert caught.value.where in {"", f"{greeter}:1 in <module>"}

    async def test_parameters_that_the_module_does_not_take(
        self, serve: Serve, greeter: Path
    ) -> None:
        """
        Python's own message names the parameter.
        """
        async with serve() as served:
            with pytest.raises(RemoteError, match="volume"):
                await served.ask("insmod", program=str(greeter), params={"volume": 11})

    async def test_force(self, serve: Serve) -> None:
        """
        A module without an exit goes by force only.
        """

        async def forever(kernel: Kernel) -> None:
            """No exit."""

        async with serve() as served:
            await served.kernel.insmod(forever)
            assert (await served.ask("lsmod"))[0]["permanent"]
            with refused(EBUSY):
                await served.ask("rmmod", name="forever")
            await served.ask("rmmod", name="forever", force=True)

    async def test_dependencies(self, serve: Serve) -> None:
        """
        Who uses whom is told from both ends.
        """

        async def bus(kernel: Kernel) -> AsyncIterator[None]:
            yield

        @depends("bus")
        async def driver(kernel: Kernel) -> AsyncIterator[None]:
            yield

        async with serve(modules={"bus": bus, "driver": driver}) as served:
            await served.ask("modprobe", name="driver")
            assert (await served.ask("modinfo", name="driver"))["depends"] == ["bus"]
            told = await served.ask("modinfo", name="bus")
            assert told["used_by"] == ["driver"]
            assert "a function" in told["filename"]
            with refused(EWOULDBLOCK):
                await served.ask("rmmod", name="bus")

    async def test_an_exit_that_raises(self, serve: Serve) -> None:
        """
        The module is gone, and its error arrives as the group that rmmod() raises.
        """

        async def clumsy(kernel: Kernel) -> AsyncIterator[None]:
            yield
            msg = "in exit"
            raise ValueError(msg)

        async with serve() as served:
            await served.kernel.insmod(clumsy)
            with pytest.RaisesGroup(pytest.RaisesExc(RemoteError, match="ValueError: in exit")):
                await served.ask("rmmod", name="clumsy")
            assert await served.ask("lsmod") == []

    async def test_info(self, serve: Serve) -> None:
        """
        Who it is, since when, and how many tasks of modules have failed.
        """

        async def oopsing(kernel: Kernel) -> AsyncIterator[None]:
            async def fail() -> None:
                raise KeyError

            this_module().start_soon(fail)
            yield

        async with serve(mountpoint="/sys") as served:
            info = await served.ask("info")
            assert (info["pid"], info["mountpoint"], info["oopses"]) == (os.getpid(), "/sys", 0)
            assert info["seconds"] >= 0
            await served.kernel.insmod(oopsing)
            await all_blocked()
            assert (await served.ask("info"))["oopses"] == 1
            with pytest.RaisesGroup(RemoteError):
                await served.ask("rmmod", name="oopsing")

    async def test_a_module_that_is_still_loading(self, serve: Serve, tmp_path: Path) -> None:
        """
        modinfo tells of a module whose code was not read yet, or is gone, what it knows.
        """
        async with serve() as served:

            async def bare(kernel: Kernel) -> AsyncIterator[None]:
                """Describe itself."""
                yield

            module = await served.kernel.insmod(bare)
            module._text = None
            told = await served.ask("modinfo", name="bare")
            assert told["description"] == ""


class TestTree:
    async def test_a_directory(self, serve: Serve) -> None:
        """
        ls tells each entry's attributes and use count, in the order of a listing.
        """
        async with serve() as served:
            served.proc.mkdir("d", 0o750)
            served.proc.create("d/file", ProcOps(), mode=0o640).size = 7
            served.proc.symlink("d/a", "file")
            await served.proc.open("d/file")
            link, file = await served.ask("ls", path="d")
            assert (link["name"], link["type"], link["target"]) == ("a", "symlink", "file")
            assert file["path"] == "/proc/d/file"
            assert (file["type"], file["mode"], file["size"]) == ("file", "-rw-r-----", 7)
            assert (file["nlink"], file["uid"], file["gid"]) == (1, 0, 0)
            assert (file["in_use"], file["open_files"], file["state"]) == (0, 1, "live")

    async def test_a_file_alone(self, serve: Serve) -> None:
        """
        ls of what is no directory tells of that, through symlinks.
        """
        async with serve() as served:
            served.proc.create("x", ProcOps())
            served.proc.symlink("link", "x")
            assert [entry["name"] for entry in await served.ask("ls", path="/proc/link")] == ["x"]
            with refused(ENOENT):
                await served.ask("ls", path="y")

    async def test_names_that_are_no_text(self, serve: Serve) -> None:
        """
        A name of any bytes is listed, and can be asked for.
        """
        name = b"n\xe9".decode("utf-8", "surrogateescape")
        async with serve() as served:
            served.proc.mkdir(name)
            assert (await served.ask("ls"))[0]["name"] == name
            assert await served.ask("ls", path=name) == []

    async def test_the_whole_tree(self, serve: Serve) -> None:
        """
        tree lists parents before what is in them, from where one likes.
        """
        async with serve() as served:
            served.proc.mkdir("a")
            served.proc.mkdir("a/b")
            served.proc.create("a/b/c", ProcOps())
            told = await served.ask("tree")
            paths = ["/proc", "/proc/a", "/proc/a/b", "/proc/a/b/c", "/proc/modules"]
            assert [entry["path"] for entry in told["entries"]] == paths
            assert not told["truncated"]
            told = await served.ask("tree", path="a/b", limit=1)
            assert [entry["path"] for entry in told["entries"]] == ["/proc/a/b"]
            assert told["truncated"]

    async def test_what_is_being_removed(self, serve: Serve) -> None:
        """
        An entry whose name is gone already, and which somebody is inside of, is in the tree.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with serve() as served, create_task_group() as tg:
            served.proc.mkdir("d")
            served.proc.create("d/x", handlers.ops("read"))
            await start(tg, served.proc.read_bytes, "d/x")
            await start(tg, served.proc.remove_subtree, "d")
            served.proc.mkdir("d")
            entries = (await served.ask("tree"))["entries"]
            states = [(entry["path"], entry["state"], entry["in_use"]) for entry in entries]
            assert states == [
                ("/proc", "live", 0),
                ("/proc/d", "live", 0),
                ("/proc/modules", "live", 0),
                ("/proc/d", "releasing", 0),
                ("/proc/d/x", "dying", 1),
            ]
            handlers.let_go("read")


class TestFiles:
    async def test_all_bytes_survive(self, serve: Serve) -> None:
        """
        What is written arrives in the handler, and what that returns arrives here, byte by byte.
        """
        handlers = Handlers(b"")
        data = bytes(range(256))
        async with serve() as served:
            served.proc.create("x", handlers.ops("read", "write"), mode=0o666)
            file = (await served.ask("open", path="x", mode="rw"))["file"]
            assert await served.ask("write", file=file, data=encoded(data)) == 256
            assert decoded(await served.ask("read", file=file)) == b""
            assert decoded(await served.ask("read", file=file, offset=0)) == data
            assert decoded(await served.ask("read", file=file, size=2, offset=65)) == b"AB"
            assert await read_file(served, "x") == data

    async def test_closing_runs_the_release_handler(self, serve: Serve) -> None:
        """
        A file is open until it is closed, and then no more.
        """
        handlers = Handlers()
        async with serve() as served:
            entry = served.proc.create("x", handlers.ops("open", "release"))
            file = (await served.ask("open", path="x"))["file"]
            assert entry.statistics().open_files == 1
            await served.ask("close", file=file)
            assert handlers.log == ["open 1", "release 1"]
            with refused(EBADF):
                await served.ask("close", file=file)

    async def test_a_release_that_raises(self, serve: Serve) -> None:
        """
        Who closes is told, and the file is closed all the same.
        """
        handlers = Handlers()
        handlers.errors["release"] = OSError(EBUSY, "in release")
        async with serve() as served:
            served.proc.create("x", handlers.ops("release"))
            file = (await served.ask("open", path="x"))["file"]
            with refused(EBUSY):
                await served.ask("close", file=file)
            with refused(EBADF):
                await served.ask("read", file=file)

    async def test_a_dead_file(self, serve: Serve) -> None:
        """
        After a removal the open file answers EIO, and closing it is fine, as in Linux.
        """
        handlers = Handlers()
        async with serve() as served:
            served.proc.create("x", handlers.ops("open", "read", "release"))
            file = (await served.ask("open", path="x"))["file"]
            await served.proc.remove("x")
            with refused(EIO):
                await served.ask("read", file=file)
            await served.ask("close", file=file)
            assert handlers.log == ["open 1", "release 1"]

    async def test_an_error_of_a_handler(self, serve: Serve) -> None:
        """
        An OSError arrives as it is, any other with its class.
        """
        handlers = Handlers()
        async with serve() as served:
            served.proc.create("x", handlers.ops("read"))
            file = (await served.ask("open", path="x"))["file"]
            handlers.errors["read"] = OSError(EBUSY, "not now")
            with refused(EBUSY):
                await served.ask("read", file=file)
            handlers.errors["read"] = KeyError("k")
            with pytest.raises(RemoteError, match="KeyError: 'k'"):
                await served.ask("read", file=file)

    async def test_polling(self, serve: Serve) -> None:
        """
        A poll waits until the handler has news; a file without one says that it does not tell.
        """
        queue, ready = WaitQueue(), [0]

        def poll(file: File) -> int:
            file.poll_wait(queue)
            return ready[0]

        async with serve() as served, create_task_group() as tg:
            served.proc.create("x", ProcOps(poll=poll))
            served.proc.create("mute", ProcOps())
            assert not (await served.ask("open", path="mute"))["polls"]
            opened = await served.ask("open", path="x")
            assert opened["polls"]
            file, news = opened["file"], select.POLLIN
            assert await served.ask("poll", file=file) == 0
            assert await served.ask("poll", file=file, events=news, seconds=0.01) == 0
            call = await start(tg, served.ask, "poll", file=file, events=news, seconds=None)
            assert not call.done
            ready[0] = news
            queue.wake_up()
            await all_blocked()
            assert call.result == news

    async def test_what_cannot_be_opened(self, serve: Serve) -> None:
        """
        Directories are for ls, what is not there is ENOENT, and a mode is one of three.
        """
        async with serve() as served:
            served.proc.mkdir("d")
            for params, errno in (
                ({"path": "y"}, ENOENT),
                ({"path": "d"}, EINVAL),
                ({"path": "modules", "mode": "a"}, EINVAL),
                ({"path": "modules/x"}, ENOTDIR),
            ):
                with refused(errno):
                    await served.ask("open", **params)
            assert served.proc.root.statistics().open_files == 0

    async def test_what_cannot_be_read_or_written(self, serve: Serve) -> None:
        """
        Sizes have limits, numbers belong to open files, and bytes are in base64.
        """
        async with serve() as served:
            file = (await served.ask("open", path="modules"))["file"]
            for method, params, errno in (
                ("read", {"file": 99}, EBADF),
                ("read", {"file": file, "size": 0}, EINVAL),
                ("read", {"file": file, "size": MAX_READ + 1}, EINVAL),
                ("read", {"file": file, "offset": -1}, EINVAL),
                ("write", {"file": file, "data": "no base64"}, EINVAL),
                ("write", {"file": file, "data": "é"}, EINVAL),
                ("write", {"file": file, "data": ""}, EBADF),
                ("poll", {"file": 99}, EBADF),
            ):
                with refused(errno):
                    await served.ask(method, **params)

    async def test_not_too_many(self, serve: Serve) -> None:
        """
        A connection has a limited number of files open.
        """
        async with serve() as served:
            files = [await served.ask("open", path="modules") for _ in range(MAX_FILES)]
            with refused(EMFILE):
                await served.ask("open", path="modules")
            await served.ask("close", file=files[3]["file"])
            await served.ask("open", path="modules")

    async def test_files_are_the_connections(self, serve: Serve) -> None:
        """
        The number of a file means nothing to another connection.
        """
        from aiopde.control import connect

        async with serve() as served, await connect(served.path) as other:
            file = (await served.ask("open", path="modules"))["file"]
            with refused(EBADF):
                await other.ask("read", file=file)
