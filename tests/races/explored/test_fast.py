"""The pairs whose calls have quick ways of their own, where fast_acquire lets them be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ._play import FastPlay, Play, exhaust
from .test_close_vs_remove import (
    close_and_remove,
    three_files_and_remove,
)
from .test_open_vs_remove import (
    open_and_remove,
    open_by_name_and_reuse,
    open_read_and_remove,
    remove_by_name_and_reuse,
)
from .test_read_vs_remove import (
    preads_and_remove,
    read_all_and_remove,
    read_and_remove,
)
from .test_remove_vs_remove import two_removes
from .test_subtree_vs_child import read_below_a_subtree, subtree_and_child
from .test_write_vs_remove import write_all_and_remove

if TYPE_CHECKING:
    from ._play import Scenario


async def open_with_a_quick_release(p: Play) -> None:
    entry = p.create("x", "open read", "release")
    await p.close(await p.open(entry))  # the first open of a table of handlers is slow

    async def read() -> None:
        file = await p.open(entry)
        await file.read(3)
        await p.close(file)

    p.start("reader", read)
    p.start("remover", p.remove, entry)


async def close_under_a_read(p: Play) -> None:
    entry = p.create("x", "read", "release")
    file = await p.open(entry)
    p.start("closer", file.aclose)
    p.start("reader", file.read, 3)
    p.start("remover", p.remove, entry)


ACTORS: dict[Scenario, str] = {
    close_and_remove: "closer remover",
    close_under_a_read: "closer reader remover",
    open_and_remove: "opener remover",
    open_by_name_and_reuse: "opener remover",
    open_read_and_remove: "reader remover",
    open_with_a_quick_release: "reader remover",
    preads_and_remove: "first remover",
    read_all_and_remove: "reader remover",
    read_and_remove: "reader remover",
    read_below_a_subtree: "reader above",
    remove_by_name_and_reuse: "by_name reader",
    subtree_and_child: "above below",
    three_files_and_remove: "closer remover",
    two_removes: "first",
    write_all_and_remove: "writer remover",
}
CASES = [
    pytest.param(
        scenario, backend, victim, id=f"{scenario.__name__}-{backend}-{victim or 'nobody'}"
    )
    for scenario, actors in ACTORS.items()
    # What a cancellation does differs in the slow ways; and it may never come.
    for backend, victim in (("asyncio", ""), *(("trio", victim) for victim in actors.split()))
]


@pytest.mark.parametrize(("scenario", "backend", "victim"), CASES)
def test_the_quick_ways_keep_the_promises(scenario: Scenario, backend: str, victim: str) -> None:
    """
    What holds after every step of the slow ways holds after every step of the quick ones.
    """
    seen = exhaust(scenario, backend, victim, FastPlay)
    assert any("cancelled" not in ended for ended in seen)
