"""The stage itself: what it notices, and that a test that fails on it ends."""

from __future__ import annotations

import pytest

from tests.conformance._quiet import quiet

from ._stage import Stage


async def fail() -> None:
    async with Stage() as s:
        entry = s.create("x", "read release")
        file = await s.opened("file", entry)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", entry.remove)
        await quiet()
        raise ZeroDivisionError


async def note_what_is_wrong() -> None:
    async with Stage() as s:
        s.never(True, "it was")
        s.never(False, "it was not")


async def test_a_test_that_fails_ends() -> None:
    """
    An error on the stage comes out of it as it is, whoever still waits for something.
    """
    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_what_must_never_be_is_told_at_the_end() -> None:
    """
    Something wrong inside a handler, where an exception would be lost, fails the test.
    """
    with pytest.raises(AssertionError, match="it was"):
        await note_what_is_wrong()
