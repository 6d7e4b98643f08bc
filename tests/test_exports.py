"""The public surface: what `import aiopde` gives, and that each part of it is whole."""

from collections import Counter
from inspect import isclass, isfunction, ismodule, isroutine
from pathlib import Path

import pytest

import aiopde

PACKAGE = Path(aiopde.__file__).parent
TESTS = Path(__file__).parent

CLASSES_AND_FUNCTIONS = [
    name
    for name in aiopde.__all__
    if isclass(getattr(aiopde, name)) or isfunction(getattr(aiopde, name))
]

# Where the tests of a module are, if not in tests/test_<its name>.py; say why.
# Until the tests of issue 3 are complete.
TESTED_ELSEWHERE: dict[str, str] = {
    "_wait": "test_differences.py",
    "_watch": "test_differences.py",
}


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
    members: dict[str, object] = dict(thing.__dict__)
    undocumented = [
        part
        for part, member in members.items()
        if not part.startswith("_") and (isroutine(member) or isinstance(member, property))
        if not member.__doc__
    ]
    assert undocumented == []


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


@pytest.mark.parametrize("module", sorted(path.stem for path in PACKAGE.glob("_[!_]*.py")))
def test_each_module_has_its_tests(module: str) -> None:
    """
    Who changes aiopde/_x.py finds its tests in tests/test_x.py.
    """
    file = TESTED_ELSEWHERE.get(module, f"test{module}.py")
    assert (TESTS / file).is_file()
