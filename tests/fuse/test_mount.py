"""Mounting and unmounting, in order and otherwise."""

import errno
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process, TaskStatus

from aiopde import Kernel, ProcFS, ProcOps
from aiopde.fuse import Mount, _mount, _session, mount
from aiopde.fuse._mount import mounted_device
from tests.conftest import BACKENDS
from tests.fuse.harness import in_thread, mounted, needs_mount, needs_root, run, state_of, until
from tests.helpers import SLACK, Handlers, refused

pytestmark = needs_mount

NOBODY = 65534
# Fails if one of the descriptors it is told is open.
FSTAT = """
import os, sys
for descriptor in sys.argv[1:]:
    try:
        os.fstat(int(descriptor))
    except OSError:
        continue
    sys.exit(1)
"""
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
needs_helper = pytest.mark.skipif(not shutil.which("fusermount3"), reason="needs fusermount3")


def let_others_in(path: Path) -> None:
    """Let other users into a directory of the test's, which pytest keeps private."""
    for directory in [path, *path.parents[:2]]:
        directory.chmod(0o755)


async def hello() -> str:
    return "hello\n"


@asynccontextmanager
async def server(path: Path, backend: str, *user: str) -> AsyncGenerator[Process]:
    """Run a program with a mount at *path*; take it off if the test has failed to."""
    await in_thread(os.makedirs, path)
    for number in user:  # fusermount3 wants a mount point that one owns
        os.chown(path, int(number), int(number))
    command = [sys.executable, "-m", "tests.fuse.server", str(path), backend, *user]
    try:
        async with await anyio.open_process(command, stderr=None) as process:
            assert process.stdout is not None
            try:
                assert await process.stdout.receive() == b"mounted\n"
                yield process
            finally:
                with suppress(ProcessLookupError):  # most tests have ended it
                    process.kill()
    finally:
        await run("umount", "-l", path, check=False)  # if the test has failed to


async def enter(mount: Mount) -> None:
    """Enter what is expected to refuse that."""
    await mount.__aenter__()


@pytest.fixture
def backend(anyio_backend: object) -> str:
    """The name of the loop this variant of the test runs on."""
    return next(name for name, value in BACKENDS.items() if value == anyio_backend)


# -- in order -----------------------------------------------------------------------------------


async def test_leaving_the_block_unmounts(tmp_path: Path) -> None:
    """Who is inside is let go, what is open is released, and the directory is as before."""
    handlers = Handlers()
    (tmp_path / "m").mkdir()
    (tmp_path / "m/below").touch()
    async with ProcFS() as proc:
        proc.create("f", handlers.ops("open", "read", "release"))
        handlers.hold_up("read")
        errors: list[int | None] = []

        def reads(fd: int) -> None:
            for _ in range(2):
                try:
                    os.read(fd, 1)
                except OSError as exc:
                    errors.append(exc.errno)
            os.close(fd)

        async with anyio.create_task_group() as tg:
            async with mount(proc, tmp_path / "m") as mounted:
                assert repr(mounted) == f"<Mount '{tmp_path}/m' mounted>"
                fd = await in_thread(os.open, f"{mounted.path}/f", os.O_RDONLY)
                tg.start_soon(in_thread, reads, fd)
                await until(lambda: mounted.statistics().waiting == 1)
            assert mounted.unmounted.is_set()
            assert repr(mounted) == f"<Mount '{tmp_path}/m' not mounted>"
            assert handlers.log == ["open 1", "read 1", "release 1"]
            assert proc.stat("f").st_nlink == 1
        assert errors == [errno.ENOTCONN, errno.ENOTCONN]
    assert os.listdir(tmp_path / "m") == ["below"]


