"""Where a kernel's tree is mounted, by whoever asked for it."""

from __future__ import annotations

import os
from errno import EBUSY, EINTR, EINVAL, ENOTEMPTY
from typing import TYPE_CHECKING, Self, final

import anyio
import anyio.to_thread

from aiopde._errors import error
from aiopde._procfs import check_tree
from aiopde._trace import logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from anyio.abc import TaskGroup

    from aiopde import ProcFS
    from aiopde.fuse import Mount


@final
class Mounts:
    """
    The directories that a tree is mounted on, for those who come and go in any order.

    An async context manager; leaving it unmounts all that is still mounted, as leaving each
    :func:`aiopde.fuse.mount` does. Have it inside the tree's block, so that no process holds that
    up from a mount::

        async with Kernel() as kernel, Mounts(kernel.proc) as mounts:
            await tg.start(serve_control, kernel, None, mounts)

    Args:
        proc: The tree.
    """

    def __init__(self, proc: ProcFS) -> None:
        check_tree("Mounts", proc)
        self.proc: ProcFS = proc
        self._tasks: TaskGroup | None = None
        self._entered = False
        # By real path, so that each directory has one name.
        self._places: dict[str, _Place] = {}

    async def __aenter__(self) -> Self:
        if self._entered:
            msg = "a Mounts can be entered once: make another one"
            raise RuntimeError(msg)
        self._entered = True
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._tasks is not None
        tasks, self._tasks = self._tasks, None
        tasks.cancel_scope.cancel()
        # Not told of *exc*, which the group would wrap.
        await tasks.__aexit__(None, None, None)

    def __iter__(self) -> Iterator[Mount]:
        return iter([place.mount for place in self._places.values() if place.is_up])

    async def mount(self, path: str, *, allow_other: bool = False) -> Mount:
        """
        Mount the tree on an empty directory, until :meth:`umount`, or somebody else, ends that.

        A checkpoint. Cancelled, it undoes what it has begun.

        Args:
            path: The directory, absolute.
            allow_other: As that of :func:`aiopde.fuse.mount`.

        Raises:
            OSError: What the mount cannot do without; ``EBUSY``: the tree is mounted there;
                ``ENOTEMPTY``: what is there would be hidden; ``EINVAL``: a relative path;
                ``EINTR``: the block was left.
        """
        _check_absolute(path)
        if not self._entered:
            msg = "mount inside 'async with Mounts(kernel.proc) as mounts:'"
            raise RuntimeError(msg)
        real = await anyio.to_thread.run_sync(_find_directory, path)
        if real in self._places:
            raise error(EBUSY, real, "the tree is mounted there already")
        if self._tasks is None:
            raise error(EINTR, real, "the kernel is being left")
        place = self._places[real] = _Place(real)
        self._tasks.start_soon(self._keep, place, allow_other, name=f"mount at {real}")
        try:
            await place.settled.wait()
        except BaseException:
            place.scope.cancel()
            raise
        if place.failure is not None:
            raise place.failure
        if not place.is_up:
            raise error(EINTR, real, "it was unmounted before it was there")
        return place.mount

    async def umount(self, path: str) -> None:
        """
        Unmount the tree from a directory, and wait until the mount is gone.

        Who is inside gets ``ENOTCONN``; release handlers run to their end. A checkpoint.
        Cancelled, the unmounting goes on.

        Raises:
            OSError: ``EINVAL``: it is not mounted there; what the unmounting failed with.
        """
        _check_absolute(path)
        real = await anyio.to_thread.run_sync(os.path.realpath, path)
        place = self._places.get(real)
        if place is None:
            raise error(EINVAL, real, "not mounted by this kernel: 'aiopde mount' lists what is")
        place.scope.cancel()
        await place.gone.wait()
        if place.failure is not None:
            raise place.failure

    # Not started by TaskGroup.start(): on asyncio, that cancels a task past what shields it.
    async def _keep(self, place: _Place, allow_other: bool) -> None:
        """Have it mounted until somebody ends that."""
        try:
            with place.scope:
                await anyio.to_thread.run_sync(_check_empty, place.path)
                await place.keep(self.proc, allow_other)
        except Exception as exc:  # the others' mounts go on
            if place.is_up:
                logger.error("the mount at %s has failed", place.path, exc_info=exc)
            place.failure = exc
        finally:
            del self._places[place.path]
            place.is_up = False
            place.settled.set()
            place.gone.set()


@final
class _Place:
    """One directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.mount: Mount
        self.is_up = False
        self.failure: Exception | None = None
        self.settled = anyio.Event()
        self.gone = anyio.Event()
        self.scope = anyio.CancelScope()

    async def keep(self, proc: ProcFS, allow_other: bool) -> None:
        from aiopde.fuse import mount  # not for those who mount nothing

        async with mount(proc, self.path, allow_other=allow_other) as self.mount:
            self.is_up = True
            self.settled.set()
            await self.mount.unmounted.wait()


def _check_absolute(path: str) -> None:
    if not os.path.isabs(path):
        raise error(EINVAL, path, "an absolute path is needed: what it begins at is not known")


# These block, and who has to answer may be a mount of this very process: for threads only.


def _find_directory(path: str) -> str:
    from aiopde.fuse._mount import checked_path  # see above

    return checked_path(path)


def _check_empty(path: str) -> None:
    if os.listdir(path):
        raise error(ENOTEMPTY, path, "what is in it would be hidden: take an empty directory")
