"""What a client may ask for. The name of a method here is its name in a request."""

from __future__ import annotations

import base64
import binascii
import inspect
import os
from errno import EBADF, EINVAL, EMFILE, ENOENT, ENOSYS, ENOTDIR
from itertools import count, islice
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiopde import DEFAULT_POLLMASK
from aiopde._errors import error

from ._views import (
    dying_entries,
    tell_entry,
    tell_module,
    tell_more,
    tell_mount,
    tell_why,
    walk_tree,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiopde import Kernel, ProcFile

    from ._mounts import Mounts
    from ._views import Looks, Told

MAX_READ: Final = 1 << 18
"""Bytes that one read returns at most."""
MAX_FILES: Final = 64
"""Files that one connection may have open."""
MAX_ENTRIES: Final = 10_000
"""Entries that one reply tells of."""
_MODES: Final = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}


class Session:
    """What one connection asks for, and the files it has open."""

    def __init__(self, kernel: Kernel, mounts: Mounts, looks: Looks, began: float) -> None:
        self._kernel = kernel
        self._mounts = mounts
        self._looks = looks
        self._began = began
        self._files: dict[int, ProcFile] = {}
        self._numbers = count(3)

    async def aclose(self) -> None:
        """Close the files, each to the end of its release handler, whatever that raises."""
        errors: list[Exception] = []
        while self._files:
            _, file = self._files.popitem()
            try:
                await file.aclose()
            except Exception as exc:  # the others are to be closed too
                errors.append(exc)
        if errors:
            msg = "release handlers failed while the files of a connection were closed"
            raise ExceptionGroup(msg, errors)

    # -- the kernel -----------------------------------------------------------------------------

    async def info(self) -> Told:
        """Who this is: process, mount point, seconds for which it has listened."""
        return {
            "pid": os.getpid(),
            "mountpoint": self._kernel.proc.root.name,
            "seconds": anyio.current_time() - self._began,
            "oopses": self._kernel.oopses,
        }

    async def lsmod(self) -> list[Told]:
        """List the modules, those loaded last first."""
        return [tell_module(info) for info in self._kernel.lsmod()]

    async def modinfo(self, name: str) -> Told:
        """Describe a module that is loaded."""
        module = self._kernel.find_module(name)
        if module is None:
            raise error(ENOENT, name, "no such module is loaded")
        return tell_more(module)

    async def insmod(
        self, program: str, name: str | None = None, params: dict[str, Any] | None = None
    ) -> Told:
        """Load a module: a file, by its absolute path, or an import path."""
        module = await self._kernel.insmod(program, name, **(params or {}))
        return tell_module(module.info())

    async def modprobe(self, name: str, params: dict[str, Any] | None = None) -> Told:
        """Load a module by name, after those it depends on."""
        module = await self._kernel.modprobe(name, **(params or {}))
        return tell_module(module.info())

    async def reload(
        self, name: str, program: str | None = None, params: dict[str, Any] | None = None
    ) -> Told:
        """Load a new version of a module in the place of the old one."""
        module = await self._kernel.reload(name, program, **(params or {}))
        return tell_module(module.info())

    async def rmmod(self, name: str, grace: int | float | None = None, force: bool = False) -> Told:
        """Unload a module; *grace* in seconds. Taken back, it goes on. Tells how long it took."""
        if grace is not None and grace < 0:
            raise error(EINVAL, name, f"grace is a number of seconds from 0 on, not {grace}")
        flags, began = os.O_NONBLOCK | (os.O_TRUNC if force else 0), anyio.current_time()
        await self._kernel.rmmod(name, flags, grace=grace)
        return {"name": name, "seconds": anyio.current_time() - began}

    # -- who is inside --------------------------------------------------------------------------

    async def ps(self, path: str = "") -> list[Told]:
        """List the calls inside an entry and all below it."""
        entry = self._kernel.proc.lookup(path, follow_symlinks=False)
        return [told for _, told in self._looks.look(entry)]

    async def why(self, name: str) -> list[Told]:
        """Tell what the unload of a module, or the removals at a path, are waiting for."""
        return tell_why(self._kernel, self._looks, name)

    # -- the tree -------------------------------------------------------------------------------

    async def ls(self, path: str = "") -> list[Told]:
        """List a directory; or only the entry itself if it is none."""
        entry = self._kernel.proc.lookup(path)
        found = entry._children if entry.is_dir() else [entry]
        return [tell_entry(child) for child in islice(found, MAX_ENTRIES)]

    async def tree(self, path: str = "", limit: int = MAX_ENTRIES) -> Told:
        """List an entry and all below it, parents first, with what is being removed there."""
        if not 1 <= limit <= MAX_ENTRIES:
            raise error(EINVAL, path, f"limit is 1 to {MAX_ENTRIES}, not {limit}")
        entry = self._kernel.proc.lookup(path)
        found = list(islice(walk_tree(entry, dying_entries(self._kernel)), limit + 1))
        entries = [tell_entry(each) for each in found[:limit]]
        return {"entries": entries, "truncated": len(found) > limit}

    # -- files ----------------------------------------------------------------------------------

    async def open(self, path: str, mode: str = "r") -> Told:
        """Open a file ("r", "w", "rw"); *polls* tells whether it says when it has news."""
        if mode not in _MODES:
            raise error(EINVAL, path, f"mode is one of {', '.join(_MODES)}, not {mode!r:.20}")
        if len(self._files) >= MAX_FILES:
            raise error(EMFILE, path, f"a connection has at most {MAX_FILES} files open")
        file = await self._kernel.proc.open(path, _MODES[mode])
        entry = file.entry
        if entry.is_dir():
            await file.aclose()
            raise error(ENOTDIR if mode == "w" else EINVAL, entry.path, "a directory: use ls")
        number = next(self._numbers)
        self._files[number] = file
        return {"file": number, "polls": entry.ops.poll is not None}

    async def read(self, file: int, size: int = MAX_READ, offset: int | None = None) -> Told:
        """Read on, or at *offset*, 1 to 262144 bytes; none is the end of the file."""
        if not 1 <= size <= MAX_READ:
            raise error(EINVAL, "", f"size is 1 to {MAX_READ}, not {size}")
        opened = self._file(file)
        data = await (opened.read(size) if offset is None else opened.pread(size, offset))
        return {"data": base64.b64encode(data).decode()}

    async def write(self, file: int, data: str) -> int:
        """Write, in one call of the handler; returns how many bytes it took."""
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise error(EINVAL, "", f"data is base64: {exc}") from None
        return await self._file(file).write(content)

    async def poll(
        self, file: int, events: int = DEFAULT_POLLMASK, seconds: int | float | None = 0
    ) -> int:
        """Wait until one of *events* is ready, for so long at most (null: for ever)."""
        return await self._file(file).poll(events, seconds)

    async def close(self, file: int) -> None:
        """Close a file; raises what its release handler does."""
        opened = self._file(file)
        del self._files[file]
        await opened.aclose()

    def _file(self, number: int) -> ProcFile:
        if number not in self._files:
            raise error(EBADF, "", f"this connection has no file {number} open")
        return self._files[number]

    # -- mounts ---------------------------------------------------------------------------------

    async def mount(self, path: str, allow_other: bool = False) -> Told:
        """Mount the tree on an empty directory, by its absolute path, for every process."""
        return tell_mount(await self._mounts.mount(path, allow_other=allow_other))

    async def umount(self, path: str) -> None:
        """Unmount it; who is inside gets ENOTCONN. Taken back, it goes on."""
        await self._mounts.umount(path)

    async def mounts(self) -> list[Told]:
        """List the mounts of this kernel, and how much each is in use."""
        return [tell_mount(mount) for mount in self._mounts]

    # -- how it is called -----------------------------------------------------------------------

    def call(self, method: str, params: dict[str, Any]) -> Awaitable[object]:
        """
        Call a method by its name, with parameters from a client.

        Raises:
            OSError: ``ENOSYS``: there is no such method; ``EINVAL``: it does not take these
                parameters.
        """
        if method not in METHODS:
            raise error(ENOSYS, method, f"there are {', '.join(METHODS)}")
        function = METHODS[method]
        signature = inspect.signature(function)
        try:
            signature.bind(self, **params)
        except TypeError as exc:
            raise error(EINVAL, method, str(exc)) from None
        for name, value in params.items():
            kinds = signature.parameters[name].annotation
            if type(value) not in _KINDS[kinds]:
                raise error(EINVAL, method, f"{name} is {kinds}, not {value!r:.40}")
        return function(self, **params)


# The types that JSON gives, by how the parameters above are written. Exact ones: to Python a bool
# is a number.
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, NoneType),
    "bool": (bool,),
    "int": (int,),
    "int | None": (int, NoneType),
    "int | float | None": (int, float, NoneType),
    "dict[str, Any] | None": (dict, NoneType),
}
METHODS: Final[dict[str, Callable[..., Awaitable[object]]]] = {
    method.__name__: method
    for method in (
        Session.info,
        Session.lsmod,
        Session.modinfo,
        Session.insmod,
        Session.modprobe,
        Session.reload,
        Session.rmmod,
        Session.ps,
        Session.why,
        Session.ls,
        Session.tree,
        Session.open,
        Session.read,
        Session.write,
        Session.poll,
        Session.close,
        Session.mount,
        Session.umount,
        Session.mounts,
    )
}
"""By the names that a client calls them."""
