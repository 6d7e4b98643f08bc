"""Descriptors of what is no file: a directory, and anything opened with O_PATH."""

from __future__ import annotations

import mmap as mmap_module
import os
from errno import EINVAL, EISDIR, ENODEV
from typing import TYPE_CHECKING

from ._check import check_int
from ._errors import bad_file
from ._file import ProcFile
from ._open_file import DEFAULT_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._mapping import Mapping
    from ._open_file import File
    from ._stat import DirEntry


class Directory(ProcFile):
    """A descriptor of a directory; dead or alive makes no difference to it."""

    __slots__ = ()

    async def _read(self, size: int = DEFAULT_SIZE) -> bytes:
        raise self._directory("read", EISDIR)

    async def _pread(self, size: int, offset: int) -> bytes:
        raise self._directory("pread", EISDIR)

    async def _readv(self, sizes: Iterable[int]) -> list[bytes]:
        raise self._directory("readv", EISDIR)

    async def _write(self, data: bytes) -> int:
        raise bad_file("write")

    async def _mmap(
        self,
        length: int,
        prot: int = mmap_module.PROT_READ,
        flags: int = mmap_module.MAP_SHARED,
    ) -> Mapping:
        raise self._directory("mmap", ENODEV)

    def _directory(self, call: str, errno: int) -> OSError:
        self._live(call)
        return self._error(errno)

    async def _lseek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        file = self._live("lseek")
        check_int("offset", offset)
        base = {os.SEEK_SET: 0, os.SEEK_CUR: file.pos, os.SEEK_END: file.entry.size}.get(whence)
        if base is None or base + offset < 0:
            raise self._error(EINVAL, f"lseek({offset}, {whence})")
        file.pos = base + offset
        return file.pos

    async def _getdents(self, count: int | None = None) -> list[DirEntry]:
        file = self._live("getdents")
        if count is not None:
            check_int("count", count)
        if count is not None and count <= 0:
            raise self._error(EINVAL, f"getdents wants a count >= 1, not {count}")
        end = None if count is None else file.pos + count
        found = file.entry._listing(file.pos, end)
        file.pos += len(found)
        return found


class Path(ProcFile):
    """A descriptor opened with ``O_PATH``: it names an entry, and that is all."""

    __slots__ = ()

    def _live(self, call: str) -> File:
        file = super()._live(call)
        if call in {"look at", "tell", "dup", "stat"}:
            return file
        raise bad_file(call)

    async def _read(self, size: int = DEFAULT_SIZE) -> bytes:
        raise bad_file("read")

    async def _write(self, data: bytes) -> int:
        raise bad_file("write")
