"""What most entries have not: those that need nothing of it share one that says so."""

from aiopde import ProcFS, ProcOps
from aiopde._rare import FREED, GONE, PLAIN


async def test_is_shared_until_it_is_needed() -> None:
    """
    Idle files share it, open or not; one that somebody waits for gets its own, and keeps that.
    """
    async with ProcFS(fast_acquire=True) as proc:
        one, two = (proc.create(name, ProcOps(), fast_acquire=True) for name in "ab")
        await proc.open("a")
        assert one._rare is two._rare is PLAIN
        event = one._watch("somebody")
        own = one._rare
        assert own is not PLAIN
        assert own.watchers == {"somebody": event}
        one._unwatch("somebody")
        assert (one._rare, two._rare) == (own, PLAIN)


async def test_so_is_that_of_what_is_gone() -> None:
    """
    What nobody used goes without ever having had one of its own.
    """
    async with ProcFS() as proc:
        directory = proc.mkdir("d")
        idle = proc.create("d/x", ProcOps())
        await directory.remove()
        assert idle._rare is FREED
        assert FREED.removal is directory._removal is GONE
