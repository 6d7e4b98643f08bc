"""Names: how a user's path is walked, and what registration accepts."""

import os
from errno import EACCES, EEXIST, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from typing import Any

import pytest
from anyio import create_task_group

from aiopde import Credentials, ProcDirEntry, ProcFS, ProcOps
from tests.helpers import Handlers, all_blocked, refused, start, unchanged

stranger = Credentials(uid=7, gid=7)


def grow(proc: ProcFS) -> dict[str, ProcDirEntry]:
    """Plant a small tree."""
    return {
        "/proc": proc.root,
        "/proc/f": proc.create("f", ProcOps()),
        "/proc/d": proc.mkdir("d"),
        "/proc/d/x": proc.create("d/x", ProcOps()),
        "/proc/d/e": proc.mkdir("d/e"),
        "/proc/d/e/y": proc.create("d/e/y", ProcOps()),
    }


class TestPath:
    @pytest.mark.parametrize(
        ("path", "found"),
        [
            ("", "/proc"),
            (".", "/proc"),
            ("..", "/proc"),
            ("../../d", "/proc/d"),
            ("f", "/proc/f"),
            ("d", "/proc/d"),
            ("d/", "/proc/d"),
            ("d//", "/proc/d"),
            ("d/.", "/proc/d"),
            ("d/x", "/proc/d/x"),
            ("d//x", "/proc/d/x"),
            ("./d/./x", "/proc/d/x"),
            ("d/e/../x", "/proc/d/x"),
            ("d/e/y", "/proc/d/e/y"),
            ("/proc", "/proc"),
            ("/proc/", "/proc"),
            ("/proc/d/e/", "/proc/d/e"),
            ("/proc//d/x", "/proc/d/x"),
        ],
    )
    async def test_leads_to_an_entry(self, path: str, found: str) -> None:
        """
        A path is relative to the root, or absolute below the mount point.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            assert proc.lookup(path) is entries[found]

    @pytest.mark.parametrize(
        ("path", "errno"),
        [
            ("nope", ENOENT),
            ("d/nope", ENOENT),
            ("nope/x", ENOENT),
            ("nope/", ENOENT),
            ("D", ENOENT),
            ("f/", ENOTDIR),
            ("f/x", ENOTDIR),
            ("f/..", ENOTDIR),
            ("f/.", ENOTDIR),
            ("/d/x", ENOENT),
            ("/", ENOENT),
            ("/procf", ENOENT),
            ("/procd/x", ENOENT),
            ("//proc/d", ENOENT),
            ("x" * 300, ENOENT),
        ],
    )
    async def test_leads_nowhere(self, path: str, errno: int) -> None:
        """
        ENOENT for a name that is missing, ENOTDIR for one that is no directory on the way.
        """
        async with ProcFS() as proc:
            grow(proc)
            with refused(errno):
                proc.lookup(path)

    @pytest.mark.parametrize("mountpoint", ["/run/my proc", "/"])
    async def test_absolute_paths_begin_with_the_mount_point(self, mountpoint: str) -> None:
        """
        What the tree is mounted on is what absolute paths begin with.
        """
        async with ProcFS(mountpoint=mountpoint) as proc:
            entry = proc.mkdir("d")
            assert proc.lookup(mountpoint) is proc.root
            assert proc.lookup(f"{mountpoint}/d") is entry
            assert proc.lookup(entry.path) is entry

    async def test_an_error_shows_how_absolute_paths_begin(self) -> None:
        """
        An absolute path to somewhere else is told what it should begin with.
        """
        async with ProcFS() as proc:
            with pytest.raises(FileNotFoundError, match="absolute paths begin with /proc"):
                proc.lookup("/sys/x")

    async def test_an_error_shows_what_is_missing(self) -> None:
        """
        The error names the first thing on the way that is not there.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            with pytest.raises(FileNotFoundError, match=r"'/proc/d/nope'"):
                proc.lookup("d/nope/x")

    @pytest.mark.parametrize("path", [None, 7, b"d"])
    async def test_is_text(self, path: Any) -> None:
        """
        What is no text is a TypeError that shows a path.
        """
        async with ProcFS() as proc:
            with pytest.raises(TypeError, match="'driver/x', not "):
                proc.lookup(path)

    async def test_children_of_a_file_cannot_be_reached(self) -> None:
        """
        Something may be registered below a file, and no path leads there: ENOTDIR.
        """
        async with ProcFS() as proc:
            proc.create("f", ProcOps())
            proc.create("f/x", ProcOps())
            with refused(ENOTDIR):
                proc.lookup("f/x")


