"""A removal with a grace and calls that take long, in every order; the clock is virtual."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import File

    from ._play import Play


async def killable_call_and_remove(p: Play, seconds: float = 5) -> None:
    async def read(file: File, size: int, pos: int) -> bytes:
        await p.step("read", file)
        await anyio.sleep(seconds)
        return b"done"

    async def remove_in_time() -> None:
        try:
            await p.remove(entry, 1)
        except p.package.RemovalTimeoutError:
            pytest.fail("whoever is inside can be cancelled, and was not (B27)")

    ops = p.package.ProcOps(read=read, release=p.ops("release").release)
    entry = p.know(p.proc.create("x", ops, killable=True))
    file = await p.open(entry)
    p.start("reader", file.read, 4)
    p.start("remover", remove_in_time)


async def killable_call_that_ends_as_the_grace_does(p: Play) -> None:
    await killable_call_and_remove(p, 1)


async def stubborn_call_and_remove(p: Play) -> None:
    async def read(file: File, size: int, pos: int) -> bytes:
        await anyio.sleep(5)
        return b"done"

    told: list[list[str]] = []

    async def remove() -> None:
        try:
            await p.remove(entry, 1)
        except p.package.RemovalTimeoutError as exc:
            told.append([holder.op for holder in exc.holders])
            raise
        finally:
            assert entry.removing, "it has come back (I1)"
            assert told in ([], [["read"]])

    entry = p.know(p.proc.create("x", p.package.ProcOps(read=read)))
    file = await p.open(entry)
    p.start("reader", file.read, 4)
    p.start("remover", remove)
    p.start("joiner", p.remove, entry)


async def long_release_and_remove(p: Play) -> None:
    async def release(file: File) -> None:
        await anyio.sleep(5)
        await p.step("release", file)

    ops = p.package.ProcOps(read=p.ops("read").read, release=release)
    entry = p.know(p.proc.create("x", ops, killable=True))
    file = await p.open(entry)
    p.start("closer", p.close, file)
    p.start("remover", p.remove, entry, 1)


@everyone("closer", "remover")
def test_a_release_is_never_cut_short(backend: str, victim: str) -> None:
    """
    The grace cancels no release handler: it says that it takes long.
    """
    seen = exhaust(long_release_and_remove, backend, victim)
    assert {"closer ok, remover ETIMEDOUT", "closer ok, remover ok"} & seen


@everyone("reader", "remover")
def test_what_may_be_cancelled_is(backend: str, victim: str) -> None:
    """
    When the grace has ended, the call inside is cancelled, its caller told, and the removal ends.
    """
    seen = exhaust(killable_call_and_remove, backend, victim)
    assert "reader EIO, remover ok" in seen
    assert "reader ok, remover ok" not in seen or victim == "remover"


@everyone("reader", "remover")
def test_who_is_done_in_time_is_not_cancelled(backend: str, victim: str) -> None:
    """
    A call that ends at the very moment of the grace has answered, or was cancelled; not both.
    """
    seen = exhaust(killable_call_that_ends_as_the_grace_does, backend, victim)
    assert {"reader ok, remover ok", "reader EIO, remover ok"} <= seen


@everyone("reader", "remover", "joiner")
def test_what_may_not_be_cancelled_is_named(backend: str, victim: str) -> None:
    """
    Of a stubborn call the remover is told; the removal goes on, and who joined it sees its end.
    """
    seen = exhaust(stubborn_call_and_remove, backend, victim)
    assert "joiner ok, reader ok, remover ETIMEDOUT" in seen
