"""
Plays recordings of a real kernel against aiopde.

    python -m tests.conformance [DIR|FILE|NAME...] [--mount] [--backend asyncio|uvloop|trio]
                                [--verbose]

A NAME is the beginning of that of a recording that is shipped. With ``--mount``, they are played by
real system calls of real processes on a real mount, as root. Shows the first differing step of each
failure with both sides, and what was skipped and why. Exits with 1 if anything failed, with 2 if it
was called wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import anyio

from ._judge import IN_PROCESS, judge
from ._overlay import Overlay
from ._scenario import BadRecordingError, load

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._judge import Place, Verdict
    from ._scenario import Scenario

RECORDED: Final = Path(__file__).parent / "recorded"
BACKENDS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line."""

    def error(self, message: str) -> NoReturn:
        """Say it, and exit with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def recordings(paths: Iterable[Path]) -> list[Scenario]:
    """Read the recordings in these files and directories, or shipped under these names."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.glob("*.json")) if path.is_dir() else _named(path)
        if not found:
            msg = f"{path} holds no recordings (*.json)"
            raise BadRecordingError(msg)
        files += found
    return [load(file) for file in files]


def _named(path: Path) -> list[Path]:
    shipped = [] if path.exists() else sorted(RECORDED.glob(f"{path}*.json"))
    return shipped or [path]


async def judge_all(scenarios: Sequence[Scenario], overlay: Overlay, place: Place) -> list[Verdict]:
    """Play one after the other, telling what did not pass."""
    verdicts: list[Verdict] = []
    for scenario in scenarios:
        verdict = await judge(scenario, overlay, place)
        verdicts.append(verdict)
        if verdict.failure:
            print(f"FAILED {scenario.id}: {verdict.failure}")
        elif verdict.skipped:
            print(f"skipped {scenario.id}: {verdict.skipped}")
    return verdicts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    parser = Parser(
        prog="python -m tests.conformance",
        description="Plays recordings of a real kernel against aiopde.",
    )
    add = parser.add_argument
    add("paths", nargs="*", type=Path, metavar="DIR|FILE|NAME", help="default: those shipped")
    add("--backend", choices=BACKENDS, default="asyncio", help="the loop to play them on")
    add("--mount", action="store_true", help="by system calls on a real mount (root)")
    add("--verbose", action="store_true", help="also tell which rules had a say, and how often")
    options = parser.parse_args(arguments)
    try:
        scenarios, overlay = recordings(options.paths or [RECORDED]), Overlay.load()
        place = mounted_place() if options.mount else IN_PROCESS
    except BadRecordingError as exc:
        parser.error(str(exc))
    backend, backend_options = BACKENDS[options.backend]
    verdicts = anyio.run(
        judge_all, scenarios, overlay, place, backend=backend, backend_options=backend_options
    )
    if options.verbose:
        tell_rules(verdicts)
    return summary(verdicts)


def mounted_place() -> Place:
    """Return where the mount is played on; nothing but Linux has it."""
    from ._mount import MOUNTED, why_not

    if why := why_not():
        raise BadRecordingError(why)
    return MOUNTED


def tell_rules(verdicts: Sequence[Verdict]) -> None:
    """Print how many answers each rule has changed."""
    rules = sum((each.rules for each in verdicts), Counter[str]())
    for rule, count in rules.most_common():
        print(f"{rule}: {count}")


def summary(verdicts: Sequence[Verdict]) -> int:
    """Print the last line, and return the exit status."""
    failed = sum(bool(each.failure) for each in verdicts)
    skipped = sum(bool(each.skipped and not each.failure) for each in verdicts)
    print(f"{len(verdicts) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