class TestSearchPermission:
    async def test_each_directory_on_the_way_must_be_searchable(self) -> None:
        """
        Without the x bit of a directory, nothing in it is found: EACCES, there or not.
        """
        async with ProcFS() as proc:
            grow(proc)
            proc.chmod("d", 0o744)
            proc.lookup("d", cred=stranger)
            for path in ("d/x", "d/nope", "d/e/y", "d/.", "d/..", "d/"):
                with refused(EACCES):
                    proc.lookup(path, cred=stranger)
            proc.lookup("d/x")

    async def test_the_root_too(self) -> None:
        """
        The root is a directory like any other in this.
        """
        async with ProcFS() as proc:
            grow(proc)
            proc.root.mode = 0o700
            with refused(EACCES):
                proc.lookup("f", cred=stranger)

    async def test_no_other_bits_are_asked_for(self) -> None:
        """
        To find a file takes no right to it, and no right to list its directory.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            entries["/proc/d"].mode = 0o711
            entries["/proc/d/x"].mode = 0o600
            assert proc.lookup("d/x", cred=stranger) is entries["/proc/d/x"]


class TestSymlinks:
    @pytest.mark.parametrize(
        ("target", "found"),
        [
            ("f", "/proc/f"),
            ("d", "/proc/d"),
            ("./d//e/../x", "/proc/d/x"),
            ("/proc/d/x", "/proc/d/x"),
            ("/proc", "/proc"),
            ("d/", "/proc/d"),
        ],
    )
    async def test_are_followed(self, target: str, found: str) -> None:
        """
        A target is relative to the directory of the link, or absolute.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            for name in ("link", "d/e/link") if target.startswith("/") else ("link",):
                proc.symlink(name, target)
                assert proc.lookup(name) is entries[found]

    async def test_relative_to_where_the_link_is(self) -> None:
        """
        Not the root, nor where the walk began, but the link's own directory counts.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            proc.symlink("d/e/up", "../x")
            assert proc.lookup("d/e/up") is entries["/proc/d/x"]

    async def test_are_followed_on_the_way(self) -> None:
        """
        A link to a directory leads into it, whether or not one at the end would be followed.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            proc.symlink("link", "d/e")
            assert proc.lookup("link/y") is entries["/proc/d/e/y"]
            assert proc.lookup("link/y", follow_symlinks=False) is entries["/proc/d/e/y"]
            assert proc.lookup("link/..") is entries["/proc/d"]
            assert proc.lookup("link/", follow_symlinks=False) is entries["/proc/d/e"]

    async def test_need_not_be_followed_at_the_end(self) -> None:
        """
        Without follow_symlinks the link itself is found.
        """
        async with ProcFS() as proc:
            link = proc.symlink("link", "nowhere")
            assert proc.lookup("link", follow_symlinks=False) is link

    @pytest.mark.parametrize("target", ["nowhere", "/sys/x", "/"])
    async def test_may_dangle(self, target: str) -> None:
        """
        A link to what is not there, or not in this tree, leads to ENOENT.
        """
        async with ProcFS() as proc:
            proc.symlink("link", target)
            with refused(ENOENT):
                proc.lookup("link")

    async def test_a_loop_ends(self) -> None:
        """
        Links that lead to each other are ELOOP.
        """
        async with ProcFS() as proc:
            proc.symlink("a", "b")
            proc.symlink("b", "a")
            with refused(ELOOP):
                proc.lookup("a")

    async def test_up_to_forty_are_followed(self) -> None:
        """
        A path may lead through 40 links, as in Linux; the 41st is ELOOP.
        """
        async with ProcFS() as proc:
            entry = proc.create("end", ProcOps())
            target = "end"
            for n in range(41):
                proc.symlink(f"link{n}", target)
                target = f"link{n}"
            assert proc.lookup("link39") is entry
            with refused(ELOOP):
                proc.lookup("link40")

    async def test_one_that_was_removed_leads_nowhere(self) -> None:
        """
        A link is followed as long as it is there.
        """
        async with ProcFS() as proc:
            grow(proc)
            await proc.symlink("link", "d").remove()
            with refused(ENOENT):
                proc.lookup("link/x")


