"""
What our decisions make of Linux's answer to a step.

A rule gets what has happened so far and what is expected of the step, and returns what must be
expected instead; the same object if it has nothing to say. It tells our whole answer from the
scenario alone, so a wrong answer of the library stays wrong. Where a rule cannot tell it says
nothing, and Linux's answer stands.

1. Where Linux warns and carries on, we raise and change nothing.
2. ``remove_subtree`` closes the whole subtree at once.
3. The loser of two concurrent removals joins.
4. There is no dentry or inode cache.
5. Who is killed is gone at once. A removal or an unload it was in goes on without it; what it
   was loading is undone.
6. Code of a module that is gone is never run: an error says so. What a module forgets to remove
   when it goes, is removed.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from errno import EDEADLK, EEXIST, EINVAL, ENOENT
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from aiopde import DEFAULT_POLLMASK

from ._calls import DEVICES, latin
from ._history import OURS_ALONE, Found, History, Node, Removal
from ._kernel import REMOVALS
from ._path_calls import wanted
from ._scenario import Answer, Event, Step
from ._words import Result, decode, name_mask, number, open_flags, poll_mask, shown, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH_VERBS: Final = frozenset(
    {"open", "stat", "lstat", "access", "listdir", "chmod", "chown", "truncate", "readlink"}
)
_COUNTED: Final = frozenset({"read", "pread", "readv", "write", "pwrite"})
_DEAD: Final = {
    "read": "EIO",
    "pread": "EIO",
    "readv": "EIO",
    "splice": "EIO",
    "write": "EIO",
    "pwrite": "EIO",
    "mmap": "EIO",
    "lseek": "EINVAL",
    "ioctl": "ENOTTY",
    "ioctl32": "ENOTTY",
    "reopen": "ENOENT",
}
"""What a removed entry answers; poll has an answer of its own, and the rest do not ask it."""
_HANDLERS: Final = {
    "read": "read",
    "pread": "read",
    "readv": "read",
    "lseek": "lseek",
    "open": "open",
    "close": "release",
}
"""By verb: the handler of a device that it gets to."""
_IDLE: Final = -1
"""The number of the step in which an idle actor is killed: one that joins, in Linux, is that."""
_GOES_ON: Final = REMOVALS | {"insmod", "rmmod"}
"""Verbs whose work goes on when who began it is killed."""
_DIED: Final[Result] = {"died": True}
"""A kernel oops has ended the thread."""
# Refusals that come before the entry is asked, there or gone.
_BEFORE: Final = frozenset({"EBADF", "EISDIR", "ESPIPE", "EACCES", "EFAULT", "EINVAL", "ENODEV"})


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of a step."""

    answer: Answer
    loose: bool = False
    """Whether only the order within each actor is known, not that between them."""
    last: bool = False
    """Whether nothing that comes after can be compared: Linux hangs from here on."""

    def but(self, **changes: Any) -> Expected:
        """Expect the same but for some of it."""
        return replace(self, answer=replace(self.answer, **changes))

    def at_once(self, actor: str, res: Result, *events: Event) -> Expected:
        """Expect the step to be done now, with this result, having run these handlers."""
        blocked = self.answer.blocked
        if "pending" in self.answer.res:
            blocked -= {actor}
        return self.but(res=res, events=events, refusals=(), blocked=blocked)

    def failing(self, step: Step, errno: str) -> Expected:
        """Expect the step to fail at once, asking no handler."""
        return self.at_once(step.actor, {"ret": -1, "errno": errno})


# -- decision 1: refuse instead of warning ---------------------------------------------------------


def rule_nonsense_is_an_error(history: History, step: Step, expected: Expected) -> Expected:
    """A handler that claims more bytes than were asked for: EIO."""
    answer = expected.answer
    res = {"ret": -1, "errno": "EIO"} if _claims_too_much(step, answer.res) else answer.res
    done = dict(answer.done)
    for each, earlier in history.unfinished.items():
        if _claims_too_much(earlier, done.get(each, {})):
            done[each] = {"actor": earlier.actor, "ret": -1, "errno": "EIO"}
    if res is answer.res and done == answer.done:
        return expected
    return expected.but(res=res, done=done)


