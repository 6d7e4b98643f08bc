"""What a module has registered, as one: forgotten, hidden and shown, swept away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anyio import create_task_group

from aiopde import Kernel, ProcFS, ProcOps
from aiopde._registered import Registered

from .helpers import Busy, failing, start, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def registered(proc: ProcFS, *paths: str) -> Registered:
    """Register directories and, in them, files."""
    found = Registered()
    for path in paths:
        found.add(proc.create(path, ProcOps()) if "/" in path else proc.mkdir(path))
    return found


class TestNames:
    async def test_are_hidden_and_shown_together(self) -> None:
        """
        Only the topmost names are taken: what is below goes and comes with them.
        """
        async with ProcFS() as proc:
            mine = registered(proc, "d", "d/x")
            assert [entry.path for entry in mine.roots()] == ["/proc/d"]
            mine.hide()
            assert proc.listdir() == []
            assert mine.show() == []
            assert (proc.listdir(), proc.listdir("d")) == (["d"], ["x"])

    async def test_take_the_place_of_others(self) -> None:
        """
        What stands where a name is shown again has to go, and is told.
        """
        async with ProcFS() as proc:
            mine = registered(proc, "d")
            mine.hide()
            other = proc.mkdir("d")
            assert mine.show() == [other]
            assert (proc.lookup("d") in mine, other._linked) == (True, False)

    async def test_of_what_was_removed_stay_away(self) -> None:
        """
        What had no name any more when the others were hidden gets none with them.
        """
        async with ProcFS() as proc:
            mine = registered(proc, "a", "b")
            await proc.remove("a")
            mine.hide()
            mine.show()
            assert proc.listdir() == ["b"]


class TestSweeping:
    async def test_goes_on_after_an_error(self) -> None:
        """
        What a removal raises is noted, and stops no other.
        """
        error, errors = OSError("release"), list[Any]()
        async with ProcFS() as proc:
            mine = registered(proc, "a")
            mine.add(proc.create("b", failing(error, "release")))
            mine.add(proc.create("c", ProcOps()))
            await proc.open("b")
            forgotten = await mine.sweep(errors)
            assert [entry.name for entry in forgotten] == ["a", "b", "c"]
            assert {state(entry) for entry in mine} == {"gone"}
        (group,) = errors
        assert group.exceptions == (error,)

    async def test_waits_for_what_somebody_else_removes(self) -> None:
        """
        What is being removed was not forgotten, and is waited for all the same.
        """
        async with ProcFS() as proc, create_task_group() as tg:
            busy = Busy(proc, "x")
            await busy.enter(tg)
            mine = Registered()
            mine.add(busy.entry)
            await start(tg, busy.entry.remove)
            sweep = await start(tg, mine.sweep, [])
            assert not sweep.done
            await busy.leave()
            assert sweep.result == []


async def test_what_is_gone_is_forgotten() -> None:
    """
    A module that registers and removes for ever does not grow.
    """

    async def main(kernel: Kernel) -> AsyncIterator[None]:
        for n in range(1000):
            kernel.proc.create(f"x{n}", ProcOps())
            await kernel.proc.remove(f"x{n}")
        kernel.proc.create("x", ProcOps())
        yield
        await kernel.proc.remove("x")

    async with Kernel() as kernel:
        module = await kernel.insmod(main)
        assert len(module._entries) < 100
        await kernel.rmmod("main")
        assert len(module._entries) == 0
