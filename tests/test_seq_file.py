"""A seq file as such: who opens and releases it, and a next that stays where it is."""

import pytest

from aiopde._seq_file import SeqFile, SeqOps, seq_release
from aiopde._seq_read import seq_open
from tests.seq_helpers import OpenFile, Walk


class TestStuckNext:
    async def test_is_moved_on_and_named_once(self) -> None:
        """
        B22: a next that leaves the position is warned about once, and each record comes once.
        """
        walk = Walk(b"a", b"b", b"c")

        async def stuck(m: SeqFile, item: int, pos: int) -> tuple[int | None, int]:
            return (await walk.next(m, item, pos))[0], pos

        ops = SeqOps(start=walk.start, next=stuck, stop=walk.stop, show=walk.show)
        with pytest.warns(RuntimeWarning, match=r"buggy next= handler .*stuck"):
            assert await OpenFile(ops).read_all() == b"abc"
        assert await OpenFile(ops).read_all(1) == b"abc"  # a second warning would be an error


class TestOpenAndRelease:
    async def test_release_ends_it(self) -> None:
        """
        A released file is no seq file any more.
        """
        file = OpenFile(Walk(b"a").ops)
        await file.release()
        assert file.private_data is None
        with pytest.raises(TypeError, match=r"has to call seq_open\(file, ops\)"):
            await file.read(1)
        with pytest.raises(TypeError, match="no seq file"):
            await file.lseek(1)
        with pytest.raises(TypeError, match="no seq file"):
            seq_release(file)

    def test_open_needs_private_data(self) -> None:
        """
        A file whose private_data is in use is not overwritten.
        """
        file = OpenFile(Walk().ops)
        with pytest.raises(RuntimeError, match=r"private_data for itself, .*SeqFile index=0"):
            seq_open(file, file.ops)

    def test_handlers_know_their_file(self) -> None:
        """
        m.file is the open file, m.private is free for use.
        """
        file = OpenFile(Walk().ops)
        assert file.m is file.private_data
        assert file.m.file is file
        assert file.m.private is None
        assert not file.m.overflowed
