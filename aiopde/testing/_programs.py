"""Whose code it is: the program's, or a library's, Python's or the explorer's own."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from ._stacks import is_library

if TYPE_CHECKING:
    from types import FrameType

_OWN = __name__.partition(".")[0]
_NOT_OWN = (__name__.rpartition(".")[0], f"{_OWN}.pytest_plugin")

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_NOT_PACKAGE = (os.path.dirname(__file__) + os.sep, f"{PACKAGE}pytest_plugin.py")


@cache
def is_programs_file(file: str) -> bool:
    """Whether a file of source is the program's, and not a library's."""
    if file.startswith(PACKAGE):
        return not file.startswith(_NOT_PACKAGE)
    return not is_library(file) or file == "<string>" or file.startswith("<stdin")


def is_programs(module: str) -> bool:
    """Whether a module is the program's, and not a library's."""
    if module == _OWN or module.startswith(f"{_OWN}."):
        return not module.startswith(_NOT_OWN)
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module == "__main__"
    return not is_library(file)


def in_own_code(frame: FrameType) -> bool:
    """Whether this is aiopde's code, in which we have looked by hand at what is shared."""
    return frame.f_code.co_filename.startswith(PACKAGE)
