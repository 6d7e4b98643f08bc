"""What is left of a module's handlers when it is gone (linux/poison.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ._ops import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._module import Log
    from ._ops import ProcOps


@final
class UseAfterFreeError(RuntimeError):
    """
    Code of a module that is gone was reached: in Linux an oops, or worse.

    No ``OSError``, so that nobody takes it for the answer of a file. It means that something let
    a module go while it could still be called: an ``owner=None``, a forced rmmod, a table of
    handlers that outlived its module.

    Args:
        module: Its name.
        entry: The path that led there.
        handler: Which handler was called.
    """

    def __init__(self, module: str, entry: str, handler: str) -> None:
        msg = f"use after free: {handler} of {entry!r} is code of the module {module!r}, gone"
        super().__init__(msg)
        self.module = module
        self.entry = entry
        self.handler = handler

    def __reduce__(self) -> tuple[type[UseAfterFreeError], tuple[str, str, str]]:
        return UseAfterFreeError, (self.module, self.entry, self.handler)


def poison(ops: ProcOps, log: Log, module: str) -> None:
    """Make every handler of a table raise :class:`UseAfterFreeError`, and forget the real ones."""

    def trap(op: str) -> Callable[..., object]:
        def use_after_free(file: Any, *_: object) -> object:
            raise log._use_after_free(module, file.entry.path, op)

        return use_after_free

    for op in PARAMETERS:
        if getattr(ops, op) is not None:
            object.__setattr__(ops, op, trap(op))
    object.__setattr__(ops, "_reader", getattr(ops, ops._reader_name))
    object.__setattr__(ops, "_writer", ops.write)
    object.__setattr__(ops, "_awaited", frozenset[str]())
    object.__setattr__(ops, "_release_suspends", False)
    ops._handles.clear()
