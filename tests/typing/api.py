"""The public names as type checkers see them: read by mypy and pyright, never run."""

# What must be an error says so, and both checkers complain about an ignore that is not needed.
# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, assert_type

from aiopde import (
    BIAS,
    DEFAULT_POLLMASK,
    MAX_RW_COUNT,
    ROOT,
    SEQ_SKIP,
    Cdev,
    Credentials,
    DevFS,
    DirEntry,
    EntryRemovedError,
    EntryStatistics,
    File,
    HandlerError,
    Holder,
    Kernel,
    Mapping,
    Module,
    ModuleInfo,
    ModuleState,
    ProcDirEntry,
    ProcFile,
    ProcFS,
    ProcOps,
    RemovalTimeoutError,
    SeqFile,
    SeqOps,
    Stat,
    TraceRecord,
    UseAfterFreeError,
    UseCount,
    UseCountStatistics,
    WaitQueue,
    depends,
    this_module,
    trace,
)
from aiopde.control import Client, connect, default_socket, serve_control

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import AsyncResource

# -- constants ----------------------------------------------------------------------------------

number: int = BIAS + DEFAULT_POLLMASK + MAX_RW_COUNT + SEQ_SKIP
assert_type(ROOT, Credentials)

# -- handlers -----------------------------------------------------------------------------------


class Handlers:
    async def open(self, file: File) -> None: ...
    async def read(self, file: File, size: int, pos: int) -> bytes:
        assert_type(file.entry, ProcDirEntry)
        assert_type(file.flags, int)
        assert_type(file.pos, int)
        assert_type(file.private_data, Any)
        assert_type(file.data, Any)
        assert_type(file.removing, bool)
        return b""

    async def write(self, file: File, data: bytes, pos: int) -> int:
        return len(data)

    async def lseek(self, file: File, offset: int, whence: int) -> int:
        return offset

    async def poll(self, file: File) -> int:
        return 0

    async def ioctl(self, file: File, cmd: int, arg: Any) -> int:
        return 0

    async def mmap(self, file: File, length: int, prot: int, flags: int) -> bytearray:
        return bytearray(length)

    async def release(self, file: File) -> None: ...


async def text(file: File, size: int, pos: int) -> str:
    return ""


handlers = Handlers()
assert_type(ProcOps(), ProcOps)
assert_type(ProcOps.of(handlers), ProcOps)
assert_type(ProcOps.of(handlers, permanent=True), ProcOps)
assert_type(ProcOps(read=handlers.read, permanent=True).permanent, bool)
ProcOps(
    open=handlers.open,
    read=handlers.read,
    read_iter=handlers.read,
    write=handlers.write,
    lseek=handlers.lseek,
    poll=handlers.poll,
    ioctl=handlers.ioctl,
    compat_ioctl=handlers.ioctl,
    mmap=handlers.mmap,
    release=handlers.release,
)
# Plain functions, and a release handler that returns something.
ProcOps(
    open=lambda file: None,
    read=lambda file, size, pos: b"",
    write=lambda file, data, pos: 0,
    lseek=lambda file, offset, whence: 0,
    poll=lambda file: 0,
    ioctl=lambda file, cmd, arg: 0,
    mmap=lambda file, length, prot, flags: None,
    release=lambda file: 7,
)
ProcOps(handlers.open)  # type: ignore[call-arg]
ProcOps(read=text)  # type: ignore[arg-type]
ProcOps(read=handlers.write)  # type: ignore[arg-type]
ProcOps(open=handlers.read)  # type: ignore[arg-type]
ProcOps(write=lambda file, data: 0)  # type: ignore[arg-type, misc]
ProcOps(nope=handlers.read)  # type: ignore[call-arg]

# -- seq files ----------------------------------------------------------------------------------


async def records() -> AsyncIterator[str]:
    yield ""


async def records_of_bytes() -> AsyncIterator[bytes]:
    yield b""


async def show(m: SeqFile) -> None:
    assert_type(m.private, Any)
    m.puts("text")
    m.puts(b"bytes")
    m.write(b"bytes")


async def show_text() -> str:
    return ""


