"""Writes and a removal, in every order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import File

    from ._play import Play


async def two_writes_and_remove(p: Play) -> None:
    entry = p.know(p.proc.create("x", p.ops("write", "release"), mode=0o600))
    file = await p.open(entry, os.O_WRONLY)
    p.start("first", file.write, b"one")
    p.start("second", file.pwrite, b"two", 5)
    p.start("remover", p.remove, entry)


async def write_all_and_remove(p: Play) -> None:
    taken: list[bytes] = []

    async def write(file: File, data: bytes, pos: int) -> int:
        await p.step("write", file)
        taken.append(data[:1])
        return 1

    async def write_all() -> None:
        try:
            await p.proc.write_bytes(entry, b"ab")
        except anyio.get_cancelled_exc_class():
            taken.clear()  # in the step in which it leaves; part of it is no mistake then
            raise
        assert b"".join(taken) == b"ab", "a part of it was written, and no error came"

    async def remove() -> None:
        await p.remove(entry)
        assert b"".join(taken) != b"a", "removed half-way (I9)"

    entry = p.know(p.proc.create("x", p.package.ProcOps(write=write), mode=0o600))
    p.start("writer", write_all)
    p.start("remover", remove)


@everyone("first", "second", only_on_trio=("remover",))
def test_a_write_is_let_in_or_refused(backend: str, victim: str) -> None:
    """
    Each write, at the position or beside it, answers with what it wrote or is refused.
    """
    seen = exhaust(two_writes_and_remove, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, remover ok, second {second}" in seen


@everyone("writer", "remover")
def test_all_of_it_is_written_or_nothing(backend: str, victim: str) -> None:
    """
    write_bytes() is one call inside the guard, however often its handler runs.
    """
    seen = exhaust(write_all_and_remove, backend, victim)
    assert {"remover ok, writer ok", "remover ok, writer ENOENT"} <= seen
