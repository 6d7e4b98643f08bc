"""What is passed wrongly: it is told at once, what it is and what to pass, and nothing is done."""

from __future__ import annotations

import errno
import os
from functools import partial
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import from_thread, to_thread

from aiopde import (
    Cdev,
    Credentials,
    DevFS,
    Kernel,
    Module,
    ProcFS,
    ProcOps,
    UseCount,
    WaitQueue,
    depends,
)

from .helpers import answering, refused, tree, unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT: Any = "text"
NOTHING: Any = None
HALF: Any = 1.5
BYTES: Any = b"/proc"
LIST: Any = ["driver"]
INT = "is an int, not "
EITHER = "is True or False, not "
CRED = r"cred is who asks, as Credentials\(uid=1000, gid=1000\), not "


# The method, what it is called with, and the part of the error that tells.
IN_A_TREE = [
    ("create", {"name": "n", "ops": ProcOps(), "mode": NOTHING}, "mode is an int of permission"),
    ("create", {"name": "n", "ops": ProcOps(), "mode": ""}, "mode is an int of permission"),
    ("create", {"name": "n", "ops": ProcOps(), "fast_acquire": -1}, f"fast_acquire {EITHER}-1"),
    ("create", {"name": "n", "ops": ProcOps(), "fast_acquire": TEXT}, f"fast_acquire {EITHER}'te"),
    ("create", {"name": "n", "ops": ProcOps(), "killable": "no"}, f"killable {EITHER}'no'"),
    ("create", {"name": Path("n"), "ops": ProcOps()}, "a path is a str, as 'driver/x', not "),
    ("lookup", {"path": "x", "cred": "root"}, CRED),
    ("stat", {"path": "", "cred": NOTHING}, CRED),
    ("open", {"path": "x", "cred": 0}, CRED),
    ("read_text", {"path": "x", "cred": Credentials}, CRED),
    ("chmod", {"path": "x", "mode": "u+r"}, f"mode {INT}'u[+]r'"),
    ("chmod", {"path": "x", "mode": 0, "cred": 0}, CRED),
    ("chown", {"path": "x", "uid": "root", "gid": -1}, f"uid {INT}'root'"),
    ("chown", {"path": "x", "uid": -1, "gid": HALF}, f"gid {INT}1.5"),
    ("access", {"path": "x", "how": "r"}, f"how, as os.R_OK, {INT}'r'"),
    ("truncate", {"path": "x", "size": HALF}, f"size {INT}1.5"),
    ("write_bytes", {"path": "x", "data": 5}, "write wants bytes, or a buffer of them, not 5"),
    ("holders", {"entry": "x"}, r"an entry, as lookup\(\) returns it, not 'x'"),
]
OF_AN_ENTRY = [
    ("chmod", {"mode": 0, "cred": "root"}, CRED),
    ("chown", {"uid": 0, "gid": 0, "cred": "root"}, CRED),
    ("__setattr__", {"mode": TEXT}, f"mode {INT}'text'"),
    ("__setattr__", {"mode": HALF}, f"mode {INT}1.5"),
    ("__setattr__", {"uid": "root"}, f"uid {INT}'root'"),
    ("__setattr__", {"gid": NOTHING}, f"gid {INT}None"),
    ("__setattr__", {"size": HALF}, f"size {INT}1.5"),
]
OF_A_FILE = [
    ("pread", {"size": TEXT, "offset": 0}, r"pread wants a size in bytes, as pread\(4096\), not"),
    ("pread", {"size": 1, "offset": HALF}, f"offset {INT}1.5"),
    ("pwrite", {"data": b"", "offset": TEXT}, f"offset {INT}'text'"),
    ("write", {"data": [b"1", 2]}, "write wants bytes, or a buffer of them, not "),
    ("readv", {"sizes": 5}, r"readv wants a size in bytes, as readv\(\[20, 30\]\), not 5"),
    ("lseek", {"offset": TEXT}, f"offset {INT}'text'"),
    ("lseek", {"offset": 0, "whence": TEXT}, f"whence, as os.SEEK_SET, {INT}'text'"),
    ("poll", {"events": "r"}, f"events, as select.POLLIN, {INT}'r'"),
    ("poll", {"timeout": TEXT}, "timeout is a number of seconds >= 0, or None for ever, not 'te"),
    ("ioctl", {"cmd": TEXT}, f"cmd {INT}'text'"),
    ("mmap", {"length": TEXT}, f"length {INT}'text'"),
    ("mmap", {"length": 1, "prot": "r"}, f"prot, as mmap.PROT_READ, {INT}'r'"),
    ("mmap", {"length": 1, "flags": TEXT}, f"flags, as mmap.MAP_SHARED, {INT}'text'"),
    ("chmod", {"mode": TEXT}, f"mode {INT}'text'"),
    ("truncate", {"size": TEXT}, f"size {INT}'text'"),
]
OF_A_DIRECTORY = [
    ("getdents", {"count": HALF}, f"count {INT}1.5"),
    ("lseek", {"offset": TEXT}, f"offset {INT}'text'"),
]
OF_A_HANDLERS_FILE = [
    ("wait_event", {"queue": TEXT, "condition": lambda: True}, "queue is a WaitQueue, .* 'text'"),
    ("wait_event", {"queue": WaitQueue(), "condition": True}, "a plain function, .*, not True"),
    ("poll_wait", {"queue": TEXT}, "queue is a WaitQueue, whose .*, not 'text'"),
]
OF_A_KERNEL = [
    ("rmmod", {"name": NOTHING}, "a module is told by its name, as 'driver', not None"),
    ("rmmod", {"name": "x", "flags": TEXT}, f"flags, as os.O_TRUNC, {INT}'text'"),
    ("find_module", {"name": ["x"]}, "a module is told by its name, as 'driver', not "),
    ("try_module_get", {"module": "x"}, r"what insmod\(\) or find_module\(\) returns, not 'x'"),
    ("module_put", {"module": "x"}, r"what insmod\(\) or find_module\(\) returns, not 'x'"),
    ("owner_of", {"entry": ["x"]}, r"an entry, as lookup\(\) returns it, not "),
]
OF_DEVICES = [
    ("register", {"name": "n", "ops": TEXT, "owner": None}, "the handlers are a ProcOps, not 'te"),
    ("register", {"name": "n", "ops": ProcOps(), "owner": "m"}, r"what insmod\(\) or .*, not 'm'"),
    (
        "register",
        {"name": "n", "ops": ProcOps(), "owner": None, "mode": TEXT},
        "mode is an int of permission bits, as 0o644, not 'text'",
    ),
    ("open", {"name": "null", "flags": "r"}, "flags are os.O_"),
    ("open", {"name": "null", "cred": "root"}, CRED),
    ("lookup", {"name": ["null"]}, "a path is a str, "),
    ("unregister", {"name": Cdev}, "a path is a str, "),
]


