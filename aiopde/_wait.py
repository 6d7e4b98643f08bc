"""Waiting for a condition inside a handler (wait_queue_head_t, poll_table)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, Self, final

if TYPE_CHECKING:
    from types import TracebackType

    import anyio


class Watched(Protocol):
    """What wakes those who wait for something inside it when its removal begins: an entry."""

    def _watch(self, key: object) -> anyio.Event:
        """Return an event that is set when removal begins."""
        ...

    def _unwatch(self, key: object) -> None:
        """Forget the event of *key*."""
        ...


@final
class WaitQueue:
    """
    Tasks that wait for something to change: ``wait_queue_head_t``.

    Handlers wait on it with :meth:`File.wait_event`, which ends by itself when the entry's
    removal begins; poll handlers name it with :meth:`File.poll_wait`. Whoever changes what they
    wait for calls :meth:`wake_up`. It belongs to no entry: one queue may serve many.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: dict[anyio.Event, None] = {}

    def __repr__(self) -> str:
        return f"<WaitQueue waiting={len(self._waiters)}>"

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiters)

    def __bool__(self) -> bool:
        """Return true, also for a queue nobody waits on."""
        return True

    def wake_up(self) -> None:
        """
        Wake everybody, to look at their conditions again. Not a checkpoint.

        Linux: ``wake_up_all``.
        """
        for event in self._waiters:
            event.set()
        self._waiters.clear()

    def _add(self, event: anyio.Event) -> None:
        """Have *event* set by the next :meth:`wake_up` (``prepare_to_wait``)."""
        self._waiters[event] = None

    def _remove(self, event: anyio.Event) -> None:
        """Forget *event*, woken or not (``finish_wait``)."""
        self._waiters.pop(event, None)


@final
class Wakeup:
    """
    One event that any of several queues sets, and removal too (``struct poll_wqueues``).

    A context manager, so that nothing is left in a queue however the waiting ends.
    """

    __slots__ = ("_entry", "_queues", "event")

    def __init__(self, entry: Watched) -> None:
        self._entry = entry
        self._queues: list[WaitQueue] = []

    def __enter__(self) -> Self:
        self.event: anyio.Event = self._entry._watch(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._entry._unwatch(self)
        for queue in self._queues:
            queue._remove(self.event)

    def add(self, queue: WaitQueue) -> None:
        """Be woken by *queue* too."""
        check_queue(queue)
        self._queues.append(queue)
        queue._add(self.event)


def check_queue(queue: object) -> None:
    """Refuse what nobody could be woken by."""
    if not isinstance(queue, WaitQueue):
        msg = f"queue is a WaitQueue, whose wake_up() ends the waiting, not {queue!r:.60}"
        raise TypeError(msg)


poll_table: ContextVar[Wakeup | None] = ContextVar("poll_table", default=None)
"""What the poll under way in this context is to be woken by; None: it does not wait."""
