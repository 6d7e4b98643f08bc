"""The race explorer under pytest, alone and beside the other plugins that run async tests."""

from __future__ import annotations

import re
import shlex
from io import StringIO
from textwrap import dedent
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from aiopde import pytest_plugin
from aiopde.testing import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

# pytest-asyncio warns about itself unless it is told.
INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
"""
LOST_UPDATE = """
import anyio
import pytest
from anyio.lowlevel import checkpoint

@pytest.mark.explore
async def test_lost_update():
    count = [0]

    async def increment():
        value = count[0]
        await checkpoint()
        count[0] = value + 1

    async with anyio.create_task_group() as tg:
        tg.start_soon(increment, name="a")
        tg.start_soon(increment, name="b")
    assert count[0] == 2
"""
NONE = """
import pytest

@pytest.mark.explore
async def test_it(): pass
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest on a file of tests."""
    pytester.makeini(INI)

    def run(source: str, *args: str) -> pytest.RunResult:
        (pytester.path / "test_it.py").write_text(dedent(source), encoding="utf-8")
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *args)

    return run


def passed(result: pytest.RunResult) -> list[str]:
    """The tests that passed, in order."""
    return re.findall(r"^test_it\.py::(\S+) PASSED", result.stdout.str(), re.MULTILINE)


class TestFailure:
    def test_shows_the_race_and_no_internals(self, run: Run) -> None:
        """
        One sees the assertion, the schedule, the lanes, and the command that replays it.
        """
        result = run(LOST_UPDATE, "-q", "-k", "trio")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            [
                "E       assert 1 == 2",
                "*--- the race ---*",
                "exception: AssertionError: assert 1 == 2",
                "(trio, *; shrunk to 1 context switch, and proven that it takes as many)",
                "replay: pytest 'test_it.py::test_lost_update?trio?' --replay=*",
                "step  main  a     b",
            ]
        )
        assert len(result.stdout.lines) < 60
        assert "aiopde/testing" not in result.stdout.str()

    def test_the_command_replays_it(self, run: Run, pytester: pytest.Pytester) -> None:
        """
        What is printed can be pasted: that one schedule runs, and fails.
        """
        shown = run(LOST_UPDATE, "-q").stdout.str()
        commands = re.findall(r"^replay: pytest (.*)$", shown, re.MULTILINE)
        assert len(commands) == 2
        for command in commands:
            again = pytester.runpytest_inprocess("-p", "no:cacheprovider", *shlex.split(command))
            again.assert_outcomes(failed=1)
            again.stdout.fnmatch_lines(["E       assert 1 == 2", "(*, replayed)"])

    def test_a_replay_of_what_was_mended_passes(self, run: Run) -> None:
        """
        With the bug gone, its schedule is what shows that it is.
        """
        mended = LOST_UPDATE.replace("        value = count[0]\n        await checkpoint()\n", "")
        mended = mended.replace("value + 1", "count[0] + 1")
        run(mended, "-k", "trio", "--replay=-").assert_outcomes(passed=1, deselected=1)

    def test_a_replay_that_does_not_fit(self, run: Run) -> None:
        """
        It may pass all the same; that it was no schedule of this test is said at the end.
        """
        result = run(NONE, "-k", "trio", "--replay=a.b")
        result.assert_outcomes(passed=1, deselected=1)
        result.stdout.fnmatch_lines(
            [
                "test_it.py::test_it?trio?: the schedule is of another program*",
                "explored: 1 replay*",
            ]
        )
        failed = run(LOST_UPDATE, "-k", "trio", "--replay=x.y")
        failed.stdout.fnmatch_lines(["*choice 1 of the schedule is x, which cannot move; a, b can"])
        failed.stdout.fnmatch_lines(["the schedule is of another program*"])

    def test_a_replay_wants_one_test(self, run: Run) -> None:
        """
        A schedule of one test means nothing to another.
        """
        result = run(LOST_UPDATE, "--replay=a.b")
        result.stderr.fnmatch_lines(["ERROR: --replay replays one explored test, 2 are selected*"])
        assert result.ret == pytest.ExitCode.USAGE_ERROR

    def test_a_worker_with_several_tests(self, run: Run, pytester: pytest.Pytester) -> None:
        """
        A worker of pytest-xdist cannot end the run: there each of the tests fails, and says so.
        """
        pytester.makeconftest("def pytest_configure(config): config.workerinput = {}")
        result = run(LOST_UPDATE, "-q", "--replay=a.b")
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines(["--replay replays one explored test, 2 are selected*"] * 2)

    @pytest.mark.parametrize("tb", ["no", "line", "short", "long", "native"])
    def test_every_style(self, run: Run, tb: str) -> None:
        """
        However little or much one wants to see, the summary names the reason.
        """
        result = run(LOST_UPDATE, "-q", f"--tb={tb}", "-k", "trio")
        result.stdout.fnmatch_lines(["FAILED test_it.py::test_lost_update?trio? - assert 1 == 2"])

    def test_a_deadlock_has_no_exception(self, run: Run) -> None:
        """
        Who waits for what is shown, and nothing of what runs the test.
        """
        result = run(
            """
            import anyio, pytest

            @pytest.mark.explore(backend="trio")
            async def test_it():
                await anyio.Event().wait()
            """,
            "-q",
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["deadlock: *", "who waits for what:", "  main waits for *"])
        result.stdout.fnmatch_lines(["FAILED test_it.py::test_it?trio? - *deadlock*"])
        assert "def explore" not in result.stdout.str()
        assert "aiopde/testing" not in result.stdout.str()

    def test_the_race_is_drawn_on_request(self, run: Run, pytester: pytest.Pytester) -> None:
        """
        With --explore-svg each failing test leaves a picture, and says where.
        """
        result = run(LOST_UPDATE, "-q", "--explore-svg=pictures/here", "-k", "trio")
        picture = pytester.path / "pictures/here/test_it.py_test_lost_update_trio.svg"
        assert picture.read_text(encoding="utf-8").startswith("<svg ")
        result.stdout.fnmatch_lines(["pictures/here/test_it.py_test_lost_update_trio.svg"])

    def test_an_invariant(self, run: Run) -> None:
        """
        race.always() is checked after each step; race is a fixture.
        """
        result = run(
            """
            import anyio, pytest
            from anyio.lowlevel import checkpoint

            @pytest.mark.explore(backend="asyncio")
            async def test_it(race):
                there = []
                race.always(lambda: len(there) < 2, "one at most")

                async def visit():
                    there.append(1)
                    await checkpoint()
                    there.pop()

                async with anyio.create_task_group() as tg:
                    tg.start_soon(visit, name="a")
                    tg.start_soon(visit, name="b")
            """,
            "-q",
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["invariant: *one at most*"])


class TestBackends:
    BOTH = ("test_it[asyncio]", "test_it[trio]")

    @pytest.mark.parametrize(
        ("options", "backends"),
        [
            ([], BOTH),
            (["-o", "anyio_mode=auto"], BOTH),
            (["-o", "trio_mode=true"], BOTH[1:]),
            (["-o", "asyncio_mode=auto"], BOTH[:1]),
            (["--asyncio-mode=auto"], BOTH[:1]),
            (["-p", "no:anyio"], BOTH),
            (["-p", "no:anyio", "-p", "no:trio", "-p", "no:asyncio"], BOTH),
            (["-p", "no:trio", "-o", "anyio_mode=auto"], BOTH),
            (["-p", "no:asyncio", "-o", "trio_mode=true"], BOTH[1:]),
            (["-p", "no:anyio", "-o", "trio_mode=true"], BOTH[1:]),
            (["-p", "no:trio", "-o", "asyncio_mode=auto"], BOTH[:1]),
            (
                ["-o", "trio_mode=true", "-o", "anyio_mode=auto", "-o", "asyncio_mode=auto"],
                BOTH[1:],
            ),
        ],
        ids=" ".join,
    )
    def test_a_mode_says_for_what_tests_are(
        self, run: Run, options: list[str], backends: tuple[str, ...]
    ) -> None:
        """
        A test that is explored runs on what unmarked async tests are meant for, else on both.
        """
        result = run(NONE, "-v", *options)
        assert passed(result) == list(backends)

    @pytest.mark.parametrize("mode", ["trio_mode=true", "asyncio_mode=auto", "anyio_mode=auto"])
    @pytest.mark.parametrize(
        ("mark", "backends"),
        [
            ("trio", BOTH[1:]),
            ("asyncio", BOTH[:1]),
            ("anyio", BOTH),
            ("explore(backend='trio')", BOTH[1:]),
            ("explore(backend=('trio', 'asyncio'))", BOTH[::-1]),
            ("parametrize('anyio_backend', ['trio'])", BOTH[1:]),
        ],
    )
    def test_a_mark_says_more(
        self, run: Run, mark: str, backends: tuple[str, ...], mode: str
    ) -> None:
        """
        The mark of the test, its class or module counts more than the mode.
        """
        source = NONE.replace("\n@", f"\n@pytest.mark.{mark}\n@", 1)
        assert passed(run(source, "-v", "-o", mode)) == list(backends)
        source = NONE.replace("\n@", f"\npytestmark = pytest.mark.{mark}\n@", 1)
        assert passed(run(source, "-v", "-o", mode)) == list(backends)

    def test_the_fixture_of_anyio(self, run: Run) -> None:
        """
        A fixture anyio_backend of one's own decides, options or not.
        """
        fixture = """
