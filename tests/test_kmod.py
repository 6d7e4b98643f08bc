"""Where the code of a module comes from, and that it goes again."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from errno import EINVAL, ENAMETOOLONG, ENOENT, ENOEXEC
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from aiopde import Kernel, ProcOps, depends
from aiopde._kmod import MODULE_NAME_LEN, Source
from tests.helpers import refused

if TYPE_CHECKING:
    from pathlib import Path

FILE = '''
"""A module in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aiopde import ProcOps

# A dataclass looks its own module up.
@dataclass
class Driver:
    text: bytes
    count: ClassVar[int] = 0

    async def read(self, file, size, pos):
        return self.text[pos : pos + size]

async def module_main(kernel, name="driver", text="one"):
    kernel.proc.create(name, ProcOps.of(Driver(text.encode())))
    yield Driver
    await kernel.proc.remove(name)
'''


async def driver(kernel: Kernel) -> None: ...


class Manager:
    """A main function that is a class."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my-driver.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "drivers"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "text.py").write_text("TEXT = 'from the package'\n")
    (folder / "disk.py").write_text(
        "from .text import TEXT\nasync def module_main(kernel):\n    yield TEXT\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "drivers"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def loaded_files() -> list[str]:
    return [name for name in sys.modules if name.startswith("aiopde.modules.")]


class TestName:
    def test_of_a_function(self) -> None:
        """
        A function's module is called as the function, or as one says.
        """
        assert Source(driver).name == "driver"
        assert Source(driver, "other").name == "other"
        assert "driver" in repr(Source(driver))

    def test_of_a_file(self, file: Path) -> None:
        """
        A file's module is called as the file, with `-` turned into `_`, as in Linux.
        """
        assert Source(file).name == Source(str(file)).name == "my_driver"
        assert str(file) in repr(Source(file))
        assert Source("x.py").path == "x.py"

    def test_of_an_import_path(self, package: Path) -> None:
        """
        An import path leads to a file; its last part is the name.
        """
        source = Source("drivers.disk")
        assert (source.name, source.path) == ("disk", str(package / "disk.py"))

    def test_missing(self) -> None:
        """
        What has no name needs one.
        """
        with pytest.raises(TypeError, match=r"insmod\(program, 'name'\)"):
            Source(functools.partial(driver))
        assert Source(functools.partial(driver), "x").name == "x"

    def test_too_long(self) -> None:
        """
        A name that rmmod would not take is not given.
        """
        assert Source(driver, "x" * (MODULE_NAME_LEN - 1)).name
        with refused(ENAMETOOLONG):
            Source(driver, "x" * MODULE_NAME_LEN)

    @pytest.mark.parametrize("name", ["a b", " a", "a\n", " "])
    def test_of_several_words(self, name: str) -> None:
        """
        White space would make another line of /proc/modules than was meant.
        """
        with refused(EINVAL):
            Source(driver, name)

    def test_no_program(self) -> None:
        """
        What is no program is refused, and the message shows what is.
        """
        nothing: Any = 5
        with pytest.raises(TypeError, match=r"not called yet, async def main\(kernel"):
            Source(nothing)

    @pytest.mark.parametrize("path", ["no_such", "no_such.module", "sys.x", "..x", "__main__x"])
    def test_import_path_to_nothing(self, path: str) -> None:
        """
        An import path that leads nowhere is ENOENT.
        """
        with refused(ENOENT):
            Source(path)

    def test_import_path_to_no_source(self) -> None:
        """
        One that leads to what is no Python source is ENOEXEC.
        """
        with refused(ENOEXEC):
            Source("sys")


class TestFile:
    async def test_is_loaded_with_parameters(self, file: Path) -> None:
        """
        A file's module_main gets the kernel and the parameters.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(str(file), name="d", text="two")
            assert module.name == "my_driver"
            assert await kernel.proc.read_text("d") == "two"
            assert kernel.lsmod()[0].size > 100
            await kernel.rmmod("my_driver")

    async def test_name_can_be_a_parameter(self, file: Path) -> None:
        """
        The module's own name is positional, so any name is left for parameters.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(file, "x", name="y")
            assert (module.name, kernel.proc.listdir()) == ("x", ["y", "modules"])

    async def test_imports_from_its_package(self, package: Path) -> None:
        """
        Loaded by import path it is a part of its package, and not of sys.modules.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod("drivers.disk")
            assert module.exports == "from the package"
        assert "drivers.disk" not in sys.modules

    async def test_is_read_anew(self, file: Path) -> None:
        """
        What counts is what the file says now; no cache, not even for an edit of the same size.
        """
        async with Kernel() as kernel:
            await kernel.insmod(file)
            await kernel.rmmod("my_driver")
            await anyio.Path(file).write_text(FILE.replace("one", "two"))
            await kernel.insmod(file)
            assert await kernel.proc.read_text("driver") == "two"

    async def test_is_gone_after_rmmod(self, file: Path) -> None:
        """
        Nothing refers to the code then: not sys.modules, not the kernel, not the Module.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(file)
            assert len(loaded_files()) == 1
            driver_class = weakref.ref(module.exports)
            await kernel.rmmod("my_driver")
            gc.collect()
            assert loaded_files() == []
            assert driver_class() is None
            assert module.exports is None

    async def test_only_its_readers_keep_it(self, file: Path) -> None:
        """
        After a reload, who has the old version's file open keeps its code, until the close.
        """
        async with Kernel() as kernel:
            module = await kernel.insmod(file)
            driver_class = weakref.ref(module.exports)
            reader = await kernel.proc.open("driver")
            instance = weakref.ref(reader.entry.ops._reader.__self__)
            del module
            await kernel.reload("my_driver")
            gc.collect()
            assert len(loaded_files()) == 1
            # Its table is a part of the module, so even the reader's holds only traps now.
            assert instance() is None
            await reader.aclose()
            del reader
            gc.collect()
            assert driver_class() is None

    @pytest.mark.parametrize(
        ("text", "error"),
        [("1 +", SyntaxError), ("1 / 0", ZeroDivisionError), ("module_main = 5", TypeError)],
    )
    async def test_that_cannot_be_loaded(
        self, tmp_path: Path, text: str, error: type[Exception]
    ) -> None:
        """
        An error at its top level reaches insmod's caller, and nothing is left.
        """
        path = tmp_path / "bad.py"
        path.write_text(text)
        async with Kernel() as kernel:
            with pytest.raises(error):
                await kernel.insmod(path)
            assert kernel.find_module("bad") is None
            assert loaded_files() == []

    async def test_that_is_no_module(self, tmp_path: Path) -> None:
        """
        Without module_main it is ENOEXEC, and if it is not there ENOENT.
        """
        path = tmp_path / "none.py"
        async with Kernel() as kernel:
            with refused(ENOENT):
                await kernel.insmod(path)
            path.write_text("x = 1\n")
            with refused(ENOEXEC):
                await kernel.insmod(path)
            assert loaded_files() == []


class TestText:
    """What counts as a module's own code."""

    @pytest.mark.parametrize("names", [(), ("",), (5,), (Source,)])
    def test_depends_on_nothing_is_refused(self, names: tuple[Any, ...]) -> None:
        """
        ``@depends`` without names, or with the function for one, would replace the module.
        """
        with pytest.raises(TypeError, match=r"^depends\(\) wants names of modules, as @depends"):
            depends(*names)

    def test_a_name_is_a_str(self) -> None:
        """
        What is no str is no name.
        """
        with pytest.raises(TypeError, match=r"pass one, insmod\(program, 'name'\)$"):
            Source(driver, 5)  # type: ignore[arg-type]

    def test_depends(self) -> None:
        """
        A main function says what it depends on; by default, nothing.
        """
        assert Source(depends("a", "b")(Manager)).load().depends == ("a", "b")
        assert Source(driver).load().depends == ()

    def test_of_a_class(self) -> None:
        """
        A class's methods are its code, also those wrapped or called through an object.
        """

        class Main:
            def read(self, file: object, size: int, pos: int) -> Any: ...

            def __call__(self, file: object) -> None: ...

        text = Source(Main).load()
        part = functools.partial(Main().read)
        assert text.holds(ProcOps(read=part), ("read",))
        assert text.holds(ProcOps(open=Main()), ("open",))
        assert not text.holds(ProcOps(read=lambda file, size, pos: b""), ("read",))
        assert not text.holds(ProcOps(release=print), ("release", "open"))
        text.free()
        assert not text.holds(ProcOps(read=part), ("read",))
