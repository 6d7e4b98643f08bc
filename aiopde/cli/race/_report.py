"""What to say about a race."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ._course import ENTRIES, ROUNDS

if TYPE_CHECKING:
    from ._course import Settings
    from ._tally import Tally

SCHEMES = {
    "pde": "pde, the guard of procfs: calls are let in or refused; removal waits for those let in.",
    "none": "none: whoever opened a file calls its handlers; removal waits for nobody.",
    "owner": "owner, as in procfs before its guard: removal is refused while a file is open.",
}

MORALS = {
    "pde": """\
Once a removal had returned no handler ran, so its owner could free everything at once.
It waited for the calls in flight, and for no open file: it released those by force, and
their readers got EIO. The same race without the guard:""",
    "none": """\
As expected, handlers ran in code and data that were already taken away: in a kernel,
each may crash it. The same race with the guard:""",
    "owner": """\
Safe, but each removal had to be tried until nobody had the file open, if only to sit on
it. With the guard it waits for no such reader:""",
}
BROKEN = """\
BROKEN: a handler ran after the removal of its file had returned. This must never happen.
To try again:"""


def headline(settings: Settings) -> str:
    """Say what is raced, before it is."""
    return (
        f"{settings.readers} readers open, read and close {ROUNDS * ENTRIES} files,"
        f" {ENTRIES} at a time, while each is removed.\n"
        f"Scheme {SCHEMES[settings.scheme]}\n"
        f"Loop {settings.backend}, seed {settings.seed}.\n"
    )


def progress_line(tally: Tally) -> str:
    """Say how far it is, in one line."""
    return (
        f"round {tally.rounds + 1} of {ROUNDS}: {tally.succeeded} reads succeeded, "
        f"{tally.refused_eio} EIO, {tally.refused_enoent} ENOENT, {tally.removals} removed"
    )


def is_fine(settings: Settings, tally: Tally) -> bool:
    """Tell whether the scheme kept what it promises; the scheme none promises nothing."""
    return tally.handlers_after_removal == 0 or settings.scheme == "none"


def as_json(settings: Settings, tally: Tally) -> str:
    """Say it to a program, in one line."""
    numbers = asdict(settings) | asdict(tally)
    del numbers["removal_seconds"]
    numbers["removals"] = tally.removals
    numbers["longest_removal_seconds"] = tally.longest_removal
    numbers["mean_removal_seconds"] = tally.mean_removal
    numbers["ok"] = is_fine(settings, tally)
    return json.dumps(numbers)


def as_text(settings: Settings, tally: Tally) -> str:
    """Say it to a reader: a table, and what to see in it."""
    return f"{_table(_rows(settings, tally))}\n\n{_moral(settings, tally)}"


def _rows(settings: Settings, tally: Tally) -> list[tuple[str, str, str]]:
    time = "time until removal succeeded" if settings.scheme == "owner" else "time to drain"
    after = "expected to be more" if settings.scheme == "none" else "must be 0"
    return [
        ("files opened", f"{tally.opened}", ""),
        ("reads that succeeded", f"{tally.succeeded}", ""),
        ("reads refused with EIO", f"{tally.refused_eio}", ""),
        ("opens refused with ENOENT", f"{tally.refused_enoent}", ""),
        ("files removed", f"{tally.removals}", ""),
        ("removals refused with EWOULDBLOCK", f"{tally.removals_refused}", ""),
        ("calls in flight when removal began", f"{tally.in_flight}", ""),
        (f"{time}, on average", _milliseconds(tally.mean_removal), ""),
        (f"{time}, at the longest", _milliseconds(tally.longest_removal), ""),
        ("files force-released", f"{tally.force_released}", ""),
        ("handlers that ran after removal returned", f"{tally.handlers_after_removal}", after),
    ]


def _table(rows: list[tuple[str, str, str]]) -> str:
    left = max(len(name) for name, _, _ in rows)
    right = max(len(value) for _, value, _ in rows)
    lines = [f"  {name:{left}}  {value:>{right}}  {remark}" for name, value, remark in rows]
    return "\n".join(line.rstrip() for line in lines)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _moral(settings: Settings, tally: Tally) -> str:
    command = f"aiopde race --readers {settings.readers} --seed {settings.seed}"
    if not is_fine(settings, tally):
        return f"{BROKEN}\n  {command} --scheme {settings.scheme} --backend {settings.backend}"
    if settings.scheme == "pde":
        command += " --scheme none"
    return f"{MORALS[settings.scheme]}\n  {command}"
