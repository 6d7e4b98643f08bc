"""ProcOps: what is accepted as a handler, and what is known about it from then on."""

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aiopde import File, ProcFS, ProcOps
from aiopde._ops import PARAMETERS, may_suspend

OPS = list(PARAMETERS)


async def anything(*args: Any) -> Any:
    """A handler for every op."""


def function(body: str, kind: str = "async ") -> Any:
    """A function that is looked at, and not run."""
    names: dict[str, Any] = {}
    exec(f"{kind}def function(*args):\n    {body}", names)
    return names["function"]


class TestTable:
    def test_all_handlers_are_optional(self) -> None:
        """
        Nothing need be given; what is absent is None.
        """
        ops = ProcOps()
        assert [getattr(ops, op) for op in OPS] == [None] * len(OPS)
        assert not ops.permanent

    @pytest.mark.parametrize("op", OPS)
    def test_keeps_each_handler(self, op: str) -> None:
        """
        What is passed under a name serves that op, and no other.
        """
        handler: Any = {op: anything}
        ops = ProcOps(**handler)
        assert [name for name in OPS if getattr(ops, name) is anything] == [op]

    def test_is_fixed(self) -> None:
        """
        A table never changes once it is made.
        """
        ops = ProcOps(read=anything)
        with pytest.raises(dataclasses.FrozenInstanceError):
            ops.read = None  # type: ignore[misc]

    def test_takes_names_only(self) -> None:
        """
        Handlers are passed by name: with ten of them, a position says nothing.
        """
        with pytest.raises(TypeError):
            ProcOps(anything)  # type: ignore[call-arg]

    def test_is_equal_to_itself_only(self) -> None:
        """
        Tables have an identity: two with the same handlers are two tables.
        """
        assert ProcOps(read=anything) != ProcOps(read=anything)

    async def test_serves_many_entries(self) -> None:
        """
        One table may serve any number of entries; ``file.entry`` and ``file.data`` tell which.
        """

        async def read(file: File, size: int, pos: int) -> bytes:
            return f"{file.entry.name} {file.data}".encode()[pos:]

        ops = ProcOps(read=read)
        async with ProcFS() as proc:
            for name, data in (("a", 1), ("b", 2)):
                proc.create(name, ops, data=data)
            assert await proc.read_text("a") + await proc.read_text("b") == "a 1b 2"

    def test_read_iter_takes_precedence(self) -> None:
        """
        read_iter serves reads if it is there, whether or not read is.
        """

        async def read_iter(file: File, size: int, pos: int) -> Any: ...

        assert ProcOps(read=anything)._reader is anything
        assert ProcOps(read=anything, read_iter=read_iter)._reader is read_iter
        assert ProcOps(read_iter=read_iter)._reader is read_iter
        assert ProcOps()._reader is None


class WithCall:
    """An object that is called like a function."""

    async def __call__(self, file: File, size: int, pos: int) -> bytes:
        return b"called"


class WithMethods:
    def __init__(self) -> None:
        self.content = b"content"

    async def read(self, file: File, size: int, pos: int) -> bytes:
        return self.content[pos : pos + size]

    @staticmethod
    async def static(file: File, size: int, pos: int) -> bytes:
        return b"static"

    @classmethod
    async def of_class(cls, file: File, size: int, pos: int) -> bytes:
        return cls.__name__.encode()


async def at(prefix: bytes, file: File, size: int, pos: int) -> bytes:
    return prefix


async def default(file: File, size: int, pos: int, *, more: bytes = b"default") -> bytes:
    return more


def plain(file: File, size: int, pos: int) -> bytes:
    return b"plain"


def returning(data: bytes) -> Callable[[File, int, int], bytes]:
    return lambda file, size, pos: data


def wrapped(handler: Callable[..., Awaitable[bytes]]) -> Callable[..., Awaitable[bytes]]:
    @functools.wraps(handler)
    async def wrapper(*args: Any) -> bytes:
        return b"wrapped " + await handler(*args)

    return wrapper