def _claims_too_much(step: Step, result: Result) -> bool:
    args = step.args
    if step.verb not in _COUNTED:
        return False
    asked = len(to_bytes(args["data"])) if "data" in args else 0
    asked += sum(number(args[key]) for key in ("n", "n1", "n2") if key in args)
    return int(result.get("ret", 0)) > asked


def rule_refused_removal_does_nothing(history: History, step: Step, expected: Expected) -> Expected:
    """A tree with something permanent in it, or a file with something below, stays as it is."""
    node = history.target(step.verb, step.args) if step.verb in REMOVALS else None
    if node is None or not (node.children if step.verb == "remove_entry" else node.permanent):
        return expected
    own = tuple(event for event in expected.answer.events if event.op == step.verb)
    return expected.but(events=own)


def rule_kept_name_is_taken(history: History, step: Step, expected: Expected) -> Expected:
    """What we did not remove is still there: its name is not free, nothing is below another."""
    if step.verb != "create" or not expected.answer.res["created"]:
        return expected
    if history.parent_of(step.args) is None:
        return expected.but(res={"created": False}, refusals=(ENOENT,))
    there = history.target("remove_entry", step.args)
    if there is None or history.removal_of(there) is not None:
        return expected
    return expected.but(res={"created": False}, refusals=(EEXIST,))


def rule_path_leads_to_what_is_there(history: History, step: Step, expected: Expected) -> Expected:
    """What we did not remove is found, and so is what has taken the name of what we did."""
    found = _parted(history, step)
    if found is None or found.node is None or not history.is_privileged(step.actor):
        return expected
    node, args = found.node, step.args
    match step.verb:
        case "open":
            return _open(node, step, expected)
        case "stat" | "lstat":
            return expected.at_once(step.actor, node.stat())
        case "listdir" if node.is_dir:
            names = [[".", "DIR"], ["..", "DIR"]]
            names += [[latin(child.name), child.stat()["type"]] for child in node.in_order()]
            return expected.at_once(step.actor, {"names": [n for n in names if wanted(n[0], args)]})
        case "listdir":
            return expected.failing(step, "ENOTDIR")
        case "readlink" if node.kind == "symlink":
            return expected.at_once(step.actor, shown(to_bytes(node.args["target"])))
        case "readlink":
            return expected.failing(step, "EINVAL")
        case _:
            return expected.at_once(step.actor, {"ret": 0})


def _parted(history: History, step: Step) -> Found | None:
    """Walk the path of a step, if it has one and we may get elsewhere by it than Linux does."""
    if step.verb not in _PATH_VERBS:
        return None
    found = history.find(step, follow=step.verb not in {"lstat", "readlink"})
    return found if found.parted else None


def _open(node: Node, step: Step, expected: Expected) -> Expected:
    if any(event.ent == node.key for event in expected.answer.events):
        return expected
    flags = open_flags(step.args.get("flags", "RDONLY"))
    if "open" not in node.ops or flags & os.O_PATH:
        return expected.at_once(step.actor, {"ok": True})
    label = OURS_ALONE + node.opens
    return expected.at_once(step.actor, {"ok": True}, *_run(step, node, "open", label, 0))


def _run(
    step: Step, node: Node, op: str, label: int | None, ret: int, arg: str | None = None
) -> tuple[Event, Event]:
    enter = Event(step.actor, node.key, op, "enter", label, arg=arg)
    return enter, Event(step.actor, node.key, op, "exit", label, ret)


def rule_our_file_is_alive(history: History, step: Step, expected: Expected) -> Expected:
    """What we did not remove, or alone have opened, is read and released as usual."""
    file = history.descriptor(step)
    if file is None or file.node.refusing or not (file.node.kept or file.ours_alone):
        return expected
    if step.verb in {"read", "pread"} and file.node.does("read"):
        size, pos = number(step.args["n"]), number(step.args.get("off", str(file.pos)))
        data = file.node.data[pos : pos + size]
        events = _run(step, file.node, "read", file.label, len(data), f"n={size} pos={pos}")
        return expected.at_once(step.actor, shown(data), *events)
    if step.verb == "close" and file.held == 1 and file.node.does("release"):
        events = _run(step, file.node, "release", file.label, 0)
        return expected.at_once(step.actor, {"ret": 0}, *events)
    return expected


