"""``aiopde ps`` and ``why``: who is inside, and what a removal waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._client import ask, show
from ._text import calls, duration, line_of, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    Told = dict[str, Any]


def ps(options: argparse.Namespace) -> int:
    """List the calls inside entries."""
    told: list[Told] = ask(options, "ps", path=options.path)
    return show(options, told, lambda: _table(told))


def _table(told: list[Told]) -> str:
    rows = [
        (
            holder["task"],
            f"≥ {duration(holder['seconds'])}",
            holder["op"],
            holder["path"],
            line_of(holder["stack"]),
        )
        for holder in told
    ]
    return table(("TASK", "INSIDE", "CALL", "ENTRY", "LINE"), rows, right="1")


def why(options: argparse.Namespace) -> int:
    """Tell what the removals at a name wait for."""
    told: list[Told] = ask(options, "why", name=options.name)
    return show(options, told, lambda: "\n".join(_reasons(told, options.name)))


def _reasons(told: list[Told], name: str) -> Iterator[str]:
    if not told:
        yield f"{name} is not being removed"
    for subject in told:
        yield _headline(subject)
        for holder in subject["holders"]:
            yield f"  {_sentence(holder)}"
            yield from _stack(holder["stack"])
        if not subject["holders"]:
            for task in subject["tasks"]:
                yield f"  task {task['task']!r}"
                yield from _stack(task["stack"])


def _headline(subject: Told) -> str:
    doing = "is unloading" if subject["kind"] == "module" else "is being removed"
    since = "" if subject["seconds"] is None else f" for {duration(subject['seconds'])}"
    waiting = len(subject["holders"])
    reason = calls(waiting) if waiting else "no call inside"
    return f"{subject['kind']} {subject['name']} {doing}{since}, and waits for {reason}"


def _sentence(holder: Told) -> str:
    fate = ", cancelled when a grace ends" if holder["killable"] else ""
    since = duration(holder["seconds"])
    return f"{holder['op']} of {holder['path']} by {holder['task']!r}, inside ≥ {since}{fate}"


def _stack(stack: list[str]) -> Iterator[str]:
    # The handler first, what it waits in last: as it was called.
    for frame in reversed(stack):
        yield f"    {frame}"
