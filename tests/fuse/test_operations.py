"""What programs see of a mounted tree: each call answered as procfs answers it."""

import array
import errno
import fcntl
import os
import select
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from aiopde import ProcFS, ProcOps, WaitQueue
from tests.fuse.harness import in_thread, mounted, needs_mount, run, until, until_in_thread
from tests.helpers import Handlers, refused

pytestmark = needs_mount


async def read(file: object, size: int, pos: int) -> bytes:
    return b"0123456789"[pos : pos + size]


READ = ProcOps(read=read)


def contents(path: Path) -> bytes:
    return path.read_bytes()


# -- names and attributes -----------------------------------------------------------------------


async def test_a_listing_begins_with_dots_and_is_in_the_trees_order(tmp_path: Path) -> None:
    """And each line tells type and inode number, as the kernel selftest of /proc wants it."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        for name in ["ccc", "b", "aa", "d"]:
            proc.create(name, READ)
        proc.mkdir("e")
        proc.symlink("f", "b")
        listed = await run("ls", "-fi", mount.path)
        names = [line.split() for line in listed.stdout.splitlines()]
        assert [name for _, name in names] == [".", "..", "b", "d", "e", "f", "aa", "ccc"]
        assert int(names[2][0]) == proc.stat("b").st_ino

        def kinds() -> list[tuple[bool, bool, bool]]:
            with os.scandir(mount.path) as lines:
                return [
                    (line.is_file(follow_symlinks=False), line.is_dir(), line.is_symlink())
                    for line in lines
                    if line.name in {"b", "e", "f"}
                ]

        file, directory, link = (True, False, False), (False, True, False), (False, False, True)
        assert await in_thread(kinds) == [file, directory, link]


async def test_a_listing_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    """A directory of more names than one reply holds is listed whole, each name once."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        names = [f"entry-with-a-rather-long-name-{n:04}" for n in range(3000)]
        for name in names:
            proc.create(name, READ)
        assert await in_thread(os.listdir, mount.path) == names


async def test_attributes_are_the_trees(tmp_path: Path) -> None:
    """Mode, owner, size, links and inode number, of files, directories, symlinks and the root."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", READ, mode=0o640)
        entry.uid, entry.gid, entry.size = 12, 34, 56
        proc.mkdir("d", 0o711)
        proc.mkdir("d/e")
        proc.symlink("l", "f")
        for name in ["f", "d", "d/e", "l", ""]:
            seen = await in_thread(os.lstat, f"{mount.path}/{name}")
            assert isinstance(seen, os.stat_result)
            ours = proc.stat(name, follow_symlinks=False)
            assert (seen.st_mode, seen.st_ino, seen.st_nlink) == ours[:3]
            assert (seen.st_uid, seen.st_gid, seen.st_size) == ours[3:]


async def test_what_changes_in_the_tree_is_seen_by_who_has_it_open(tmp_path: Path) -> None:
    """The kernel keeps attributes, and is told when they change: of the root too."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", READ)
        fd = await in_thread(os.open, f"{mount.path}/f", os.O_RDONLY)
        assert isinstance(fd, int)

        def seen() -> tuple[int, int, int]:
            file, root = os.fstat(fd), os.stat(mount.path)
            return file.st_size, file.st_mode & 0o777, root.st_nlink

        assert await in_thread(seen) == (0, 0o444, 2)
        entry.size = 100
        entry.mode = 0o400
        proc.mkdir("d")
        await until_in_thread(lambda: seen() == (100, 0o400, 3))
        os.close(fd)


async def test_chmod_and_chown_stay_in_the_tree(tmp_path: Path) -> None:
    """truncate and touch succeed and change nothing."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", READ, mode=0o644)
        path = f"{mount.path}/f"
        await in_thread(os.chmod, path, 0o600)
        await in_thread(os.chown, path, 7, -1)
        await in_thread(os.truncate, path, 99)
        await in_thread(os.utime, path)
        assert (entry.mode, entry.uid, entry.gid, entry.size) == (0o600, 7, 0, 0)
        await in_thread(os.chown, path, -1, 8)
        assert (entry.uid, entry.gid) == (7, 8)


async def test_statfs_says_that_nothing_takes_room(tmp_path: Path) -> None:
    """As for /proc."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        seen = await in_thread(os.statvfs, mount.path)
        assert isinstance(seen, os.statvfs_result)
        assert (seen.f_bsize, seen.f_blocks, seen.f_bfree, seen.f_namemax) == (4096, 0, 0, 255)
        flags = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC
        assert seen.f_flag & flags == flags


