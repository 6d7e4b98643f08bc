"""Parts of lists, sets and dictionaries."""

from __future__ import annotations

from aiopde.testing._containers import At, place_in


def test_the_place_of_an_index() -> None:
    """From either end; what is no index, or beyond the list, stands for no place."""
    names = ["a", "b"]
    assert place_in(names, 1) == place_in(names, -1) == At(1)
    for index in (2, -3, "a", True, None, slice(1)):
        assert place_in(names, index) is None
