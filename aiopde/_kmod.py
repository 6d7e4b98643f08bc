"""From a program to the code of a module: what insmod and modprobe read (kernel/module/kmod.c)."""

from __future__ import annotations

import collections.abc
import functools
import itertools
import os
import sys
import types
from errno import EINVAL, ENAMETOOLONG, ENOENT, ENOEXEC
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from ._errors import error
from ._namei import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ._ops import ProcOps

    ModuleMain = Callable[..., Any]
    Program = ModuleMain | str | os.PathLike[str]

MODULE_NAME_LEN: Final = 64 - 8
"""A module's name is shorter than this, in bytes, as on a 64-bit machine."""
MAIN: Final = "module_main"
"""What a file that is a module defines."""

_serials: Final = itertools.count(1)
_Main = TypeVar("_Main", bound="ModuleMain")


def depends(*names: str) -> Callable[[_Main], _Main]:
    """
    Say, on a module's main function, which modules it needs: they stay as long as it does.

    ``insmod`` refuses a module whose needs are not loaded, ``modprobe`` loads them first::

        @depends("bus")
        async def driver(kernel): ...

    Raises:
        TypeError: It is used without names, as ``@depends``; or they are no names.

    Linux: the ``depends`` field of modinfo, which is what a module's unresolved symbols come to.
    """

    if not names or not all(
        name and isinstance(name, str) for name in cast("tuple[object, ...]", names)
    ):
        msg = f"depends() wants names of modules, as @depends('bus'), not {names!r:.60}"
        raise TypeError(msg)

    def note(main: _Main) -> _Main:
        _check_main(main)
        cast("Any", main).depends = names
        return main

    return note


@final
class Source:
    """
    Where a module's code comes from, and its name. The code is read anew at each load.

    Args:
        program: A main function (or class); the path of a Python file, a ``str`` that ends in
            ``.py`` or has a slash, or an ``os.PathLike``; or an import path, ``"package.name"``.
        name: The module's name; by default that of the function, or of the file, with ``-``
            turned into ``_``.

    Raises:
        OSError: ``ENOENT``: there is no module at that import path; ``ENOEXEC``: it is no Python
            source; ``ENAMETOOLONG``; ``EINVAL``: white space in the name.
        TypeError: *program* is something else, or a name is missing.
    """

    def __init__(self, program: Program, name: str | None = None) -> None:
        given: object = program
        self.main: ModuleMain | None = None
        self.path: str = ""
        self.package: str = ""
        if isinstance(program, str) and "/" not in program and not program.endswith(".py"):
            self.path, self.package = _find_source(program)
            default = program.rpartition(".")[2]
        elif isinstance(program, (str, os.PathLike)):
            self.path = os.fspath(program)
            # Without pathlib, which takes a tenth of the time to import all this.
            stem, _ = os.path.splitext(os.path.basename(self.path.rstrip("/")))
            default = stem.replace("-", "_")
        else:
            self.main = _check_main(program)
            default = getattr(program, "__name__", "")
        self.name: str = _check_name(default if name is None else name, given)

    def __repr__(self) -> str:
        return f"<Source {self.name!r} from {self.path or self.main!r}>"

    def load(self) -> Text:
        """
        Return the code, read and executed anew if it is a file. Blocks like an import.

        Raises:
            OSError: The file cannot be read; ``ENOEXEC``: it defines no ``module_main``.
            Exception: Whatever its top level raises, a ``SyntaxError`` among it.
        """
        if self.main is not None:
            return Text(self.main, frozenset(_codes_of(self.main)))
        with open(self.path, "rb") as source:
            code = compile(source.read(), self.path, "exec", dont_inherit=True)
        # A name of its own, since two versions are there at once during a reload; and listed,
        # since dataclasses and pickle look their module up.
        module = types.ModuleType(f"aiopde.modules.{self.name}.{next(_serials)}")
        module.__file__ = self.path
        module.__package__ = self.package
        sys.modules[module.__name__] = module
        text = Text(module_main_missing, frozenset(_nested([code])), module)
        try:
            exec(code, module.__dict__)  # noqa: S102  that is what loading a module means
            text.main = self._main_of(module)
        except BaseException:
            text.free()
            raise
        return text

    def _main_of(self, module: types.ModuleType) -> ModuleMain:
        if not hasattr(module, MAIN):
            raise error(ENOEXEC, self.path, f"a module's file defines {MAIN}(kernel, **params)")
        return _check_main(getattr(module, MAIN))


@final
class Programs:
    """
    The programs that modprobe finds by name.

    Args:
        modules: Programs by name.
        module_path: Folders, where ``NAME.py`` is looked for if none of these has the name.
    """

    def __init__(
        self, modules: Mapping[str, Program], module_path: Iterable[str | os.PathLike[str]]
    ) -> None:
        self._modules = _programs(modules)
        self._folders = _folders(module_path)

    def find(self, name: str) -> Source:
        """Find a program; ``ENOENT`` if there is none."""
        if name in self._modules:
            return Source(self._modules[name], name)
        # A name, and no way out of the folders.
        for folder in () if os.sep in name else self._folders:
            path = os.path.join(folder, f"{name}.py")
            if os.path.isfile(path):
                return Source(path, name)
        raise error(ENOENT, name, "no module of that name is known")


