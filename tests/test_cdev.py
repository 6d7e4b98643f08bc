"""Character devices: pinned by their open files, if they know their owner."""

from __future__ import annotations

import os
import stat
from errno import EACCES, EEXIST, EINVAL, EIO, ENAMETOOLONG, ENOENT, ENXIO, EWOULDBLOCK
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import Credentials, DevFS, File, Kernel, ProcOps, UseAfterFreeError, this_module
from tests.helpers import Handlers, refused, start, too_late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FORCE = os.O_TRUNC


class Chrmod:
    """The module `chrmod` of the recordings: a device of its name, with or without an owner."""

    def __init__(self) -> None:
        self.handlers = Handlers(b"chrmod")

    async def main(self, kernel: Kernel, no_owner: bool = False) -> AsyncIterator[None]:
        owner = None if no_owner else this_module()
        ops = self.handlers.ops("open", "read", "release")
        kernel.dev.register("chrmod", ops, owner=owner)
        yield
        kernel.dev.unregister("chrmod")


class TestDevFS:
    """Devices that belong to no module."""

    async def test_open_and_read(self) -> None:
        """
        A device's handlers are those of an entry, plain or not, and get its data.
        """
        dev = DevFS()
        handlers = Handlers(b"content")

        def write(file: File, data: bytes, pos: int) -> int:
            file.data.append(data)
            return len(data)

        written: list[bytes] = []
        ops = ProcOps(read=handlers.read, write=write)
        cdev = dev.register("x", ops, owner=None, data=written)
        async with await dev.open("x", os.O_RDWR) as file:
            assert await file.read(4) == b"cont"
            assert await file.write(b"data") == 4
        assert written == [b"data"]
        assert stat.S_ISCHR(cdev.type)
        assert (cdev.path, cdev.mode, dev.lookup("x")) == ("/dev/x", 0o666, cdev)
        assert repr(dev) == "<DevFS '/dev' with 1 devices>"

    def test_names(self) -> None:
        """
        A name that is taken, or that no device can have, is refused.
        """
        dev = DevFS()
        dev.register("x", ProcOps(), owner=None, mode=0o600)
        names = {"x": EEXIST, "": EINVAL, "..": EINVAL, "a/b": EINVAL, "x" * 256: ENAMETOOLONG}
        for name, errno in names.items():
            with refused(errno):
                dev.register(name, ProcOps(), owner=None)
        assert dev.lookup("x").mode == 0o600
        for call in (dev.lookup, dev.unregister):
            with refused(ENOENT):
                call("y")

    async def test_open_is_refused(self) -> None:
        """
        Without the device, the permission, or the wish for more than its path.
        """
        dev = DevFS()
        dev.register("x", ProcOps(), owner=None, mode=0o600)
        with refused(ENOENT):
            await dev.open("y")
        with refused(EINVAL):
            await dev.open("x", os.O_PATH)
        for flags in (os.O_RDONLY, os.O_WRONLY):
            with refused(EACCES):
                await dev.open("x", flags, cred=Credentials(uid=5))

    async def test_deleted(self) -> None:
        """
        A deleted device is not opened any more, but who has it open goes on calling.
        """
        dev = DevFS()
        handlers = Handlers(b"content")
        cdev = dev.register("x", handlers.ops("read", "release"), owner=None)
        async with await dev.open("x") as file:
            await cdev.remove()
            assert cdev.statistics().state == "unlinked"
            assert not cdev.remove_self()
            with refused(ENOENT):
                await dev.open("x")
            assert await file.read() == b"content"
            assert cdev.holders() == []
        assert handlers.log == ["read None", "release None"]
        dev.register("x", ProcOps(), owner=None)
        await cdev.remove()
        assert dev.lookup("x") is not cdev


