"""Reads of records and a removal, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiopde import SeqFile

    from ._play import Play


async def three_sessions(p: Play) -> None:
    async def show() -> str:
        await checkpoint()
        return "text"

    async def read_twice() -> None:
        await file.pread(99, 0)
        await file.pread(99, 0)

    file = p.close_later(await p.proc.open(p.know(p.proc.create_single("x", show))))
    p.start("other", read_twice)
    p.start("reader", file.pread, 99, 0)


async def iterate_and_remove(p: Play) -> None:
    sessions: list[str] = []

    async def start(m: SeqFile, pos: int) -> int | None:
        assert sessions[-1:] != ["start"], "two sessions at once (I39)"
        sessions.append("start")
        return pos if pos < 2 else None

    async def step(m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        await checkpoint()
        return (pos + 1 if pos < 1 else None), pos + 1

    async def stop(m: SeqFile, item: object) -> None:
        sessions.append("stop")

    async def show(m: SeqFile, item: int) -> None:
        assert sessions[-1] == "start", "a record outside a session (I39)"
        m.puts(f"{item}\n")

    async def remove() -> None:
        await p.remove(entry)
        assert sessions.count("start") == sessions.count("stop"), "gone in a session (I8)"

    ops = p.package.SeqOps(start=start, next=step, stop=stop, show=show)
    entry = p.know(p.proc.create_seq("x", ops))
    file = p.close_later(await p.proc.open(entry))
    p.start("reader", file.read, 99)
    p.start("other", file.pread, 99, 0)
    p.start("remover", remove)


async def generate_and_remove(p: Play) -> None:
    live: list[str] = []

    async def lines() -> AsyncIterator[str]:
        live.append("generator")
        try:
            yield "a\n"
            await checkpoint()
            yield "b\n"
        finally:
            live.remove("generator")

    async def read() -> None:
        assert await file.read(1) + await file.read(99) == b"a\nb\n", "lost or repeated (I41)"

    async def remove() -> None:
        await p.remove(entry)
        assert not live, "a generator outlives its entry (I8)"

    entry = p.know(p.proc.create_seq("x", lines))
    file = p.close_later(await p.proc.open(entry))
    p.start("reader", read)
    p.start("closer", file.aclose)
    p.start("remover", remove)


@everyone("reader", "other")
def test_whose_turn_it_is_may_be_cancelled(backend: str, victim: str) -> None:
    """
    Who waits for the buffer and is cancelled, at whatever moment, holds nobody up.
    """
    assert "other ok, reader ok" in exhaust(three_sessions, backend, victim)


@everyone("reader", "other", only_on_trio=("remover",))
def test_each_session_is_stopped(backend: str, victim: str) -> None:
    """
    One session at a time, each ended by one stop, before the removal returns.
    """
    seen = exhaust(iterate_and_remove, backend, victim)
    for other, reader in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"other {other}, reader {reader}, remover ok" in seen


@everyone("reader", "closer", only_on_trio=("remover",))
def test_no_generator_is_left_running(backend: str, victim: str) -> None:
    """
    What makes the records is closed with the file, by whoever releases it.
    """
    seen = exhaust(generate_and_remove, backend, victim)
    assert "closer ok, reader EIO, remover ok" in seen
