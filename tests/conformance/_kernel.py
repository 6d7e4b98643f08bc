"""The registration side: entries with handlers that log, sleep in gates and do as they are told."""

from __future__ import annotations

import os
import select
from contextlib import contextmanager
from contextvars import ContextVar
from errno import ENOENT
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

from aiopde import ProcOps, SeqOps, WaitQueue

from ._actors import CURRENT, ERESTARTSYS, Sleep
from ._scenario import Event
from ._words import Result, decode, name_errno, number, to_bytes, to_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from anyio.abc import TaskGroup

    from aiopde import File, Kernel as Library, ProcDirEntry, SeqFile

PAGE: Final = 4096
DEFAULT_MASK: Final = select.POLLIN | select.POLLRDNORM
REMOVALS: Final = frozenset({"remove_entry", "remove_subtree", "proc_remove"})
MODULE_DATA: Final = {
    "pdemod": "pdemod says hello%0a",
    "pdedep": "",
    "chrmod": "chrmod says hello%0a",
}
"""By module: what its file holds."""
LOGGED: Final = 29
"""How much of a path the kernel's log has room for."""


class Waiter:
    """Who wants to hear of a wake-up: a poll, or an item of an epoll."""

    def __init__(self) -> None:
        self.queued = False
        self.woken = False
        self.sleep: Sleep | None = None

    def wake(self) -> None:
        """Hear of it, now or when looking next."""
        self.woken = True
        if self.sleep is not None:
            self.sleep.wake("woken")


POLL_TABLE: Final[ContextVar[Waiter | None]] = ContextVar("POLL_TABLE", default=None)
"""Whom a poll handler puts on its queue (``poll_wait``), if anybody waits at all."""


class Gate:
    """Makes handlers sleep that are entered from now on, until it is opened."""

    def __init__(self, op: str, mode: str, file: int | None) -> None:
        self.op = op
        self.mode = mode
        self.file = file
        self._sleepers: list[Sleep] = []

    def stops(self, op: str, file: int | None) -> bool:
        """Tell whether this entry into a handler stops here."""
        return self.op == op and self.file in {None, file}

    async def wait(self) -> bool:
        """Sleep until it is opened (True), or until a signal comes (False)."""
        sleep = Sleep(self.mode)
        self._sleepers.append(sleep)
        return await CURRENT.get().sleep(sleep) == "ungated"

    def open(self) -> None:
        """Let everybody through."""
        for sleep in self._sleepers:
            sleep.wake("ungated")


