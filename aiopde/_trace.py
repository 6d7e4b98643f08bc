"""Tracepoints: what the guard and the removals do, as records for whoever listens."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self, cast, final

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from anyio import TaskInfo

    class Switch(Protocol):
        """Turns the tracepoints of a hot path on or off."""

        def __call__(self, *, on: bool) -> None: ...


logger: Final = logging.getLogger("aiopde")
# Nobody who did not ask for it should see our reports on stderr.
logger.addHandler(logging.NullHandler())

sinks: Final[list[Callable[[TraceRecord], object]]] = []
"""Who listens. Tracepoints look whether it is empty, and that is all they cost then."""
switches: Final[list[Switch]] = []
"""Called when the first begins to listen and after the last: the hot path has no tracepoints
of its own, but another path that has them, which is switched to."""


@final
@dataclass(frozen=True, slots=True)
class TraceRecord:
    """Something that happened."""

    event: str
    """
    ``"open"`` (it succeeded), ``"enter"`` and ``"leave"`` (a handler), ``"refuse"`` (a call came
    too late), ``"unlink"``, ``"bias"`` (new calls are refused from here on), ``"drained"`` (the
    last call is out), ``"release"`` (a file is released, by a handler or without), ``"gone"``; of
    modules ``"insmod"`` and ``"rmmod"``.
    """
    path: str
    """The entry's path, or the module's name."""
    call: str
    """The operation, or ``""``."""
    task: str
    """The name of the task it happened in; ``""`` outside of any."""
    time: float
    """When, in seconds of the event loop's clock; 0.0 outside of any."""


@final
class trace:
    """
    Listen to the tracepoints for the time of a ``with`` block.

    A sink that raises is logged and otherwise ignored: nobody's call fails for it. Listening
    makes calls slower; while nobody listens, reads and writes pay nothing.

    Args:
        sink: A plain function that is called with each :class:`TraceRecord`, as it happens, in
            the task it happens in. It must not wait, nor use the tree.
    """

    def __init__(self, sink: Callable[[TraceRecord], object]) -> None:
        if not callable(cast("object", sink)):
            msg = f"trace() wants a function, which is called with each record, not {sink!r:.60}"
            raise TypeError(msg)
        self._sink = sink

    def __enter__(self) -> Self:
        sinks.append(self._sink)
        if len(sinks) == 1:
            _switch(on=True)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        # Not remove(), which would take out another one that is equal.
        del sinks[next(i for i, sink in enumerate(sinks) if sink is self._sink)]
        if not sinks:
            _switch(on=False)


def _switch(*, on: bool) -> None:
    for switch in switches:
        switch(on=on)


def running_task() -> TaskInfo | None:
    """Return the running task; None in a callback of the loop, and where no loop runs."""
    try:
        return anyio.get_current_task()
    except (RuntimeError, TypeError):  # TypeError: in a callback of asyncio, before anyio 4.16
        return None


def emit(event: str, path: str, call: str = "") -> None:
    """Tell the sinks. Only to be called if there are any."""
    task = running_task()
    name, time = ("", 0.0) if task is None else (task.name or "", anyio.current_time())
    record = TraceRecord(event, path, call, name, time)
    for sink in tuple(sinks):
        try:
            sink(record)
        except Exception:  # the guard must go on
            logger.exception("a trace sink failed on %r", record)
