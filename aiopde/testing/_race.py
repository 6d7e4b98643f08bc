"""What a scenario may ask of the explorer that runs it."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, TypeVar, cast, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._run import Run

T = TypeVar("T")


@final
class Race:
    """
    What a scenario may ask of the explorer that runs it.

    A scenario that takes an argument is given one::

        async def scenario(race: Race) -> None:
            race.always(lambda: entry.in_use >= 0)
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def always(self, holds: Callable[[], object], name: str = "") -> None:
        """
        Check after every step from now on that something holds. Not a checkpoint.

        Args:
            holds: A plain function; what it raises, or a result of False, fails the execution.
            name: What to call it in the report; by default, where it is.

        Raises:
            TypeError: It is no function, or one that would have to be awaited.
        """
        if iscoroutinefunction(holds) or not callable(cast("object", holds)):
            msg = (
                f"always() wants a plain function, as in always(lambda: n >= 0), not {holds!r:.60}"
            )
            raise TypeError(msg)
        code = getattr(holds, "__code__", None)
        where = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(holds)
        self._run.invariants.append((holds, name or where))
        self._run.be_careful()

    def aside(self, call: Callable[[], T]) -> T:
        """
        Make a call of which the explorer sees nothing: a check, or a note. Not a checkpoint.

        What looks at everything makes every step depend on every other, so that ``dpor`` could
        leave nothing out. A state that only lies between two steps which have nothing to do with
        each other may be missed now; what the tasks themselves meet is not.

        Args:
            call: A plain function. No task may hang on what it changes.

        Returns:
            What the call does.
        """
        tracker = getattr(self._run.watch, "tracker", None)
        return call() if tracker is None else cast("T", tracker.look_away(call))

    def touch(self, thing: object, field: str = "", *, write: bool = False) -> None:
        """
        Say that this step reads or writes something the explorer cannot see. Not a checkpoint.

        Args:
            thing: Any object: what is shared.
            field: Which part of it; accesses to different fields do not conflict.
            write: Whether it is changed.
        """
        watch = self._run.watch
        touch = getattr(watch, "touch_thing", None)
        if touch is not None:
            touch(thing, field, write)