class TestOwner:
    async def test_open_files_pin_it(self) -> None:
        """
        rmmod is refused as long as a file is open, with O_NONBLOCK or without (g10).
        """
        chrmod = Chrmod()
        async with Kernel() as kernel:
            module = await kernel.insmod(chrmod.main, "chrmod")
            async with await kernel.dev.open("chrmod"):
                assert module.refcnt == 1
                for flags in (os.O_NONBLOCK, 0):
                    with refused(EWOULDBLOCK):
                        await kernel.rmmod("chrmod", flags)
            assert chrmod.handlers.log[-1] == "release 1"
            assert module.refcnt == 0
            await kernel.rmmod("chrmod")
            with refused(ENOENT):
                await kernel.dev.open("chrmod")

    async def test_call_inside(self) -> None:
        """
        With a read in flight rmmod fails at once, and the device is opened as before (g11).
        """
        chrmod = Chrmod()
        chrmod.handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(chrmod.main, "chrmod")
            file = await kernel.dev.open("chrmod")
            read = await start(tg, file.read)
            with refused(EWOULDBLOCK):
                await kernel.rmmod("chrmod")
            await (await kernel.dev.open("chrmod")).aclose()
            chrmod.handlers.let_go("read")
            await wait_all_tasks_blocked()
            assert read.result == b"chrmod"
            await file.aclose()
            await kernel.rmmod("chrmod")

    async def test_duplicates_pin_once(self) -> None:
        """
        The pin is the open file's: it ends with the last of its descriptors.
        """
        chrmod = Chrmod()
        async with Kernel() as kernel:
            module = await kernel.insmod(chrmod.main, "chrmod")
            file = await kernel.dev.open("chrmod")
            other = file.dup()
            await file.aclose()
            assert module.refcnt == 1
            await other.aclose()
            assert module.refcnt == 0

    async def test_open_that_fails(self) -> None:
        """
        An open that fails, or is cancelled, pins nothing; nor does one that fails without owner.
        """
        chrmod = Chrmod()
        async with Kernel() as kernel, create_task_group() as tg:
            module = await kernel.insmod(chrmod.main, "chrmod")
            chrmod.handlers.errors["open"] = OSError(ENXIO, "open")
            with refused(ENXIO):
                await kernel.dev.open("chrmod")
            assert module.refcnt == 0
            chrmod.handlers.hold_up("open")
            call = await start(tg, kernel.dev.open, "chrmod")
            assert module.refcnt == 1
            call.cancel()
            await wait_all_tasks_blocked()
            assert module.refcnt == 0

        async def refuse(file: File) -> None:
            raise OSError(ENXIO, "open")

        dev = DevFS()
        dev.register("x", ProcOps(open=refuse), owner=None)
        with refused(ENXIO):
            await dev.open("x")

    async def test_release_that_fails(self) -> None:
        """
        The pin ends even if the release handler raises.
        """
        chrmod = Chrmod()
        chrmod.handlers.errors["release"] = ValueError("release")
        async with Kernel() as kernel:
            module = await kernel.insmod(chrmod.main, "chrmod")
            file = await kernel.dev.open("chrmod")
            with pytest.raises(ValueError, match="release"):
                await file.aclose()
            assert module.refcnt == 0

    async def test_that_is_going(self) -> None:
        """
        A device whose module is going cannot be opened: ENXIO.
        """
        may_exit = anyio.Event()

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.dev.register("x", ProcOps(), owner=this_module())
            yield
            await may_exit.wait()
            kernel.dev.unregister("x")

        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(main)
            await start(tg, kernel.rmmod, "main")
            with refused(ENXIO):
                await kernel.dev.open("x")
            may_exit.set()

    async def test_forgotten_device(self) -> None:
        """
        A device that exit forgot is deleted, with a warning.
        """

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.dev.register("x", ProcOps(), owner=this_module())
            yield

        async with Kernel() as kernel:
            await kernel.insmod(main)
            with pytest.warns(ResourceWarning, match="/dev/x"):
                await kernel.rmmod("main")
            with refused(ENOENT):
                kernel.dev.lookup("x")

    async def test_reload(self) -> None:
        """
        The names of devices change places with those of entries.
        """
        async with Kernel() as kernel:
            await kernel.insmod(Chrmod().main, "chrmod")
            old = kernel.dev.lookup("chrmod")
            await kernel.reload("chrmod")
            assert kernel.dev.lookup("chrmod") is not old
            async with await kernel.dev.open("chrmod") as file:
                assert await file.read() == b"chrmod"


class TestMistake:
    """owner=None, and what comes of it (g20)."""

    async def test_module_goes_under_an_open_file(self) -> None:
        """
        rmmod succeeds; a read, and then the close, reach code that is gone.
        """
        chrmod = Chrmod()
        async with Kernel() as kernel:
            module = await kernel.insmod(chrmod.main, "chrmod", no_owner=True)
            file = await kernel.dev.open("chrmod")
            assert module.refcnt == 0
            await kernel.rmmod("chrmod")
            for call, handler in ((file.read, "read"), (file.aclose, "release")):
                with pytest.raises(UseAfterFreeError) as caught:
                    await call()
                exc = caught.value
                assert (exc.module, exc.entry, exc.handler) == ("chrmod", "/dev/chrmod", handler)
            assert kernel.uses_after_free == 2
            assert chrmod.handlers.log == ["open 1"]

    @pytest.mark.parametrize("error", [None, ValueError("the database is closed")])
    async def test_module_goes_under_a_call(self, error: ValueError | None) -> None:
        """
        A call that was inside has nowhere to return to, whatever it came to.
        """
        chrmod = Chrmod()
        chrmod.handlers.hold_up("read")
        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(chrmod.main, "chrmod", no_owner=True)
            file = await kernel.dev.open("chrmod")
            read = await start(tg, file.read)
            await kernel.rmmod("chrmod")
            if error is not None:
                chrmod.handlers.errors["read"] = error
            chrmod.handlers.let_go("read")
            await wait_all_tasks_blocked()
            with pytest.raises(UseAfterFreeError) as caught:
                _ = read.result
            assert caught.value.__cause__ is error
            with pytest.raises(UseAfterFreeError):
                await file.aclose()

    async def test_forced_rmmod_is_the_same_mistake(self) -> None:
        """
        Force takes the module away in spite of its pins.
        """
        chrmod = Chrmod()
        async with Kernel() as kernel:
            module = await kernel.insmod(chrmod.main, "chrmod")
            file = await kernel.dev.open("chrmod")
            await kernel.rmmod("chrmod", FORCE)
            with pytest.raises(UseAfterFreeError):
                await file.read()
            with pytest.raises(UseAfterFreeError):
                await file.aclose()
            assert module.refcnt == 0

    async def test_an_entry_makes_no_such_mistake(self) -> None:
        """
        The same handlers in the tree: the guard needs no owner.
        """
        handlers = Handlers(b"content")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("x", handlers.ops("read", "release"))
            yield
            await kernel.proc.remove("x")

        async with Kernel() as kernel:
            await kernel.insmod(main)
            file = await kernel.proc.open("x")
            await kernel.rmmod("main")
            with too_late("read", EIO):
                await file.read()
            await file.aclose()
            assert kernel.uses_after_free == 0
            assert handlers.log == ["release None"]
