"""A kernel that mounts its tree for whoever asks over the socket; on each loop."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from errno import EBUSY, EINTR, EINVAL, ENOENT, ENOTCONN, ENOTDIR, ENOTEMPTY
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from aiopde import Kernel, ProcFS
from aiopde.control import Mounts, connect, serve_control
from aiopde.fuse._mount import mounted_device
from tests.fuse.harness import guard, in_thread, needs_mount, needs_root, run
from tests.helpers import Handlers, refused

from .conftest import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from anyio.abc import TaskStatus

    from .conftest import Serve, Served


async def hello() -> str:
    return "hello\n"


@pytest.fixture
def place(tmp_path: Path) -> str:
    """An empty directory."""
    path = tmp_path / "m"
    path.mkdir()
    return str(path)


@contextmanager
def refused_at(path: str, errno: int) -> Generator[None]:
    """The block ends with an error of that number about that path."""
    with refused(errno) as caught:
        yield
    assert caught.value.filename == path


@asynccontextmanager
async def asked(served: Served, place: str) -> AsyncGenerator[None]:
    """Have the tree mounted for the time of a block, with a guard that watches it be unmounted."""
    await served.ask("mount", path=place)
    with guard(place):
        yield
        await served.ask("umount", path=place)


@needs_mount
class TestMounting:
    async def test_a_life(self, serve: Serve, place: str) -> None:
        """
        Mounted, used by other programs, listed, unmounted; and all of it once more.
        """
        async with serve() as served:
            served.proc.create_single("hello", hello)
            for _ in range(2):
                async with asked(served, place):
                    assert (await run("cat", f"{place}/hello")).stdout == "hello\n"
                    (told,) = await served.ask("mounts")
                    assert (told["path"], told["waiting"]) == (place, 0)
                assert mounted_device(place) is None
                assert await served.ask("mounts") == []

    async def test_it_outlives_its_client(self, serve: Serve, place: str) -> None:
        """
        Who asked for a mount may go; another one unmounts it.
        """
        async with serve() as served:
            async with await connect(served.path) as client:
                await client.ask("mount", path=place)
            with guard(place):
                assert [told["path"] for told in await served.ask("mounts")] == [place]
                await served.ask("umount", path=place)

    async def test_two_places_and_another_name(
        self, serve: Serve, place: str, tmp_path: Path
    ) -> None:
        """
        Each directory has a mount of its own, and goes by any path that leads there.
        """
        (tmp_path / "n").mkdir()
        (tmp_path / "link").symlink_to("m")
        async with serve() as served, asked(served, str(tmp_path / "n")):
            told = await served.ask("mount", path=str(tmp_path / "link"))
            assert told["path"] == place
            with refused_at(place, EBUSY):
                await served.ask("mount", path=place)
            assert len(await served.ask("mounts")) == 2
            await served.ask("umount", path=str(tmp_path / "link"))

    async def test_somebody_else_unmounts_it(self, serve: Serve, place: str) -> None:
        """
        Then it is a mount no more, and the directory is free.
        """
        async with serve() as served:
            await served.ask("mount", path=place)
            await run("umount", place)
            with anyio.fail_after(10):
                while await served.ask("mounts"):
                    pass
            async with asked(served, place):
                assert await in_thread(os.listdir, place) == ["modules"]

    async def test_who_is_inside_is_told_and_let_go(self, serve: Serve, place: str) -> None:
        """
        ps tells the process; to unmount ends its call with ENOTCONN, and releases its file.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        errors: list[int | None] = []

        def reads() -> None:
            try:
                Path(place, "f").read_bytes()
            except OSError as exc:
                errors.append(exc.errno)

        async with serve() as served, anyio.create_task_group() as tg:
            served.proc.create("f", handlers.ops("read", "release"))
            async with asked(served, place):
                tg.start_soon(in_thread, reads)
                await until(lambda: handlers.busy)
                (held,) = await served.ask("ps")
                assert held["task"].startswith("fuse pid ")
                assert (await served.ask("mounts"))[0]["waiting"] == 1
        assert errors == [ENOTCONN]
        assert handlers.log[-1].startswith("release")

    @needs_root
    async def test_allow_other(self, serve: Serve, place: str) -> None:
        """
        Other users get in only on request.
        """
        async with serve() as served:
            for allowed in False, True:
                await served.ask("mount", path=place, allow_other=allowed)
                with guard(place):
                    options = (await run("grep", place, "/proc/mounts")).stdout
                    assert (",allow_other" in options) == allowed
                    await served.ask("umount", path=place)


