"""The verdict on a scenario: whether each step did what Linux, or a decision of ours, says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._compare import Comparison, Difference
from ._history import History
from ._player import LEFT_OUT, SEES_DENTRIES, play, unplayable
from ._rules import Expected, apply

if TYPE_CHECKING:
    from ._overlay import Overlay
    from ._scenario import Answer, Scenario, Step


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a scenario: it passed, unless there is a failure or a reason to skip it."""

    scenario: Scenario
    failure: str = ""
    skipped: str = ""
    rules: Counter[str] = field(default_factory=Counter[str])
    """How many steps each rule had something to say of."""


async def judge(scenario: Scenario, overlay: Overlay) -> Verdict:
    """Play a scenario and compare."""
    reason = unplayable(scenario)
    if reason is not None:
        return Verdict(scenario, skipped=reason)
    try:
        answers = await play(scenario)
    except Exception as exc:
        return Verdict(scenario, failure=f"could not be played: {exc!r}")
    return compare(scenario, answers, overlay)


def compare(scenario: Scenario, answers: list[Answer], overlay: Overlay) -> Verdict:
    """Compare answers with the recording, up to the first difference."""
    if stale := overlay.stale(scenario):
        return Verdict(scenario, failure=stale)
    history, comparison = History(), Comparison(racy=scenario.racy)
    used: Counter[str] = Counter()
    for step, ours in zip(scenario.steps, answers, strict=True):
        due, rules = _due(history, overlay, scenario, step)
        used.update(rules)
        found = [_difference(comparison, step, each, ours) for each in due]
        if None not in found:
            return Verdict(scenario, failure=_report(step, due[0], found[0]), rules=used)
        right = due[found.index(None)]
        if right.last:
            break
        history.learn(step, right.answer)
    return Verdict(scenario, skipped=_left_out(scenario), rules=used)


def _due(
    history: History, overlay: Overlay, scenario: Scenario, step: Step
) -> tuple[list[Expected], list[str]]:
    """Say which answers are right, one for each boot, and which rules had a say in that."""
    due, rules = list[Expected](), list[str]()
    for linux in (step.answer, *step.others):
        expected, rules = apply(history, step, linux)
        due.append(overlay.expected(scenario, step, linux) or expected)
    return due, rules


def _difference(
    comparison: Comparison, step: Step, expected: Expected, ours: Answer
) -> Difference | None:
    if ours.res == LEFT_OUT:
        expected = expected.but(res=LEFT_OUT)
    return comparison.difference(step, expected, ours)


def _left_out(scenario: Scenario) -> str:
    verbs = sorted({step.verb for step in scenario.steps} & SEES_DENTRIES)
    return f"{', '.join(verbs)} left out: no dentry cache; all else agrees" if verbs else ""


def _report(step: Step, due: Expected, difference: Difference | None) -> str:
    assert difference is not None
    lines = [f"step {step.number}: {step.text}", f"  differs in: {difference.field}"]
    linux = getattr(step.answer, difference.field)
    if linux != getattr(due.answer, difference.field):
        lines.append(f"  Linux:    {_show(linux)}")
        lines.append(f"  decided:  {_show(difference.expected)}")
    else:
        lines.append(f"  Linux:    {_show(difference.expected)}")
    return "\n".join([*lines, f"  ours:     {_show(difference.ours)}"])


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return str(value)  # pyright: ignore[reportUnknownArgumentType]
    words: list[str] = [str(each) for each in value]
    return " ".join(words) or "none"
