"""What most open files never see, kept out of them (f_pos_lock, f_count)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import anyio

if TYPE_CHECKING:
    from collections import deque


@final
class Waiter:
    """A call that waits for the file position."""

    __slots__ = ("granted", "woken")

    def __init__(self) -> None:
        self.woken = anyio.Event()
        self.granted = False


@final
class Traffic:
    """
    What most open files never see: calls side by side, another descriptor, two that close.

    One that has seen something of it has its own of this, in the place of its plain number.
    """

    __slots__ = ("completion", "descriptors", "in_use", "queue", "shared")

    def __init__(self, in_use: int) -> None:
        # What the plain number was: the calls inside, and BIAS.
        self.in_use: int = in_use
        # What the release that has begun sets when it is over; made by who waits for it.
        self.completion: anyio.Event | None = None
        self.descriptors: int = 1
        # Who waits for the position.
        self.queue: deque[Waiter] | None = None
        # How many of the calls inside do not use the position.
        self.shared: int = 0
