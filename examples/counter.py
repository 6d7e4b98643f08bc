"""
A file to be read and written: a counter, as a driver keeps its settings in /proc.

The methods of an object become the handlers (ProcOps.of), so its state is theirs. A handler
refuses what it does not like by raising an OSError, which reaches the writer unchanged; in Linux
it would return -EINVAL. Two tasks may be inside the same handler at the same time, so what needs
to stay together (read the value, add to it) must not await in between.

Mode 0644 lets everybody read and only the owner write; a mode of 0 stands for 0444.

    python examples/counter.py [asyncio|trio|uvloop]
"""

import sys
from errno import EINVAL

import anyio

from aiopde import Credentials, File, ProcFS, ProcOps


class Counter:
    """What ``echo 5 > /proc/counter`` adds 5 to."""

    def __init__(self) -> None:
        self.value = 0

    async def read(self, file: File, size: int, pos: int) -> bytes:
        """Tell the value."""
        return f"{self.value}\n".encode()[pos : pos + size]

    async def write(self, file: File, data: bytes, pos: int) -> int:
        """Add a number, and say that all of the data was taken."""
        try:
            self.value += int(data)
        except ValueError:
            raise OSError(EINVAL, "not a number", data.decode()) from None
        return len(data)


async def main() -> None:
    """Write from many tasks at once, then wrongly, then without permission."""
    async with ProcFS() as proc:
        proc.create("counter", ProcOps.of(Counter()), mode=0o644)

        async with anyio.create_task_group() as tg:
            for number in range(10):
                tg.start_soon(proc.write_text, "counter", f"{number}\n")
        print("0 + 1 + ... + 9 =", await proc.read_text("counter"), end="")

        for text, who in ("many", Credentials()), ("1", Credentials(uid=1000, gid=1000)):
            try:
                await proc.write_text("counter", text, cred=who)
            except OSError as exc:
                print(f"user {who.uid} writes {text!r}: {exc}")
        print("still", await proc.read_text("counter"), end="")


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