import pytest

@pytest.fixture(params=[("trio", {"strict_exception_groups": True})], ids=["own"])
def anyio_backend(request):
    return request.param
"""
        assert passed(run(fixture + NONE, "-v")) == ["test_it[own]"]

    def test_without_trio(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Where trio is missing the test says so, and how to leave it out.
        """

        def find(name: str) -> object:
            return name == "asyncio" or None

        monkeypatch.setattr(pytest_plugin, "find_spec", find)
        result = run(NONE, "-q")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["trio is not installed: *explore(backend='asyncio')"])
        assert passed(run(NONE, "-v", "-p", "no:anyio")) == ["test_it[asyncio]"]


NEIGHBOURS = """
import asyncio
import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

@pytest.fixture
async def anyio_number(anyio_backend):
    return 1

@pytest.fixture
def number():
    return 2

@pytest.mark.trio
async def test_trio():
    await trio.lowlevel.checkpoint()

@pytest.mark.anyio
async def test_anyio(anyio_number):
    await checkpoint()

@pytest.mark.asyncio
async def test_asyncio():
    await asyncio.sleep(0)

@pytest.mark.explore
async def test_explored(number, race):
    await checkpoint()

class TestAll:
    @pytest.mark.parametrize("x", [1, 2])
    @pytest.mark.explore
    async def test_method(self, x):
        await checkpoint()

@pytest.mark.explore(backend="trio")
class TestStatic:
    @staticmethod
    async def test_static(race):
        await checkpoint()

    @classmethod
    async def test_class(cls, race):
        await checkpoint()

def test_plain(number):
    pass
"""


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ([], 13),
        (["-o", "anyio_mode=strict", "-o", "asyncio_mode=strict", "-o", "trio_mode=false"], 13),
    ],
    ids=["plain", "strict"],
)
def test_neighbours_are_left_alone(run: Run, options: list[str], number: int) -> None:
    """
    Tests of pytest-trio, anyio and pytest-asyncio run beside explored ones as they always do.
    """
    run(NEIGHBOURS, *options).assert_outcomes(passed=number)


