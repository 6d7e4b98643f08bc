"""One module: its state, its references, its tasks (struct module)."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from errno import EDEADLK, EINVAL
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import anyio

from ._check import check_thread
from ._errors import error
from ._holders import holders, own_sites, running_handler, standing
from ._ops import PARAMETERS
from ._owner import current_owner, owner_of
from ._poison import poison
from ._procfs import ProcFS
from ._rare import GONE
from ._registered import Registered, take_back
from ._turn import Stepped
from ._watch import cancel_calls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context

    from anyio.abc import TaskGroup

    from ._entry import ProcDirEntry
    from ._holders import Holder
    from ._kmod import Source, Text
    from ._poison import UseAfterFreeError
    from ._removal import Removal
    from ._turn import Turn

MODULE_REF_BASE: Final = 1
"""What a module's count has before anybody refers to it; unloading takes it away."""
EXIT: Final = "exit"
"""What the task is at, in the end, that runs a module's init and exit."""


class ModuleState(Enum):
    """The states of a module; the values are the words of /proc/modules."""

    UNFORMED = "Unformed"
    """Its code is being read; not listed."""
    COMING = "Loading"
    """Its init is running; what it has registered can be called already."""
    LIVE = "Live"
    GOING = "Unloading"
    """It refuses new references; its exit runs, or what a failed init left is undone."""
    GONE = "Gone"
    """Freed: none of its code runs any more."""


@final
@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """What lsmod tells of a module; as a ``str``, its line in /proc/modules."""

    name: str
    size: int
    """Bytes of bytecode."""
    refcnt: int
    """References to it; -1 while it is unloading."""
    used_by: tuple[str, ...]
    """The modules that depend on it, those loaded last first."""
    state: ModuleState
    permanent: bool
    """Whether it has an init and no exit, so that only force unloads it."""

    def __str__(self) -> str:
        used_by = "".join(f"{name}," for name in self.used_by)
        used_by += "[permanent]," if self.permanent else ""
        # The address is what an unprivileged reader gets to see.
        return (
            f"{self.name} {self.size} {self.refcnt} {used_by or '-'} {self.state.value} 0x{0:016x}"
        )


class Log(Protocol):
    """Where a module's accidents are counted (its Kernel)."""

    def _oops(self, module: Module, exc: Exception) -> None:
        """Note that a background task of a module ended with an error."""
        ...

    def _use_after_free(self, module: str, entry: str, handler: str) -> UseAfterFreeError:
        """Count a call into a module that is gone, and make its error."""
        ...


