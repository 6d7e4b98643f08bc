"""The mount as a place to play scenarios in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ._judge import Place
from ._mount_player import play
from ._mount_rules import MECHANISMS, Fuse, unplayable
from ._overlay import Overlay

SHIPPED: Final = Path(__file__).parent / "mount.json"

MOUNTED: Final = Place(play, unplayable, Fuse, Overlay.load(SHIPPED, MECHANISMS))


def why_not() -> str:
    """Say why scenarios cannot be played on a mount on this machine; "": they can."""
    if os.geteuid() != 0:
        return "scenarios have several users and a chroot: only root can play them on a mount"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as exc:
        return f"no usable /dev/fuse: {exc.strerror}"
    return ""
