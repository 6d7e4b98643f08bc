"""The public surface: what `import aiopde` gives, and that each part of it is whole."""

import re
import subprocess
import sys
from collections import Counter
from inspect import get_annotations, isclass, isfunction, ismodule, isroutine
from pathlib import Path

import pytest

import aiopde

PACKAGE = Path(aiopde.__file__).parent
TESTS = Path(__file__).parent

# Of _api.py, this file is the test.
MODULES = sorted({path.stem for path in PACKAGE.glob("_[!_]*.py")} - {"_api"})
CLASSES_AND_FUNCTIONS = [
    name
    for name in aiopde.__all__
    if isclass(getattr(aiopde, name)) or isfunction(getattr(aiopde, name))
]


def is_ours(thing: type) -> bool:
    return thing.__module__.partition(".")[0] == "aiopde"


@pytest.mark.parametrize("name", CLASSES_AND_FUNCTIONS)
def test_public_names_are_whole(name: str) -> None:
    """
    A class or function says it lives in `aiopde`, and what it and its public parts are for.
    """
    thing = getattr(aiopde, name)
    assert thing.__module__ == "aiopde"
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}(")  # what dataclass writes by itself

    # ruff's D1 looks into no module whose name begins with an underscore.
    # What it has from a class that is not public counts as its own.
    parts = [thing, *(base for base in getattr(thing, "__mro__", ()) if is_ours(base))]
    members: dict[str, object] = {}
    for part in reversed(parts):
        own: dict[str, object] = dict(part.__dict__)
        members.update(own)
    undocumented = [
        part_name
        for part_name, member in members.items()
        if not part_name.startswith("_") and (isroutine(member) or isinstance(member, property))
        if not member.__doc__
    ]
    assert undocumented == []


@pytest.mark.parametrize("name", [name for name in CLASSES_AND_FUNCTIONS if name[0].isupper()])
def test_public_members_are_meant(name: str) -> None:
    """
    What completion shows of a class has its type in typing/api.py; what is ours has an underscore.
    """
    members = {
        member
        for part in getattr(aiopde, name).__mro__
        if is_ours(part)
        for member in (*part.__dict__, *get_annotations(part))
    }
    typed = (TESTS / "typing/api.py").read_text()
    public = sorted(member for member in members if not member.startswith("_"))
    assert [each for each in public if not re.search(rf"[.]{each}\b|\b{each}=", typed)] == []


def test_each_name_is_listed_once() -> None:
    """
    `__all__` repeats no name. Its order is ruff's to check (RUF022).
    """
    assert [name for name, times in Counter(aiopde.__all__).items() if times > 1] == []


def test_nothing_else_is_public() -> None:
    """
    A name without an underscore is a promise, so each one is in `__all__`.
    """
    public = {
        name
        for name, thing in vars(aiopde).items()
        if not name.startswith("_") and not ismodule(thing)
    }
    assert public == set(aiopde.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_its_tests(module: str) -> None:
    """
    Who changes aiopde/_x.py finds its tests in tests/test_x.py.
    """
    assert (TESTS / f"test{module}.py").is_file()


def test_loads_nothing_until_asked() -> None:
    """
    The package alone loads none of its parts, nor anyio: pytest imports it for its plugin.
    """
    code = "import aiopde, sys; print(*(m for m in sys.modules if 'aiopde' in m or m == 'anyio'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["aiopde"]


def test_says_what_it_has() -> None:
    """
    `dir()` and `from aiopde import *` give the public names before anything was loaded.
    """
    code = "import aiopde; print(*dir(aiopde)); from aiopde import *; print(*dir())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    listed, imported = (set(line.split()) for line in done.stdout.splitlines())
    assert set(aiopde.__all__) <= listed & imported


def test_a_wrong_name_is_an_attribute_error() -> None:
    """
    What is not there is told as by any module, private names too.
    """
    for name in ("ProcFs", "_procfs_"):
        with pytest.raises(AttributeError, match=f"^module 'aiopde' has no attribute '{name}'$"):
            getattr(aiopde, name)
