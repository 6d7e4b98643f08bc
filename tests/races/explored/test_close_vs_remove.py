"""Closes and a removal, in every order."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from aiopde import File

    from ._play import Play


async def close_and_remove(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    p.start("closer", p.close, file)
    p.start("remover", p.remove, entry)


async def read_close_and_remove(p: Play) -> None:
    entry = p.create("x", "read release")
    file = await p.open(entry)
    p.start("closer", file.aclose)
    p.start("reader", file.read, 3)
    p.start("remover", p.remove, entry)


async def two_closes_and_remove(p: Play) -> None:
    entry = p.create("x", "release")
    one, other = await p.open(entry), await p.open(entry)
    p.start("first", p.close, one)
    p.start("remover", p.remove, entry)
    p.start("second", p.close, other)


async def three_files_and_remove(p: Play) -> None:
    entry = p.create("x", "", "release")
    files = [await p.open(entry) for _ in range(3)]
    p.start("closer", p.close, files[1])
    p.start("remover", p.remove, entry)


async def close_and_reuse_the_number(p: Play) -> None:
    entry = p.create("x", "release")
    file = await p.open(entry)
    closed: list[bool] = []

    async def close() -> None:
        await checkpoint()
        closed.append(True)
        await file.aclose()

    async def reuse() -> None:
        await p.remove(entry)
        new = p.create("yy", "", "read")
        assert closed or new.ino != entry.ino, "the number of an open file was given away (I33)"
        p.create("zzz", "", "read")

    p.start("closer", close)
    p.start("remover", reuse)


async def open_what_goes_and_reuse(p: Play) -> None:
    directory = p.mkdir("d")

    async def open_and_close() -> None:
        file = await p.open(directory)  # it has no handlers, so that nothing refuses that
        await file.aclose()
        p.create("x", "", "read")

    async def remove() -> None:
        await p.remove(directory)
        p.create("yy", "", "read")

    p.start("opener", open_and_close)
    p.start("remover", remove)


async def failing_calls_and_close(p: Play) -> None:
    async def fail(file: File, *args: int) -> int:
        await p.step("call", file)
        raise OSError(errno.EINVAL, "no")

    ops = p.package.ProcOps(lseek=fail, mmap=fail, release=p.ops("", "release").release)
    file = await p.open(p.know(p.proc.create("x", ops)))
    p.start("closer", file.aclose)
    p.start("mapper", file.mmap, 1)
    p.start("seeker", file.lseek, 0)


async def failing_release_and_remove(p: Play) -> None:
    async def release(file: File) -> None:
        await p.step("release", file)
        raise ValueError(file)

    async def close() -> None:
        with suppress(ValueError):
            await p.close(file)

    async def remove() -> None:
        with suppress(ExceptionGroup):
            await p.remove(entry)
        assert entry.statistics().state == "gone", "one that failed has stopped the rest"

    entry = p.know(p.proc.create("x", p.package.ProcOps(release=release)))
    file = await p.open(entry)
    p.start("closer", close)
    p.start("remover", remove)


@everyone("closer", "remover")
def test_one_of_them_releases_and_the_other_waits(backend: str, victim: str) -> None:
    """
    Release runs once, whoever comes first; both return after it has ended.
    """
    assert "closer ok, remover ok" in exhaust(close_and_remove, backend, victim)


@everyone("closer", "reader", only_on_trio=("remover",))
def test_a_close_under_a_read(backend: str, victim: str) -> None:
    """
    A file closed under a call is released when the call has left, by whoever is last.
    """
    seen = exhaust(read_close_and_remove, backend, victim)
    for reader in ("ok", "EIO", "EBADF"):
        assert f"closer ok, reader {reader}, remover ok" in seen


@everyone(only_on_trio=("first",))  # the others' cancellations are in the races above, for less
def test_two_closes(backend: str, victim: str) -> None:
    """
    The list of open files may change while the removal goes through it.
    """
    seen = exhaust(two_closes_and_remove, backend, victim)
    assert "first ok, remover ok, second ok" in seen


@everyone("closer", "remover")
def test_releases_that_wait_for_nothing(backend: str, victim: str) -> None:
    """
    The same with a release handler that is a plain function.
    """
    assert "closer ok, remover ok" in exhaust(three_files_and_remove, backend, victim)


@everyone("closer")
def test_a_number_is_free_after_the_last_close(backend: str, victim: str) -> None:
    """
    The number of what is gone is given to something new once, and not while a file is open (I33).
    """
    assert "closer ok, remover ok" in exhaust(close_and_reuse_the_number, backend, victim)


@everyone("opener", "remover")
def test_a_number_is_free_once(backend: str, victim: str) -> None:
    """
    A file opened of what is gone holds no number, so that its close gives none back (I33).
    """
    assert "opener ok, remover ok" in exhaust(open_what_goes_and_reuse, backend, victim)


@everyone("mapper", "seeker")
def test_a_call_that_fails_has_left(backend: str, victim: str) -> None:
    """
    What a handler raises goes to its caller, and holds neither the file nor its position.
    """
    seen = exhaust(failing_calls_and_close, backend, victim)
    assert "closer ok, mapper EINVAL, seeker EINVAL" in seen


@everyone("closer")  # what fails after a remover was cancelled is raised by the end of the tree
def test_a_release_that_fails_is_over(backend: str, victim: str) -> None:
    """
    Whoever waits for it goes on, be it the close or the removal.
    """
    assert "closer ok, remover ok" in exhaust(failing_release_and_remove, backend, victim)
