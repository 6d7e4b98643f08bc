"""Requests of an ioctl: which reach a handler, and what its answers become."""

from __future__ import annotations

from errno import EFAULT, EIO, ENOTTY
from typing import Any

import pytest

from aiopde import File, HandlerError, ProcOps
from tests.helpers import Handlers, answering, failing, opened, refused


class TestIoctl:
    async def test_passes_anything(self) -> None:
        """
        The argument is anything the two have agreed upon.
        """
        args: list[object] = []

        async def ioctl(file: File, cmd: int, arg: Any) -> int:
            args.append(arg)
            return -1

        async with opened(ProcOps(ioctl=ioctl)) as file:
            thing = object()
            assert await file.ioctl(3, thing) == -1
            assert await file.ioctl(3) == -1
            assert args == [thing, 0]

    async def test_the_two_kinds_are_apart(self) -> None:
        """
        A compat_ioctl does not serve an ioctl, nor the other way round.
        """
        async with (
            opened(Handlers().ops("ioctl")) as only_ioctl,
            opened(Handlers().ops("compat_ioctl")) as only_compat,
        ):
            with refused(ENOTTY):
                await only_ioctl.compat_ioctl(3)
            with refused(ENOTTY):
                await only_compat.ioctl(3)

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    @pytest.mark.parametrize("cmd", [0x5450, 0x5451])
    async def test_numbers_that_just_succeed(self, cmd: int, name: str) -> None:
        """
        FIONCLEX and FIOCLEX never reach a handler: the VFS says 0, alive or gone.
        """
        handlers = Handlers()
        async with opened(handlers.ops("ioctl", "compat_ioctl")) as file:
            assert await getattr(file, name)(cmd) == 0
            await file.entry.remove()
            assert await getattr(file, name)(cmd) == 0
        assert handlers.log == []

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    @pytest.mark.parametrize("cmd", [1, 2, 0x541B, 0x5421, 0x5452, 0x5460])
    async def test_numbers_that_write_to_memory(self, cmd: int, name: str) -> None:
        """
        FIONREAD and its like never reach a handler either: EFAULT, as there is no memory here.
        """
        handlers = Handlers()
        async with opened(handlers.ops("ioctl", "compat_ioctl")) as file:
            with refused(EFAULT):
                await getattr(file, name)(cmd)
        assert handlers.log == []

    @pytest.mark.parametrize("cmd", [0, 3, 0x5401, 0xC0185879])
    async def test_other_numbers_reach_the_handler(self, cmd: int) -> None:
        """
        Any other number is the handler's, also one that looks like a terminal's.
        """
        async with opened(Handlers().ops("ioctl")) as file:
            assert await file.ioctl(cmd) == cmd

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    async def test_a_handler_that_does_not_know_it(self, name: str) -> None:
        """
        ENOIOCTLCMD, the kernel's "not one of mine", becomes ENOTTY.
        """
        async with opened(failing(OSError(515, "?"), name)) as file:
            with refused(ENOTTY):
                await getattr(file, name)(3)

    @pytest.mark.parametrize("name", ["ioctl", "compat_ioctl"])
    @pytest.mark.parametrize("answer", [None, b"", True, 1.0], ids=repr)
    async def test_nonsense(self, answer: Any, name: str) -> None:
        """
        What is no number is EIO, naming the handler.
        """
        async with opened(answering(**{name: answer})) as file:
            with pytest.raises(HandlerError, match=f"the {name} handler .* a number") as caught:
                await getattr(file, name)(3)
            assert (caught.value.errno, caught.value.call) == (EIO, name)
