"""Reads and a removal, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import File

    from ._play import Play


async def read_and_remove(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    p.start("reader", file.read, 3)
    p.start("remover", p.remove, entry)


async def two_reads_and_remove(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    p.start("first", file.read, 3)
    p.start("second", file.read, 3)
    p.start("remover", p.remove, entry)


async def three_reads_and_close(p: Play) -> None:
    file = await p.open(p.create("x", "read", "release"))
    for name in ("first", "second", "third"):
        p.start(name, file.read, 1)
    p.start("closer", file.aclose)


async def two_reads_beside_one(p: Play) -> None:
    file = await p.open(p.create("x", "read"))

    async def read_twice() -> None:
        await file.read(1)
        await file.read(1)

    p.start("first", read_twice)
    p.start("second", file.read, 1)


async def two_reads_after_a_pread(p: Play) -> None:
    file = await p.open(p.create("x", "read", "release"))
    p.close_later(file.dup())  # or what is rare about the file would be forgotten
    await file.pread(1, 0)
    found: list[bytes] = []

    async def read() -> None:
        found.append(await file.read(3))
        assert found in ([b"012"], [b"012", b"345"]), "both have read the same (I26)"

    p.start("first", read)
    p.start("second", read)


async def preads_and_remove(p: Play) -> None:
    entry = p.create("x", "read", "release")
    file = await p.open(entry)
    p.start("first", file.pread, 3, 0)
    p.start("second", file.pread, 3, 2)
    p.start("remover", p.remove, entry)


async def read_all_and_remove(p: Play) -> None:
    async def read(file: File, size: int, pos: int) -> bytes:
        assert not gone, "read after the removal (I8)"
        await checkpoint()
        assert not gone, "the removal has not waited (I9)"
        return b"all"[pos : pos + 2]

    async def read_all() -> None:
        assert await p.proc.read_bytes(entry) == b"all", "only a part of it, and no error"

    async def remove() -> None:
        await p.remove(entry)
        gone.append("entry")

    gone: list[str] = []
    entry = p.know(p.proc.create("x", p.package.ProcOps(read=read)))
    p.start("reader", read_all)
    p.start("remover", remove)


@everyone("reader", "remover")
def test_all_of_it_is_read_or_nothing(backend: str, victim: str) -> None:
    """
    read_bytes() is one call inside the guard, however often its handler runs.
    """
    seen = exhaust(read_all_and_remove, backend, victim)
    assert {"reader ok, remover ok", "reader ENOENT, remover ok"} <= seen


@everyone("reader", "remover")
def test_a_read_is_let_in_or_refused(backend: str, victim: str) -> None:
    """
    The read answers or is refused; the removal ends; nothing is left, whoever is cancelled.
    """
    seen = exhaust(read_and_remove, backend, victim)
    assert {"reader ok, remover ok", "reader EIO, remover ok"} <= seen


@everyone("first", only_on_trio=("remover",))
def test_who_waits_for_the_position_is_refused(backend: str, victim: str) -> None:
    """
    Of two reads that share a position, either may get in before the removal, or both, or none.
    """
    seen = exhaust(two_reads_and_remove, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, remover ok, second {second}" in seen


@everyone()
def test_the_position_goes_from_one_to_the_next(backend: str, victim: str) -> None:
    """
    However many wait for it, each gets it once the one before has left, and none is forgotten.
    """
    assert "closer ok, first ok, second ok, third ok" in exhaust(
        three_reads_and_close, backend, victim
    )


@everyone("second")
def test_a_position_is_passed_on_by_who_is_cancelled(backend: str, victim: str) -> None:
    """
    Whoever is cancelled with the position just handed to him does not keep it.
    """
    seen = exhaust(two_reads_beside_one, backend, victim)
    assert {"first ok, second ok", "first ok, second cancelled"} <= seen


@everyone("first", only_on_trio=("remover",))
def test_reads_side_by_side(backend: str, victim: str) -> None:
    """
    Reads that share no position are inside together, and the removal waits for the last.
    """
    seen = exhaust(preads_and_remove, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, remover ok, second {second}" in seen


@everyone("first")
def test_who_shares_a_position_never_reads_the_same(backend: str, victim: str) -> None:
    """
    One read at a time, whoever was inside before beside the position.
    """
    assert "first ok, second ok" in exhaust(two_reads_after_a_pread, backend, victim)
