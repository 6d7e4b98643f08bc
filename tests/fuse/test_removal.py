"""Entries that go while real processes are inside them, and processes that go while inside."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import anyio
import pytest

from aiopde import File, Kernel, ProcFS, ProcOps
from aiopde.fuse import MountStatistics
from tests.fuse.harness import (
    in_thread,
    mounted,
    needs_mount,
    run,
    state_of,
    until,
    until_in_thread,
)
from tests.helpers import SLACK, Handlers, refused

pytestmark = needs_mount

READERS = 1000


async def test_a_read_that_is_inside_ends_with_its_data(tmp_path: Path) -> None:
    """The removal waits for it; the next read of that process is EIO, and others get ENOENT."""
    handlers = Handlers()
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", handlers.ops("open", "read", "release"))
        path = f"{mount.path}/f"
        handlers.hold_up("read")
        results: list[object] = []

        def reads() -> None:
            fd = os.open(path, os.O_RDONLY)
            results.append(os.read(fd, 100))
            with refused(errno.EIO):
                os.read(fd, 100)
            with refused(errno.EIO):
                os.pread(fd, 1, 0)
            assert os.fstat(fd).st_nlink == 1
            os.close(fd)

        async with anyio.create_task_group() as tg:
            tg.start_soon(in_thread, reads)
            await until(lambda: mount.statistics().waiting == 1)
            tg.start_soon(entry.remove)
            await until(lambda: entry.removing)
            for call in (os.stat, os.open):
                arguments = (path,) if call is os.stat else (path, os.O_RDONLY)
                with refused(errno.ENOENT):
                    await in_thread(call, *arguments)
            assert await in_thread(os.listdir, mount.path) == []
            assert results == []
            handlers.let_go("read")
        assert results == [b"content"]
        assert handlers.log == ["open 1", "read 1", "read 1 goes on", "release 1"]
        await until(lambda: mount.statistics() == MountStatistics(1, 0, 0))


async def test_the_name_is_free_at_once(tmp_path: Path) -> None:
    """Who opens it anew gets the new entry, who has the old one open keeps that."""
    old, new = Handlers(b"old"), Handlers(b"new")
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        path = f"{mount.path}/f"
        for _ in range(50):
            entry = proc.create("f", old.ops("read", "release"))
            fd = await in_thread(os.open, path, os.O_RDONLY)
            assert isinstance(fd, int)
            assert await in_thread(os.read, fd, 9) == b"old"
            entry.remove_self()
            second = proc.create("f", new.ops("read"))
            assert await in_thread(Path(path).read_bytes) == b"new"
            with refused(errno.EIO):
                await in_thread(os.read, fd, 9)
            await second.remove()
            with refused(errno.ENOENT):
                await in_thread(os.stat, path)
            os.close(fd)
        assert old.log.count("release None") == 50
        await until(lambda: mount.statistics().open_files == 0)


async def test_nothing_is_remembered_of_what_is_gone(tmp_path: Path) -> None:
    """The kernel forgets names as they go, and we forget with it; nothing was remembered of
    entries that nobody has looked at, and their numbers are given out again."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        for round_ in range(5):
            directory = proc.mkdir("d")
            for n in range(40):
                proc.create(f"d/{n}", Handlers().ops("read"))
            if round_ % 2:
                await run("ls", "-lR", mount.path)
                assert mount.statistics().inodes == 42
            await directory.remove()
            await until(lambda: mount.statistics().inodes == 1)
        assert proc.create("again", Handlers().ops("read")).ino == 0xF0000000


