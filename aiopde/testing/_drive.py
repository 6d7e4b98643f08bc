"""Run what a search plans, on the loop that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._arguments import body_of, refuse_inside_a_loop
from ._asyncio import Loop
from ._causes import refused

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ._execution import Search, Settings

Scenario = Callable[..., "Awaitable[Any]"]


def drive(scenario: Scenario, search: Search, settings: Settings) -> str:
    """Run what a search plans, all in one loop; return its verdict."""
    body = body_of(scenario)
    refuse_inside_a_loop()
    if settings.backend == "asyncio":
        return Loop(body, search, settings).drive()
    if settings.backend == "trio":
        from ._selfcheck import trio_driver

        return trio_driver()(body, search, settings).drive()
    msg = f"no backend {settings.backend!r}: there are 'asyncio' and 'trio'"
    raise refused(ValueError(msg))
