"""A handler that waits for a condition, its waker and a removal, in every order."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde import File, ProcDirEntry, ProcFile

    from ._play import Play


async def mailbox(p: Play) -> tuple[ProcDirEntry, ProcFile, Callable[[], Awaitable[None]]]:
    """Make an entry whose reads wait for a queue; return what wakes them, too."""
    queue = p.package.WaitQueue()
    ready: list[bool] = []

    async def read(file: File, size: int, pos: int) -> bytes:
        await file.wait_event(queue, lambda: ready)
        return b"ready"

    async def wake() -> None:
        await checkpoint()
        ready.append(True)
        queue.wake_up()

    entry = p.know(p.proc.create("x", p.package.ProcOps(read=read)))
    return entry, await p.open(entry), wake


async def wait_wake_and_remove(p: Play) -> None:
    entry, file, wake = await mailbox(p)
    p.start("reader", file.read, 5)
    p.start("remover", p.remove, entry)
    p.start("waker", wake)


async def two_wait_and_wake(p: Play) -> None:
    _, file, wake = await mailbox(p)
    p.start("first", file.pread, 5, 0)
    p.start("second", file.pread, 5, 0)
    p.start("waker", wake)


async def wait_and_remove(p: Play) -> None:
    queue = p.package.WaitQueue()

    async def read(file: File, size: int, pos: int) -> bytes:
        await file.wait_event(queue, lambda: False)
        return b""

    entry = p.know(p.proc.create("x", p.package.ProcOps(read=read)))
    file = await p.open(entry)
    p.start("reader", file.read, 5)
    p.start("remover", p.remove, entry)


async def poll_and_wake(p: Play) -> None:
    queue = p.package.WaitQueue()
    ready: list[bool] = []

    async def poll(file: File) -> int:
        file.poll_wait(queue)
        answer = select.POLLIN if ready else 0
        await checkpoint()  # a wake-up that comes now has to be noticed
        return answer

    async def wake() -> None:
        await checkpoint()
        ready.append(True)
        queue.wake_up()

    entry = p.know(p.proc.create("x", p.package.ProcOps(poll=poll)))
    file = await p.open(entry)
    p.start("poller", file.poll, select.POLLIN, None)
    p.start("waker", wake)


async def wait_and_wake_twice(p: Play) -> None:
    queue = p.package.WaitQueue()
    ready: list[bool] = []

    async def read(file: File, size: int, pos: int) -> bytes:
        try:
            await file.wait_event(queue, lambda: ready)
        finally:
            assert not len(queue), "who waits no more is in the queue"
        assert ready, "woken for something else, and took it for this"
        return b"ready"

    async def wake() -> None:
        queue.wake_up()
        await checkpoint()
        ready.append(True)
        queue.wake_up()

    entry = p.know(p.proc.create("x", p.package.ProcOps(read=read)))
    file = await p.open(entry)
    p.start("reader", file.read, 5)
    p.start("waker", wake)


async def poll_wake_and_remove(p: Play) -> None:
    queue = p.package.WaitQueue()
    ready: list[bool] = []

    async def poll(file: File) -> int:
        file.poll_wait(queue)
        await checkpoint()
        return select.POLLIN if ready else 0

    async def wake() -> None:
        ready.append(True)
        queue.wake_up()
        await checkpoint()

    entry = p.know(p.proc.create("x", p.package.ProcOps(poll=poll)))
    file = await p.open(entry)
    p.start("poller", file.poll, select.POLLIN, None)
    p.start("remover", p.remove, entry)
    p.start("waker", wake)


@everyone("reader", "remover", "waker")
def test_the_handler_is_woken_by_either(backend: str, victim: str) -> None:
    """
    No wake-up is lost: neither the condition's nor the removal's.
    """
    seen = exhaust(wait_wake_and_remove, backend, victim)
    for reader in ("ok", "EIO"):
        assert f"reader {reader}, remover ok, waker ok" in seen


@everyone("first")
def test_all_who_wait_are_woken(backend: str, victim: str) -> None:
    """
    Whoever comes to wait, early or late, finds the condition true (I36).
    """
    seen = exhaust(two_wait_and_wake, backend, victim)
    assert "first ok, second ok, waker ok" in seen


@everyone("reader")
def test_a_removal_is_enough_to_wake(backend: str, victim: str) -> None:
    """
    Though the condition never comes true, the handler ends.
    """
    assert "reader EIO, remover ok" in exhaust(wait_and_remove, backend, victim)


@everyone("poller", "waker", only_on_trio=("remover",))
def test_a_poll_that_sleeps_is_woken_by_either(backend: str, victim: str) -> None:
    """
    A poll without a timeout ends, whatever comes first, and asks again after a wake-up.
    """
    seen = exhaust(poll_wake_and_remove, backend, victim)
    assert "poller ok, remover ok, waker ok" in seen


@everyone("poller")
def test_a_poll_sees_what_comes_while_it_goes_to_sleep(backend: str, victim: str) -> None:
    """
    With no removal to wake it: it is in the queue before it looks.
    """
    assert "poller ok, waker ok" in exhaust(poll_and_wake, backend, victim)


@everyone("reader")
def test_a_wake_up_is_no_promise(backend: str, victim: str) -> None:
    """
    Who is woken looks again, and who is cancelled leaves the queue.
    """
    assert "reader ok, waker ok" in exhaust(wait_and_wake_twice, backend, victim)
