"""Every command, its options, and what runs it. Nothing of that is imported before it runs."""

from __future__ import annotations

import argparse
import json
import math
import os
from importlib import import_module
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ._loops import LOOPS

if TYPE_CHECKING:
    from collections.abc import Callable

    Commands = argparse._SubParsersAction["Parser"]  # noqa: SLF001  it has no other name

MANY_READERS: Final = 100_000

RACE_CODES = """\
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

RUN = """\
Keeps a kernel alive with these modules, until Ctrl-C or SIGTERM; then unloads them.
Without a module, one for demonstration. The other commands talk to it, from any shell.
While it unloads, a second Ctrl-C tells which calls it waits for; a third one ends the
process without them.
"""

RUN_CODES = """\
exit codes:
  0    it ran, was stopped, and unloaded everything
  1    a module could not be loaded, or its code failed while it was unloaded
  2    wrong arguments, or no socket, mount or backend to be had
"""

CODES = """\
exit codes:
  0    done
  1    the kernel refused it, or what it ran has failed
  2    wrong arguments, or no kernel is running there
  130  stopped with Ctrl-C
"""

RMMOD = """\
Unloads a module: no new call gets in, those inside are waited for, open files are
released. Ctrl-C stops the waiting; the unload goes on ('aiopde why NAME' tells why).
"""

WHY = """\
Tells what the unload of a module, or the removal of an entry, waits for: the calls
inside, where each of them stands, and how long it has been there at least (calls are
not timed: counted from the first ps, why or top that saw it, or from the removal).
"""

MOUNT = """\
Has the kernel mount its tree on an empty directory, as a file system for any program
(cat, find, grep -r), until 'aiopde umount DIR', or the kernel ends. Without DIR, lists
the mounts: files that are open there, calls that wait in a handler. Root mounts by
mount(2), anybody else with fusermount3 (apt install fuse3).
"""

UMOUNT = """\
Has the kernel unmount its tree from a directory, also if it is in use: calls that wait
there are cancelled, and those who made them get ENOTCONN.
"""

CAT_FOLLOW = """\
go on when the end is reached: a file with a poll handler is read anew when that says
POLLPRI, or read on when it says POLLIN; one without is looked at once a second
"""


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, not in the whole usage and one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, and where to read more."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _BelongsBehind(argparse.Action):
    """Refuses an option of the commands that stands before them, where it would be misread."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        """Say where it belongs."""
        parser.error(f"{option_string} belongs behind the command: aiopde COMMAND {option_string}")


class _Version(argparse.Action):
    """Shows the version, which is looked up only then: that takes longer than most commands."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        """Print it, and exit."""
        from importlib import metadata

        print(f"aiopde {metadata.version('aiopde')}")
        parser.exit()


def make_parser() -> Parser:
    """Describe every command and its options."""
    parser = Parser(
        prog="aiopde",
        description="Linux procfs entries for async Python, removed while they are in use.",
        epilog="Begin with 'aiopde run': it shows something, and says what to type next.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    options = ("--control", "--json", "--backend")
    parser.add_argument(
        *options,
        action=_BelongsBehind,
        nargs="?",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_modules(commands)
    _add_holders(commands)
    _add_files(commands)
    _add_mounts(commands)
    _add_top(commands)
    _add_race(commands)
    _add_completion(commands)
    return parser


def _add(
    commands: Commands, name: str, where: str, text: str, more: str = "", codes: str = CODES
) -> argparse.ArgumentParser:
    """Add a command, which the function of that name in the module *where* runs."""
    parser = commands.add_parser(
        name,
        help=text,
        description=more or f"{text[0].upper()}{text[1:]}.",
        epilog=codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )

    def run(options: argparse.Namespace) -> int:
        function: Callable[[argparse.Namespace], int]
        function = getattr(import_module(f"aiopde.cli.{where}"), name)
        return function(options)

    parser.set_defaults(command=run, parser=parser)
    return parser


def _add_client(
    commands: Commands, name: str, where: str, text: str, more: str = ""
) -> argparse.ArgumentParser:
    """Add a command that talks to a running kernel."""
    parser = _add(commands, name, where, text, more)
    _add_control(parser, "where the kernel listens (default: where 'aiopde run' does)")
    parser.add_argument("--json", action="store_true", help="print JSON, errors too")
    return parser


def _add_control(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--control",
        metavar="SOCKET",
        type=path,
        default=os.environ.get("AIOPDE_CONTROL") or None,
        help=f"{text}; may be in the environment as AIOPDE_CONTROL",
    )


def _add_backend(parser: argparse.ArgumentParser) -> None:
    text = "the event loop (default: asyncio)"
    parser.add_argument("--backend", choices=LOOPS, default="asyncio", help=text)


def _add_run(commands: Commands) -> None:
    parser = _add(commands, "run", "run", "keep a kernel alive, with modules", RUN, RUN_CODES)
    add = parser.add_argument
    add(
        "modules",
        metavar="MODULE",
        nargs="*",
        type=path,
        help="a Python file (./x.py), an import path (package.x), or a name on the module path",
    )
    add(
        "--module-path",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder where modprobe finds NAME.py; may be repeated",
    )
    add("--mount", metavar="DIR", type=path, help="also mount the tree there, as a file system")
    _add_control(parser, "where to listen (default: a private place of this user's)")
    _add_backend(parser)
    add("--json", action="store_true", help="print what is running as one JSON object")


# -- modules ------------------------------------------------------------------------------------


def _add_modules(commands: Commands) -> None:
    insmod = _add_client(commands, "insmod", "modules", "load a module from a file")
    text = "./x.py, or an import path, package.x"
    insmod.add_argument("program", metavar="FILE", type=path, help=text)
    insmod.add_argument("--name", help="what to call it (default: as the file)")
    _add_params(insmod)
    rmmod = _add_client(commands, "rmmod", "modules", "unload a module", RMMOD)
    _add_module_name(rmmod)
    text = "seconds to wait; then killable calls are cancelled, and the others reported"
    rmmod.add_argument("--grace", type=seconds, metavar="S", help=text)
    text = "also if somebody refers to it, or it has no exit"
    rmmod.add_argument("--force", action="store_true", help=text)
    text = "put a new version of a module in its place"
    reload = _add_client(commands, "reload", "modules", text)
    _add_module_name(reload)
    reload.add_argument("--file", help="the new version (default: what the old one came from)")
    _add_params(reload)
    text = "load a module by name, and before it what it depends on"
    modprobe = _add_client(commands, "modprobe", "modules", text)
    modprobe.add_argument("name", metavar="NAME", type=name)
    _add_params(modprobe)
    _add_client(commands, "lsmod", "modules", "list the modules")
    modinfo = _add_client(commands, "modinfo", "modules", "describe a module that is loaded")
    _add_module_name(modinfo)


def _add_params(parser: argparse.ArgumentParser) -> None:
    text = "for the module's main function; V is taken for JSON if it is that, else for text"
    # With a default, or an error about FILE says that K=V is missing too.
    add = parser.add_argument
    add("params", metavar="K=V", nargs="*", type=parameter, default=[], help=text)


def _add_module_name(parser: argparse.ArgumentParser) -> None:
    _offer(parser.add_argument("name", metavar="NAME", type=name), "module_names")


# -- who is inside ------------------------------------------------------------------------------


def _add_holders(commands: Commands) -> None:
    ps = _add_client(commands, "ps", "holders", "list the calls that are inside entries")
    _add_path(ps, "only those below this entry")
    text = "tell what a removal waits for"
    why = _add_client(commands, "why", "holders", text, WHY)
    text = "of a module, or the path of an entry"
    _offer(why.add_argument("name", metavar="NAME", type=name, help=text), "module_names")


# -- files --------------------------------------------------------------------------------------


def _add_files(commands: Commands) -> None:
    ls = _add_client(commands, "ls", "files", "list a directory of the tree")
    ls.add_argument("-l", "--long", action="store_true", help="with attributes and use counts")
    _add_path(ls)
    tree = _add_client(commands, "tree", "files", "draw the tree")
    _add_path(tree)
    cat = _add_client(commands, "cat", "files", "print files of the tree")
    cat.add_argument("-f", "--follow", action="store_true", help=CAT_FOLLOW)
    _offer(cat.add_argument("paths", metavar="PATH", nargs="+"), "paths")
    write = _add_client(commands, "write", "files", "write into a file of the tree")
    _offer(write.add_argument("path", metavar="PATH"), "paths")
    text = "the text, to which a newline is added; without it, standard input as it is"
    write.add_argument("text", metavar="TEXT", nargs="?", help=text)


def _add_path(parser: argparse.ArgumentParser, text: str = "from the root of the tree") -> None:
    path = parser.add_argument("path", metavar="PATH", nargs="?", default="", help=text)
    _offer(path, "paths")


# -- mounts -------------------------------------------------------------------------------------


def _add_mounts(commands: Commands) -> None:
    text = "mount the tree as a file system, or list the mounts"
    mount = _add_client(commands, "mount", "mounts", text, MOUNT)
    mount.add_argument("dir", metavar="DIR", type=path, nargs="?", help="an empty directory")
    text = "let other users in too, as far as the permission bits let them"
    mount.add_argument("--allow-other", action="store_true", help=text)
    text = "unmount the tree from a directory"
    umount = _add_client(commands, "umount", "mounts", text, UMOUNT)
    _offer(umount.add_argument("dir", metavar="DIR", type=path), "mount_points")


# -- the others ---------------------------------------------------------------------------------


def _add_top(commands: Commands) -> None:
    text = "watch the tree, the modules and who is inside, live"
    top = _add_client(commands, "top", "top", text)
    top.add_argument("--once", action="store_true", help="print one picture and end")
    top.add_argument(
        "--interval", type=seconds, default=1.0, metavar="S", help="between pictures (default: 1)"
    )


def _add_race(commands: Commands) -> None:
    text = "readers race the removal of what they read"
    parser = _add(commands, "race", "race", text, RACE, RACE_CODES)
    add = parser.add_argument
    _add_backend(parser)
    add("--readers", type=number_of_readers, default=100, metavar="N", help="default: 100")
    add(
        "--seed",
        type=whole,
        default=SystemRandom().randrange(10_000),
        metavar="S",
        help="repeats the same workload; the loop still decides who comes first",
    )
    add("--scheme", choices=("pde", "none", "owner"), default="pde", help=SCHEMES)
    add("--json", action="store_true", help="print the numbers as one JSON object")
    parser.set_defaults(command=_run_race)


def _run_race(options: argparse.Namespace) -> int:
    from . import race

    return race.run(
        race.Settings(options.backend, options.readers, options.seed, options.scheme),
        as_json=options.json,
    )


def _add_completion(commands: Commands) -> None:
    text = "print what makes a shell complete commands, modules and paths"
    more = "For bash:  eval \"$(aiopde completion bash)\"\nNeeds argcomplete, of 'aiopde[cli]'."
    parser = _add(commands, "completion", "completion", text, more, "")
    shells = ("bash", "zsh", "fish", "tcsh")
    parser.add_argument("shell", metavar="SHELL", choices=shells, help=", ".join(shells))


def _offer(action: argparse.Action, what: str) -> None:
    """Have the function *what* of the completion offer values; argcomplete looks for this."""

    def completer(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        offer: Callable[[argparse.Namespace, str], list[str]]
        offer = getattr(import_module("aiopde.cli.completion"), what)
        return offer(parsed_args, prefix)

    action.completer = completer  # type: ignore[attr-defined]


# -- values -------------------------------------------------------------------------------------


def whole(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        msg = f"must be a whole number, not {text!r:.40}"
        raise argparse.ArgumentTypeError(msg) from None


def number_of_readers(text: str) -> int:
    """Read a number of tasks, which the machine has to hold."""
    number = whole(text)
    if not 1 <= number <= MANY_READERS:
        msg = f"must be a number from 1 to {MANY_READERS}, not {text!r:.40}"
        raise argparse.ArgumentTypeError(msg)
    return number


# An empty one would come from a variable that is not set.
def name(text: str) -> str:
    """Read the name of a module."""
    if not text:
        msg = "must be a name, not ''"
        raise argparse.ArgumentTypeError(msg)
    return text


def path(text: str) -> str:
    """Read a path of the machine, or what leads to a module."""
    if not text:
        msg = "must be a path, not ''"
        raise argparse.ArgumentTypeError(msg)
    return text


def seconds(text: str) -> float:
    """Read a time, which must be at least 0."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not (0 <= number < math.inf):
        msg = f"must be a number of seconds from 0 on, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number


def parameter(text: str) -> tuple[str, object]:
    """Read ``K=V``."""
    key, equals, value = text.partition("=")
    if not (equals and key.isidentifier()):
        msg = f"must be NAME=VALUE, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
