"""Which calls are checkpoints: every public coroutine, by default, and none that need not."""

from __future__ import annotations

import inspect
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from errno import ENOENT
from typing import TYPE_CHECKING

import pytest
from anyio import CancelScope, create_task_group
from trio.testing import assert_checkpoints, assert_no_checkpoints

import aiopde
from aiopde import Kernel, Mapping, ProcDirEntry, ProcFile, ProcFS, ProcOps, UseCount
from tests.conftest import BACKENDS
from tests.helpers import Handlers, all_blocked, refused, start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable


@dataclass(frozen=True)
class Stage:
    """One thing of each kind that has coroutine methods."""

    handlers: Handlers
    proc: ProcFS
    entry: ProcDirEntry
    idle: ProcDirEntry
    file: ProcFile
    directory: ProcFile
    mapping: Mapping
    count: UseCount


@asynccontextmanager
async def stage(*, fast: bool) -> AsyncGenerator[Stage]:
    handlers = Handlers()
    async with ProcFS(fast_acquire=fast) as proc:
        entry = proc.create("x", ProcOps.of(handlers))
        plain = ProcOps(read=lambda file, size, pos: b"", write=lambda file, data, pos: 0)
        proc.create("plain", plain)
        file = await proc.open("x", os.O_RDWR)
        mapping, directory = await file.mmap(1), await proc.open("")
        # What can be removed without waiting, though a file is open.
        idle = proc.create("idle", ProcOps(release=lambda file: None))
        await proc.open("idle")
        handlers.log.clear()
        count = UseCount(fast_acquire=fast)
        yield Stage(handlers, proc, entry, idle, file, directory, mapping, count)


Acts = dict[str, "Callable[[Stage], Awaitable[object]]"]

# Every public coroutine. Those that do not wait for a handler do what they do before they
# yield: what began to go never comes back, and what is closed is closed.
ACTS_AFTER_THE_CHECKPOINT: Acts = {
    "ProcFS.open": lambda s: s.proc.open("x"),
    "ProcFS.read_bytes": lambda s: s.proc.read_bytes("x"),
    "ProcFS.read_text": lambda s: s.proc.read_text("x"),
    "ProcFS.write_bytes": lambda s: s.proc.write_bytes("x", b"!"),
    "ProcFS.write_text": lambda s: s.proc.write_text("x", "!"),
    "ProcFile.read": lambda s: s.file.read(),
    "ProcFile.pread": lambda s: s.file.pread(1, 0),
    "ProcFile.readv": lambda s: s.file.readv([1]),
    "ProcFile.write": lambda s: s.file.write(b"!"),
    "ProcFile.pwrite": lambda s: s.file.pwrite(b"!", 0),
    "ProcFile.lseek": lambda s: s.file.lseek(1),
    "ProcFile.poll": lambda s: s.file.poll(),
    "ProcFile.ioctl": lambda s: s.file.ioctl(3),
    "ProcFile.compat_ioctl": lambda s: s.file.compat_ioctl(3),
    "ProcFile.mmap": lambda s: s.file.mmap(1),
    "ProcFile.getdents": lambda s: s.directory.getdents(),
    "UseCount.__aenter__": lambda s: s.count.__aenter__(),
}
ACTS_BEFORE_THE_CHECKPOINT: Acts = {
    "ProcFS.remove": lambda s: s.proc.remove("idle"),
    "ProcFS.remove_subtree": lambda s: s.proc.remove_subtree("idle"),
    "ProcDirEntry.remove": lambda s: s.idle.remove(),
    "ProcDirEntry.aclose": lambda s: s.idle.aclose(),
    "ProcFile.aclose": lambda s: s.file.aclose(),
    "Mapping.aclose": lambda s: s.mapping.aclose(),
    "UseCount.rundown": lambda s: s.count.rundown(),
}
# The same methods where other code serves them.
VARIANTS: Acts = {
    "open of an entry": lambda s: s.proc.open(s.entry),
    "open of a directory": lambda s: s.proc.open(""),
    "open with O_PATH": lambda s: s.proc.open("x", os.O_PATH),
    "read_bytes of an entry": lambda s: s.proc.read_bytes(s.entry),
    "readv of nothing": lambda s: s.file.readv([]),
    "poll of a directory": lambda s: s.directory.poll(),
    "lseek of a directory": lambda s: s.directory.lseek(1),
    "ioctl answered by the VFS": lambda s: s.file.ioctl(0x5451),
}
ACTS = ACTS_AFTER_THE_CHECKPOINT | ACTS_BEFORE_THE_CHECKPOINT
ALL = ACTS | VARIANTS
acts = pytest.mark.parametrize("act", ALL.values(), ids=list(ALL))
waiting = pytest.mark.parametrize("fast", [False, True], ids=["default", "fast_acquire"])


