"""The modules that recordings load, written as any module for the library is."""

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiopde import ProcOps, depends, this_module

from ._kernel import MODULE_DATA, Registration, checked, seek
from ._words import decode, number

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aiopde import File, Kernel as Library, ProcDirEntry

    Program = Callable[..., AsyncGenerator[None]]

DEVICE_MODE: Final = 0o600
"""That of a misc device which does not say."""


async def pdemod(
    kernel: Library,
    *,
    probe: Registration,
    name: str = "pdemod",
    fail_init: str = "0",
    no_remove: str = "0",
) -> AsyncGenerator[None]:
    """The classical module: an entry from init to exit."""

    async def open(file: File) -> None:
        checked(await probe.run("open", None, lambda: 0))

    async def read(file: File, size: int, pos: int) -> Any:
        return await probe.slice("read", None, size, pos)

    async def lseek(file: File, offset: int, whence: int) -> int:
        return checked(seek(file, offset, whence))

    async def release(file: File) -> None:
        await probe.run("release", None, lambda: 0)

    ops = ProcOps(open=open, read=read, lseek=lseek, release=release)
    entry = probe.kernel.try_to_make(lambda: kernel.proc.create(name, ops))
    error = number(fail_init) if entry is not None else -ENOMEM
    error = await probe.enter_init(error, f"pde={int(entry is not None)}")
    if error < 0:
        await _remove(entry)
    probe.leave("init", None, error)
    checked(error)
    yield
    await probe.enter("exit", None)
    if no_remove != "1":
        await _remove(entry)
    probe.leave("exit", None, 0)


async def _remove(entry: ProcDirEntry | None) -> None:
    """Remove what was made, also if this is an init that is being cancelled."""
    if entry is not None:
        with anyio.CancelScope(shield=True):
            await entry.remove()


@depends("pdemod")
async def pdedep(kernel: Library, *, probe: Registration) -> AsyncGenerator[None]:
    """A module that needs a symbol of another, and does nothing with it."""
    yield


async def chrmod(
    kernel: Library, *, probe: Registration, no_owner: str = "0"
) -> AsyncGenerator[None]:
    """A character device, which pins its module unless that forgets to say who owns it."""

    async def open(file: File) -> None:
        checked(await probe.run("open", None, lambda: 0))

    async def read(file: File, size: int, pos: int) -> Any:
        return await probe.slice("read", None, size, pos)

    async def lseek(file: File, offset: int, whence: int) -> int:
        return checked(seek(file, offset, whence))

    async def release(file: File) -> None:
        await probe.run("release", None, lambda: 0)

    owner = None if no_owner == "1" else this_module()
    ops = ProcOps(open=open, read=read, lseek=lseek, release=release)
    kernel.dev.register("chrmod", ops, owner=owner, mode=DEVICE_MODE)
    error = await probe.enter_init(0)
    if error < 0:
        kernel.dev.unregister("chrmod")
    probe.leave("init", None, error)
    checked(error)
    yield
    await probe.enter("exit", None)
    kernel.dev.unregister("chrmod")
    probe.leave("exit", None, 0)


PROGRAMS: Final[dict[str, Program]] = {"pdemod": pdemod, "pdedep": pdedep, "chrmod": chrmod}
assert PROGRAMS.keys() == MODULE_DATA.keys()


def parameters(program: Program, text: str) -> dict[str, str]:
    """Read what insmod was given; like Linux, let pass what the module does not know."""
    given = dict(word.split("=", 1) for word in decode(text).split())
    known: dict[str, Any] = program.__kwdefaults__ or {}
    return {key: value for key, value in given.items() if key in known}