class Registration:
    """One registration: the entry, what its handlers are set to do, and who sleeps in them."""

    def __init__(self, kernel: Kernel, key: str, args: Mapping[str, str]) -> None:
        self.kernel = kernel
        self.key = key
        self.entry: ProcDirEntry | None = None
        self.ops = frozenset(filter(None, args.get("ops", "").split(",")))
        self.has_read_iter = "read_iter" in self.ops or args.get("kind") in {"seq", "single"}
        self.data = to_bytes(args.get("data", ""))
        self.mask = DEFAULT_MASK
        self.nrec = number(args.get("nrec", "0"))
        self.reclen = number(args.get("reclen", "8"))
        self.opens = 0
        self.rets: dict[str, int] = {}
        self.acts: dict[str, str] = {}
        self.gates: list[Gate] = []
        self.queue: list[Waiter] = []
        self.wait_queue = WaitQueue()
        """The same queue, for who asks through a mount."""

    # -- what every handler does -----------------------------------------------------------------

    async def run(
        self, op: str, file: File | None, default: Callable[[], int], arg: str | None = None
    ) -> int:
        """Enter, sleep if gated, act, and return what was set or else what *default* says."""
        ordinal = None if file is None else file.private_data
        if not await self.enter(op, ordinal, arg):
            self.leave(op, ordinal, -ERESTARTSYS)
            await checkpoint_if_cancelled()  # who is killed ends as a task does
            return -ERESTARTSYS
        await self._act(op)
        ret = self.rets[op] if op in self.rets else default()
        self.leave(op, ordinal, ret)
        return ret

    async def enter(self, op: str, ordinal: int | None, arg: str | None = None) -> bool:
        """Enter a handler, and sleep if it is gated; False if a signal has ended the sleep."""
        self._log(op, "enter", ordinal, arg=arg)
        for gate in self.gates:
            if gate.stops(op, ordinal):
                self._log(op, "gated", ordinal)
                passed = await gate.wait()
                self._log(op, "ungated" if passed else "interrupted", ordinal)
                return passed
        return True

    async def enter_init(self, error: int, arg: str | None = None) -> int:
        """Enter the init of a module; return *error*, unless a signal has ended its sleep."""
        return error if await self.enter("init", None, arg) else -ERESTARTSYS

    def leave(self, op: str, ordinal: int | None, ret: int) -> None:
        """Return from a handler."""
        self._log(op, "exit", ordinal, ret=ret)

    async def _act(self, op: str) -> None:
        if (act := self.acts.pop(op, None)) is None:
            return
        verb, *words = act.split(";")
        args = dict(word.split("=", 1) for word in words)
        with self.kernel.breakable():
            await self.kernel.perform(verb, args)

    def _log(self, op: str, phase: str, ordinal: int | None, **more: Any) -> None:
        self.kernel.log(self.key, op, phase, file=ordinal, **more)

    async def _value(self, op: str, file: File | None, default: Callable[[], int], arg: str) -> int:
        return checked(await self.run(op, file, default, arg))

    # -- struct proc_ops -------------------------------------------------------------------------

    async def open(self, file: File) -> Any:
        """Number the file within the entry; the others find the number there."""
        self.opens += 1
        file.private_data = self.opens
        return checked(await self.run("open", file, lambda: 0)) or None

    async def release(self, file: File) -> int:
        """Do nothing; nobody heeds the value."""
        return await self.run("release", file, lambda: 0)

    async def read(self, file: File, size: int, pos: int) -> Any:
        """Return a slice of the data (simple_read_from_buffer)."""
        return await self.slice("read", file, size, pos)

    async def read_iter(self, file: File, size: int, pos: int) -> Any:
        """Do as read does."""
        return await self.slice("read_iter", file, size, pos)

    async def slice(self, op: str, file: File | None, size: int, pos: int) -> Any:
        """Return a slice of the data, or the count that was set."""
        default = lambda: len(self.data[pos : pos + size])  # noqa: E731
        count = await self._value(op, file, default, f"n={size} pos={pos}")
        if op not in self.rets:
            return self.data[pos : pos + count]
        # What Linux takes for a count that is too high, no bytes can say.
        return bytes(count) if count <= size else count

    async def write(self, file: File, data: bytes, pos: int) -> int:
        """Replace the data by what is written."""
        return await self._value(
            "write", file, lambda: self._replace(data), f"n={len(data)} pos={pos}"
        )

    def _replace(self, data: bytes) -> int:
        self.data = data
        return len(data)

    async def lseek(self, file: File, offset: int, whence: int) -> int:
        """Seek as default_llseek does."""
        arg = f"off={offset} whence={whence}"
        return await self._value("lseek", file, lambda: seek(file, offset, whence), arg)

    async def poll(self, file: File) -> int:
        """Put the poller on the queue, and return the mask."""
        return await self.run("poll", file, lambda: self._poll(file))

    def _poll(self, file: File) -> int:
        file.poll_wait(self.wait_queue)
        if (waiter := POLL_TABLE.get()) is not None:
            self.queue.append(waiter)
            waiter.queued = True
        return self.mask

    async def ioctl(self, file: File, cmd: int, arg: int) -> int:
        """Return 0."""
        return await self._value("ioctl", file, lambda: 0, f"cmd={cmd} arg={arg}")

    async def compat_ioctl(self, file: File, cmd: int, arg: int) -> int:
        """Return 0."""
        return await self._value("compat_ioctl", file, lambda: 0, f"cmd={cmd} arg={arg}")

    async def mmap(self, file: File, length: int, prot: int, flags: int) -> bytes:
        """Map a page that holds the data."""
        await self._value("mmap", file, lambda: 0, f"len={length}")
        return self.data.ljust(PAGE, b"\0")

    # -- struct seq_operations -------------------------------------------------------------------

    async def start(self, m: SeqFile, pos: int) -> int | None:
        """Return the record at *pos*, counted from 1."""
        return (
            checked(await self.run("start", None, lambda: self._record(pos), f"pos={pos}")) or None
        )

    async def next(self, m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        """Return the record after; a value that was set moves nothing."""
        item = await self.run("next", None, lambda: self._record(pos + 1), f"pos={pos}")
        return checked(item) or None, pos if "next" in self.rets else pos + 1

    def _record(self, pos: int) -> int:
        return pos + 1 if pos < self.nrec else 0

    async def stop(self, m: SeqFile, item: object) -> None:
        """Do nothing."""
        await self.run("stop", None, lambda: 0, f"v={item or 0}")

    async def show(self, m: SeqFile, item: int) -> int:
        """Write the record: its number from 0, filled up with zeros."""
        text = f"{item - 1:0{self.reclen - 1}}\n".encode()
        return checked(await self.run("show", None, lambda: _put(m, text)))

    async def show_single(self, m: SeqFile) -> int:
        """Write the data."""
        return checked(await self.run("show", None, lambda: _put(m, self.data)))

    # -- how it is set ---------------------------------------------------------------------------

    def set(self, args: Mapping[str, str]) -> None:
        """Change what the handlers do."""
        if "data" in args:
            self.data = to_bytes(args["data"])
        if "mask" in args:
            self.mask = number(args["mask"])
        if "nrec" in args:
            self.nrec = number(args["nrec"])
        if "act" in args:
            self.acts[args["op"]] = args["act"]
        if "ret" in args:
            self.rets.pop(args["op"], None)
            if args["ret"] != "none":
                self.rets[args["op"]] = number(args["ret"])

    def ungate(self, op: str | None, file: int | None) -> int:
        """Open gates, and return how many."""
        opened = [g for g in self.gates if op in {None, g.op} and file in {None, g.file}]
        for gate in opened:
            self.gates.remove(gate)
            gate.open()
        return len(opened)

    def wake(self) -> None:
        """Wake whoever is on the queue."""
        self.wait_queue.wake_up()
        for waiter in self.queue:
            waiter.wake()


def checked(ret: int) -> int:
    """Raise what the C function would return as a negative number."""
    if ret < 0:
        raise OSError(-ret, "as the scenario wants it")
    return ret


def _put(m: SeqFile, text: bytes) -> int:
    m.write(text)
    return 0


def seek(file: File, offset: int, whence: int) -> int:
    """Do what default_llseek does."""
    base = {os.SEEK_SET: 0, os.SEEK_CUR: file.pos, os.SEEK_END: file.entry.size}
    pos = base.get(whence, -offset - 1) + offset
    return pos if pos >= 0 else -22


class Kernel:
    """The kernel of one scenario, and the log of what its handlers and removals did."""

    def __init__(self, library: Library, tasks: TaskGroup) -> None:
        self.library = library
        self.proc = library.proc
        self.registrations = {
            name: Registration(self, name, {"data": data}) for name, data in MODULE_DATA.items()
        }
        self._tasks = tasks
        self._events: list[Event] = []
        self._refusals: list[int] = []
        self._acting: list[anyio.CancelScope] = []

    def log(self, ent: str, op: str, phase: str, **more: Any) -> None:
        """Add a line, in the name of whoever acts."""
        self._events.append(Event(CURRENT.get().name, ent[:LOGGED], op, phase, **more))

    def take_log(self) -> tuple[tuple[Event, ...], tuple[int, ...]]:
        """Return what happened since the last time: events, and calls we refused with an error."""
        taken = tuple(self._events), tuple(self._refusals)
        self._events.clear()
        self._refusals.clear()
        return taken

    def refused(self, errno: int) -> None:
        """Note that we raised where Linux would only warn."""
        self._refusals.append(errno)

    @contextmanager
    def breakable(self) -> Generator[None]:
        """Let :meth:`let_go` end what waits in here, even inside a release, which is shielded."""
        with anyio.CancelScope() as scope:
            self._acting.append(scope)
            try:
                yield
            finally:
                self._acting.remove(scope)

    def let_go(self) -> None:
        """End everything that might wait in a handler: the scenario is over."""
        for registration in self.registrations.values():
            registration.ungate(None, None)
        for scope in self._acting:
            scope.cancel()

    # -- the calls -------------------------------------------------------------------------------

    async def perform(self, verb: str, args: Mapping[str, str]) -> Result:
        """Call the kernel's interface, as a step or as the act of a handler."""
        result: Result = await getattr(self, verb)(args)
        return result

    async def create(self, args: Mapping[str, str]) -> Result:
        """Register an entry."""
        registration = Registration(self, args["ent"], args)
        self.registrations[args["ent"]] = registration
        registration.entry = self.try_to_make(lambda: self._create(registration, args))
        return {"created": registration.entry is not None}

    def try_to_make(self, make: Callable[[], ProcDirEntry]) -> ProcDirEntry | None:
        """Register an entry; where Linux answers NULL, None."""
        try:
            return make()
        except OSError as exc:
            self.refused(exc.errno or 0)
            return None

    def _create(self, made: Registration, args: Mapping[str, str]) -> ProcDirEntry:
        name, mode, parent = (
            to_name(args["name"]),
            number(args.get("mode", "0")),
            self._parent(args),
        )
        match args.get("kind", "reg"):
            case "dir":
                return self.proc.mkdir(name, mode, parent=parent)
            case "symlink":
                return self.proc.symlink(name, decode(args["target"]), parent=parent)
            case "single":
                return self.proc.create_single(name, made.show_single, mode=mode, parent=parent)
            case "seq":
                seq_ops = SeqOps(start=made.start, next=made.next, stop=made.stop, show=made.show)
                return self.proc.create_seq(name, seq_ops, mode=mode, parent=parent)
            case "mountpoint":
                return self.proc.create_mount_point(name, parent=parent)
            case kind:
                assert kind == "reg"
                handlers: dict[str, Any] = {op: getattr(made, op) for op in made.ops}
                ops = ProcOps(**handlers, permanent=args.get("permanent") == "1")
                return self.proc.create(name, ops, mode=mode, parent=parent)

    def _parent(self, args: Mapping[str, str]) -> ProcDirEntry | None:
        key = args.get("parent")
        if key is None:
            return None
        entry = self.registrations[key].entry
        if entry is None:
            raise OSError(ENOENT, f"{key} was never made")
        return entry

    async def remove_entry(self, args: Mapping[str, str]) -> Result:
        """Remove one entry by its name. No answer: Linux can only warn."""
        name, parent = to_name(args["name"]), self._parent(args)
        what = _path(parent, args["name"])
        with self._logged("remove_entry", what, self._named(name, parent)) as outcome:
            try:
                await self.proc.remove(name, parent=parent)
            except OSError as exc:
                self.refused(exc.errno or 0)
        return outcome

    async def remove_subtree(self, args: Mapping[str, str]) -> Result:
        """Remove an entry and all below by its name."""
        name, parent = to_name(args["name"]), self._parent(args)
        what = _path(parent, args["name"])
        with self._logged("remove_subtree", what, self._named(name, parent)) as outcome:
            try:
                await self.proc.remove_subtree(name, parent=parent)
            except OSError as exc:
                number = exc.errno or 0
                outcome.update(ret=-number, errno=name_errno(number))
        return outcome

    async def proc_remove(self, args: Mapping[str, str]) -> Result:
        """Remove an entry by itself, or nothing. No answer: Linux can only warn."""
        registration = self.registrations.get(args["ent"])
        entry = None if registration is None else registration.entry
        with self._logged("proc_remove", args["ent"], entry) as outcome:
            try:
                if entry is not None:
                    await entry.remove()
            except OSError as exc:
                self.refused(exc.errno or 0)
        return outcome

    def _named(self, name: str, parent: ProcDirEntry | None) -> ProcDirEntry | None:
        """Find what is just called so."""
        try:
            path = f"{(parent or self.proc.root).path}/{name}"
            return self.proc.lookup(path, follow_symlinks=False)
        except OSError:
            return None

    @contextmanager
    def _logged(self, op: str, what: str, entry: ProcDirEntry | None) -> Generator[Result]:
        self.log(what, op, "enter")
        outcome: Result = {"ret": 0}
        began = entry if entry is not None and entry._linked else None
        try:
            yield outcome
        except anyio.get_cancelled_exc_class():
            if began is not None:
                self._tasks.start_soon(self._see_the_end, op, what, began)
            raise
        self.log(what, op, "exit", ret=outcome["ret"])

    async def _see_the_end(self, op: str, what: str, entry: ProcDirEntry) -> None:
        """Log the end of a removal whose caller was killed, in the name of whom it goes on."""
        await entry.remove()
        self.log(what, op, "exit", ret=0)

    async def set_size(self, args: Mapping[str, str]) -> Result:
        """Set what stat shows."""
        self._entry(args).size = number(args["size"])
        return {"ret": 0}

    async def set_user(self, args: Mapping[str, str]) -> Result:
        """Set the owner."""
        entry = self._entry(args)
        entry.uid, entry.gid = number(args["uid"]), number(args["gid"])
        return {"ret": 0}

    def of(self, entry: ProcDirEntry) -> Registration | None:
        """Find the registration of an entry, if the scenario made it."""
        return next((made for made in self.registrations.values() if made.entry is entry), None)

    def _entry(self, args: Mapping[str, str]) -> ProcDirEntry:
        entry = self.registrations[args["ent"]].entry
        if entry is None:
            raise OSError(ENOENT, f"{args['ent']} was never made")
        return entry

    async def set(self, args: Mapping[str, str]) -> Result:
        """Configure the handlers of an entry."""
        self.registrations[args["ent"]].set(args)
        return {"ret": 0}

    async def gate(self, args: Mapping[str, str]) -> Result:
        """Make a handler sleep."""
        gate = Gate(args["op"], args["mode"], _file(args))
        self.registrations[args["ent"]].gates.append(gate)
        return {"ret": 0}

    async def ungate(self, args: Mapping[str, str]) -> Result:
        """Wake it."""
        registration = self.registrations[args["ent"]]
        return {"ret": registration.ungate(args.get("op"), _file(args))}

    async def wake(self, args: Mapping[str, str]) -> Result:
        """Wake the pollers."""
        self.registrations[args["ent"]].wake()
        return {"ret": 0}


def _file(args: Mapping[str, str]) -> int | None:
    return number(args["file"]) if "file" in args else None


def _path(parent: ProcDirEntry | None, name: str) -> str:
    """Write a path as the log has it: below the root, not below the mount point."""
    above = "" if parent is None else parent.path.partition("/proc/")[2]
    return f"{above}/{decode(name)}" if above else decode(name)


VERBS: Final = REMOVALS | {"create", "set_size", "set_user", "set", "gate", "ungate", "wake"}
"""What may be asked of the registration side, by a step or as the act of a handler."""
