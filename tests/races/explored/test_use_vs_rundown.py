"""Uses of a guard and its rundown, in every order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from ._play import everyone, exhaust

if TYPE_CHECKING:
    from ._play import Play


async def uses_and_rundown(p: Play, rundowns: tuple[str, ...] = ("rundown",)) -> None:
    pool = p.package.UseCount("pool")
    began: list[str] = []
    gone: list[str] = []

    def inside() -> int:
        return p.race.aside(p.notes.inside.total)

    async def use(name: str) -> None:
        async with pool:
            assert not gone, "let in after the rundown (I5)"
            p.race.aside(lambda: p.notes.inside.update([name]))
            try:
                await checkpoint()
                assert not gone, "the rundown has not waited (I9)"
            finally:
                p.race.aside(lambda: p.notes.inside.subtract([name]))

    async def rundown(name: str) -> None:
        began.append(name)
        await pool.rundown()
        assert not inside(), "the rundown has not waited (I9)"
        gone.append(name)

    p.race.always(lambda: pool.in_use >= inside(), "who is inside is counted (I3)")
    p.race.always(lambda: not began or pool.removing, "a rundown shuts the door first (B33)")
    p.start("first", use, "first")
    for name in rundowns:
        p.start(name, rundown, name)
    p.start("second", use, "second")


async def uses_and_two_rundowns(p: Play) -> None:
    await uses_and_rundown(p, ("one", "other"))


@everyone("first", "rundown")
def test_the_rundown_waits_for_those_inside(backend: str, victim: str) -> None:
    """
    Each use is let in or refused; the rundown returns after the last is out.
    """
    seen = exhaust(uses_and_rundown, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, rundown ok, second {second}" in seen


@everyone(only_on_trio=("first", "one"))
def test_both_rundowns_are_woken(backend: str, victim: str) -> None:
    """
    However many wait, all return after the last is out (I36).
    """
    seen = exhaust(uses_and_two_rundowns, backend, victim)
    for first, second in (("ok", "ok"), ("ok", "EIO"), ("EIO", "ok"), ("EIO", "EIO")):
        assert f"first {first}, one ok, other ok, second {second}" in seen