async def module(kernel: Kernel) -> AsyncIterator[None]:
    device = kernel.dev.register("device", ProcOps(), owner=None)
    yield
    await device.remove()


# Modules live in tasks of their own: these calls always wait, and always yield.
OF_MODULES: dict[str, Callable[[Kernel], Awaitable[object]]] = {
    "Kernel.insmod": lambda kernel: kernel.insmod(module, "other"),
    "Kernel.modprobe": lambda kernel: kernel.modprobe("other"),
    "Kernel.reload": lambda kernel: kernel.reload("module"),
    "Kernel.rmmod": lambda kernel: kernel.rmmod("module"),
    "DevFS.open": lambda kernel: kernel.dev.open("device"),
}


# Called inside the package only. Of File, which is the other side of what descriptors call,
# handlers see one, that waits for something or does nothing.
NOT_CALLED_BY_USERS = {"File", "Module"}


def public_coroutines() -> set[str]:
    """Every coroutine function that a class of the package has, by the class that defines it."""
    found: set[str] = set()
    for class_name in set(aiopde.__all__) - NOT_CALLED_BY_USERS:
        thing = getattr(aiopde, class_name)
        if inspect.isclass(thing):
            above = [base for base in thing.__mro__[1:] if base.__name__ in aiopde.__all__]
            inherited = {name for base in above for name in dir(base)}
            for name, _ in inspect.getmembers(thing, inspect.iscoroutinefunction):
                if not name.startswith("_") and name not in inherited:
                    found.add(f"{class_name}.{name}")
    return found | {"UseCount.__aenter__"}


