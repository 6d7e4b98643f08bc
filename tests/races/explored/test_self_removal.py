"""A handler that removes its own entry, and somebody else who does, in every order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import File

    from ._play import Play


async def remove_self_and_remove(p: Play) -> None:
    async def write(file: File, data: bytes, pos: int) -> int:
        await checkpoint()
        file.entry.remove_self()
        await checkpoint()
        return len(data)

    entry = p.know(p.proc.create("x", p.package.ProcOps(write=write), mode=0o600))
    file = await p.open(entry, os.O_WRONLY)
    p.start("remover", p.remove, entry)
    p.start("writer", file.write, b"off")


@everyone("remover", "writer")
def test_it_begins_once_and_ends_after_the_handler(backend: str, victim: str) -> None:
    """
    Either begins it, the other joins; it ends after the handler has left.
    """
    seen = exhaust(remove_self_and_remove, backend, victim)
    assert {"remover ok, writer ok", "remover ok, writer EIO"} <= seen
