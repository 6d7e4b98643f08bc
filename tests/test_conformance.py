"""Every recording of the kernel, on every loop; and the proof that playing them can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance import __main__ as command
from tests.conformance._judge import judge
from tests.conformance._overlay import Overlay, read_event
from tests.conformance._rules import RULES
from tests.conformance._scenario import UNKNOWN, BadRecordingError, load, parse, refusals
from tests.conformance._script import read_script
from tests.conformance._words import decode, name_errno, name_flags, number, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance._scenario import Scenario

Raw = dict[str, Any]
HERE = Path(command.__file__).parent
RECORDINGS = {path.stem: path for path in sorted(command.RECORDED.glob("*.json"))}
SCRIPTS = {path.stem: path for path in sorted((HERE / "scripts").glob("*.scn"))}
OVERLAY = Overlay.load()
NO_OVERLAY = Overlay({})


def raw(name: str) -> Raw:
    """Read a recording as it is."""
    content: Raw = json.loads(RECORDINGS[name].read_text())
    return content


def script(name: str) -> Scenario:
    """Read a script."""
    return read_script(name, SCRIPTS[name].read_text())


class TestAgainstLinux:
    @pytest.mark.parametrize("name", RECORDINGS)
    async def test_recording(self, name: str) -> None:
        """
        Each step does what Linux did, or what the overlay says of it.
        """
        verdict = await judge(load(RECORDINGS[name]), OVERLAY)
        assert not verdict.failure
        if verdict.skipped:
            pytest.skip(verdict.skipped)

    @pytest.mark.parametrize("name", SCRIPTS)
    async def test_script(self, name: str) -> None:
        """
        The same, for answers of Linux that we know without a recording; rules do without overlay.
        """
        verdict = await judge(script(name), NO_OVERLAY)
        assert not verdict.failure

    @pytest.mark.parametrize("name", OVERLAY.scenarios)
    async def test_rules_foretell_the_overlay(self, name: str) -> None:
        """
        What the overlay lists, the rules say too: so they can be trusted with what it does not.
        """
        verdict = await judge(load(RECORDINGS[name]), NO_OVERLAY)
        assert not verdict.failure

    async def test_every_rule_is_used(self) -> None:
        """
        No rule is there for nothing.
        """
        scenarios = [*map(script, SCRIPTS), *(load(RECORDINGS[name]) for name in OVERLAY.scenarios)]
        used = {rule for each in scenarios for rule in (await judge(each, NO_OVERLAY)).rules}
        assert used == {rule.__name__ for rule in RULES}


def other_data(steps: list[Raw]) -> None:
    steps[4]["res"]["data"] = "hex"


def other_errno(steps: list[Raw]) -> None:
    steps[8]["res"]["errno"] = "EBADF"


def other_value(steps: list[Raw]) -> None:
    steps[4]["events"][1]["ret"] = 4


def other_order(steps: list[Raw]) -> None:
    steps[6]["events"].reverse()


def other_actor(steps: list[Raw]) -> None:
    steps[6]["events"][1]["by"] = "B"


def other_file(steps: list[Raw]) -> None:
    steps[6]["events"][1]["file"] = 2


def event_missing(steps: list[Raw]) -> None:
    del steps[6]["events"][1:3]


def sleeper_added(steps: list[Raw]) -> None:
    steps[7]["blocked"] = {"B": {}}


def warning_added(steps: list[Raw]) -> None:
    steps[6]["dmesg"] = ["name 'x'", "WARNING: at generic.c:1 remove_proc_entry"]


def finish_added(steps: list[Raw]) -> None:
    steps[7]["done"] = {"B": {"step": 1, "ret": 0}}


def field_added(steps: list[Raw]) -> None:
    steps[12]["res"]["ret"] = 0


def never_returns(steps: list[Raw]) -> None:
    steps[15]["res"] = {"pending": True}


ALTERATIONS = [
    (other_data, "step 4", "res"),
    (other_errno, "step 8", "res"),
    (other_value, "step 4", "events"),
    (other_order, "step 6", "events"),
    (other_actor, "step 6", "events"),
    (other_file, "step 6", "events"),
    (event_missing, "step 6", "events"),
    (sleeper_added, "step 7", "blocked"),
    (warning_added, "step 6", "refusals"),
    (finish_added, "step 7", "done"),
    (field_added, "step 12", "res"),
    (never_returns, "step 15", "res"),
]


class TestFails:
    @pytest.mark.parametrize(("alter", "where", "what"), ALTERATIONS)
    async def test_altered_recording(
        self, alter: Callable[[list[Raw]], None], where: str, what: str
    ) -> None:
        """
        Whatever is altered in a recording is found, in the step it was altered in.
        """
        altered = raw("a01_read_removed")
        alter(altered["steps"])
        verdict = await judge(parse(altered), NO_OVERLAY)
        assert verdict.failure.startswith(f"{where}: ")
        assert f"differs in: {what}\n" in verdict.failure
        assert "Linux: " in verdict.failure
        assert "ours: " in verdict.failure

    async def test_equal_inodes(self) -> None:
        """
        Inode numbers must be equal, and different, where the kernel's are.
        """
        altered = raw("c23_reuse_name_pending")
        altered["steps"][10]["res"]["ino"] = 1
        verdict = await judge(parse(altered), NO_OVERLAY)
        assert verdict.failure.startswith("step 10: ")

    @pytest.mark.parametrize("name", ["c21_close_during_own_read_and_remove", "c45_same_fd_pread"])
    async def test_racy_recording(self, name: str) -> None:
        """
        Where the kernel itself may do either, it may not do nothing.
        """
        altered = raw(name)
        runs = [altered["steps"], *altered.get("other_runs", [])]
        for steps in runs:
            last = [step for step in steps if step.get("events")][-1]
            last["events"] = [event for event in last["events"] if event["op"] != "release"]
        verdict = await judge(parse(altered), NO_OVERLAY)
        assert "differs in: events" in verdict.failure

    @pytest.mark.parametrize("name", OVERLAY.scenarios)
    async def test_decision_that_is_not_kept(self, name: str) -> None:
        """
        An overlaid step that says something else than we do is a failure.
        """
        changes = json.loads((HERE / "overlay.json").read_text())
        number, step = next(iter(changes[name].items()))
        step["events"] = ["Z:z.read.enter"]
        verdict = await judge(load(RECORDINGS[name]), Overlay(changes))
        assert verdict.failure.startswith(f"step {number}: ")
        assert "decided: " in verdict.failure

    @pytest.mark.parametrize(
        ("number", "change", "why"),
        [
            ("3", {"step": "A read fd=g"}, "overlay: step 3 is not 'A read fd=g'"),
            ("99", {}, "overlay: step 99 is not 'A read fd=fx n=3'"),
            ("4", {}, "overlay: step 4 is what Linux answers, so it does not deviate"),
        ],
    )
    async def test_overlay_that_no_longer_applies(self, number: str, change: Raw, why: str) -> None:
        """
        An overlay entry for a step that is not there, or does not differ, is a failure.
        """
        entry = {"step": "A read fd=fx n=3", "decision": 1, "why": "", **change}
        overlay = Overlay({"a01_read_removed": {number: entry}})
        verdict = await judge(load(RECORDINGS["a01_read_removed"]), overlay)
        assert verdict.failure == why

    async def test_mistake_of_ours(self) -> None:
        """
        What is not an OSError is a failure of the step it was raised in.
        """
        altered = raw("a01_read_removed")
        altered["steps"][3]["args"]["flags"] = "NOSUCH"
        verdict = await judge(parse(altered), NO_OVERLAY)
        assert verdict.failure.startswith("step 3: ")
        assert "AttributeError" in verdict.failure

    async def test_scenario_that_cannot_be_played(self) -> None:
        """
        What goes wrong outside of any step is a failure of the scenario.
        """
        altered = raw("a01_read_removed")
        altered["steps"][0] |= {"actor": "-", "verb": "set"}
        verdict = await judge(parse(altered), NO_OVERLAY)
        assert verdict.failure.startswith("could not be played: ")


class TestSkips:
    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"verb": "mount"}, "mount is not played"),
            ({"verb": "signal", "args": {"sig": "ILL"}}, "signal ILL is not played"),
        ],
    )
    async def test_what_no_task_can_do(self, change: Raw, why: str) -> None:
        """
        A verb that is not played skips the scenario, and says so.
        """
        altered = raw("a01_read_removed")
        altered["steps"][3] |= change
        verdict = await judge(parse(altered), NO_OVERLAY)
        assert verdict.skipped == why


class TestOverlay:
    def test_names_what_is_there(self) -> None:
        """
        No entry is of a recording that is not shipped.
        """
        assert OVERLAY.scenarios.keys() <= RECORDINGS.keys()

    @pytest.mark.parametrize("text", ['{"x": {"1": {}}}', '{"x": {"1": {"decision": 7}}}', "[]"])
    def test_malformed(self, tmp_path: Path, text: str) -> None:
        """
        Anything that is no overlay is refused, with its name.
        """
        (tmp_path / "o.json").write_text(text)
        with pytest.raises(BadRecordingError, match=r"o\.json is not an overlay"):
            Overlay.load(tmp_path / "o.json")

    @pytest.mark.parametrize(
        "text", ["A:x.read.enter", "A:..remove_entry.exit=-2", "P:d/x.read.exit#3(n=1 pos=0)=5"]
    )
    def test_events_are_read_as_they_are_shown(self, text: str) -> None:
        """
        An event in a failure can be copied into the overlay.
        """
        assert str(read_event(text)) == text

    def test_no_event(self) -> None:
        """
        Text that is no event is refused.
        """
        with pytest.raises(ValueError, match="'read' is not an event"):
            read_event("read")


class TestWords:
    def test_escapes(self) -> None:
        """
        ``%XX`` is a byte, ``%{N*c}`` a character N times.
        """
        assert decode("a%20b%{3*x}%0a") == "a bxxx\n"

    def test_numbers(self) -> None:
        """
        Numbers are C literals.
        """
        assert [number(text) for text in ("0644", "0x1F", "-1", "0", "10")] == [420, 31, -1, 0, 10]

    def test_flags(self) -> None:
        """
        The access mode comes first.
        """
        assert name_flags(0o4002) == "RDWR|NONBLOCK"

    def test_errno_without_a_name(self) -> None:
        """
        A number that is no errno stays a number, and one with two names has Linux's.
        """
        assert [name_errno(each) for each in (5, 35, 512)] == ["EIO", "EDEADLK", "512"]

    def test_long_data(self) -> None:
        """
        More than 256 bytes are shown by their ends and their checksum.
        """
        assert shown(b"q" * 300).keys() == {"ret", "crc32", "head", "tail"}


class TestWarnings:
    @pytest.mark.parametrize(
        ("dmesg", "errnos"),
        [
            (["name len 300", "WARNING: at g.c:1 __proc_create"], (36,)),
            (["create '/proc/7' by hand", "WARNING: at g.c:1 __proc_create"], (22,)),
            (["something new", "WARNING: at g.c:1 proc_new"], (UNKNOWN,)),
            (["pdedep: Unknown symbol pdemod_symbol (err -2)"], ()),
        ],
    )
    def test_errno_of_a_warning(self, dmesg: list[str], errnos: tuple[int, ...]) -> None:
        """
        Each warning stands for one errno; one we do not know stands for any.
        """
        assert refusals(dmesg) == errnos


# Python 3.11 loses track of the frames below an asyncio loop in which something is cancelled, and
# then no coverage is measured in them.
TRACED = ("--backend", "trio")


class TestCommand:
    @pytest.mark.parametrize("loop", command.BACKENDS)
    def test_passes(self, loop: str, capsys: pytest.CaptureFixture[str]) -> None:
        """
        The last line counts, the status is 0.
        """
        path = str(RECORDINGS["a01_read_removed"])
        assert command.main([path, "--backend", loop]) == 0
        assert capsys.readouterr().out == "1 passed, 0 failed, 0 skipped\n"

    def test_skips(self, capsys: pytest.CaptureFixture[str]) -> None:
        """
        What is skipped is named with the reason, and so is each rule with ``--verbose``.
        """
        paths = [str(RECORDINGS[name]) for name in ("a14_fdlink_removed", "b13_size_cached")]
        assert command.main([*paths, "--verbose", *TRACED]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "skipped a14_fdlink_removed: fdlink left out: no dentry cache; all else agrees",
            "rule_attributes_are_true: 2",
            "1 passed, 0 failed, 1 skipped",
        ]

    def test_fails(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """
        A failure is shown with both sides, and the status is 1.
        """
        altered = raw("a01_read_removed")
        other_data(altered["steps"])
        (tmp_path / "altered.json").write_text(json.dumps(altered))
        assert command.main([str(tmp_path), *TRACED]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "FAILED a01_read_removed: step 4: A read fd=fx n=3"
        assert lines[-1] == "0 passed, 1 failed, 0 skipped"
        assert "'hex'" in lines[2]
        assert "'hel'" in lines[3]

    def test_is_a_command(self) -> None:
        """
        It can be run as a module.
        """
        program = [sys.executable, "-m", "tests.conformance", str(RECORDINGS["a01_read_removed"])]
        done = subprocess.run(program, cwd=HERE.parent.parent, capture_output=True, check=True)
        assert done.stdout == b"1 passed, 0 failed, 0 skipped\n"

    @pytest.mark.parametrize(
        "arguments", [["nowhere"], ["--backend", "curio"], ["--nonsense"], ["EMPTY"]]
    )
    def test_wrong_call(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
    ) -> None:
        """
        A wrong call gets one line, and the status is 2.
        """
        arguments = [str(tmp_path) if each == "EMPTY" else each for each in arguments]
        with pytest.raises(SystemExit) as caught:
            command.main(arguments)
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
