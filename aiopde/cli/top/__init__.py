"""
``aiopde top``: a kernel, live on a terminal.

General layout: ``_snapshot`` asks the kernel, ``_picture`` draws the answers with rich, ``_keys``
reads the keyboard.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio

from aiopde.cli._client import talk
from aiopde.cli._errors import CommandError

from ._keys import keyboard
from ._snapshot import take
from ._view import View

if TYPE_CHECKING:
    import argparse

    from aiopde.control import Client

    from ._picture import Screen
    from ._snapshot import Snapshot

_SHORTEST: Final = 0.01
"""Seconds between two pictures that leave the kernel something to do, and time for a key."""


def top(options: argparse.Namespace) -> int:
    """Show a kernel until q is pressed; or once, where nobody could press it."""
    if options.json:
        print(json.dumps(talk(options, take).as_dict()))
        return 0
    screen = _make_screen()
    if options.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        screen.print(talk(options, take))
    else:
        talk(options, partial(_watch, screen=screen, interval=options.interval))
    return 0


def _make_screen() -> Screen:
    try:
        from ._picture import Screen
    except ImportError:
        msg = "top needs rich: pip install 'aiopde[cli]' (or print it as it is, with --json)"
        raise CommandError(msg) from None
    return Screen()


async def _watch(client: Client, screen: Screen, interval: float) -> None:
    view = View()
    with screen.whole(), keyboard() as keys:
        snapshot: Snapshot = await take(client)
        while not view.ended:
            screen.draw(snapshot, view)
            # A key is obeyed at once; else it is time for a new picture.
            with anyio.move_on_after(max(interval, _SHORTEST)):
                view.press(await keys.read())
                continue
            if not view.paused:
                snapshot = await take(client)
