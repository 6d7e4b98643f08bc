"""One open file: its position, who is inside it, its release (struct file, struct pde_opener)."""

from __future__ import annotations

import os
import select
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio

from ._errors import EntryRemovedError, Unique, bad_file, error
from ._invoke import nonsense, run
from ._trace import emit, logger, sinks
from ._traffic import Traffic, Waiter
from ._usecount import BIAS
from ._wait import Wakeup, check_queue, poll_table

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ._entry import ProcDirEntry
    from ._ops import ReleaseHandler
    from ._wait import WaitQueue

DEFAULT_POLLMASK: Final = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM
"""What poll says where there is no handler to ask: 0x145."""
MAX_RW_COUNT: Final = 0x7FFFF000
"""The most bytes one read or write moves, as in Linux."""
DEFAULT_SIZE: Final = (1 << 30) - 1
"""What a read without a size asks for: a GiB, the most that goes the short way."""
# One call inside, and removal has begun.
_ALONE: Final = BIAS + 1
_ALWAYS_POLLED: Final = select.POLLERR | select.POLLHUP


class File(Unique):
    """
    An open file, as its handlers see it: ``struct file``.

    What :meth:`ProcFS.open` returns is a :class:`ProcFile`, a descriptor of it, of which there
    may be several (``dup``). This one object is what they share, and it stays the same from the
    open handler to the release handler.

    Linux counts every call in the entry. Here each open file counts the calls made through it,
    and the entry counts its opens; removal shuts them all and waits for each that is not empty
    (the kernel's percpu_ref does that, one count for each CPU). So a call touches one object
    only, and the same number answers three questions at once: is it being removed (negative),
    is somebody inside whose call uses the file position (Linux: ``f_pos_lock``), and is a close
    the last to leave (``f_count``).
    """

    __slots__ = ("_in_use", "_newer", "_older", "entry", "pos", "private_data")

    entry: ProcDirEntry
    """The entry it is open on, for as long as it exists."""
    pos: int
    """The position, in bytes; read and write advance it, lseek sets it."""
    private_data: Any
    """For the handlers; None at first."""

    # Its class's or its own; see new_file().
    _flags: int
    # Set when a release begins that may wait for something (`closing` in struct pde_opener), and
    # only where there is such a handler. Not in Traffic: a call that comes too late has nothing
    # to do with that.
    _began: bool
    # Calls inside; BIAS is added when the entry is removed. Of those that use the position there
    # can be one. As soon as there is more to say, what says it, and has the number too: so one
    # look tells a call that nobody is in its way (0), and that nobody came meanwhile (1). That is
    # so also when the last descriptor is closed with calls inside: whoever leaves must then look,
    # and the last one out releases.
    _in_use: int | Traffic
    # Its neighbours among the open files of the entry; see ProcDirEntry._add_file().
    _newer: File | None
    _older: File | None

    # No __init__: to run one takes longer than all the rest of making a file. See new_file().

    def __repr__(self) -> str:
        return f"<File {self.entry.path!r} pos={self.pos} in_use={self.in_use}>"

    @property
    def data(self) -> Any:
        """What the entry was created with (``pde_data``)."""
        return self.entry.data

    @property
    def flags(self) -> int:
        """``os.O_*`` flags of the open, without those that only matter to open itself."""
        return self._flags

    @property
    def in_use(self) -> int:
        """How many calls are inside, on any of its descriptors."""
        number = self._number
        return number if number >= 0 else number - BIAS

    @property
    def removing(self) -> bool:
        """Whether the entry's removal has begun: every further call is refused."""
        return self._number < 0

    @property
    def _closing(self) -> bool:
        """Whether a release that may wait for something has begun, or is over."""
        return hasattr(self, "_began")

    @property
    def _traffic(self) -> Traffic | None:
        """What is rare about it, if there is anything."""
        return self._in_use if isinstance(self._in_use, Traffic) else None

    def _own_traffic(self) -> Traffic:
        """Return what is rare about it, for a change."""
        if not isinstance(self._in_use, Traffic):
            self._in_use = Traffic(self._in_use)
        return self._in_use

    @property
    def _number(self) -> int:
        return self._in_use.in_use if isinstance(self._in_use, Traffic) else self._in_use

    def _enter(self) -> None:
        if isinstance(self._in_use, Traffic):
            self._in_use.in_use += 1
        else:
            self._in_use += 1

    # -- for handlers that wait -----------------------------------------------------------------

    @property
    def removed(self) -> anyio.Event:
        """
        What is set when the entry's removal begins: ``await file.removed.wait()``.

        A handler that would otherwise wait for long should wait for this too, or use
        :meth:`wait_event`, which does: removal waits for the handler.
        """
        return self.entry._watch(None)

    async def wait_event(self, queue: WaitQueue, condition: Callable[[], object]) -> None:
        """
        Wait in a handler until *condition* is true, or the entry's removal begins.

        A checkpoint if it waits: not if the condition is true already. Cancellation leaves
        nothing in the queue.

        Args:
            queue: Whose ``wake_up()`` says that the condition may have changed.
            condition: A plain function; what it returns counts as true or false.

        Raises:
            EntryRemovedError: ``EIO``: removal began, and the condition is not true. Let it
                through, and the caller gets it.
            TypeError: *condition* is a coroutine function, whose coroutines all count as true.

        Linux: ``wait_event_interruptible``; there, nobody wakes such a handler at removal.
        """
        check_queue(queue)
        if not callable(cast("object", condition)):
            msg = f"condition is a plain function, as lambda: letters, not {condition!r:.60}"
            raise TypeError(msg)
        while not (met := condition()):
            if self.entry.removing:
                raise refuse("wait", self.entry)
            with Wakeup(self.entry) as wakeup:
                wakeup.add(queue)
                await wakeup.event.wait()
        if isinstance(met, CoroutineType):
            met.close()
            msg = f"condition is a plain function, no coroutine function, not {condition!r:.60}"
            raise TypeError(msg)

    def poll_wait(self, queue: WaitQueue) -> None:
        """
        Name, in a poll handler, a queue whose ``wake_up()`` may change the answer.

        Call it before looking at what is ready. Not a checkpoint.

        Linux: ``poll_wait``.
        """
        check_queue(queue)
        wakeup = poll_table.get()
        if wakeup is not None:
            wakeup.add(queue)

    # -- in and out -----------------------------------------------------------------------------

    def _refuse(self, call: str) -> OSError:
        """Make the error of a call that came too late."""
        return refuse(call, self.entry)

    def _refuse_absent(self, call: str, errno: int) -> OSError:
        """Make the error of a call there is no handler for, unless it came too late anyway."""
        if self.removing:
            return self._refuse(call)
        return error(errno, self.entry.path, f"the file has no handler for {call}")

    async def _take_position(self, call: str, size: int = 0) -> int:
        """
        Let a call in that uses the position, when it is not plainly free: wait for it.

        On return the call is counted and owes a :meth:`_leave_position`. Waiting comes before
        admission, as in Linux: who still waits when removal begins, or comes to wait then, is
        refused once the position is free.

        Returns:
            *size*, or the most that one call moves.
        """
        check_size(call, size)
        if size < 0:
            msg = f"{call} wants a size >= 0, not {size}; leave it out for all there is"
            raise ValueError(msg)
        if self._in_use == BIAS:  # as most that come too late; the rest has more to look at
            raise self._refuse(call)
        traffic = self._traffic
        if self.in_use > (0 if traffic is None else traffic.shared):
            await self._wait_for_position(call)
        elif self.removing:
            raise self._refuse(call)
        else:
            self._enter()
        return min(size, MAX_RW_COUNT)

    async def _wait_for_position(self, call: str) -> None:
        waiter = Waiter()
        traffic = self._own_traffic()
        if traffic.queue is None:
            traffic.queue = deque()
        queue = traffic.queue
        queue.append(waiter)
        try:
            await waiter.woken.wait()
        except BaseException:
            if waiter.granted:  # just before the cancellation: pass it on
                await self._leave_position_and_release()
            elif not waiter.woken.is_set():
                queue.remove(waiter)
            raise
        if not waiter.granted:
            raise self._refuse(call)

    def _leave_position(self) -> bool:
        """Let such a call out; hand the position to who waits longest. True: release the file."""
        traffic = self._in_use
        if traffic == _ALONE:  # as most that come here: its removal waits for just this call
            self._in_use = BIAS
            # unuse() in place, but for the last one out: all readers of a drain come by here
            entry = self.entry
            left = entry._in_use - 1
            if left > BIAS:
                entry._in_use = left
            else:
                entry.unuse()
            return False
        if not isinstance(traffic, Traffic):
            self._in_use = traffic - 1
            return False
        queue = traffic.queue
        if queue and traffic.in_use >= 0:
            # The count stays as it is: the one who leaves is replaced by the one who comes.
            waiter = queue.popleft()
            waiter.granted = True
            waiter.woken.set()
            return False
        while queue:
            queue.popleft().woken.set()
        return self._leave(traffic)

    async def _leave_position_and_release(self) -> None:
        """Let such a call out; release the file if nobody else will."""
        if self._leave_position():
            await self._release_late()

    def _leave_shared(self) -> bool:
        """Let a call out that did not use the position. True: release the file."""
        traffic = self._own_traffic()
        traffic.shared -= 1
        return self._leave(traffic)

    def _leave(self, traffic: Traffic) -> bool:
        traffic.in_use = left = traffic.in_use - 1
        if left == BIAS:
            self.entry.unuse()
        if left not in (0, BIAS):
            return False
        if traffic.descriptors == 1:
            self._in_use = left  # it is as it was: calls are fast again
        return traffic.descriptors == 0

    async def _call(self, op: str, *args: Any) -> Any:
        """Run a handler that does not use the position, inside the guard."""
        if self.removing:
            raise self._refuse(op)
        self._enter()
        self._own_traffic().shared += 1
        try:
            return await run(self, op, *args)
        finally:
            if self._leave_shared():
                await self._release_late()

    async def _poll_now(self, events: int, wakeup: Wakeup | None = None) -> int:
        """Ask the poll handler once; *wakeup* is added to the queues it names."""
        mask = DEFAULT_POLLMASK
        if self.entry.ops.poll is not None and not self.removing:
            token = poll_table.set(wakeup)
            try:
                mask = await self._call("poll")
            finally:
                poll_table.reset(token)
            if type(mask) is not int:
                raise nonsense(self, "poll", mask, "a mask of select.POLL*")
        return mask & (events | _ALWAYS_POLLED)

    def _kill(self) -> bool:
        """Refuse every call from now on. True if somebody is inside, whom removal waits for."""
        traffic = self._in_use
        if isinstance(traffic, Traffic):
            traffic.in_use += BIAS
        else:
            self._in_use = traffic + BIAS
        return self.in_use > 0

    # -- its end --------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Add a descriptor, or a mapping."""
        self._own_traffic().descriptors += 1

    async def _put(self) -> None:
        """Give a descriptor up; the last one releases, or leaves that to who is still inside."""
        traffic = self._own_traffic()
        traffic.descriptors -= 1
        if traffic.descriptors == 0 and self.in_use == 0:
            await self._release()

    async def _release(self) -> None:
        """
        Run the release handler, unless removal did or does; return when it has ended.

        At most two contexts get here for one file: who gave up the last descriptor, and the one
        removal. The first runs the handler, the other waits for it: a closer that returned early
        would pull the file from under the handler, a removal that did would do so with the
        handler's code. Unlike in Linux both are shielded from cancellation meanwhile: a release
        cut short, or one whose other side waits for ever, is what a literal port gives.

        Linux: ``close_pdeo``.
        """
        entry = self.entry
        if self._newer is None and entry._newest is not self:  # it is not among the open files
            entry._put_holder()
        elif self._closing:
            with anyio.CancelScope(shield=True):
                await self._completion().wait()
        elif entry.ops._release_suspends:
            with anyio.CancelScope(shield=True):
                await self._run_release()
        else:
            self._release_now()

    async def _release_late(self) -> None:
        """
        Release after the last call, for a close that was over before: nobody waits for that.

        What the release handler raises is logged, since the call has a result of its own.
        """
        try:
            await self._release()
        except Exception:
            logger.exception("the release handler of %s failed", self.entry.path)

    def _completion(self) -> anyio.Event:
        """Return what is set when the release that has begun is over."""
        traffic = self._own_traffic()
        if traffic.completion is None:
            traffic.completion = anyio.Event()
        return traffic.completion

    async def _run_release(self) -> None:
        """Run the release handler here and now; the caller sees to the shield it may need."""
        slow: Any = self  # of a class that has a word for it
        slow._began = True
        if sinks:
            emit("release", self.entry.path)
        try:
            await run(self, "release")
        finally:
            self._released()

    def _release_now(self) -> None:
        """Run a release handler that waits for nothing, or none if there is none."""
        if sinks:
            emit("release", self.entry.path)
        try:
            if self.entry.ops.release is not None:
                self._run_release_now()
        finally:
            self._released()

    def _run_release_now(self) -> None:
        """Call a release handler that waits for nothing, be it a coroutine function or not."""
        ops = self.entry.ops
        if sinks:
            emit("enter", self.entry.path, "release")
        try:
            result = cast("ReleaseHandler", ops.release)(self)
            if "release" in ops._awaited:
                run_to_end(cast("Coroutine[Any, Any, object]", result))
        finally:
            if sinks:
                emit("leave", self.entry.path, "release")

    def _released(self) -> None:
        """Unlink the record, which comes after the handler; then wake who waits for that."""
        entry, traffic = self.entry, self._traffic
        entry._take_file(self)
        if traffic is None or traffic.descriptors:
            entry._add_holder()
        if traffic is not None and traffic.completion is not None:
            traffic.completion.set()


