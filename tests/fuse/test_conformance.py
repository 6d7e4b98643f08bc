"""Every recording of the kernel by real system calls on a mount; and that playing them can fail."""

from __future__ import annotations

import os
from errno import ECONNABORTED
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import anyio
import anyio.to_thread
import pytest

from aiopde import File, ProcFS, ProcOps
from aiopde.fuse._notifier import Notifier
from aiopde.fuse._operations import Operations
from aiopde.fuse._session import Session
from tests.conformance import __main__ as command
from tests.conformance._ground import ground
from tests.conformance._judge import judge
from tests.conformance._mount import MOUNTED, SHIPPED
from tests.conformance._mount_rules import MECHANISMS
from tests.conformance._overlay import Overlay
from tests.conformance._scenario import load
from tests.fuse.harness import needs_mount
from tests.helpers import refused
from tests.test_conformance import NO_OVERLAY, OVERLAY, RECORDINGS, SCRIPTS, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance._judge import Verdict

pytestmark = [
    needs_mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="scenarios have several users and a chroot"),
]
SHOWING = [
    *("a02_read_iter_removed", "a14_fdlink_removed", "a20_epoll_removed", "b06_odd_returns"),
    *("b15_mmap_live", "b21_ioctl_vfs_numbers", "d19_kernel_names", "f15_seq_empty"),
    *(
        "buffers",
        "h13_restarted_read_live",
        "kills",
        "permissions",
        "polls_together",
        "queues",
        "writes",
    ),
]
"""Recordings and scripts that are enough to show each mechanism of the FUSE module."""
DIFFERING = Overlay.load(SHIPPED, MECHANISMS).scenarios


# One loop, for the time it takes; the command plays them on the others.
@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def verdict_on(name: str) -> Verdict:
    if name in SCRIPTS:
        return await judge(script(name), NO_OVERLAY, MOUNTED)
    return await judge(load(RECORDINGS[name]), OVERLAY, MOUNTED)


class TestAgainstLinux:
    @pytest.mark.parametrize("name", [*RECORDINGS, *SCRIPTS])
    async def test_recording(self, name: str) -> None:
        """
        Each step does what Linux did, or what the FUSE module is known to make of it.
        """
        verdict = await verdict_on(name)
        assert not verdict.failure
        if verdict.skipped:
            pytest.skip(verdict.skipped)

    async def test_every_mechanism_is_seen(self) -> None:
        """
        No rule on the FUSE module is there for nothing.
        """
        used = {rule for name in SHOWING for rule in (await verdict_on(name)).rules}
        assert used >= {f"rule_{mechanism}" for mechanism in MECHANISMS}

    def test_names_what_is_there(self) -> None:
        """
        What is said to differ is a recording that is shipped.
        """
        assert DIFFERING.keys() <= RECORDINGS.keys()


def release_without_a_handler(self: Operations, nodeid: int, body: memoryview) -> bytes:
    return b""


def read_from_the_start(read: Any) -> Callable[..., Any]:
    def broken(self: Operations, nodeid: int, body: memoryview) -> Any:
        return read(self, nodeid, memoryview(bytes(body[:8]) + bytes(8) + bytes(body[16:])))

    return broken


def nothing(*_: object) -> None:
    pass


MUTANTS = [
    (Operations, "release", release_without_a_handler, "c16_close_other_during_rundown"),
    (Operations, "read", read_from_the_start(Operations.read), "c45_same_fd_pread"),
    (Operations, "setattr", Operations.getattr, "b14_chmod_persists"),
    (Operations, "unlink", Operations.make, "b11_vfs_mutators"),
    (Operations, "make", Operations.unlink, "b11_vfs_mutators"),
    (Operations, "ioctl", Operations.fsync, "c05_ioctl_inflight"),
    (Session, "_interrupt", nothing, "h01_inflight_interrupted"),
    (Notifier, "name", nothing, "a14_fdlink_removed"),
    (Notifier, "attributes", nothing, "attributes"),
    (Notifier, "poll", nothing, "a20_epoll_removed"),
]


class TestFails:
    @pytest.mark.parametrize(("kind", "method", "broken", "name"), MUTANTS)
    async def test_broken_mount(self, kind: type, method: str, broken: object, name: str) -> None:
        """
        A mount that does something else is found out by a recording.
        """
        with patch.object(kind, method, broken):
            verdict = await verdict_on(name)
        assert verdict.failure.startswith("step ")

    @pytest.mark.parametrize("name", DIFFERING)
    async def test_difference_that_is_none(self, name: str) -> None:
        """
        Without the list of differences, each recording on it fails.
        """
        verdict = await judge(load(RECORDINGS[name]), OVERLAY, MOUNTED.but(overlay=None))
        assert verdict.failure.startswith("step ")


class TestGround:
    async def test_guard(self) -> None:
        """
        What hangs is let go with an error.
        """

        async def read(file: File, size: int, pos: int) -> Any:
            inside.set()
            await anyio.sleep_forever()

        async def use() -> None:
            with refused(ECONNABORTED):
                await anyio.Path(there.root / "proc/x").read_bytes()
            let_go.set()

        inside, let_go = anyio.Event(), anyio.Event()
        async with ProcFS() as proc, ground(proc, ["proc"]) as there:
            proc.create("x", ProcOps(read=read))
            async with anyio.create_task_group() as tg:
                tg.start_soon(use)
                await inside.wait()
                await anyio.to_thread.run_sync(there.abort)
                await let_go.wait()


class TestCommand:
    def test_needs_root(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        Anybody else is told so in one line.
        """
        with patch("os.geteuid", return_value=1), pytest.raises(SystemExit) as caught:
            command.main(["--mount", "a01"])
        assert caught.value.code == 2
        assert "only root" in capsys.readouterr().err

    def test_needs_the_device(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        So is who has no FUSE.
        """
        with patch("os.open", side_effect=FileNotFoundError(2, "no")), pytest.raises(SystemExit):
            command.main(["--mount", "a01"])
        assert "no usable /dev/fuse: no" in capsys.readouterr().err

    def test_plays_by_the_beginning_of_a_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        What is skipped is told with the reason, as it is without a mount.
        """
        assert command.main(["--mount", "c07", "--backend", "trio"]) == 0
        out = capsys.readouterr().out
        assert out.startswith("skipped c07_mmap_inflight: nobody can wait in mmap: ")
        assert out.endswith("0 passed, 0 failed, 1 skipped\n")