def cases(table: list[tuple[str, dict[str, Any], str]]) -> pytest.MarkDecorator:
    ids = [f"{call}-{next(reversed(kwargs))}-{i}" for i, (call, kwargs, _) in enumerate(table)]
    return pytest.mark.parametrize(("call", "kwargs", "text"), table, ids=ids)


async def call_it(thing: Any, call: str, kwargs: dict[str, Any]) -> None:
    """Call a method, one that waits or one that refuses at once; or set an attribute."""
    args, named = (next(iter(kwargs.items())), {}) if call == "__setattr__" else ((), kwargs)
    await getattr(thing, call)(*args, **named)


async def refuse(thing: object, call: str, kwargs: dict[str, Any], text: str) -> None:
    """It is a TypeError that says *text*."""
    with pytest.raises(TypeError, match=text):
        await call_it(thing, call, kwargs)


OPS = answering(read=b"", write=0, lseek=0, poll=0, ioctl=0, mmap=None)


@cases(IN_A_TREE)
async def test_of_a_tree(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    A tree refuses what is wrong before anything is looked up, made or opened.
    """
    async with ProcFS() as proc:
        proc.create("x", OPS, mode=0o666)
        with unchanged(proc):
            await refuse(proc, call, kwargs, text)
        assert not proc.lookup("x")._open_files


@cases(OF_AN_ENTRY)
async def test_of_an_entry(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    An entry's attributes are numbers, and are as they were after what is none.
    """
    async with ProcFS() as proc:
        entry = proc.create("x", OPS)
        with unchanged(proc):
            await refuse(entry, call, kwargs, text)


@cases(OF_A_FILE)
async def test_of_a_file(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    No handler is called with what is no number, or blamed for it.
    """
    async with ProcFS() as proc:
        entry = proc.create("x", OPS, mode=0o666)
        async with await proc.open("x", os.O_RDWR) as file:
            await refuse(file, call, kwargs, text)
            assert (file.tell(), entry.in_use) == (0, 0)


@cases(OF_A_DIRECTORY)
async def test_of_a_directory(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    The position of a directory stays where it was.
    """
    async with ProcFS() as proc, await proc.open("") as file:
        await refuse(file, call, kwargs, text)
        assert file.tell() == 0


@cases(OF_A_HANDLERS_FILE)
async def test_of_a_handlers_file(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    What nobody could be woken by is refused also where there is nothing to wait for.
    """
    async with ProcFS() as proc:
        proc.create("x", OPS)
        async with await proc.open("x") as file:
            await refuse(file.file, call, kwargs, text)


async def driver(kernel: Kernel) -> Any:
    yield


@cases(OF_A_KERNEL)
async def test_of_a_kernel(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    A module is no name, and a name no module.
    """
    async with Kernel() as kernel:
        module = await kernel.insmod(driver)
        await refuse(kernel, call, kwargs, text)
        assert (kernel.find_module("driver"), module.refcnt) == (module, 0)


@cases(OF_DEVICES)
async def test_of_devices(call: str, kwargs: dict[str, Any], text: str) -> None:
    """
    Devices take what entries take.
    """
    dev = DevFS()
    device = dev.register("null", OPS, owner=None)
    await refuse(dev, call, kwargs, text)
    assert dev.root._children.names() == ["null"]
    assert not device._open_files


@pytest.mark.parametrize("mode", [-1, 0o10000])
def test_a_devices_mode(mode: int) -> None:
    """
    A device has permission bits, as an entry.
    """
    with refused(errno.EINVAL):
        DevFS().register("x", OPS, owner=None, mode=mode)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ProcFS(mountpoint=HALF), "mountpoint is an absolute path, as '/proc', not 1.5"),
        (lambda: ProcFS(mountpoint=BYTES), "mountpoint is an absolute path, .* not b'/proc'"),
        (lambda: DevFS(NOTHING), "mountpoint is an absolute path, .* not None"),
        (lambda: ProcFS(fast_acquire=TEXT), f"fast_acquire {EITHER}'text'"),
        (lambda: Kernel(modules=LIST), "modules are programs by name, as {'driver': main},"),
        (lambda: Kernel(modules={"bus": NOTHING}), "a module is an async generator .* not None"),
        (lambda: Kernel(modules={NOTHING: driver}), "told by its name, as 'driver', not None"),
        (lambda: ProcFS(grace=True), "grace is a number of seconds >= 0, .*, not True"),
        (lambda: Kernel(module_path=NOTHING), r"a list of folders, as \['/srv/modules'\], not Non"),
        (lambda: UseCount("x", fast_acquire=TEXT), f"^fast_acquire {EITHER}'text'"),
        (lambda: ProcOps(permanent=TEXT), f"permanent {EITHER}'text'"),
        (lambda: depends("bus")(NOTHING), "a module is an async generator function .* not None"),
    ],
)
def test_what_is_made(make: Callable[[], object], text: str) -> None:
    """
    What is made with what is wrong is not made.
    """
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("name", ["\ud800", "d/\ud800"])
async def test_a_name_that_has_no_bytes(name: str) -> None:
    """
    Half of a character is no part of a name; what os.fsdecode() made of bytes is.
    """
    async with ProcFS() as proc:
        proc.mkdir("d")
        with unchanged(proc), refused(errno.EINVAL):
            proc.create(name, OPS)
        proc.create(os.fsdecode(b"\xff"), OPS)
        assert proc.listdir()[-1].encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize("target", ["\ud800", "a\0b"])
