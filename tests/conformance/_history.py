"""What a rule may know: our tree and descriptors, as the scenario has made them so far.

It is built from steps and answers alone, never from the library: only from answers that were
found to be as expected. Where Linux and we have parted, it says in what.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from ._calls import DEVICES, below_proc
from ._kernel import MODULE_DATA, REMOVALS
from ._modules import PROGRAMS, parameters
from ._words import Result, number, to_bytes, to_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ._scenario import Answer, Event, Step

MAIN: Final = ""
"""The process all threads belong to."""
OURS_ALONE: Final = 1000
"""From here on count the open files that no recording has."""
MODULE_OPS: Final = "open,read,lseek,release"
"""The handlers of the file a module makes."""
_MOST_LINKS: Final = 40


class Node:
    """An entry of ours."""

    def __init__(self, key: str, name: str, parent: Node | None, args: Mapping[str, str]) -> None:
        self.key = key
        self.name = name
        self.parent = parent
        self.args = args
        self.kind = args.get("kind", "reg")
        self.ops = frozenset(args.get("ops", "").split(","))
        self.data = to_bytes(args.get("data", ""))
        self.owner: tuple[int, int] = (0, 0) if parent is None else parent.owner
        self.children: dict[str, Node] = {}
        self.refusing = False
        """Its removal has begun, so that no call is let in."""
        self.gone = False
        self.kept = False
        """Linux has removed it, or what it is in; we refused to."""
        self.opens = 0
        """How many files were opened that Linux has not."""
        self.set_since: Result = {}
        """What was set after it was made, as stat shows it."""
        self.gated: set[str] = set()
        self.told: set[str] = set()
        """Handlers that were told what to return, or to do."""

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return self.kind in {"dir", "mountpoint"}

    def does(self, op: str) -> bool:
        """Tell whether it has a handler that does as usual, without sleeping."""
        return op in self.ops and op not in self.gated | self.told

    @property
    def permanent(self) -> bool:
        """Whether it, or anything below it, cannot be removed."""
        return any(each.args.get("permanent") == "1" for each in self.subtree())

    def subtree(self) -> Iterator[Node]:
        """Go through it and all below it, parents last, siblings in the kernel's order."""
        for child in self.in_order():
            yield from child.subtree()
        yield self

    def above(self) -> Iterator[Node]:
        """Go through the directories it is in, or was."""
        if self.parent is not None:
            yield self.parent
            yield from self.parent.above()

    def in_order(self) -> list[Node]:
        """Return its children as they are listed."""
        return sorted(self.children.values(), key=lambda node: _rank(node.name))

    def unlink(self) -> None:
        """Take it out of the tree."""
        assert self.parent is not None
        if self.parent.children.get(self.name) is self:
            del self.parent.children[self.name]

    def stat(self) -> Result:
        """Say what stat does."""
        links = 1 + self.is_dir + sum(child.is_dir for child in self.children.values())
        kinds = {"dir": "DIR", "mountpoint": "DIR", "symlink": "LNK"}
        plain: Result = {
            "ret": 0,
            "type": kinds.get(self.kind, "REG"),
            "mode": f"{self._mode():04o}",
            "nlink": links,
            "uid": self.owner[0],
            "gid": self.owner[1],
            "size": len(to_bytes(self.args.get("target", ""))),
            "ino": None,
        }
        return plain | self.set_since

    def _mode(self) -> int:
        defaults = {"dir": 0o555, "mountpoint": 0o555, "symlink": 0o777}
        return stat.S_IMODE(number(self.args.get("mode", "0"))) or defaults.get(self.kind, 0o444)


def _names(path: str) -> list[str]:
    """Split a path, the first name last."""
    return [name for name in path.split("/") if name not in {"", "."}][::-1]


def _rank(name: str) -> tuple[int, bytes]:
    return len(os.fsencode(name)), os.fsencode(name)


class OpenFile:
    """An open file of ours, by whatever descriptors."""

    def __init__(self, node: Node, label: int | None, *, ours_alone: bool) -> None:
        self.node = node
        self.label = label
        """Its ordinal in the recording, or a number no recording has."""
        self.ours_alone = ours_alone
        """Whether Linux has not opened it, or another entry under that name."""
        self.pos = 0
        self.held = 1


class Removal:
    """A removal that waits for something."""

    def __init__(self, root: Node, enter: Event) -> None:
        self.root = root
        self.enter = enter
        """How it stands in the log."""
        self.place = root.parent, root.name

    def end_in(self, events: Iterable[Event]) -> int | None:
        """Find where it ends in a log."""
        leave = replace(self.enter, phase="exit")
        same = (i for i, event in enumerate(events) if replace(event, ret=None) == leave)
        return next(same, None)


