"""A name that is given to a new entry while the old one is going."""

from __future__ import annotations

from errno import EIO, ENOENT

from tests.conformance._quiet import quiet

from ._stage import DATA, Stage


async def test_L15_I29_a_name_is_free_as_soon_as_removal_has_begun() -> None:
    """
    While the old one is drained its name leads to a new entry, with a number of its own.
    """
    async with Stage() as s:
        old = s.create("x", "read")
        file = await s.opened("file", old)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", old.remove)
        await quiet()
        new = s.create("x", "", "read")
        assert s.proc.lookup("x") is new
        assert new.ino != old.ino
        s.start("new reader", s.proc.read_bytes, "x")
        s.start("late reader", file.read, 5)
        await quiet()
        assert s.value("new reader") == DATA
        assert s.busy == {"reader", "late reader", "remover"}
        s.go("reader")
        await quiet()
        assert s.errno("late reader") == EIO
        assert new.statistics().state == "live"


async def test_B2_removal_finishes_the_entry_it_began_with() -> None:
    """
    Replacing an entry in the middle of its drain does not make the remover take the new one.
    """
    async with Stage() as s:
        old = s.create("x", "read", "release")
        file = await s.opened("file", old)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", s.proc.remove, "x")
        await quiet()
        new = s.create("x", "read", "release")
        await s.opened("new file", new)
        s.go("reader")
        await quiet()
        assert s.busy == set()
        assert s.log[-2:] == ["remover release file", "remover done"]
        assert (old.statistics().state, new.statistics().state) == ("gone", "live")
        assert new.statistics().open_files == 1


async def test_B26_an_old_file_stays_dead() -> None:
    """
    No file of the old entry ever reaches a handler again, whatever gets its name.
    """
    async with Stage() as s:
        old = s.create("x", "", "read release")
        file = await s.opened("file", old)
        s.start("remover", old.remove)
        await quiet()
        s.create("x", "", "read release")
        log = list(s.log)
        s.start("reader", file.read, 5)
        await quiet()
        assert s.errno("reader") == EIO
        assert s.log == [*log, "reader done"]


async def test_B25_a_removal_left_to_the_background_keeps_no_name() -> None:
    """
    After a cancelled removal the name can be registered again, though the old one is not gone.
    """
    async with Stage() as s:
        old = s.create("x", "read")
        file = await s.opened("file", old)
        s.start("reader", file.read, 5)
        await quiet()
        s.start("remover", old.remove)
        await quiet()
        s.cancel("remover")
        await quiet()
        assert s.cancelled("remover")
        new = s.create("x")
        assert s.proc.lookup("x") is new
        assert old.statistics().state == "dying"
        s.go("reader")
        await quiet()
        assert old.statistics().state == "gone"


async def test_B18_a_new_directory_is_seen_while_the_old_one_is_held() -> None:
    """
    A directory created again is found by path; the descriptor of the old one stays empty.
    """
    async with Stage() as s:
        old = s.mkdir("d")
        s.create("d/x")
        directory = await s.opened("directory", "d", 0)
        s.start("remover", old.remove)
        await quiet()
        new = s.mkdir("d")
        s.create("d/y", "", "read")
        assert s.proc.lookup("d") is new
        assert s.proc.listdir("d") == ["y"]
        assert new.ino != old.ino
        s.start("lister", directory.getdents)
        s.start("walker", s.proc.open, "y")
        await quiet()
        assert [line.name for line in s.value("lister")] == [".", ".."]
        assert s.errno("walker") == ENOENT


async def test_B17_nlink_counts_directories_only_and_forgets_none() -> None:
    """
    Creating and removing in a loop leaves nlink at two and one for each directory in it.
    """
    async with Stage() as s:
        top = s.mkdir("d")
        for round_ in range(3):
            s.create("d/file")
            s.mkdir("d/sub")
            assert top.nlink == 3
            for name in ("file", "sub"):
                s.start(f"remover of {name} {round_}", s.proc.remove, f"d/{name}")
            await quiet()
            assert top.nlink == 2
