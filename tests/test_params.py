"""The parameters of a module: what is wrong with a call is told, and nothing has been run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aiopde import Kernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def two(kernel: Kernel, must: str, *, size: int = 3) -> AsyncIterator[None]:
    async with kernel.proc.mkdir(must):
        yield


async def none(kernel: Kernel) -> AsyncIterator[None]:
    async with kernel.proc.mkdir("none"):
        yield


async def any_of_them(kernel: Kernel, must: str, **rest: int) -> AsyncIterator[None]:
    async with kernel.proc.mkdir(must):
        yield


# Never called, so that it does not matter what they would do.
def no_kernel() -> None: ...


def only_by_name(*, kernel: Kernel) -> None: ...


def by_place(kernel: Kernel, size: int, /) -> None: ...


class NotLikeThat:
    """A program whose signature cannot be told."""

    __name__ = "not_like_that"
    __signature__ = "none"

    def __call__(self, kernel: Kernel, size: int = 3) -> AsyncIterator[None]:
        return none(kernel)


SHAPE = r": its main function is to be async def main\(kernel, \*\*params\)"
WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (two, {"must": "d", "bogus": 1}, "'two' has no parameter bogus: it takes must, size$"),
    (two, {"must": "d", "a": 1, "b": 2}, "'two' has no parameter a, b: it takes must, size$"),
    (two, {"must": "d", "kernel": 1}, "'two' has no parameter kernel: it takes must, size$"),
    (none, {"bogus": 1}, "'none' has no parameter bogus: it takes none$"),
    (two, {"size": 4}, r"'two' has parameters without a default: pass must=\.\.\.$"),
    (two, {"bogus": 4}, r"'two' has parameters without a default: pass must=\.\.\.$"),
    (any_of_them, {"a": 4}, r"'any_of_them' has parameters without a default: pass must="),
    (no_kernel, {}, rf"'no_kernel' takes \(\) .*{SHAPE}"),
    (only_by_name, {}, rf"'only_by_name' takes \(\*, kernel.*\) .*{SHAPE}"),
    (by_place, {"size": 4}, rf"'by_place' takes \(kernel.*, size.*, /\) .*{SHAPE}"),
    (NotLikeThat(), {"bogus": 1}, "unexpected keyword argument 'bogus'"),
]


@pytest.mark.parametrize(("main", "params", "text"), WRONG)
async def test_wrong_ones(main: Any, params: dict[str, Any], text: str) -> None:
    """
    The error says which parameter is wrong and what there is, or what the function must be.
    """
    async with Kernel() as kernel:
        with pytest.raises(TypeError, match=text):
            await kernel.insmod(main, **params)
        assert (kernel.lsmod(), kernel.proc.listdir()) == ([], ["modules"])


async def test_right_ones() -> None:
    """
    What a main function takes is passed, whether it is named there or not.
    """
    async with Kernel() as kernel:
        await kernel.insmod(two, must="a", size=4)
        await kernel.insmod(any_of_them, must="b", size=4, other=5)
        await kernel.insmod(NotLikeThat(), size=4)
        assert kernel.proc.listdir() == ["a", "b", "none", "modules"]


async def test_of_a_reload() -> None:
    """
    The old version runs on, if the new one does not take what that was loaded with.
    """
    async with Kernel() as kernel:
        old = await kernel.insmod(two, must="a")
        with pytest.raises(TypeError, match="'two' has no parameter must: it takes none"):
            await kernel.reload("two", none)
        assert kernel.find_module("two") is old
        assert kernel.proc.listdir() == ["a", "modules"]
