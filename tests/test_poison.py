"""Code of a module that is gone: who reaches it is told, and it is counted."""

from __future__ import annotations

import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import create_task_group, wait_all_tasks_blocked

from aiopde import Kernel, ProcOps, UseAfterFreeError
from tests.helpers import Handlers, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


class TestUseAfterFree:
    def test_error(self) -> None:
        """
        It names the module, the entry and the handler, and is no OSError.
        """
        exc: Exception = UseAfterFreeError("m", "/proc/x", "read")
        assert not isinstance(exc, OSError)
        again = pickle.loads(pickle.dumps(exc))  # noqa: S301  our own
        assert (again.module, again.entry, again.handler) == ("m", "/proc/x", "read")
        assert str(again) == str(exc)
        assert all(word in str(exc) for word in ("'m'", "'/proc/x'", "read"))

    async def test_of_a_leaked_table(self, caplog: pytest.LogCaptureFixture) -> None:
        """
        A table that outlives its module is full of traps, each of which is counted.
        """
        handlers = Handlers()
        leaked: list[ProcOps] = []

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            async def read(file: object, size: int, pos: int) -> bytes:
                return b"x"

            leaked.append(ProcOps(read=read, write=handlers.write, release=handlers.release))
            kernel.proc.create("mine", leaked[0])
            yield
            await kernel.proc.remove("mine")

        async with Kernel() as kernel:
            await kernel.insmod(main)
            kernel.proc.create("theirs", leaked[0], mode=0o666)
            before = await kernel.proc.open("theirs", 2)
            assert await before.read(1) == b"x"
            await kernel.rmmod("main")
            calls: tuple[Callable[[], Awaitable[object]], ...] = (
                before.read,
                partial(before.write, b"x"),
                before.aclose,
            )
            for call, handler in zip(calls, ("read", "write", "release"), strict=True):
                with pytest.raises(UseAfterFreeError) as caught:
                    await call()
                exc = caught.value
                assert (exc.module, exc.entry, exc.handler) == ("main", "/proc/theirs", handler)
            assert kernel.uses_after_free == 3
            with pytest.raises(UseAfterFreeError):
                await kernel.proc.read_bytes("theirs")
            assert handlers.log == []
            assert "use after free" in caplog.text

    async def test_not_of_a_table_it_was_lent(self) -> None:
        """
        Handlers that are no part of the module outlive it: it may come again and use them.
        """
        handlers = Handlers()
        ops = handlers.ops("read")

        async def main(kernel: Kernel) -> AsyncIterator[None]:
            kernel.proc.create("x", ops)
            yield
            await kernel.proc.remove("x")

        async with Kernel() as kernel:
            for _ in range(2):
                await kernel.insmod(main)
                assert await kernel.proc.read_bytes("x") == b"content"
                await kernel.rmmod("main")
            assert kernel.uses_after_free == 0

    async def test_registration_by_what_is_gone(self) -> None:
        """
        Code that runs on after its module is gone cannot register anything.
        """
        may_register = anyio.Event()
        errors: list[UseAfterFreeError] = []

        async def stray(kernel: Kernel) -> None:
            await may_register.wait()
            with unchanged(kernel.proc), pytest.raises(UseAfterFreeError) as caught:
                kernel.proc.mkdir("stray")
            errors.append(caught.value)

        async def main(kernel: Kernel, tg: Any) -> AsyncIterator[None]:
            tg.start_soon(stray, kernel)
            yield

        async with Kernel() as kernel, create_task_group() as tg:
            await kernel.insmod(main, tg=tg)
            await kernel.rmmod("main")
            may_register.set()
            await wait_all_tasks_blocked()
            (error,) = errors
            assert (error.module, error.entry) == ("main", "/proc/stray")
            assert kernel.uses_after_free == 1