def _file_class(flags: int, release_suspends: bool) -> type[File]:
    slots = ("_began",) if release_suspends else ()  # a word that most have no use for
    return type("File", (File,), {"__slots__": slots, "__module__": "aiopde", "_flags": flags})


FILES: Final = {
    (flags, suspends): _file_class(flags, suspends)
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)
    for suspends in (False, True)
}
"""What most files are: the class says how they were opened, which saves each of them a word."""


@final
class FlaggedFile(File):
    """A file that was opened with more flags, and has a word for them."""

    __slots__ = ("_began", "_flags")


def new_file(entry: ProcDirEntry, flags: int) -> File:
    """Make an open file. What opens or reads quickly does the same in place."""
    usual = FILES.get((flags, entry.ops._release_suspends))
    file: File
    if usual is not None:
        file = usual()
    else:
        file = flagged = FlaggedFile()
        flagged._flags = flags
    file.entry = entry
    file.pos = 0
    file.private_data = file._newer = file._older = None
    file._in_use = 0
    return file


def check_size(call: str, size: object) -> None:
    """Refuse a size that is no number."""
    if not isinstance(size, int):
        raise no_size(call, size)


def no_size(call: str, size: object) -> TypeError:
    """Make the error of a size that is no number."""
    how = "readv([20, 30])" if call == "readv" else f"{call}(4096)"
    return TypeError(f"{call} wants a size in bytes, as {how}, not {size!r:.60}")


def refuse(call: str, entry: ProcDirEntry) -> EntryRemovedError:
    """Make the error of a call that came after its entry's removal had begun."""
    if sinks:
        emit("refuse", entry.path, call)
    return EntryRemovedError(call, entry.path)


def run_to_end(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine whose body awaits nothing, which is a plain call."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    coroutine.close()
    msg = f"{coroutine!r} was to await nothing, and did"
    raise RuntimeError(msg)


@final
class ClosedFile(File):
    """What a closed descriptor points at: everything is refused."""

    __slots__ = ()

    def __init__(self) -> None:
        self._in_use = BIAS

    def __repr__(self) -> str:
        return "<closed>"

    def _refuse(self, call: str) -> OSError:
        """Make the error of a call on a closed file."""
        return bad_file(call)


CLOSED: Final = ClosedFile()
