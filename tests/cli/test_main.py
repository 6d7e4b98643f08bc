"""`aiopde`, whatever the command: what it says of itself, and of mistakes."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from aiopde.cli import _arguments, race

from .conftest import RunCommand

MISTAKES: dict[str, tuple[list[str], str]] = {
    "no command": ([], "COMMAND"),
    "unknown command": (["rase"], "rase"),
    "unknown backend": (["race", "--backend", "curio"], "curio"),
    "unknown scheme": (["race", "--scheme", "rcu"], "rcu"),
    "no readers": (["race", "--readers", "0"], "'0'"),
    "negative readers": (["race", "--readers", "-3"], "'-3'"),
    "readers in words": (["race", "--readers", "many"], "'many'"),
    "seed in words": (["race", "--seed", "x"], "'x'"),
    "unknown option": (["race", "--raeders", "3"], "--raeders"),
    "a grace in words": (["rmmod", "x", "--grace", "long"], "'long'"),
    "a negative grace": (["rmmod", "x", "--grace=-1"], "'-1'"),
    "an endless grace": (["rmmod", "x", "--grace", "inf"], "'inf'"),
    "a grace that is no number": (["rmmod", "x", "--grace", "nan"], "'nan'"),
    "a parameter without a value": (["insmod", "./x.py", "verbose"], "'verbose'"),
    "a parameter without a name": (["insmod", "./x.py", "=1"], "'=1'"),
    "no file": (["cat"], "PATH"),
    "nothing to unmount": (["umount"], "DIR"),
    "others, but where": (["mount", "--allow-other"], "DIR"),
    "no socket": (["ls", "--control", ""], "must be a path"),
    "mount on nothing": (["mount", ""], "must be a path"),
    "no shell": (["completion"], "SHELL"),
    "no such shell": (["completion", "csh"], "csh"),
    "json before the command": (["--json", "lsmod"], "--json belongs behind the command"),
    "a socket before the command": (["--control", "x", "ls"], "aiopde COMMAND --control"),
    "a socket before it, with =": (["--control=x", "ls"], "--control belongs behind"),
    "a loop before the command": (["--backend", "trio", "race"], "--backend belongs behind"),
    "a seed that is too much of one": (["race", "--seed", "1.5"], "must be a whole number"),
    "more readers than memory": (["race", "--readers", "1" + 20 * "0"], "from 1 to 100000, not '1"),
    "no name": (["rmmod", ""], "argument NAME: must be a name, not ''"),
    "no name to load": (["modprobe", ""], "must be a name"),
    "no name to explain": (["why", ""], "must be a name"),
    "no program": (["insmod", ""], "argument FILE: must be a path, not ''"),
    "no module": (["run", ""], "argument MODULE: must be a path, not ''"),
    "unmount of nothing": (["umount", ""], "must be a path"),
    "an argument too many": (
        ["race", "now"],
        "aiopde race: unrecognized arguments: now (see aiopde r",
    ),
    "two of them": (
        ["cat", "x", "--size", "3"],
        "unrecognized arguments: --size 3 (see aiopde cat --",
    ),
    "abbreviated option": (["race", "--read", "3"], "--read"),
}

CLIENT = ("--control", "--json", "exit codes", "no kernel is running there")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("--mount", "--control", "--backend", "--module-path", "--json", "exit codes"),
    "insmod": (*CLIENT, "K=V"),
    "rmmod": (*CLIENT, "--grace", "--force"),
    "reload": CLIENT,
    "modprobe": CLIENT,
    "lsmod": CLIENT,
    "modinfo": CLIENT,
    "ps": CLIENT,
    "why": CLIENT,
    "ls": (*CLIENT, "-l"),
    "tree": CLIENT,
    "cat": (*CLIENT, "-f"),
    "write": CLIENT,
    "mount": (*CLIENT, "--allow-other", "DIR", "apt install fuse3"),
    "umount": (*CLIENT, "DIR"),
    "top": (*CLIENT, "--once", "--interval"),
    "race": ("--scheme", "exit codes"),
    "completion": ("bash", "zsh"),
}


@pytest.mark.parametrize(("arguments", "what"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_line(run_command: RunCommand, arguments: list[str], what: str) -> None:
    """
    One line names the mistake and where to read more; exit code 2, and nothing on stdout.
    """
    code, out, err = run_command(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert what in err
    assert "--help" in err


def test_only_what_is_missing_is_named(run_command: RunCommand) -> None:
    """
    Without its file, insmod does not ask for parameters too, which may be left out.
    """
    _, _, err = run_command("insmod")
    assert "required: FILE (" in err


def test_an_empty_variable_is_none(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    With AIOPDE_CONTROL empty, a kernel is looked for where it is without it.
    """
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("AIOPDE_CONTROL", "")
    _, _, err = run_command("ls")
    assert f"{tmp_path}/aiopde" in err


