"""
A file made of records, which may be longer than anybody wants to keep in memory.

In Linux that is a seq_file: start finds the record at a position, next the one after it, show
prints one, and stop ends each round. A read takes what fits into its buffer, and the next one
goes on from there. The easy way here is an async generator, which yields each record; the long
way are the same four callbacks, for files that can be entered anywhere without counting up to it.

    python examples/seq_numbers.py [asyncio|trio|uvloop]
"""

import sys
from collections.abc import AsyncIterator

import anyio

from aiopde import ProcFS, SeqFile, SeqOps


async def primes() -> AsyncIterator[str]:
    """Yield a line for each prime number, only as far as somebody reads."""
    for number in range(2, 1_000_000_000):
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            yield f"{number}\n"


class Numbers:
    """The file of all numbers: the record at a position is the position."""

    async def start(self, m: SeqFile, pos: int) -> int | None:
        """Find a record; None where there is none any more. A lock would be taken here."""
        return pos if pos < 1_000_000_000 else None

    async def next(self, m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
        """Go on to the next record, and say which position that is."""
        return await self.start(m, pos + 1), pos + 1

    async def stop(self, m: SeqFile, item: int | None) -> None:
        """Give up what start took."""

    async def show(self, m: SeqFile, item: int) -> None:
        """Print a record."""
        m.puts(f"{item}\n")


async def main() -> None:
    """Read the beginning of two files that nobody reads to the end."""
    async with ProcFS() as proc:
        proc.create_seq("primes", primes)
        n = Numbers()
        proc.create_seq("numbers", SeqOps(start=n.start, next=n.next, stop=n.stop, show=n.show))
        for name in proc.listdir():
            async with await proc.open(name) as file:
                print(f"{name}: {await file.read(8)!r}, then {await file.read(8)!r}")
                print(f"after a seek to byte {await file.lseek(2)}: {await file.read(8)!r}")


if __name__ == "__main__":
    loop = sys.argv[1] if sys.argv[1:] else "asyncio"
    if loop == "uvloop":
        anyio.run(main, backend_options={"use_uvloop": True})
    else:
        anyio.run(main, backend=loop)