@final
class Module:
    """
    A loaded module: ``struct module``. Made by :meth:`Kernel.insmod`, never directly.

    Inside a module's own code, :func:`this_module` returns it.
    """

    def __init__(self, log: Log, source: Source, params: dict[str, Any]) -> None:
        self._log = log
        self._thread = get_ident()
        self._source = source
        self.params: dict[str, Any] = params
        self.state: ModuleState = ModuleState.UNFORMED
        self.exports: Any = None
        """What its main function yielded, for the modules that depend on it; None once gone."""
        # One more while init runs.
        self._refcnt = MODULE_REF_BASE + 1
        self._used_by: dict[Module, None] = {}
        self._uses: list[Module] = []
        self._waits_for: Module | None = None
        self._text: Text | None = None
        self._size = 0
        self._exit: AbstractAsyncContextManager[Any] | None = None
        self._permanent = False
        # Around all that its task does, and around init and exit.
        self._life: anyio.CancelScope = anyio.CancelScope(shield=True)
        self._init_scope: anyio.CancelScope = anyio.CancelScope()
        self._tasks: TaskGroup = anyio.create_task_group()
        # What its tasks are at, by their ids.
        self._kthreads: dict[int, str] = {}
        # LIVE, or GOING because it failed; asked to unload; and gone.
        self._settled: anyio.Event = anyio.Event()
        self._unload: anyio.Event = anyio.Event()
        self._gone: anyio.Event = anyio.Event()
        # When it was asked to, by the loop's clock.
        self._unload_began: float | None = None
        self._context: Context | None = None
        self._failure: Exception | SystemExit | None = None
        self._errors: list[Exception | SystemExit] = []
        self._entries: Registered = Registered()
        # Whether it was logged that its unload takes long.
        self._reported = False
        # During a reload: the other version, and whose names are to be seen.
        self._replaces: Module | None = None
        self._replaced_by: Module | None = None
        self._turn: Turn | None = None

    def __repr__(self) -> str:
        return f"<Module {self.name!r} {self.state.name} refcnt={self.refcnt}>"

    @property
    def name(self) -> str:
        """What it is called in the table."""
        return self._source.name

    @property
    def _going(self) -> bool:
        """Whether its exit runs, or what a failed init has left is undone."""
        return self.state is ModuleState.GOING

    def info(self) -> ModuleInfo:
        """Return what lsmod tells of it. Not a checkpoint."""
        used_by = tuple(user.name for user in reversed(self._used_by))
        return ModuleInfo(self.name, self._size, self.refcnt, used_by, self.state, self._permanent)

    def holders(self) -> list[Holder]:
        """
        Tell which calls are inside its entries. Not a checkpoint.

        See :meth:`ProcDirEntry.holders`.
        """
        return [holder for entry in self._entries.roots() for holder in holders(entry)]

    def _standing(self) -> list[Holder]:
        """Tell where its own tasks stand, the one that runs its exit and those in background."""
        return standing(self.name, self._kthreads)

    def _kill_calls(self) -> None:
        """Cancel the calls inside its entries, where they may be. Not a checkpoint."""
        for entry in self._entries:
            cancel_calls(entry)

    def _removals(self) -> set[Removal]:
        """Return what is being removed of it."""
        return {entry._removal for entry in self._entries} - {None, GONE}

    def _cancel_init(self) -> None:
        """Cancel its init, if that still runs. Not a checkpoint."""
        if not self._settled.is_set():
            self._init_scope.cancel()

    async def wait_gone(self) -> None:
        """
        Wait until it is gone: to join an unload that somebody else began.

        A checkpoint. Cancellation changes nothing.

        Raises:
            OSError: ``EDEADLK``: the caller is inside one of its handlers.
        """
        self._refuse_own_handlers()
        await self._join()

    async def _join(self) -> None:
        """Wait until it is gone, in a function that is known by those who look for a cycle."""
        await self._gone.wait()

    def _refuse_own_handlers(self) -> None:
        """Raise ``EDEADLK`` in a call that an unload of the module waits for."""
        if any(site in self._entries and isinstance(site._tree, ProcFS) for site in own_sites()):
            why = "its unload would wait for this very call: give it to this_module().start_soon()"
            raise error(EDEADLK, self.name, why)

    # -- references -----------------------------------------------------------------------------

    @property
    def refcnt(self) -> int:
        """References to it: 1 while init runs, -1 once it unloads (``module_refcount``)."""
        return self._refcnt - MODULE_REF_BASE

    def try_get(self) -> bool:
        """
        Take a reference, unless it is going. Not a checkpoint.

        Also a module whose init still runs can be referred to, as in Linux.

        Returns:
            True if the caller now owes one :meth:`put`.

        Linux: ``try_module_get``.
        """
        if self.state in {ModuleState.GOING, ModuleState.GONE} or self._refcnt == 0:
            return False
        self._refcnt += 1
        return True

    def get(self) -> None:
        """Take one more reference, by whoever has one already (``__module_get``)."""
        self._refcnt += 1

    def put(self) -> None:
        """
        Give a reference back. Not a checkpoint.

        Raises:
            RuntimeError: There is none: a ``put()`` without its ``try_get()``. Linux takes the
                base count then, and the module can never be referred to again.

        Linux: ``module_put``.
        """
        if self._refcnt <= MODULE_REF_BASE:
            msg = f"put() without try_get() on {self!r}: call it once for each that was True"
            raise RuntimeError(msg)
        self._refcnt -= 1

    def _release(self) -> None:
        """
        Refuse references from now on, and take the base count away if none is held.

        One step, after the checks in the same one. Linux subtracts, looks, and adds back what was
        too much; a put in between is why it must not add to zero (``try_release_module_ref``).
        """
        if self._refcnt == MODULE_REF_BASE:
            self._refcnt = 0
        self.state = ModuleState.GOING

    def _use(self, other: Module) -> None:
        """Depend on *other*, which stays as long as this module does (``ref_module``)."""
        other.get()
        other._used_by[self] = None
        self._uses.append(other)

    # -- its own tasks --------------------------------------------------------------------------

    def start_soon(
        self, func: Callable[..., Awaitable[Any]], *args: Any, name: object = None
    ) -> None:
        """
        Run a background task for as long as the module is there. Not a checkpoint.

        At rmmod it is cancelled when exit has run and the module's entries are gone, and waited
        for. A task that ends with an error stops nothing else, as a kernel thread that oopses
        does not: the error is logged, counted in :attr:`Kernel.oopses`, and raised by who unloads
        the module, in an ``ExceptionGroup``.

        Raises:
            RuntimeError: The module is gone, or its event loop is another thread's.
            TypeError: *func* is no function; pass ``work, 1`` and not ``work(1)``.
        """
        _check_function(func)
        check_thread(self, self._thread)
        if self.state is ModuleState.GONE:
            msg = f"{self!r} starts no tasks: it is gone"
            raise RuntimeError(msg)
        self._tasks.start_soon(self._background, func, args, name=name or f"{self.name}: {func!r}")

    async def _background(self, func: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        async def run() -> None:
            await func(*args)

        with self._kthread("a task"):
            try:
                await Stepped(self, run())
            except Exception as exc:  # whatever a module does, the others go on
                self._log._oops(self, exc)

    @contextmanager
    def _kthread(self, what: str) -> Generator[None]:
        """Make the running task one of its own for the length of a block."""
        current_owner.set(self)
        number = anyio.get_current_task().id
        self._kthreads[number] = what
        try:
            yield
        finally:
            del self._kthreads[number]

    def _adopt_context(self) -> None:
        """Run on with the context of who unloads it, as release handlers then do too."""
        assert self._context is not None
        for variable, value in self._context.items():
            variable.set(value)
        current_owner.set(self)

    # -- what it has registered -----------------------------------------------------------------

    def _add(self, entry: ProcDirEntry) -> None:
        """
        Note an entry that its code has registered.

        Raises:
            OSError: ``EINVAL``: a permanent entry: it would outlive the module.
            UseAfterFreeError: The module is gone.
        """
        if entry.permanent:
            take_back(entry)
            raise error(EINVAL, entry.path, "a module's entry cannot be permanent")
        if self.state is ModuleState.GONE:
            take_back(entry)
            raise self._log._use_after_free(self.name, entry.path, "a registration")
        self._entries.add(entry)

    def _warn(self, forgotten: list[ProcDirEntry]) -> None:
        """Warn that exit has left something registered, if it has."""
        if not forgotten:
            return
        paths = ", ".join(entry.path for entry in forgotten)
        msg = f"module {self.name!r} was unloaded without removing {paths}: removed now"
        try:
            warnings.warn(msg, ResourceWarning, stacklevel=2)
        except ResourceWarning as exc:  # where warnings are errors
            self._errors.append(exc)

    # -- its end --------------------------------------------------------------------------------

    def _free(self) -> None:
        """
        Let go of its code, and leave traps in the tables of handlers that were a part of it.

        No reference to the code stays here: only who still reads it has one.
        """
        self.state = ModuleState.GONE
        for other in self._uses:
            del other._used_by[self]
            other.put()
        self._uses = []
        self._poison()
        if self._text is not None:
            self._text.free()
        self._text = self._exit = self._context = self._replaces = self.exports = None
        self._entries.clear()
        self.params = {}
        self._settled.set()
        self._gone.set()

    def _poison(self) -> None:
        handlers = tuple(PARAMETERS)
        for ops in self._entries.tables():
            if self._text is not None and self._text.holds(ops, handlers):
                poison(ops, self._log, self.name)


def this_module() -> Module:
    """
    Return the module whose init, exit, background task or handler this is. Not a checkpoint.

    A handler runs in its caller's task, but is code of the module that its entry belongs to. What
    a task registers that a handler has started belongs to nobody: start it with
    ``this_module().start_soon``.

    Raises:
        RuntimeError: Called from elsewhere.

    Linux: ``THIS_MODULE``.
    """
    entry = running_handler()
    owner = current_owner.get() if entry is None else owner_of(entry)
    if not isinstance(owner, Module):
        msg = "this_module() is for a module's init, exit, background tasks and handlers"
        raise RuntimeError(msg)  # noqa: TRY004  it is the place that is wrong, not a type
    return owner


def _check_function(func: object) -> None:
    if callable(func):
        return
    if isinstance(func, CoroutineType):
        func.close()  # or Python warns that nobody awaited it
    msg = f"start_soon() wants an async function that is not called yet, not {func!r:.60}"
    raise TypeError(msg)


def check_module(module: object) -> None:
    """Refuse what is neither a module nor None, which stands for code that no module holds."""
    if module is not None and not isinstance(module, Module):
        msg = f"a module is what insmod() or find_module() returns, not {module!r:.60}"
        raise TypeError(msg)
