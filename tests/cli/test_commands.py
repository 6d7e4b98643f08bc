"""The commands that talk to a running kernel; the kernel is in a process of its own."""

import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiopde.cli import _text
from aiopde.cli._failure import describe, only_one
from aiopde.cli._loops import LOOPS
from aiopde.cli.files import branches
from aiopde.control import Client
from tests.fuse.harness import guard, needs_mount, needs_root

from .conftest import Result, RunCommand, Running, StartKernel, running

Ask = Callable[..., Result]


@pytest.fixture
def kernel(start_kernel: StartKernel, driver: Path) -> Running:
    """A kernel with the driver."""
    return start_kernel(str(driver))


@pytest.fixture
def ask(run_command: RunCommand, kernel: Running) -> Ask:
    """Run a command that talks to it."""

    def ask(*arguments: str) -> Result:
        return run_command(*arguments, "--control", kernel.control)

    return ask


def shows(result: Result) -> str:
    """What a command has printed that has succeeded."""
    assert (result.code, result.err) == (0, "")
    return result.out


def refuses(result: Result, code: int = 1) -> str:
    """The one line that a command has failed with."""
    assert (result.code, result.out) == (code, "")
    assert result.err.count("\n") == 1
    assert result.err.startswith("aiopde: ")
    return result.err


