"""What the kernel says, at about one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from aiopde.control import Client

    Told = dict[str, Any]

_ENTRIES: Final = 2000
"""More nobody scrolls through, and each picture costs the kernel the time to tell them."""


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown."""

    info: Told
    modules: list[Told]
    entries: list[Told]
    """The tree, parents first."""
    truncated: bool
    inside: list[Told]

    def as_dict(self) -> Told:
        """Return it for JSON."""
        return asdict(self)


async def take(client: Client) -> Snapshot:
    """Ask for all of it."""
    info: Told = await client.ask("info")
    modules: list[Told] = await client.ask("lsmod")
    tree: Told = await client.ask("tree", limit=_ENTRIES)
    inside: list[Told] = await client.ask("ps")
    return Snapshot(info, modules, tree["entries"], tree["truncated"], inside)
