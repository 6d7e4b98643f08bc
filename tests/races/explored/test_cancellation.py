"""What a search with a victim goes through: also all that happens when nobody is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ._play import BACKENDS, exhaust
from .test_close_vs_remove import close_and_remove
from .test_read_vs_remove import read_and_remove

if TYPE_CHECKING:
    from ._play import Scenario


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("scenario", "victims"),
    [
        (read_and_remove, ("reader", "remover")),
        (close_and_remove, ("closer", "remover")),
    ],
)
def test_the_undisturbed_space_is_in_it(
    scenario: Scenario, victims: tuple[str, ...], backend: str
) -> None:
    """
    A cancellation may come at any checkpoint, or never.
    """
    undisturbed = exhaust(scenario, backend)
    for victim in victims:
        assert undisturbed <= exhaust(scenario, backend, victim)
