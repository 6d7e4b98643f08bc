"""The verdict on a scenario: whether each step did what Linux, or a decision of ours, says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ._compare import Comparison, Difference
from ._history import History
from ._player import SEES_DENTRIES, play, unplayable
from ._rules import Expected, apply
from ._words import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ._overlay import Overlay
    from ._scenario import Answer, Scenario, Step


class View:
    """What the place where a scenario is played makes of an answer: here, nothing."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.ended = ""
        """Why nothing is compared any more, if that is so."""

    def apply(self, step: Step, decided: Expected) -> tuple[Expected, list[str]]:
        """Return what is expected there, and which rules had a say in that."""
        return decided, []

    def learn(self, step: Step, decided: Answer, answer: Answer) -> None:
        """Take a step in: what our decisions made of it, and the answer that was found right."""
        self.history.learn(step, answer)


@dataclass(frozen=True, slots=True)
class Place:
    """Where scenarios are played."""

    play: Callable[[Scenario], Awaitable[list[Answer]]] = play
    unplayable: Callable[[Scenario], str | None] = unplayable
    view: Callable[[History], View] = View
    overlay: Overlay | None = None
    """What differs there step by step, besides what differs everywhere."""

    def but(self, **changes: Any) -> Place:
        """Return a place that differs from this one."""
        return replace(self, **changes)


IN_PROCESS = Place()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a scenario: it passed, unless there is a failure or a reason to skip it."""

    scenario: Scenario
    failure: str = ""
    skipped: str = ""
    rules: Counter[str] = field(default_factory=Counter[str])
    """How many steps each rule had something to say of."""


async def judge(scenario: Scenario, overlay: Overlay, place: Place = IN_PROCESS) -> Verdict:
    """Play a scenario and compare."""
    reason = place.unplayable(scenario)
    if reason is not None:
        return Verdict(scenario, skipped=reason)
    try:
        answers = await place.play(scenario)
    except Exception as exc:
        return Verdict(scenario, failure=f"could not be played: {exc!r}")
    return compare(scenario, answers, overlay, place)


def compare(
    scenario: Scenario, answers: list[Answer], overlay: Overlay, place: Place = IN_PROCESS
) -> Verdict:
    """Compare answers with the recording, up to the first difference."""
    if stale := overlay.stale(scenario) or (place.overlay or overlay).stale(scenario):
        return Verdict(scenario, failure=stale)
    view, comparison = place.view(History()), Comparison(racy=scenario.racy)
    used: Counter[str] = Counter()
    left_out: set[str] = set()
    for step, ours in zip(scenario.steps, answers, strict=True):
        due, rules = _due(view, overlay, scenario, step, place.overlay)
        used.update(rules)
        found = [_difference(comparison, step, each, ours) for _, each in due]
        if None not in found:
            return Verdict(scenario, failure=_report(step, due[0][1], found[0]), rules=used)
        decided, right = due[found.index(None)]
        if right.last:
            break
        if ours.res == LEFT_OUT:
            left_out.add(step.verb)
        view.learn(step, decided.answer, right.answer)
    return Verdict(scenario, skipped=view.ended or _tell_left_out(left_out), rules=used)


def _due(
    view: View, overlay: Overlay, scenario: Scenario, step: Step, local: Overlay | None
) -> tuple[list[tuple[Expected, Expected]], list[str]]:
    """Say what is decided, and what is right here, for each boot; and which rules had a say."""
    due, rules = list[tuple[Expected, Expected]](), list[str]()
    for linux in (step.answer, *step.others):
        decided, rules = apply(view.history, step, linux)
        decided = overlay.expected(scenario, step, linux) or decided
        expected, local_rules = view.apply(step, decided)
        if local is not None:
            expected = local.expected(scenario, step, expected.answer) or expected
        rules += local_rules
        due.append((decided, expected))
    return due, rules


def _difference(
    comparison: Comparison, step: Step, expected: Expected, ours: Answer
) -> Difference | None:
    if ours.res == LEFT_OUT:
        expected = expected.but(res=LEFT_OUT)
    return comparison.difference(step, expected, ours)


def _tell_left_out(verbs: set[str]) -> str:
    dentries, others = verbs & SEES_DENTRIES, verbs - SEES_DENTRIES
    why = [f"{', '.join(sorted(dentries))} left out: no dentry cache"] if dentries else []
    why += [f"{', '.join(sorted(others))} left out: not on this machine"] if others else []
    return "; ".join([*why, "all else agrees"]) if why else ""


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
