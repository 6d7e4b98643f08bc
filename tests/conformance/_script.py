"""
Scenarios written by hand, where we know Linux's answer without having it recorded.

Each line is a step and its answer: ``STEP -> RESULT``, then what else there is to it, each part
after a bar: events as they are shown, ``blocked A B``, ``done JSON``, ``warn MESSAGE FUNCTION``.
Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from ._overlay import read_event
from ._scenario import parse

if TYPE_CHECKING:
    from ._scenario import Scenario

_NEXT_EVENT: Final = re.compile(r" (?=\w+:)")


def read_script(name: str, text: str) -> Scenario:
    """Make a scenario of a script."""
    lines = [line for line in map(str.strip, text.splitlines()) if line and line[0] != "#"]
    steps = [_step(line) for line in lines]
    return parse({"id": name, "group": "script", "title": name, "steps": steps})


def _step(line: str) -> dict[str, Any]:
    text, _, answer = line.partition(" -> ")
    actor, verb, *words = text.split()
    args = dict(word.split("=", 1) for word in words)
    res, *parts = answer.split(" | ")
    step = {"actor": actor, "verb": verb, "args": args, "text": text, "res": json.loads(res)}
    for part in parts:
        kind, _, rest = part.partition(" ")
        match kind:
            case "blocked":
                step["blocked"] = rest.split()
            case "done":
                step["done"] = json.loads(rest)
            case "warn":
                message, _, function = rest.rpartition(" ")
                step["dmesg"] = [message, f"WARNING: at generic.c:1 {function}"]
            case _:
                step["events"] = [_event(event) for event in _NEXT_EVENT.split(part)]
    return step


def _event(text: str) -> dict[str, Any]:
    event = read_event(text)
    fields = ("by", "ent", "op", "phase", "file", "ret", "arg")
    return {field: getattr(event, field) for field in fields if getattr(event, field) is not None}