class TestOpenDirectory:
    async def test_is_where_a_relative_path_begins(self) -> None:
        """
        With dir_fd a path is relative to that directory (openat); absolute ones are not.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            async with await proc.open("d") as here:
                assert proc.lookup("x", dir_fd=here) is entries["/proc/d/x"]
                assert proc.lookup("..", dir_fd=here) is proc.root
                assert proc.lookup("", dir_fd=here) is entries["/proc/d"]
                assert proc.lookup("/proc/f", dir_fd=here) is entries["/proc/f"]
                assert proc.stat("x", dir_fd=here) == entries["/proc/d/x"].stat()

    async def test_for_all_that_looks_at_one_entry(self) -> None:
        """
        What has an *at call in Linux takes it, and so does what opens, reads or writes in one go.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            link = proc.symlink("d/link", "x")
            rw = proc.create("d/rw", Handlers(b"old").ops("read", "write"), mode=0o644)
            async with await proc.open("d") as here:
                assert proc.readlink("link", dir_fd=here) == link.data
                proc.access("x", os.R_OK, dir_fd=here)
                proc.chmod("link", 0o600, dir_fd=here)
                proc.chown("x", 1, 2, dir_fd=here)
                x = entries["/proc/d/x"]
                assert (x.mode, x.uid, x.gid) == (0o600, 1, 2)
                await proc.write_text("rw", "new", dir_fd=here)
                await proc.write_bytes("rw", b"New", dir_fd=here)
                assert await proc.read_text("rw", dir_fd=here) == "New"
                assert await proc.read_bytes("rw", dir_fd=here) == b"New"
                await rw.remove()
                with refused(ENOENT):
                    await proc.read_bytes("rw", dir_fd=here)

    async def test_is_a_directory(self) -> None:
        """
        A path that begins at an open file leads nowhere: ENOTDIR.
        """
        async with ProcFS() as proc:
            grow(proc)
            async with await proc.open("f") as here:
                with refused(ENOTDIR):
                    proc.lookup("x", dir_fd=here)

    async def test_is_no_number(self) -> None:
        """
        Descriptors of the machine are of no use: a TypeError says what is.
        """
        number: Any = 3
        async with ProcFS() as proc:
            with pytest.raises(TypeError, match=r"as open\(\) returns it, not 3"):
                proc.stat("x", dir_fd=number)
            with pytest.raises(TypeError, match=r"as open\(\) returns it, not 3"):
                await proc.open("x", dir_fd=number)

    async def test_may_be_gone(self) -> None:
        """
        In a directory that was removed nothing is found; its ".." is still known.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            async with await proc.open("d/e") as here:
                await proc.remove_subtree("d")
                with refused(ENOENT):
                    proc.lookup("y", dir_fd=here)
                assert proc.lookup("..", dir_fd=here) is entries["/proc/d"]


class TestRemoved:
    async def test_a_name_is_gone_at_once(self) -> None:
        """
        As soon as a removal has begun, no path leads to the entry, nor to anything below it.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            proc.create("d/a", handlers.ops("read"))
            proc.create("d/b", ProcOps())
            async with await proc.open("d/a") as file, await proc.open("d") as here:
                handlers.hold_up("read")
                async with create_task_group() as tg:
                    await start(tg, file.read)
                    await start(tg, directory.remove)
                    for path in ("d", "d/a", "d/b"):
                        with refused(ENOENT):
                            proc.lookup(path)
                    # Still listed, since its turn is to come; and refused all the same.
                    assert list(directory._children) != []
                    with refused(ENOENT):
                        proc.lookup("b", dir_fd=here)
                    handlers.let_go("read")
                    await all_blocked()