# -- decision 2: the whole subtree at once ---------------------------------------------------------


def rule_closed_entry_refuses(history: History, step: Step, expected: Expected) -> Expected:
    """While a removal waits in one entry, all others of the subtree refuse calls already."""
    file = history.descriptor(step)
    if file is None or file.node.is_dir or not history.lives_in_linux(file.node):
        return expected
    if not expected.answer.events and expected.answer.res.get("errno") in _BEFORE:
        return expected
    return _refuse(step, expected)


def _refuse(step: Step, expected: Expected) -> Expected:
    """Let a call find nobody who answers it."""
    if step.verb == "poll":
        mask = DEFAULT_POLLMASK & poll_mask(step.args["events"])
        res: Result = {"ret": int(mask != 0), "revents": name_mask(mask)}
        return expected.at_once(step.actor, res)
    return expected.failing(step, _DEAD[step.verb]) if step.verb in _DEAD else expected


def rule_nothing_permanent_begins_in_what_goes(
    history: History, step: Step, expected: Expected
) -> Expected:
    """Where a removal is under way nothing permanent is made; in Linux it stops at that later."""
    if step.verb != "create" or "permanent" not in step.args or not expected.answer.res["created"]:
        return expected
    here = history.parent_of(step.args)
    around = [] if here is None else [here, *here.above()]
    if not any(removal.root in around for removal in history.removals):
        return expected
    return replace(expected.but(res={"created": False}, refusals=(EINVAL,)), last=True)


def rule_unlinked_name_is_not_found(history: History, step: Step, expected: Expected) -> Expected:
    """While a removal waits, nothing of the subtree is found by a path, cached there or not."""
    found = _parted(history, step)
    return expected if found is None or found.node else expected.failing(step, found.missing)


def rule_no_such_descriptor(history: History, step: Step, expected: Expected) -> Expected:
    """What could not be opened cannot be used: its descriptor was never made."""
    if history.is_lost(step, "at"):
        return expected.failing(step, "EBADF")
    if step.verb == "open" or not history.is_lost(step):
        return expected
    if step.verb == "poll":
        return expected.at_once(step.actor, {"ret": 1, "revents": "NVAL"})
    return expected.failing(step, "ENOENT" if step.verb in {"reopen", "fdpos"} else "EBADF")


def rule_lost_file_is_not_released(history: History, step: Step, expected: Expected) -> Expected:
    """What was never opened is not released, and who was refused at once sleeps in nothing."""
    answer, early = expected.answer, history.ended_early
    if step.verb == "blocked" and step.args["actor"] in early:
        answer = replace(answer, res={"blocked": False})
    events = tuple(
        each
        for each in answer.events
        if (each.ent, each.file) not in history.lost_files and each.by not in early
    )
    done = {number: res for number, res in answer.done.items() if number not in early.values()}
    blocked = answer.blocked - early.keys()
    return replace(expected, answer=replace(answer, events=events, done=done, blocked=blocked))


# -- decision 3: the loser joins -------------------------------------------------------------------


def rule_loser_joins(history: History, step: Step, expected: Expected) -> Expected:
    """Who removes what somebody else is removing, or something of it, waits for that."""
    if step.verb not in REMOVALS or step.actor in history.joined or history.going(step) is None:
        return expected
    *done, last = expected.answer.events
    if (last.op, last.phase) != (step.verb, "exit"):
        return expected  # it waits in Linux too
    blocked = expected.answer.blocked | {step.actor}
    return expected.but(res={"pending": True}, events=tuple(done), refusals=(), blocked=blocked)


def rule_joined_actor_sleeps(history: History, step: Step, expected: Expected) -> Expected:
    """Who waits so takes no further step until that is over, and is asleep for all to see."""
    if not history.joined:
        return expected
    expected = expected.but(blocked=expected.answer.blocked | history.joined.keys())
    if step.actor in history.joined:
        return expected.but(res={"pending": True}, events=(), refusals=())
    if step.verb == "blocked" and step.args["actor"] in history.joined:
        return expected.but(res={"blocked": True})
    return expected


