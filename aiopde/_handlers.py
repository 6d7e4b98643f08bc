"""Checks of what handlers are, when they are passed, and of what they return."""

from __future__ import annotations

import inspect
from types import AsyncGeneratorType, CoroutineType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Coroutines = Callable[..., Coroutine[Any, Any, Any]]


def coroutine_function(
    owner: str, op: str, handler: object, parameters: tuple[str, ...]
) -> Coroutines:
    """Check a handler and make it a coroutine function, once, so that no call has to ask."""
    check_handler(owner, op, handler, parameters)
    function = cast("Callable[..., Any]", handler)
    if is_async(function):
        return function

    async def call(*args: object) -> Any:
        result = function(*args)
        if isinstance(result, CoroutineType):
            raise nonsense(function, op, cast("object", result), "no coroutine")
        return result

    return call


def check_handler(owner: str, op: str, handler: object, parameters: tuple[str, ...]) -> None:
    """Refuse what cannot be called like that, with the call it wants."""
    want = call_wanted(owner, op, parameters)
    if isinstance(handler, (CoroutineType, AsyncGeneratorType)):
        if isinstance(handler, CoroutineType):
            handler.close()
        msg = f"{want}; pass {handler.__name__}, not {handler.__name__}()"
        raise TypeError(msg)
    if isinstance(handler, type) or not callable(handler):
        msg = f"{want}; got {handler!r:.100}"
        raise TypeError(msg)
    if owner != "records" and _is_generator_function(handler):
        msg = f"{want}; {name_of(handler)} is a generator: return the value instead of yielding it"
        raise TypeError(msg)
    if not accepts(handler, parameters):
        msg = f"{want}; {name_of(handler)} takes {inspect.signature(handler)}"
        raise TypeError(msg)


def accepts(handler: Any, parameters: tuple[str, ...]) -> bool:
    """Tell whether *handler* can be called with so many arguments, as far as can be told."""
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some built-in functions do not tell: the first call will
        return True
    try:
        signature.bind(*parameters)
    except TypeError:
        return False
    return True


def is_async(handler: object) -> bool:
    """Tell whether calling *handler* gives a coroutine, also for objects with ``__call__``."""
    return holds(inspect.iscoroutinefunction, handler)


def call_wanted(owner: str, op: str, parameters: tuple[str, ...]) -> str:
    """Say how a handler has to be passed."""
    return f"{owner}({op}=...) wants an async function: async def {op}({', '.join(parameters)})"


def _is_generator_function(handler: object) -> bool:
    return holds(inspect.isasyncgenfunction, handler) or holds(inspect.isgeneratorfunction, handler)


def holds(predicate: Callable[[object], bool], handler: Any) -> bool:
    """Ask about a function, or about the ``__call__`` of an object that has one."""
    return predicate(handler) or predicate(handler.__call__)


def name_of(handler: object) -> str:
    """Return what errors call a handler."""
    return getattr(handler, "__qualname__", None) or repr(handler)


def nonsense(handler: object, op: str, got: object, want: str) -> TypeError:
    """Make the error of a handler that returned what cannot be used; the one place it is made."""
    if isinstance(got, CoroutineType):
        got.close()  # or Python warns that nobody awaited it
        want = f"{want} (is it an async function behind a plain one?)"
    return TypeError(
        f"{op}= handler {name_of(handler)} returned {got!r:.100}: it must return {want}"
    )


def encode(where: str, text: object) -> bytes:
    """Return text as bytes, with surrogate escapes turned back into theirs."""
    if not isinstance(text, str):
        msg = f"{where} wants str or bytes, got {text!r:.100}"
        raise TypeError(msg)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        exc.reason += f": {where} got it"
        raise
