"""The modules of a kernel: which there are, and how each lives (kernel/module/main.c)."""

from __future__ import annotations

import inspect
import os
from contextlib import asynccontextmanager
from contextvars import copy_context
from errno import EBUSY, EEXIST, EINTR, ELOOP, ENOENT, EWOULDBLOCK
from typing import TYPE_CHECKING, Any, Final, cast, final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from ._errors import error
from ._kmod import MODULE_NAME_LEN, check_module_name
from ._module import EXIT, Module, ModuleState
from ._params import check_params
from ._trace import emit, logger, sinks
from ._turn import Stepped, switch
from ._unload import UnloadWatch
from ._watch import RemovalTimeoutError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from ._kmod import Programs, Source
    from ._module import Log
    from ._procfs import ProcFS

# How long an init waits for that of a module it depends on, in seconds, as in Linux.
PATIENCE: Final = 30.0


@final
class Modules:
    """
    The modules of one kernel, each with a task of its own, and what may be done with them when.

    Args:
        kernel: What their main functions get, and their accidents are told.
        proc: The tree, whose grace and hung-task timeout are those of an unload.
        programs: Where the dependencies of a module are found.
    """

    def __init__(self, kernel: Log, proc: ProcFS, programs: Programs) -> None:
        self._kernel = kernel
        self._proc = proc
        self._programs = programs
        # Made when it is entered: a kernel may be made before there is a loop.
        self._tasks: TaskGroup
        self._closed = True
        # By name; and, in the order in which they were loaded, these and the others: the new
        # version of a reload while its init runs, and the old one until it is gone.
        self.by_name: dict[str, Module] = {}
        self.all: dict[Module, None] = {}
        self._failed: list[Module] = []

    async def open(self) -> None:
        """Take modules from now on."""
        self._tasks = await anyio.create_task_group().__aenter__()
        self._closed = False

    async def close(self) -> None:
        """Unload every module, and take none meanwhile."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            await self._unload_everything()
        # Not told of what the block was left with, which the group would wrap.
        await self._tasks.__aexit__(None, None, None)

    # -- loading --------------------------------------------------------------------------------

    async def insmod(
        self, source: Source, params: dict[str, Any], *, probe: bool, user: Module | None = None
    ) -> Module:
        """
        Load a module, and return when its init is done.

        Args:
            probe: Whether to load what it depends on, too.
            user: The module that depends on it, if it is loaded for that.
        """
        self.refuse_closed()
        await self._wait_for_namesake(source.name)
        module = Module(self._kernel, source, params)
        self.by_name[module.name] = module
        if user is not None:
            user._waits_for = module
        self.start(module, probe=probe)
        return await self.wait_loaded(module)

    def refuse_closed(self) -> None:
        """Refuse to load anything outside of the kernel's block."""
        if self._closed:
            cure = "load them inside 'async with Kernel() as kernel:'"
            msg = f"{self._kernel!r} takes no modules: {cure}"
            raise RuntimeError(msg)

    async def _wait_for_namesake(self, name: str) -> None:
        """Refuse a name that is taken, once it is clear by what (``add_unformed_module``)."""
        other = self.by_name.get(name)
        if other is None:
            return
        if not other._settled.is_set():
            await other._settled.wait()
            other = self.by_name.get(name)
        if other is not None and other.state is ModuleState.LIVE:
            raise error(EEXIST, name, "the module is loaded: rmmod it first, or reload it")
        raise error(EBUSY, name, "the module is going, or could not be loaded: try again")

    def start(self, module: Module, *, probe: bool) -> None:
        """Begin the life of a module, in a task of its own."""
        self.all[module] = None
        self._tasks.start_soon(self._live, module, probe, name=f"module {module.name}")

    async def wait_loaded(self, module: Module) -> Module:
        """Wait until its init is done, or what that left is undone; raise what it raised."""
        try:
            await module._settled.wait()
            if module._failure is not None:
                await module._gone.wait()
        except BaseException:
            module._cancel_init()
            raise
        failure, module._failure = module._failure, None
        if failure is not None:
            raise failure
        return module

    async def modprobe(self, name: str, params: dict[str, Any], user: Module | None) -> Module:
        """Load a module by name and what it depends on, unless it is loaded; see insmod()."""
        check_module_name(name)
        module = self.by_name.get(name)
        if module is None or module.state is ModuleState.GOING:
            return await self.insmod(self._programs.find(name), params, probe=True, user=user)
        self._refuse_cycle(module, user)
        if user is not None:
            user._waits_for = module
        await module._settled.wait()
        if module.state is not ModuleState.LIVE:
            raise error(EBUSY, name, "the module could not be loaded")
        return module

    def _refuse_cycle(self, module: Module, user: Module | None) -> None:
        at: Module | None = module
        while user is not None and at is not None:
            if at is user:
                raise error(ELOOP, user.name, f"it depends on {module.name!r}, and that on it")
            at = at._waits_for

    # -- the life of a module, in its own task --------------------------------------------------

    async def _live(self, module: Module, probe: bool) -> None:
        """Run init, wait for the unload, run exit; then see that nothing is left, and free it."""
        # Whoever is cancelled, the kernel's own work goes on.
        with module._kthread(EXIT), module._life:
            try:
                async with module._tasks:
                    # Around exit too: init may leave scopes of its own open, which exit closes.
                    with module._init_scope:
                        if await self._init(module, probe=probe):
                            await module._unload.wait()
                        await Stepped(module, self._exit(module))
                    if not module._settled.is_set():
                        self._fail(module, error(EINTR, module.name, "init was cancelled"))
                    await Stepped(module, self._sweep(module))
                    module._tasks.cancel_scope.cancel()
                # Again: a task may have registered something while it was cancelled.
                await Stepped(module, self._sweep(module))
            finally:
                self._free(module)

    async def _init(self, module: Module, *, probe: bool) -> bool:
        try:
            await Stepped(module, self._load(module, probe=probe))
            self._go_live(module)
        except (Exception, SystemExit) as exc:  # what an exit() means, who loads it says
            if module._init_scope.cancel_called:  # so who wanted it may be gone
                logger.warning("the init of %r failed when cancelled", module.name, exc_info=exc)
            self._fail(module, exc)
            return False
        return True

    def _fail(self, module: Module, exc: Exception | SystemExit) -> None:
        module._failure = exc
        module.state = ModuleState.GOING
        module._settled.set()

    async def _load(self, module: Module, *, probe: bool) -> None:
        text = module._text = module._source.load()
        module._size = text.size
        for name in text.depends:
            module._use(await self._resolve(module, name, probe=probe))
        module.state = ModuleState.COMING
        # Those it uses may have been loaded on its behalf, and came first.
        self.all[module] = self.all.pop(module)
        check_params(module.name, text.main, module.params)
        exit_ = _context_manager(text.main(self._kernel, **module.params))
        if inspect.isawaitable(exit_):
            module._permanent = True
            await exit_
        else:
            module.exports = await exit_.__aenter__()
            await self._refuse_cancelled(exit_)
            module._exit = exit_

    async def _refuse_cancelled(self, exit_: Any) -> None:
        """Take an init back that has succeeded although it was cancelled."""
        try:
            await checkpoint_if_cancelled()
        except BaseException as exc:
            await exit_.__aexit__(type(exc), exc, exc.__traceback__)
            raise

    async def _resolve(self, module: Module, name: str, *, probe: bool) -> Module:
        """Find a module that another depends on, once it is loaded (``resolve_symbol_wait``)."""
        if probe:
            await self.modprobe(name, {}, module)
            module._waits_for = None
        needed = self.by_name.get(name)
        if needed is not None and not needed._settled.is_set():
            with anyio.move_on_after(PATIENCE):
                await needed._settled.wait()
            needed = self.by_name.get(name)
        if needed is None or needed.state is ModuleState.GOING:
            raise error(ENOENT, module.name, f"it depends on {name!r}, which is not loaded")
        if needed.state is not ModuleState.LIVE:
            raise error(EBUSY, module.name, f"it depends on {name!r}, which is still loading")
        return needed

    def _go_live(self, module: Module) -> None:
        if module._replaces is not None:
            self._replace(module._replaces, module)
        module.put()
        module.state = ModuleState.LIVE
        module._settled.set()
        if sinks:
            emit("insmod", module.name)

    async def _exit(self, module: Module) -> None:
        exit_, module._exit = module._exit, None
        if exit_ is not None:
            if module._context is not None:
                module._adopt_context()
            try:
                await exit_.__aexit__(None, None, None)
            except (Exception, SystemExit) as exc:  # an unload does not stop half-way
                module._errors.append(exc)

    async def _sweep(self, module: Module) -> None:
        forgotten = await module._entries.sweep(module._errors)
        # What a failed init leaves is its error's business, and needs no warning.
        if module._context is not None:
            module._warn(forgotten)

    def _free(self, module: Module) -> None:
        del self.all[module]
        if self.by_name.get(module.name) is module:
            del self.by_name[module.name]
        if module._replaces is not None:
            module._replaces._replaced_by = None
        if module._errors:
            self._failed.append(module)
        module._free()

    # -- unloading ------------------------------------------------------------------------------

    def may_unload(self, name: str, *, force: bool) -> Module:
        """Find a module by name, and refuse what forbids to unload it."""
        check_module_name(name)
        module = self.by_name.get(name)
        if module is None or len(os.fsencode(name)) >= MODULE_NAME_LEN:
            raise error(ENOENT, name, "no such module")
        if module._used_by:
            users = ", ".join(user.name for user in module._used_by)
            raise error(EWOULDBLOCK, name, f"in use by {users}")
        if module.state is not ModuleState.LIVE or module._replaced_by is not None:
            state = "reloading" if module._replaced_by else module.state.value.lower()
            raise error(EBUSY, name, f"the module is {state}: wait until that is over")
        if module._permanent and not force:
            raise error(EBUSY, name, "it has an init and no exit: force it, with os.O_TRUNC")
        self._refuse_references(module, force=force)
        module._refuse_own_handlers()
        return module

    def _refuse_references(self, module: Module, *, force: bool) -> None:
        if module.refcnt and not force:
            raise error(EWOULDBLOCK, module.name, f"references are held: {module.refcnt}")

    def begin_unload(self, module: Module) -> None:
        """Have its task go on to its exit; it does not come back."""
        module._release()
        module._context = copy_context()
        module._unload_began = anyio.current_time()
        module._unload.set()
        if sinks:
            emit("rmmod", module.name)

    async def wait_unloaded(self, module: Module, grace: float | None = None) -> None:
        """Wait until it is gone; raise what its code raised on the way."""
        await self._wait_gone(module, self._proc._reaper.grace if grace is None else grace)
        if module._errors:
            self._failed.remove(module)
            msg = f"the module {module.name!r} is unloaded, and some of its code failed"
            raise BaseExceptionGroup(msg, module._errors)

    async def _wait_gone(self, module: Module, grace: float | None) -> None:
        watch = UnloadWatch(
            module, grace=grace, hung_task_timeout=self._proc._reaper.hung_task_timeout
        )
        await watch.wait(module._gone)

    def _replace(self, old: Module, new: Module) -> None:
        """Change the places of two versions; or refuse, and nothing was changed."""
        if old._used_by:
            raise error(EWOULDBLOCK, old.name, "a module that depends on it was loaded meanwhile")
        self._refuse_references(old, force=False)
        in_the_way = switch(old, new)
        if in_the_way:
            raise error(EEXIST, in_the_way[0].path, "registered by somebody else meanwhile")
        new._replaces = None
        self.by_name[new.name] = new
        self.begin_unload(old)

    async def _unload_everything(self) -> None:
        for module in self.all:
            module._cancel_init()
        # Who uses another was formed after it.
        for module in reversed(list(self.all)):
            await module._settled.wait()
            if module.state is ModuleState.LIVE:
                self.begin_unload(module)
            try:
                await self._wait_gone(module, self._proc._reaper.grace)
            except RemovalTimeoutError as exc:
                # The tree comes next, and tells who is inside; but not whose exit does not end.
                if not module.holders():
                    module._errors.append(exc)
                module._life.cancel()
                await module._gone.wait()

    def raise_failures(self, exc: BaseException | None) -> None:
        """Raise what code of modules raised that nobody was told, and *exc* with it."""
        errors = [failure for module in self._failed for failure in module._errors]
        if errors:
            if isinstance(exc, Exception):
                errors.insert(0, exc)
            msg = "code of modules failed, and nobody awaited their end"
            raise BaseExceptionGroup(msg, errors)


def _context_manager(result: Any) -> Any:
    """Take what a module's main function returned: a context manager, or an awaitable."""
    if inspect.isasyncgen(result):
        return asynccontextmanager(lambda: cast("AsyncGenerator[Any]", result))()
    if hasattr(result, "__aenter__") or inspect.isawaitable(result):
        return result
    msg = f"a module's main function yields once, and is async; it returned {result!r:.60}"
    raise TypeError(msg)
