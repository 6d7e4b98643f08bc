"""A reload and calls on what is reloaded, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import KernelPlay, everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiopde import File, Kernel


def version(
    p: KernelPlay, number: int, *, slow: bool = True
) -> Callable[[Kernel], AsyncIterator[None]]:
    data: list[bytes] = []

    async def read(file: File, size: int, pos: int) -> bytes:
        assert data, "called before init was done, or after exit (I45)"
        if slow:
            await checkpoint()
        return data[0][pos : pos + size]

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        entry = p.know(kernel.proc.create("x", p.package.ProcOps(read=read)))
        data.append(b"version %d" % number)
        yield
        await entry.remove()
        data.clear()

    return main


async def read_and_reload(p: KernelPlay, *, slow: bool = True) -> None:
    await p.kernel.insmod(version(p, 1, slow=slow), "driver")
    file = await p.open("x")

    async def read() -> None:
        assert await file.read(99) == b"version 1", "a file has changed its version (I34)"

    p.start("reader", read)
    p.start("reload", p.kernel.reload, "driver", version(p, 2, slow=slow))


async def read_quickly_and_reload(p: KernelPlay) -> None:
    await read_and_reload(p, slow=False)


async def read_all_and_reload(p: KernelPlay) -> None:
    await p.kernel.insmod(version(p, 1), "driver")

    async def read() -> None:
        assert await p.proc.read_bytes("x") in (b"version 1", b"version 2")

    p.start("reader", read)
    p.start("reload", p.kernel.reload, "driver", version(p, 2))


@everyone("reader", only_on_trio=("reload",))
def test_a_file_stays_with_its_version(backend: str, victim: str) -> None:
    """
    A call on an open file is answered by the version that opened it, or refused.
    """
    # A reload has so many checkpoints that with those of the handler it takes five times as long.
    scenario = read_quickly_and_reload if victim == "reload" else read_and_reload
    seen = exhaust(scenario, backend, victim, KernelPlay)
    assert {"reader ok, reload ok", "reader EIO, reload ok"} <= seen


@everyone(only_on_trio=("reader",))
def test_one_version_or_the_other(backend: str, victim: str) -> None:
    """
    Who reads by name gets one version or the other, whole, and never an error.
    """
    seen = exhaust(read_all_and_reload, backend, victim, KernelPlay)
    assert "reader ok, reload ok" in seen
    assert not any("reader E" in ended for ended in seen)