class TestCheckpoints:
    def test_none_is_forgotten(self) -> None:
        """
        Whoever adds a public coroutine says here how it is called.
        """
        assert public_coroutines() == set(ACTS) | set(OF_MODULES)

    def test_these_are_all(self) -> None:
        """
        A coroutine is always a method of a class: no function of the package is one.
        """
        functions = [getattr(aiopde, name) for name in aiopde.__all__]
        assert not [thing for thing in functions if inspect.iscoroutinefunction(thing)]

    @waiting
    @acts
    async def test_a_cancellation_is_noticed(
        self, act: Callable[[Stage], Awaitable[object]], *, fast: bool
    ) -> None:
        """
        Every call is a checkpoint by default, and none that need not wait is with fast_acquire.
        """
        async with stage(fast=fast) as s:
            with CancelScope() as scope:
                scope.cancel()
                await act(s)
            assert scope.cancelled_caught == (not fast)

    @pytest.mark.parametrize("act", OF_MODULES.values(), ids=list(OF_MODULES))
    async def test_those_of_modules(self, act: Callable[[Kernel], Awaitable[object]]) -> None:
        """
        Loading and unloading begin with a checkpoint too, before anything happens.
        """
        async with Kernel(modules={"other": module}) as kernel:
            await kernel.insmod(module)
            device = kernel.dev.lookup("device")
            before = [kernel.find_module("module")]
            with CancelScope() as scope:
                scope.cancel()
                await act(kernel)
            assert scope.cancelled_caught
            assert [kernel.find_module(info.name) for info in kernel.lsmod()] == before
            assert kernel.dev.lookup("device") is device

    async def test_that_of_a_module_that_is_gone(self) -> None:
        """
        Waiting for what is over is one as well.
        """
        async with Kernel() as kernel:
            loaded = await kernel.insmod(module)
            await kernel.rmmod("module")
            with CancelScope() as scope:
                scope.cancel()
                await loaded.wait_gone()
            assert scope.cancelled_caught

    @pytest.mark.parametrize(
        "act", ACTS_AFTER_THE_CHECKPOINT.values(), ids=list(ACTS_AFTER_THE_CHECKPOINT)
    )
    async def test_comes_before_anything_happens(
        self, act: Callable[[Stage], Awaitable[object]]
    ) -> None:
        """
        A call that was cancelled in its checkpoint did nothing, and is not inside.
        """
        async with stage(fast=False) as s:
            with CancelScope() as scope:
                scope.cancel()
                await act(s)
            assert (s.handlers.log, s.file.tell(), s.directory.tell()) == ([], 0, 0)
            assert (s.entry.in_use, s.count.in_use) == (0, 0)
            assert s.entry.statistics().open_files == 1

    @pytest.mark.parametrize(
        "anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]
    )
    @waiting
    @acts
    async def test_others_get_their_turn(
        self, act: Callable[[Stage], Awaitable[object]], *, fast: bool
    ) -> None:
        """
        A task that is ready runs before the call ends; with fast_acquire none does.
        """
        ran: list[bool] = []

        async def other() -> None:
            ran.append(True)

        async with stage(fast=fast) as s, create_task_group() as tg:
            tg.start_soon(other)
            await act(s)
            assert ran == ([] if fast else [True])

    @pytest.mark.trio
    @waiting
    @acts
    async def test_trio_sees_it_so_too(
        self, act: Callable[[Stage], Awaitable[object]], *, fast: bool
    ) -> None:
        """
        Trio's own idea of a checkpoint, which is a cancellation and a turn for others, is met.
        """
        async with stage(fast=fast) as s:
            with assert_no_checkpoints() if fast else assert_checkpoints():
                await act(s)

    @waiting
    async def test_refusals_are_checkpoints_too(self, *, fast: bool) -> None:
        """
        A read or write that is refused yields like one that is not.
        """
        async with stage(fast=fast) as s:
            entry = s.proc.create("absent", ProcOps())
            files = [
                await s.proc.open("absent", os.O_RDWR),
                await s.proc.open("x", os.O_PATH),
                await s.proc.open("", os.O_RDONLY),
            ]
            await entry.remove()
            for file in files:
                for call in (file.read, lambda file=file: file.write(b"")):
                    with CancelScope() as scope:
                        scope.cancel()
                        if fast:
                            with pytest.raises(OSError):
                                await call()
                        else:
                            await call()
                    assert scope.cancelled_caught == (not fast)

    @pytest.mark.parametrize("path", ["x", "plain"])
    async def test_plain_handlers_make_no_difference(self, path: str) -> None:
        """
        A call is a checkpoint whether its handler is async or not.
        """
        async with stage(fast=False) as s:
            for flags, call in ((os.O_RDONLY, "read"), (os.O_WRONLY, "write")):
                file = await s.proc.open(path, flags)
                with CancelScope() as scope:
                    scope.cancel()
                    await getattr(file, call)(*([b""] if call == "write" else []))
                assert scope.cancelled_caught

    @pytest.mark.parametrize("tree_is_fast", [False, True])
    async def test_an_entry_may_differ_from_its_tree(self, *, tree_is_fast: bool) -> None:
        """
        fast_acquire of an entry counts for calls on it, whatever the tree's default is.
        """
        async with ProcFS(fast_acquire=tree_is_fast) as proc:
            ops = Handlers().ops("read")
            fast = proc.create("fast", ops, fast_acquire=True)
            slow = proc.create("slow", ops, fast_acquire=False)
            default = proc.create_single("default", lambda: "text")
            assert (fast.fast_acquire, slow.fast_acquire) == (True, False)
            assert default.fast_acquire == tree_is_fast
            for entry in (fast, slow, default):
                file = await proc.open(entry)
                for act in (
                    lambda entry=entry: proc.open(entry),
                    lambda entry=entry: proc.open(entry.name),
                    lambda entry=entry: proc.read_bytes(entry.name),
                    file.read,
                    file.aclose,
                    entry.remove,
                ):
                    with CancelScope() as scope:
                        scope.cancel()
                        await act()
                    assert scope.cancelled_caught == (not entry.fast_acquire)

    @waiting
    async def test_so_is_one_that_finds_nothing(self, *, fast: bool) -> None:
        """
        A path that leads nowhere, or an entry that is gone, is told after the checkpoint too.
        """
        async with stage(fast=fast) as s:
            await s.idle.remove()
            with CancelScope() as scope:
                scope.cancel()
                await s.idle.remove()
            assert scope.cancelled_caught == (not fast)
            with CancelScope() as scope:
                scope.cancel()
                if fast:
                    with refused(ENOENT):
                        await s.proc.open("idle")
                else:
                    await s.proc.open("idle")
            assert scope.cancelled_caught == (not fast)

    @waiting
    async def test_a_call_that_waits_is_one_in_any_case(self, *, fast: bool) -> None:
        """
        With fast_acquire too, who waits for the position can be cancelled.
        """
        async with stage(fast=fast) as s, create_task_group() as tg:
            s.handlers.hold_up("read_iter")
            reader = await start(tg, s.file.read)
            waiter = await start(tg, s.file.read)
            waiter.cancel()
            await all_blocked()
            assert (waiter.cancelled, reader.done) == (True, False)
            s.handlers.let_go("read_iter")
