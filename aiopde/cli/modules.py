"""``aiopde insmod``, ``rmmod``, ``reload``, ``modprobe``, ``lsmod``, ``modinfo``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._client import ask, show
from ._text import table

if TYPE_CHECKING:
    import argparse


def insmod(options: argparse.Namespace) -> int:
    """Load a module from a file."""
    params = dict(options.params)
    program = locate(options.program)
    told = ask(options, "insmod", program=program, name=options.name, params=params)
    return show(options, told, lambda: "")


def modprobe(options: argparse.Namespace) -> int:
    """Load a module that the kernel knows by name, after those it depends on."""
    told = ask(options, "modprobe", name=options.name, params=dict(options.params))
    return show(options, told, lambda: "")


def reload(options: argparse.Namespace) -> int:
    """Load a new version in the place of the old one."""
    program = options.file and locate(options.file)
    told = ask(options, "reload", name=options.name, program=program, params=dict(options.params))
    return show(options, told, lambda: "")


def rmmod(options: argparse.Namespace) -> int:
    """Unload a module; wait for the calls inside."""
    name = options.name
    try:
        told = ask(options, "rmmod", name=name, grace=options.grace, force=options.force)
    except KeyboardInterrupt:
        print(
            f"interrupted; if {name} had begun to unload, that goes on: see aiopde why {name}",
            file=sys.stderr,
        )
        return 130
    return show(options, told, lambda: "")


def lsmod(options: argparse.Namespace) -> int:
    """List the modules."""
    told: list[dict[str, Any]] = ask(options, "lsmod")
    return show(options, told, lambda: _table(told))


def _table(told: list[dict[str, Any]]) -> str:
    rows = [
        (module["name"], module["size"], module["refcnt"], _used_by(module), module["state"])
        for module in told
    ]
    return table(("MODULE", "SIZE", "REFS", "USED BY", "STATE"), rows, right="12")


def _used_by(module: dict[str, Any]) -> str:
    users = [*module["used_by"], *(["(permanent)"] if module["permanent"] else [])]
    return ",".join(users) or "-"


def modinfo(options: argparse.Namespace) -> int:
    """Describe a module that is loaded."""
    told: dict[str, Any] = ask(options, "modinfo", name=options.name)
    return show(options, told, lambda: _fields(told))


def _fields(told: dict[str, Any]) -> str:
    rows = [(key, told[key]) for key in ("filename", "description", "state", "size", "refcnt")]
    rows += [(key, ",".join(told[key])) for key in ("depends", "used_by")]
    rows += [("param", f"{name}={value}") for name, value in told["params"].items()]
    rows += [("entry", path) for path in told["entries"]]
    return "\n".join(_field(key, value) for key, value in rows)


def _field(key: str, value: object) -> str:
    first, *rest = str(value).split("\n")
    return "\n".join(
        [f"{key + ':':14}{first}".rstrip(), *(" " * 14 + line.strip() for line in rest)]
    )


def locate(program: str) -> str:
    """Make the path of a file one that the kernel can read from where it is."""
    return str(Path(program).absolute()) if is_file(program) else program


def is_file(program: str) -> bool:
    """Tell whether that is the path of a file, and no import path or name."""
    return "/" in program or program.endswith(".py")