async def test_a_directory_goes_with_those_who_stand_in_it(tmp_path: Path) -> None:
    """From there nothing is found any more, also not what is created in its place."""
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        directory = proc.mkdir("d")
        proc.create("d/f", Handlers().ops("read"))
        fd = await in_thread(os.open, f"{mount.path}/d", os.O_RDONLY)
        assert isinstance(fd, int)
        assert await in_thread(os.listdir, fd) == ["f"]
        await directory.remove()
        proc.mkdir("d")
        proc.create("d/f", Handlers().ops("read"))
        assert await in_thread(os.listdir, fd) == []

        def look() -> None:
            os.stat("f", dir_fd=fd)

        with refused(errno.ENOENT):
            await in_thread(look)
        assert await in_thread(os.listdir, f"{mount.path}/d") == ["f"]
        os.close(fd)

        def only_the_new_one_is_known() -> bool:
            # Looked up again, since the notice of the removal may have come late, and have made
            # the kernel forget this one too.
            os.stat(f"{mount.path}/d")
            return mount.statistics() == MountStatistics(2, 0, 0)

        # That there is no "f" in it, the kernel remembers; not so that it keeps the directory.
        await until_in_thread(only_the_new_one_is_known)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_signal_cancels_the_handler(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and kill -9 end a reader that waits, in no time, and its handler with it."""
    handlers = Handlers()
    handlers.hold_up("read")
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", handlers.ops("read"))
        async with await anyio.open_process(["cat", f"{mount.path}/f"]) as cat:
            await until(lambda: entry.in_use == 1)
            began = time.perf_counter()
            cat.send_signal(number)
            await cat.wait()
            took = time.perf_counter() - began
        assert cat.returncode == -number
        assert took < 1 + SLACK, f"{took:.3f} s"
        assert (handlers.busy, entry.in_use) == (False, 0)
        await entry.remove()


async def test_a_handled_signal_is_eintr(tmp_path: Path) -> None:
    """A program that handles the signal sees EINTR, and may read on."""
    program = (
        "import os, signal, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "class Alarm(Exception): pass\n"
        "def alarm(*_): raise Alarm\n"
        "signal.signal(signal.SIGALRM, alarm)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05)\n"
        "try: os.read(fd, 1)\n"
        "except Alarm: print(os.read(fd, 10))\n"
    )
    handlers = Handlers()
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create("f", handlers.ops("read"))
        handlers.hold_up("read")

        async def let_go() -> None:
            await until(lambda: handlers.log == ["read None"] * 2)
            handlers.let_go("read")

        async with anyio.create_task_group() as tg:
            tg.start_soon(let_go)
            done = await run(sys.executable, "-S", "-c", program, f"{mount.path}/f")
            assert done.stdout == "b'content'\n"


async def test_a_handler_that_heeds_no_cancellation_answers_all_the_same(tmp_path: Path) -> None:
    """Its caller, though killed, is held until then: the guard is not left before."""
    may_end = anyio.Event()

    async def stubborn(file: object, size: int, pos: int) -> bytes:
        with anyio.CancelScope(shield=True):
            await may_end.wait()
        return b""

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", ProcOps(read=stubborn))
        async with await anyio.open_process(["cat", f"{mount.path}/f"]) as cat:
            await until(lambda: entry.in_use == 1)
            cat.kill()
            with anyio.move_on_after(0.05):
                await cat.wait()
            assert (cat.returncode, entry.in_use) == (None, 1)
            may_end.set()
            await cat.wait()
        assert entry.in_use == 0


async def test_holders_shows_who_is_inside(tmp_path: Path) -> None:
    """Calls through the mount are found, with their process and where they stand."""
    handlers = Handlers()
    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        entry = proc.create("f", handlers.ops("read", "release"))
        handlers.hold_up("read")
        handlers.hold_up("release")
        async with await anyio.open_process(["cat", f"{mount.path}/f"]) as cat:
            await until(lambda: entry.in_use == 1)
            (holder,) = entry.holders()
            handlers.let_go("read")
        assert (holder.task, holder.op) == (f"fuse pid {cat.pid}", "read")
        assert any("in _enter" in frame for frame in holder.stack)
        await until(lambda: [each.op for each in entry.holders()] == ["release"])
        (holder,) = entry.holders()
        handlers.let_go("release")
        assert holder.task == "fuse release"


async def test_a_handler_may_not_remove_its_own_entry(tmp_path: Path) -> None:
    """EDEADLK through the mount too; remove_self() is how it is done."""

    async def removes(file: File) -> None:
        await file.entry.remove()

    async def removes_self(file: File, size: int, pos: int) -> bytes:
        file.entry.remove_self()
        return b"last words"

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.create("f", ProcOps(open=removes))
        proc.create("g", ProcOps(read=removes_self))
        with refused(errno.EDEADLK):
            await in_thread(Path(mount.path, "f").read_bytes)

        def last_words() -> bytes:
            with open(f"{mount.path}/g", "rb", buffering=0) as file:
                return file.read(100)

        assert await in_thread(last_words) == b"last words"
        assert proc.listdir() == ["f"]


async def test_a_thousand_reads_are_inside_at_once(tmp_path: Path) -> None:
    """And rmmod lets each end with its data, refuses more, and returns when all are out."""
    may_answer = anyio.Event()
    running = 0

    async def read(file: object, size: int, pos: int) -> bytes:
        nonlocal running
        running += 1
        try:
            await may_answer.wait()
            return b"data"[pos : pos + size]
        finally:
            running -= 1

    async def module(kernel: Kernel) -> object:
        async with kernel.proc.create("f", ProcOps(read=read)):
            yield

    # One program forks all the readers; each tells by its exit status what it saw.
    program = (
        "import os, sys\n"
        "children = []\n"
        f"for _ in range({READERS}):\n"
        "    if pid := os.fork(): children.append(pid); continue\n"
        "    fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "    first = os.read(fd, 10)\n"
        "    try: os.read(fd, 10)\n"
        "    except OSError as exc: os._exit(exc.errno if first == b'data' else 1)\n"
        "    os._exit(2)\n"
        "seen = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}\n"
        "sys.stdout.write(str(seen))\n"  # in one piece, as print() need not
    )
    async with Kernel() as kernel, mounted(kernel.proc, tmp_path / "m") as mount:
        await kernel.insmod(module)
        command = [sys.executable, "-S", "-c", program, f"{mount.path}/f"]
        async with await anyio.open_process(command) as readers:
            await until(lambda: mount.statistics().waiting == READERS, seconds=12)
            others = await run("ls", "-l", mount.path)  # nobody is held up
            assert "f" in others.stdout
            assert state_of([readers.pid]) == ["S"]

            async with anyio.create_task_group() as tg:
                tg.start_soon(kernel.rmmod, "module")
                await until(lambda: "f" not in kernel.proc.listdir())
                may_answer.set()
            assert running == 0
            assert readers.stdout is not None
            assert await readers.stdout.receive() == f"{{{errno.EIO}}}".encode()
        await until(lambda: mount.statistics().open_files == 0)
