"""A recording: what was asked of the kernel step by step, and what it answered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from errno import EEXIST, EINVAL, ENAMETOOLONG, ENOENT, ENOTEMPTY, EPERM
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ._words import Result

UNKNOWN: Final = 0
"""The errno of a kernel warning we have no errno for: any failure of ours will do."""
# Which errno says what a WARN says: its message, and the function it is in.
_WARNINGS: Final = (
    (r".* already registered \w+", EEXIST),
    (r"attempt to add to permanently empty directory \w+", EPERM),
    (r"removing permanent /proc entry .*", EINVAL),
    (r"remove_proc_entry: removing non-empty directory .*", ENOTEMPTY),
    (r"name len 0 \w+", EINVAL),
    (r"name len \d+ \w+", ENAMETOOLONG),
    (r"create '.*' by hand \w+", EINVAL),
    (r"name '.*' __proc_create", EINVAL),
    (r"name '.*' (__xlate_proc_name|remove_proc_entry)", ENOENT),
    (r" (proc_create_reg|do_dentry_open)", EINVAL),
)
# Stop gets the error pointer of a start or next that failed. Here an error is no value.
_ERROR_POINTER: Final = re.compile(r"v=-\d+")


class BadRecordingError(Exception):
    """A file is not a recording, or no scenario is where one was looked for."""


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the kernel's log: a handler was entered, slept, went on, or returned."""

    by: str
    ent: str
    op: str
    phase: str
    file: int | None = None
    ret: int | None = None
    arg: str | None = None

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Event:
        """Make an event of a line of a recording, less what is the kernel's own business."""
        event = cls(**raw)
        if event.arg is None:
            return event
        arg = None if "bufsize=" in event.arg else _ERROR_POINTER.sub("v=0", event.arg)
        return replace(event, arg=arg)

    def __str__(self) -> str:
        file = "" if self.file is None else f"#{self.file}"
        ret = "" if self.ret is None else f"={self.ret}"
        arg = "" if self.arg is None else f"({self.arg})"
        return f"{self.by}:{self.ent}.{self.op}.{self.phase}{file}{arg}{ret}"


@dataclass(frozen=True, slots=True)
class Answer:
    """All that one step did: its own result, what it let others finish, who sleeps now."""

    res: Result
    done: dict[int, Result] = field(default_factory=dict[int, "Result"])
    """Results of earlier steps that finished during this one, by the number of the step."""
    blocked: frozenset[str] = frozenset()
    events: tuple[Event, ...] = ()
    refusals: tuple[int, ...] = ()
    """For each call that Linux only warns about: the errno we raise (or should)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one actor was told to do, and what came of it in Linux."""

    number: int
    actor: str
    verb: str
    args: dict[str, str]
    text: str
    answer: Answer
    others: tuple[Answer, ...] = ()
    """What came of it in other boots, if that differed anywhere in this step."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named list of steps."""

    id: str
    group: str
    title: str
    steps: tuple[Step, ...]
    racy: bool = False
    """The kernel may do either; which one is no promise."""


def load(path: Path) -> Scenario:
    """Read one recording."""
    try:
        return parse(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        msg = f"{path} is not a recording: {exc!r}"
        raise BadRecordingError(msg) from exc


def parse(raw: dict[str, Any]) -> Scenario:
    """Make a scenario of what stands in a recording."""
    differing = {int(found[1]) for found in _paths(raw.get("nondeterministic", ()))}
    runs: list[list[dict[str, Any]]] = raw.get("other_runs", [])
    steps = [_step(number, step) for number, step in enumerate(raw["steps"])]
    for number in differing:
        others = tuple(_answer(run[number]) for run in runs)
        steps[number] = replace(steps[number], others=others)
    racy = bool(raw.get("racy"))
    return Scenario(raw["id"], raw["group"], raw["title"], tuple(steps), racy)


def _paths(paths: Iterable[str]) -> Iterable[re.Match[str]]:
    return filter(None, (re.match(r"steps\[(\d+)\]", path) for path in paths))


def _step(number: int, raw: dict[str, Any]) -> Step:
    answer = _answer(raw)
    return Step(number, raw["actor"], raw["verb"], dict(raw["args"]), raw["text"], answer)


def _answer(raw: dict[str, Any]) -> Answer:
    events = tuple(map(Event.of, raw.get("events", ())))
    return Answer(
        raw["res"],
        finished(raw.get("done", {})),
        frozenset(raw.get("blocked", ())),
        events,
        _refusals(raw, events),
    )


def _refusals(raw: dict[str, Any], events: tuple[Event, ...]) -> tuple[int, ...]:
    if any(each.op == "remove_subtree" and each.ret for each in events):
        return ()  # its result says what the warning does
    found = refusals(raw.get("dmesg", ()))
    # Some warn only once after a boot.
    return found or ((UNKNOWN,) if raw["res"].get("created") is False else ())


def finished(raw: dict[str, Any]) -> dict[int, Result]:
    """Sort what each actor finished by the number of the step (-1: it was idle, and killed)."""
    done: dict[int, Result] = {}
    for actor, one_or_more in raw.items():
        for result in _listed(one_or_more):
            rest = {key: value for key, value in result.items() if key != "step"}
            done[result["step"]] = {"actor": actor} | rest
    return done


def _listed(results: Any) -> list[Result]:
    listed: list[Result] = [results] if isinstance(results, dict) else results
    return listed


def refusals(dmesg: Iterable[str]) -> tuple[int, ...]:
    """Turn kernel warnings into the errno that each should be."""
    found: list[int] = []
    message = ""
    for line in dmesg:
        where = re.match(r"WARNING: at \S+ (\w+)", line)
        if where is None:
            message = line
            continue
        refusal = _errno_of(f"{message} {where[1]}")
        # A refused removal of a permanent entry is followed by one about its name.
        if not (found[-1:] == [EINVAL] and refusal == ENOENT):
            found.append(refusal)
        message = ""
    return tuple(found)


def _errno_of(warning: str) -> int:
    for pattern, number in _WARNINGS:
        if re.fullmatch(pattern, warning):
            return number
    return UNKNOWN
