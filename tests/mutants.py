"""
Break the package on purpose, in one way after the other, and see that the race tests notice.

    python -m tests.mutants [WORD…]

applies each mutation (whose name has one of the words in it) to a copy of the package, and runs
the tests of races/ and properties/ on it, and of what else goes before them. It prints which test
noticed first, and exits with 1 if none did, or if a mutation does not fit the source any more: then
mend it here. Not part of the test suite: it takes some seconds a mutant.
"""

# ruff: noqa: T201  it is a command

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
AT_ONCE: Final = 2
SECONDS: Final = 90
"""A mutant that hangs has been noticed, too."""
# Without the explored races: they have mutants of their own, and take as long as all the rest.
TESTS: Final = (
    *(f"tests/test_{name}.py" for name in ("fast", "killable", "mapping", "modules", "mutex")),
    *(f"tests/test_{name}.py" for name in ("removal", "unload", "wait", "watch")),
    *("tests/races", "tests/properties"),
    "--ignore=tests/races/explored",
)


class Mutant(NamedTuple):
    """A mistake: in which file, what is written there, and what instead."""

    name: str
    file: str
    old: str
    new: str


MUTANTS: Final = (
    # -- the integer
    Mutant(
        "use: let in although removal began",
        "_usecount.py",
        "        if self._in_use < 0:\n            return False\n        self._in_use += 1\n",
        "        self._in_use += 1\n",
    ),
    Mutant(
        "unuse: completes at the first leave, not at the last",
        "_usecount.py",
        "        if self._in_use == BIAS and self._completion is not None:",
        "        if self._completion is not None:",
    ),
    Mutant(
        "unuse: completes before the last leave",
        "_usecount.py",
        "        if self._in_use == BIAS and self._completion is not None:",
        "        if self._in_use == BIAS + 1 and self._completion is not None:",
    ),
    Mutant(
        "unuse: the wake-up is lost",
        "_usecount.py",
        "            self._completion.set()\n",
        "            pass\n",
    ),
    Mutant(
        "kill: the bias is added twice",
        "_usecount.py",
        "        if self._in_use < 0:\n            return False\n        if self._in_use:\n",
        "        if self._in_use:\n",
    ),
    Mutant(
        "rundown: the completion is made after the bias, and after an await",
        "_usecount.py",
        "        self._kill()\n        if self._in_use != BIAS:\n",
        "        self._kill()\n        if self._in_use != BIAS:\n            await checkpoint()\n"
        "            self._completion = anyio.Event()\n",
    ),
    # -- in and out of an open file
    Mutant(
        "read: an await between the check and the increment",
        "_read_write.py",
        "        else:\n            file._in_use = 1\n",
        "        else:\n            from anyio.lowlevel import checkpoint\n"
        "            await checkpoint()\n            file._in_use = 1\n",
    ),
    Mutant(
        "open: an await between the check and the increment",
        "_open.py",
        "        entry._in_use += 1\n        try:\n            await run_open(file)",
        "        await anyio.lowlevel.checkpoint()\n"
        "        entry._in_use += 1\n"
        "        try:\n"
        "            await run_open(file)",
    ),
    Mutant(
        "open: linked after leaving",
        "_open.py",
        "            await run_open(file)\n"
        "            entry._add_file(file)\n"
        "        finally:\n"
        "            entry.unuse()\n",
        "            await run_open(file)\n"
        "        finally:\n"
        "            entry.unuse()\n"
        "        await anyio.lowlevel.checkpoint()\n"
        "        entry._add_file(file)\n",
    ),
    Mutant(
        "open: linked even if it failed",
        "_open.py",
        "            await run_open(file)\n            entry._add_file(file)\n        finally:\n",
        "            await run_open(file)\n        finally:\n            entry._add_file(file)\n",
    ),
    Mutant(
        "open: an await after the handler's success",
        "_open.py",
        "            await run_open(file)\n            entry._add_file(file)\n",
        "            await run_open(file)\n"
        "            await anyio.lowlevel.checkpoint()\n"
        "            entry._add_file(file)\n",
    ),
    Mutant(
        "call: not counted",
        "_open_file.py",
        "        self._enter()\n        self._own_traffic().shared += 1\n        try:\n"
        "            return await run(self, op, *args)\n        finally:\n"
        "            if self._leave_shared():\n                await self._release_late()\n",
        "        return await run(self, op, *args)\n",
    ),
    Mutant(
        "call: a leave is lost on cancellation",
        "_open_file.py",
        "            return await run(self, op, *args)\n        finally:\n"
        "            if self._leave_shared():\n                await self._release_late()\n",
        "            result = await run(self, op, *args)\n        except Exception:\n"
        "            self._leave_shared()\n            raise\n        if self._leave_shared():\n"
        "            await self._release_late()\n        return result\n",
    ),
    Mutant(
        "leave: nobody releases what was closed under the call",
        "_open_file.py",
        "        return traffic.descriptors == 0\n",
        "        return False\n",
    ),
    Mutant(
        "put: a close releases under a call",
        "_open_file.py",
        "        if traffic.descriptors == 0 and self.in_use == 0:\n",
        "        if traffic.descriptors == 0:\n",
    ),
    Mutant(
        "position: no look at the removal after the wait",
        "_open_file.py",
        "        if not waiter.granted:\n            raise self._refuse(call)\n",
        "        if not waiter.granted:\n            self._enter()\n",
    ),
    Mutant(
        "position: handed over although the entry is going",
        "_open_file.py",
        "        if queue and traffic.in_use >= 0:\n",
        "        if queue:\n",
    ),
    Mutant(
        "position: handed to somebody who was cancelled",
        "_open_file.py",
        "                queue.remove(waiter)\n",
        "                pass\n",
    ),
    Mutant(
        "mmap: the mapping comes after the leave",
        "_file.py",
        "        file._hold()  # before the call has left: its file may have been closed"
        " meanwhile\n"
        "        try:\n"
        '            return Mapping(file, await file._call("mmap", length, prot, flags))\n'
        "        except BaseException:\n            await file._put()\n            raise\n",
        '        value = await file._call("mmap", length, prot, flags)\n        file._hold()\n'
        "        return Mapping(file, value)\n",
    ),
    # -- closing and releasing
    Mutant(
        "close: does not wait for the remover's release",
        "_open_file.py",
        "            with anyio.CancelScope(shield=True):\n"
        "                await self._completion().wait()\n",
        "            return\n",
    ),
    Mutant(
        "close: waits for the remover's release without a shield",
        "_open_file.py",
        "            with anyio.CancelScope(shield=True):\n"
        "                await self._completion().wait()\n",
        "            await self._completion().wait()\n",
    ),
    Mutant(
        "close: releases without a shield",
        "_open_file.py",
        "            with anyio.CancelScope(shield=True):\n"
        "                await self._run_release()\n",
        "            await self._run_release()\n",
    ),
    Mutant(
        "close: releases what the remover is releasing",
        "_open_file.py",
        "        elif self._closing:\n",
        "        elif self._closing and self.entry is None:\n",
    ),
    Mutant(
        "release: the record is unlinked before the handler runs",
        "_open_file.py",
        "        try:\n"
        '            await run(self, "release")\n'
        "        finally:\n"
        "            self._released()\n",
        '        self._released()\n        await run(self, "release")\n',
    ),
    Mutant(
        "release: who waits for its end is not woken",
        "_open_file.py",
        "            traffic.completion.set()\n",
        "            pass\n",
    ),
    Mutant(
        "remover: releases what a close is releasing",
        "_removal.py",
        "        if file._closing:\n            return file._completion()\n",
        "",
    ),
    Mutant(
        "remover: does not wait for a close's release",
        "_removal.py",
        "        while entry._newest is not None:\n",
        "        while any(not file._closing for file in entry._open_files):\n",
    ),
    Mutant(
        "remover: oldest first",
        "_removal.py",
        "            obstacle = self._close(entry._newest)\n",
        "            obstacle = self._close(entry._open_files[-1])\n",
    ),
    Mutant(
        "remover: oldest first, of those whose release waits for nothing",
        "_removal.py",
        "        try:\n            while file is not None:\n",
        "        try:\n            for file in entry._open_files[::-1]:\n",
    ),
    Mutant(
        "close: a quick one forgets that calls are inside",
        "_file.py",
        "        if file._in_use or sinks:\n",
        "        if file.removing or sinks:\n",
    ),
    Mutant(
        "close: a quick one is not seen by the entry",
        "_file.py",
        "            if entry._newest is file:  # _take_file() in place, for the one opened last\n",
        "            if entry._newest is not file:\n                pass\n            elif ops:\n",
    ),
    Mutant(
        "open: a quick one is not shut when it comes too late",
        "_vfs.py",
        "                    file._kill()\n                    entry._late_out()\n",
        "                    entry._late_out()\n",
    ),
    Mutant(
        "read_bytes: a quick one wakes nobody",
        "_vfs.py",
        "            entry._in_use = left = entry._in_use - 1\n            if left < 0:\n"
        "                entry._late_out()\n\n    async def read_text",
        "            entry._in_use -= 1\n\n    async def read_text",
    ),
    # -- removal
    Mutant(
        "kill: forgets the calls on open files",
        "_entry.py",
        "                self._in_use += file._kill()\n",
        "                file._kill()\n",
    ),
    Mutant(
        "kill: forgets the open files",
        "_entry.py",
        "        while file is not None:\n            if file._in_use:\n",
        "        while False:\n            if file._in_use:\n",
    ),
    Mutant(
        "kill: forgets files opened during the drain",
        "_entry.py",
        "        if self._in_use < 0:\n            file._kill()\n",
        "",
    ),
    Mutant(
        "remover: does not wait for the calls inside",
        "_removal.py",
        "        if entry._in_use != BIAS:\n            return entry._completion\n",
        "",
    ),
    Mutant(
        "remover: does not wait for removals below",
        "_removal.py",
        "            if not other.done and is_below(other.root, entry):\n"
        "                return other.event(other.root)\n",
        "            pass\n",
    ),
    Mutant(
        "remover: forgets removals that begin later",
        "_removal.py",
        "            around._others.append(self)\n",
        "            pass\n",
    ),
    Mutant(
        "remover: what is below stays open until its turn",
        "_removal.py",
        "        for entry in entries:\n            if entry._rare is usual",
        "        for entry in [root]:\n            if entry._rare is usual",
    ),
    Mutant(
        "remover: what was created meanwhile is not shut",
        "_removal.py",
        "            child._kill()\n            child._removal = self\n",
        "            child._removal = self\n",
    ),
    Mutant(
        "remover: the parent goes before the child",
        "_removal.py",
        "            if obstacle is not None:\n"
        "                return obstacle\n            if not entry._rare.children:",
        "            if obstacle is not None:\n"
        "                self._ascend()\n                return obstacle\n"
        "            if not entry._rare.children:",
    ),
    Mutant(
        "remover: a permanent entry below is overlooked",
        "_removal.py",
        "    entries = subtree(root)\n    tables",
        "    entries = [root]\n    tables",
    ),
    Mutant(
        "loser: returns early",
        "_procfs.py",
        "            await self._reaper.watch(removal, grace).wait(removal.event(entry))\n",
        "            await checkpoint()\n",
    ),
    Mutant(
        "losers: only the last one is woken",
        "_removal.py",
        "        if entry not in self._events:\n            self._events[entry] = anyio.Event()\n",
        "        self._events[entry] = anyio.Event()\n",
    ),
    Mutant(
        "remover: cancelled, it leaves the rest undone",
        "_reaper.py",
        "            if not removal.done:\n"
        "                self.hand_over(removal)\n            raise\n",
        "            raise\n",
    ),
    Mutant(
        "remover: an await before the unlinking",
        "_procfs.py",
        "            removal = self._reaper.begin(entry, removable(entry))\n"
        "            await self._reaper.complete(removal, grace, later=later)\n",
        "            await checkpoint()\n"
        "            removal = self._reaper.begin(entry, removable(entry))\n"
        "            await self._reaper.complete(removal, grace, later=later)\n",
    ),
    Mutant(
        "by name: an older removal is joined",
        "_reaper.py",
        "        for removal in reversed(self.removals):\n",
        "        for removal in self.removals:\n",
    ),
    Mutant(
        "exit: forgets what was created below what is gone",
        "_procfs.py",
        "            removals += [self._reaper.begin(child, subtree(child))"
        " for child in gone._children]\n",
        "            pass\n",
    ),
    # -- waiting
    Mutant(
        "wait: looks at the condition, and is in the queue only after a checkpoint",
        "_open_file.py",
        "            with Wakeup(self.entry) as wakeup:\n",
        "            await anyio.lowlevel.checkpoint()\n"
        "            with Wakeup(self.entry) as wakeup:\n",
    ),
    Mutant(
        "wake_up: wakes only one",
        "_wait.py",
        "        for event in self._waiters:\n"
        "            event.set()\n        self._waiters.clear()\n",
        "        for event in list(self._waiters)[:1]:\n            event.set()\n"
        "            del self._waiters[event]\n",
    ),
    Mutant(
        "remover: started eagerly by a plain handler, it goes on below that",
        "_watch.py",
        "    return in_any_handler(plain=True)\n",
        "    return False\n",
    ),
    Mutant(
        "kill: wakes nobody who waits for a condition",
        "_entry.py",
        "            for event in self._rare.watchers.values():\n                event.set()\n",
        "",
    ),
    Mutant(
        "position: only one can wait for it",
        "_open_file.py",
        "        queue.append(waiter)\n",
        "        queue.clear()\n        queue.append(waiter)\n",
    ),
    Mutant(
        "mutex: let in although it is locked",
        "_mutex.py",
        "        if self._locked:\n            return False\n",
        "",
    ),
    Mutant(
        "mutex: free for a moment while it is handed over",
        "_mutex.py",
        "            self._waiters.popleft().set()\n",
        "            self._locked = False\n            self._waiters.popleft().set()\n",
    ),
    Mutant(
        "mutex: whose turn it is, cancelled, keeps it",
        "_mutex.py",
        "            if turn.is_set():\n                self.unlock()\n            else:\n",
        "            if not turn.is_set():\n",
    ),
    Mutant(
        "seq: a session that is cancelled is not stopped",
        "_seq_read.py",
        "            with anyio.CancelScope(shield=True):\n                await self._stop(exc)\n",
        "            self._item = exc\n",
    ),
    # -- removal, in the ways in which Linux and others had it wrong
    Mutant(
        "rundown: shuts the door after the last is out",
        "_usecount.py",
        "        self._kill()\n        if self._in_use != BIAS:\n",
        "        while self._in_use > 0:\n            await checkpoint()\n"
        "        self._kill()\n        if self._in_use != BIAS:\n",
    ),
    Mutant(
        "remover: releases nothing, and waits for the closers",
        "_removal.py",
        "        if file.entry.ops._release_suspends:\n            return file\n",
        "        if file.entry.ops._release_suspends:\n            return file._completion()\n",
    ),
    Mutant(
        "remover: cancelled, it lets the entry live again",
        "_reaper.py",
        "            if not removal.done:\n"
        "                self.hand_over(removal)\n            raise\n",
        "            if not removal.done:\n"
        "                removal.root._in_use += 1 << 31\n"
        "                self.hand_over(removal)\n            raise\n",
    ),
    Mutant(
        "remover: handed over, it can be cancelled",
        "_reaper.py",
        "        scope = anyio.CancelScope(shield=True)\n        self._finishers",
        "        scope = self.tasks.cancel_scope\n        self._finishers",
    ),
    Mutant(
        "remover: by name, it looks again after a checkpoint",
        "_procfs.py",
        "        await self._remove_entry(entry, grace)\n\n    async def remove_subtree",
        "        await checkpoint()\n"
        "        await self._remove_entry(self._find(name, parent), grace)\n\n"
        "    async def remove_subtree",
    ),
    Mutant(
        "grace: nobody is cancelled when it has ended",
        "_watch.py",
        "        kill_calls(self._removal, goal)\n        if stubborn",
        "        if stubborn",
    ),
    Mutant(
        "grace: when it has ended, the entry lives again",
        "_watch.py",
        "            raise RemovalTimeoutError(goal.path, now - self._began, stubborn)\n",
        "            goal._in_use += 1 << 31\n"
        "            raise RemovalTimeoutError(goal.path, now - self._began, stubborn)\n",
    ),
    Mutant(
        "grace: cuts releases short, too",
        "_invoke.py",
        '        if isinstance(entry, KillableEntry) and op != "release":\n',
        "        if isinstance(entry, KillableEntry):\n",
    ),
    Mutant(
        "close: the descriptor is open until after the checkpoint",
        "_file.py",
        "        file, self._file = self._file, CLOSED\n"
        "        try:\n            await self._checkpoint()\n"
        "        finally:\n",
        "        file = self._file\n        try:\n            await self._checkpoint()\n"
        "        finally:\n            self._file = CLOSED\n",
    ),
    Mutant(
        "close: cancelled, it closes nothing",
        "_file.py",
        "        try:\n            await self._checkpoint()\n        finally:\n"
        "            if file is not CLOSED:\n                await file._put()\n",
        "        await self._checkpoint()\n"
        "        if file is not CLOSED:\n            await file._put()\n",
    ),
    # -- modules
    Mutant(
        "rmmod: an await between the look at the references and the going",
        "_kernel.py",
        "        module = self._modules.may_unload(name, force=force)\n"
        "        self._modules.begin_unload(module)\n",
        "        module = self._modules.may_unload(name, force=force)\n"
        "        await checkpoint()\n        self._modules.begin_unload(module)\n",
    ),
    Mutant(
        "rmmod: returns before it is gone",
        "_modules.py",
        "        await watch.wait(module._gone)\n",
        "        await watch.wait(module._unload)\n",
    ),
    Mutant(
        "module: what exit forgot stays",
        "_modules.py",
        "        forgotten = await module._entries.sweep(module._errors)\n",
        "        await anyio.lowlevel.checkpoint()\n        forgotten = []\n",
    ),
    Mutant(
        "module: a reference although it is going",
        "_module.py",
        "        if self.state in {ModuleState.GOING, ModuleState.GONE} or self._refcnt == 0:\n",
        "        if self.state is ModuleState.GONE:\n",
    ),
    Mutant(
        "insmod: an await between the look at the name and the taking of it",
        "_modules.py",
        "        module = Module(self._kernel, source, params)\n"
        "        self.by_name[module.name] = module\n",
        "        module = Module(self._kernel, source, params)\n"
        "        await anyio.lowlevel.checkpoint()\n"
        "        self.by_name[module.name] = module\n",
    ),
    Mutant(
        "insmod: does not wait for a namesake to settle",
        "_modules.py",
        "        if not other._settled.is_set():\n            await other._settled.wait()\n"
        "            other = self.by_name.get(name)\n",
        "        if not other._settled.is_set():\n            return\n",
    ),
    Mutant(
        "reload: the old version goes before the new one is there",
        "_kernel.py",
        "        self._modules.start(new, probe=False)\n",
        "        old._entries.hide()\n        await checkpoint()\n        old._entries.show()\n"
        "        self._modules.start(new, probe=False)\n",
    ),
    # -- the tree
    Mutant(
        "number: given back with files still open",
        "_entry.py",
        "        if rare.holders == 0:\n",
        "        if rare.holders <= 1:\n",
    ),
    Mutant(
        "number: not given back by the last file that outlived its entry",
        "_entry.py",
        "        if rare.holders == 0 and rare.removal is GONE:\n",
        "        if rare.holders < 0 and rare.removal is GONE:\n",
    ),
    Mutant(
        "forced release: files without a handler do not hold the number",
        "_removal.py",
        "        file = older\n    entry._own().holders += held\n",
        "        file = older\n",
    ),
    Mutant(
        "number: given back twice",
        "_entry.py",
        "        self._own().holders = BIAS\n",
        "",
    ),
    Mutant(
        "number: a file that outlives its release does not hold it",
        "_open_file.py",
        "        if traffic is None or traffic.descriptors:\n            entry._add_holder()\n",
        "",
    ),
    Mutant(
        "listing: stale after a removal in the middle",
        "_subdir.py",
        "            self._descending.pop()\n        else:\n            self._descending = None\n",
        "            self._descending.pop()\n",
    ),
    Mutant(
        "nlink: counts files too",
        "_entry.py",
        "        if child._attributes.is_dir:\n            rare.subdirs += 1\n",
        "        if child:\n            rare.subdirs += 1\n",
    ),
    Mutant(
        "look-up: a quick one finds what is going",
        "_vfs.py",
        "            if child is None or child._in_use < 0:\n",
        "            if child is None:\n",
    ),
    Mutant(
        "listing: names that came out of order are not sorted",
        "_subdir.py",
        " if longer > 0 or (longer == 0 and name > last) else None\n",
        "\n",
    ),
    Mutant(
        "listing: names that are no ASCII are taken for sorted",
        "_subdir.py",
        '            if not "".join(names).isascii():\n                names.sort(key=_rank)\n'
        "            elif",
        "            if",
    ),
    Mutant(
        "listing: names of one length are not sorted",
        "_subdir.py",
        "        names[start:end] = sorted(names[start:end])\n",
        "",
    ),
    Mutant(
        "look-up: finds what is going",
        "_namei.py",
        "    if child is None or child.removing:\n",
        "    if child is None:\n",
    ),
    # -- in the paths that are seldom taken
    Mutant(
        "call: an await between the check and the increment",
        "_open_file.py",
        "            raise self._refuse(op)\n        self._enter()\n"
        "        self._own_traffic().shared += 1\n",
        "            raise self._refuse(op)\n        await anyio.lowlevel.checkpoint()\n"
        "        self._enter()\n        self._own_traffic().shared += 1\n",
    ),
    Mutant(
        "call: counted for ever among those that use no position",
        "_open_file.py",
        "        traffic.shared -= 1\n",
        "        pass\n",
    ),
    Mutant(
        "position: cancelled just after it was handed over, it is kept",
        "_open_file.py",
        "            if waiter.granted:  # just before the cancellation: pass it on\n"
        "                await self._leave_position_and_release()\n"
        "            elif not waiter.woken.is_set():\n",
        "            if not waiter.woken.is_set():\n",
    ),
    Mutant(
        "lseek: the leave is lost when the handler raises",
        "_read_write.py",
        "        file.pos = pos\n    finally:\n"
        "        await file._leave_position_and_release()\n    return pos\n",
        "        file.pos = pos\n    except ZeroDivisionError:\n        raise\n"
        "    await file._leave_position_and_release()\n    return pos\n",
    ),
    Mutant(
        "poll: is not among those who are woken",
        "_file.py",
        "                    ready = await file._poll_now(events, wakeup)\n",
        "                    ready = await file._poll_now(events)\n",
    ),
    Mutant(
        "poll: queues only after it has asked",
        "_file.py",
        "                    if ready or file.removing:\n                        return ready\n"
        "                    await wakeup.event.wait()\n",
        "                    if ready or file.removing:\n                        return ready\n"
        "                with Wakeup(file.entry) as wakeup:\n"
        "                    await file._poll_now(0, wakeup)\n"
        "                    await wakeup.event.wait()\n",
    ),
    Mutant(
        "dup: does not hold the file",
        "_file.py",
        "        file._hold()\n        return new_descriptor(type(self), file)\n",
        "        return new_descriptor(type(self), file)\n",
    ),
    Mutant(
        "mmap: a mapping that was refused holds the file",
        "_file.py",
        "        except BaseException:\n            await file._put()\n            raise\n",
        "        except ZeroDivisionError:\n            raise\n",
    ),
    Mutant(
        "getdents: the position is read, an await, and written",
        "_directory.py",
        "        found = file.entry._listing(file.pos, end)\n        file.pos += len(found)\n",
        "        pos = file.pos\n        found = file.entry._listing(pos, end)\n"
        "        await self._checkpoint()\n        file.pos = pos + len(found)\n",
    ),
    Mutant(
        "put: an await after the descriptor is given up",
        "_open_file.py",
        "        traffic.descriptors -= 1\n        if traffic",
        "        traffic.descriptors -= 1\n        await anyio.lowlevel.checkpoint()\n"
        "        if traffic",
    ),
    Mutant(
        "release: its end is told only if the handler has not raised",
        "_open_file.py",
        '            await run(self, "release")\n        finally:\n            self._released()\n',
        '            await run(self, "release")\n'
        "        except ZeroDivisionError:\n            raise\n"
        "        self._released()\n",
    ),
    Mutant(
        "release: the closing bit is not set",
        "_open_file.py",
        "        slow._began = True\n",
        "        pass\n",
    ),
    Mutant(
        "remover: a release that raises stops the others",
        "_removal.py",
        "            await file._run_release()\n        except Exception as exc:",
        "            await file._run_release()\n        except ZeroDivisionError as exc:",
    ),
    Mutant(
        "wait: looks at the condition only once",
        "_open_file.py",
        "        while not (met := condition()):\n",
        "        if not (met := condition()):\n",
    ),
    Mutant(
        "wait: cancelled, it stays in the queue",
        "_wait.py",
        "            queue._remove(self.event)\n",
        "            pass\n",
    ),
    Mutant(
        "module: a reference given up is not dropped",
        "_module.py",
        "        self._refcnt -= 1\n",
        "        pass\n",
    ),
)


