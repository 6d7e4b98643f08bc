"""A mutex that costs nothing while nobody else wants it (struct mutex)."""

from __future__ import annotations

from collections import deque
from typing import final

import anyio


@final
class Mutex:
    """
    Lets one task in at a time; those who wait get in by turns, the longest waiting first.

    Unlike :class:`anyio.Lock` it can be taken without any await, so that work nobody else is
    doing pays neither a checkpoint nor a coroutine::

        if not mutex.try_lock():
            await mutex.lock()
        try:
            ...
        finally:
            mutex.unlock()

    It does not know who holds it: another task may unlock it, and a task that takes it twice
    waits for itself.

    Linux: ``struct mutex``.
    """

    __slots__ = ("_locked", "_waiters")

    def __init__(self) -> None:
        self._locked = False
        self._waiters: deque[anyio.Event] = deque()

    def __repr__(self) -> str:
        state = "locked" if self._locked else "free"
        return f"<Mutex {state} waiting={len(self._waiters)}>"

    def try_lock(self) -> bool:
        """
        Take the mutex if it is free. Not a checkpoint.

        Returns:
            True if it is now the caller's, who owes one :meth:`unlock`.

        Linux: ``mutex_trylock``.
        """
        if self._locked:
            return False
        self._locked = True
        return True

    async def lock(self) -> None:
        """
        Take the mutex, waiting for it if need be.

        A checkpoint only if it has to wait. Cancellation takes the caller out of the queue; had
        the mutex just become its own, the next in the queue gets it.

        Linux: ``mutex_lock``, which cannot be interrupted.
        """
        if self.try_lock():
            return
        turn = anyio.Event()
        self._waiters.append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.unlock()
            else:
                self._waiters.remove(turn)
            raise

    def unlock(self) -> None:
        """
        Give the mutex to whoever waits longest, or free it. Not a checkpoint.

        Raises:
            RuntimeError: Nobody holds it: an ``unlock()`` without its lock.

        Linux: ``mutex_unlock``.
        """
        if not self._locked:
            msg = "unlock() of a mutex that is free: call it once for each lock"
            raise RuntimeError(msg)
        if self._waiters:
            # Never free in between: somebody who just came by would take it out of turn.
            self._waiters.popleft().set()
        else:
            self._locked = False
