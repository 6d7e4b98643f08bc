"""The package, broken on purpose: the explorer notices, and soon."""

from __future__ import annotations

import gc
import importlib
import re
import shutil
import sys
from compileall import compile_dir
from importlib.util import cache_from_source
from itertools import count, cycle
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant

from ._play import BACKENDS, FastPlay, KernelPlay, Play, run
from .test_close_vs_remove import (
    close_and_remove,
    close_and_reuse_the_number,
    failing_calls_and_close,
    failing_release_and_remove,
    open_what_goes_and_reuse,
    read_close_and_remove,
    three_files_and_remove,
)
from .test_create_vs_remove import create_and_remove
from .test_dup_vs_close import close_twice_beside_a_dup, two_descriptors
from .test_fast import close_under_a_read, open_with_a_quick_release
from .test_grace_vs_remove import (
    killable_call_and_remove,
    long_release_and_remove,
    stubborn_call_and_remove,
)
from .test_insmod_vs_rmmod import two_loads
from .test_lookup_vs_remove import look_into_what_goes
from .test_mmap_vs_remove import map_close_and_remove
from .test_open_vs_remove import open_and_remove, open_read_and_remove, remove_by_name_and_reuse
from .test_put_vs_rmmod import reference_and_rmmod, references_and_rmmod
from .test_read_vs_remove import (
    preads_and_remove,
    read_all_and_remove,
    read_and_remove,
    three_reads_and_close,
    two_reads_after_a_pread,
    two_reads_and_remove,
    two_reads_beside_one,
)
from .test_readdir_vs_remove import two_listers
from .test_release_vs_rmmod import close_and_forgetful_rmmod, close_and_rmmod
from .test_reload_vs_read import read_all_and_reload
from .test_remove_vs_remove import four_removes, two_of_a_name_and_remove, two_removes
from .test_seq_vs_remove import iterate_and_remove, three_sessions
from .test_subtree_vs_child import (
    read_below_a_subtree,
    read_beside_a_release,
    subtree_and_child,
    subtree_and_last_child,
)
from .test_use_vs_rundown import uses_and_rundown, uses_and_two_rundowns
from .test_wake_vs_remove import (
    poll_and_wake,
    two_wait_and_wake,
    wait_and_remove,
    wait_and_wake_twice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._play import Scenario

# What the slowest needed in the feasibility study (shared/explorer/FINDINGS.md, 2.5).
MOST_SCHEDULES = 66
LEFT_OUT = ("cli", "testing", "__pycache__")
"""No part of the copies that are broken."""


class Hunt(NamedTuple):
    """A mutant of tests/mutants.py, and the scenario in which it is hunted."""

    name: str
    scenario: Scenario
    victim: str = ""
    kind: type[Play] = Play


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
    Hunt("remover: forgets removals that begin later", subtree_and_last_child),
    Hunt("remover: what is below stays open until its turn", read_beside_a_release),
    Hunt("by name: an older removal is joined", two_of_a_name_and_remove),
    Hunt("look-up: finds what is going", look_into_what_goes),
    Hunt("remover: what was created meanwhile is not shut", create_and_remove),
    Hunt("remover: the parent goes before the child", read_below_a_subtree),
    Hunt("loser: returns early", two_removes),
    Hunt("losers: only the last one is woken", four_removes),
    Hunt("remover: releases nothing, and waits for the closers", two_removes),
    Hunt("remover: cancelled, it lets the entry live again", read_and_remove, "remover"),
    Hunt("remover: handed over, it can be cancelled", two_removes, "first"),
    Hunt("remover: by name, it looks again after a checkpoint", remove_by_name_and_reuse),
    Hunt("remover: an await before the unlinking", two_removes),
    Hunt("rundown: shuts the door after the last is out", uses_and_rundown),
    Hunt("exit: forgets what was created below what is gone", create_and_remove),
    # Descriptors.
    Hunt("close: the descriptor is open until after the checkpoint", close_twice_beside_a_dup),
    Hunt("close: cancelled, it closes nothing", two_descriptors, "first"),
    Hunt("close: waits for the remover's release without a shield", close_and_remove, "closer"),
    # Waiting.
    Hunt(
        "wait: looks at the condition, and is in the queue only after a checkpoint",
        two_wait_and_wake,
    ),
    Hunt("wake_up: wakes only one", two_wait_and_wake),
    Hunt("kill: wakes nobody who waits for a condition", wait_and_remove),
    Hunt("position: only one can wait for it", three_reads_and_close),
    Hunt("position: handed to somebody who was cancelled", three_reads_and_close, "second"),
    Hunt(
        "position: cancelled just after it was handed over, it is kept",
        two_reads_beside_one,
        "second",
    ),
    Hunt("mutex: let in although it is locked", iterate_and_remove),
    Hunt("mutex: free for a moment while it is handed over", iterate_and_remove),
    Hunt("mutex: whose turn it is, cancelled, keeps it", three_sessions, "reader"),
    Hunt("seq: a session that is cancelled is not stopped", iterate_and_remove, "reader"),
    # Graces.
    Hunt("grace: nobody is cancelled when it has ended", killable_call_and_remove),
    Hunt("grace: when it has ended, the entry lives again", stubborn_call_and_remove),
    Hunt("grace: cuts releases short, too", long_release_and_remove),
    # What is seldom done.
    Hunt("call: an await between the check and the increment", preads_and_remove),
    Hunt("call: counted for ever among those that use no position", two_reads_after_a_pread),
    Hunt("poll: is not among those who are woken", poll_and_wake),
    Hunt("poll: queues only after it has asked", poll_and_wake),
    Hunt("dup: does not hold the file", two_descriptors),
    Hunt("getdents: the position is read, an await, and written", two_listers),
    Hunt("lseek: the leave is lost when the handler raises", failing_calls_and_close),
    Hunt("mmap: a mapping that was refused holds the file", failing_calls_and_close),
    Hunt("release: its end is told only if the handler has not raised", failing_release_and_remove),
    Hunt("remover: a release that raises stops the others", failing_release_and_remove),
    Hunt("release: the closing bit is not set", close_and_remove),
    Hunt("wait: looks at the condition only once", wait_and_wake_twice),
    Hunt("wait: cancelled, it stays in the queue", wait_and_wake_twice, "reader"),
    Hunt("number: given back twice", open_what_goes_and_reuse),
    Hunt("number: given back with files still open", close_and_reuse_the_number),
    Hunt("number: a file that outlives its release does not hold it", close_and_reuse_the_number),
    # Quick ways.
    Hunt("close: a quick one forgets that calls are inside", close_under_a_read, "", FastPlay),
    Hunt("close: a quick one is not seen by the entry", three_files_and_remove, "", FastPlay),
    Hunt(
        "open: a quick one is not shut when it comes too late",
        open_with_a_quick_release,
        "",
        FastPlay,
    ),
    Hunt("read_bytes: a quick one wakes nobody", read_all_and_remove, "", FastPlay),
    # Modules.
    Hunt(
        "rmmod: an await between the look at the references and the going",
        reference_and_rmmod,
        "",
        KernelPlay,
    ),
    Hunt("rmmod: returns before it is gone", close_and_rmmod, "", KernelPlay),
    Hunt("module: what exit forgot stays", close_and_forgetful_rmmod, "", KernelPlay),
    Hunt("module: a reference although it is going", references_and_rmmod, "", KernelPlay),
    Hunt(
        "insmod: an await between the look at the name and the taking of it",
        two_loads,
        "",
        KernelPlay,
    ),
    Hunt("insmod: does not wait for a namesake to settle", two_loads, "", KernelPlay),
    Hunt(
        "reload: the old version goes before the new one is there",
        read_all_and_reload,
        "",
        KernelPlay,
    ),
)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the package and compile it, so that each hunt compiles only what it breaks."""
    folder = tmp_path_factory.mktemp("compiled") / "aiopde"
    shutil.copytree(ROOT / "aiopde", folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    compile_dir(folder, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    return folder


@pytest.fixture
def broken(
    compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Generator[Callable[[Mutant], Any]]:
    """Import a copy of the package with a mistake in it, under a name of its own."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    numbers = count()

    def broken(mutant: Mutant) -> Any:
        name = f"broken_{next(numbers)}"
        folder = tmp_path / name
        shutil.copytree(compiled, folder)
        source = folder / mutant.file
        text = source.read_text()
        assert text.count(mutant.old) == 1, "it does not fit the source any more: mend it"
        source.write_text(text.replace(mutant.old, mutant.new))
        Path(cache_from_source(source)).unlink(missing_ok=True)
        importlib.import_module(f"{name}._api")  # or its parts would come when they are used
        return sys.modules[name]

    # Later searches would hook its classes, too: they go, and nobody looks through what was there.
    gc.freeze()
    yield broken
    for name in [name for name in sys.modules if re.match(r"broken_\d+", name)]:
        del sys.modules[name]
    gc.collect()
    gc.unfreeze()


@pytest.mark.parametrize(
    ("hunt", "backend"),
    list(zip(HUNTS, cycle(BACKENDS), strict=False)),
    ids=lambda value: getattr(value, "name", value),
)
def test_the_default_strategy_finds_it(
    hunt: Hunt, backend: str, broken: Callable[[Mutant], Any]
) -> None:
    """
    It is found by the default strategy, within 66 schedules.
    """
    mutant = next(mutant for mutant in MUTANTS if mutant.name == hunt.name)
    package = broken(mutant)
    result = run(hunt.scenario, backend, hunt.victim, hunt.kind, package=package, shrink=False)
    assert result.failure is not None, str(result)
    assert result.failure.kind in {"exception", "invariant", "deadlock", "livelock"}
    assert result.schedules <= MOST_SCHEDULES
