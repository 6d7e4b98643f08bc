"""``aiopde completion``: what the Tab key offers, by argcomplete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _loops
from ._errors import CommandError

if TYPE_CHECKING:
    import argparse
    from types import ModuleType

    from aiopde.control import Client


def completion(options: argparse.Namespace) -> int:
    """Print the code that a shell needs."""
    print(_argcomplete().shellcode(["aiopde"], shell=options.shell))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that wants to know how the line may go on, and exit."""
    _argcomplete().autocomplete(parser)


def _argcomplete() -> ModuleType:
    try:
        import argcomplete
    except ImportError:
        msg = "completion needs argcomplete: pip install 'aiopde[cli]'"
        raise CommandError(msg) from None
    return argcomplete


def module_names(options: argparse.Namespace, _prefix: str) -> list[str]:
    """Offer the modules that are loaded."""

    async def names(client: Client) -> list[str]:
        return [module["name"] for module in await client.ask("lsmod")]

    return _ask(options, names)


def mount_points(options: argparse.Namespace, _prefix: str) -> list[str]:
    """Offer the directories that the tree is mounted on."""

    async def names(client: Client) -> list[str]:
        return [mount["path"] for mount in await client.ask("mounts")]

    return _ask(options, names)


def paths(options: argparse.Namespace, prefix: str) -> list[str]:
    """Offer what is in the directory of the tree that the prefix leads to."""
    folder, slash, _ = prefix.rpartition("/")

    async def names(client: Client) -> list[str]:
        found: list[dict[str, Any]] = await client.ask("ls", path=f"{folder}{slash}")
        return [f"{folder}{slash}{entry['name']}{_end(entry)}" for entry in found]

    return _ask(options, names)


def _end(entry: dict[str, Any]) -> str:
    return "/" if entry["type"] == "directory" else ""


def _ask(options: argparse.Namespace, what: Any) -> list[str]:
    from aiopde.control import RemoteError, connect

    from . import _client

    async def main() -> list[str]:
        async with await connect(getattr(options, "control", None)) as client:
            return list(await what(client))

    try:
        return _loops.run(main, _client.LOOP)
    except (OSError, ExceptionGroup, RemoteError):  # the Tab key is no place for an error
        return []
