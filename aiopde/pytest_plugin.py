"""
The race explorer under pytest: the mark ``explore``, the option ``--replay``, the fixture ``race``.

Nothing of the explorer, and no event loop, is imported before a test that has the mark runs.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import time
from argparse import ArgumentError
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from aiopde.testing import Progress, Race, Result

_RUNNERS: Final = frozenset({"anyio", "asyncio", "trio"})
"""The marks by which other plugins know that a test is theirs to run."""
_BACKENDS: Final = ("asyncio", "trio")
_OURS: Final = frozenset({"backend", "executor", "progress", "replay", "shard"})
"""What the mark hands over in another way, or not at all."""
_VERDICT: Final = "explore"
"""The name of the property of a test's report that has the verdict."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that draws pictures."""
    what = "draw the schedule of each explored test that fails, as DIR/test.svg"
    group = parser.getgroup("explore", "race explorer")
    group.addoption("--explore-svg", metavar="DIR", type=Path, help=what)


# When all other plugins and conftest files have added theirs: who has a --replay keeps it.
@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> None:
    """Add the option that replays a schedule."""
    what = "run the one explored test that is selected once, in the order this schedule says"
    group = parser.getgroup("explore")
    names = ["--explore-replay", "--replay"]
    try:
        group.addoption(*names, dest="explore_replay", metavar="SCHEDULE", help=what)
    except (ArgumentError, ValueError):
        group.addoption(names[0], dest="explore_replay", metavar="SCHEDULE", help=what)


def pytest_configure(config: pytest.Config) -> None:
    """Say what the mark is."""
    config.addinivalue_line(
        "markers",
        "explore(strategy='auto', max_schedules=10_000, cancel=(), backend=None, ...): run this "
        "async test in every order in which its tasks can take turns; the keywords are those of "
        "aiopde.testing.explore().",
    )


@pytest.fixture
def race(request: pytest.FixtureRequest) -> Race:
    """What an explored test names invariants and accesses with; a new one for each schedule."""
    if not isinstance(request.node, ExploredFunction):
        pytest.fail(f"the fixture race is for tests marked explore, not {request.node.name}")
    return cast("Race", _NotYet())


class _NotYet:
    """Stands for the Race while the fixtures are set up, which is once for all schedules."""

    def __getattr__(self, name: str) -> NoReturn:
        pytest.fail(f"race.{name} can be used in the test only: a fixture is set up just once")


# -- collecting -----------------------------------------------------------------------------------


# Outermost: it sees what the other plugins have made of a test, and makes it ours.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: Any
) -> Generator[None, Any, Any]:
    """Make an async test that is marked one of ours."""
    test = getattr(obj, "__func__", obj)  # of a static method
    if not (collector.istestfunction(obj, name) and _is_explored(collector, name, test)):
        return (yield)
    _choose_backends(collector, test)
    return [ExploredFunction.take_over(item) for item in (yield)]


def _is_explored(collector: pytest.Module | pytest.Class, name: str, obj: Any) -> bool:
    own = any(mark.name == "explore" for mark in getattr(obj, "pytestmark", ()))
    if not own and collector.get_closest_marker("explore") is None:
        return False
    if inspect.iscoroutinefunction(obj) and not hasattr(obj, "hypothesis"):
        return True
    inner = getattr(getattr(obj, "hypothesis", None), "inner_test", None)
    if own or inspect.iscoroutinefunction(inner):
        msg = f"{name} is marked explore: that wants an async function, and none of @given"
        raise collector.CollectError(msg)
    return False  # one of a class or module that is marked as a whole


def _choose_backends(collector: pytest.Module | pytest.Class, obj: Any) -> None:
    """Let the test run once on each backend it is meant for, as *anyio_backend* says."""
    marks = [*getattr(obj, "pytestmark", ()), *collector.iter_markers()]
    pytest.mark.usefixtures("anyio_backend")(obj)
    if any(m.name == "parametrize" and "anyio_backend" in m.args[0] for m in marks):
        return
    names = _backends(collector.config, marks)
    if names:
        pytest.mark.parametrize("anyio_backend", names)(obj)


def _backends(config: pytest.Config, marks: list[pytest.Mark]) -> tuple[str, ...]:
    """Name the backends; none: those of the fixture *anyio_backend*."""
    for mark in marks:
        if mark.name == "explore" and mark.kwargs.get("backend"):
            return _chosen(mark.kwargs["backend"])
        if mark.name in _BACKENDS:
            return (mark.name,)
        if mark.name == "anyio":
            return ()
    if _option(config, "trio_mode") is True:
        return ("trio",)
    if _option(config, "asyncio_mode") == "auto":
        return ("asyncio",)
    if config.pluginmanager.hasplugin("anyio"):
        return ()
    return _BACKENDS if find_spec("trio") else _BACKENDS[:1]