async def test_a_target_that_is_no_path(target: str) -> None:
    """
    No symlink leads where no path can, and none is left behind.
    """
    async with ProcFS() as proc:
        with unchanged(proc), refused(errno.EINVAL):
            proc.symlink("l", target)


async def test_a_task_that_is_none() -> None:
    """
    A coroutine, or what is no function, is refused by start_soon() itself, and not by the task.
    """

    async def work() -> None: ...

    async with Kernel() as kernel:
        module = await kernel.insmod(driver)
        wrong: list[Any] = [work(), NOTHING]
        for given in wrong:
            with pytest.raises(TypeError, match="wants an async function that is not called yet"):
                module.start_soon(given)
        assert kernel.oopses == 0


ELSEWHERE: list[tuple[Any, ...]] = [
    ("proc.create", "n", OPS),
    ("proc.mkdir", "n"),
    ("proc.open", "x"),
    ("proc.read_bytes", "x"),
    ("proc.write_text", "x", ""),
    ("proc.remove", "x"),
    ("proc.remove_subtree", "x"),
    ("kernel.insmod", driver),
    ("kernel.modprobe", "driver"),
    ("kernel.rmmod", "driver"),
    ("kernel.reload", "driver"),
    ("module.start_soon", anyio.sleep_forever),
]


