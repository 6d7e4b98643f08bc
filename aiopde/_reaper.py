"""The removals of one tree, each seen through to its end, whoever has left (proc_remove)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, final

import anyio

from ._owner import current_owner
from ._removal import Removal
from ._watch import RemovalTimeoutError, Watch

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._entry import Checkpoint, ProcDirEntry


@final
class Reaper:
    """
    Runs the removals of one tree: in the task that asked, as far as that goes; else in its own.

    Args:
        grace: The default for each of them.
        hung_task_timeout: After how long each is logged, in seconds.
    """

    def __init__(self, *, grace: float | None, hung_task_timeout: float | None) -> None:
        self.grace: Final = grace
        self.hung_task_timeout: Final = hung_task_timeout
        # Where a removal goes on whose caller was cancelled. None until the tree is entered.
        self.tasks: TaskGroup | None = None
        # Those not finished, for who joins by name; and those whose errors nobody has seen yet.
        self.removals: dict[Removal, None] = {}
        self._failed: dict[ProcDirEntry, Removal] = {}
        self._finishers: set[anyio.CancelScope] = set()
        self._checkpoint: Checkpoint

    # -- its life -------------------------------------------------------------------------------

    async def start(self, checkpoint: Checkpoint) -> None:
        """Enter the task group, which the removals go on in that nobody waits for."""
        self._checkpoint = checkpoint
        self.tasks = await anyio.create_task_group().__aenter__()

    async def stop(self, last: list[Removal], exc: BaseException | None) -> None:
        """
        See the *last* removals through, and all others; raise what went wrong.

        Args:
            exc: What the block was left with.
        """
        assert self.tasks is not None
        errors: list[Exception] = []
        interrupted: BaseException | None = None
        with anyio.CancelScope(shield=True):  # noqa: ASYNC912  it waits if there is reason to
            for removal in last:
                interrupted = await self._see_through(removal, errors) or interrupted
        if errors:
            # Nothing may go on after this: what still waits does so in vain.
            for scope in self._finishers:
                scope.cancel()
        # Not told of *exc*, which the group would wrap; whoever it ran has ended by now.
        await self.tasks.__aexit__(None, None, None)
        self._raise(errors, exc)
        if interrupted is not None and type(exc) is not type(interrupted):
            raise interrupted

    async def _see_through(self, removal: Removal, errors: list[Exception]) -> BaseException | None:
        """Run a removal to its end, whatever comes; return what is not to be kept from the user."""
        interrupted: BaseException | None = None
        watch = self.watch(removal, None)
        while not removal.done:
            try:
                # With a grace in a task of its own, so that it can be left if it does not end.
                if self.grace is None:
                    await removal.run(watch.wait)
                else:
                    await self._go_on(removal, watch)
            except OSError as timeout:
                errors.append(timeout)
                break
            except BaseException as exc:  # noqa: ASYNC103  raised at the end
                interrupted = exc  # SystemExit, or Task.cancel(), which heeds no shield
        self._end(removal)
        return interrupted

    def _raise(self, errors: list[Exception], exc: BaseException | None) -> None:
        for removal in self._failed.values():
            errors += removal.errors
        if not errors:
            return
        if exc is None and len(errors) == 1 and isinstance(errors[0], RemovalTimeoutError):
            raise errors[0]
        together: list[BaseException] = [*errors]
        if exc is not None and not isinstance(exc, anyio.get_cancelled_exc_class()):
            together.insert(0, exc)
        msg = "the tree was left, and not everything had gone well"
        raise BaseExceptionGroup(msg, together)

    # -- one removal ----------------------------------------------------------------------------

    def begin(self, entry: ProcDirEntry, entries: list[ProcDirEntry]) -> Removal:
        """Unlink an entry and shut all of *entries*, which are it and those below it, at once."""
        removal = Removal(entry, entries, self.removals if entry._rare.children is not None else ())
        self.removals[removal] = None
        return removal

    def _end(self, removal: Removal) -> None:
        self.removals.pop(removal, None)
        if removal.failed:
            self._failed[removal.root] = removal

    def report(self, removal: Removal, entry: ProcDirEntry) -> None:
        """Raise what release handlers of an entry and all below it raised in a removal."""
        if removal.failed:
            self._failed.pop(entry, None)
            removal.check(entry)

    def report_late(self, entry: ProcDirEntry) -> None:
        """Do so for an entry that is gone, unless somebody was told already."""
        if entry in self._failed:
            self.report(self._failed[entry], entry)

    def find(self, parent: ProcDirEntry, name: str) -> ProcDirEntry | None:
        """Return the entry of that name which was unlinked last and is not gone yet."""
        for removal in reversed(self.removals):
            going = removal.find(parent, name)
            if going is not None:
                return going
        return None

    async def complete(self, removal: Removal, grace: float | None, *, later: bool) -> None:
        """
        Run a removal here, as far as that goes; what is left goes on in the task group.

        Args:
            later: Whether all of it is left to that.
        """
        try:
            if later:
                await self._leave_to_a_task(removal, self.watch(removal, grace))
            elif removal.advance() is not None:
                await self._go_on(removal, self.watch(removal, grace))
            elif not removal.root.fast_acquire:
                self._end(removal)
                await self._checkpoint()
        except BaseException:
            if not removal.done:
                self.hand_over(removal)
            raise
        finally:
            if removal.done:
                self._end(removal)

    async def _go_on(self, removal: Removal, watch: Watch) -> None:
        """Wait for what is in the way of a removal, until there is nothing more."""
        obstacle = removal.advance()
        while isinstance(obstacle, anyio.Event):
            await watch.wait(obstacle)
            obstacle = removal.advance()
        if obstacle is not None:
            # A release handler that might wait must not be cancelled, as this task may be.
            await self._leave_to_a_task(removal, watch)

    async def _leave_to_a_task(self, removal: Removal, watch: Watch) -> None:
        self.hand_over(removal)
        await watch.wait(removal.event(removal.root))

    def watch(self, removal: Removal, grace: float | None) -> Watch:
        """Make what waits for a removal, or for a part of it, with an eye on the clock."""
        if grace is None:
            owner = current_owner.get()
            # An exit must come to its end, or what it goes on to free is not freed. The grace is
            # that of who waits for the unload.
            grace = None if owner is not None and owner._going else self.grace
        return Watch(removal, grace=grace, hung_task_timeout=self.hung_task_timeout)

    def hand_over(self, removal: Removal) -> None:
        """Leave the rest of a removal to the task group."""
        # The new task's context is a copy of this one's: release handlers see the remover's.
        assert self.tasks is not None
        if removal.in_background:
            return
        removal.in_background = True
        # Listed before its task runs: the tree may be given up by then.
        scope = anyio.CancelScope(shield=True)
        self._finishers.add(scope)
        name = f"removal of {removal.root.path}"
        self.tasks.start_soon(self._finish, removal, scope, name=name)

    async def _finish(self, removal: Removal, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await removal.run(self.watch(removal, math.inf).wait_only)
        finally:
            self._finishers.discard(scope)
        self._end(removal)
