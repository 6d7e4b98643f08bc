"""
A program with a mount, for tests that kill it: PATH BACKEND [USER].

Its tree has a file "hello" and a file "blocked", whose readers wait for ever. It says "mounted",
and in the end "left", with what came of the handler.
"""

import os
import sys
from contextlib import suppress
from importlib import import_module

import anyio

from aiopde import ProcFS
from aiopde.fuse import mount
from tests.helpers import Handlers


async def hello() -> str:
    return "hello\n"


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def main(path: str) -> None:
    handlers = Handlers()
    handlers.hold_up("read")
    try:
        async with ProcFS() as proc:
            proc.create_single("hello", hello)
            proc.create("blocked", handlers.ops("read", "release"))
            async with mount(proc, path) as mounted:
                say("mounted")
                await mounted.unmounted.wait()
    finally:
        say(f"left {handlers.log.count('release None')}")


_, path, backend, *user = sys.argv
import_module(f"anyio._backends._{'trio' if backend == 'trio' else 'asyncio'}")
if user:  # pragma: no cover  he may not write what was run to where that is kept
    # Once all is imported: the interpreter itself may be out of an ordinary user's reach.
    import_module("concurrent.futures.thread")
    if backend == "uvloop":
        import_module("uvloop")
    number = int(user[0])
    os.setgroups([])
    os.setgid(number)
    os.setuid(number)
with suppress(KeyboardInterrupt):
    anyio.run(
        main,
        path,
        backend="trio" if backend == "trio" else "asyncio",
        backend_options={"use_uvloop": True} if backend == "uvloop" else {},
    )