@pytest.mark.parametrize("call", ELSEWHERE, ids=[call[0].replace(".", " ") for call in ELSEWHERE])
async def test_from_the_loop_of_another_thread(call: tuple[Any, ...]) -> None:
    """
    It is told at once what to do, whichever loop that is, and nothing is done.
    """

    async def run(kernel: Kernel, module: Module) -> None:
        name, *args = call
        method = attrgetter(name)(SimpleNamespace(kernel=kernel, proc=kernel.proc, module=module))
        with pytest.raises(RuntimeError, match=r"of another thread: .* anyio.from_thread.run_sync"):
            await method(*args)

    async with Kernel() as kernel:
        module = await kernel.insmod(driver)
        kernel.proc.create("x", OPS, mode=0o666)
        before = tree(kernel.proc)
        await to_thread.run_sync(anyio.run, run, kernel, module)
        assert tree(kernel.proc) == before
        assert kernel.lsmod() == [module.info()]


async def test_the_way_from_another_thread() -> None:
    """
    What the error says, works.
    """
    async with ProcFS() as proc:
        create = partial(proc.create, "x", OPS)
        await to_thread.run_sync(from_thread.run_sync, create)
        assert proc.listdir() == ["x"]


@pytest.mark.parametrize("make", [ProcFS, Kernel])
async def test_a_block_is_entered_once_and_then_left(make: type[ProcFS | Kernel]) -> None:
    """
    Leaving what was not entered, or was left, and entering twice, are errors that change nothing.
    """
    thing = make()
    with pytest.raises(RuntimeError, match=r"is left once, after it was entered"):
        await thing.__aexit__(None, None, None)
    async with thing:
        with pytest.raises(RuntimeError, match=f"^a {make.__name__} can be entered once: make ano"):
            await thing.__aenter__()
    with pytest.raises(RuntimeError, match=r"is left once, after it was entered"):
        await thing.__aexit__(None, None, None)
