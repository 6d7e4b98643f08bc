"""A kernel: one tree, and the modules whose entries are in it; what its user does with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self, final

from anyio.lowlevel import checkpoint

from ._cdev import DevFS
from ._check import check_int, check_seconds, check_thread
from ._kmod import Programs, Source, check_module_name
from ._module import Module, ModuleState, check_module
from ._modules import Modules
from ._poison import UseAfterFreeError
from ._procfs import ProcFS
from ._register import check_entry
from ._trace import logger
from ._turn import Turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from ._entry import ProcDirEntry
    from ._kmod import Program
    from ._module import ModuleInfo


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
        self.proc._owners = self.dev._owners = self
        self.oopses: int = 0
        """How many background tasks of modules have ended with an error."""
        self.uses_after_free: int = 0
        """How often code of a module that is gone was reached."""
        self._modules = Modules(self, self.proc, Programs(modules or {}, module_path))

    def __repr__(self) -> str:
        return f"<Kernel {self.proc.root.name!r} modules={list(self._modules.by_name)}>"

    async def __aenter__(self) -> Self:
        await self.proc.__aenter__()
        await self._modules.open()
        self.proc.create_single("modules", self._show_modules)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.proc._refuse_to_leave()
        try:
            await self._modules.close()
        finally:
            await self.proc.__aexit__(exc_type, exc, tb)
        self._modules.raise_failures(exc)

    # -- telling --------------------------------------------------------------------------------

    def lsmod(self) -> list[ModuleInfo]:
        """
        Tell which modules there are, those loaded last first. Not a checkpoint.

        During a reload there are two of one name.

        Linux: /proc/modules, where the same stands.
        """
        listed = [m for m in self._modules.all if m.state is not ModuleState.UNFORMED]
        return [module.info() for module in reversed(listed)]

    async def _show_modules(self) -> str:
        return "".join(f"{info}\n" for info in self.lsmod())

    def find_module(self, name: str) -> Module | None:
        """Return the module of that name, in whatever state. Not a checkpoint."""
        check_module_name(name)
        return self._modules.by_name.get(name)

    def try_module_get(self, module: Module | None) -> bool:
        """
        Take a reference to a module, unless it is going; it stays loaded. Not a checkpoint.

        To be called from outside the module, before entering it: its own code is too late.

        Returns:
            True if the caller now owes one :meth:`module_put`; for None too, as in Linux, where
            that is code no module holds.

        Linux: ``try_module_get``.
        """
        check_module(module)
        return module is None or module.try_get()

    def module_put(self, module: Module | None) -> None:
        """
        Give a reference back; None is let pass. Not a checkpoint.

        Raises:
            RuntimeError: A put without its get.

        Linux: ``module_put``.
        """
        check_module(module)
        if module is not None:
            module.put()

    def owner_of(self, entry: ProcDirEntry) -> Module | None:
        """Return the module that an entry belongs to, and so its handlers. Not a checkpoint."""
        check_entry(entry)
        return next((module for module in self._modules.all if entry in module._entries), None)

    # -- accidents ------------------------------------------------------------------------------

    def _oops(self, module: Module, exc: Exception) -> None:
        """Note that a background task of a module ended with an error."""
        self.oopses += 1
        module._errors.append(exc)
        logger.error("a task of the module %r has failed", module.name, exc_info=exc)

    def _use_after_free(self, module: str, entry: str, handler: str) -> UseAfterFreeError:
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
            TypeError: The main function does not take these *params*, or wants others.
            Exception: Whatever init raised. Exit does not run then; what init registered is
                removed, and its background tasks are cancelled, before this raises.

        Linux: ``finit_module``, ``load_module``, ``do_init_module``.
        """
        check_thread(self, self.proc._thread)
        await checkpoint()
        return await self._modules.insmod(Source(program, name), params, probe=False)

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
        check_thread(self, self.proc._thread)
        await checkpoint()
        return await self._modules.modprobe(name, params, None)

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
        check_int("flags, as os.O_TRUNC,", flags)
        check_thread(self, self.proc._thread)
        await checkpoint()
        force = bool(flags & os.O_TRUNC)
        module = self._modules.may_unload(name, force=force)
        self._modules.begin_unload(module)
        await self._modules.wait_unloaded(module, grace)

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
        check_thread(self, self.proc._thread)
        await checkpoint()
        self._modules.refuse_closed()
        old = self._modules.may_unload(name, force=False)
        source = old._source if program is None else Source(program, name)
        new = Module(self, source, {**old.params, **params})
        new._replaces, old._replaced_by, new._turn = old, new, Turn(new, old)
        self._modules.start(new, probe=False)
        await self._modules.wait_loaded(new)
        await self._modules.wait_unloaded(old)
        return new
