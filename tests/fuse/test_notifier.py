"""Telling the kernel what has changed, while it asks us."""

import json
import os
import select
import sys
from pathlib import Path

import anyio
import pytest

from aiopde import File, ProcFS, ProcOps, WaitQueue
from tests.fuse.harness import in_thread, mounted, needs_mount, run, state_of, until
from tests.helpers import Handlers

pytestmark = needs_mount

# Does what holds the directory's lock in the kernel while it waits for us: look up names that
# are not cached, and list. Any error but those of a removal is a failure.
READER = """
import errno, json, os, sys, time
directory, seconds = sys.argv[1], float(sys.argv[2])
seen = {"listings": 0, "reads": 0}
end = time.monotonic() + seconds
while time.monotonic() < end:
    for name in os.listdir(directory):
        try:
            os.stat(f"{directory}/{name}")
            os.stat(f"{directory}/{name}.missing")
        except FileNotFoundError:
            pass
        try:
            with open(f"{directory}/{name}", "rb", buffering=0) as file:
                file.read(10)
                seen["reads"] += 1
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.EIO):
                raise
    seen["listings"] += 1
print(json.dumps(seen))
"""

SYS_UNLINKAT = "263 "  # as /proc shows it, on x86-64


async def read(file: object, size: int, pos: int) -> bytes:
    return b"here"[pos : pos + size]


async def test_removals_race_readers_and_nobody_hangs(tmp_path: Path) -> None:
    """Notifications wait in the kernel for lookups that wait for us; we go on answering them."""
    removed = 0
    counts: list[dict[str, int]] = []

    async def reader(directory: Path) -> None:
        command = [sys.executable, "-S", "-c", READER, str(directory), "2"]
        counts.append(json.loads((await anyio.run_process(command)).stdout))

    async with ProcFS() as proc, mounted(proc, tmp_path / "m") as mount:
        proc.mkdir("d")
        async with anyio.create_task_group() as readers:
            for _ in range(3):
                readers.start_soon(reader, tmp_path / "m/d")
            while len(counts) < 3:
                entries = [proc.create(f"d/{n}", ProcOps(read=read)) for n in range(20)]
                await anyio.sleep(0.002)
                for entry in entries:
                    await entry.remove()
                removed += len(entries)
        await until(lambda: mount.statistics().open_files == 0)
    assert removed >= 100
    assert sum(count["reads"] for count in counts) >= 10


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else may try to remove a name")
async def test_a_name_that_waits_holds_up_no_other_news(tmp_path: Path) -> None:
    """
    root's rm locks the directory, and waits for a write that is inside a handler: so does what we
    tell of names in it. Whoever polls is woken all the same; and leaving ends it all.
    """
    handlers, queue = Handlers(), WaitQueue()
    handlers.hold_up("write")
    ready = 0

    async def poll(file: File) -> int:
        file.poll_wait(queue)
        return ready

    def wait() -> list[tuple[int, int]]:
        with open(f"{path}/polled", "rb") as file:
            poller = select.poll()
            poller.register(file, select.POLLIN)
            return poller.poll(10_000)

    async def waits() -> None:
        seen.append(await in_thread(wait))

    def removing() -> bool:
        # Where else it is in this state, it waits for the disk.
        call = Path(f"/proc/{rm.pid}/syscall").read_text()
        return call.startswith(SYS_UNLINKAT) and state_of([rm.pid]) == ["D"]

    path = tmp_path / "m"
    seen: list[object] = []
    async with anyio.create_task_group() as tg, ProcFS() as proc:
        async with mounted(proc, path) as mount:
            proc.create("written", handlers.ops("write"), mode=0o666)
            proc.create("polled", ProcOps(poll=poll))
            going = proc.create("going", Handlers().ops("read"))
            await run("cat", path / "going")
            tg.start_soon(run, "sh", "-c", f"echo x > {path}/written; true")
            await until(lambda: mount.statistics().waiting == 1)
            tg.start_soon(waits)
            await until(lambda: len(queue) == 1)
            rm = await anyio.open_process(["rm", "-f", str(path / "written")])
            await until(removing)
            await going.remove()
            ready = select.POLLIN
            queue.wake_up()
            await until(lambda: seen)
            assert removing()
        await rm.aclose()
    assert handlers.log == ["write None"]
