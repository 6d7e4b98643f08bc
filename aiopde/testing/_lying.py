"""Coroutines given up: what catches everything that is thrown at it cannot be made to end."""

from __future__ import annotations

import ctypes


def let_lie(thing: object) -> None:
    """
    Keep a coroutine, or the task that has it, beyond the end of the interpreter.

    Whoever frees it throws GeneratorExit into it. It would not heed that either, and where its
    ``await`` now fails at once, for want of a loop, it would go round for ever. A list is not
    enough, since Python clears modules at its end. Hence a reference that nobody gives back.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
