"""What is passed as a handler, and the errors of what cannot be one."""

import functools
from typing import Any

import pytest

from aiopde._seq_file import SeqFile, SeqOps
from tests.seq_helpers import OpenFile, Walk, async_generator, generator, takes_m, takes_two


def seq_ops(**fields: Any) -> SeqOps:
    """Make a good table, but for these fields."""
    walk = Walk()
    good: dict[str, Any] = {
        "start": walk.start,
        "next": walk.next,
        "stop": walk.stop,
        "show": walk.show,
    }
    return SeqOps(**(good | fields))


class CallableObject:
    async def __call__(self, m: SeqFile, item: int, pos: int) -> tuple[None, int]:
        return None, pos + 1


NO_FUNCTIONS: list[tuple[str, Any, str]] = [
    ("start", None, r"async def start\(m, pos\); got None"),
    ("next", 5, r"async def next\(m, item, pos\); got 5"),
    ("stop", OpenFile, r"async def stop\(m, item\); got <class "),
    ("show", takes_m, r"async def show\(m, item\); takes_m takes \(m: "),
    ("start", generator, r" generator is a generator: return the value"),
    ("start", async_generator, r"async_generator is a generator: return the value"),
]


class TestSeqOps:
    @pytest.mark.parametrize(("field", "handler", "message"), NO_FUNCTIONS)
    def test_refuses_what_cannot_be_called(self, field: str, handler: object, message: str) -> None:
        """
        A handler that cannot work is refused when the table is made, with the right call.
        """
        with pytest.raises(TypeError, match=rf"SeqOps\({field}=\.\.\.\) wants .*{message}"):
            seq_ops(**{field: handler})

    def test_refuses_a_call_in_place_of_the_function(self) -> None:
        """
        A coroutine is the likeliest mistake: the message says which parentheses to drop.
        """
        m: Any = None
        with pytest.raises(TypeError, match=r"pass takes_two, not takes_two\(\)"):
            seq_ops(start=takes_two(m, 0))

    async def test_takes_whatever_can_be_called(self) -> None:
        """
        Plain functions, partials, built-ins and callable objects will do.
        """
        stopped: list[object] = []

        def stop(*args: object) -> None:
            stopped.append(args)

        def start(extra: int, m: SeqFile, pos: int) -> int | None:
            return 1 if pos < 3 else None

        def show(m: SeqFile, item: int) -> None:
            m.puts(f"{m.index}")

        ops = SeqOps(
            start=functools.partial(start, 1),
            next=CallableObject(),
            stop=stop,
            show=show,
        )
        assert await OpenFile(ops).read_all() == b"012"
        assert len(stopped) == 4
        seq_ops(stop=max)  # a built-in that does not tell its parameters

    def test_is_fixed(self) -> None:
        """
        A table cannot be changed once it is made.
        """
        ops = seq_ops()
        with pytest.raises(AttributeError):
            ops.start = takes_two  # type: ignore[misc]
