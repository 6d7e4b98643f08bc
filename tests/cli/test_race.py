"""`aiopde race`: what it counts, and that it would notice."""

import json
from errno import EBADF
from typing import Any

import anyio
import pytest

from aiopde import File, ProcFS
from aiopde.cli._loops import LOOPS
from aiopde.cli.race import Settings, _report
from aiopde.cli.race._course import ENTRIES, VISITS
from aiopde.cli.race._driver import Jitter
from aiopde.cli.race._schemes import UnguardedFile
from aiopde.cli.race._tally import Tally

from .conftest import RunCommand

READERS = 6
ROUNDS = 3
# Where the loop does not matter. On asyncio, coverage loses sight of who called anyio.run() as
# soon as a task was cancelled in it (Python 3.11 only).
RACE = ("race", "--backend", "trio")


def race(run_command: RunCommand, *arguments: str) -> dict[str, Any]:
    code, out, err = run_command(
        "race", "--json", "--readers", str(READERS), "--seed", "1", *arguments
    )
    numbers: dict[str, Any] = json.loads(out)
    assert (code, err) == (0 if numbers["ok"] else 1, "")
    assert out.count("\n") == 1
    assert numbers["rounds"] == ROUNDS
    assert numbers["opened"] + numbers["refused_enoent"] == READERS * ROUNDS * VISITS
    assert numbers["removals"] == ROUNDS * ENTRIES
    return numbers


@pytest.mark.parametrize("loop", LOOPS)
class TestEachLoop:
    def test_pde(self, run_command: RunCommand, loop: str) -> None:
        """
        The guard of procfs: readers are refused, no removal is, and no handler runs afterwards.
        """
        numbers = race(run_command, "--backend", loop)
        assert numbers["ok"]
        assert numbers["handlers_after_removal"] == 0
        assert numbers["removals_refused"] == 0
        assert numbers["succeeded"] > 0
        assert numbers["refused_eio"] > 0
        assert numbers["refused_enoent"] > 0
        assert numbers["in_flight"] > 0
        assert numbers["force_released"] > 0

    def test_none(self, run_command: RunCommand, loop: str) -> None:
        """
        Without a guard handlers do run afterwards. To show that is not a failure.
        """
        numbers = race(run_command, "--backend", loop, "--scheme", "none")
        assert numbers["ok"]
        assert numbers["handlers_after_removal"] > 0
        assert numbers["refused_eio"] == 0
        assert numbers["force_released"] == 0

    def test_owner(self, run_command: RunCommand, loop: str) -> None:
        """
        With pins no handler runs afterwards either, but removal is refused.
        """
        numbers = race(run_command, "--backend", loop, "--scheme", "owner")
        assert numbers["ok"]
        assert numbers["handlers_after_removal"] == 0
        assert numbers["removals_refused"] > 0
        assert numbers["refused_eio"] == 0
        assert numbers["force_released"] == 0

    def test_a_broken_guard_is_noticed(
        self, run_command: RunCommand, loop: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Let open files not be told of the removal: the race says so, and its exit code is 1.
        """

        def tell_nobody(file: File) -> bool:
            return False

        monkeypatch.setattr(File, "_kill", tell_nobody)
        numbers = race(run_command, "--backend", loop)
        assert not numbers["ok"]
        assert numbers["handlers_after_removal"] > 0

    def test_a_removal_that_returns_early_is_noticed(
        self, run_command: RunCommand, loop: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Let removal not wait for the calls inside: the race says so, and its exit code is 1.
        """
        remove = ProcFS.remove

        async def remove_without_waiting(proc: ProcFS, name: str) -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()  # it goes on without us
                await remove(proc, name)

        monkeypatch.setattr(ProcFS, "remove", remove_without_waiting)
        numbers = race(run_command, "--backend", loop)
        assert not numbers["ok"]
        assert numbers["handlers_after_removal"] > 0


def test_one_reader_is_enough_to_show_it(run_command: RunCommand) -> None:
    """
    Without the guard, even a lonely reader gets into code that was taken away.
    """
    for seed in "0123456789":
        _, out, _ = run_command(*RACE, "--scheme=none", "--readers=1", "--json", "--seed", seed)
        assert json.loads(out)["handlers_after_removal"] > 0


def test_the_same_seed_hesitates_in_the_same_way() -> None:
    """
    What a reader does, and for how long, depends on the seed alone.
    """
    one, same, other = (Jitter(seed, "reader", 0).random.random() for seed in (7, 7, 8))
    assert one == same
    assert one != other


def test_an_error_that_is_no_part_of_the_race_ends_it(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A reader expects EIO; any other error is shown, and not counted as if it were that.
    """

    async def fail(file: UnguardedFile) -> bytes:
        raise OSError(EBADF, "not in the plan")

    monkeypatch.setattr(UnguardedFile, "read", fail)
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="plan"), flatten_subgroups=True):
        run_command(*RACE, "--scheme", "none", "--readers", "1")


def test_the_table() -> None:
    """
    What is printed for a reader: what was raced, the numbers, and what to see in them.
    """
    settings = Settings("trio", 100, 7, "pde")
    tally = Tally(30, 5, 60, 70, 8, 0, 9, 10, 0, [0.001, 0.0025])
    printed = f"{_report.headline(settings)}\n{_report.as_text(settings, tally)}\n"
    assert printed == TABLE


TABLE = """\
100 readers open, read and close 120 files, 4 at a time, while each is removed.
Scheme pde, the guard of procfs: calls are let in or refused; removal waits for those let in.
Loop trio, seed 7.

  files opened                                    5
  reads that succeeded                           60
  reads refused with EIO                         70
  opens refused with ENOENT                       8
  files removed                                   2
  removals refused with EWOULDBLOCK               0
  calls in flight when removal began              9
  time to drain, on average                 1.75 ms
  time to drain, at the longest             2.50 ms
  files force-released                           10
  handlers that ran after removal returned        0  must be 0

Once a removal had returned no handler ran, so its owner could free everything at once.
It waited for the calls in flight, and for no open file: it released those by force, and
their readers got EIO. The same race without the guard:
  aiopde race --readers 100 --seed 7 --scheme none
"""


@pytest.mark.parametrize("scheme", _report.SCHEMES)
def test_each_scheme_has_its_words(run_command: RunCommand, scheme: str) -> None:
    """
    A newcomer is told what each race was, and what to see in its numbers.
    """
    code, out, err = run_command(*RACE, "--scheme", scheme, "--readers", "2", "--seed", "4")
    assert (code, err) == (0, "")
    assert out.startswith("2 readers")
    assert f"Scheme {scheme}" in out
    assert "seed 4" in out
    assert _report.MORALS[scheme] in out


def test_a_failure_says_how_to_repeat_it() -> None:
    """
    The last line is the command that runs the same race again.
    """
    settings = Settings("uvloop", 5, 7, "pde")
    last = _report.as_text(settings, Tally(handlers_after_removal=1)).splitlines()[-1]
    assert last == "  aiopde race --readers 5 --seed 7 --scheme pde --backend uvloop"