async def test_symlinks_lead_on(tmp_path: Path) -> None:
    """A relative one inside the tree, an absolute one in the whole system."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.mkdir("d")
        proc.create("d/f", READ)
        proc.symlink("l", "d/f")
        proc.symlink("out", str(tmp_path))
        assert await in_thread(os.readlink, f"{mount.path}/l") == "d/f"
        assert await in_thread(contents, Path(mount.path, "l")) == b"0123456789"
        assert await in_thread(os.listdir, f"{mount.path}/out") == ["m"]


NAMESPACE_CALLS: dict[str, tuple[int, Callable[[str], object]]] = {
    "create": (errno.ENOENT, lambda m: os.open(f"{m}/new", os.O_CREAT | os.O_WRONLY)),
    "create a file that is there": (errno.EEXIST, lambda m: os.mknod(f"{m}/f")),
    "mknod": (errno.ENOENT, lambda m: os.mknod(f"{m}/new")),
    "mkdir": (errno.ENOENT, lambda m: os.mkdir(f"{m}/new")),
    "symlink": (errno.ENOENT, lambda m: os.symlink("f", f"{m}/new")),
    "link": (errno.ENOENT, lambda m: os.link(f"{m}/f", f"{m}/new")),
    "unlink": (errno.EPERM, lambda m: os.unlink(f"{m}/f")),
    "unlink what is not there": (errno.ENOENT, lambda m: os.unlink(f"{m}/new")),
    "unlink a directory": (errno.EISDIR, lambda m: os.unlink(f"{m}/d")),
    "rmdir": (errno.EPERM, lambda m: os.rmdir(f"{m}/d")),
    "rmdir a file": (errno.ENOTDIR, lambda m: os.rmdir(f"{m}/f")),
    "rename": (errno.ENOENT, lambda m: os.rename(f"{m}/f", f"{m}/new")),
    "rename over another": (errno.EPERM, lambda m: os.rename(f"{m}/f", f"{m}/g")),
    "O_TMPFILE": (errno.EOPNOTSUPP, lambda m: os.open(m, os.O_TMPFILE | os.O_RDWR)),
    "getxattr": (errno.EOPNOTSUPP, lambda m: os.getxattr(f"{m}/f", "user.x")),
    "setxattr": (errno.EOPNOTSUPP, lambda m: os.setxattr(f"{m}/f", "user.x", b"1")),
    "removexattr": (errno.EOPNOTSUPP, lambda m: os.removexattr(f"{m}/f", "user.x")),
    "fsync": (errno.EINVAL, lambda m: os.fsync(os.open(f"{m}/f", os.O_RDONLY))),
    "fsync a directory": (errno.EINVAL, lambda m: os.fsync(os.open(m, os.O_RDONLY))),
}


async def test_users_make_and_remove_nothing(tmp_path: Path) -> None:
    """Each call gets the error that the real /proc gives to root."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        for name in "fg":
            proc.create(name, READ)
        proc.mkdir("d")
        for what, (number, call) in NAMESPACE_CALLS.items():
            with pytest.raises(OSError) as caught:
                await in_thread(call, mount.path)
            assert (what, caught.value.errno) == (what, number)
        assert await in_thread(os.listxattr, f"{mount.path}/f") == []
        assert proc.listdir() == ["d", "f", "g"]


