"""Cancellation, anywhere, in stories whose handlers wait, create and remove themselves (A1, A2)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from aiopde import File, ProcDirEntry, ProcOps, WaitQueue
from tests.conformance._quiet import quiet

from ._sweep import cancel_everywhere, go_on, only_the_victim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._stage import Stage
    from ._sweep import Scenario


def create(s: Stage, name: str, read: Any, **how: Any) -> ProcDirEntry:
    """Create a file with a read handler of the story's own, and a release that is counted."""
    ops = ProcOps(read=read, release=partial(s._held, "release"))
    return s.know(s.proc.create(name, ops, data=name, **how))


async def polling(s: Stage) -> None:
    queue = WaitQueue()

    def poll(file: File) -> int:
        file.poll_wait(queue)
        return 0

    entry = s.know(s.proc.create("x", ProcOps(poll=poll), data="x"))
    file = await s.opened("file", entry)
    s.start("poller", partial(file.poll, timeout=None))
    await quiet()
    queue.wake_up()
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)
    assert len(queue) == 0


async def waiting(s: Stage) -> None:
    queue = WaitQueue()

    async def read(file: File, size: int, pos: int) -> Any:
        return await file.wait_event(queue, bool)

    entry = create(s, "x", read)
    file = await s.opened("file", entry)
    s.start("reader", file.read, 3)
    await quiet()
    queue.wake_up()
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)
    assert len(queue) == 0
    assert not entry._rare.watchers


async def calling(s: Stage) -> None:
    """Calls of all the other kinds, on one file."""
    entry = s.create("x", "lseek poll ioctl compat_ioctl mmap release", "open")
    file = await s.opened("file", entry)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "seeker": partial(file.lseek, 0),
        "poller": file.poll,
        "caller": partial(file.ioctl, 100),
        "old caller": partial(file.compat_ioctl, 100),
    }
    for name, call in calls.items():
        s.start(name, call)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def killing(s: Stage) -> None:
    entry = create(s, "x", partial(s._held, "read"), killable=True)
    file = await s.opened("file", entry)
    s.start("reader", file.read, 3)
    await quiet()
    s.start("remover", partial(entry.remove, grace=0))
    await go_on(s)


async def going_by_itself(s: Stage) -> None:
    async def read(file: File, size: int, pos: int) -> Any:
        file.entry.remove_self()
        return await s._held("read", file, size, pos)

    entry = create(s, "x", read)
    file = await s.opened("file", entry)
    s.start("reader", file.read, 3)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def removing_another(s: Stage) -> None:
    """A handler removes another entry that is in use, and is itself waited for."""
    other = s.create("y", "read release")

    async def read(file: File, size: int, pos: int) -> bytes:
        await other.remove()
        return b""

    entry = create(s, "x", read)
    files = [await s.opened(f"file {each.name}", each) for each in (entry, other)]
    s.start("other reader", files[1].read, 3)
    await quiet()
    s.start("reader", files[0].read, 3)
    await quiet()
    s.start("remover", entry.remove)
    await go_on(s)


async def creating(s: Stage) -> None:
    """A handler creates something in the directory that is being removed, and it is used."""
    directory = s.mkdir("d")

    async def read(file: File, size: int, pos: int) -> Any:
        data = await s._held("read", file, size, pos)
        s.create("late", "read release", parent=directory)
        return data

    entries = [create(s, "d/x", read), s.create("d/y", "read release")]
    for name, entry in zip(("reader", "other reader"), entries, strict=True):
        s.start(name, (await s.opened(f"file {entry.name}", entry)).read, 3)
        await quiet()
    s.start("remover", s.proc.remove_subtree, "d")
    await quiet()
    if "reader" in s.gates:
        s.go("reader")
        await quiet()
    for late in s.entries[3:]:
        s.start("late reader", s.proc.read_bytes, late)
    await go_on(s)


@pytest.mark.parametrize(
    ("scenario", "victim"),
    [
        (polling, "poller"),
        (polling, "remover"),
        (waiting, "reader"),
        (waiting, "remover"),
        (calling, "seeker"),
        (calling, "poller"),
        (calling, "caller"),
        (calling, "old caller"),
        (calling, "remover"),
        (killing, "reader"),
        (killing, "remover"),
        (going_by_itself, "reader"),
        (going_by_itself, "remover"),
        (removing_another, "reader"),
        (removing_another, "other reader"),
        (removing_another, "remover"),
        (creating, "reader"),
        (creating, "other reader"),
        (creating, "late reader"),
        (creating, "remover"),
    ],
    ids=lambda value: getattr(value, "__name__", value).replace(" ", "_"),
)
async def test_whoever_is_cancelled_wherever_leaves_all_in_order(
    scenario: Scenario, victim: str
) -> None:
    """
    Cancelled at any point of the story, an actor leaves nothing counted, unreleased or waiting.
    """
    assert await cancel_everywhere(victim, scenario, only_the_victim(victim)) > 0
