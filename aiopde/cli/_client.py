"""How a command talks to a running kernel, and says what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiopde.control import RemoteError, connect
from aiopde.control._wire import tell_error

from . import _loops
from ._errors import CommandError
from ._failure import Failure, describe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from aiopde.control import Client

T = TypeVar("T")

LOOP: Final = "asyncio"
"""What clients run on: it is always there, and imported faster than trio."""


def talk(options: argparse.Namespace, what: Callable[[Client], Awaitable[T]]) -> T:
    """
    Connect to the kernel that *options* name, and run *what* with the connection.

    Raises:
        CommandError: There is no kernel to talk to.
        Failure: It answered with an error.
        KeyboardInterrupt: Ctrl-C; what was asked for is taken back.
    """

    async def main() -> T:
        try:
            client = await connect(options.control)
        except OSError as exc:
            raise CommandError(describe(exc)) from None
        async with client:
            return await what(client)

    try:
        return _loops.run(main, LOOP)
    except BrokenPipeError:  # our own output's
        raise
    except (OSError, ExceptionGroup, RemoteError) as exc:
        if options.json:
            print(json.dumps({"error": tell_error(exc)}))
        raise Failure(exc) from None


def ask(options: argparse.Namespace, method: str, /, **params: Any) -> Any:
    """Ask one thing; see :func:`talk`. Parameters that are None are left out."""
    given = {name: value for name, value in params.items() if value is not None}
    return talk(options, lambda client: client.ask(method, **given))


def show(options: argparse.Namespace, result: object, text: Callable[[], str]) -> int:
    """Print a result as JSON if that is wanted, else as text; return the exit code."""
    printed = json.dumps(result) if options.json else text()
    if printed:
        print(printed)
    return 0