def rule_joined_actor_returns(history: History, step: Step, expected: Expected) -> Expected:
    """When the winner is done, the loser is too, without an error; then it takes its steps."""
    events = expected.answer.events
    freed = [
        actor for actor, removal in history.joined.items() if removal.end_in(events) is not None
    ]
    if not freed:
        return expected
    answer = expected.answer
    for actor in freed:
        first = min(n for n, each in history.unfinished.items() if each.actor == actor)
        answer = _return(answer, history.unfinished[first], {"ret": 0})
        for queued in history.queued.get(actor, []):
            answer = _take_late(answer, queued, history.joined[actor])
    answer = replace(answer, blocked=answer.blocked - set(freed))
    return Expected(answer, loose=True)


def _take_late(answer: Answer, step: Step, winner: Removal) -> Answer:
    """Let a step be taken late: a removal finds nothing left, since the winner has done it."""
    theirs = step.answer
    if step.verb not in REMOVALS:
        return _finish(answer, step, theirs.res, *theirs.events)
    releases = [replace(e, by=winner.enter.by) for e in theirs.events if e.op not in REMOVALS]
    end = winner.end_in(answer.events)
    events = (*answer.events[:end], *releases, *answer.events[end:], theirs.events[0])
    refused = (ENOENT,) if step.verb == "remove_entry" else ()
    answer = replace(answer, events=events, refusals=answer.refusals + refused)
    missing: Result = {"ret": -ENOENT, "errno": "ENOENT"}
    return _return(answer, step, missing if step.verb == "remove_subtree" else {"ret": 0})


def _return(answer: Answer, removal: Step, res: Result) -> Answer:
    return _finish(
        answer, removal, res, replace(removal.answer.events[0], phase="exit", ret=res["ret"])
    )


def _finish(answer: Answer, step: Step, res: Result, *events: Event) -> Answer:
    done = answer.done | {step.number: {"actor": step.actor} | res}
    return replace(answer, done=done, events=(*answer.events, *events))


def rule_removal_of_oneself_is_refused(
    history: History, step: Step, expected: Expected
) -> Expected:
    """A handler that would wait for itself: EDEADLK. Where Linux hangs, that is the end of it."""
    log = expected.answer.events
    for index, (handler, enter) in enumerate(pairwise(log)):
        act = history.acts.get((handler.ent, handler.op))
        if act is None or enter.op not in REMOVALS or enter.phase != "enter":
            continue
        node, inside = history.target(*act), history.nodes[handler.ent]
        covered = [node] if enter.op == "remove_entry" else node and node.subtree()
        if node is not None and not node.gone and inside in (covered or ()):
            return _refuse_removal(history, step, expected, index)
    return expected


def _refuse_removal(history: History, step: Step, expected: Expected, index: int) -> Expected:
    """Refuse the removal that begins after *index*: Linux finds nothing to remove, or hangs."""
    log = expected.answer.events
    subtree = log[index + 1].op == "remove_subtree"
    leave = replace(log[index + 1], phase="exit", ret=-EDEADLK if subtree else 0)
    expected = expected.but(refusals=() if subtree else (EDEADLK,))
    if [replace(each, ret=leave.ret) for each in log[index + 2 : index + 3]] == [leave]:
        return expected.but(events=(*log[: index + 2], leave, *log[index + 3 :]))
    return _end_hang(history, step, expected, index, leave)


def _end_hang(
    history: History, step: Step, expected: Expected, index: int, leave: Event
) -> Expected:
    """Let the call go on after the refusal as if there had been no act."""
    answer, handler = expected.answer, expected.answer.events[index]
    calls = [*history.unfinished.values(), step]
    call = next(each for each in calls if each.actor == handler.by)
    res = _usual_result(history, call, handler.op)
    end = replace(handler, phase="exit", arg=None, ret=res.get("ret", 0))
    before, after = answer.events[: index + 2], answer.events[index + 2 :]
    changed = expected.but(
        events=(*before, leave, end, *after), blocked=answer.blocked - {call.actor}
    )
    if call is step:
        return replace(changed.but(res=res), last=True)
    done = answer.done | {call.number: {"actor": call.actor} | res}
    return replace(changed.but(done=done), last=True)