class TestModules:
    def test_a_life(self, ask: Ask, driver: Path) -> None:
        """
        Unload, load with a parameter, reload with another: silent, and seen in the file.
        """
        assert shows(ask("rmmod", "driver")) == ""
        assert shows(ask("lsmod")) == "MODULE  SIZE  REFS  USED BY  STATE\n"
        assert shows(ask("insmod", str(driver), "greeting=good evening")) == ""
        assert shows(ask("cat", "driver/greeting")) == "good evening"
        assert shows(ask("reload", "driver", "greeting=5")) == ""
        assert shows(ask("cat", "driver/greeting")) == "5"
        assert shows(ask("reload", "driver", "--file", str(driver))) == ""
        assert shows(ask("rmmod", "driver", "--grace", "1", "--force")) == ""
        assert shows(ask("modprobe", "demo", "interval=0.5")) == ""
        assert "demo" in shows(ask("lsmod"))

    def test_a_path_from_here(
        self, ask: Ask, driver: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The path of a file counts from where the command is, not from where the kernel is.
        """
        monkeypatch.chdir(driver.parent)
        shows(ask("rmmod", "driver"))
        shows(ask("insmod", "driver.py", "--name", "again"))
        assert f"filename:     {driver}\n" in shows(ask("modinfo", "again"))

    def test_lsmod(self, ask: Ask) -> None:
        """
        A table with a line for each module.
        """
        heads, line = shows(ask("lsmod")).splitlines()
        assert heads.split() == ["MODULE", "SIZE", "REFS", "USED", "BY", "STATE"]
        assert line.split()[0::2] == ["driver", "0", "Live"]

    def test_a_permanent_module(self, ask: Ask, tmp_path: Path) -> None:
        """
        One that only force unloads is marked.
        """
        (tmp_path / "forever.py").write_text("async def module_main(kernel):\n    pass\n")
        shows(ask("insmod", str(tmp_path / "forever.py")))
        assert "(permanent)" in shows(ask("lsmod"))
        assert "force it" in refuses(ask("rmmod", "forever"))
        shows(ask("rmmod", "forever", "--force"))

    def test_modinfo(self, ask: Ask, driver: Path) -> None:
        """
        What is known of a module, a field in a line.
        """
        shows(ask("reload", "driver", "greeting=hi"))
        lines = shows(ask("modinfo", "driver")).splitlines()
        assert f"filename:     {driver}" in lines
        assert "description:  Serve /proc/driver." in lines
        assert "param:        greeting='hi'" in lines
        assert "entry:        /proc/driver/held" in lines
        assert "depends:" in lines

    def test_modinfo_of_many_lines(self, ask: Ask) -> None:
        """
        A description of many lines is indented.
        """
        shows(ask("modprobe", "demo"))
        lines = shows(ask("modinfo", "demo")).splitlines()
        assert any(line.startswith(" " * 14 + "*interval*") for line in lines)

    def test_what_is_refused(self, ask: Ask, driver: Path) -> None:
        """
        One line says what is wrong, and with what; exit code 1.
        """
        assert "nothing: No such file" in refuses(ask("rmmod", "nothing"))
        assert "nothing: No such file" in refuses(ask("modinfo", "nothing"))
        assert "driver: File exists" in refuses(ask("insmod", str(driver)))
        assert "TypeError" in refuses(ask("reload", "driver", "volume=11"))
        assert "nothing.py: No such file" in refuses(ask("insmod", "./nothing.py"))

    def test_several_errors_are_one_line(self, ask: Ask, tmp_path: Path) -> None:
        """
        What exit and background tasks raised is told with what it was about.
        """
        source = "async def module_main(kernel):\n    yield\n    raise ValueError('in exit')\n"
        (tmp_path / "clumsy.py").write_text(source)
        shows(ask("insmod", str(tmp_path / "clumsy.py")))
        line = refuses(ask("rmmod", "clumsy"))
        assert "'clumsy' is unloaded, and some of its code failed: ValueError: in exit" in line


@pytest.mark.parametrize("loop", LOOPS)
class TestRemovalFromAnotherShell:
    @pytest.fixture
    def kernel(self, start_kernel: StartKernel, driver: Path, loop: str) -> Running:
        return start_kernel(str(driver), "--backend", loop)

    def test_it_waits_and_tells_for_whom(self, kernel: Running, ask: Ask, loop: str) -> None:
        """
        rmmod waits for a reader of another process; ps and why name that; then it is done.
        """
        with kernel.other("cat", "driver/held") as cat:
            kernel.until("ps", lambda held: held)
            with kernel.other("rmmod", "driver") as rmmod:
                kernel.until("why", lambda why: why, name="driver")
                heads, line = shows(ask("ps")).splitlines()
                assert heads.split() == ["TASK", "INSIDE", "CALL", "ENTRY", "LINE"]
                assert re.match(rf"control pid {cat.pid}  ≥ [\d.]+ s  read ", line)
                assert line.endswith(" in hold")

                why = shows(ask("why", "driver")).splitlines()
                head = r"module driver is unloading for [\d.]+ s, and waits for 1 call"
                assert re.fullmatch(head, why[0])
                assert f"read of /proc/driver/held by 'control pid {cat.pid}'" in why[1]
                assert why[2].endswith(" in hold")
                assert len(why) > 3

                assert rmmod.poll() is None
                assert "(1 inside, 1 open, dying)" in shows(ask("tree"))
                assert "unloading" in refuses(ask("rmmod", "driver"))

                cat.send_signal(signal.SIGINT)
                assert cat.wait(10) == 130
                assert rmmod.wait(10) == 0
        assert "driver" not in shows(ask("lsmod"))

    def test_ctrl_c_leaves_it_going_on(self, kernel: Running, ask: Ask, loop: str) -> None:
        """
        Who stops waiting is told that the unload goes on; and it does.
        """
        with kernel.other("cat", "driver/held") as cat:
            kernel.until("ps", lambda held: held)
            with kernel.other("rmmod", "driver") as rmmod:
                kernel.until("why", lambda why: why, name="driver")
                rmmod.send_signal(signal.SIGINT)
                _, err = rmmod.communicate(timeout=10)
                assert rmmod.returncode == 130
                assert "that goes on: see aiopde why driver" in err
            assert "driver" in shows(ask("why", "driver"))
            cat.send_signal(signal.SIGINT)
            cat.wait(10)
        kernel.until("lsmod", lambda modules: not modules)

    def test_a_grace_that_ends(self, kernel: Running, ask: Ask, loop: str) -> None:
        """
        Who is still inside is told with the error; as JSON too.
        """
        with kernel.other("cat", "driver/held") as cat:
            kernel.until("ps", lambda held: held)
            with kernel.other("rmmod", "driver", "--grace", "0", "--json") as rmmod:
                out, err = rmmod.communicate(timeout=10)
            assert rmmod.returncode == 1
            first, holder = err.splitlines()
            assert re.fullmatch(
                r"aiopde: driver: removal still waits after \S+ s, for 1 call\(s\)", first
            )
            assert f"task 'control pid {cat.pid}' in read of '/proc/driver/held'" in holder
            error = json.loads(out)["error"]
            assert error["class"] == "RemovalTimeoutError"
            assert error["holders"][0]["path"] == "/proc/driver/held"
            cat.kill()
        kernel.until("lsmod", lambda modules: not modules)


class TestHolders:
    def test_nobody(self, ask: Ask) -> None:
        """
        With nobody inside there is only the head of the table; and no why.
        """
        assert shows(ask("ps")) == "TASK  INSIDE  CALL  ENTRY  LINE\n"
        assert shows(ask("why", "driver")) == "driver is not being removed\n"
        assert "no module or entry of that name" in refuses(ask("why", "nothing"))

    def test_an_exit_that_is_stuck(self, ask: Ask, kernel: Running, tmp_path: Path) -> None:
        """
        With no call inside, one is told where the module's own tasks stand.
        """
        source = "import anyio\nasync def module_main(kernel):\n    yield\n    await wait()\n"
        source += "async def wait():\n    await anyio.sleep_forever()\n"
        (tmp_path / "stuck.py").write_text(source)
        shows(ask("insmod", str(tmp_path / "stuck.py")))
        with kernel.other("rmmod", "stuck"):
            kernel.until("why", lambda why: why, name="stuck")
            lines = shows(ask("why", "stuck")).splitlines()
        assert lines[0].endswith("and waits for no call inside")
        assert lines[1] == "  task 'module stuck'"
        assert any(line.endswith("in wait") for line in lines)

    def test_killable_calls_and_failed_inits(self) -> None:
        """
        A call that a grace may cancel says so; what nobody asked to unload has no since.
        """
        from aiopde.cli.holders import _reasons

        holder = {
            "task": "t",
            "path": "/proc/x",
            "op": "read",
            "stack": ["x.py:1 in read"],
            "killable": True,
            "seconds": 1,
        }
        subject = {"kind": "module", "name": "m", "seconds": None, "holders": [holder]}
        assert list(_reasons([subject], "m")) == [
            "module m is unloading, and waits for 1 call",
            "  read of /proc/x by 't', inside ≥ 1.0 s, cancelled when a grace ends",
            "    x.py:1 in read",
        ]


class TestFiles:
    def test_ls(self, ask: Ask) -> None:
        """
        Names, in the order of the directory; or all that stat tells, and who is inside.
        """
        assert shows(ask("ls", "driver")) == "full\nheld\nlink\ngreeting\n"
        lines = shows(ask("ls", "-l", "driver")).splitlines()
        assert lines[0].split() == ["MODE", "LINKS", "UID", "GID", "SIZE", "INSIDE", "OPEN", "NAME"]
        assert lines[3].split() == [
            "lrwxrwxrwx",
            "1",
            "0",
            "0",
            "8",
            "0",
            "0",
            "link",
            "->",
            "greeting",
        ]
        assert "nothing: No such file" in refuses(ask("ls", "nothing"))

    def test_an_empty_directory(self, ask: Ask) -> None:
        """
        Of nothing, nothing is printed.
        """
        shows(ask("rmmod", "driver"))
        assert shows(ask("ls")) == "modules\n"

    def test_tree(self, ask: Ask) -> None:
        """
        The tree, drawn.
        """
        assert shows(ask("tree")) == TREE
        assert shows(ask("tree", "driver")).splitlines()[0] == "/proc/driver"

    def test_cat(self, ask: Ask) -> None:
        """
        Files, one after the other.
        """
        assert shows(ask("cat", "driver/greeting", "/proc/driver/link")) == "hellohello"
        assert "no_such: No such file" in refuses(ask("cat", "driver/no_such"))
        assert "use ls" in refuses(ask("cat", "driver"))

    def test_all_bytes_survive(
        self, ask: Ask, kernel: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Any bytes can be written, more of them than fit into a message, and read again.
        """
        data = bytes(range(256)) * 8192
        stdin = io.TextIOWrapper(io.BytesIO(data))
        monkeypatch.setattr(sys, "stdin", stdin)
        assert shows(ask("write", "driver/greeting")) == ""
        with kernel.other("cat", "driver/greeting") as cat:
            assert cat.stdout is not None
            assert cat.stdout.buffer.read() == data  # type: ignore[attr-defined]
        lines = [
            json.loads(line) for line in shows(ask("cat", "--json", "driver/link")).splitlines()
        ]
        assert {"path", "base64"} == lines[0].keys()

    def test_write_as_echo_does(self, ask: Ask) -> None:
        """
        A text gets a newline.
        """
        assert shows(ask("write", "driver/greeting", "good evening")) == ""
        assert shows(ask("cat", "driver/greeting")) == "good evening\n"
        assert json.loads(shows(ask("write", "--json", "driver/greeting", "hi"))) == {
            "path": "driver/greeting",
            "written": 3,
        }

    def test_what_cannot_be_written(self, ask: Ask) -> None:
        """
        A file without a write handler, and one that takes nothing: an error, and no endless loop.
        """
        assert "held" in refuses(ask("write", "driver/held", "x"))
        assert "it takes no more, and left 2 bytes" in refuses(ask("write", "driver/full", "x"))

    @pytest.mark.parametrize("command", [("tree",), ("cat", "driver/greeting")])
    def test_who_reads_the_output_has_seen_enough(
        self, kernel: Running, command: tuple[str, ...]
    ) -> None:
        """
        A pipe that is closed ends the command, without a traceback.
        """
        ours, theirs = os.pipe()
        os.close(ours)
        with kernel.other(*command, stdout=theirs) as process:
            os.close(theirs)
            assert process.wait(10) == 1
            assert process.stderr is not None
            assert process.stderr.read() == ""

    @pytest.mark.parametrize("command", [("tree",), ("cat", "driver/greeting")])
    def test_output_that_cannot_be_written(self, kernel: Running, command: tuple[str, ...]) -> None:
        """
        A full disk ends the command with one line; that nobody wants its output, does not.
        """
        with (
            open("/dev/full", "w", encoding="utf-8") as full,
            kernel.other(*command, stdout=full) as process,
        ):
            assert process.communicate(timeout=10)[1] == "aiopde: No space left on device\n"
            assert process.returncode == 1
        closing = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *kernel.command(*command)]
        with running(closing) as process:
            assert process.communicate(timeout=10) == ("", "")
            assert process.returncode == 0


