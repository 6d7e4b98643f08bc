"""
Every async test runs once on each loop; one marked ``trio`` runs under pytest-trio instead.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Generator
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

import anyio
import pytest
from hypothesis import settings

# It takes as long again; where a tracer does too (CI has a lane without), one of them is enough.
DEBUG = sys.gettrace() is None

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {"debug": DEBUG}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}

SECONDS_TO_HANG = 20

# Whoever has a kernel of his own running, the tests' are others.
os.environ.pop("AIOPDE_CONTROL", None)

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # pragma: no cover
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The first example of a test on a loop also pays for starting that loop.
settings.register_profile("aiopde", deadline=None)
settings.load_profile("aiopde")


# Session scope, because Hypothesis refuses fixtures that are rebuilt per example.
@pytest.fixture(scope="session", params=BACKENDS.values(), ids=list(BACKENDS))
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The loop this variant of the test runs on."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


# First, so that anyio's plugin sees the mark when its own turn comes.
@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> None:
    """Give each async test to anyio's plugin, unless it, its class or its file is marked trio."""
    if not collector.istestfunction(obj, name):
        return
    body = obj.hypothesis.inner_test if hasattr(obj, "hypothesis") else obj
    own_marks: list[pytest.Mark] = getattr(obj, "pytestmark", [])
    for_trio = collector.get_closest_marker("trio") or any(m.name == "trio" for m in own_marks)
    if iscoroutinefunction(body) and not for_trio:
        pytest.mark.anyio(obj)


def fail_where_it_hangs(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Give *test* a deadline, and an error that shows what it was waiting for."""

    @wraps(test)
    async def test_with_deadline(**fixtures: object) -> None:
        with anyio.move_on_after(SECONDS_TO_HANG):
            try:
                await test(**fixtures)
            except anyio.get_cancelled_exc_class() as where:
                msg = f"still here after {SECONDS_TO_HANG} s"
                raise TimeoutError(msg) from where

    return test_with_deadline


# pytest-timeout alone ends the whole run, and with no word on which test hung, or where: its
# gentler method raises in a signal handler, which uvloop never calls and anyio's runner of trio
# tests does not survive.
@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that hangs fails, and the next one runs."""
    if iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = fail_where_it_hangs(pyfuncitem.obj)
    return (yield)
