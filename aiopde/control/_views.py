"""What is told of a kernel: its entries, its modules, who is inside of what and since when."""

from __future__ import annotations

import stat
from dataclasses import asdict
from errno import ENOENT
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary

import anyio

from aiopde import ModuleState
from aiopde._errors import error
from aiopde._holders import calls
from aiopde._rare import GONE
from aiopde._stacktrace import stack_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from aiopde import Holder, Kernel, Module, ModuleInfo, ProcDirEntry
    from aiopde._removal import Removal
    from aiopde.fuse import Mount

    Told = dict[str, Any]

_TYPES: Final = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


# -- entries ------------------------------------------------------------------------------------


def tell_entry(entry: ProcDirEntry) -> Told:
    """Describe an entry: what stat tells, and what its use count does."""
    status, numbers = entry.stat(), entry.statistics()
    return {
        "path": entry.path,
        "name": entry.name,
        "type": _TYPES[entry.type],
        "target": entry.data if stat.S_ISLNK(entry.type) else None,
        "mode": stat.filemode(status.st_mode),
        "ino": status.st_ino,
        "nlink": status.st_nlink,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "size": status.st_size,
        "in_use": numbers.in_use,
        "open_files": numbers.open_files,
        "state": numbers.state,
    }


def walk_tree(root: ProcDirEntry, dying: Iterable[ProcDirEntry]) -> Iterator[ProcDirEntry]:
    """
    Go through an entry and all below it, parents first, in the order of a listing.

    What has no name any more and is not gone, of *dying*, comes after what its directory has.
    """
    unlinked: dict[ProcDirEntry, list[ProcDirEntry]] = {}
    for entry in dying:
        unlinked.setdefault(entry.parent, []).append(entry)
    todo = [root]
    while todo:
        entry = todo.pop()
        yield entry
        below = [*entry._children, *unlinked.get(entry, ())]
        todo += below[::-1]


def dying_entries(kernel: Kernel) -> list[ProcDirEntry]:
    """Find the roots of what is being removed, and every directory unlinked on the way down."""
    return [
        entry
        for removal in kernel.proc._reaper.removals
        for entry in removal.remaining()
        if not entry._linked
    ]


# -- mounts -------------------------------------------------------------------------------------


def tell_mount(mount: Mount) -> Told:
    """Describe a mount: where it is, and how much it is in use."""
    return {"path": mount.path} | asdict(mount.statistics())


# -- modules ------------------------------------------------------------------------------------


def tell_module(info: ModuleInfo) -> Told:
    """Describe a module, as lsmod does."""
    return {
        "name": info.name,
        "size": info.size,
        "refcnt": info.refcnt,
        "used_by": list(info.used_by),
        "state": info.state.value,
        "permanent": info.permanent,
    }


def tell_more(module: Module) -> Told:
    """Describe a module, as modinfo does."""
    main = None if module._text is None else module._text.main  # None: it is being read, or gone
    entries = [entry.path for entry in module._entries if entry._removal is not GONE]
    return tell_module(module.info()) | {
        "filename": module._source.path or f"{getattr(main, '__module__', '?')} (a function)",
        "description": "" if main is None else (main.__doc__ or "").strip(),
        "depends": [used.name for used in module._uses],
        "params": {name: repr(value) for name, value in module.params.items()},
        "entries": entries,
    }


# -- who is inside ------------------------------------------------------------------------------


@final
class Looks:
    """
    Remembers when a call was first seen inside, and so for how long it has been at least.

    Calls note no time, which would cost each of them. They are known again by their coroutines, of
    which this keeps none alive.
    """

    def __init__(self) -> None:
        self._first: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    def look(self, root: ProcDirEntry) -> list[tuple[ProcDirEntry, Told]]:
        """Describe the calls inside an entry and all below it."""
        now = anyio.current_time()
        return [
            (entry, tell_holder(holder, now - self._since(entry, call, now)))
            for holder, entry, call in calls(root)
        ]

    def _since(self, entry: ProcDirEntry, call: object, now: float) -> float:
        first = now if call is None else self._first.setdefault(call, now)
        # Who is inside of what is being removed, came before that.
        began: float | None = getattr(entry._removal, "began", None)
        return first if began is None else min(first, began)


def tell_holder(holder: Holder, seconds: float) -> Told:
    """Describe a call inside an entry; *seconds* it has been there, at least."""
    return {
        "task": holder.task,
        "path": holder.path,
        "op": holder.op,
        "stack": list(holder.stack),
        "killable": holder.killable,
        "seconds": seconds,
    }


# -- why something is still there ---------------------------------------------------------------


def tell_why(kernel: Kernel, looks: Looks, name: str) -> list[Told]:
    """
    Tell of each unload of the module, or removal at, above or below the path: what it waits for.

    Raises:
        OSError: ``ENOENT``: there is neither.
    """
    inside = looks.look(kernel.proc.root)
    modules = [module for module in kernel._modules.all if module.name == name]
    going = [module for module in modules if module.state is ModuleState.GOING]
    told = [_why_module(module, inside) for module in going]
    path = _full_path(kernel, name)
    told += [
        _why_removal(removal, inside)
        for removal in kernel.proc._reaper.removals
        # What a module removes as it goes, has been told with the module.
        if _concerns(removal, path) and not any(_owns(module, removal.root) for module in going)
    ]
    if not told and not modules:
        try:
            kernel.proc.lookup(name)
        except OSError:
            raise error(ENOENT, name, "no module or entry of that name") from None
    return told


def _why_module(module: Module, inside: list[tuple[ProcDirEntry, Told]]) -> Told:
    began = module._unload_began
    return {
        "kind": "module",
        "name": module.name,
        # None for one that goes because its init failed: nobody has asked it to.
        "seconds": None if began is None else anyio.current_time() - began,
        "holders": [told for entry, told in inside if _owns(module, entry)],
        "tasks": _tell_tasks(module),
    }


def _owns(module: Module, entry: ProcDirEntry) -> bool:
    while entry not in module._entries:
        if entry.parent is entry:
            return False
        entry = entry.parent
    return True


def _tell_tasks(module: Module) -> list[Told]:
    """Tell where the module's own task and its background tasks stand."""
    tasks = anyio.get_running_tasks()
    own = {task.id for task in tasks if task.name == f"module {module.name}"}
    return [
        {"task": task.name, "stack": list(stack_of(task))}
        for task in tasks
        if task.id in own or task.parent_id in own
    ]


def _why_removal(removal: Removal, inside: list[tuple[ProcDirEntry, Told]]) -> Told:
    began = removal.began
    return {
        "kind": "entry",
        "name": removal.root.path,
        "seconds": 0.0 if began is None else anyio.current_time() - began,
        "holders": [told for entry, told in inside if entry._removal is removal],
        "tasks": [],
    }


def _full_path(kernel: Kernel, name: str) -> str:
    root = kernel.proc.root.name.rstrip("/")
    inside = name.removeprefix(root) if name.startswith("/") else name
    return f"{root}/{inside.strip('/')}".rstrip("/")


def _concerns(removal: Removal, path: str) -> bool:
    here, there = f"{removal.root.path}/", f"{path}/"
    return here.startswith(there) or there.startswith(here)
