"""
What the tests with a real mount need: a mount that cannot hang the machine, and programs to use it.

A mistake in a FUSE server can leave processes in state D, where no signal reaches them, this
very process among them. So every mount here has a guard, a process of its own that aborts the
kernel's connection when the test takes too long.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from aiopde.fuse import mount
from aiopde.fuse._mount import mounted_device

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from aiopde import ProcFS
    from aiopde.fuse import Mount

SECONDS_TO_ABORT = 15
_CAP_SYS_ADMIN = 1 << 21
# The end of the pipe means that all is well.
_GUARD = """
timeout "$2" cat >/dev/null && exit 0
unshare -m sh -c "
    mount -t fusectl none /sys/fs/fuse/connections
    echo 1 >/sys/fs/fuse/connections/$1/abort"
exit 1
"""


def no_mount_here() -> str:
    """Return why nothing can be mounted on this machine; "" if it can."""
    by_root = os.geteuid() == 0
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    allowed = int(effective.split()[1], 16) & _CAP_SYS_ADMIN
    reasons = {
        "there is no /dev/fuse": not Path("/dev/fuse").exists(),
        "there is no fusermount3": not by_root and not shutil.which("fusermount3"),
        "mount(2) is not allowed": by_root and not allowed,
    }
    return next((why for why, so in reasons.items() if so), "")


_why = no_mount_here()
REQUIRED = os.environ.get("AIOPDE_TEST_MOUNT") == "required"
"""Whether these tests must not be skipped: .ci/run says so where there is a /dev/fuse."""
assert not (_why and REQUIRED), f"these tests must not be skipped here, and would be: {_why}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")
needs_mount = pytest.mark.skipif(bool(_why), reason=_why or "a mount can be made")


@contextmanager
def guard(path: str, seconds: float = SECONDS_TO_ABORT) -> Generator[None]:
    """Abort the connection behind a mount if the block takes longer, and fail then."""
    device = mounted_device(path)
    assert device is not None
    number = device.partition(":")[2]
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", number, str(seconds)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.communicate()
    assert watcher.returncode == 0, f"hung: the connection was aborted after {seconds} s"


@asynccontextmanager
async def mounted(
    proc: ProcFS, path: Path, *, allow_other: bool = False, seconds: float = SECONDS_TO_ABORT
) -> AsyncGenerator[Mount]:
    """Mount a tree, with a guard that watches it be unmounted too."""
    await in_thread(os.makedirs, path)
    with ExitStack() as stack:
        async with mount(proc, path, allow_other=allow_other) as mounted_tree:
            stack.enter_context(guard(mounted_tree.path, seconds))
            yield mounted_tree


async def in_thread(function: Callable[..., object], *args: object) -> object:
    """Make a system call where it may block."""
    return await anyio.to_thread.run_sync(lambda: function(*args))


async def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program, and return what it said and how it ended."""
    done = await anyio.run_process([str(part) for part in command], check=False)
    result = subprocess.CompletedProcess[str](
        command, done.returncode, done.stdout.decode(), done.stderr.decode()
    )
    said = f"{command}: {done.returncode}\n{result.stdout}{result.stderr}"
    assert not (check and done.returncode), said
    return result


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for what another process or thread brings about."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  there is no event in another process
            await anyio.sleep(0.002)


async def until_in_thread(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait for what only a system call on the mount can tell."""
    with anyio.fail_after(seconds):
        while not await in_thread(condition):
            pass  # pragma: no cover  it may be true at once


def state_of(pids: Sequence[int]) -> list[str]:
    """Return the states of processes, as in ps: R, S, D, Z; "" for those that are gone."""
    states: list[str] = []
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            states.append("")
        else:
            states.append(status.rpartition(") ")[2][0])
    return states