class TestAccepted:
    @pytest.mark.parametrize(
        ("read", "content"),
        [
            pytest.param(plain, b"plain", id="plain"),
            pytest.param(returning(b"lambda"), b"lambda", id="lambda"),
            pytest.param(default, b"default", id="async"),
            pytest.param(WithMethods().read, b"content", id="method"),
            pytest.param(WithMethods.static, b"static", id="static"),
            pytest.param(WithMethods().of_class, b"WithMethods", id="of class"),
            pytest.param(WithCall(), b"called", id="called"),
            pytest.param(functools.partial(at, b"partial"), b"partial", id="partial"),
            pytest.param(wrapped(default), b"wrapped default", id="wrapped"),
        ],
    )
    async def test_anything_that_can_be_called_so(self, read: Any, content: bytes) -> None:
        """
        A function, a method, a partial, an object with ``__call__``: async or plain, it serves.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps(read=read))
            async with await proc.open("x") as file:
                assert await file.read() == content

    def test_a_function_that_does_not_tell_what_it_takes(self) -> None:
        """
        Some built-in functions have no signature: the first call will tell.
        """
        unknown: Any = max
        assert ProcOps(read=unknown).read is unknown


class TestRefused:
    @pytest.mark.parametrize("op", OPS)
    def test_a_coroutine(self, op: str) -> None:
        """
        A coroutine was called too early: the cure is to leave out the parentheses.
        """
        handler: Any = {op: anything()}
        with pytest.raises(TypeError, match=rf"ProcOps\({op}=.*pass anything, not anything\(\)"):
            ProcOps(**handler)

    @pytest.mark.parametrize("op", OPS)
    @pytest.mark.parametrize("thing", [WithMethods, 7, "read", b"content"], ids=repr)
    def test_what_is_no_function(self, op: str, thing: Any) -> None:
        """
        A class or a value is no handler: the error shows how one is written, and what was passed.
        """
        handler: Any = {op: thing}
        with pytest.raises(TypeError) as caught:
            ProcOps(**handler)
        assert f"async def {op}({', '.join(PARAMETERS[op])})" in str(caught.value)
        assert repr(thing) in str(caught.value)

    @pytest.mark.parametrize("kind", ["async ", ""])
    @pytest.mark.parametrize("op", OPS)
    def test_a_generator(self, op: str, kind: str) -> None:
        """
        A handler returns once: the cure is to return instead of yielding.
        """
        handler: Any = {op: function("yield args", kind)}
        with pytest.raises(TypeError, match="return the value instead of yielding it"):
            ProcOps(**handler)

    @pytest.mark.parametrize("op", OPS)
    def test_one_that_takes_something_else(self, op: str) -> None:
        """
        Too few parameters, too many, or one that must be named: the error shows both signatures.
        """

        async def too_few() -> None: ...

        async def too_many(a: int, b: int, c: int, d: int, e: int) -> None: ...

        async def named(*args: object, more: int) -> None: ...

        for function in (too_few, too_many, named):
            handler: Any = {op: function}
            with pytest.raises(TypeError) as caught:
                ProcOps(**handler)
            assert f"async def {op}({', '.join(PARAMETERS[op])})" in str(caught.value)
            assert function.__name__ in str(caught.value)

    def test_nothing_is_left_unawaited(self) -> None:
        """
        The coroutine that was passed by mistake causes no warning on top of the error.
        """
        coroutine: Any = anything()
        with pytest.raises(TypeError):
            ProcOps(open=coroutine)
        assert coroutine.cr_frame is None


class TestOfAnObject:
    async def test_takes_the_methods_named_like_ops(self) -> None:
        """
        The methods of an object become the handlers; its other parts are its own business.
        """
        handlers = WithMethods()
        ops = ProcOps.of(handlers)
        assert [op for op in OPS if getattr(ops, op) is not None] == ["read"]
        async with ProcFS() as proc:
            proc.create("x", ops)
            handlers.content = b"its state"
            assert await proc.read_bytes("x") == b"its state"

    def test_permanent(self) -> None:
        """
        Whether the entries are permanent is said beside the object.
        """
        assert ProcOps.of(WithMethods(), permanent=True).permanent
        assert not ProcOps.of(WithMethods()).permanent

    def test_a_class_is_refused(self) -> None:
        """
        A class instead of an instance: the cure is a pair of parentheses.
        """
        with pytest.raises(TypeError, match=r"pass WithMethods\(\), not WithMethods"):
            ProcOps.of(WithMethods)

    def test_what_has_no_handler_is_refused(self) -> None:
        """
        An object without any handler is a mistake; the error names those there could be.
        """
        with pytest.raises(TypeError, match=", ".join(OPS)):
            ProcOps.of(object())

    def test_a_wrong_method_is_refused(self) -> None:
        """
        Methods are checked like any other handler.
        """

        class Wrong:
            async def read(self) -> None: ...

        with pytest.raises(TypeError, match=r"async def read\(file, size, pos\)"):
            ProcOps.of(Wrong())


class TestMaySuspend:
    """A release handler that cannot wait needs no shield."""

    def test_a_body_without_await_does_not(self) -> None:
        """
        Nothing in it can wait: that is certain.
        """

        class WithBody:
            body = function("return [arg for arg in args]")

        body = WithBody.body
        for handler in (body, WithBody().body, functools.partial(functools.partial(body))):
            assert not may_suspend(handler)

    @pytest.mark.parametrize(
        "body",
        [
            "await args[0]",
            "async for _ in args: pass",
            "async with args[0]: pass",
            "return [arg async for arg in args]",
            "return [await arg for arg in args]",
        ],
    )
    def test_a_body_with_await_may(self, body: str) -> None:
        """
        An await, an async for or an async with may wait, whatever is behind it.
        """
        assert may_suspend(function(body))
        assert may_suspend(functools.partial(function(body), None))

    def test_what_cannot_be_looked_into_may(self) -> None:
        """
        If in doubt, it may wait.
        """
        for handler in (WithCall(), plain, max):
            assert may_suspend(handler)