TREE = """\
/proc
├── driver
│   ├── full
│   ├── held
│   ├── link -> greeting
│   └── greeting
└── modules
"""

FOLLOWED = """
import anyio, select
from aiopde import ProcOps, WaitQueue

async def module_main(kernel):
    queue, lines = WaitQueue(), [b"one\\n"]
    changed = {}

    async def write(file, data, pos):
        lines.append(bytes(data))
        queue.wake_up()
        return len(data)

    # Like /proc/mounts: always readable, POLLPRI when it has changed since it was last asked.
    async def open_table(file):
        file.private_data = len(lines)

    async def read_table(file, size, pos):
        return lines[-1][pos : pos + size]

    async def poll_table(file):
        file.poll_wait(queue)
        seen, file.private_data = file.private_data, len(lines)
        return select.POLLIN | (select.POLLPRI if seen != len(lines) else 0)

    # Like /proc/kmsg: what was read is gone, and readable is what comes.
    async def read_log(file, size, pos):
        done = file.private_data or 0
        file.private_data = len(lines)
        return b"".join(lines[done:])

    async def poll_log(file):
        file.poll_wait(queue)
        return select.POLLIN if (file.private_data or 0) < len(lines) else 0

    # Like most of /proc: it does not tell.
    async def read_mute(file, size, pos):
        return lines[-1][pos : pos + size]

    here = kernel.proc.mkdir("f")
    for name, ops in {
        "add": ProcOps(write=write),
        "table": ProcOps(open=open_table, read=read_table, poll=poll_table),
        "log": ProcOps(read=read_log, poll=poll_log),
        "mute": ProcOps(read=read_mute),
    }.items():
        kernel.proc.create(name, ops, parent=here, mode=0o666)
    yield
    await here.remove()
"""