def test_nothing_is_imported_before_it_is_needed(pytester: pytest.Pytester) -> None:
    """
    Where nothing is explored, there is no trio and no explorer.
    """
    source = """
import sys

def test_it():
    assert "aiopde.pytest_plugin" in sys.modules
    assert not {"trio", "aiopde.testing"} & set(sys.modules)
"""
    (pytester.path / "test_it.py").write_text(source, encoding="utf-8")
    result = pytester.runpytest_subprocess("-p", "no:trio", "-p", "no:asyncio", "-p", "no:anyio")
    result.assert_outcomes(passed=1)


def test_the_option_of_another_plugin_stays_its_own(run: Run, pytester: pytest.Pytester) -> None:
    """
    If there is a --replay already, ours is --explore-replay.
    """
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--replay')")
    run(NONE, "--replay=theirs").assert_outcomes(passed=2)
    run(LOST_UPDATE, "--explore-replay=a.b", "-k", "trio").assert_outcomes(failed=1, deselected=1)


class TestOutcomes:
    def test_skip_and_xfail_are_what_they_always_are(self, run: Run) -> None:
        """
        pytest.skip(), pytest.xfail() and the mark xfail work in an explored test.
        """
        result = run(
            """
            import pytest
            pytestmark = pytest.mark.explore(backend="trio")

            async def test_skip(): pytest.skip("why")
            async def test_xfail(): pytest.xfail("why")

            @pytest.mark.xfail(raises=KeyError, strict=True)
            async def test_expected(): raise KeyError
            """
        )
        result.assert_outcomes(skipped=1, xfailed=2)

    def test_how_much_was_seen_is_summed_up(self, run: Run) -> None:
        """
        The last lines tell how many tests were explored to the end, and how many were not.
        """
        source = NONE.replace("explore", "explore(strategy=['dfs', 'random'][0])")
        source += "\n@pytest.mark.explore(strategy='random', max_schedules=3)\n"
        source += "async def test_other(): pass\n"
        source += "def test_plain(record_property): record_property('explored', 1)\n"
        result = run(source)
        result.stdout.fnmatch_lines(
            ["explored: 2 exhaustive, 2 sampled; * schedules; -rP shows which, and why"]
        )

    def test_the_verdict_of_what_passed_can_be_seen(self, run: Run) -> None:
        """
        -rP tells the verdict of each test.
        """
        run(NONE, "-rP").stdout.fnmatch_lines(["*exhaustive: * schedules on trio by *"])


