"""
What the kernel's FUSE module makes of an answer, before or instead of asking us.

These rules come after those of ``_rules``, and are like them: each is one mechanism of fuse.ko (or
of the VFS around it), told from the scenario alone and as narrow as the mechanism. What they
cannot tell is in ``mount.json``, step by step, under the name of the mechanism.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiopde import DEFAULT_POLLMASK

from . import _player
from ._calls import DEVICES
from ._ground import KERNEL
from ._judge import View
from ._kernel import REMOVALS
from ._scenario import Answer, Event, Scenario, Step
from ._words import Result, decode, name_mask, number, open_flags, poll_mask, shown, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ._history import History, Node, OpenFile
    from ._rules import Expected

    Rule = Callable[["Fuse", Step, Expected], Expected]

_CLOSES: Final = frozenset({"close", "exit"})
_SERVERS: Final = REMOVALS | {"insmod", "rmmod"}
"""Verbs that are no system calls on the mount."""
_MOVES: Final = frozenset({"read", "pread", "readv", "write", "pwrite"})
_AT_POSITION: Final = frozenset({"read", "readv", "write"})
_LOCKS_INODE: Final = frozenset(
    {"write", "pwrite", "chmod", "fchmod", "chown", "truncate", "ftruncate", "fsync"}
)
_NOT_OPEN: Final = frozenset({"EBADF", "EISDIR", "EACCES", "EPERM"})
"""Refusals of the VFS, which come before any file system is asked."""
_IOC_WRITE: Final = 1 << 30
_NEVER_ASKED: Final = {
    "mmap": "a file with direct I/O cannot be mapped, so that no handler is asked",
    "lseek": "the kernel does that itself, so that no handler is asked",
}
"""By handler: why it is never called."""
_EINTR: Final[Result] = {"ret": -1, "errno": "EINTR"}
_NEW_NAME: Final = {
    "mkdir": "path",
    "symlink": "path",
    "open": "path",
    "link": "to",
    "rename": "to",
}
"""By verb: which of its words is the name it would make."""
_OWN: Final = ("self", "thread-self")


class Fuse(View):
    """What the mount's side of a scenario has come to, where that is another than the tree's."""

    def __init__(self, history: History) -> None:
        super().__init__(history)
        self.calls: dict[str, Step] = {}
        """By actor: the call it would be in if this were procfs."""
        self.early: dict[int, Step] = {}
        """By number: those that were over early, or were never to wait, here."""
        self.modes: dict[tuple[str, str], str] = {}
        """By entry and handler: what ends a sleep in its gate."""
        self.asleep: dict[str, Event] = {}
        """By actor: the gate it sleeps in."""
        self.stopped: dict[str, Step] = {}
        """By actor: the call it will be seen to have been interrupted in, when it may go on."""
        self.removing: set[str] = set()
        """Who is inside a removal."""
        self.unloading: set[str] = set()
        """Who was killed while it unloaded a module, which goes on in its name."""
        self.moved: set[OpenFile] = set()
        """Files whose position is another than it would be in procfs."""
        self.polled: dict[tuple[str, str], list[tuple[OpenFile, int]]] = {}
        """By process and epoll: files, and what is asked of them."""
        self.skipped: dict[OpenFile, tuple[Event, ...]] = {}
        """By seq_file: what going to a position has not asked yet."""
        self.mapped: set[OpenFile] = set()
        self.unmapped: set[OpenFile] = set()
        """Files of which there would be a mapping if this were procfs."""
        self.released: set[tuple[str, int | None]] = set()
        """Open files, by entry and ordinal, released early since no mapping holds them."""

    def apply(self, step: Step, decided: Expected) -> tuple[Expected, list[str]]:
        """Ask every rule."""
        expected, used = decided, list[str]()
        for rule in RULES:
            changed = rule(self, step, expected)
            if changed != expected:
                used.append(rule.__name__)
            if changed.last and not expected.last:
                why = rule.__name__.removeprefix("rule_").replace("_", " ")
                self.ended = f"all from step {step.number} on left out: {why}"
            expected = changed
        return expected, used

    # -- what rules ask --------------------------------------------------------------------------

    def call(self, step: Step, actor: str) -> Step | None:
        """Return the call in which an actor runs what it runs in this step."""
        return step if actor == step.actor else self.calls.get(actor)

    def node(self, step: Step) -> Node | None:
        """Return what a step is about, by descriptor or by path."""
        file = self.history.descriptor(step)
        if file is None and "path" in step.args:
            return self.history.find(step).node
        return None if file is None else file.node

    def written(self) -> set[Node]:
        """Return what a write sleeps in."""
        calls = [call for actor, call in self.calls.items() if actor in self.asleep]
        writes = [call for call in calls if call.verb in {"write", "pwrite"}]
        nodes = {self.node(call) for call in writes if call.number not in self.early}
        return {node for node in nodes if node is not None}

    def interrupted_gate(self, actor: str) -> Event | None:
        """Return the gate in which an actor sleeps, if that is in a call any signal ends."""
        call, gate = self.calls.get(actor), self.asleep.get(actor)
        if call is None or gate is None or call.verb in _SERVERS | _CLOSES | {"poll"}:
            return None
        over = call.number in self.early or actor in self.stopped
        return None if over or self.modes[gate.ent, gate.op] == "unint" else gate

    def removed_by(self, step: Step, expected: Expected) -> set[Node]:
        """Return what a step begins to remove."""
        if step.verb not in REMOVALS or expected.answer.refusals:
            return set()
        node = self.history.target(step.verb, step.args)
        if node is None or node.refusing:
            return set()
        return set(node.subtree())

    def polls(self, call: Step) -> list[tuple[OpenFile, int]]:
        """Return what a call asks whether it is ready, and for what."""
        if call.verb == "epoll_wait":
            return self.polled.get((self.history.process(call.actor), call.args["ep"]), [])
        file = self.history.descriptor(call)
        if call.verb != "poll" or file is None:
            return []
        return [(file, poll_mask(call.args["events"]))]

    # -- what it learns --------------------------------------------------------------------------

    def learn(self, step: Step, decided: Answer, answer: Answer) -> None:
        """Take a step in."""
        if "pending" in decided.res:
            self.calls[step.actor] = step
            if "pending" not in answer.res:
                self.early[step.number] = step
        for number_, result in decided.done.items():
            call = self.calls.pop(result["actor"], None)
            self.early.pop(number_, None)
            if call is not None and answer.done.get(number_) != result:
                self._move(call)
            if "killed" in result and call is not None and call.verb == "rmmod":
                self.unloading.add(call.actor)
        for call in list(self.calls.values()):
            if call.number in answer.done and call.number not in decided.done:
                self.early[call.number] = call
                self._move(call)
        self._learn_stops(step)
        self._learn_sleepers(step, decided, answer)
        self._learn_file(step, decided, answer)
        super().learn(step, decided, answer)

    def _move(self, call: Step) -> None:
        """Note that a call has not moved the position as it does in procfs."""
        file = self.history.descriptor(call)
        if file is not None and call.verb in _AT_POSITION:
            self.moved.add(file)

    def _learn_stops(self, step: Step) -> None:
        actor = step.args.get("actor", "")
        if step.args.get("sig") == "STOP" and self.interrupted_gate(actor) is not None:
            self.stopped[actor] = self.calls[actor]
        elif step.args.get("sig") in {"CONT", "KILL"}:
            self.stopped.pop(actor, None)

    def _learn_sleepers(self, step: Step, decided: Answer, answer: Answer) -> None:
        if step.verb == "gate":
            self.modes[step.args["ent"], step.args["op"]] = step.args["mode"]
        for event in answer.events:
            if event.phase == "gated":
                self.asleep[event.by] = event
            elif event.phase in {"ungated", "interrupted"}:
                self.asleep.pop(event.by, None)
        self.removing = _removing(self.removing, decided.events)

    def _learn_file(self, step: Step, decided: Answer, answer: Answer) -> None:
        file = self.history.descriptor(step)
        if file is None:
            return
        process = self.history.process(step.actor)
        if step.verb in {"lseek", "splice"} and answer.res != decided.res:
            self.moved.add(file)
        if step.verb == "lseek" and file.node.kind in {"seq", "single"}:
            self.skipped[file] = decided.events
        elif step.verb in _MOVES and answer.res.get("ret", -1) >= 0:
            self.skipped.pop(file, None)
        elif step.verb == "mmap":
            if decided.res.get("ok"):
                self.unmapped.add(file)
            if answer.res.get("ok"):
                self.mapped.add(file)
        elif step.verb == "epoll_add" and answer.res == {"ret": 0}:
            items = self.polled.setdefault((process, step.args["ep"]), [])
            items.append((file, poll_mask(step.args["events"])))
        elif step.verb == "close" and _lets_go(self, file, decided):
            self.released.add((file.node.key, file.label))


def _removing(actors: set[str], events: Iterable[Event]) -> set[str]:
    """Say who is inside a removal after these events."""
    actors = set(actors)
    for event in events:
        if event.op in REMOVALS:
            (actors.add if event.phase == "enter" else actors.discard)(event.by)
    return actors


# -- what the kernel answers itself ----------------------------------------------------------------


def rule_zero_bytes_in_kernel(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """A read or write of nothing is 0, whatever the file is like: nobody is asked."""
    for call in fuse.calls.values():
        if call.number in expected.answer.done and _moves_nothing(call):
            expected = _without(expected, call, "read", "read_iter", "write")
            expected = _done(expected, call, _nothing(call))
    if not _moves_nothing(step) or expected.answer.res.get("errno") in _NOT_OPEN:
        return expected
    if _waits_for_position(expected):
        return expected
    return _at_once(step, expected, _nothing(step))


def _waits_for_position(expected: Expected) -> bool:
    """Tell whether a call waits for the position of its file, which the VFS locks before all."""
    return "pending" in expected.answer.res and not expected.answer.events


def _moves_nothing(step: Step) -> bool:
    sizes = [number(step.args[key]) for key in ("n", "n1", "n2") if key in step.args]
    return step.verb in _MOVES and not sum(sizes) and not to_bytes(step.args.get("data", ""))


def _nothing(step: Step) -> Result:
    return {"ret": 0} if "data" in step.args else {"ret": 0, "data": ""}


def rule_lseek_in_kernel(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """To SET, CUR and END the kernel goes itself, whatever the file's own lseek would say."""
    for call in fuse.calls.values():
        if call.number in expected.answer.done and call.verb == "lseek":
            expected = _without(expected, call, "lseek")
            if call.args.get("whence", "SET") == "SET":
                expected = _done(expected, call, {"ret": number(call.args["off"])})
    file = fuse.history.descriptor(step)
    if step.verb != "lseek" or file is None or file.node.is_dir:
        return expected
    if expected.answer.res.get("errno") in _NOT_OPEN or _waits_for_position(expected):
        return expected
    res = _seek(file, step.args)
    return expected if res is None else _at_once(step, expected, res)