def _usual_result(history: History, call: Step, op: str) -> Result:
    file = history.descriptor(call)
    if file is not None and call.verb in {"read", "pread"}:
        size, pos = number(call.args["n"]), number(call.args.get("off", str(file.pos)))
        return shown(file.node.data[pos : pos + size])
    return {"ok": True} if op in {"open", "mmap"} else {"ret": 0}


# -- decision 4: no cache --------------------------------------------------------------------------


def rule_attributes_are_true(history: History, step: Step, expected: Expected) -> Expected:
    """What was set is what stat shows, whenever and through whatever mount it looks."""
    if step.verb not in {"stat", "lstat", "fstat"} or expected.answer.res.get("ret") != 0:
        return expected
    file = history.descriptor(step)
    node = file.node if file is not None else None
    if step.verb != "fstat":
        node = history.find(step, follow=step.verb == "stat").node
    res = expected.answer.res | (node.set_since if node is not None else {})
    return expected if res == expected.answer.res else expected.but(res=res)


# -- decision 5: to be killed is to be cancelled ---------------------------------------------------


def rule_killed_actor_is_gone_at_once(history: History, step: Step, expected: Expected) -> Expected:
    """Who is killed waits for nothing, and closes its files; what it was removing goes on."""
    expected = _without_the_killed(history, step, expected)
    if step.verb != "signal" or step.args["sig"] != "KILL":
        return expected
    actor, answer = step.args["actor"], expected.answer
    call = history.waiting(actor)
    if call is None or call.number in answer.done or not _is_cancelled(history, call):
        return expected
    killed = {"actor": actor, "killed": "SIGKILL"}
    done, events = dict(answer.done), answer.events
    if done.pop(_IDLE, None) != killed:
        events += tuple(_releases(history, actor))
    done[call.number] = killed
    return expected.but(done=done, blocked=answer.blocked - {actor}, events=events)


def _releases(history: History, actor: str) -> Iterator[Event]:
    """Yield what an actor's end makes happen."""
    for file in history.exclusive_files(actor):
        if file.node.does("release"):
            enter = Event(actor, file.node.key, "release", "enter", file.label)
            yield from (enter, replace(enter, phase="exit", ret=0))


def _is_cancelled(history: History, call: Step) -> bool:
    """Tell whether a call that has not noticed in Linux waits for what another does."""
    if call.verb in _GOES_ON:
        return True
    return call.verb not in {"close", "exit", "munmap"} and call.actor not in history.asleep


def _without_the_killed(history: History, step: Step, expected: Expected) -> Expected:
    """Leave out that those whom we have seen die are still there, and what they close later."""
    answer, early = expected.answer, history.killed_early
    if step.verb == "blocked" and step.args["actor"] in early:
        answer = replace(answer, res={"blocked": False})
    if not early:
        return expected
    silent = {actor for actor, call in early.items() if call.verb not in _GOES_ON}
    over = Counter(history.closed_early)
    events = [event for event in answer.events if event.by not in silent]
    events = [event for event in events if not _take_one(over, event)]
    ended = {call.number for call in early.values()}
    done = {number: res for number, res in answer.done.items() if number not in ended}
    blocked = answer.blocked - early.keys()
    answer = replace(answer, events=tuple(events), done=done, blocked=blocked)
    return replace(expected, answer=answer)


def _take_one(over: Counter[tuple[str, int | None, str]], event: Event) -> bool:
    """Tell whether a release has taken place already, and take it off the list."""
    key = event.ent, event.file, event.phase
    if event.op != "release" or not over[key]:
        return False
    over[key] -= 1
    return True


def rule_cancelled_load_is_undone(history: History, step: Step, expected: Expected) -> Expected:
    """Who is killed has loaded nothing, though the init of it has come to its end."""
    if step.args.get("mod") not in history.undone:
        return expected
    if step.verb == "modstate":
        return expected.but(res={"state": "absent"})
    return expected.failing(step, "ENOENT") if step.verb == "rmmod" else expected


# -- decision 6: freed code is not run -------------------------------------------------------------


