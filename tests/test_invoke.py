"""What a handler must not return: who called gets an error that names it."""

from __future__ import annotations

from errno import EIO
from functools import partial
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from aiopde import File, HandlerError, ProcOps
from tests.helpers import answering, opened


class TestNonsense:
    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("op", ["read", "read_iter"])
    @pytest.mark.parametrize(
        "answer", [b"12345", "text", 3, None, bytearray(b"1"), [b"1"]], ids=repr
    )
    async def test_nonsense(self, answer: Any, op: str, plain: bool) -> None:
        """
        More bytes than asked for, or something else than bytes: EIO, naming the handler.
        """

        def answer_plainly(file: File, size: int, pos: int) -> Any:
            return answer

        handlers: dict[str, Any] = {op: answer_plainly}
        ops = ProcOps(**handlers) if plain else answering(**{op: answer})
        for call, *args in (("read", 4), ("pread", 4, 0), ("readv", [4])):
            async with opened(ops) as file:
                with pytest.raises(HandlerError) as caught:
                    await getattr(file, str(call))(*args)
                assert (caught.value.errno, caught.value.call) == (EIO, op)
                assert f"the {op} handler" in str(caught.value)
                assert f"answer_plainly returned {answer!r}" in str(caught.value) or not plain
                assert "it must return 0 to 4 bytes" in str(caught.value)
                assert (file.tell(), file.entry.in_use) == (0, 0)

    async def test_an_async_function_behind_a_plain_one(self) -> None:
        """
        A plain handler that returns a coroutine is told so, and the coroutine is closed.
        """
        coroutine: Any = checkpoint()
        async with opened(ProcOps(read=lambda file, size, pos: coroutine)) as file:
            with pytest.raises(HandlerError, match="an async function behind a plain one"):
                await file.read()
        assert coroutine.cr_frame is None

    async def test_a_handler_without_a_name(self) -> None:
        """
        A handler that has no name, a partial for example, is shown as it is.
        """

        async def read(file: File, size: int, pos: int) -> Any:
            return 7

        async with opened(ProcOps(read=partial(read))) as file:
            with pytest.raises(HandlerError, match=r"handler functools.partial\(.*\) returned 7"):
                await file.read()