async def test_an_error_or_a_cancellation_unmounts(tmp_path: Path) -> None:
    """The error comes out as it is; nothing is left mounted."""
    async with ProcFS() as proc:
        with pytest.raises(ZeroDivisionError):
            async with mounted(proc, tmp_path / "m"):
                _ = 1 / 0
        assert mounted_device(f"{tmp_path}/m") is None
        with anyio.CancelScope() as scope:
            async with mounted(proc, tmp_path / "n"):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert mounted_device(f"{tmp_path}/n") is None


async def test_a_cancellation_answers_who_is_inside(tmp_path: Path) -> None:
    """What cancels the block leaves those be who answer the kernel, until the mount is off."""
    handlers = Handlers()
    handlers.hold_up("read")
    errors: list[int | None] = []

    def reads(path: Path) -> None:
        try:
            path.read_bytes()
        except OSError as exc:
            errors.append(exc.errno)

    async with ProcFS() as proc, anyio.create_task_group() as tg:
        proc.create("f", handlers.ops("read"))
        with anyio.CancelScope() as scope:
            async with mounted(proc, tmp_path / "m") as m:
                tg.start_soon(in_thread, reads, Path(m.path, "f"))
                await until(lambda: m.statistics().waiting == 1)
                scope.cancel()
                await anyio.sleep_forever()
    assert errors == [errno.ENOTCONN]


async def test_no_process_and_no_descriptor_is_left(tmp_path: Path) -> None:
    """The watchdog goes with its mount."""
    async with ProcFS() as proc:
        before: list[str] = []
        for round_ in range(3):
            async with mounted(proc, tmp_path / f"m{round_}") as mount_:
                watchdog = mount_._attachment._watchdog
                assert state_of([watchdog.pid]) != [""]
            assert state_of([watchdog.pid]) == [""]
            fds = os.listdir("/proc/self/fd")
            assert len(fds) == len(before or fds)
            before = fds


async def test_several_mounts_and_one_tree_twice(tmp_path: Path) -> None:
    """Each has its own inodes; the tree is one, and a removal reaches all of them."""
    async with (
        ProcFS() as one,
        ProcFS() as other,
        mounted(one, tmp_path / "a") as a,
        mounted(one, tmp_path / "b") as b,
        mounted(other, tmp_path / "c") as c,
    ):
        entry = one.create("f", Handlers(b"one").ops("read"))
        other.create("f", Handlers(b"other").ops("read"))
        files = [Path(m.path, "f") for m in (a, b, c)]
        seen = [await in_thread(file.read_bytes) for file in files]
        assert seen == [b"one", b"one", b"other"]
        await entry.remove()
        await until(lambda: (a.statistics().inodes, b.statistics().inodes) == (1, 1))
        for file in files[:2]:
            with refused(errno.ENOENT):
                await in_thread(file.read_bytes)
        assert await in_thread(files[2].read_bytes) == b"other"


async def test_a_mount_in_a_mount_point_of_a_mount(tmp_path: Path) -> None:
    """To mount there, the kernel asks this very program for the directory."""
    async with ProcFS() as outer, ProcFS() as inner, mounted(outer, tmp_path / "m") as m:
        outer.create_mount_point("sub")
        inner.create_single("hello", hello)
        async with mount(inner, f"{m.path}/sub") as sub:
            assert await in_thread(Path(sub.path, "hello").read_text) == "hello\n"
        assert await in_thread(os.listdir, f"{m.path}/sub") == []


async def test_a_tree_may_go_before_its_mount(tmp_path: Path) -> None:
    """What is left is an empty directory, and dead files."""
    path = tmp_path / "m/hello"
    may_end = anyio.Event()

    async def keep_mounted(tree: ProcFS, *, task_status: TaskStatus[None]) -> None:
        async with mounted(tree, tmp_path / "m"):
            task_status.started()
            await may_end.wait()

    async with anyio.create_task_group() as tg:
        async with ProcFS() as tree:
            tree.create_single("hello", hello)
            await tg.start(keep_mounted, tree)
            fd = await in_thread(os.open, path, os.O_RDONLY)
            assert isinstance(fd, int)
        assert await in_thread(os.listdir, tmp_path / "m") == []
        with refused(errno.ENOENT):
            await in_thread(path.read_text)
        with refused(errno.EIO):
            await in_thread(os.read, fd, 1)
        os.close(fd)
        may_end.set()


