"""``aiopde mount`` and ``umount``: the tree as a file system, for every program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._client import ask, show
from ._errors import CommandError
from ._text import table

if TYPE_CHECKING:
    import argparse


def mount(options: argparse.Namespace) -> int:
    """Have the kernel mount its tree; without a directory, list its mounts."""
    if options.dir is not None:
        path = _absolute(options.dir)
        told = ask(options, "mount", path=path, allow_other=options.allow_other)
        return show(options, told, lambda: "")
    if options.allow_other:
        msg = "mount --allow-other wants a DIR (see aiopde mount --help)"
        raise CommandError(msg)
    mounts: list[dict[str, Any]] = ask(options, "mounts")
    return show(options, mounts, lambda: _table(mounts))


def _table(told: list[dict[str, Any]]) -> str:
    rows = [(mount["open_files"], mount["waiting"], mount["path"]) for mount in told]
    return table(("OPEN", "WAITING", "MOUNTED AT"), rows, right="01")


def umount(options: argparse.Namespace) -> int:
    """Have the kernel unmount its tree from a directory."""
    told = ask(options, "umount", path=_absolute(options.dir))
    return show(options, told, lambda: "")


def _absolute(path: str) -> str:
    """Make a path one that the kernel can go from where it is."""
    return str(Path(path).absolute())