def rule_freed_code_is_an_error(history: History, step: Step, expected: Expected) -> Expected:
    """A call that reaches code of a module that is gone: an error, and nobody dies of it."""
    answer = expected.answer
    if answer.res == _DIED:
        expected = _unless_freed(history, step, expected)
    done, events = dict(answer.done), answer.events
    for call in history.unfinished.values():
        device, died = history.device(call), {"actor": call.actor} | _DIED
        if device is not None and done.get(call.number) == died:
            done[call.number] = {"actor": call.actor} | _freed(device, _HANDLERS[call.verb])
            events = _let_end(history, call, events)
    return expected if done == answer.done else expected.but(done=done, events=events)


def _unless_freed(history: History, step: Step, expected: Expected) -> Expected:
    device, file = history.device(step), history.descriptor(step)
    if device is None:
        return expected
    if step.verb == "close" and file is not None and file.held > 1:
        return expected.but(res={"ret": 0})
    if step.verb in _HANDLERS:
        return expected.but(res=_freed(device, _HANDLERS[step.verb]))
    return _refuse(step, expected)


def _freed(node: Node, handler: str) -> Result:
    return {"freed": f"{handler} of {DEVICES}{node.name}", "module": node.key}


def _let_end(history: History, call: Step, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Let the handler of a call return: only then is it seen that there is nowhere to return to."""
    last = max(index for index, event in enumerate(events) if event.by == call.actor)
    ret = _usual_result(history, call, events[last].op).get("ret", 0)
    leave = replace(events[last], phase="exit", arg=None, ret=ret)
    return (*events[: last + 1], leave, *events[last + 1 :])


def rule_forgotten_entry_is_removed(history: History, step: Step, expected: Expected) -> Expected:
    """What a module has not removed is removed after its exit, as if that had done it."""
    answer = expected.answer
    if step.verb == "rmmod" and answer.res == {"ret": 0}:
        node = history.forgets(step.args["mod"])
        files = [] if node is None else history.open_files(node)
        releases = [_run(step, each.node, "release", None, 0) for each in files]
        events = (*answer.events, *(event for pair in releases for event in pair))
        return expected.but(events=events) if releases else expected
    if step.verb == "listdir" and "names" in answer.res and _lists_root(step):
        names = [each for each in answer.res["names"] if each[0] not in history.forgotten]
        return expected.but(res={"names": names})
    if step.verb == "remove_entry" and "parent" not in step.args:
        missing = decode(step.args["name"]) in history.forgotten
        return expected.but(refusals=(ENOENT,)) if missing else expected
    file = history.descriptor(step)
    if step.verb == "close" and file is not None and file.node in history.forgotten.values():
        return expected.at_once(step.actor, {"ret": 0})
    return expected


def _lists_root(step: Step) -> bool:
    return step.args["path"].rstrip("/") == "/proc"


# -- no decision: what Linux leaves to chance ------------------------------------------------------


def rule_woken_polls_race(history: History, step: Step, expected: Expected) -> Expected:
    """Polls that are woken together ask again in any order."""
    asking = {event.by for event in expected.answer.events if event.op == "poll"}
    return replace(expected, loose=True) if len(asking) > 1 else expected


RULES: Final = (
    rule_attributes_are_true,
    rule_removal_of_oneself_is_refused,
    rule_nonsense_is_an_error,
    rule_refused_removal_does_nothing,
    rule_kept_name_is_taken,
    rule_path_leads_to_what_is_there,
    rule_our_file_is_alive,
    rule_closed_entry_refuses,
    rule_nothing_permanent_begins_in_what_goes,
    rule_unlinked_name_is_not_found,
    rule_no_such_descriptor,
    rule_lost_file_is_not_released,
    rule_loser_joins,
    rule_joined_actor_sleeps,
    rule_joined_actor_returns,
    rule_killed_actor_is_gone_at_once,
    rule_cancelled_load_is_undone,
    rule_freed_code_is_an_error,
    rule_forgotten_entry_is_removed,
    rule_woken_polls_race,
)
"""All of them, in the order in which they are asked."""


def apply(history: History, step: Step, linux: Answer) -> tuple[Expected, list[str]]:
    """Ask every rule; return what is expected, and the names of those that changed something."""
    expected, used = Expected(linux), list[str]()
    for rule in RULES:
        changed = rule(history, step, expected)
        if changed != expected:
            used.append(rule.__name__)
        expected = changed
    return expected, used
