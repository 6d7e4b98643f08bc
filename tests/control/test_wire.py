"""What goes over the socket: lines of any size, JSON of any kind, errors there and back."""

import json
from errno import EBADMSG, EBUSY, ENOENT
from typing import Any

import pytest
from hypothesis import given, strategies as st

from aiopde import EntryRemovedError, Holder, RemovalTimeoutError
from aiopde.control import RemoteError
from aiopde.control._wire import (
    Lines,
    decode,
    encode,
    id_of,
    make_error,
    parse_request,
    tell_error,
)
from tests.helpers import refused


def feed_all(lines: Lines, pieces: list[bytes]) -> list[bytes | None]:
    return [line for piece in pieces for line in lines.feed(piece)]


class TestLines:
    def test_pieces_become_lines(self) -> None:
        """
        However the bytes are cut, the same lines come out; what has no end yet waits for it.
        """
        assert feed_all(Lines(10), [b"ab", b"c\nd", b"\n\nxy"]) == [b"abc", b"d", b""]

    @pytest.mark.parametrize("pieces", [[b"12345678901\nok\n"], [b"12345", b"678901", b"2\nok\n"]])
    def test_a_line_too_long_is_told_once_and_skipped(self, pieces: list[bytes]) -> None:
        """
        Of a line over the limit nothing is kept; the next one is read as ever.
        """
        assert feed_all(Lines(10), pieces) == [None, b"ok"]

    def test_it_is_told_before_it_ends(self) -> None:
        """
        Who never ends his line is told all the same, and costs no more memory than the limit.
        """
        lines = Lines(10)
        assert feed_all(lines, [b"x" * 8, b"x" * 8]) == [None]
        assert feed_all(lines, [b"x" * 8] * 100) == []
        assert feed_all(lines, [b"x\nok\n"]) == [b"ok"]

    @given(
        st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b""))),
        st.lists(st.integers(1, 5)),
    )
    def test_cuts_do_not_matter(self, wanted: list[bytes], sizes: list[int]) -> None:
        """
        Any lines, cut anywhere: within the limit they come out as they went in, else as None.
        """
        data = b"".join(line + b"\n" for line in wanted)
        pieces: list[bytes] = []
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
        found = feed_all(Lines(4), [*pieces, data])
        assert found == [line if len(line) <= 4 else None for line in wanted]


REQUESTS: dict[str, Any] = {
    "no method": {"id": 1},
    "a number for a method": {"method": 3},
    "a list for params": {"method": "ps", "params": []},
    "null for params": {"method": "ps", "params": None},
    "something else": {"method": "ps", "extra": {}},
}


BAD: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"lsmod",
    "no UTF-8": b'{"a": "\xff"}',
    "too deep": b"[" * 100_000,
    "too large a number": b'{"id": ' + b"1" * 10_000 + b"}",
    "no number": b'{"grace": NaN}',
    "infinite": b'{"grace": -Infinity}',
    "a list": b"[1]",
    "null": b"null",
    "cut off": b'{"id": 1',
    "two": b"{} {}",
    "a zero": b"\0",
}


class TestMessages:
    def test_names_that_are_no_text_survive(self) -> None:
        """
        A name of bytes that are no UTF-8 is a str with surrogates, and comes back as that.
        """
        message = {"path": b"n\xe9".decode("utf-8", "surrogateescape")}
        assert decode(encode(message)) == message
        assert encode(message).isascii()

    @pytest.mark.parametrize("param", [b"bytes", {1}, float("nan"), object()])
    def test_what_json_has_no_words_for(self, param: object) -> None:
        """
        It is said what a message can be made of.
        """
        with pytest.raises(TypeError, match="a message is made of text, finite numbers, lists"):
            encode({"params": {"data": param}})

    def test_a_message_is_one_line(self) -> None:
        """
        A newline in a text does not end the message.
        """
        assert encode({"a": "x\ny"}).count(b"\n") == 1

    @pytest.mark.parametrize("line", BAD.values(), ids=list(BAD))
    def test_what_is_no_message_is_refused(self, line: bytes) -> None:
        """
        Whatever a line contains, it is a message or EBADMSG.
        """
        with refused(EBADMSG):
            decode(line)

    @pytest.mark.parametrize("message", REQUESTS.values(), ids=list(REQUESTS))
    def test_what_is_no_request_is_refused(self, message: dict[str, Any]) -> None:
        """
        A message that asks for nothing is EBADMSG.
        """
        with refused(EBADMSG):
            parse_request(message)

    def test_a_request(self) -> None:
        """
        Params may be left out.
        """
        request = parse_request({"id": "a", "method": "ps"})
        assert (request.id, request.method, request.params) == ("a", "ps", {})

    @pytest.mark.parametrize("given", [True, None, 1.5, [1], {"a": 1}])
    def test_what_can_be_no_id(self, given: object) -> None:
        """
        An id is a number or a string; anything else counts as none.
        """
        assert id_of({"id": given}) is None


def there_and_back(exc: Exception) -> Exception:
    """As it arrives at the other end."""
    return make_error(json.loads(json.dumps(tell_error(exc))))


class TestErrors:
    def test_an_oserror(self) -> None:
        """
        The other end gets the class of the errno, the message and the path.
        """
        found = there_and_back(FileNotFoundError(ENOENT, "no such thing", "/proc/x"))
        assert isinstance(found, FileNotFoundError)
        assert str(found) == "[Errno 2] no such thing: '/proc/x'"

    def test_without_a_path(self) -> None:
        """
        An OSError that is about no file is about none there either.
        """
        found = there_and_back(OSError(EBUSY, "busy"))
        assert isinstance(found, OSError)
        assert found.filename is None

    def test_a_refusal(self) -> None:
        """
        A subclass of ours says its own name, and arrives as what it is one of.
        """
        assert tell_error(EntryRemovedError("open", "/proc/x"))["class"] == "EntryRemovedError"
        assert isinstance(there_and_back(EntryRemovedError("open", "/proc/x")), FileNotFoundError)

    def test_a_timeout_with_its_holders(self) -> None:
        """
        Who is still inside arrives too, as if the removal had been awaited here.
        """
        holder = Holder("user", "/proc/x", "read", ("b.py:2 in wait", "a.py:1 in read"), False)
        found = there_and_back(RemovalTimeoutError("/proc/x", 1.5, (holder,)))
        assert isinstance(found, RemovalTimeoutError)
        assert (found.seconds, found.holders) == (1.5, (holder,))

    def test_several(self) -> None:
        """
        A group arrives as a group, with all that is in it.
        """
        found = there_and_back(ExceptionGroup("two", [ValueError("x"), OSError(EBUSY, "busy")]))
        with pytest.RaisesGroup(RemoteError, OSError, match="two"):
            raise found

    def test_another_error(self) -> None:
        """
        What is no OSError is told with its class and the line that raised it.
        """
        with pytest.raises(ValueError, match="literal") as caught:
            int("x")
        found = there_and_back(caught.value)
        assert isinstance(found, RemoteError)
        assert found.kind == "ValueError"
        assert str(found).startswith("ValueError: invalid literal")
        assert f"({__file__}:" in str(found)

    def test_one_that_says_nothing(self) -> None:
        """
        An error without a message, or without a place, is told by what there is.
        """
        assert str(there_and_back(KeyError())) == "KeyError"
        assert str(there_and_back(OSError("plain"))) == "OSError: plain"