async def test_a_mount_is_entered_once(tmp_path: Path) -> None:
    """A second time is misuse, and says what to do."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mounted_tree:
        with pytest.raises(RuntimeError, match=r"call mount\(\) again"):
            await mounted_tree.__aenter__()


# -- from outside -------------------------------------------------------------------------------


@needs_root
async def test_only_a_tree_is_mounted(tmp_path: Path) -> None:
    """
    A Kernel is no tree, but has one: the error says where, before anything is mounted.
    """
    kernel: Any = Kernel()
    with pytest.raises(TypeError, match=r"pass kernel\.proc"):
        mount(kernel, tmp_path)


async def test_umount_from_a_shell_is_told_to_who_waits(tmp_path: Path) -> None:
    """The block goes on, and leaving it touches nothing that was mounted there since."""
    path = tmp_path / "m"
    async with ProcFS() as proc, mounted(proc, path) as mounted_tree:
        await run("umount", path)
        with anyio.fail_after(10):
            await mounted_tree.unmounted.wait()
        await run("mount", "-t", "tmpfs", "none", path)
        await in_thread(Path(path, "ours").touch)
    assert await in_thread(os.listdir, path) == ["ours"]
    await run("umount", path)


@needs_root
async def test_a_lazy_umount_leaves_open_files_served(tmp_path: Path) -> None:
    """The mount is over with the last of them."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mounted_tree:
        proc.create("f", Handlers().ops("read"))
        fd = await in_thread(os.open, f"{mounted_tree.path}/f", os.O_RDONLY)
        assert isinstance(fd, int)
        await run("umount", "-l", mounted_tree.path)
        assert await in_thread(os.read, fd, 7) == b"content"
        assert not mounted_tree.unmounted.is_set()
        os.close(fd)
        with anyio.fail_after(10):
            await mounted_tree.unmounted.wait()


