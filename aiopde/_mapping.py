"""What mmap returns (struct vm_area_struct)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from anyio.abc import AsyncResource
from anyio.lowlevel import checkpoint

from ._open_file import CLOSED

if TYPE_CHECKING:
    from ._open_file import File


@final
class Mapping(AsyncResource):
    """
    What an mmap handler returned, and a hold on the open file it came from.

    It outlives the descriptor, and even the entry; closing it (munmap) gives the file up, which
    then may be released. Any task may close it.
    """

    __slots__ = ("_fast_acquire", "_file", "value")

    def __init__(self, file: File, value: Any) -> None:
        self._file = file
        self._fast_acquire = file.entry.fast_acquire
        self.value: Any = value

    def __repr__(self) -> str:
        return f"<Mapping of {self._file!r}>"

    async def aclose(self) -> None:
        """Give the mapping up. A checkpoint, as closing its file is; twice does nothing."""
        file, self._file = self._file, CLOSED
        try:
            if not self._fast_acquire:
                await checkpoint()
        finally:
            if file is not CLOSED:
                await file._put()