def run(mutant: Mutant, known: list[str]) -> tuple[str, str]:
    """Break a copy and test it; return what became of it, and which test noticed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("aiopde", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        source = copy / "aiopde" / mutant.file
        text = source.read_text()
        if text.count(mutant.old) != 1:
            return "DOES NOT FIT", ""
        source.write_text(text.replace(mutant.old, mutant.new))
        # To fail is enough, no need to find the smallest program that does.
        programs = copy / "tests/properties/test_programs.py"
        programs.write_text(programs.read_text().replace("explain}", "explain, Phase.shrink}"))
        try:
            done = run_tests(copy, "-x", *(f"--deselect={test}" for test in known))
        except subprocess.TimeoutExpired:
            return "killed", "it hangs"
    if done.returncode == 0:
        return "SURVIVED", ""
    return "killed", next(iter(failures(done)), "it hangs")


def run_tests(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests on what is in a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *TESTS]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def failures(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the tests that failed."""
    return re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)


def main() -> int:
    """Run them all, or those whose name has one of the words in it."""
    words = sys.argv[1:]
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    known = failures(run_tests(ROOT))
    for test in known:
        print(f"fails anyway  {test}", flush=True)
    killed = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, (fate, test) in zip(
            chosen, pool.map(partial(run, known=known), chosen), strict=True
        ):
            print(f"{fate:12}  {mutant.name}  {test}", flush=True)
            killed += fate == "killed"
    print(f"{killed} of {len(chosen)} killed")
    return int(killed < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
