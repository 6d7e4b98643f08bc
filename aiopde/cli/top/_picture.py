"""The picture of a snapshot: the tree, who is inside, the modules."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from aiopde.cli._text import calls, duration, line_of
from aiopde.cli.files import branches

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rich.console import JustifyMethod

    from ._snapshot import Snapshot
    from ._view import View

    Told = dict[str, Any]

_WIDE: Final = 150
"""Columns from which on there is room for two panels side by side."""
_FRAME: Final = 3
"""Lines of a panel that show nothing of its contents: its border, and the heads."""


@final
class Screen:
    """Where it is drawn."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def print(self, snapshot: Snapshot) -> None:
        """Print a snapshot with all its lines, one panel below the other."""
        panels = (
            _panel("tree", _tree(snapshot)),
            _panel("inside", _inside(snapshot)),
            _panel("modules", _modules(snapshot)),
        )
        self._console.print(Group(_headline(snapshot), *panels))

    @contextmanager
    def whole(self) -> Generator[None]:
        """Take the whole terminal, and give it back as it was."""
        with self._live:
            yield

    def draw(self, snapshot: Snapshot, view: View) -> None:
        """Fill the terminal, however large it is now."""
        width, height = self._console.size
        self._live.update(picture(snapshot, view, width, height), refresh=True)


def picture(snapshot: Snapshot, view: View, width: int, height: int) -> Layout:
    """Lay a snapshot out in so many columns and lines."""
    whole, body = Layout(), Layout()
    whole.split_column(Layout(_headline(snapshot), size=1), body, Layout(_footline(view), size=1))
    if width < _WIDE:
        body.split_column(*_stacked(snapshot, view, height - 2))
    else:
        body.split_row(*_side_by_side(snapshot, view, height - 2))
    return whole


def _stacked(snapshot: Snapshot, view: View, room: int) -> list[Layout]:
    inside, modules = _inside(snapshot), _modules(snapshot)
    for_modules = min(len(modules.rows) + _FRAME, room // 4)
    for_inside = min(max(len(inside.rows), 1) + _FRAME, room // 3)
    return [
        Layout(_tree_panel(snapshot, view, room - for_inside - for_modules)),
        Layout(_panel("inside", inside, for_inside), size=for_inside),
        Layout(_panel("modules", modules, for_modules), size=for_modules),
    ]


def _side_by_side(snapshot: Snapshot, view: View, room: int) -> list[Layout]:
    modules, right = _modules(snapshot), Layout()
    for_modules = min(len(modules.rows) + _FRAME, room // 2)
    right.split_column(
        Layout(_panel("inside", _inside_with_stacks(snapshot), room - for_modules)),
        Layout(_panel("modules", modules, for_modules), size=for_modules),
    )
    return [Layout(_tree_panel(snapshot, view, room)), right]


def _headline(snapshot: Snapshot) -> Text:
    info, entries = snapshot.info, snapshot.entries
    more = "+" if snapshot.truncated else ""
    dying = sum(entry["state"] != "live" for entry in entries)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{info['mountpoint']} of process {info['pid']}", "bold")
    line.append(f"  up {duration(info['seconds'])}  {len(entries)}{more} entries  ")
    line.append(f"{calls(len(snapshot.inside))} inside  ", "yellow" if snapshot.inside else "")
    line.append(f"{sum(entry['open_files'] for entry in entries)} open  ")
    line.append(f"{dying} dying", "bold red" if dying else "")
    if info["oopses"]:
        line.append(f"  {info['oopses']} oopses", "bold red")
    return line


def _footline(view: View) -> Text:
    state = "  paused" if view.paused else ""
    return Text(f"q quit  space pause  ↑ ↓ scroll{state}", "reverse" if view.paused else "dim")


def _panel(title: str, table: Table, height: int | None = None) -> Panel:
    """Frame a table; of one that is too long, show the beginning and say how much is left out."""
    if height is None or len(table.rows) <= height - _FRAME:
        return Panel(table, title=title, title_align="left", height=height)
    left_out = len(table.rows) - (height - _FRAME)
    subtitle = f"{left_out} more"
    return Panel(table, title=title, title_align="left", height=height, subtitle=subtitle)


def _tree_panel(snapshot: Snapshot, view: View, height: int) -> RenderableType:
    room = max(height - _FRAME, 1)
    first = view.scroll(len(snapshot.entries), room)
    table = _tree(snapshot, first, first + room)
    left_out = len(snapshot.entries) - len(table.rows)
    subtitle = f"{first} above, {left_out - first} below" if left_out else None
    return Panel(table, title="tree", title_align="left", subtitle=subtitle)


def _table(*heads: str, right: str = "", wide: str = "") -> Table:
    """Make a table without lines; the column *wide* takes the room that the others leave."""
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    for head in heads:
        justify: JustifyMethod = "right" if head in right.split() else "left"
        ratio = 1 if head == wide else None
        table.add_column(head, justify=justify, ratio=ratio, no_wrap=True, overflow="ellipsis")
    return table


def _tree(snapshot: Snapshot, first: int = 0, last: int | None = None) -> Table:
    table = _table("NAME", "MODE", "INSIDE", "OPEN", "STATE", right="INSIDE OPEN", wide="NAME")
    for _, line, entry in list(branches(snapshot.entries))[first:last]:
        inside, open_files = entry["in_use"] or "", entry["open_files"] or ""
        cells = (line, entry["mode"], f"{inside}", f"{open_files}", entry["state"])
        table.add_row(*map(Text, cells), style=_style(entry))
    return table


def _style(entry: Told) -> str:
    if entry["state"] != "live":
        return "bold red" if entry["in_use"] else "red"
    return "yellow" if entry["in_use"] else ""


def _inside(snapshot: Snapshot) -> Table:
    table = _table("TASK", "INSIDE", "CALL", "ENTRY", "LINE", right="INSIDE", wide="LINE")
    for call, style in _by_age(snapshot):
        since, where = f"≥ {duration(call['seconds'])}", line_of(call["stack"])
        cells = (call["task"], since, call["op"], call["path"], where)
        table.add_row(*map(Text, cells), style=style)
    return table


def _inside_with_stacks(snapshot: Snapshot) -> Table:
    table = _table("CALLS, AND WHERE THEY STAND")
    for call, style in _by_age(snapshot):
        since = duration(call["seconds"])
        table.add_row(Text(f"{call['task']}  {call['op']} {call['path']}  ≥ {since}"), style=style)
        for frame in reversed(call["stack"]):
            table.add_row(Text(f"    {os.path.basename(frame)}"), style="dim")
    return table


def _by_age(snapshot: Snapshot) -> Iterator[tuple[Told, str]]:
    """Go through the calls, and how each is to be shown, those first that came first."""
    dying = {entry["path"] for entry in snapshot.entries if entry["state"] != "live"}
    for call in sorted(snapshot.inside, key=lambda call: -call["seconds"]):
        # Who is in the way of a removal is what one looks for here.
        yield call, "bold red" if call["path"] in dying else ""


def _modules(snapshot: Snapshot) -> Table:
    table = _table("MODULE", "REFS", "USED BY", "STATE", right="REFS", wide="USED BY")
    for module in snapshot.modules:
        used_by = ",".join(module["used_by"]) or "-"
        cells = (module["name"], f"{module['refcnt']}", used_by, module["state"])
        table.add_row(*map(Text, cells), style="" if module["state"] == "Live" else "red")
    return table
