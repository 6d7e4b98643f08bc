"""What a user reads when a schedule fails."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiopde.testing import Schedule, report
from aiopde.testing._report import cut

from ._failures import DEADLOCK, long, result

REPORT = """\
deadlock: nobody can move: main waits
(trio, schedule 7 of strategy auto)

replay: pytest x --replay=y
    or: explore(…, backend="trio", replay="reader.remover.!remover.remover")

step  main  reader  remover
   1   ●                     _failures.py:12 in guard              in_use = len(names)  # line 12  ⇢ reader, remover
   2   ┊      ●        │     _failures.py:12 in guard              in_use = len(names)  # line 12
   3   ┊      │        ◎     _failures.py:13 in guard              print(in_use)  # noqa: T201  line 13 <&>
                             └ writes count.in_use, read by reader in step 2
   4   ┊      │        ✕     is cancelled                            ⇢ remover
   5   ┊      │        ●     _failures.py:13 in guard, to its end  print(in_use)  # noqa: T201  line 13 <&>  ⇢ main
                             └ raises ValueError('x')
   6   │      ●              _failures.py:13 in guard              print(in_use)  # noqa: T201  line 13 <&>
                             └ writes count.in_use, written by remover in step 3
● runs   ◎ runs, where the one before could have gone on   ✕ is cancelled   │ is ready   ┊ waits   ⇢ wakes

who waits for what:
  main waits for Event.wait
      _failures.py:12 in main                   in_use = len(names)  # line 12
      _failures.py:13 in guard                  print(in_use)  # noqa: T201  line 13 <&>\
"""  # noqa: E501


def test_everything_is_told() -> None:
    """
    What failed, how to see it again, what each task did, and who waits for what.
    """
    assert report(result(), replay="pytest x --replay=y") == REPORT


def test_without_a_command_there_is_the_call() -> None:
    """
    Outside pytest one replays with explore().
    """
    call = 'replay: explore(…, backend="trio", replay="reader.remover.!remover.remover")'
    assert call in report(result()).splitlines()


def test_a_success_is_told_in_a_line() -> None:
    """
    Where nothing failed there is nothing but the verdict.
    """
    assert report(result(None)) == "sampled (7): 7 schedules on trio by auto"


def test_how_far_it_was_shrunk() -> None:
    """
    A minimum is called proven only if it is.
    """
    schedule = Schedule(("a", "b"))
    shrunk = replace(DEADLOCK, schedule=schedule, found=DEADLOCK.schedule, minimal=True)
    proof = "; shrunk to 1 context switch, and proven that it takes as many)"
    assert proof in report(result(shrunk))
    doubtful = replace(shrunk, schedule=Schedule(("a", "b", "a")), minimal=False)
    assert "; shrunk to 2 context switches, perhaps not the fewest)" in report(result(doubtful))
    plain = replace(shrunk, schedule=Schedule(("a",)))
    assert "; shrunk to no context switch at all)" in report(result(plain))


def test_a_replay_is_called_one() -> None:
    """
    Which schedule of which strategy it was does not matter then.
    """
    assert "(trio, replayed)" in report(result(strategy="replay"))


def test_notes_come_last() -> None:
    """
    What limits the verdict is said, even where steps and waiters are missing.
    """
    bare = replace(DEADLOCK, steps=(), waiting=())
    assert report(replace(result(bare), notes=("something",))).endswith("\n\nsomething")


def test_notes_of_a_result() -> None:
    """
    They are said in print(result), too, whether it failed or not.
    """
    doubtful = replace(result(None), notes=("one", "two"))
    assert str(doubtful).splitlines()[1:] == ["note: one", "note: two"]
    assert report(doubtful) == str(doubtful)
    assert str(replace(result(), notes=("one",))).endswith("remover\nnote: one")


def test_dull_steps_of_a_long_run_are_left_out() -> None:
    """
    One task's steps in the middle are counted, not shown.
    """
    assert "… " not in report(result(long(80, 2)))
    lines = report(result(long(90, 2))).splitlines()
    assert lines.count("      … 1 more") == 29


def test_a_very_long_run_is_shown_at_both_ends() -> None:
    """
    Of a livelock one sees how it begins and how it goes on.
    """
    lines = report(result(long(3000, 3))).splitlines()
    assert len(lines) < 320
    assert sum(line.startswith("      … ") for line in lines) > 1


def test_long_names_are_cut() -> None:
    """
    A lane is narrow, whatever its task is called.
    """
    assert cut("a" * 13, 12) == "a" * 11 + "…"
    assert cut("a" * 12, 12) == "a" * 12


def test_what_is_no_result() -> None:
    """
    A failure alone does not know on what loop it was found.
    """
    with pytest.raises(TypeError, match=r"wants what explore\(\) returned, not Failure"):
        report(DEADLOCK)  # type: ignore[arg-type]
