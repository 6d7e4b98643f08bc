"""The package, broken on purpose: the explorer notices, and soon."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant

from ._play import BACKENDS, Play, run
from .test_close_vs_remove import close_and_remove, read_close_and_remove
from .test_create_vs_remove import create_and_remove
from .test_dup_vs_close import two_descriptors
from .test_mmap_vs_remove import map_close_and_remove
from .test_open_vs_remove import open_and_remove, open_read_and_remove
from .test_read_vs_remove import preads_and_remove, read_and_remove, two_reads_and_remove
from .test_remove_vs_remove import four_removes, two_removes
from .test_subtree_vs_child import read_below_a_subtree, subtree_and_child
from .test_use_vs_rundown import uses_and_rundown, uses_and_two_rundowns

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ._play import Scenario

# What the slowest needed in the feasibility study (shared/explorer/FINDINGS.md, 2.5).
MOST_SCHEDULES = 66


class Hunt(NamedTuple):
    """A mutant of tests/mutants.py, and the scenario in which it is hunted."""

    name: str
    scenario: Scenario
    victim: str = ""


HUNTS = (
    # An await between check and increment.
    Hunt("read: an await between the check and the increment", read_and_remove),
    Hunt("open: an await between the check and the increment", open_and_remove),
    # The count.
    Hunt("use: let in although removal began", uses_and_rundown),
    Hunt("unuse: completes at the first leave, not at the last", uses_and_rundown),
    Hunt("unuse: completes before the last leave", uses_and_rundown),
    Hunt("unuse: the wake-up is lost", uses_and_rundown),
    Hunt("kill: the bias is added twice", uses_and_two_rundowns),
    Hunt("rundown: the completion is made after the bias, and after an await", uses_and_rundown),
    Hunt("call: a leave is lost on cancellation", preads_and_remove, "first"),
    Hunt("call: not counted", preads_and_remove),
    Hunt("kill: forgets the calls on open files", read_and_remove),
    Hunt("kill: forgets the open files", read_and_remove),
    Hunt("kill: forgets files opened during the drain", open_read_and_remove),
    # A wait that is no look.
    Hunt("position: no look at the removal after the wait", two_reads_and_remove),
    Hunt("position: handed over although the entry is going", two_reads_and_remove),
    # Releases.
    Hunt("open: linked after leaving", open_and_remove),
    Hunt("open: an await after the handler's success", open_and_remove, "opener"),
    Hunt("leave: nobody releases what was closed under the call", two_descriptors),
    Hunt("put: a close releases under a call", read_close_and_remove),
    Hunt("close: does not wait for the remover's release", close_and_remove),
    Hunt("close: releases what the remover is releasing", close_and_remove),
    Hunt("close: releases without a shield", close_and_remove, "closer"),
    Hunt("release: the record is unlinked before the handler runs", close_and_remove),
    Hunt("release: who waits for its end is not woken", close_and_remove),
    Hunt("remover: releases what a close is releasing", close_and_remove),
    Hunt("remover: does not wait for a close's release", close_and_remove),
    Hunt("mmap: the mapping comes after the leave", map_close_and_remove),
    # Removers.
    Hunt("remover: does not wait for the calls inside", read_and_remove),
    Hunt("remover: cancelled, it leaves the rest undone", read_and_remove, "remover"),
    Hunt("remover: does not wait for removals below", subtree_and_child),
    Hunt("remover: what was created meanwhile is not shut", create_and_remove),
    Hunt("remover: the parent goes before the child", read_below_a_subtree),
    Hunt("loser: returns early", two_removes),
    Hunt("losers: only the last one is woken", four_removes),
)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[Mutant], Any]]:
    """Import a copy of the package with a mistake in it, under a name of its own."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    numbers = count()

    def broken(mutant: Mutant) -> Any:
        name = f"broken_{next(numbers)}"
        folder = tmp_path / name
        shutil.copytree(ROOT / "aiopde", folder, ignore=shutil.ignore_patterns("cli", "testing"))
        source = folder / mutant.file
        text = source.read_text()
        assert text.count(mutant.old) == 1, "it does not fit the source any more: mend it"
        source.write_text(text.replace(mutant.old, mutant.new))
        importlib.import_module(f"{name}._api")  # or its parts would come when they are used
        return sys.modules[name]

    yield broken
    for name in [name for name in sys.modules if re.match(r"broken_\d+", name)]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("hunt", "backend"),
    list(zip(HUNTS, cycle(BACKENDS), strict=False)),
    ids=lambda value: getattr(value, "name", value),
)
def test_the_default_strategy_finds_it(
    hunt: Hunt, backend: str, broken: Callable[[Mutant], Any]
) -> None:
    """
    It is found by the default strategy, within a hundred schedules.
    """
    mutant = next(mutant for mutant in MUTANTS if mutant.name == hunt.name)
    package = broken(mutant)
    result = run(hunt.scenario, backend, hunt.victim, Play, package=package, shrink=False)
    assert result.failure is not None, str(result)
    assert result.failure.kind in {"exception", "invariant", "deadlock", "livelock"}
    assert result.schedules <= MOST_SCHEDULES