class TestRegistration:
    @pytest.mark.parametrize(
        "name", ["...", ".x", "..x", "x.", " ", "x" * 255, "é" * 127, "-", "a b"]
    )
    async def test_names(self, name: str) -> None:
        """
        Any name of 1 to 255 bytes will do.
        """
        async with ProcFS() as proc:
            entry = proc.create(name, ProcOps())
            assert entry.name == name
            assert proc.lookup(name) is entry

    @pytest.mark.parametrize(
        ("name", "errno"),
        [
            ("", EINVAL),
            (".", EINVAL),
            ("..", EINVAL),
            ("d/", EINVAL),
            ("d/.", EINVAL),
            ("d/..", EINVAL),
            ("a\0b", EINVAL),
            ("x" * 256, ENAMETOOLONG),
            ("é" * 128, ENAMETOOLONG),
            ("d/" + "x" * 256, ENAMETOOLONG),
            ("/x", ENOENT),
            ("/proc/x", ENOENT),
            ("d//x", ENOENT),
            ("./x", ENOENT),
            ("d/../x", ENOENT),
            ("nope/x", ENOENT),
            ("d/nope/x", ENOENT),
            ("f", EEXIST),
            ("d", EEXIST),
            ("d/x", EEXIST),
            ("link", EEXIST),
            ("mount", EEXIST),
            ("mount/x", EPERM),
        ],
    )
    async def test_names_that_are_refused(self, name: str, errno: int) -> None:
        """
        An empty name, a dot, a slash too many, a name too long or taken: an error, and no change.
        """
        async with ProcFS() as proc:
            grow(proc)
            proc.symlink("link", "d")
            proc.create_mount_point("mount")
            with unchanged(proc):
                with refused(errno):
                    proc.create(name, ProcOps())
                with refused(errno):
                    proc.mkdir(name)
                with refused(errno):
                    proc.symlink(name, "target")
                with refused(errno):
                    proc.create_mount_point(name)

    @pytest.mark.parametrize("name", [None, 7, b"x", ProcOps()])
    async def test_a_name_is_text(self, name: Any) -> None:
        """
        What is no text is a TypeError that shows a name.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError, match="'driver/x', not "):
                proc.create(name, ProcOps())

    async def test_an_error_shows_the_cure(self) -> None:
        """
        A slash in front, which is the usual mistake, is told so.
        """
        async with ProcFS() as proc:
            with pytest.raises(FileNotFoundError, match="no slash in front"):
                proc.create("/proc/x", ProcOps())

    @pytest.mark.parametrize("name", ["0", "1", "7", "10", "4294967279"])
    async def test_a_number_at_the_root_is_a_process(self, name: str) -> None:
        """
        At the root a number is a process id: EINVAL. Elsewhere it is a name.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            with unchanged(proc), refused(EINVAL):
                proc.create(name, ProcOps())
            with unchanged(proc), refused(EINVAL):
                proc.mkdir(name, parent=proc.root)
            assert proc.create(name, ProcOps(), parent=directory).path == f"/proc/d/{name}"

    @pytest.mark.parametrize(
        "name", ["007", "00", "4294967280", "99999999999", "-1", "1a", "٣", "²"]
    )
    async def test_what_no_process_is_called(self, name: str) -> None:
        """
        A leading zero, a number that is too large, or digits of another script make a name.
        """
        async with ProcFS() as proc:
            assert proc.create(name, ProcOps()).name == name

    async def test_relative_to_a_parent(self) -> None:
        """
        A name may be a path, from the root or from the parent that is passed.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            directory = entries["/proc/d"]
            assert proc.create("d/e/1", ProcOps()).path == "/proc/d/e/1"
            assert proc.create("e/2", ProcOps(), parent=directory).path == "/proc/d/e/2"
            assert proc.create("3", ProcOps(), parent=directory).path == "/proc/d/3"

    async def test_follows_no_symlink(self) -> None:
        """
        On the way of a registration a symlink is an entry like any other, as in Linux.
        """
        async with ProcFS() as proc:
            entries = grow(proc)
            link = proc.symlink("link", "d")
            below = proc.create("link/new", ProcOps())
            assert below.parent is link
            assert list(entries["/proc/d"]._children) == [
                entries["/proc/d/e"],
                entries["/proc/d/x"],
            ]
            with refused(ENOENT):
                proc.lookup("link/new")

    async def test_below_a_file(self) -> None:
        """
        A file may have entries below it, as in Linux; a directory there is one more link of it.
        """
        async with ProcFS() as proc:
            file = proc.create("f", ProcOps())
            below = proc.mkdir("f/d")
            assert (below.path, file.nlink) == ("/proc/f/d", 2)
            await proc.remove_subtree("f")

    async def test_the_same_name_elsewhere(self) -> None:
        """
        A name is taken in one directory only, and upper case is another one.
        """
        async with ProcFS() as proc:
            proc.mkdir("a")
            proc.mkdir("b")
            entries = {proc.create(name, ProcOps()) for name in ("x", "X", "a/x", "b/x")}
            assert len(entries) == 4

    @pytest.mark.parametrize("name", ["d/nope", "nope/x", "d//x", "/d", "d/", "", "..", "d/."])
    async def test_removal_finds_exact_names_only(self, name: str) -> None:
        """
        Names for a removal are read as for a registration; what is not there so is ENOENT.
        """
        async with ProcFS() as proc:
            grow(proc)
            for remove in (proc.remove, proc.remove_subtree):
                with unchanged(proc), refused(ENOENT):
                    await remove(name)

    async def test_a_surrogate_is_the_byte_it_stands_for(self) -> None:
        """
        Names follow ``os.fsencode``: any bytes can be one, as far as their length goes.
        """
        async with ProcFS() as proc:
            name = os.fsdecode(b"\xff" * 255)
            assert proc.create(name, ProcOps()).name == name
