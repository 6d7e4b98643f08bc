"""Errors: what task groups have wrapped, and what is told without a traceback."""

from __future__ import annotations

from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


def _leaves(error: BaseException) -> tuple[BaseException, ...]:
    """Return what a group of errors consists of; of another error, nothing."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def sole(error: BaseException) -> BaseException:
    """Unwrap what task groups have wrapped, if it is one error."""
    while len(leaves := _leaves(error)) == 1:
        error = leaves[0]
    return error


def is_interrupt(error: BaseException) -> bool:
    """Whether somebody wants it all to end."""
    return isinstance(error, KeyboardInterrupt) or any(map(is_interrupt, _leaves(error)))


def describe(error: BaseException) -> str:
    """Say what an error is, in a line."""
    what = ", ".join(type(sole(leaf)).__name__ for leaf in _leaves(error)) or str(error)
    return f"{type(error).__name__}: {what}".removesuffix(": ")


def refused(error: E) -> E:
    """Mark an error whose message is all there is to tell: what was asked for cannot be done."""
    error.__dict__["is_refusal"] = True
    return error


def is_refusal(error: BaseException) -> bool:
    """Whether an error has that mark. Any other from in here is a mistake of ours."""
    return "is_refusal" in error.__dict__