@needs_root
async def test_an_aborted_connection_is_unmounted_in_the_end(tmp_path: Path) -> None:
    """Somebody has forced an unmount while files were open: what is left is a dead directory."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m", seconds=10) as mounted_tree:
        fd = await in_thread(os.open, mounted_tree.path, os.O_RDONLY)
        assert isinstance(fd, int)
        assert (await run("umount", "-f", mounted_tree.path, check=False)).returncode != 0
        with anyio.fail_after(10):
            await mounted_tree.unmounted.wait()
        with refused(errno.ENOTCONN):
            await in_thread(os.statvfs, mounted_tree.path)
        async with ProcFS() as other:
            with refused(errno.ENOTCONN):
                await enter(mount(other, mounted_tree.path))
    assert await in_thread(os.listdir, mounted_tree.path) == []
    os.close(fd)


async def test_ctrl_c_unmounts(tmp_path: Path, backend: str) -> None:
    """In order: who was inside is let go, and released."""
    path = tmp_path / "m"
    async with server(path, backend) as process:
        assert (await run("cat", path / "hello")).stdout == "hello\n"
        async with await anyio.open_process(["cat", path / "blocked"]) as cat:
            assert cat.stderr is not None
            await until(lambda: Path(f"/proc/{cat.pid}/fd/3").is_symlink())
            await anyio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            assert await cat.stderr.receive()
        assert process.stdout is not None
        assert await process.stdout.receive() == b"left 1\n"
        assert await process.wait() == 0
        assert mounted_device(str(path)) is None


async def killed(path: Path, process: Process) -> float:
    """Kill a server, and return how long its mount has outlived it."""
    began = time.perf_counter()
    process.kill()
    await until(lambda: mounted_device(str(path)) is None)
    return time.perf_counter() - began


async def test_after_sigkill_the_watchdog_unmounts(tmp_path: Path, backend: str) -> None:
    """And who was inside is let go."""
    path = tmp_path / "m"
    async with server(path, backend) as process:
        assert (await run("cat", path / "hello")).stdout == "hello\n"
        async with await anyio.open_process(["cat", path / "blocked"]) as cat:
            await until(lambda: Path(f"/proc/{cat.pid}/fd/3").is_symlink())
            assert await killed(path, process) < 2 + SLACK
            assert await cat.wait() == 1


@needs_root
@needs_helper
async def test_an_ordinary_user_mounts_too(tmp_path: Path, backend: str) -> None:
    """By fusermount3; it is his alone, and the watchdog unmounts it after a SIGKILL."""
    let_others_in(tmp_path)
    path = tmp_path / "m"
    async with server(path, backend, str(NOBODY)) as process:
        assert (await run(*AS_NOBODY, "cat", path / "hello")).stdout == "hello\n"
        assert (await run(*AS_NOBODY, "find", path)).stdout.count("\n") == 3
        assert (await run("ls", path, check=False)).returncode == 2
        async with await anyio.open_process([*AS_NOBODY, "cat", str(path / "blocked")]) as cat:
            await anyio.sleep(0.1)
            began = time.perf_counter()
            cat.kill()
            await cat.wait()
            assert time.perf_counter() - began < 1 + SLACK
        assert await killed(path, process) < 3 + SLACK
    async with server(tmp_path / "n", backend, str(NOBODY)) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert await process.stdout.receive() == b"left 0\n"
        assert await process.wait() == 0
        assert mounted_device(f"{tmp_path}/n") is None


async def test_a_forked_child_does_not_keep_the_mount_alive(tmp_path: Path) -> None:
    """As multiprocessing makes them: device and watchdog are the server's alone."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mounted_tree:
        attachment = mounted_tree._attachment
        stdin = attachment._watchdog._process.stdin
        assert stdin is not None
        descriptors = [attachment.fd, stdin.fileno()]
        program = [sys.executable, "-S", "-c", FSTAT, *map(str, descriptors)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
            child = os.fork()
        if not child:  # pragma: no cover  the child tells nobody
            for descriptor in descriptors:
                with suppress(OSError):
                    os.set_inheritable(descriptor, True)
            os.execv(program[0], program)  # noqa: S606  a shell is nothing to add
        assert await in_thread(os.waitpid, child, 0) == (child, 0)
    async with ProcFS() as proc, mounted(proc, tmp_path / "n"):
        assert attachment.fd == -1  # a child of now has nothing of the old one to close


async def test_once_let_go_of_it_is_unmounted(tmp_path: Path) -> None:
    """What a child does with its copies would end the mount, if it did so with the last."""
    attachment = _mount.Attachment(str(tmp_path), allow_other=False)
    await in_thread(attachment.attach)
    for _ in range(2):
        _mount._let_go()
    await in_thread(attachment._watchdog._process.wait)
    assert mounted_device(str(tmp_path)) is None


# -- what can go wrong --------------------------------------------------------------------------


async def test_bad_mount_points_are_named(tmp_path: Path) -> None:
    """A missing directory, a file."""
    async with ProcFS() as proc:
        with refused(errno.ENOENT) as caught:
            await enter(mount(proc, tmp_path / "missing"))
        assert "make the directory" in str(caught.value)
        with refused(errno.ENOENT):  # and not where this program happens to be
            await enter(mount(proc, ""))
        (tmp_path / "file").touch()
        for path in [tmp_path / "file", tmp_path / "file/below"]:
            with refused(errno.ENOTDIR):
                await enter(mount(proc, path))


async def test_a_dead_mount_in_the_way_is_named_with_its_cure(tmp_path: Path) -> None:
    """As a server leaves it whose watchdog was killed too."""
    path = tmp_path / "m"
    async with server(path, "asyncio") as process:
        (watchdog,) = (await run("pgrep", "-P", str(process.pid))).stdout.split()
        os.kill(int(watchdog), signal.SIGKILL)
        process.kill()
        await process.wait()
        async with ProcFS() as proc:
            with refused(errno.ENOTCONN) as caught:
                await enter(mount(proc, path))
            assert f"umount -l {path}" in str(caught.value)
            await run("umount", "-l", path)
            async with mount(proc, path):
                assert mounted_device(str(path))


async def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No /dev/fuse, no fusermount3: what to install or to do."""
    async with ProcFS() as proc:
        monkeypatch.setattr(_mount, "_DEVICE", "/dev/no-such-device")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with refused(errno.ENOENT) as caught:
            await enter(mount(proc, tmp_path))
        assert "modprobe fuse" in str(caught.value)
        monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        monkeypatch.setenv("PATH", str(tmp_path))
        with refused(errno.ENOENT) as caught:
            await enter(mount(proc, tmp_path))
        assert "apt install fuse3" in str(caught.value)


async def test_a_mount_that_is_not_allowed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container without the right to; any other error is the kernel's."""

    def refuse(name: str, *args: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    async with ProcFS() as proc:
        with monkeypatch.context() as patch:
            patch.setattr(_mount, "_call", refuse)
            for number in (errno.EPERM, errno.EBUSY):
                with refused(number) as caught:
                    await enter(mount(proc, tmp_path))
                assert ("SYS_ADMIN" in str(caught.value)) == (number == errno.EPERM)
        with refused(errno.EINVAL):
            _mount._call("umount2", b"/", 1 << 30)
        monkeypatch.setattr(_mount, "_DEVICE", str(tmp_path))
        with refused(errno.EISDIR):
            await enter(mount(proc, tmp_path))


async def test_a_kernel_too_old_is_told_and_unmounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left mounted of what could not be served."""
    monkeypatch.setattr(_session, "MINOR_AT_LEAST", 9999)
    async with ProcFS() as proc:
        with refused(errno.EPROTO):
            await enter(mount(proc, tmp_path))
    assert mounted_device(str(tmp_path)) is None


@needs_helper
async def test_the_helper_mounts_and_unmounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an ordinary user's program does, in this process."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    async with ProcFS() as proc:
        proc.mkdir("d")
        async with mount(proc, tmp_path):
            assert await in_thread(os.listdir, tmp_path) == ["d"]
            assert mounted_device(str(tmp_path))
    assert mounted_device(str(tmp_path)) is None


@needs_helper
async def test_what_fusermount3_says_is_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its own reasons, as a user without the right to allow others."""
    helper = tmp_path / "fusermount3"
    helper.write_text("#!/bin/sh\necho 'fusermount3: not today' >&2; exit 1\n")
    helper.chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    async with ProcFS() as proc:
        with refused(errno.EPERM) as caught:
            await enter(mount(proc, tmp_path))
    assert "not today" in str(caught.value)


@needs_root
async def test_allow_other_is_an_option_of_the_mount(tmp_path: Path) -> None:
    """Asked for, others get in as far as the permission bits let them."""
    let_others_in(tmp_path)
    async with ProcFS() as proc:
        proc.create("open", Handlers().ops("read"))
        proc.create("secret", ProcOps(read=Handlers().read), mode=0o400)
        async with mounted(proc, tmp_path / "m", allow_other=True) as m:
            assert (await run(*AS_NOBODY, "cat", f"{m.path}/open")).stdout == "content"
            done = await run(*AS_NOBODY, "cat", f"{m.path}/secret", check=False)
            assert "Permission denied" in done.stderr
        async with mounted(proc, tmp_path / "n") as m:
            done = await run(*AS_NOBODY, "cat", f"{m.path}/open", check=False)
            assert "Permission denied" in done.stderr
