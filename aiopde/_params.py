"""The parameters of a module: those that its main function takes (kernel/params.c)."""

from __future__ import annotations

import inspect
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_BY_NAME: Final = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def check_params(module: str, main: Callable[..., object], params: dict[str, Any]) -> None:
    """
    Refuse parameters that a main function does not take, and to do without one that it wants.

    Raises:
        TypeError: It says which, and what there is; or that no module can be called like that.

    Linux: ``parse_args``. There a parameter that is unknown is ignored, with a warning.
    """
    try:
        signature = inspect.signature(main)
    except (TypeError, ValueError):  # some built-in functions do not tell: the call will
        return
    if not _binds(signature, params):
        msg = f"module {module!r} {_what_is_wrong(signature, params)}"
        raise TypeError(msg)


def _binds(signature: Signature, params: dict[str, Any]) -> bool:
    try:
        signature.bind(None, **params)  # the first one is the kernel
    except TypeError:
        return False
    return True


def _what_is_wrong(signature: Signature, params: dict[str, Any]) -> str:
    taken = [p for p in list(signature.parameters.values())[1:] if p.kind in _BY_NAME]
    names = [p.name for p in taken]
    if not _binds(signature, dict.fromkeys(names)):
        return f"takes {signature}: its main function is to be async def main(kernel, **params)"
    missing = [p.name for p in taken if p.default is Parameter.empty and p.name not in params]
    if missing:
        how = ", ".join(f"{name}=..." for name in missing)
        return f"has parameters without a default: pass {how}"
    unknown = ", ".join(name for name in params if name not in names)
    return f"has no parameter {unknown}: it takes {', '.join(names) or 'none'}"