def _seek(file: OpenFile, args: Mapping[str, str]) -> Result | None:
    size = file.node.set_since.get("size", 0)
    base = {"SET": 0, "CUR": file.pos, "END": size}.get(args.get("whence", "SET"))
    if base is None:
        return None
    pos = base + number(args["off"])
    return {"ret": pos} if pos >= 0 else {"ret": -1, "errno": "EINVAL"}


def rule_position_is_the_kernels(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Where a file's own lseek, or a splice, would have gone elsewhere, it goes on from there."""
    file = fuse.history.descriptor(step)
    if file is None or file not in fuse.moved:
        return expected
    if step.verb == "fdpos" and "pos" in expected.answer.res:
        return expected.but(res={"pos": file.pos})
    if step.verb != "read" or not expected.answer.events:
        return expected
    size = number(step.args["n"])
    enter, *others = expected.answer.events
    enter = replace(enter, arg=f"n={size} pos={file.pos}")
    if "pending" in expected.answer.res:
        return expected.but(events=(enter, *others))
    data = file.node.data[file.pos : file.pos + size]
    return _at_once(step, expected, shown(data), enter, replace(others[0], ret=len(data)))


def rule_seq_file_seeks_late(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """So a seq_file goes to its position when it is read there, and not before."""
    file = fuse.history.descriptor(step)
    skipped = fuse.skipped.get(file, ()) if file is not None else ()
    if not skipped or step.verb != "read" or expected.answer.res.get("ret", -1) < 0:
        return expected
    return expected.but(events=(*skipped, *expected.answer.events))


def rule_readv_is_one_read(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Several buffers are filled by one call of a read handler, as procfs does for read_iter."""
    file = fuse.history.descriptor(step)
    if step.verb != "readv" or file is None or "read" not in file.node.ops:
        return expected
    if "read_iter" in file.node.ops or not expected.answer.events:
        return expected
    size = number(step.args["n1"]) + number(step.args["n2"])
    enter, leave, *_ = expected.answer.events
    enter = replace(enter, arg=f"n={size} pos={file.pos}")
    if "pending" in expected.answer.res:
        return expected.but(events=(enter, leave))
    data = file.node.data[file.pos : file.pos + size]
    return _at_once(step, expected, shown(data), enter, replace(leave, ret=len(data)))


def rule_mmap_is_direct_io(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """A file with direct I/O cannot be mapped shared; a private mapping is but a page cache."""
    if step.verb == "peek" and expected.answer.res.get("ret", -1) >= 0:
        # Nothing is mapped, or a file whose page cache is empty: its size is 0.
        return _at_once(step, expected, {"ret": -1, "errno": "EFAULT"})
    if step.verb != "mmap" or expected.answer.res.get("errno") in _NOT_OPEN:
        return expected
    private = step.args.get("private") == "1"
    res: Result = {"ok": True} if private else {"ret": -1, "errno": "ENODEV"}
    return _at_once(step, expected, res)


def rule_no_mapping_holds_a_file(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """What could not be mapped is released with its last descriptor, and not again later."""
    answer = expected.answer
    events = tuple(
        each
        for each in answer.events
        if each.op != "release" or (each.ent, each.file) not in fuse.released
    )
    file = fuse.history.descriptor(step)
    if step.verb == "close" and file is not None and _lets_go(fuse, file, answer):
        enter = Event(KERNEL, file.node.key, "release", "enter", file.label)
        events += (enter, replace(enter, phase="exit", ret=0))
    return expected if events == answer.events else expected.but(events=events)


def _lets_go(fuse: Fuse, file: OpenFile, decided: Answer) -> bool:
    """Tell whether a close is the last of a file that a mapping would hold in procfs."""
    lost = file in fuse.unmapped and file not in fuse.mapped
    last = file.held == 1 and not file.node.refusing and file.node.does("release")
    return lost and last and not any(event.op == "release" for event in decided.events)


def rule_splice_is_by_page(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """To splice is to read through the page cache, which has as much as stat says: nothing."""
    file = fuse.history.descriptor(step)
    if step.verb != "splice" or file is None or file.node.set_since.get("size"):
        return expected
    if expected.answer.res.get("errno") in _NOT_OPEN:
        return expected
    return _at_once(step, expected, {"ret": 0, "data": ""})


def rule_ioctl_copies_first(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """What an ioctl says it passes, the kernel copies, or fails to, before it asks."""
    if step.verb not in {"ioctl", "ioctl32"} or not number(step.args["cmd"]) & _IOC_WRITE:
        return expected
    asked = expected.answer.events or expected.answer.res.get("errno") == "ENOTTY"
    return _at_once(step, expected, {"ret": -1, "errno": "EFAULT"}) if asked else expected


def rule_errno_is_small(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """The protocol has no errno above 511, those that have no name: such an error is EIO."""
    if not expected.answer.res.get("errno", "").isdigit():
        return expected
    return expected.but(res={"ret": -1, "errno": "EIO"})


def rule_no_processes(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """``self`` and ``thread-self`` are procfs's own; here they are names like any other."""
    answer = expected.answer
    path = decode(step.args.get("path", ""))
    if step.verb == "listdir" and path.rstrip("/") == "/proc" and "names" in answer.res:
        names = list(answer.res["names"])
        for own in _OWN:
            if [own, "LNK"] in names:
                names.reverse()
                names.remove([own, "LNK"])
                names.reverse()
        return expected.but(res={"names": names})
    _, _, name = path.rpartition("/")
    if step.verb == "lstat" and name in _OWN and answer.res.get("ret") == 0:
        node = fuse.history.find(step, follow=False).node
        missing: Result = {"ret": -1, "errno": "ENOENT"}
        return expected.but(res=missing if node is None else node.stat())
    return expected


def rule_permission_comes_first(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Who may not write a directory is told that first, not that no name can be made in it."""
    key = _NEW_NAME.get(step.verb, "")
    if key not in step.args or fuse.history.is_privileged(step.actor):
        return expected
    if step.verb == "open" and not open_flags(step.args.get("flags", "RDONLY")) & os.O_CREAT:
        return expected
    above, _, _ = step.args[key].rpartition("/")
    there = fuse.history.find(replace(step, args={**step.args, key: above})).node
    if there is None or not there.is_dir or expected.answer.res.get("errno") != "ENOENT":
        return expected
    writable = int(there.stat()["mode"], 8) & stat.S_IWOTH or there.owner[0]
    return expected if writable else expected.failing(step, "EACCES")


# -- what the kernel remembers, and is told --------------------------------------------------------


def rule_name_is_dropped_at_once(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """The kernel is told when a name goes, so it shows at once: no look-up has to find out."""
    answer = expected.answer
    if step.verb == "getcwd" and answer.res.get("ret") == 0:
        place = fuse.history.place(step.actor)
        gone = place is not None and place.refusing
        return expected.but(res={"ret": -1, "errno": "ENOENT"}) if gone else expected
    file = fuse.history.descriptor(step)
    if step.verb != "fdlink" or file is None or not file.node.refusing:
        return expected
    data = answer.res.get("data", "")
    if not data or data.endswith(" (deleted)"):
        return expected
    data = f"{data} (deleted)"
    return expected.but(res={"ret": len(data), "data": data})


def rule_removal_wakes_polls(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Who sleeps in a poll of what is removed wakes, and finds it ready for the EIO to come."""
    if step.verb == "epoll_wait" and expected.answer.res == {"ret": 0}:
        masks = [mask for file, mask in fuse.polls(step) if file.node.refusing and file.held]
        ready = [DEFAULT_POLLMASK & mask for mask in masks if DEFAULT_POLLMASK & mask]
        return expected.but(res={"ret": 1, "revents": name_mask(ready[0])}) if ready else expected
    removed = fuse.removed_by(step, expected)
    for call in fuse.calls.values():
        masks = [mask for file, mask in fuse.polls(call) if file.node in removed]
        ready = [DEFAULT_POLLMASK & mask for mask in masks if DEFAULT_POLLMASK & mask]
        if ready and call.number not in expected.answer.done and call.actor not in fuse.asleep:
            res: Result = {"ret": 1, "revents": name_mask(ready[0])}
            expected = _done(expected, call, res)
    return expected


# -- who waits for whom ----------------------------------------------------------------------------


def rule_signal_is_eintr(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Any signal cancels the handler, and the call is not restarted: the protocol cannot say so."""
    for actor in fuse.stopped:
        others = (event for event in expected.answer.events if event.by != actor)
        expected = expected.but(events=tuple(others))
    if step.verb != "signal":
        return expected
    actor, name = step.args["actor"], step.args["sig"]
    if name == "CONT" and actor in fuse.stopped:
        return _done(expected, fuse.stopped[actor], _EINTR)
    gate = fuse.interrupted_gate(actor)
    if name not in {"USR1", "USR2", "STOP"} or gate is None:
        return expected
    events = list(_until_restart(expected.answer.events, gate))
    if not any(event.phase == "interrupted" for event in events):
        events[:0] = [replace(gate, phase="interrupted"), replace(gate, phase="exit", ret=-512)]
    expected = expected.but(events=tuple(events))
    return expected if name == "STOP" else _done(expected, fuse.calls[actor], _EINTR)


def _until_restart(events: Iterable[Event], gate: Event) -> Iterator[Event]:
    """Leave out what an actor does after it has entered once more what it was interrupted in."""
    restarted = False
    for event in events:
        again = (event.by, event.op, event.phase) == (gate.by, gate.op, "enter")
        restarted = restarted or again
        if not restarted or event.by != gate.by:
            yield event


def rule_position_is_locked(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Who waits for the position of a file waits in the VFS, where not even SIGKILL ends it."""
    actor = step.args.get("actor", "")
    call = fuse.calls.get(actor)
    if step.args.get("sig") != "KILL" or call is None or call.verb not in _AT_POSITION:
        return expected
    if actor in fuse.asleep or call.number in fuse.early or call.number in step.answer.done:
        return expected
    answer = expected.answer
    done = {each: result for each, result in answer.done.items() if each != call.number}
    events = tuple(event for event in answer.events if event.by != actor)
    return expected.but(done=done, events=events, blocked=answer.blocked | {actor})


def rule_writes_take_turns(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """
    During a write the kernel has the inode locked, for who writes or changes it too.

    So a second one waits for the first, by whatever file. When it goes on, so do all that it holds
    up in turn, and no rule can tell the order: from here on, nothing is compared.
    """
    node = fuse.node(step) if step.verb in _LOCKS_INODE else None
    if node is None or node not in fuse.written() or "pending" in expected.answer.res:
        return expected
    if expected.answer.res.get("errno") == "EBADF":
        return expected
    blocked = expected.answer.blocked | {step.actor}
    return replace(expected.but(res={"pending": True}, events=(), blocked=blocked), last=True)


def rule_early_call_is_over(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """Who did not wait, or was let go, is not to be waited for."""
    answer = expected.answer
    early = {actor: call for actor, call in fuse.calls.items() if call.number in fuse.early}
    if not early:
        return expected
    silent = {actor for actor, call in early.items() if call.verb not in _CLOSES}
    res = answer.res
    if step.verb == "blocked" and step.args["actor"] in early:
        res = {"blocked": False}
    done = {each: result for each, result in answer.done.items() if each not in fuse.early}
    events = tuple(event for event in answer.events if event.by not in silent)
    blocked = answer.blocked - early.keys()
    return expected.but(res=res, done=done, events=events, blocked=blocked)


def rule_close_does_not_wait(fuse: Fuse, step: Step, expected: Expected) -> Expected:
    """The kernel has close return before the release, which is then run in nobody's name."""
    answer = expected.answer
    if step.verb == "close" and "pending" in answer.res:
        expected = _at_once(step, expected, {"ret": 0}, *answer.events)
    elif step.verb == "exit" and "pending" in answer.res:
        expected = _at_once(step, expected, {"exited": number(step.args["code"])}, *answer.events)
    events, removing = list[Event](), fuse.removing | fuse.unloading
    for event in answer.events:
        call = fuse.call(step, event.by)
        removing = _removing(removing, [event])
        closes = call is not None and call.verb in _CLOSES
        forced = event.by in removing or (call is not None and call.verb in _SERVERS)
        killed = step.args.get("sig") == "KILL" and event.by == step.args["actor"]
        if closes or (event.op == "release" and (killed or not forced)):
            event = replace(event, by=KERNEL)
        events.append(event)
    return expected.but(events=tuple(events))


def unplayable(scenario: Scenario) -> str | None:
    """Say why a scenario cannot be played at all, if so."""
    for step in scenario.steps:
        args = step.args
        if args.get("path", "").startswith(DEVICES):
            return "devices are not in the mount"
        if step.verb == "gate" and args["op"] in _NEVER_ASKED:
            return f"nobody can wait in {args['op']}: {_NEVER_ASKED[args['op']]}"
    return _player.unplayable(scenario)


RULES: Final[tuple[Rule, ...]] = (
    rule_zero_bytes_in_kernel,
    rule_lseek_in_kernel,
    rule_position_is_the_kernels,
    rule_readv_is_one_read,
    rule_mmap_is_direct_io,
    rule_no_mapping_holds_a_file,
    rule_splice_is_by_page,
    rule_ioctl_copies_first,
    rule_errno_is_small,
    rule_no_processes,
    rule_permission_comes_first,
    rule_name_is_dropped_at_once,
    rule_removal_wakes_polls,
    rule_writes_take_turns,
    rule_early_call_is_over,
    rule_signal_is_eintr,
    rule_position_is_locked,
    rule_close_does_not_wait,
    rule_seq_file_seeks_late,
)
"""All of them, in the order in which they are asked."""

MECHANISMS: Final = frozenset(rule.__name__.removeprefix("rule_") for rule in RULES)
"""The reasons ``mount.json`` may give."""


def _at_once(step: Step, expected: Expected, res: Result, *events: Event) -> Expected:
    """Expect the step to be done now, with this result, having run these handlers."""
    blocked = expected.answer.blocked
    if "pending" in expected.answer.res:
        blocked -= {step.actor}
    return expected.but(res=res, events=events, blocked=blocked)


def _done(expected: Expected, call: Step, res: Result) -> Expected:
    """Expect an earlier call to be done in this step."""
    answer = expected.answer
    done = answer.done | {call.number: {"actor": call.actor} | res}
    return expected.but(done=done, blocked=answer.blocked - {call.actor})


def _without(expected: Expected, call: Step, *ops: str) -> Expected:
    """Expect that a call asks none of these handlers."""
    events = (
        event for event in expected.answer.events if event.by != call.actor or event.op not in ops
    )
    return expected.but(events=tuple(events))