def test_help_lists_the_commands(run_command: RunCommand) -> None:
    """
    `aiopde --help` says what there is.
    """
    code, out, _ = run_command("--help")
    assert code == 0
    assert "race" in out


def test_version(run_command: RunCommand) -> None:
    """
    `aiopde --version` says which is installed.
    """
    version = metadata.version("aiopde")
    assert run_command("--version") == (0, f"aiopde {version}\n", "")


def test_help_of_a_command_lists_its_exit_codes(run_command: RunCommand) -> None:
    """
    `aiopde race --help` is the documentation of options and exit codes.
    """
    code, out, _ = run_command("race", "--help")
    assert code == 0
    for text in "--backend", "--readers", "--seed", "--scheme", "--json", "exit codes", "130":
        assert text in out


def test_keyboard_interrupt_is_130(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Also a Ctrl-C that no loop turned into anything ends with one word, and 130.
    """

    def interrupted(settings: race.Settings, *, as_json: bool) -> int:
        msg = "as trio may raise it"
        raise BaseExceptionGroup(msg, [KeyboardInterrupt()])

    monkeypatch.setattr(race, "run", interrupted)
    assert run_command("race") == (130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=5", 5), ("a=hi", "hi"), ('a="5"', "5"), ("a=", ""), ("a=[1]", [1]), ("a=b=c", "b=c")],
)
def test_parameters(text: str, value: object) -> None:
    """
    The value of a parameter is JSON if it can be, else text.
    """
    assert _arguments.parameter(text) == ("a", value)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_of_each_command(run_command: RunCommand, command: str) -> None:
    """
    Each command says what it does, what its options are, and how it may end.
    """
    code, out, _ = run_command(command, "--help")
    assert code == 0
    assert f"usage: aiopde {command}" in out
    for text in COMMANDS[command]:
        assert text in out


def imported_by(*arguments: str) -> set[str]:
    program = (
        "import sys\n"
        "from aiopde.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_no_loop() -> None:
    """
    `aiopde --help` pays for no loop, and for no command.
    """
    imported = imported_by("--help")
    assert "aiopde.cli" in imported
    others = {"aiopde.control", "argcomplete", "rich"}
    assert imported.isdisjoint({"asyncio", "trio", "uvloop", "aiopde.cli.race"} | others)


def test_only_the_chosen_loop_is_imported() -> None:
    """
    A race on asyncio does not pay for the other two.
    """
    imported = imported_by("race", "--readers", "1")
    assert "asyncio" in imported
    assert imported.isdisjoint({"trio", "uvloop"})


def test_a_client_imports_only_what_it_needs() -> None:
    """
    Who talks to a kernel pays for asyncio, and for nothing to draw with.
    """
    imported = imported_by("lsmod", "--control", "/nowhere")
    assert "asyncio" in imported
    assert imported.isdisjoint({"trio", "uvloop", "rich", "argcomplete", "aiopde.cli.run"})


def test_python_m_aiopde_is_the_same() -> None:
    """
    `python -m aiopde` and the command `aiopde` have one main().
    """
    done = subprocess.run(
        [sys.executable, "-m", "aiopde", "race", "--readers", "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("aiopde race: ")
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert 'aiopde = "aiopde.cli:main"' in pyproject.read_text()
