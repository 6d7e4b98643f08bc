"""All that sees what a program does: in place while a search needs it, then gone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._hooks import hooks
from ._opaque import forget_classes
from ._variables import forget_values, variables

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from ._tracker import Tracker


@contextmanager
def watching(tracker: Tracker, also: Collection[type] = ()) -> Generator[None]:
    """
    Tell a tracker of each access that can be seen.

    Nothing of the program is kept when that is over: modules that are unloaded would stay, and be
    hooked by every search from there on.
    """
    try:
        with hooks(tracker, also), variables(tracker):
            yield
    finally:
        forget_values()
        forget_classes()
