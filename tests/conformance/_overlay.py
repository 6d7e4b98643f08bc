"""
The steps that differ from Linux one by one: ``overlay.json`` and ``mount.json``.

The one has what we decided otherwise; the other, on top of that, what fuse.ko does instead.
"""

from __future__ import annotations

import errno
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ._rules import Expected
from ._scenario import BadRecordingError, Event, finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from ._scenario import Answer, Scenario, Step

SHIPPED: Final = Path(__file__).parent / "overlay.json"
_EVENT: Final = re.compile(r"(.+?):(.*)\.(\w+)\.(\w+)(?:#(\d+))?(?:\((.*)\))?(?:=(-?\d+))?")
DECISIONS: Final[frozenset[int | str]] = frozenset({1, 2, 3, 4, 5, 6, "hang"})


@dataclass(frozen=True, slots=True)
class Deviation:
    """What is expected of one step instead of what Linux answered, and why."""

    step: str
    decision: int | str
    """
    Its number; or "hang": Linux does from here on, so there is nothing more to compare. In
    ``mount.json`` the name of the rule (in ``_mount_rules``) whose mechanism it is.
    """
    why: str
    changes: Mapping[str, Any]
    loose: bool = False
    """Whether the order between actors is open."""

    def apply(self, linux: Answer) -> Expected:
        """Say what is expected where Linux answers so."""
        answer = replace(linux, **self.changes)
        return Expected(answer, self.loose, last=self.decision == "hang")


class Overlay:
    """All deviations, by scenario and step."""

    def __init__(
        self, raw: Mapping[str, Mapping[str, Any]], decisions: Set[int | str] = DECISIONS
    ) -> None:
        self.scenarios = {
            name: {int(number): _deviation(entry, decisions) for number, entry in steps.items()}
            for name, steps in raw.items()
        }

    @classmethod
    def load(cls, path: Path = SHIPPED, decisions: Set[int | str] = DECISIONS) -> Overlay:
        """Read an overlay, which may have these reasons."""
        try:
            return cls(json.loads(path.read_text()), decisions)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            msg = f"{path} is not an overlay: {exc!r}"
            raise BadRecordingError(msg) from exc

    def expected(self, scenario: Scenario, step: Step, linux: Answer) -> Expected | None:
        """Say what is expected of a step, if it deviates."""
        deviation = self.scenarios.get(scenario.id, {}).get(step.number)
        return None if deviation is None else deviation.apply(linux)

    def stale(self, scenario: Scenario) -> str:
        """Say which deviation is none, if there is one."""
        for number, deviation in self.scenarios.get(scenario.id, {}).items():
            if [deviation.step] != [step.text for step in scenario.steps[number : number + 1]]:
                return f"overlay: step {number} is not {deviation.step!r}"
            linux = scenario.steps[number].answer
            if deviation.apply(linux).answer == linux:
                return f"overlay: step {number} is what Linux answers, so it does not deviate"
        return ""


def _deviation(raw: Mapping[str, Any], decisions: Set[int | str]) -> Deviation:
    if raw["decision"] not in decisions:
        msg = f"decision {raw['decision']} is none of ours"
        raise ValueError(msg)
    changes: dict[str, Any] = {}
    if "res" in raw:
        changes["res"] = raw["res"]
    if "done" in raw:
        changes["done"] = finished(raw["done"])
    if "blocked" in raw:
        changes["blocked"] = frozenset(raw["blocked"])
    if "events" in raw:
        changes["events"] = tuple(map(read_event, raw["events"]))
    if "refused" in raw:
        changes["refusals"] = tuple(getattr(errno, name) for name in raw["refused"])
    loose = raw.get("loose", False)
    return Deviation(raw["step"], raw["decision"], raw["why"], changes, loose)


def read_event(text: str) -> Event:
    """Read an event as it is shown: ``A:x.read.exit#1=5``."""
    found = _EVENT.fullmatch(text)
    if found is None:
        msg = f"{text!r} is not an event"
        raise ValueError(msg)
    by, ent, op, phase, file, arg, ret = found.groups()
    return Event(by, ent, op, phase, _int(file), _int(ret), arg)


def _int(text: str | None) -> int | None:
    return None if text is None else int(text)
