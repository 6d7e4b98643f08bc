"""
The command line: ``aiopde COMMAND``, also as ``python -m aiopde COMMAND``.

General layout: this file reads the arguments and picks the command; each command is a module, or
a package, imported when it runs and not before; beside them is what commands share (``_loops``,
``_progress``). Imports go down in that order, never back up.
"""

from __future__ import annotations

import argparse
import sys
from random import SystemRandom
from typing import TYPE_CHECKING, NoReturn

from ._errors import CommandError
from ._loops import LOOPS

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = """\
exit codes:
  0    the race was run, and no handler ran after its removal had returned;
       with --scheme none also if some did: that is what it shows
  1    some handler did
  2    wrong arguments, or the backend is not installed
  130  stopped with Ctrl-C
"""

RACE = """\
Readers open, read and close files over and over, while the files are removed under
them. Counts who was let in, who was refused and how, how long each removal took, and
what must never happen: a handler that runs after its removal has returned.
"""

SCHEMES = """\
who decides when a removal may return: pde, the guard of procfs, refuses newcomers and
waits for those inside (default); none, nobody: the same race over a plain dict, to see
what the guard is for; owner, the way before it: each open file pins the driver, and
removal is refused while there is one
"""


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, not in the whole usage and one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, and where to read more."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command that *arguments* name, by default those of the process.

    Returns:
        The exit code; each command's ``--help`` lists them.

    Raises:
        SystemExit: From argparse: after ``--help``, or if the arguments are wrong.
    """
    options = make_parser().parse_args(arguments)
    code = 130
    try:
        code = run(options)
    except* KeyboardInterrupt:  # some loops raise it in a group
        print("interrupted", file=sys.stderr)
    return code


def run(options: argparse.Namespace) -> int:
    """Run the command; what the user can put right is told in one line."""
    try:
        return int(options.command(options))
    except CommandError as exc:
        print(f"aiopde: {exc}", file=sys.stderr)
        return 2


def make_parser() -> Parser:
    """Describe every command and its options."""
    parser = Parser(
        prog="aiopde",
        description="Linux procfs entries for async Python, removed while they are in use.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_race(
        commands.add_parser(
            "race",
            help="readers race the removal of what they read",
            description=RACE,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
    )
    return parser


def add_race(parser: argparse.ArgumentParser) -> None:
    """Describe ``aiopde race``."""
    add = parser.add_argument
    add("--backend", choices=LOOPS, default="asyncio", help="the event loop (default: asyncio)")
    add("--readers", type=positive, default=100, metavar="N", help="default: 100")
    add(
        "--seed",
        type=int,
        default=SystemRandom().randrange(10_000),
        metavar="S",
        help="repeats the same workload; the loop still decides who comes first",
    )
    add("--scheme", choices=("pde", "none", "owner"), default="pde", help=SCHEMES)
    add("--json", action="store_true", help="print the numbers as one JSON object")
    parser.set_defaults(command=run_race)


def run_race(options: argparse.Namespace) -> int:
    """Import and run ``aiopde race``."""
    from . import race

    return race.run(
        race.Settings(options.backend, options.readers, options.seed, options.scheme),
        as_json=options.json,
    )


def positive(text: str) -> int:
    """Read a number that must be at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        msg = f"must be a number from 1 on, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number