async def test_rename_with_flags_is_refused_too(tmp_path: Path) -> None:
    """``mv --exchange`` and the like: EPERM."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        for name in "fg":
            proc.create(name, READ)
        done = await run(
            "mv", "-T", "--no-clobber", f"{mount.path}/f", f"{mount.path}/new", check=False
        )
        assert done.returncode == 1
        assert "No such file or directory" in done.stderr


# -- files --------------------------------------------------------------------------------------


async def test_a_file_of_size_0_is_read_to_its_end(tmp_path: Path) -> None:
    """Each read asks the handler, with the size and position the program asked for."""
    calls: list[tuple[int, int]] = []

    async def noted(file: object, size: int, pos: int) -> bytes:
        calls.append((size, pos))
        return await read(file, size, pos)

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create("f", ProcOps(read=noted))
        done = await run("dd", f"if={mount.path}/f", "bs=4", "status=none")
        assert done.stdout == "0123456789"
        assert calls == [(4, 0), (4, 4), (4, 8), (4, 10)]


async def test_pread_needs_no_position(tmp_path: Path) -> None:
    """Nor does a preadv, which is one call for all its buffers."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create("f", READ)

        def reads() -> tuple[bytes, bytes]:
            with open(f"{mount.path}/f", "rb", buffering=0) as file:
                buffers = [bytearray(2), bytearray(3)]
                os.preadv(file.fileno(), buffers, 1)
                return os.pread(file.fileno(), 3, 7), b"".join(buffers)

        assert await in_thread(reads) == (b"789", b"12345")


async def test_writes_reach_the_handler_whole(tmp_path: Path) -> None:
    """Up to almost a mebibyte in one piece; opening for truncation makes no other call."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        handlers = Handlers(b"")
        proc.create("f", handlers.ops("open", "write", "release"), mode=0o666)
        data = os.urandom((1 << 20) - 4096)
        await in_thread(Path(mount.path, "f").write_bytes, data)
        await until(lambda: handlers.log[-1] == "release 1")
        assert handlers.content == data
        assert handlers.log == ["open 1", "write 1", "release 1"]
        await in_thread(Path(mount.path, "f").write_bytes, data * 2)
        assert handlers.content == data * 2


async def test_what_handlers_raise_reaches_the_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An OSError by its errno; anything else is a bug, which is logged, and EIO."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        handlers = Handlers()
        proc.create("f", handlers.ops("open", "read", "release"))
        proc.create("empty", ProcOps(), mode=0o666)
        path = Path(mount.path, "f")
        handlers.errors["open"] = OSError(errno.EBUSY, "busy")
        with refused(errno.EBUSY):
            await in_thread(contents, path)
        del handlers.errors["open"]
        for error, number in [
            (OSError(errno.ENODATA, "no"), errno.ENODATA),
            (OSError("no errno"), errno.EIO),
            (ValueError("a bug"), errno.EIO),
        ]:
            handlers.errors["read"] = error
            with refused(number):
                await in_thread(contents, path)
        assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
            OSError,
            ValueError,
        ]
        with refused(errno.EIO):
            await in_thread(contents, Path(mount.path, "empty"))
        with refused(errno.EIO):
            await in_thread(Path(mount.path, "empty").write_bytes, b"x")


async def test_a_release_that_fails_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """close(2) has returned by then, and nobody could be told."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        handlers = Handlers()
        handlers.errors["release"] = OSError(errno.EIO, "lost")
        proc.create("f", handlers.ops("read", "release"))
        await in_thread(contents, Path(mount.path, "f"))
        await until(lambda: caplog.records)
    assert caplog.messages == ["the release handler of /proc/f failed"]


async def test_seq_files_are_read_in_any_pieces(tmp_path: Path) -> None:
    """They come whole through cat, and byte for byte through dd and pread."""

    async def records() -> object:
        for n in range(500):
            yield f"record {n}\n"

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create_seq("s", records)  # type: ignore[arg-type]
        whole = "".join(f"record {n}\n" for n in range(500))
        path = f"{mount.path}/s"
        assert (await run("cat", path)).stdout == whole
        assert (await run("dd", f"if={path}", "bs=1", "count=40", "status=none")).stdout == whole[
            :40
        ]
        assert (await run("tail", "-c", "11", path)).stdout == whole[-11:]


