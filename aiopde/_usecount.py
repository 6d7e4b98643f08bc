"""The guard: let calls in until removal begins, then wait for the last one to leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import anyio
from anyio.lowlevel import checkpoint

from ._check import check_bool
from ._errors import EntryRemovedError, Unique

if TYPE_CHECKING:
    from types import TracebackType

BIAS: Final = -(1 << 31)
"""What removal adds to a use count: INT_MIN, as in fs/proc/inode.c."""


@dataclass(frozen=True, slots=True)
class UseCountStatistics:
    """A frozen snapshot of a :class:`UseCount`."""

    in_use: int
    """How many calls are inside."""
    removing: bool
    """Whether removal has begun, so that no further call is let in."""


class Rundown(Unique):
    """
    What calls may be inside of, and what then can be run down: the kernel's integer.

    A call adds one unless the count is negative, removal adds a large negative BIAS once, and the
    call that brings the count back to exactly BIAS was the last one inside (``use_pde``,
    ``unuse_pde``, ``proc_entry_rundown`` in fs/proc/inode.c). So one word says both how many are
    inside and whether the door is shut, and the two can never disagree.

    Linux needs an atomic instruction for that. Here only one task runs between two checkpoints,
    so plain arithmetic is atomic. The rule that keeps this true: nothing between *reading* and
    *changing* the count may await. Every state change is therefore a plain ``def``.
    """

    # What an entry keeps elsewhere, since there may be a million of them, has no slot here.
    __slots__ = ("_in_use", "_name")

    _name: str
    _in_use: int

    # Made by _kill(), and only when somebody is inside: an Event costs more than a removal.
    _completion: anyio.Event | None

    @property
    def name(self) -> str:
        """What is guarded. An entry's cannot be changed: its tree finds it by that."""
        return self._name

    @property
    def in_use(self) -> int:
        """How many calls are inside."""
        return self._in_use if self._in_use >= 0 else self._in_use - BIAS

    @property
    def removing(self) -> bool:
        """Whether removal has begun. Never turns back to false."""
        return self._in_use < 0

    def use(self) -> bool:
        """
        Let a call in, unless removal has begun. Not a checkpoint.

        Returns:
            True if the call is in and owes one :meth:`unuse`; False if it was refused.

        Linux: ``use_pde``.
        """
        if self._in_use < 0:
            return False
        self._in_use += 1
        return True

    def unuse(self) -> None:
        """
        Let a call out; the last one out lets the removal go on. Not a checkpoint.

        Raises:
            RuntimeError: There is no call inside: an ``unuse()`` without its ``use()``.

        Linux: ``unuse_pde``.
        """
        if self._in_use == 0 or self._in_use == BIAS:
            msg = f"unuse() without use() on {self!r}: call it once for each use() that was True"
            raise RuntimeError(msg)
        self._in_use -= 1
        if self._in_use < 0:
            self._late_out()

    def _late_out(self) -> None:
        """Let the removal go on if the call that went out, after it had begun, was the last."""
        if self._in_use == BIAS and self._completion is not None:
            self._completion.set()

    def _kill(self) -> bool:
        """Refuse every call from now on. True for the one call that did it."""
        if self._in_use < 0:
            return False
        if self._in_use:
            # Before the bias, so that the last call out always finds it.
            self._completion = anyio.Event()  # type: ignore[misc]  # where a subclass keeps it
        self._in_use += BIAS
        return True

    def statistics(self) -> UseCountStatistics:
        """Return a frozen snapshot, for debugging and for tests."""
        return UseCountStatistics(self.in_use, self.removing)


class UseCount(Rundown):
    """
    Lets calls in until removal begins, then waits until the last one is out.

    The guard of the tree's entries, on its own: for anything that may be taken away while it is
    in use::

        pool = UseCount("pool")

        async with pool:            # OSError(EIO) once removal has begun
            await work()

        await pool.rundown()        # refuses newcomers, waits for those inside

    Where a context manager is too slow, ``use()`` and ``unuse()`` are the same by hand, without a
    checkpoint.

    Args:
        name: What is guarded, for error messages and ``repr``.
        fast_acquire: Leave out the checkpoint of ``async with``, and of a :meth:`rundown` that
            need not wait.
    """

    __slots__ = ("_completion", "_fast_acquire")

    def __init__(self, name: str = "", *, fast_acquire: bool = False) -> None:
        check_bool("fast_acquire", fast_acquire)
        self._name = name
        self._fast_acquire = fast_acquire
        self._in_use = 0
        self._completion = None

    @property
    def name(self) -> str:
        """What is guarded, for messages; it may be changed."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def fast_acquire(self) -> bool:
        """Whether calls skip the checkpoint where they need not wait."""
        return self._fast_acquire

    def kill(self) -> bool:
        """
        Refuse every call from now on, and for good. Not a checkpoint.

        Returns:
            True for the one call that did it, False if removal had begun already.
        """
        return self._kill()

    async def rundown(self) -> None:
        """
        Refuse every call from now on, and wait until none is inside.

        Any number of tasks may wait; each returns once the last call is out. A call that waits
        here from the inside waits for itself.

        A checkpoint; with *fast_acquire* only if it has to wait. Cancellation leaves the
        count refusing: what began to go never comes back. Call it again to go on waiting.

        Linux: ``proc_entry_rundown``, up to the forced releases.
        """
        self._kill()
        if self._in_use != BIAS:
            assert self._completion is not None
            await self._completion.wait()
        elif not self._fast_acquire:
            await checkpoint()

    def __repr__(self) -> str:
        state = "removing" if self.removing else "live"
        return f"<UseCount {self.name!r} in_use={self.in_use} {state}>"

    async def __aenter__(self) -> Self:
        if not self._fast_acquire:
            await checkpoint()
        if not self.use():
            raise EntryRemovedError("use", self.name)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.unuse()
