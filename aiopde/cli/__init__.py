"""
The command line: ``aiopde COMMAND``, also as ``python -m aiopde COMMAND``.

General layout: this file runs the command that ``_arguments`` finds described; each group of
commands is a module, or a package, imported when it runs and not before: ``run`` keeps a kernel
alive; ``modules``, ``holders``, ``files``, ``mounts`` and ``top`` talk to it through ``_client``;
``race`` is by itself. Below them is what commands share (``_loops``, ``_text``, ``_progress``).
Imports go down in that order, never back up, which CI checks.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ._arguments import make_parser
from ._errors import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command that *arguments* name, by default those of the process.

    Returns:
        The exit code; each command's ``--help`` lists them.

    Raises:
        SystemExit: From argparse: after ``--help``, or if the arguments are wrong.
    """
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        complete(parser)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:  # told by the command itself, whose --help it names
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    code = 130
    try:
        code = execute(options)
    except* KeyboardInterrupt:  # some loops raise it in a group
        print("interrupted", file=sys.stderr)
    return code


def execute(options: argparse.Namespace) -> int:
    """Run the command; what the user can put right is told in one line."""
    _prepare_output()
    try:
        code = int(options.command(options))
        sys.stdout.flush()
    except CommandError as exc:
        print(f"aiopde: {exc}", file=sys.stderr)
        return exc.code
    except OSError as exc:
        # Nothing is left to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not isinstance(exc, BrokenPipeError):  # who read our output has seen enough
            print(f"aiopde: {exc.strerror}", file=sys.stderr)
        return 1
    return code


def _prepare_output() -> None:
    """Let nothing that is printed fail for what it says, or because nobody is there to see it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  as long as we run
            setattr(sys, name, stream)
        # A name in the tree may be no text, and a terminal may know few characters.
        stream.reconfigure(errors="backslashreplace")