async def test_lseek_asks_the_handler_for_holes_only(tmp_path: Path) -> None:
    """SET, CUR and END are the kernel's own; SEEK_DATA is ours."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        handlers = Handlers()
        proc.create("f", handlers.ops("read", "lseek"))
        proc.create("g", READ)

        def seeks() -> list[int]:
            fd = os.open(f"{mount.path}/f", os.O_RDONLY)
            try:
                return [os.lseek(fd, 5, os.SEEK_SET), os.lseek(fd, 2, os.SEEK_DATA)]
            finally:
                os.close(fd)

        assert await in_thread(seeks) == [5, 2 + os.SEEK_DATA]
        assert handlers.log == ["lseek None"]
        with refused(errno.ESPIPE):
            await in_thread(lambda: os.lseek(os.open(f"{mount.path}/g", 0), 0, os.SEEK_DATA))


def _ioc(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | ord("p") << 8 | number


async def test_ioctl_passes_numbers_and_buffers(tmp_path: Path) -> None:
    """A command that tells its size gets a buffer, in and out; any other its number."""

    async def ioctl(file: object, cmd: int, arg: object) -> int:
        if isinstance(arg, bytearray):
            arg[:] = arg.upper()
            return len(arg)
        assert isinstance(arg, int)
        return arg + 1

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create("f", ProcOps(ioctl=ioctl))
        proc.create("g", READ)
        buffer = array.array("B", b"hello")

        def ioctls() -> list[int]:
            with open(f"{mount.path}/f", "rb") as file:
                plain = fcntl.ioctl(file, _ioc(0, 1, 0), 41)
                both = fcntl.ioctl(file, _ioc(3, 2, 5), buffer)
                out = fcntl.ioctl(file, _ioc(2, 3, 5), bytearray(b"zzzzz"))
            return [plain, both, out]

        assert await in_thread(ioctls) == [42, 5, 5]
        assert buffer.tobytes() == b"HELLO"

        def ask(name: str) -> None:
            fcntl.ioctl(os.open(f"{mount.path}/{name}", os.O_RDONLY), _ioc(0, 1, 0))

        for name in ["g", ""]:
            with refused(errno.ENOTTY):
                await in_thread(ask, name)


async def test_poll_wakes_when_something_is_ready(tmp_path: Path) -> None:
    """A poll(2) that sleeps is woken by the queue its handler named, or by the removal."""
    queue = WaitQueue()
    ready = 0

    async def poll(file: object) -> int:
        file.poll_wait(queue)  # type: ignore[attr-defined]
        return ready

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", ProcOps(poll=poll))
        fd = await in_thread(os.open, f"{mount.path}/f", os.O_RDONLY)
        assert isinstance(fd, int)

        def wait(milliseconds: int) -> list[tuple[int, int]]:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            return poller.poll(milliseconds)

        assert await in_thread(wait, 0) == []
        assert await in_thread(wait, 10) == []
        for make_ready in (lambda: queue.wake_up(), lambda: proc._remove_soon(entry)):
            seen: list[object] = []

            async def waits(seen: list[object] = seen) -> None:
                seen.append(await in_thread(wait, 10_000))

            async with anyio.create_task_group() as tg:
                tg.start_soon(waits)
                await until(lambda: len(queue) == 1)
                ready = select.POLLIN
                make_ready()
            assert seen == [[(fd, select.POLLIN)]]
            ready = 0
        os.close(fd)
        await until(lambda: mount.statistics().open_files == 0)
        assert len(queue) == 0


async def test_a_poll_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    """Closing the file ends what waits on its behalf."""
    queue = WaitQueue()

    async def poll(file: object) -> int:
        file.poll_wait(queue)  # type: ignore[attr-defined]
        return 0

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create("f", ProcOps(poll=poll))

        def polls() -> None:
            with open(f"{mount.path}/f", "rb") as file:
                for _ in range(3):
                    assert select.select([file], [], [], 0.01) == ([], [], [])

        await in_thread(polls)
        await until(lambda: len(queue) == 0)
        assert stat.S_ISREG(proc.stat("f").st_mode)