def _chosen(backend: object) -> tuple[str, ...]:
    listed = isinstance(backend, list | tuple)
    names = tuple(cast("list[str]", backend)) if listed else (cast("str", backend),)
    for name in names:
        if name not in _BACKENDS:
            msg = f"mark explore: no backend {name!r}: there are 'asyncio' and 'trio'"
            raise pytest.Collector.CollectError(msg)
    return names


def _option(config: pytest.Config, name: str) -> object:
    """Return what another plugin was told, None if it is not there."""
    try:
        return config.getoption(name, None) or config.getini(name)
    except (KeyError, ValueError):
        return None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to replay a schedule of one test on others."""
    explored = [item for item in session.items if isinstance(item, ExploredFunction)]
    if session.config.getoption("explore_replay") is not None and len(explored) != 1:
        command = "pytest 'path::test[backend]' --replay=SCHEDULE"
        msg = f"--replay replays one explored test, {len(explored)} are selected: {command}"
        if not hasattr(session.config, "workerinput"):
            raise pytest.UsageError(msg)
        for item in explored:  # whatever a worker of pytest-xdist raises here, counts as its crash
            item.refusal = msg


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse to run once what is to be explored: a method of unittest's, say, never comes to us."""
    if isinstance(item, ExploredFunction) or item.get_closest_marker("explore") is None:
        return
    if inspect.iscoroutinefunction(getattr(item, "function", None)):
        why = f"{type(item).__name__} would run it just once"
        pytest.fail(f"{item.name} is marked explore, and {why}: make it a plain function", False)


# -- running --------------------------------------------------------------------------------------