@needs_mount
class TestTheEnd:
    async def test_the_one_who_serves_is_cancelled(self, place: str, tmp_path: Path) -> None:
        """
        What clients have mounted is unmounted, and the tree goes on.
        """
        async with Kernel() as kernel:
            async with anyio.create_task_group() as tg:
                path = await tg.start(serve_control, kernel, str(tmp_path / "s"))
                async with await connect(path) as client:
                    await client.ask("mount", path=place)
                tg.cancel_scope.cancel()
            assert mounted_device(place) is None
            assert kernel.proc.root.in_use == 0

    async def test_it_is_unmounted_before_the_tree_goes(self, place: str, tmp_path: Path) -> None:
        """
        With mounts of its own, a program has nobody inside by a mount when it leaves its kernel.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with anyio.create_task_group() as tg:
            async with Kernel() as kernel:
                kernel.proc.create("f", handlers.ops("read"))
                async with Mounts(kernel.proc) as mounts:
                    path = await tg.start(serve_control, kernel, str(tmp_path / "s"), mounts)
                    async with await connect(path) as client:
                        await client.ask("mount", path=place)
                    async with await anyio.open_process(["cat", f"{place}/f"], stderr=None):
                        await until(lambda: handlers.busy)
                        await mounts.umount(place)
                        await mounts.mount(place)
                assert kernel.proc.holders() == []
                assert mounted_device(place) is None
                async with await connect(path) as client:
                    assert await client.ask("mounts") == []
                    with refused_at(place, EINTR):
                        await client.ask("mount", path=place)
            tg.cancel_scope.cancel()


class TestRefused:
    @needs_mount
    @pytest.mark.parametrize(
        ("name", "errno"), [("nothing", ENOENT), ("file", ENOTDIR), (".", ENOTEMPTY)]
    )
    async def test_no_empty_directory(
        self, serve: Serve, tmp_path: Path, name: str, errno: int
    ) -> None:
        """
        Nothing is made, and nothing is hidden.
        """
        (tmp_path / "file").touch()
        async with serve() as served:
            with refused(errno):
                await served.ask("mount", path=os.path.join(tmp_path, name))
            assert await served.ask("mounts") == []

    @pytest.mark.parametrize("method", ["mount", "umount"])
    async def test_a_relative_path(self, serve: Serve, method: str) -> None:
        """
        The kernel and its client may be in different directories.
        """
        async with serve() as served:
            with refused_at("m", EINVAL):
                await served.ask(method, path="m")

    async def test_what_is_not_mounted(self, serve: Serve, place: str) -> None:
        """
        Other mounts are not the kernel's to unmount.
        """
        async with serve() as served:
            for path in place, "/proc", "/nowhere":
                with refused_at(path, EINVAL):
                    await served.ask("umount", path=path)


class TestMisuse:
    """What would mount another tree, or nothing, is told at once."""

    async def test_it_is_entered_once(self, place: str) -> None:
        """
        Before it is entered it mounts nothing, and a second time it cannot be.
        """
        async with ProcFS() as proc:
            mounts = Mounts(proc)
            with pytest.raises(RuntimeError, match=r"inside 'async with Mounts\(kernel.proc\)"):
                await mounts.mount(place)
            async with mounts:
                with pytest.raises(RuntimeError, match="a Mounts can be entered once"):
                    await mounts.__aenter__()
            with refused(EINTR):
                await mounts.mount(place)

    async def test_of_what_is_no_tree(self) -> None:
        """
        A kernel is no tree, but has one.
        """
        kernel: Any = Kernel()
        with pytest.raises(TypeError, match=r"Mounts wants a ProcFS, not <Kernel.*kernel.proc$"):
            Mounts(kernel)

    async def test_of_another_tree(self, tmp_path: Path) -> None:
        """
        Clients of a kernel mount that kernel's tree; and no socket is left of who was refused.
        """
        path, wrong = tmp_path / "s", cast("Any", "mounts")
        async with Kernel() as kernel, ProcFS() as other:
            with pytest.raises(TypeError, match=r"as Mounts\(kernel.proc\), not 'mounts'"):
                await serve_control(kernel, path, wrong)
            with pytest.raises(ValueError, match=r"which is not the kernel's: Mounts\(kernel.proc"):
                await serve_control(kernel, path, Mounts(other))
        assert not path.exists()


class Stub:
    """A mount of which only the outside is there, and that takes its time."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.may_mount = anyio.Event()
        self.error: Exception | None = None
        self.log: list[str] = []

    @asynccontextmanager
    async def mount(self, proc: ProcFS, path: str, *, allow_other: bool) -> AsyncGenerator[Any]:
        self.began.set()
        await self.may_mount.wait()
        self.log.append("mount")
        try:
            yield SimpleNamespace(unmounted=anyio.Event())
        finally:
            self.log.append("umount")
            if self.error is not None:
                raise self.error