def module_main_missing(*_: object) -> None:
    """Stand in for the main function of a module that is being read, or is gone."""


@final
class Text:
    """A module's code, loaded: its main function, and what else goes with it."""

    def __init__(
        self,
        main: ModuleMain,
        codes: frozenset[types.CodeType],
        module: types.ModuleType | None = None,
    ) -> None:
        self.main: ModuleMain = main
        self.size: int = sum(len(code.co_code) for code in codes)
        # All that is written in its file; or, where it is a part of this program, inside main.
        self._codes = codes
        self._module = module

    @property
    def depends(self) -> tuple[str, ...]:
        """The names of the modules it needs."""
        return tuple(getattr(self.main, "depends", ()))

    def holds(self, ops: ProcOps, names: tuple[str, ...]) -> bool:
        """Tell whether any of the handlers *names* of a table is a part of this code."""
        return any(self._holds(getattr(ops, name)) for name in names)

    def _holds(self, handler: object) -> bool:
        function = _function_of(handler)
        return isinstance(function, types.FunctionType) and function.__code__ in self._codes

    def free(self) -> None:
        """Let go of the code: whoever still refers to a part of it keeps that part alive."""
        self.main = module_main_missing
        self._codes = frozenset[types.CodeType]()
        if self._module is not None:
            sys.modules.pop(self._module.__name__, None)
            self._module = None


def _programs(modules: object) -> dict[str, Program]:
    if not isinstance(modules, collections.abc.Mapping):
        msg = f"modules are programs by name, as {{'driver': main}}, not {modules!r:.60}"
        raise TypeError(msg)
    programs = dict(cast("Mapping[str, Program]", modules))
    for name, program in programs.items():
        check_module_name(name)
        if not isinstance(program, str | os.PathLike):
            _check_main(program)
    return programs


def _folders(module_path: object) -> list[str]:
    if isinstance(module_path, str | os.PathLike):  # whose letters would be folders
        msg = f"module_path is a list of folders: pass [{module_path!r}]"
        raise TypeError(msg)
    try:
        return [os.fspath(folder) for folder in cast("Iterable[str]", module_path)]
    except TypeError:
        msg = f"module_path is a list of folders, as ['/srv/modules'], not {module_path!r:.60}"
        raise TypeError(msg) from None


def _find_source(path: str) -> tuple[str, str]:
    """Find the file of an import path, and the package it is in."""
    try:
        spec = find_spec(path)
    except (ImportError, ValueError):  # in what is no package; a name like "..x", "__main__"
        spec = None
    if spec is None:
        raise error(ENOENT, path, "nothing to import there (a file is './x.py')")
    if not (spec.origin or "").endswith(".py"):
        raise error(ENOEXEC, path, "no Python source")
    return str(spec.origin), spec.parent or ""


def check_module_name(name: object) -> None:
    """Refuse what is no name, such as the module itself."""
    if not isinstance(name, str):
        msg = f"a module is told by its name, as 'driver', not {name!r:.60}"
        raise TypeError(msg)


def _check_main(main: Any) -> ModuleMain:
    if callable(main):
        return cast("ModuleMain", main)
    msg = (
        "a module is an async generator function that is not called yet, async def"
        f" main(kernel, **params), a path or an import path, not {main!r:.60}"
    )
    raise TypeError(msg)


def _check_name(name: Any, program: object) -> str:
    if not isinstance(name, str) or not name:
        msg = f"{program!r:.60} has no name of its own: pass one, insmod(program, 'name')"
        raise TypeError(msg)
    if name.split() != [name]:
        raise error(EINVAL, name, "white space would end a name in /proc/modules: pass another")
    if len(encode(name)) >= MODULE_NAME_LEN:
        raise error(ENAMETOOLONG, name, f"a module's name has at most {MODULE_NAME_LEN - 1} bytes")
    return name


def _function_of(handler: object) -> object:
    """Return the function behind a partial, a method or a callable object."""
    while isinstance(handler, functools.partial):
        handler = cast("functools.partial[object]", handler).func
    if not isinstance(handler, (types.FunctionType, types.MethodType, type)):
        handler = getattr(type(handler), "__call__", None)  # noqa: B004  the method itself
    function = getattr(handler, "__func__", handler)
    return getattr(function, "__wrapped__", function)


def _codes_of(main: object) -> Iterator[types.CodeType]:
    """Go through the code of a function, or of a class's methods, and all nested in it."""
    function = _function_of(main)
    parts = vars(function).values() if isinstance(function, type) else [function]
    return _nested([part.__code__ for part in parts if isinstance(part, types.FunctionType)])


def _nested(codes: list[types.CodeType]) -> Iterator[types.CodeType]:
    while codes:
        code = codes.pop()
        yield code
        codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
