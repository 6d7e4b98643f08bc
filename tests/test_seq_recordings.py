"""What a real kernel's seq file did, done here: each handler call, each result, in that order."""

# What show sees of its buffer is recorded, and nobody else may see it.
# pyright: reportPrivateUsage=false

import json
import zlib
from errno import EINTR, errorcode
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_task_group, wait_all_tasks_blocked

from aiopde._seq_file import PARAMETERS, SeqFile, SeqOps
from aiopde._single import single
from tests.seq_helpers import OpenFile, Walk, raises

RECORDED = Path(__file__).parent / "conformance" / "recorded"


class Recorded:
    """The kernel module's "seq" and "single" entries: the same content, the same log."""

    def __init__(self, args: dict[str, str]) -> None:
        self.log: list[str] = []
        self.results: dict[str, str] = {}
        self.single = args["kind"] == "single"
        self.settings = {"reclen": "8", **args}
        if self.single:
            self.ops = single(self.show_all)
        else:
            self.ops = SeqOps(start=self.start, next=self.next, stop=self.stop, show=self.show)

    def set(self, args: dict[str, str]) -> None:
        """Obey the step "set"."""
        self.settings.update(args)
        if "op" in args:
            self.results[args["op"]] = args["ret"]

    def _find(self, index: int) -> int | None:
        return index + 1 if index < int(self.settings["nrec"]) else None

    def _exit(self, call: str, result: int) -> int:
        self.log.append(f"{call} = {result}")
        if result < 0:
            raise OSError(-result, errorcode[-result])
        return result

    async def start(self, m: SeqFile, pos: int) -> int | None:
        """Numbers from 1 on."""
        item = self._find(pos)
        self._exit(f"start pos={pos}", item or 0)
        return item

    async def next(self, m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        """One more."""
        found = self._find(pos + 1)
        self._exit(f"next pos={pos}", found or 0)
        return found, pos + 1

    async def stop(self, m: SeqFile, item: int | None) -> None:
        """Nothing."""
        self._exit(f"stop v={item or 0}", 0)

    async def show(self, m: SeqFile, item: int) -> int:
        """The number before, with zeros, and a line feed."""
        width = int(self.settings["reclen"]) - 1
        call = f"show rec={item - 1} bufsize={m._size} count={len(m._buffer)}"
        return self._show(m, call, f"{item - 1:0{width}}\n")

    async def show_all(self, m: SeqFile) -> int:
        """The text that was set."""
        text = self.settings["data"]
        if text.startswith("%{"):
            times, _, char = text[2:-1].partition("*")
            text = int(times) * char
        return self._show(m, f"show bufsize={m._size}", text)

    def _show(self, m: SeqFile, call: str, text: str) -> int:
        result = self.results.get("show", "none")
        if result != "none":
            return self._exit(call, int(result))
        m.puts(text)
        return self._exit(call, 0)


class Player:
    """Plays the steps of a recording that reach a seq file."""

    def __init__(self) -> None:
        self.entries: dict[str, Recorded] = {}
        self.files: dict[str, OpenFile] = {}

    async def play(self, verb: str, args: dict[str, str]) -> object:
        """Do one step; return what its result shows."""
        if verb == "create":
            self.entries[args["name"]] = Recorded(args)
        elif verb == "set":
            self.entries[args["ent"]].set(args)
        elif verb == "open":
            self.files[args["fd"]] = OpenFile(self.entries[Path(args["path"]).name].ops)
        elif verb == "dup":
            self.files[args["as"]] = self.files[args["fd"]]
        elif verb == "fdpos":
            return self.files[args["fd"]].pos
        elif verb != "close":
            return await self._call(self.files[args["fd"]], verb, args)
        return None

    async def _call(self, file: OpenFile, verb: str, args: dict[str, str]) -> object:
        sizes = sum(int(args[key]) for key in ("n", "n1", "n2") if key in args)
        try:
            if verb == "lseek":
                return await file.lseek(int(args["off"]), {"SET": 0, "CUR": 1}[args["whence"]])
            if verb == "pread":
                return self._shown(await file.pread(sizes, int(args["off"])))
            assert verb in ("read", "readv", "splice")  # here all of them are one call
            return self._shown(await file.read(sizes))
        except OSError as error:
            return errorcode[error.errno or 0]

    def _shown(self, data: bytes) -> object:
        return data if len(data) <= 256 else (len(data), zlib.crc32(data))

    def events(self) -> list[str]:
        """What the handlers did since last asked."""
        log = [event for entry in self.entries.values() for event in entry.log]
        for entry in self.entries.values():
            entry.log.clear()
        return log


def recorded_result(result: dict[str, Any]) -> object:
    """Read a recorded result as `Player` would return it."""
    if "errno" in result:
        return result["errno"]
    if "crc32" in result:
        return result["ret"], result["crc32"]
    if "data" in result:
        return result["data"].encode("latin-1")
    return result.get("pos", result.get("ret"))


def recorded_events(step: dict[str, Any]) -> list[str]:
    """Read the handlers' calls of a step as `Recorded` logs them."""
    events = [event for event in step.get("events", []) if event["op"] in PARAMETERS]
    entries, exits = events[::2], events[1::2]
    assert {event["phase"] for event in entries} <= {"enter"}
    return [
        f"{enter['op']} {enter['arg']} = {leave['ret']}"
        for enter, leave in zip(entries, exits, strict=True)
    ]


# Those of seq files, but for the two that wait at gates, which have tests of their own.
RECORDINGS = sorted(
    path.stem
    for pattern in ("f*.json", "a22*.json")
    for path in RECORDED.glob(pattern)
    if path.stem not in ("f18_seq_start_inflight_intr", "f25_seq_two_readers_inflight")
)


class TestRecordings:
    @pytest.mark.parametrize("name", RECORDINGS)
    async def test_calls_what_linux_calls(self, name: str) -> None:
        """
        Same results, same calls, same positions, same size and fill of the buffer as recorded.
        """
        steps = json.loads((RECORDED / f"{name}.json").read_text())["steps"]
        player = Player()
        for step in steps:
            if step["verb"] == "remove_entry":
                break  # what comes after does not reach the seq file
            result = await player.play(step["verb"], step["args"])
            assert player.events() == recorded_events(step), step["text"]
            if result is not None:
                assert result == recorded_result(step["res"]), step["text"]

    def test_there_are_recordings(self) -> None:
        """
        The recordings are where they are looked for.
        """
        assert len(RECORDINGS) == 15

    async def test_an_interrupted_start_is_stopped(self) -> None:
        """
        As in f18: start fails with EINTR, stop gets no item, the error is the reader's.
        """
        walk = Walk(b"a")
        walk.hooks["start(0)"] = raises(InterruptedError(EINTR, "interrupted"))
        file = OpenFile(walk.ops)
        with pytest.raises(InterruptedError):
            await file.read(100)
        assert walk.taken() == "start(0) stop"
        assert walk.stopped_at is None

    async def test_two_open_files_are_read_at_once(self) -> None:
        """
        As in f25: two readers on two files are in show at the same time.
        """
        walk, gate = Walk(b"a", b"b"), Event()
        walk.hooks["show(0)"] = gate.wait
        got: list[bytes] = []

        async def reader() -> None:
            got.append(await OpenFile(walk.ops).read(100))

        async with create_task_group() as tg:
            tg.start_soon(reader)
            tg.start_soon(reader)
            await wait_all_tasks_blocked()
            assert walk.taken() == "start(0) show(0) start(0) show(0)"
            gate.set()
        assert got == [b"ab", b"ab"]