class TestHalfDone:
    @pytest.fixture
    def stub(self, monkeypatch: pytest.MonkeyPatch) -> Stub:
        stub = Stub()
        monkeypatch.setattr("aiopde.fuse.mount", stub.mount)
        return stub

    async def test_who_asked_is_cancelled(self, stub: Stub, place: str) -> None:
        """
        What had begun is undone, and the directory can be mounted on again.
        """
        async with ProcFS() as proc, Mounts(proc) as mounts:
            async with anyio.create_task_group() as tg:
                tg.start_soon(mounts.mount, place)
                await stub.began.wait()
                with refused(EBUSY):
                    await mounts.mount(place)
                assert list(mounts) == []
                tg.cancel_scope.cancel()
            stub.may_mount.set()
            await until(lambda: not mounts._places)
            assert stub.log == []
            await mounts.mount(place)
            assert stub.log == ["mount"]
        assert stub.log == ["mount", "umount"]

    async def test_it_is_unmounted_before_it_is_there(self, stub: Stub, place: str) -> None:
        """
        Who asked for it is told so.
        """

        async def mounts_it(*, task_status: TaskStatus[None]) -> None:
            task_status.started()
            with refused_at(place, EINTR):
                await mounts.mount(place)

        async with ProcFS() as proc, Mounts(proc) as mounts, anyio.create_task_group() as tg:
            await tg.start(mounts_it)
            await stub.began.wait()
            await mounts.umount(place)
        assert stub.log == []

    async def test_it_cannot_be_unmounted(
        self, stub: Stub, place: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """
        Who unmounts gets the error, and the log; the kernel goes on.
        """
        stub.may_mount.set()
        async with ProcFS() as proc, Mounts(proc) as mounts:
            await mounts.mount(place)
            stub.error = OSError(EINVAL, "no", place)
            with refused_at(place, EINVAL), caplog.at_level(logging.ERROR):
                await mounts.umount(place)
            assert f"the mount at {place} has failed" in caplog.text
            stub.error = None
            await mounts.mount(place)


def test_control_alone_imports_no_mount() -> None:
    """
    Who mounts nothing does not pay for what it takes.
    """
    program = "import sys, aiopde.control; print('aiopde.fuse' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"False\n"