class TestMisuse:
    @pytest.mark.parametrize(
        ("source", "error"),
        [
            ("@pytest.mark.explore\ndef test(): pass", "*test is marked explore: that wants an*"),
            (
                "@pytest.mark.explore(max=1)\nasync def test(): pass",
                "*knows no max; it takes backend, strategy, *",
            ),
            ("@pytest.mark.explore(replay='a')\nasync def test(): pass", "*knows no replay; *"),
            ("@pytest.mark.explore('dfs')\nasync def test(): pass", "*knows no dfs; it takes *"),
            (
                "@pytest.mark.explore(strategy='best')\nasync def test(): pass",
                "no strategy 'best': there are auto, *",
            ),
            (
                "@pytest.mark.explore(backend='curio')\nasync def test(): pass",
                "*no backend 'curio': there are 'asyncio' and 'trio'*",
            ),
            (
                "@pytest.mark.explore(backend=3)\nasync def test(): pass",
                "*no backend 3: there are 'asyncio' and 'trio'*",
            ),
            (
                (
                    "@pytest.mark.parametrize('anyio_backend', ['curio'])\n"
                    "@pytest.mark.explore\nasync def test(anyio_backend): pass"
                ),
                "*no backend 'curio': there are 'asyncio' and 'trio'*",
            ),
            (
                (
                    "from hypothesis import given, strategies as st\n@pytest.mark.explore\n"
                    "class TestIt:\n  @given(x=st.none())\n  async def test(self, x): pass"
                ),
                "*and none of @given*",
            ),
            ("def test(race): pass", "*race is for tests marked explore, not test"),
            (
                (
                    "@pytest.fixture\ndef f(race): race.always(len)\n"
                    "@pytest.mark.explore\nasync def test(f): pass"
                ),
                "*race.always can be used in the test only*",
            ),
            (
                (
                    "@pytest.fixture\nasync def f(): pass\n"
                    "@pytest.mark.explore\nasync def test(f): pass"
                ),
                "*cannot use the async fixture f: *",
            ),
            (
                "@pytest.mark.explore\nasync def test(nursery): pass",
                "*cannot use the async fixture nursery: *",
            ),
            (
                (
                    "from hypothesis import given, strategies as st\n@pytest.mark.explore\n"
                    "@given(x=st.none())\nasync def test(x): pass"
                ),
                "*and none of @given*",
            ),
        ],
    )
    def test_what_cannot_be_explored_is_told_why(self, run: Run, source: str, error: str) -> None:
        """
        Each mistake ends in a message that says what to do, and not in a pass.
        """
        result = run(f"import pytest\n{source}\n", "-q")
        result.stdout.fnmatch_lines([error])
        assert "passed" not in result.stdout.lines[-1]

    def test_a_marked_class_may_have_plain_tests(self, run: Run) -> None:
        """
        Of a class or module that is marked, only the async tests are explored.
        """
        source = "import pytest\npytestmark = pytest.mark.explore\ndef test_plain(): pass\n" + NONE
        run(source).assert_outcomes(passed=3)

    def test_a_bad_schedule(self, run: Run) -> None:
        """
        A schedule that cannot be read says how one looks.
        """
        result = run(NONE, "-k", "trio", "--replay=?!")
        result.stdout.fnmatch_lines(["not a schedule*one looks like reader*"])

    def test_internals_on_request(self, run: Run) -> None:
        """
        With --full-trace one sees how a message came about.
        """
        result = run(NONE, "-k", "trio", "--replay=?!", "--full-trace")
        result.stdout.fnmatch_lines(["*ValueError: not a schedule*one looks like reader*"])
        assert "def parse" in result.stdout.str()

    def test_a_mistake_of_the_explorer(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Its traceback is shown: nobody could do with the message alone.
        """

        def mistake(run: object) -> None:
            raise ValueError("ours")

        monkeypatch.setattr("aiopde.testing._run.Run._pick_plainly", mistake)
        result = run(NONE.replace("pass", "await anyio.sleep(0)\nimport anyio"), "-q")
        result.assert_outcomes(failed=2)
        result.stdout.fnmatch_lines(["*def runtest(self)*", "E  *ValueError: ours*"])

    def test_what_no_schedule_can_hold(self, run: Run) -> None:
        """
        A thread is told of in one line, and not as a race.
        """
        source = NONE.replace("pass", "await anyio.to_thread.run_sync(len, 'x')")
        result = run("import anyio\n" + source, "-q")
        result.assert_outcomes(failed=2)
        where = "main: run_sync at */test_it.py:6:test_it"
        result.stdout.fnmatch_lines([f"{where} wants a thread, *. Call the function in the task *"])
        assert "the race" not in result.stdout.str()
        assert "def " not in result.stdout.str()

    def test_a_test_case_of_unittest(self, run: Run) -> None:
        """
        Such a method is run by unittest, once: that is not what the mark says.
        """
        result = run(
            """
            import pytest, unittest

            @pytest.mark.explore
            class TestIt(unittest.IsolatedAsyncioTestCase):
                async def test_async(self): pass
                def test_plain(self): pass
            """
        )
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["test_async is marked explore, and TestCaseFunction would *"])

    def test_what_outlives_a_schedule(self, run: Run) -> None:
        """
        A fixture is set up once: whoever uses it up hears that, and not of a race.
        """
        result = run(
            """
            import pytest

            @pytest.fixture
            def names(): return ["a"]

            @pytest.mark.explore(backend="trio")
            async def test_it(names): names.pop()
            """
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["nondeterminism: *the first schedule has passed, and now *"])


class TestProgress:
    def line(self, monkeypatch: pytest.MonkeyPatch, *, isatty: bool) -> tuple[Any, StringIO]:
        """A progress line on a terminal that is none."""
        written = StringIO()
        reporter = SimpleNamespace(isatty=isatty, _tw=SimpleNamespace(_file=written))
        plugins = SimpleNamespace(get_plugin={"terminalreporter": reporter}.get)
        line = pytest_plugin._ProgressLine(SimpleNamespace(pluginmanager=plugins))  # type: ignore[arg-type]
        monkeypatch.setattr(line, "_began", line._began - 2)
        return line, written

    def test_a_long_search_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The line is written over, and taken away in the end.
        """
        line, written = self.line(monkeypatch, isatty=True)
        line(Progress("dpor", 1234, 10_000, 0, 2.0))
        assert written.getvalue() == " dpor: 1,234 schedules "
        line.clear()
        assert written.getvalue().endswith(" \x1b[23D\x1b[K")
        line.clear()
        assert written.getvalue().count("\x1b[K") == 1

    def test_a_short_search_or_a_file_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Nothing is written in the first second, and never where there is no terminal.
        """
        line, written = self.line(monkeypatch, isatty=False)
        line(Progress("dpor", 1234, 10_000, 0, 2.0))
        assert written.getvalue() == ""
        line, written = self.line(monkeypatch, isatty=True)
        monkeypatch.undo()
        line(Progress("dpor", 1234, 10_000, 0, 2.0))
        assert written.getvalue() == ""
