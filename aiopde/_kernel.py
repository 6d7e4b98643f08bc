"""A kernel: one tree, and the modules whose entries are in it (kernel/module/main.c)."""

from __future__ import annotations

import inspect
import os
from contextlib import asynccontextmanager
from contextvars import copy_context
from errno import EBUSY, EEXIST, EINTR, ELOOP, ENOENT, EWOULDBLOCK
from typing import TYPE_CHECKING, Any, Final, Self, cast, final

import anyio
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from ._cdev import DevFS
from ._errors import error
from ._kmod import MODULE_NAME_LEN, Source
from ._module import EXIT, Module, ModuleState, Stepped, Turn, UseAfterFreeError, switch
from ._procfs import ProcFS
from ._trace import emit, logger, sinks
from ._unload import UnloadWatch
from ._watch import RemovalTimeoutError, check_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping
    from types import TracebackType

    from ._entry import ProcDirEntry
    from ._kmod import Program
    from ._module import ModuleInfo

# How long an init waits for that of a module it depends on, in seconds, as in Linux.
PATIENCE: Final = 30.0


@final
class Kernel:
    """
    A tree of entries and the modules they belong to. Several may live in one program.

    Use it as an async context manager::

        async def hello(kernel: Kernel) -> AsyncIterator[None]:
            entry = kernel.proc.create("hello", ProcOps(read=read))
            yield
            await entry.remove()

        async with Kernel() as kernel:
            await kernel.insmod(hello)
            print(await kernel.proc.read_text("modules"))
            await kernel.rmmod("hello")

    A module is an async generator function that takes the kernel, and parameters by keyword:
    before its one ``yield`` it is init, after it exit. Or anything that, called like that, returns
    an async context manager; or a coroutine function, which is an init without an exit: such a
    module is permanent, and only force unloads it. It may be in a file, which then defines it
    under the name ``module_main``. It needs no care for task groups or cancel scopes around the
    ``yield``: each module's init and exit run in one task, which is its own.

    Leaving the block unloads every module, those loaded last first, by force if need be, and then
    removes what is left in the tree. It waits for the calls inside, but no longer than the tree's
    grace, and is not cut short by cancellation.

    Args:
        modules: Programs by name, which :meth:`modprobe` finds.
        module_path: Folders where it looks for ``NAME.py`` if none of these has the name.
        mountpoint: What absolute paths begin with; this and the others are for the
            :class:`ProcFS`.
    """

    def __init__(
        self,
        *,
        modules: Mapping[str, Program] | None = None,
        module_path: Iterable[str | os.PathLike[str]] = (),
        mountpoint: str = "/proc",
        fast_acquire: bool = False,
        grace: float | None = None,
        hung_task_timeout: float | None = 10.0,
    ) -> None:
        self.proc: ProcFS = ProcFS(
            mountpoint=mountpoint,
            fast_acquire=fast_acquire,
            grace=grace,
            hung_task_timeout=hung_task_timeout,
        )
        """The tree."""
        self.dev: DevFS = DevFS()
        """Character devices, for contrast."""
        self.proc.owners = self.dev.owners = self
        self.oopses: int = 0
        """How many background tasks of modules have ended with an error."""
        self.uses_after_free: int = 0
        """How often code of a module that is gone was reached."""
        self._programs = dict(modules or {})
        self._folders = _folders(module_path)
        self._tasks = anyio.create_task_group()
        self._closing = True
        # By name; and, in the order in which they were loaded, these and the others: the new
        # version of a reload while its init runs, and the old one until it is gone.
        self._table: dict[str, Module] = {}
        self._all: dict[Module, None] = {}
        self._failed: list[Module] = []

    def __repr__(self) -> str:
        return f"<Kernel {self.proc.root.name!r} modules={list(self._table)}>"

    async def __aenter__(self) -> Self:
        await self.proc.__aenter__()
        await self._tasks.__aenter__()
        self._closing = False
        self.proc.create_single("modules", self._show_modules)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._closing = True
        try:
            with anyio.CancelScope(shield=True):
                await self._unload_everything()
            # Not told of *exc*, which the group would wrap.
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self.proc.__aexit__(exc_type, exc, tb)
        self._raise_failures(exc)

    async def _unload_everything(self) -> None:
        for module in self._all:
            module.cancel_init()
        # Who uses another was formed after it.
        for module in reversed(list(self._all)):
            await module.settled.wait()
            if module.state is ModuleState.LIVE:
                self._begin_unload(module)
            try:
                await self._wait_gone(module, self.proc._reaper.grace)
            except RemovalTimeoutError as exc:
                # The tree comes next, and tells who is inside; but not whose exit does not end.
                if not module.holders():
                    module.errors.append(exc)
                module.life.cancel()
                await module.gone.wait()

    def _raise_failures(self, exc: BaseException | None) -> None:
        errors = [failure for module in self._failed for failure in module.errors]
        if errors:
            if isinstance(exc, Exception):
                errors.insert(0, exc)
            msg = "code of modules failed, and nobody awaited their end"
            raise ExceptionGroup(msg, errors)

    # -- telling --------------------------------------------------------------------------------

    def lsmod(self) -> list[ModuleInfo]:
        """
        Tell which modules there are, those loaded last first. Not a checkpoint.

        During a reload there are two of one name.

        Linux: /proc/modules, where the same stands.
        """
        listed = [m for m in self._all if m.state is not ModuleState.UNFORMED]
        return [module.info() for module in reversed(listed)]

    async def _show_modules(self) -> str:
        return "".join(f"{info}\n" for info in self.lsmod())

    def find_module(self, name: str) -> Module | None:
        """Return the module of that name, in whatever state. Not a checkpoint."""
        return self._table.get(name)

    def try_module_get(self, module: Module | None) -> bool:
        """
        Take a reference to a module, unless it is going; it stays loaded. Not a checkpoint.

        To be called from outside the module, before entering it: its own code is too late.

        Returns:
            True if the caller now owes one :meth:`module_put`; for None too, as in Linux, where
            that is code no module holds.

        Linux: ``try_module_get``.
        """
        return module is None or module.try_get()

    def module_put(self, module: Module | None) -> None:
        """
        Give a reference back; None is let pass. Not a checkpoint.

        Raises:
            RuntimeError: A put without its get.

        Linux: ``module_put``.
        """
        if module is not None:
            module.put()

    def owner_of(self, entry: ProcDirEntry) -> Module | None:
        """Return the module that an entry belongs to, and so its handlers. Not a checkpoint."""
        return next((module for module in self._all if entry in module.entries), None)

    # -- accidents ------------------------------------------------------------------------------

    def oops(self, module: Module, exc: Exception) -> None:
        """Note that a background task of a module ended with an error."""
        self.oopses += 1
        module.errors.append(exc)
        logger.error("a task of the module %r has failed", module.name, exc_info=exc)

    def use_after_free(self, module: str, entry: str, handler: str) -> UseAfterFreeError:
        """Count a call into a module that is gone, and make its error."""
        self.uses_after_free += 1
        exc = UseAfterFreeError(module, entry, handler)
        logger.error("%s", exc)
        return exc

    # -- loading --------------------------------------------------------------------------------

    async def insmod(self, program: Program, name: str | None = None, /, **params: Any) -> Module:
        """
        Load a module: run its init, and return when that is done.

        A checkpoint, before anything happens. If cancelled while init runs, init is cancelled too,
        and what it had done is undone in the kernel's own task group; this raises at once. Init
        and exit have a task of their own, with a copy of the caller's context.

        Args:
            program: The module's main function; the path of a Python file that defines
                ``module_main`` (a ``str`` with a slash or ``.py`` at its end, or a
                ``pathlib.Path``); or an import path of such a file. Files are read anew, and do
                not become a part of ``sys.modules`` under their name.
            name: What to call it; by default as the function or the file is called.
            params: For the main function.

        Raises:
            OSError: ``EEXIST``: there is one of that name; ``EBUSY``: there is one and it is
                going, or it was just loading and did not come to live, or a module that this one
                depends on is still loading after 30 s; ``ENOENT``: one that it depends on is not
                there, or there is no such file; ``ENOEXEC``: no module; ``EINTR``: the kernel
                was left.
            Exception: Whatever init raised. Exit does not run then; what init registered is
                removed, and its background tasks are cancelled, before this raises.

        Linux: ``finit_module``, ``load_module``, ``do_init_module``.
        """
        await checkpoint()
        return await self._insmod(Source(program, name), params, probe=False)

    async def _insmod(
        self, source: Source, params: dict[str, Any], *, probe: bool, user: Module | None = None
    ) -> Module:
        self._refuse_closed()
        await self._wait_for_namesake(source.name)
        module = Module(self, source, params)
        self._table[module.name] = module
        if user is not None:
            user.waits_for = module
        self._start(module, probe=probe)
        return await self._wait_loaded(module)

    def _refuse_closed(self) -> None:
        if self._closing:
            msg = f"{self!r} takes no modules: load them inside 'async with Kernel() as kernel:'"
            raise RuntimeError(msg)

    async def _wait_for_namesake(self, name: str) -> None:
        """Refuse a name that is taken, once it is clear by what (``add_unformed_module``)."""
        other = self._table.get(name)
        if other is None:
            return
        if not other.settled.is_set():
            await other.settled.wait()
            other = self._table.get(name)
        if other is not None and other.state is ModuleState.LIVE:
            raise error(EEXIST, name, "the module is loaded: rmmod it first, or reload it")
        raise error(EBUSY, name, "the module is going, or could not be loaded: try again")

    def _start(self, module: Module, *, probe: bool) -> None:
        self._all[module] = None
        self._tasks.start_soon(self._live, module, probe, name=f"module {module.name}")

    async def _wait_loaded(self, module: Module) -> Module:
        try:
            await module.settled.wait()
            if module.failure is not None:
                await module.gone.wait()
        except BaseException:
            module.cancel_init()
            raise
        failure, module.failure = module.failure, None
        if failure is not None:
            raise failure
        return module

    async def modprobe(self, name: str, /, **params: Any) -> Module:
        """
        Load a module by name, and before it those that it depends on and that are not loaded.

        If it is loaded already, that is all; if it is loading, that is waited for. A checkpoint;
        about cancellation see :meth:`insmod`. Modules loaded on the way stay.

        Args:
            name: A key of the *modules* of this kernel, or the stem of a file in its
                *module_path*.
            params: For this module, not for those it depends on.

        Raises:
            OSError: Those of :meth:`insmod`; ``ENOENT``: no module of that name is known;
                ``ELOOP``: it depends on itself.
            Exception: Whatever an init raised.
        """
        await checkpoint()
        return await self._modprobe(name, params, None)

    async def _modprobe(self, name: str, params: dict[str, Any], user: Module | None) -> Module:
        module = self._table.get(name)
        if module is None or module.state is ModuleState.GOING:
            return await self._insmod(self._find_program(name), params, probe=True, user=user)
        self._refuse_cycle(module, user)
        if user is not None:
            user.waits_for = module
        await module.settled.wait()
        if module.state is not ModuleState.LIVE:
            raise error(EBUSY, name, "the module could not be loaded")
        return module

    def _find_program(self, name: str) -> Source:
        if name in self._programs:
            return Source(self._programs[name], name)
        for folder in self._folders:
            path = os.path.join(folder, f"{name}.py")
            if os.path.isfile(path):
                return Source(path, name)
        raise error(ENOENT, name, "no module of that name is known")

    def _refuse_cycle(self, module: Module, user: Module | None) -> None:
        at: Module | None = module
        while user is not None and at is not None:
            if at is user:
                raise error(ELOOP, user.name, f"it depends on {module.name!r}, and that on it")
            at = at.waits_for

    # -- the life of a module, in its own task --------------------------------------------------

    async def _live(self, module: Module, probe: bool) -> None:
        """Run init, wait for the unload, run exit; then see that nothing is left, and free it."""
        # Whoever is cancelled, the kernel's own work goes on.
        with module.thread(EXIT), module.life:
            try:
                async with module.tasks:
                    # Around exit too: init may leave scopes of its own open, which exit closes.
                    with module.init_scope:
                        if await self._init(module, probe=probe):
                            await module.unload.wait()
                        await Stepped(module, self._exit(module))
                    if not module.settled.is_set():
                        self._fail(module, error(EINTR, module.name, "init was cancelled"))
                    await Stepped(module, self._sweep(module))
                    module.tasks.cancel_scope.cancel()
                # Again: a task may have registered something while it was cancelled.
                await Stepped(module, self._sweep(module))
            finally:
                self._free(module)

    async def _init(self, module: Module, *, probe: bool) -> bool:
        try:
            await Stepped(module, self._load(module, probe=probe))
            self._go_live(module)
        except Exception as exc:
            if module.init_scope.cancel_called:  # so who wanted it may be gone
                logger.warning("the init of %r failed when cancelled", module.name, exc_info=exc)
            self._fail(module, exc)
            return False
        return True

    def _fail(self, module: Module, exc: Exception) -> None:
        module.failure = exc
        module.state = ModuleState.GOING
        module.settled.set()

    async def _load(self, module: Module, *, probe: bool) -> None:
        text = module.text = module.source.load()
        module.size = text.size
        for name in text.depends:
            module.use(await self._resolve(module, name, probe=probe))
        module.state = ModuleState.COMING
        # Those it uses may have been loaded on its behalf, and came first.
        self._all[module] = self._all.pop(module)
        exit_ = _context_manager(text.main(self, **module.params))
        if inspect.isawaitable(exit_):
            module.permanent = True
            await exit_
        else:
            module.exports = await exit_.__aenter__()
            await self._refuse_cancelled(exit_)
            module.exit = exit_

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
            await self._modprobe(name, {}, module)
            module.waits_for = None
        needed = self._table.get(name)
        if needed is not None and not needed.settled.is_set():
            with anyio.move_on_after(PATIENCE):
                await needed.settled.wait()
            needed = self._table.get(name)
        if needed is None or needed.state is ModuleState.GOING:
            raise error(ENOENT, module.name, f"it depends on {name!r}, which is not loaded")
        if needed.state is not ModuleState.LIVE:
            raise error(EBUSY, module.name, f"it depends on {name!r}, which is still loading")
        return needed

    def _go_live(self, module: Module) -> None:
        if module.replaces is not None:
            self._replace(module.replaces, module)
        module.put()
        module.state = ModuleState.LIVE
        module.settled.set()
        if sinks:
            emit("insmod", module.name)

    async def _exit(self, module: Module) -> None:
        exit_, module.exit = module.exit, None
        if exit_ is not None:
            if module.context is not None:
                module.adopt_context()
            try:
                await exit_.__aexit__(None, None, None)
            except Exception as exc:  # an unload does not stop half-way
                module.errors.append(exc)

    async def _sweep(self, module: Module) -> None:
        forgotten = await module.sweep()
        # What a failed init leaves is its error's business, and needs no warning.
        if module.context is not None:
            module.warn(forgotten)

    def _free(self, module: Module) -> None:
        del self._all[module]
        if self._table.get(module.name) is module:
            del self._table[module.name]
        if module.replaces is not None:
            module.replaces.replaced_by = None
        if module.errors:
            self._failed.append(module)
        module.free()

    # -- unloading ------------------------------------------------------------------------------

    async def rmmod(
        self, name: str, flags: int = os.O_NONBLOCK, *, grace: float | None = None
    ) -> None:
        """
        Unload a module: run its exit, and return when nothing of it is left.

        What is checked before is checked at once, and refused at once: it never waits for
        references. Then the module is going and does not come back. Its exit runs, which removes
        its entries and so waits for the calls inside; entries that it has forgotten are removed,
        with a ``ResourceWarning`` that names them; its background tasks are cancelled and waited
        for; last, the modules it depends on are given back.

        A checkpoint, before anything happens. If cancelled later it raises at once and the unload
        goes on in the kernel's own task group; :meth:`Module.wait_gone` joins it.

        Args:
            name: The module.
            flags: ``os.O_TRUNC`` forces: references and a missing exit are no obstacle then (a
                call inside an entry still is). ``O_NONBLOCK`` changes nothing, as in Linux.
            grace: Seconds to wait; by default the tree's. When they are over, calls of entries
                created as *killable* are cancelled; if it is not gone then, that is an error. It
                is the caller's: what exit removes is waited for without one, unless it says so.

        Raises:
            OSError: And nothing was changed. ``ENOENT``: no such module; ``EWOULDBLOCK``: another
                depends on it; ``EBUSY``: it is loading, going or being reloaded, or it has no
                exit; ``EWOULDBLOCK``: somebody holds a reference; ``EDEADLK``: the caller is
                inside one of its handlers. But if a task is told ``EDEADLK`` that such a handler
                waits for, the unload goes on.
            RemovalTimeoutError: The grace has ended; it tells who is still inside. The unload
                goes on.
            ExceptionGroup: It is unloaded, and what exit, release handlers or background tasks
                raised is in here.

        Linux: ``delete_module``, in its order.
        """
        check_seconds("grace", grace)
        await checkpoint()
        force = bool(flags & os.O_TRUNC)
        module = self._may_unload(name, force=force)
        self._begin_unload(module)
        await self._wait_unloaded(module, grace)

    def _may_unload(self, name: str, *, force: bool) -> Module:
        module = self._table.get(name)
        if module is None or len(os.fsencode(name)) >= MODULE_NAME_LEN:
            raise error(ENOENT, name, "no such module")
        if module.used_by:
            users = ", ".join(user.name for user in module.used_by)
            raise error(EWOULDBLOCK, name, f"in use by {users}")
        if module.state is not ModuleState.LIVE or module.replaced_by is not None:
            raise error(EBUSY, name, f"the module is {module.state.value.lower()}, or reloading")
        if module.permanent and not force:
            raise error(EBUSY, name, "it has an init and no exit: force it, with os.O_TRUNC")
        self._refuse_references(module, force=force)
        module.refuse_own_handlers()
        return module

    def _refuse_references(self, module: Module, *, force: bool) -> None:
        if module.refcnt and not force:
            raise error(EWOULDBLOCK, module.name, f"references are held: {module.refcnt}")

    def _begin_unload(self, module: Module) -> None:
        module.release()
        module.context = copy_context()
        module.unload_began = anyio.current_time()
        module.unload.set()
        if sinks:
            emit("rmmod", module.name)

    async def _wait_unloaded(self, module: Module, grace: float | None = None) -> None:
        await self._wait_gone(module, self.proc._reaper.grace if grace is None else grace)
        if module.errors:
            self._failed.remove(module)
            msg = f"the module {module.name!r} is unloaded, and some of its code failed"
            raise ExceptionGroup(msg, module.errors)

    async def _wait_gone(self, module: Module, grace: float | None) -> None:
        watch = UnloadWatch(
            module, grace=grace, hung_task_timeout=self.proc._reaper.hung_task_timeout
        )
        await watch.wait(module.gone)

    # -- another version ------------------------------------------------------------------------

    async def reload(self, name: str, program: Program | None = None, /, **params: Any) -> Module:
        """
        Load a new version of a module in the place of the old one, and unload that.

        The new version's init runs beside the old one, which serves until then; nobody but the new
        version sees what it registers. When its init is done, its names take the place of the old
        ones in one step: there is no moment at which a name that both have is missing. Then the
        old version's exit runs, and finds its own names. Calls inside the old version end there,
        with its results; files that it opened are released by it, and dead, as after rmmod: none
        ever reaches the new version. The old code is gone when its last reader has closed.

        It all holds for what init, exit and the module's own background tasks do; a task that they
        start in another way sees the tree as everybody does.

        A checkpoint. If cancelled while the new init runs, that is cancelled and undone, and the
        old version stays; later, the unload goes on without the caller.

        Args:
            name: The module.
            program: The new version; by default what the old one was loaded from, read anew.
            params: For the new version; those not given are the old one's.

        Returns:
            The new version, live; the old one is gone by then.

        Raises:
            OSError: And the old version runs on. Those of :meth:`rmmod`, also if they come true
                only while the new init runs; those of :meth:`insmod`; ``EEXIST``: a new name
                was taken meanwhile.
            Exception: Whatever the new init raised; the old version runs on.
            RemovalTimeoutError: The new version is live; the old one's calls have not ended within
                the tree's grace, and its unload goes on. So it is with the ``EDEADLK`` of a task
                that one of these calls waits for.
            ExceptionGroup: The new version is live, and the old one failed in going.

        Linux: has no such thing; ``rmmod`` and ``insmod`` leave a gap.
        """
        await checkpoint()
        self._refuse_closed()
        old = self._may_unload(name, force=False)
        source = old.source if program is None else Source(program, name)
        new = Module(self, source, {**old.params, **params})
        new.replaces, old.replaced_by, new.turn = old, new, Turn(new, old)
        self._start(new, probe=False)
        await self._wait_loaded(new)
        await self._wait_unloaded(old)
        return new

    def _replace(self, old: Module, new: Module) -> None:
        """Change the places of two versions; or refuse, and nothing was changed."""
        if old.used_by:
            raise error(EWOULDBLOCK, old.name, "a module that depends on it was loaded meanwhile")
        self._refuse_references(old, force=False)
        in_the_way = switch(old, new)
        if in_the_way:
            raise error(EEXIST, in_the_way[0].path, "registered by somebody else meanwhile")
        new.replaces = None
        self._table[new.name] = new
        self._begin_unload(old)


def _folders(module_path: object) -> list[str]:
    if isinstance(module_path, str | os.PathLike):  # whose letters would be folders
        msg = f"module_path is a list of folders: pass [{module_path!r}]"
        raise TypeError(msg)
    return [os.fspath(folder) for folder in cast("Iterable[str]", module_path)]


def _context_manager(result: Any) -> Any:
    """Take what a module's main function returned: a context manager, or an awaitable."""
    if inspect.isasyncgen(result):
        return asynccontextmanager(lambda: cast("AsyncGenerator[Any]", result))()
    if hasattr(result, "__aenter__") or inspect.isawaitable(result):
        return result
    msg = f"a module's main function yields once, and is async; it returned {result!r:.60}"
    raise TypeError(msg)