async def step(m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
    return None, pos + 1


async def start(m: SeqFile, pos: int) -> int | None:
    return None


async def stop(m: SeqFile, item: int | None) -> None: ...


async def show_item(m: SeqFile, item: int) -> int | None:
    assert_type(m.index, int)
    assert_type(m.overflowed, bool)
    return SEQ_SKIP


seq_ops = SeqOps(start=start, next=step, stop=stop, show=show_item)
assert_type(seq_ops, SeqOps)
SeqOps(start=start)  # type: ignore[call-arg]

# -- the tree -----------------------------------------------------------------------------------

root = Credentials()
someone = Credentials(uid=1000, gid=100, groups=frozenset({4, 24}))
assert_type(someone.uid, int)
assert_type(someone.groups, frozenset[int])
assert_type(someone.in_group(100), bool)
assert_type(someone.allows(0o644, 0, 0, os.R_OK), bool)
someone.uid = 0  # type: ignore[misc]


async def use_a_tree() -> None:
    async with ProcFS() as proc:
        assert_type(proc, ProcFS)
    async with ProcFS(mountpoint="/run", fast_acquire=True) as proc:
        assert_type(proc.root.path, str)
    ProcFS("/proc")  # type: ignore[call-arg]


async def register(proc: ProcFS) -> None:
    directory = proc.mkdir("d", 0o755, data=object())
    assert_type(directory, ProcDirEntry)
    assert_type(
        proc.create("x", ProcOps(), mode=0o644, parent=directory, data=7, fast_acquire=True),
        ProcDirEntry,
    )
    assert_type(proc.create_seq("y", records, mode=0o644, parent=directory), ProcDirEntry)
    assert_type(proc.create_seq("z", records_of_bytes), ProcDirEntry)
    assert_type(proc.create_seq("u", seq_ops), ProcDirEntry)
    assert_type(proc.create_single("v", show, data=7), ProcDirEntry)
    assert_type(proc.create_single("w", show_text), ProcDirEntry)
    assert_type(proc.create_single("s", lambda: b"plain"), ProcDirEntry)
    assert_type(proc.symlink("l", "x", parent=directory), ProcDirEntry)
    assert_type(proc.create_mount_point("m", parent=directory), ProcDirEntry)
    proc.create("x", handlers)  # type: ignore[arg-type]
    proc.create("x", ProcOps, mode=0o644)  # type: ignore[arg-type]
    proc.create_seq("x", records())  # type: ignore[arg-type]
    proc.symlink("l", b"x")  # type: ignore[arg-type]


async def remove(proc: ProcFS, entry: ProcDirEntry) -> None:
    assert_type(await proc.remove("x", parent=entry), None)
    assert_type(await proc.remove_subtree("x"), None)
    assert_type(await entry.remove(), None)
    async with entry as same:
        assert_type(same, ProcDirEntry)
    manager: AbstractAsyncContextManager[ProcDirEntry] = entry
    resource: AsyncResource = entry
    await resource.aclose()
    del manager


def look(proc: ProcFS, entry: ProcDirEntry, here: ProcFile) -> None:
    assert_type(proc.lookup("x", follow_symlinks=False, cred=someone, dir_fd=here), ProcDirEntry)
    assert_type(proc.listdir(), list[str])
    assert_type(proc.listdir("d", cred=someone), list[str])
    assert_type(proc.stat("x", follow_symlinks=False, cred=someone, dir_fd=here), Stat)
    told = proc.stat("x")
    assert_type(told.st_mode + told.st_ino + told.st_nlink, int)
    assert_type(told.st_uid + told.st_gid + told.st_size, int)
    assert_type(proc.readlink("l", cred=someone, dir_fd=here), str)
    proc.chmod("x", 0o644, cred=someone, dir_fd=here)
    proc.chown("x", 1, -1, cred=someone, dir_fd=here)
    proc.access("x", os.R_OK, cred=someone, dir_fd=here)
    proc.truncate("x", 0, cred=someone)
    proc.lookup(b"x")  # type: ignore[arg-type]

    assert_type(entry.name, str)
    assert_type(entry.path, str)
    assert_type(entry.parent, ProcDirEntry)
    assert_type(entry.type, int)
    assert_type(entry.is_dir(), bool)
    assert_type(entry.permanent, bool)
    assert_type(entry.ino, int)
    assert_type(entry.nlink, int)
    assert_type(entry.data, Any)
    assert_type(entry.in_use, int)
    assert_type(entry.removing, bool)
    assert_type(entry.fast_acquire, bool)
    assert_type(entry.stat(), Stat)
    assert_type(entry.statistics(), EntryStatistics)
    assert_type(entry.statistics().open_files, int)
    assert_type(entry.statistics().state, str)
    numbers: UseCountStatistics = entry.statistics()
    assert_type(numbers.in_use, int)
    entry.mode, entry.uid, entry.gid, entry.size, entry.data = 0o644, 1, 2, 3, "data"
    entry.path = ""  # type: ignore[misc]
    entry.type = 0  # type: ignore[misc]
    entry.permanent = True  # type: ignore[misc]


# -- files --------------------------------------------------------------------------------------


async def open_files(proc: ProcFS, entry: ProcDirEntry, here: ProcFile) -> None:
    assert_type(await proc.open("x"), ProcFile)
    assert_type(await proc.open(entry, os.O_RDWR, cred=someone, dir_fd=here), ProcFile)
    assert_type(await proc.read_bytes("x", cred=someone), bytes)
    assert_type(await proc.read_text(entry), str)
    assert_type(await proc.write_bytes("x", b"data"), None)
    assert_type(await proc.write_text(entry, "text"), None)
    async with await proc.open("x") as file:
        assert_type(file, ProcFile)
    await proc.open(7)  # type: ignore[arg-type]
    await proc.write_bytes("x", "text")  # type: ignore[arg-type]


async def use_a_file(file: ProcFile) -> None:
    assert_type(await file.read(), bytes)
    assert_type(await file.read(100), bytes)
    assert_type(await file.pread(100, 0), bytes)
    assert_type(await file.readv([1, 2]), list[bytes])
    assert_type(await file.readv(size for size in (1, 2)), list[bytes])
    assert_type(await file.write(b"data"), int)
    assert_type(await file.pwrite(b"data", 0), int)
    assert_type(await file.lseek(0, os.SEEK_END), int)
    assert_type(await file.poll(), int)
    assert_type(await file.ioctl(3, object()), int)
    assert_type(await file.compat_ioctl(3), int)
    assert_type(await file.mmap(4096), Mapping)
    assert_type((await file.mmap(4096, 1, 2)).value, Any)
    assert_type(await file.getdents(), list[DirEntry])
    assert_type((await file.getdents(3))[0].is_dir(), bool)
    assert_type(await file.aclose(), None)
    assert_type(file.dup(), ProcFile)
    assert_type(file.entry, ProcDirEntry)
    assert_type(file.file, File)
    assert_type(file.flags, int)
    assert_type(file.closed, bool)
    assert_type(file.tell(), int)
    assert_type(file.stat(), Stat)
    file.chmod(0o644, cred=someone)
    file.chown(1, 2, cred=someone)
    file.truncate(0)
    file.fsync()
    resource: AsyncResource = file
    await resource.aclose()
    async with await file.mmap(1) as mapping:
        assert_type(mapping, Mapping)
    file.write("text")  # type: ignore[arg-type, unused-coroutine]
    file.closed = True  # type: ignore[misc]


# -- the guard ----------------------------------------------------------------------------------


async def guard() -> None:
    count = UseCount("pool", fast_acquire=True)
    assert_type(UseCount().use(), bool)
    assert_type(count.kill(), bool)
    assert_type(count.unuse(), None)
    assert_type(count.fast_acquire, bool)
    count.name = "pool"
    assert_type(count.in_use, int)
    assert_type(count.removing, bool)
    assert_type(count.statistics(), UseCountStatistics)
    async with count as same:
        assert_type(same, UseCount)
    assert_type(await count.rundown(), None)
    count.in_use = 3  # type: ignore[misc]


# -- errors -------------------------------------------------------------------------------------


def explain(exc: EntryRemovedError | HandlerError) -> str:
    assert_type(exc.call, str)
    error: OSError = exc
    return str(error.errno)


def explain_more(timeout: RemovalTimeoutError, oops: UseAfterFreeError) -> None:
    assert_type(timeout.seconds, float)
    assert_type(timeout.holders, tuple[Holder, ...])
    assert_type((oops.module, oops.entry, oops.handler), tuple[str, str, str])
    error: TimeoutError = timeout
    del error


def tell(holder: Holder, record: TraceRecord) -> None:
    assert_type((holder.task, holder.path, holder.op), tuple[str, str, str])
    assert_type(holder.stack, tuple[str, ...])
    assert_type(holder.killable, bool)
    assert_type(holder.waited, float | None)
    assert_type((record.event, record.path, record.call, record.task), tuple[str, str, str, str])
    assert_type(record.time, float)


async def look_inside(proc: ProcFS, entry: ProcDirEntry) -> None:
    assert_type(proc.holders(), list[Holder])
    assert_type(proc.holders(entry), list[Holder])
    assert_type(entry.holders(), list[Holder])
    assert_type(entry.killable, bool)
    assert_type(entry.ops, ProcOps)
    assert_type(entry.use(), bool)
    assert_type(entry.unuse(), None)
    assert_type(entry.remove_self(), bool)
    with trace(tell_record):
        await entry.remove(grace=5)


def tell_record(record: TraceRecord) -> None: ...


# -- handlers that wait -------------------------------------------------------------------------


async def wait(file: File, queue: WaitQueue, letters: list[bytes]) -> None:
    assert_type(await file.wait_event(queue, lambda: letters), None)
    assert_type(file.poll_wait(queue), None)
    assert_type(await file.removed.wait(), None)
    assert_type(file.in_use, int)
    assert_type(queue.wake_up(), None)
    await file.wait_event(queue, letters)  # type: ignore[arg-type]


# -- modules ------------------------------------------------------------------------------------


@depends("bus")
async def driver(kernel: Kernel, *, size: int = 3) -> AsyncIterator[str]:
    assert_type(this_module(), Module)
    this_module().start_soon(kernel.rmmod, "x")
    this_module().start_soon(kernel.rmmod("x"))  # type: ignore[arg-type]
    yield "exported"


async def load(kernel: Kernel) -> None:
    assert_type(kernel.proc, ProcFS)
    assert_type(kernel.dev, DevFS)
    assert_type(await kernel.insmod(driver, size=4), Module)
    assert_type(await kernel.insmod("./driver.py", "name", size=4), Module)
    assert_type(await kernel.modprobe("driver"), Module)
    assert_type(await kernel.reload("driver", driver), Module)
    assert_type(await kernel.rmmod("driver", os.O_TRUNC, grace=5), None)
    assert_type(kernel.lsmod(), list[ModuleInfo])
    assert_type(kernel.find_module("driver"), Module | None)
    assert_type(kernel.owner_of(kernel.proc.root), Module | None)
    assert_type(kernel.oopses + kernel.uses_after_free, int)
    await kernel.insmod(5)  # type: ignore[arg-type]


async def refer(kernel: Kernel, module: Module) -> None:
    assert_type(kernel.try_module_get(module), bool)
    assert_type(kernel.module_put(None), None)
    assert_type(module.try_get(), bool)
    assert_type(module.get(), None)
    assert_type(module.put(), None)
    assert_type(module.name, str)
    assert_type(module.refcnt, int)
    assert_type(module.exports, Any)
    assert_type(module.state is ModuleState.LIVE, bool)
    assert_type(module.holders(), list[Holder])
    assert_type(await module.wait_gone(), None)
    told = module.info()
    assert_type((told.name, told.size, told.refcnt), tuple[str, int, int])
    assert_type((told.used_by, told.permanent), tuple[tuple[str, ...], bool])
    states = (ModuleState.UNFORMED, ModuleState.COMING, ModuleState.GOING, ModuleState.GONE)
    words: list[str] = [state.value for state in states]
    del words


async def use_a_device(dev: DevFS, module: Module) -> None:
    device = dev.register("null", ProcOps(), owner=module)
    assert_type(device, Cdev)
    assert_type(device.owner, Module | None)
    assert_type(dev.lookup("null"), Cdev)
    assert_type(await dev.open("null"), ProcFile)
    assert_type(dev.holders(device), list[Holder])
    assert_type(dev.unregister("null"), None)
    dev.register("null", ProcOps())  # type: ignore[call-arg]


async def control(kernel: Kernel) -> None:
    assert_type(default_socket(), str)
    assert_type(await connect(), Client)
    client = await connect("/run/x.sock")
    assert_type(await client.ask("lsmod", name="x"), Any)
    assert_type(await serve_control(kernel, "/run/x.sock"), None)
