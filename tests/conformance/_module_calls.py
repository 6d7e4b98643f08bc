"""System calls on modules."""

from __future__ import annotations

import os
from errno import EBADF, EPERM
from functools import partial
from typing import TYPE_CHECKING, Final

from ._calls import Args, Caller, system_call
from ._modules import PROGRAMS, parameters

if TYPE_CHECKING:
    from ._words import Result

_FLAGS: Final = {"0": 0, "NONBLOCK": os.O_NONBLOCK, "FORCE": os.O_TRUNC}


@system_call
async def insmod(call: Caller, args: Args) -> Result:
    """Load a module."""
    kernel, name = call.machine.kernel, args["mod"]
    program = PROGRAMS.get(name)
    if program is None:
        raise OSError(EBADF, "there is no such file to load it from")
    _refuse_unprivileged(call)
    given = parameters(program, args.get("params", ""))
    load = partial(kernel.library.insmod, program, name, probe=kernel.registrations[name], **given)
    if kernel.library.find_module(name) is not None:
        await call.actor.wait_to_fail(load)
    await load()
    return {"ret": 0}


@system_call
async def rmmod(call: Caller, args: Args) -> Result:
    """Unload a module."""
    _refuse_unprivileged(call)
    flags = sum(_FLAGS[word] for word in args.get("flags", "NONBLOCK").split("|"))
    await call.machine.kernel.library.rmmod(args["mod"], flags)
    return {"ret": 0}


def _refuse_unprivileged(call: Caller) -> None:
    if call.actor.cred.uid:
        raise OSError(EPERM, "only who may do everything may do that")


@system_call
async def modstate(call: Caller, args: Args) -> Result:
    """Look for the line of a module in /proc/modules."""
    for line in (await call.proc.read_text("/proc/modules")).splitlines():
        name, _size, refcnt, used_by, state, *_address = line.split()
        if name == args["mod"]:
            return {"state": state, "refcnt": int(refcnt), "used_by": used_by}
    return {"state": "absent"}
