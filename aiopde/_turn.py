"""Two versions of a module at once: whose names are to be seen, step by step."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from ._entry import ProcDirEntry
    from ._module import Module


@final
class Turn:
    """
    For the length of one step, shows the tree as one version of a module has to see it.

    Two versions have the same names. While the new one's init runs, the tree has the old ones, and
    nobody may notice the new; when they have changed places, the old one's exit must find its own
    names, not those of its successor. Since one task runs at a time, it is enough to change the
    names around each step of such code: nothing else can look in between.
    """

    def __init__(self, mine: Module, other: Module | None) -> None:
        self._mine = mine
        self._other = other
        self._displaced: list[ProcDirEntry] = []

    def __enter__(self) -> Self:
        if self._other is not None:
            self._other._entries.hide()
        self._displaced = self._mine._entries.show()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._mine._entries.hide()
        for entry in self._displaced:
            entry.parent._add_child(entry)
        if self._other is not None:
            self._other._entries.show()


def switch(old: Module, new: Module) -> list[ProcDirEntry]:
    """
    Let the names of *new* take the place of those of *old*, in one step.

    Returns:
        What is in the way: entries that belong to neither. Nothing was changed then.
    """
    old._entries.hide()
    displaced = new._entries.show()
    if displaced:
        new._entries.hide()
        for entry in displaced:
            entry.parent._add_child(entry)
        old._entries.show()
        return displaced
    old._turn, new._turn = Turn(old, None), None
    return []


@final
class Stepped(Generator[Any, Any, Any]):
    """
    Runs a coroutine step by step, each step in the module's turn if it has one; awaitable once.

    To who walks a task's chain of awaits it looks as if it were that coroutine.
    """

    def __init__(self, module: Module, coro: Coroutine[Any, Any, Any]) -> None:
        self._module = module
        self._coro = coro

    def __await__(self) -> Generator[Any, Any, Any]:
        return self

    def send(self, value: Any) -> Any:
        """Go on to where it waits next."""
        return self._step(self._coro.send, value)

    def throw(self, *exc: Any) -> Any:
        """Go on with an exception."""
        return self._step(self._coro.throw, *exc)

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        turn = self._module._turn
        if turn is None:
            return step(*args)
        with turn:
            return step(*args)

    @property
    def cr_frame(self) -> Any:
        """The coroutine's frame."""
        return self._coro.cr_frame  # type: ignore[attr-defined]

    @property
    def cr_await(self) -> Any:
        """What the coroutine awaits."""
        return self._coro.cr_await  # type: ignore[attr-defined]