class Found:
    """Where a path leads in our tree."""

    def __init__(self, node: Node | None, *, missing: str, parted: bool) -> None:
        self.node = node
        self.missing = missing
        """The errno if it leads nowhere."""
        self.parted = parted
        """Whether it passes a place where Linux has another entry than we, or none."""


class History:
    """Everything that has happened up to a step."""

    def __init__(self) -> None:
        self.root = Node("", "", None, {"kind": "dir"})
        self.nodes: dict[str, Node] = {}
        self.unfinished: dict[int, Step] = {}
        """By number: the steps that are not done."""
        self.inside: dict[str, Node] = {}
        """By actor: the entry whose handler it is in."""
        self.removals: list[Removal] = []
        self.joined: dict[str, Removal] = {}
        """By actor: the removal of somebody else that it waits for, where Linux does not."""
        self.queued: dict[str, list[Step]] = {}
        """By actor: steps it cannot take because of that."""
        self.ended_early: dict[str, int] = {}
        """By actor: the step that we have refused, and in which it sleeps in Linux."""
        self.lost_files: set[tuple[str, int | None]] = set()
        """Open files that Linux has and we have not."""
        self.lost: set[tuple[str, str]] = set()
        """Descriptors, by process and name, that Linux has and we have not."""
        self._fds: dict[tuple[str, str], OpenFile] = {}
        self._processes: set[str] = set()
        self._places: dict[str, Node] = {}
        self.acts: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
        """By entry and handler: what it will do besides, once."""
        self._unprivileged: set[str] = set()
        self.asleep: set[str] = set()
        """Who sleeps in a gated handler."""
        self.killed_early: dict[str, Step] = {}
        """By actor: the step it was killed in here, and is still busy with in Linux."""
        self.closed_early = Counter[tuple[str, int | None, str]]()
        """Events of releases, by entry, file and phase, that such an end has brought early."""
        self._devices: dict[str, Node] = {}
        self._forgetful: set[str] = set()
        """Modules that will not remove their entry."""
        self.forgotten: dict[str, Node] = {}
        """By name: what modules have left in Linux's /proc, and the library has removed."""
        self.undone: set[str] = set()
        """Modules that Linux has loaded, and the library not, since who wanted them was killed."""

    # -- what rules ask --------------------------------------------------------------------------

    def process(self, actor: str) -> str:
        """Return the process an actor belongs to."""
        return actor if actor in self._processes else MAIN

    def descriptor(self, step: Step, key: str = "fd") -> OpenFile | None:
        """Return the open file a step names, if we know it."""
        return self._fds.get((self.process(step.actor), step.args.get(key, "")))

    def is_lost(self, step: Step, key: str = "fd") -> bool:
        """Tell whether a step names a descriptor that only Linux has."""
        return (self.process(step.actor), step.args.get(key, "")) in self.lost

    def place(self, actor: str) -> Node | None:
        """Return the directory an actor has gone to."""
        return self._places.get(self.process(actor))

    def exclusive_files(self, actor: str) -> list[OpenFile]:
        """Return what nobody else has open, that opened last first."""
        process = self.process(actor)
        files = [file for (owner, _), file in self._fds.items() if owner == process]
        return [file for file in reversed(files) if file.held == 1]

    def device(self, step: Step) -> Node | None:
        """Return the device that a call is on, if that is so."""
        if step.verb == "open":
            return self._devices.get(step.args["path"])
        file = self.descriptor(step)
        return file.node if file is not None and file.node.kind == "device" else None

    def open_files(self, node: Node) -> list[OpenFile]:
        """Return what is open of an entry, that opened last first."""
        files = [file for file in self._fds.values() if file.node is node]
        return list(dict.fromkeys(files))[::-1]

    def forgets(self, name: str) -> Node | None:
        """Return the entry that a module is going to leave behind."""
        return self.nodes.get(name) if name in self._forgetful else None

    def waiting(self, actor: str) -> Step | None:
        """Return the step of an actor that is not done, if there is one."""
        return next((each for each in self.unfinished.values() if each.actor == actor), None)

    def is_privileged(self, actor: str) -> bool:
        """Tell whether permissions do not matter to an actor."""
        return actor not in self._unprivileged

    def find(self, step: Step, *, key: str = "path", follow: bool = True) -> Found:
        """Walk a step's path through our tree."""
        try:
            path = below_proc(to_name(step.args[key]))
        except OSError:
            return Found(None, missing="ENOENT", parted=False)
        start: Node | None = self.root
        if not path.startswith("/"):
            at = self.descriptor(step, "at")
            start = at.node if at is not None else self.place(step.actor)
        elif path != "/proc" and not path.startswith("/proc/"):
            start = None
        if start is None:
            return Found(None, missing="ENOENT", parted=False)
        return self._walk(path.removeprefix("/proc"), start, follow=follow)

    def _walk(self, path: str, here: Node, *, follow: bool) -> Found:
        todo = _names(path)
        links, parted = 0, False
        while todo:
            name = todo.pop()
            if not here.is_dir:
                return Found(None, missing="ENOTDIR", parted=parted)
            if name == "..":
                here = here.parent or here
                continue
            parted = parted or here.refusing or self._is_parted(here, name)
            child = here.children.get(name)
            if child is None or child.refusing:
                return Found(None, missing="ENOENT", parted=parted)
            if child.kind == "symlink" and (todo or follow):
                links += 1
                target = child.args["target"]
                todo += _names(target.removeprefix("/proc"))
                if links > _MOST_LINKS:
                    return Found(None, missing="ELOOP", parted=parted)
                here = self.root if target.startswith("/") else here
            else:
                here = child
        return Found(here, missing="", parted=parted)

    def _is_parted(self, here: Node, name: str) -> bool:
        child = here.children.get(name)
        kept = child is not None and child.kept
        kept = kept or (here is self.root and name in self.forgotten)
        return kept or any(removal.place == (here, name) for removal in self.removals)

    def target(self, verb: str, args: Mapping[str, str]) -> Node | None:
        """Find what a removal is about: an entry that is there, or one that is just going."""
        if verb == "proc_remove":
            return self.nodes.get(args["ent"])
        here = self.parent_of(args)
        *way, leaf = to_name(args["name"]).split("/")
        for name in way:
            here = None if here is None else here.children.get(name)
        if here is None:
            return None
        going = [node for removal in self.removals for node in self.unlinked_by(removal)]
        places = [node for node in going if node.parent is here and node.name == leaf]
        return here.children.get(leaf) or next(iter(places), None)

    def waits_in(self, removal: Removal) -> Node:
        """Return the entry a removal waits in: the first, in its order, that somebody is inside."""
        busy = set(self.inside.values())
        return next((each for each in removal.root.subtree() if each in busy), removal.root)

    def unlinked_by(self, removal: Removal) -> list[Node]:
        """Return what a removal has taken out of the tree and not finished."""
        way = [self.waits_in(removal)]
        while way[-1] is not removal.root and way[-1].parent is not None:
            way.append(way[-1].parent)
        return way

    def lives_in_linux(self, node: Node) -> bool:
        """Tell whether it is gone here, or going, and in Linux not yet."""
        if node in self.forgotten.values():
            return True
        for removal in self.removals:
            order = list(removal.root.subtree())
            if node in order:
                return order.index(node) > order.index(self.waits_in(removal))
        return False

    def parent_of(self, args: Mapping[str, str]) -> Node | None:
        """Return what the name of a registration starts from, if that was ever made."""
        return self.nodes.get(args["parent"]) if "parent" in args else self.root

    def going(self, step: Step) -> Removal | None:
        """Return the removal that is busy with what a step would remove, or with a part of it."""
        node = self.target(step.verb, step.args)
        if node is None:
            return None
        return self.removal_of(node) or self._removal_below(node, step.verb)

    def _removal_below(self, node: Node, verb: str) -> Removal | None:
        below = [each for each in self.removals if node in each.root.above()]
        refused = node.permanent or (verb == "remove_entry" and node.children)
        # Of several it is not known here which ends last.
        return None if refused or len(below) != 1 else below[0]

    def removal_of(self, node: Node) -> Removal | None:
        """Return the removal that has taken an entry out of the tree and is not done with it."""
        return next((each for each in self.removals if node in self.unlinked_by(each)), None)

    # -- what it learns --------------------------------------------------------------------------

    def learn(self, step: Step, answer: Answer) -> None:
        """Take a step in, and the answer of ours that was found right."""
        self.unfinished[step.number] = step
        if step.actor in self.joined:
            self.queued.setdefault(step.actor, []).append(step)
        elif step.verb == "fork":
            self._fork(step.args["actor"])
        else:
            self._begin(step, answer)
        self._learn_sleepers(answer)
        self._learn_loads(step, answer)
        self._learn_exits(answer.events)
        self._learn_removals(step, answer)
        self._learn_acts(answer.events)
        self._learn_losses(step, answer)
        calls, results = dict(self.unfinished), dict(answer.done)
        if "pending" not in answer.res:
            results[step.number] = answer.res
        for each, result in sorted(results.items()):
            if each in self.unfinished:
                done = self.unfinished.pop(each)
                self.inside.pop(done.actor, None)
                self._learn_result(done, result, answer)
            if "killed" in result:
                self._end(result["actor"])
        self._learn_deaths(step, answer, calls)

    def _learn_sleepers(self, answer: Answer) -> None:
        for event in answer.events:
            if event.phase == "gated":
                self.asleep.add(event.by)
            elif event.phase in {"ungated", "interrupted"}:
                self.asleep.discard(event.by)

    def _learn_loads(self, step: Step, answer: Answer) -> None:
        """Note that an init has come to its end in vain, and that Linux has got rid of it too."""
        name = step.args.get("mod", "")
        if step.verb == "rmmod" and name in self.undone and step.answer.res == {"ret": 0}:
            self.undone.remove(name)
            self.forgotten = {at: node for at, node in self.forgotten.items() if node.key != name}
        if step.verb == "remove_entry" and "parent" not in step.args:
            self.forgotten.pop(to_name(step.args["name"]), None)
        for event in answer.events:
            call = self.killed_early.get(event.by)
            succeeds = (event.op, event.phase, event.ret) == ("init", "exit", 0)
            if call is not None and call.verb == "insmod" and succeeds:
                self.undone.add(event.ent)
                node = self._entry_of(call)
                self.forgotten[node.name] = node

    def _learn_exits(self, events: Sequence[Event]) -> None:
        """Note that an exit has begun to remove its module's file, and so has freed the name."""
        for index, event in enumerate(events):
            asleep = any(each.phase == "gated" for each in events[index + 1 : index + 2])
            node = self.nodes.get(event.ent) if event.op == "exit" and not asleep else None
            if node is not None and event.ent not in self._forgetful:
                node.refusing = True
                node.unlink()

    def _learn_deaths(self, step: Step, answer: Answer, calls: Mapping[int, Step]) -> None:
        """Note who was killed here and not in Linux, and what that has closed."""
        self.killed_early = {
            actor: call
            for actor, call in self.killed_early.items()
            if call.number not in step.answer.done
        }
        for call in calls.values():
            result = answer.done.get(call.number, {})
            if "killed" in result and call.number not in step.answer.done:
                self.killed_early[call.actor] = call
                self.closed_early += _releases(answer.events) - _releases(step.answer.events)
        self.closed_early -= _releases(step.answer.events) - _releases(answer.events)

    def _begin(self, step: Step, answer: Answer) -> None:
        if step.verb in REMOVALS:
            going = self.going(step)
            if going is not None and "pending" in answer.res and "pending" not in step.answer.res:
                self.joined[step.actor] = going
            return
        opening = step.verb == "open"
        self.inside[step.actor] = self._found(step) if opening else self._file(step).node

    def _fork(self, child: str) -> None:
        self._processes.add(child)
        if MAIN in self._places:
            self._places[child] = self._places[MAIN]
        for (process, name), file in list(self._fds.items()):
            if process == MAIN:
                self._fds[child, name] = file
                file.held += 1
        self.lost |= {(child, name) for process, name in self.lost if process == MAIN}

    def _learn_removals(self, step: Step, answer: Answer) -> None:
        for index, event in enumerate(answer.events):
            if event.op in REMOVALS and event.phase == "enter":
                self._removal_begins(step, event, _is_refused(answer, index))
        for removal in [each for each in self.removals if each.end_in(answer.events) is not None]:
            self._removal_ends(removal)

    def _removal_begins(self, step: Step, event: Event, refused: bool) -> None:
        node = next((self.target(verb, args) for verb, args in self._calls(step, event)), None)
        if node is None or node.gone or self.removal_of(node) is not None:
            return
        if refused:
            in_linux_too = node.args.get("permanent") == "1"
            for each in node.subtree():
                each.kept = not in_linux_too
            return
        self.removals.append(Removal(node, event))
        for each in node.subtree():
            each.refusing = True
        node.unlink()

    def _calls(self, step: Step, event: Event) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the removals that an event can be of: the actor's own step, then the acts."""
        own = [(step.verb, step.args)] if step.actor == event.by else []
        yield from (call for call in (*own, *self.acts.values()) if call[0] == event.op)

    def _removal_ends(self, removal: Removal) -> None:
        self.removals.remove(removal)
        for node in removal.root.subtree():
            node.refusing = node.gone = True
        for actor in [actor for actor, winner in self.joined.items() if winner is removal]:
            del self.joined[actor]
            self.queued.pop(actor, None)

    def _learn_acts(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.phase == "exit" and (event.ent, event.op) in self.acts:
                verb, args = self.acts.pop((event.ent, event.op))
                if verb == "create":
                    self._create(args)

    def _learn_losses(self, step: Step, answer: Answer) -> None:
        """Note what Linux has and we have not, and which of its sleepers do not sleep here."""
        ours = {(each.ent, each.file) for each in answer.events if each.op == "open"}
        theirs = {(each.ent, each.file) for each in step.answer.events if each.op == "open"}
        self.lost_files |= theirs - ours
        failed = answer.res.get("ret") == -1
        if failed and step.answer.res.get("ok") and step.verb in {"open", "reopen", "dup"}:
            self.lost.add((self.process(step.actor), step.args.get("as", step.args.get("fd", ""))))
        if failed and "pending" in step.answer.res:
            self.ended_early[step.actor] = step.number
        for actor, early in list(self.ended_early.items()):
            if early in step.answer.done:
                del self.ended_early[actor]

    def _learn_result(self, step: Step, result: Result, answer: Answer) -> None:
        failed = result.get("ret") == -1 or result.get("created") is False
        if failed or result.keys() & {"killed", "freed"}:
            return
        learn = getattr(self, f"_learn_{step.verb}", None)
        if learn is not None:
            learn(step, result, answer)

    # -- verbs -----------------------------------------------------------------------------------

    def _learn_create(self, step: Step, result: Result, answer: Answer) -> None:
        self._create(step.args)

    def _create(self, args: Mapping[str, str]) -> None:
        here = self.parent_of(args)
        assert here is not None
        *way, leaf = to_name(args["name"]).split("/")
        for name in way:
            # Some are the machine's own, which no scenario makes.
            here = here.children.setdefault(name, Node("", name, here, {"kind": "dir"}))
        node = Node(args["ent"], leaf, here, args)
        node.kept = here.kept
        self.nodes[args["ent"]] = here.children[leaf] = node

    def _learn_set(self, step: Step, result: Result, answer: Answer) -> None:
        args, node = step.args, self._node(step)
        if "data" in args:
            node.data = to_bytes(args["data"])
        if "ret" in args:
            (node.told.discard if args["ret"] == "none" else node.told.add)(args["op"])
        if "act" in args:
            verb, *words = args["act"].split(";")
            self.acts[args["ent"], args["op"]] = verb, dict(word.split("=", 1) for word in words)

    def _learn_gate(self, step: Step, result: Result, answer: Answer) -> None:
        self._node(step).gated.add(step.args["op"])

    def _learn_ungate(self, step: Step, result: Result, answer: Answer) -> None:
        node = self._node(step)
        node.gated -= {step.args["op"]} if "op" in step.args else set(node.gated)

    def _learn_set_size(self, step: Step, result: Result, answer: Answer) -> None:
        self._node(step).set_since["size"] = number(step.args["size"])

    def _learn_set_user(self, step: Step, result: Result, answer: Answer) -> None:
        self._own(self._node(step), step.args)

    def _own(self, node: Node, args: Mapping[str, str]) -> None:
        node.owner = number(args["uid"]), number(args["gid"])
        node.set_since |= {"uid": node.owner[0], "gid": node.owner[1]}

    def _learn_chmod(self, step: Step, result: Result, answer: Answer) -> None:
        node = self._found(step) if "path" in step.args else self._file(step).node
        node.set_since["mode"] = f"{number(step.args['mode']):04o}"

    _learn_fchmod = _learn_chmod

    def _learn_chown(self, step: Step, result: Result, answer: Answer) -> None:
        self._own(self._found(step), step.args)

    def _learn_chdir(self, step: Step, result: Result, answer: Answer) -> None:
        self._places[self.process(step.actor)] = self._found(step)

    def _learn_setuid(self, step: Step, result: Result, answer: Answer) -> None:
        self._unprivileged.add(step.actor)

    def _learn_open(self, step: Step, result: Result, answer: Answer) -> None:
        self._opened(step, "fd", self._found(step), answer)

    def _learn_reopen(self, step: Step, result: Result, answer: Answer) -> None:
        self._opened(step, "as", self._file(step).node, answer)

    def _opened(self, step: Step, key: str, node: Node, answer: Answer) -> None:
        opens = [each.file for each in answer.events if each.by == step.actor and each.op == "open"]
        label = opens[0] if opens else None
        ours_alone = step.answer.res.get("ret") == -1 or (label or 0) >= OURS_ALONE
        node.opens += ours_alone
        file = OpenFile(node, label, ours_alone=ours_alone)
        self._fds[self.process(step.actor), step.args[key]] = file

    def _learn_dup(self, step: Step, result: Result, answer: Answer) -> None:
        file = self._file(step)
        file.held += 1
        self._fds[self.process(step.actor), step.args["as"]] = file

    def _learn_close(self, step: Step, result: Result, answer: Answer) -> None:
        self._file(step).held -= 1
        self._fds.pop((self.process(step.actor), step.args["fd"]), None)

    def _learn_exit(self, step: Step, result: Result, answer: Answer) -> None:
        self._close_all(step.actor)

    def _end(self, actor: str) -> None:
        self._close_all(actor)
        self.joined.pop(actor, None)
        self.queued.pop(actor, None)
        for step in [step for step in self.unfinished.values() if step.actor == actor]:
            del self.unfinished[step.number]

    def _close_all(self, actor: str) -> None:
        for process, name in list(self._fds):
            if process == self.process(actor):
                self._fds.pop((process, name)).held -= 1

    def _learn_insmod(self, step: Step, result: Result, answer: Answer) -> None:
        name, node = step.args["mod"], self._entry_of(step)
        if name == "pdemod":
            self.nodes[name] = self.root.children[node.name] = node
            if node.args.get("no_remove") == "1":
                self._forgetful.add(name)
        elif name == "chrmod":
            self._devices[f"{DEVICES}{name}"] = node

    def _entry_of(self, step: Step) -> Node:
        """Make what a module makes."""
        name = step.args["mod"]
        kind = {"pdemod": "reg"}.get(name, "device")
        given = parameters(PROGRAMS[name], step.args.get("params", ""))
        args = given | {"ops": MODULE_OPS, "data": MODULE_DATA[name], "kind": kind}
        return Node(name, given.get("name", name), self.root if kind == "reg" else None, args)

    def _learn_rmmod(self, step: Step, result: Result, answer: Answer) -> None:
        name = step.args["mod"]
        node = self.nodes.pop(name, None) or self._devices.get(f"{DEVICES}{name}")
        if node is None:
            return
        node.gone = node.refusing = True
        if node.parent is not None:
            node.unlink()  # if it is a forgetful one
        if name in self._forgetful:
            self._forgetful.remove(name)
            self.forgotten[node.name] = node

    def _learn_read(self, step: Step, result: Result, answer: Answer) -> None:
        self._file(step).pos += result.get("ret", 0)

    _learn_write = _learn_readv = _learn_splice = _learn_read

    def _learn_lseek(self, step: Step, result: Result, answer: Answer) -> None:
        self._file(step).pos = result.get("ret", 0)

    # What is not the scenario's own, or was not made here, is learned of something of no account.

    def _node(self, step: Step) -> Node:
        return self.nodes.get(step.args["ent"]) or _nothing()

    def _found(self, step: Step) -> Node:
        device = self._devices.get(step.args["path"])
        if device is not None:
            return device
        return self.find(step).node or _nothing()

    def _file(self, step: Step) -> OpenFile:
        return self.descriptor(step) or OpenFile(_nothing(), None, ours_alone=False)


def _is_refused(answer: Answer, index: int) -> bool:
    """Tell whether the removal that enters at *index* was refused, and not another inside it."""
    by = answer.events[index].by
    later = [each for each in answer.events[index:] if each.by == by and each.op in REMOVALS]
    depths = accumulate(1 if each.phase == "enter" else -1 for each in later)
    end = next((n for n, depth in enumerate(depths) if depth == 0), None)
    if end is None:
        return False
    # Those that return nothing cannot say so; then the warning does, if it is no other's.
    return bool(later[end].ret) or (end == 1 and bool(answer.refusals))


def _releases(events: Iterable[Event]) -> Counter[tuple[str, int | None, str]]:
    return Counter((each.ent, each.file, each.phase) for each in events if each.op == "release")


def _nothing() -> Node:
    return Node("", "", None, {})
