"""The model itself, where no program of a test that passes takes it."""

from __future__ import annotations

from ._model import Entry, Model


class TestAbandoned:
    def test_nothing_is_left_in_the_middle(self) -> None:
        """
        What a failed test leaves behind ends, so that it fails no other one.
        """
        model = Model()
        entry = Entry("x", 1, model.root, handlers={"read": True, "release": True})
        model.register(entry)
        model.start("reader", model.read_all("reader", entry))
        model.start("remover", model.remove("remover", entry, model.root, tree=False))
        model.settle()
        assert model.busy == {"reader", "remover"}
        model.abandon()
        assert model.busy == set()