class ExploredFunction(pytest.Function):
    """
    A test that is run again and again.

    A class of its own, since other plugins take a coroutine function for theirs by its marks or
    by a mode they are in. They find neither here: no mark of theirs, and no call of the hook by
    which a function is run.
    """

    refusal = ""
    """Why it is not to be run."""
    _result: Result | None = None

    @classmethod
    def take_over(cls, item: pytest.Function) -> ExploredFunction:
        """Make one of what pytest, or another plugin, has made."""
        make = cast("Callable[..., ExploredFunction]", getattr(cls, "from_parent"))  # noqa: B009
        return make(
            item.parent,
            name=item.name,
            callspec=getattr(item, "callspec", None),
            fixtureinfo=item._fixtureinfo,
            keywords=item.keywords,
            originalname=item.originalname,
        )

    def iter_markers_with_node(
        self, name: str | None = None
    ) -> Iterator[tuple[pytest.Item | pytest.Collector, pytest.Mark]]:
        """Go through the marks, without those of other runners."""
        for node, mark in super().iter_markers_with_node(name):
            if mark.name not in _RUNNERS:
                yield cast("pytest.Item", node), mark

    def setup(self) -> None:
        """Set up the fixtures, once for all schedules."""
        if self.refusal:
            pytest.fail(self.refusal, False)
        for name, definitions in self._fixtureinfo.name2fixturedefs.items():
            if _is_async(definitions[-1].func):
                why = "it would be set up once, in another loop, and not for each schedule"
                pytest.fail(f"an explored test cannot use the async fixture {name}: {why}", False)
        super().setup()

    def runtest(self) -> None:
        """Explore."""
        from aiopde.testing import explore

        backend = self._backend()
        options = self._options(inspect.signature(explore).parameters)
        progress = _ProgressLine(self.config)
        try:
            result = explore(self._scenario(), backend=backend, progress=progress, **options)
        finally:
            progress.clear()
        self.user_properties.append((_VERDICT, [result.verdict, result.schedules, *result.notes]))
        if result.failure is not None:
            raise self._reason(result)
        self.add_report_section("call", "explore", str(result))

    def _backend(self) -> Any:
        backend: Any = self.funcargs["anyio_backend"]
        name: str = backend if isinstance(backend, str) else backend[0]
        if name not in _BACKENDS:
            pytest.fail(f"no backend {name!r}: there are 'asyncio' and 'trio'", False)
        if find_spec(name) is None:
            pytest.fail(f"{name} is not installed: mark with explore(backend='asyncio')", False)
        return name

    def _options(self, known: Any) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for mark in reversed(list(self.iter_markers("explore"))):
            unknown = set(mark.kwargs) - set(known) | set(mark.kwargs) & _OURS - {"backend"}
            if mark.args or unknown:
                what = ", ".join(map(str, (*mark.args, *sorted(unknown))))
                takes = ", ".join(name for name in known if name not in _OURS | {"scenario"})
                pytest.fail(f"mark explore knows no {what}; it takes backend, {takes}", False)
            options |= mark.kwargs
        options.pop("backend", None)
        replay = self.config.getoption("explore_replay")
        return options if replay is None else options | {"replay": replay}

    def _scenario(self) -> Callable[[Race], Any]:
        kwargs = {name: self.funcargs[name] for name in self._fixtureinfo.argnames}
        test = self.obj

        async def scenario(race: Race) -> object:
            return await test(**(kwargs | {"race": race} if "race" in kwargs else kwargs))

        return scenario

    def _reason(self, result: Result) -> BaseException:
        """Choose what to raise: the test's own exception, if it is one."""
        from aiopde.testing import RaceFoundError

        assert result.failure is not None
        reason = _leaf(result.failure.exception)
        if not isinstance(reason, pytest.skip.Exception | pytest.xfail.Exception):
            self._result = result
        return RaceFoundError(result, self._command(result)) if reason is None else reason

    def repr_failure(  # type: ignore[override]  # as in pytest.Function itself
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        """Show the schedule below what pytest shows of the exception."""
        from aiopde.testing import RaceFoundError, report
        from aiopde.testing._causes import is_refusal

        if is_refusal(excinfo.value) and not self.config.option.fulltrace:
            return excinfo.getrepr(style="value")
        if self._result is None:
            return super().repr_failure(excinfo)
        shown: Any
        if isinstance(excinfo.value, RaceFoundError):  # its message is the report
            shown = excinfo.getrepr(style="value")
        else:
            shown = super().repr_failure(excinfo)
            shown.addsection("the race", report(self._result, replay=self._command(self._result)))
        picture = self._draw(self._result)
        if picture:
            shown.addsection("the picture", picture)
        return shown

    def _draw(self, result: Result) -> str:
        """Write the picture, if one is wished for; say where it is."""
        from aiopde.testing import draw_svg

        folder: Path | None = self.config.getoption("explore_svg")
        if folder is None or result.failure is None:
            return ""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / (re.sub(r"[^\w.-]+", "_", self.nodeid).strip("_") + ".svg")
        file.write_text(draw_svg(result.failure, self.nodeid), encoding="utf-8")
        return str(file)

    def _command(self, result: Result) -> str:
        assert result.failure is not None
        where = os.path.relpath(self.path, self.config.invocation_params.dir)
        test = "::".join((where, *self.nodeid.split("::")[1:]))
        return f"pytest {shlex.quote(test)} --replay={shlex.quote(str(result.failure.schedule))}"


def _leaf(exc: BaseException | None) -> BaseException | None:
    """Unwrap what task groups have wrapped, as long as it is one."""
    inside: tuple[BaseException, ...] = getattr(exc, "exceptions", ())
    return _leaf(inside[0]) if len(inside) == 1 else exc


def _is_async(fixture: Any) -> bool:
    # The last is how pytest-trio knows its own.
    return (
        inspect.iscoroutinefunction(fixture)
        or inspect.isasyncgenfunction(fixture)
        or hasattr(fixture, "_force_trio_fixture")
    )


# -- telling --------------------------------------------------------------------------------------


class _ProgressLine:
    """A line that says how far a long search is, on a terminal only."""

    PATIENCE: Final = 1.0
    """Seconds; a shorter search is not worth a line."""

    def __init__(self, config: pytest.Config) -> None:
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self._file: Any = reporter._tw._file if reporter and reporter.isatty else None
        self._began = time.monotonic()
        self._shown = 0

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if self._file is not None and time.monotonic() - self._began > self.PATIENCE:
            self.clear()
            text = f" {progress.strategy}: {progress.schedules:,} schedules "
            self._shown = len(text)
            self._write(text)

    def clear(self) -> None:
        """Take it away again."""
        if self._shown:
            self._write(f"\x1b[{self._shown}D\x1b[K")
            self._shown = 0

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell what the explored tests that passed have shown, and no more than that."""
    verdicts: Counter[str] = Counter()
    schedules = 0
    for report in terminalreporter.getreports("passed"):
        told = dict(report.user_properties).get(_VERDICT)
        if told:
            verdict, number, *notes = told
            verdicts[verdict.partition(" ")[0]] += 1
            schedules += number
            for note in notes if verdict == "replayed" else ():  # it may be another test's schedule
                terminalreporter.write_line(f"{report.nodeid}: {note}")
    if verdicts:
        found = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common())
        more = "; -rP shows which, and why" if {"bounded", "sampled"} & set(verdicts) else ""
        terminalreporter.write_line(f"explored: {found}; {schedules:,} schedules{more}")