@needs_mount
class TestMounts:
    def test_a_life(self, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Mounted by a path from here: silent, listed while it is in use, unmounted.
        """
        place = tmp_path / "m"
        place.mkdir()
        monkeypatch.chdir(tmp_path)
        assert shows(ask("mount")) == "OPEN  WAITING  MOUNTED AT\n"
        assert shows(ask("mount", "m")) == ""
        with guard(str(place)), running(["cat", str(place / "driver/held")]) as cat:
            told = (json.loads(shows(ask("mount", "--json"))) for _ in iter(cat.poll, 1))
            assert any(mounts[0]["waiting"] for mounts in told)
            assert shows(ask("mount")).endswith(f"   1        1  {place}\n")
            assert f"fuse pid {cat.pid} " in shows(ask("ps"))
            assert "mounted there already" in refuses(ask("mount", "m"))
            assert shows(ask("umount", "m")) == ""
            assert cat.wait(10) == 1
        assert "not mounted by this kernel" in refuses(ask("umount", "m"))

    @needs_root
    def test_for_others(self, ask: Ask, tmp_path: Path) -> None:
        """
        Other users get in on request.
        """
        place = tmp_path / "m"
        place.mkdir()
        shows(ask("mount", str(place), "--allow-other"))
        with guard(str(place)):
            mounts = Path("/proc/mounts").read_text().splitlines()
            (mounted,) = [line for line in mounts if f" {place} " in line]
            shows(ask("umount", str(place)))
        assert ",allow_other" in mounted

    def test_with_the_kernel_it_ends(self, kernel: Running, ask: Ask, tmp_path: Path) -> None:
        """
        Ctrl-C unmounts first: a reader inside by the mount holds nothing up.
        """
        place = tmp_path / "m"
        place.mkdir()
        shows(ask("mount", str(place)))
        with guard(str(place)), running(["cat", str(place / "driver/held")]) as cat:
            kernel.until("ps", lambda held: held)
            assert kernel.end() == (0, "", "")
            assert cat.wait(10) == 1
        assert os.listdir(place) == []

    def test_what_is_in_the_way(self, ask: Ask, tmp_path: Path) -> None:
        """
        No directory, or one with something in it: one line, and nothing is mounted.
        """
        assert "is in it would be hidden" in refuses(ask("mount", str(tmp_path)))
        assert "make the directory" in refuses(ask("mount", str(tmp_path / "m")))
        assert json.loads(shows(ask("mount", "--json"))) == []


class TestFollowing:
    @pytest.mark.parametrize("name", ["table", "log", "mute"])
    def test_what_comes_later(self, kernel: Running, ask: Ask, tmp_path: Path, name: str) -> None:
        """
        cat -f shows a change as soon as the file tells, or it is seen; the removal ends it.
        """
        (tmp_path / "f.py").write_text(FOLLOWED)
        shows(ask("insmod", str(tmp_path / "f.py")))
        with kernel.other("cat", "-f", f"f/{name}") as cat:
            assert cat.stdout is not None
            assert cat.stdout.readline() == "one\n"
            for text in "two", "three":
                shows(ask("write", "f/add", text))
                assert cat.stdout.readline() == f"{text}\n"
            shows(ask("rmmod", "f"))
            assert cat.wait(10) == 1
            assert cat.stderr is not None
            assert "removal has begun" in cat.stderr.read()

    def test_only_one(self, run_command: RunCommand) -> None:
        """
        Of two files to follow one would never be reached.
        """
        assert "one file" in refuses(run_command("cat", "-f", "a", "b"), 2)

    def test_as_json(self, kernel: Running, ask: Ask) -> None:
        """
        Each piece is a line.
        """
        shows(ask("modprobe", "demo", "interval=0.01"))
        with kernel.other("cat", "-f", "--json", "demo/clock") as cat:
            assert cat.stdout is not None
            for _ in range(3):
                line = json.loads(cat.stdout.readline())
                assert line["path"] == "demo/clock"
                assert line["text"].endswith(" s\n")
            cat.send_signal(signal.SIGINT)
            assert cat.wait(10) == 130

    @pytest.mark.parametrize("name", ["table", "log"])
    def test_what_comes_as_it_begins(
        self, kernel: Running, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """
        Nothing falls between what was there and what comes later.
        """
        from aiopde.cli import files

        (tmp_path / "f.py").write_text(FOLLOWED)
        shows(ask("insmod", str(tmp_path / "f.py")))
        copy, talk, calls = files._copy, Client.ask, iter(range(10))

        async def copy_and_add(client: Client, opened: Any, out: Any) -> bool:
            found = await copy(client, opened, out)
            if next(calls) == 0:
                await files._write(client, "f/add", b"two\n")
            return found

        async def stop_at_last(client: Client, method: str, **params: Any) -> Any:
            if params.get("seconds", 0) is None:
                raise KeyboardInterrupt
            return await talk(client, method, **params)

        monkeypatch.setattr(files, "_copy", copy_and_add)
        monkeypatch.setattr(Client, "ask", stop_at_last)
        code, out, _ = ask("cat", "-f", f"f/{name}")
        assert (code, out) == (130, "one\ntwo\n")

    def test_only_when_it_has_changed(
        self, kernel: Running, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A file that does not tell is looked at again and again, and shown when it is another.
        """
        from aiopde.cli import files

        (tmp_path / "f.py").write_text(FOLLOWED)
        shows(ask("insmod", str(tmp_path / "f.py")))
        looks = iter(range(10))

        async def glance(seconds: float) -> None:
            assert seconds == 1
            look = next(looks)
            if look == 3:
                await write("two\n")
            if look == 6:
                raise KeyboardInterrupt

        async def write(text: str) -> None:
            from aiopde.control import connect

            async with await connect(kernel.control) as client:
                await files._write(client, "f/add", text.encode())

        monkeypatch.setattr(files, "anyio", type("anyio", (), {"sleep": glance}))
        code, out, _ = ask("cat", "-f", "f/mute")
        assert (code, out) == (130, "one\ntwo\n")


class TestJson:
    @pytest.fixture
    def kernel(self, lasting_kernel: Running) -> Running:
        return lasting_kernel

    COMMANDS = (
        ("lsmod",),
        ("modinfo", "driver"),
        ("ps",),
        ("why", "driver"),
        ("ls", "driver"),
        ("tree",),
        ("top",),
        ("reload", "driver"),
        ("modprobe", "demo"),
    )

    @pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
    def test_each_command(self, ask: Ask, command: tuple[str, ...]) -> None:
        """
        With --json a command prints one line of JSON: what the kernel said.
        """
        out = shows(ask(*command, "--json"))
        assert out.count("\n") == 1
        json.loads(out)

    def test_rmmod(self, run_command: RunCommand, start_kernel: StartKernel, driver: Path) -> None:
        """
        So does rmmod, which tells how long it took.
        """
        kernel = start_kernel(str(driver))
        out = shows(run_command("rmmod", "driver", "--json", "--control", kernel.control))
        told = json.loads(out)
        assert (told["name"], told["seconds"] >= 0) == ("driver", True)

    def test_errors(self, ask: Ask) -> None:
        """
        An error goes to stderr as ever, and as JSON to where the answer would be.
        """
        code, out, err = ask("rmmod", "nothing", "--json")
        assert code == 1
        assert err.startswith("aiopde: nothing: ")
        error = json.loads(out)["error"]
        assert (error["class"], error["errno"], error["path"]) == (
            "FileNotFoundError",
            2,
            "nothing",
        )


class TestNoKernel:
    COMMANDS = (
        ("insmod", "./x.py"),
        ("rmmod", "x"),
        ("reload", "x"),
        ("modprobe", "x"),
        ("lsmod",),
        ("modinfo", "x"),
        ("ps",),
        ("why", "x"),
        ("ls",),
        ("tree",),
        ("cat", "x"),
        ("write", "x", "y"),
        ("top", "--once"),
    )

    @pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
    def test_each_command(
        self, run_command: RunCommand, tmp_path: Path, command: tuple[str, ...]
    ) -> None:
        """
        One line says where it looked, and how to start a kernel; exit code 2.
        """
        path = str(tmp_path / "s")
        line = refuses(run_command(*command, "--control", path), 2)
        assert f"{path}: No such file or directory: no kernel is running there" in line
        assert "start one with 'aiopde run'" in line

    def test_in_the_environment(
        self, run_command: RunCommand, kernel: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The socket may be named once for a whole shell.
        """
        monkeypatch.setenv("AIOPDE_CONTROL", kernel.control)
        assert "driver" in shows(run_command("lsmod"))

    def test_a_kernel_that_goes(self, kernel: Running) -> None:
        """
        When the kernel goes away with a request, that is said; exit code 1.
        """
        with kernel.other("cat", "driver/held") as cat:
            kernel.until("ps", lambda held: held)
            kernel.process.kill()
            _, err = cat.communicate(timeout=10)
        assert cat.returncode == 1
        assert "the kernel has gone before it answered" in err

    def test_a_name_that_no_terminal_can_show(self, kernel: Running, tmp_path: Path) -> None:
        """
        With an output that knows few characters, others are shown in another way.
        """
        env = os.environ | {"PYTHONIOENCODING": "ascii"}
        with kernel.other("tree", env=env) as tree:
            out, err = tree.communicate(timeout=10)
        assert (tree.returncode, err) == (0, "")
        assert r"\u251c" in out


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0.0 s"),
            (9.94, "9.9 s"),
            (10, "10 s"),
            (59.9, "59 s"),
            (187, "3 min 07 s"),
            (3599, "59 min 59 s"),
            (7500, "2 h 05 min"),
        ],
    )
    def test_a_duration(self, seconds: float, text: str) -> None:
        """
        As exact as one wants to know it.
        """
        assert _text.duration(seconds) == text

    def test_a_call_without_a_stack(self) -> None:
        """
        Where a call stands is not always known.
        """
        assert _text.line_of([]) == "?"

    def test_several_calls(self) -> None:
        """
        One call, two calls.
        """
        assert (_text.calls(1), _text.calls(2)) == ("1 call", "2 calls")

    def test_errors(self) -> None:
        """
        An error without a path has only words; one that is alone in groups is taken out.
        """
        assert describe(OSError(1, "no")) == "no"
        assert describe(OSError("plain")) == "OSError: plain"
        alone = ValueError("x")
        assert only_one(ExceptionGroup("", [ExceptionGroup("", [alone])])) is alone
        two = ExceptionGroup("two", [alone, OSError(1, "no")])
        assert only_one(two) is two
        assert describe(two) == "two: ValueError: x; no"

    def test_the_lines_of_a_tree(self) -> None:
        """
        Also a tree whose root is the root of everything.
        """
        paths = ["/", "/a", "/a/b", "/a/b/c", "/d"]
        told: list[dict[str, Any]] = [
            {"path": path, "name": path.rpartition("/")[2], "target": None} for path in paths
        ]
        lines = [line for _, line, _ in branches(told)]
        assert lines == ["/", "├── a", "│   └── b", "│       └── c", "└── d"]

    def test_a_tree_that_is_cut_off(self) -> None:
        """
        If there is more than was told, that is said.
        """
        from aiopde.cli.files import _branches

        root = {"path": "/proc", "in_use": 0, "open_files": 0, "state": "live"}
        assert list(_branches({"entries": [root], "truncated": True})) == ["/proc", "... and more"]
