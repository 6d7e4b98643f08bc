"""A file that is one record: when it is made, and how often."""

from typing import Any

import pytest

from aiopde._seq_file import SEQ_SKIP, SeqFile
from aiopde._single import single
from tests.seq_helpers import OpenFile, generator, takes_none, takes_two


class TestSingle:
    @pytest.mark.parametrize("text", ["hé", "hé".encode()])
    async def test_text_may_be_returned(self, text: str | bytes) -> None:
        """
        A function without parameters returns the whole content.
        """

        async def show() -> str | bytes:
            return text

        def plain() -> str | bytes:
            return text

        assert await OpenFile(single(show)).read_all() == "hé".encode()
        assert await OpenFile(single(plain)).read_all(1) == "hé".encode()

    async def test_text_that_has_no_bytes(self) -> None:
        """
        Half a surrogate pair is told, with where it was; the escapes of the os module are bytes.
        """
        assert await OpenFile(single(lambda: "a\udcff")).read_all() == b"a\xff"
        with pytest.raises(UnicodeEncodeError, match=r"not allowed: puts\(\) got it"):
            await OpenFile(single(lambda: "a\ud800")).read_all()

    async def test_who_can_take_m_gets_it(self) -> None:
        """
        A parameter that may be left out is passed all the same.
        """

        def show(m: SeqFile | None = None) -> None:
            assert m is not None
            m.puts("with m")

        assert await OpenFile(single(show)).read_all() == b"with m"

    async def test_is_one_snapshot(self) -> None:
        """
        Its function runs once a pass, and again for each doubling of the buffer.
        """
        calls = 0

        async def show() -> str:
            nonlocal calls
            calls += 1
            return str(calls) * 5000

        file = OpenFile(single(show))
        assert await file.read_all(100) == b"2" * 5000
        assert calls == 2
        await file.lseek(0)
        assert await file.read_all(100) == b"3" * 5000

    async def test_may_be_skipped(self) -> None:
        """
        SEQ_SKIP makes an empty file.
        """

        async def show(m: SeqFile) -> int:
            m.puts("never mind")
            return SEQ_SKIP

        assert await OpenFile(single(show)).read_all() == b""

    @pytest.mark.parametrize("got", [None, 0, 5, bytearray(b"a")])
    async def test_must_return_text(self, got: object) -> None:
        """
        A function that was given nothing to write to must return text.
        """

        def wrong() -> Any:
            return got

        with pytest.raises(TypeError, match=r"show= handler .*wrong returned .*show\(m\)"):
            await OpenFile(single(wrong)).read(1)

    async def test_names_the_function_that_returns_nonsense(self) -> None:
        """
        An error names the function that was passed, not something made of it.
        """

        async def wrong(m: SeqFile) -> Any:
            return "text"

        with pytest.raises(TypeError, match=r"test_names.*wrong returned 'text'"):
            await OpenFile(single(wrong)).read(1)

    @pytest.mark.parametrize(
        ("show", "message"),
        [
            (5, "got 5"),
            (takes_two, "takes_two takes"),
            (generator, "is a generator"),
            (OpenFile, "got <class"),
        ],
    )
    def test_refuses_what_cannot_be_called(self, show: Any, message: str) -> None:
        """
        What can be called neither with m nor without is refused.
        """
        with pytest.raises(TypeError, match=rf"single\(show=\.\.\.\) wants .*{message}"):
            single(show)

    def test_refuses_a_call_in_place_of_the_function(self) -> None:
        """
        So is a coroutine, with the cure.
        """
        unawaited: Any = takes_none()
        with pytest.raises(TypeError, match=r"pass takes_none, not takes_none\(\)"):
            single(unawaited)
