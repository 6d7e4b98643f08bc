"""The tree: registration, paths, opening, leaving it; and which calls are checkpoints."""

from __future__ import annotations

import asyncio
import inspect
import os
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass
from errno import (
    EACCES,
    EEXIST,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    ENOENT,
    ENOTDIR,
    EPERM,
)
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio import CancelScope, Event, create_task_group
from anyio.lowlevel import checkpoint
from trio.testing import assert_checkpoints, assert_no_checkpoints

import aiopde
from aiopde import (
    Credentials,
    File,
    Kernel,
    Mapping,
    ProcDirEntry,
    ProcFile,
    ProcFS,
    ProcOps,
    UseCount,
)
from tests.conftest import BACKENDS
from tests.helpers import Handlers, all_blocked, refused, start, state, tree, unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

OWNER, GROUP = 1000, 100
owner = Credentials(uid=OWNER, gid=1)
member = Credentials(uid=7, gid=GROUP)
stranger = Credentials(uid=7, gid=7)


class TestTree:
    async def test_can_be_entered_once(self) -> None:
        """
        A tree has one life: entering it again is refused, inside and after it.
        """
        proc = ProcFS()
        async with proc as same:
            assert same is proc
            with pytest.raises(RuntimeError, match="entered once: make another"):
                await proc.__aenter__()
        with pytest.raises(RuntimeError, match="entered once: make another"):
            await proc.__aenter__()

    async def test_takes_entries_while_it_is_entered(self) -> None:
        """
        Before and after, registering is refused with the cure.
        """
        proc = ProcFS()

        def refuse() -> None:
            cure = r"inside 'async with ProcFS\(\) as proc:'"
            with pytest.raises(RuntimeError, match=cure):
                proc.create("x", ProcOps())
            with pytest.raises(RuntimeError, match=cure):
                proc.mkdir("d")
            with pytest.raises(RuntimeError, match=cure):
                proc.symlink("l", "x")
            with pytest.raises(RuntimeError, match=cure):
                proc.create_mount_point("m")
            assert tree(proc).keys() == {"/proc"}

        refuse()
        async with proc:
            proc.create("x", ProcOps())
        refuse()

    @pytest.mark.parametrize("mountpoint", ["", "proc", "/proc/", "//"])
    def test_mountpoint_is_an_absolute_path(self, mountpoint: str) -> None:
        """
        What absolute paths begin with begins with a slash itself, and does not end with one.
        """
        with pytest.raises(ValueError, match=f"absolute path, as '/proc', not '{mountpoint}'"):
            ProcFS(mountpoint=mountpoint)

    async def test_repr(self) -> None:
        """
        Its repr tells where it is mounted, and whether it is open.
        """
        proc = ProcFS(mountpoint="/run")
        assert repr(proc) == "<ProcFS '/run' not entered>"
        async with proc:
            assert repr(proc) == "<ProcFS '/run' open>"
        assert repr(proc) == "<ProcFS '/run' closed>"

    async def test_several_live_side_by_side(self) -> None:
        """
        Two trees in one program know nothing of each other.
        """
        async with ProcFS() as one, ProcFS(mountpoint="/other") as two:
            one.create("x", ProcOps())
            assert (one.listdir(), two.listdir()) == (["x"], [])
            with refused(ENOENT):
                two.lookup("/proc/x")

    async def test_takes_no_entries_of_another(self) -> None:
        """
        A parent from another tree is a mistake: nothing is registered or removed in either.
        """
        async with ProcFS() as one, ProcFS() as two:
            directory = one.mkdir("d")
            one.create("d/x", ProcOps())
            with unchanged(one), unchanged(two):
                with pytest.raises(ValueError, match="belongs to another ProcFS"):
                    two.create("y", ProcOps(), parent=directory)
                with pytest.raises(ValueError, match="belongs to another ProcFS"):
                    await two.remove("x", parent=directory)

    async def test_a_parent_that_is_no_entry(self) -> None:
        """
        A name in the place of the parent is a TypeError that shows where an entry comes from.
        """
        name: Any = "d"
        async with ProcFS() as proc:
            proc.mkdir(name)
            with unchanged(proc):
                with pytest.raises(TypeError, match=r"as mkdir\(\) returns it, not 'd'"):
                    proc.create("x", ProcOps(), parent=name)
                with pytest.raises(TypeError, match=r"as mkdir\(\) returns it, not 'd'"):
                    await proc.remove("x", parent=name)

    async def test_an_entry_in_the_place_of_a_name(self) -> None:
        """
        Who wants to remove an entry is told that it does that itself.
        """
        async with ProcFS() as proc:
            entry: Any = proc.create("x", ProcOps())
            with pytest.raises(TypeError, match=r"has a remove\(\) of its own"):
                await proc.remove(entry)
            assert entry.linked


class TestCreate:
    @pytest.mark.parametrize(
        ("mode", "then"),
        [(0, 0o444), (0o600, 0o600), (stat.S_IFREG, 0o444), (stat.S_IFREG | 0o640, 0o640)],
    )
    async def test_mode(self, mode: int, then: int) -> None:
        """
        Without permission bits it is 0444; the bits of a regular file may be there.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), mode=mode)
            assert (entry.mode, entry.type) == (then, stat.S_IFREG)

    @pytest.mark.parametrize("mode", [0o4000, 0o2000, 0o1000])
    async def test_a_mode_of_special_bits_is_one(self, mode: int) -> None:
        """
        Any of the twelve bits counts as a permission bit.
        """
        async with ProcFS() as proc:
            assert proc.create("x", ProcOps(), mode=mode).mode == mode

    @pytest.mark.parametrize(
        "mode", [stat.S_IFDIR | 0o755, stat.S_IFLNK, stat.S_IFCHR | 0o600, -1, 1 << 20, 1 << 40]
    )
    async def test_modes_that_are_refused(self, mode: int) -> None:
        """
        The type of something else, or what is no mode at all, is EINVAL.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(EINVAL):
                proc.create("x", ProcOps(), mode=mode)
            with unchanged(proc), refused(EINVAL):
                proc.create_single("x", lambda: "", mode=mode)

    @pytest.mark.parametrize("mode", ["0644", 6.44, b"r"])
    async def test_modes_that_are_no_numbers(self, mode: Any) -> None:
        """
        What is no int is a TypeError that shows what is one.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError, match="as 0o644, not"):
                proc.create("x", ProcOps(), mode=mode)
            with unchanged(proc), pytest.raises(TypeError, match="as 0o644, not"):
                proc.mkdir("x", mode=mode)

    @pytest.mark.parametrize(
        ("ops", "cure"),
        [
            (None, "pass ProcOps("),
            (Handlers(), "ProcOps.of("),
            (Handlers, "pass ProcOps.of(Handlers()), not Handlers"),
            (Handlers().read, "pass ProcOps(read=...)"),
        ],
        ids=["None", "instance", "class", "function"],
    )
    async def test_wants_a_table(self, ops: Any, cure: str) -> None:
        """
        B31: anything else than a ProcOps is a TypeError with the cure in it.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError) as caught:
                proc.create("x", ops)
            assert cure in str(caught.value)

    async def test_can_be_opened_at_once(self) -> None:
        """
        From the moment it is registered it is listed, found and opened, with all it has.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers().ops("read"), data="data")
            assert (proc.listdir(), proc.lookup("x")) == (["x"], entry)
            async with await proc.open("x") as file:
                assert file.file.data == "data"

    async def test_a_name_can_be_used_again(self) -> None:
        """
        After a removal the name is free.
        """
        async with ProcFS() as proc:
            entries = set[ProcDirEntry]()
            for _ in range(3):
                entries.add(proc.create("x", ProcOps()))
                await proc.remove("x")
            assert len(entries) == 3

    async def test_a_refused_duplicate_changes_nothing(self) -> None:
        """
        Who has the name keeps it, and one removal is enough.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", Handlers(b"first").ops("read"))
            with unchanged(proc), refused(EEXIST):
                proc.create("x", Handlers(b"second").ops("read"))
            assert proc.lookup("x") is entry
            assert await proc.read_bytes("x") == b"first"
            await proc.remove("x")
            assert proc.listdir() == []


class TestOtherCreators:
    @pytest.mark.parametrize(("mode", "then"), [(0, 0o555), (0o700, 0o700), (0o1777, 0o1777)])
    async def test_mkdir(self, mode: int, then: int) -> None:
        """
        A directory is 0555 unless told otherwise; it may have data.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d", mode, data="data")
            assert (entry.mode, entry.data, entry.nlink) == (then, "data", 2)

    @pytest.mark.parametrize("mode", [-1, stat.S_IFDIR | 0o755, 0o10000, 1 << 40])
    async def test_mkdir_takes_permission_bits(self, mode: int) -> None:
        """
        Anything else is EINVAL.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(EINVAL):
                proc.mkdir("d", mode)

    async def test_symlink(self) -> None:
        """
        A symlink is 0777, and as long as its target in bytes.
        """
        async with ProcFS() as proc:
            entry = proc.symlink("link", "../größe")
            found = proc.stat("link", follow_symlinks=False)
            assert found == entry.stat()
            assert (found.st_mode, found.st_size) == (stat.S_IFLNK | 0o777, 10)
            assert proc.readlink("link") == "../größe"

    async def test_symlink_to_nothing(self) -> None:
        """
        An empty target is ENOENT, as in Linux.
        """
        async with ProcFS() as proc:
            with unchanged(proc), refused(ENOENT):
                proc.symlink("link", "")

    @pytest.mark.parametrize("target", [7, b"x"], ids=repr)
    async def test_symlink_to_what_is_no_path(self, target: Any) -> None:
        """
        A target is text; anything else is a TypeError, and nothing is registered.
        """
        async with ProcFS() as proc:
            with unchanged(proc), pytest.raises(TypeError):
                proc.symlink("link", target)

    async def test_mount_point(self) -> None:
        """
        A mount point is a directory of mode 0555 that nothing can be put into.
        """
        async with ProcFS() as proc:
            entry = proc.create_mount_point("m")
            assert (entry.mode, entry.is_dir(), entry.nlink) == (0o555, True, 2)
            with unchanged(proc):
                with refused(EPERM):
                    proc.create("m/x", ProcOps())
                with refused(EPERM):
                    proc.mkdir("x", parent=entry)
                with refused(EPERM):
                    proc.symlink("m/x", "y")
            assert proc.listdir("m") == []
            with refused(ENOENT):
                proc.lookup("m/x")


class TestLooking:
    async def test_listdir(self) -> None:
        """
        The names in a directory, in order; of the root if nothing is said.
        """
        async with ProcFS() as proc:
            proc.mkdir("dir")
            proc.create("dir/bb", ProcOps())
            proc.create("dir/c", ProcOps())
            proc.symlink("link", "dir")
            assert proc.listdir() == ["dir", "link"]
            assert proc.listdir("dir") == proc.listdir("/proc/link") == ["c", "bb"]

    async def test_listdir_wants_a_directory_one_may_read(self) -> None:
        """
        ENOTDIR for a file, ENOENT for nothing, EACCES without the right to read it.
        """
        async with ProcFS() as proc:
            proc.create("f", ProcOps())
            proc.mkdir("d", 0o711)
            for path, errno in (("f", ENOTDIR), ("nope", ENOENT), ("d", EACCES)):
                with refused(errno):
                    proc.listdir(path, cred=stranger)

    async def test_stat_follows_symlinks(self) -> None:
        """
        stat tells of the target, or of the link itself if so wished.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), mode=0o640)
            link = proc.symlink("link", "x")
            assert proc.stat("link") == entry.stat()
            assert proc.stat("link", follow_symlinks=False) == link.stat()
            assert proc.stat("").st_ino == 1

    async def test_readlink(self) -> None:
        """
        Where a symlink leads; EINVAL for anything else, ENOENT for nothing.
        """
        async with ProcFS() as proc:
            proc.symlink("link", "nowhere/at all")
            proc.mkdir("d")
            proc.symlink("d/link", "link")
            assert proc.readlink("link") == "nowhere/at all"
            assert proc.readlink("d/link") == "link"
            for path, errno in (("d", EINVAL), ("link/", ENOENT), ("nope", ENOENT)):
                with refused(errno):
                    proc.readlink(path)

    async def test_access(self) -> None:
        """
        access checks the mode bits of the target for somebody; F_OK only whether it is there.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps(), mode=0o640)
            proc.symlink("link", "x")
            proc.access("x", os.R_OK | os.W_OK | os.X_OK)
            proc.access("link", os.F_OK, cred=stranger)
            for how in (os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK):
                with refused(EACCES):
                    proc.access("link", how, cred=stranger)
            with refused(ENOENT):
                proc.access("nope", os.F_OK)
            for how in (-1, 8):
                with refused(EINVAL):
                    proc.access("x", how)

    async def test_truncate(self) -> None:
        """
        truncate succeeds and changes nothing, for whoever may write.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps(), mode=0o642).size = 7
            proc.create("y", ProcOps(), mode=0o644)
            proc.mkdir("d")
            with unchanged(proc):
                proc.truncate("x", 0)
                proc.truncate("x", 99, cred=stranger)
                for path, size, errno in (
                    ("x", -1, EINVAL),
                    ("y", 0, EACCES),
                    ("d", 0, EISDIR),
                    ("nope", 0, ENOENT),
                ):
                    with refused(errno):
                        proc.truncate(path, size, cred=stranger)

    async def test_chmod_and_chown_follow_symlinks(self) -> None:
        """
        What is changed is what the path leads to.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            link = proc.symlink("link", "x")
            proc.chmod("link", 0o600)
            proc.chown("link", 1, 2)
            assert (entry.mode, entry.uid, entry.gid) == (0o600, 1, 2)
            assert (link.mode, link.uid, link.gid) == (0o777, 0, 0)

    async def test_what_is_not_there_cannot_be_changed(self) -> None:
        """
        ENOENT, or EACCES if the way is barred.
        """
        async with ProcFS() as proc:
            proc.mkdir("d", 0o700)
            proc.create("d/x", ProcOps())
            for path, errno in (("nope", ENOENT), ("d/x", EACCES)):
                with unchanged(proc):
                    with refused(errno):
                        proc.chmod(path, 0, cred=stranger)
                    with refused(errno):
                        proc.chown(path, 1, 1, cred=stranger)
                    with refused(errno):
                        proc.stat(path, cred=stranger)
                    with refused(errno):
                        proc.readlink(path, cred=stranger)
                    with refused(errno):
                        proc.truncate(path, 0, cred=stranger)


class TestOpening:
    @pytest.mark.parametrize(
        ("path", "flags", "errno"),
        [
            ("nope", os.O_RDONLY, ENOENT),
            ("nope", os.O_RDWR | os.O_CREAT, ENOENT),
            ("nope", os.O_RDWR | os.O_CREAT | os.O_EXCL, ENOENT),
            ("d/nope", os.O_RDONLY, ENOENT),
            ("x/y", os.O_RDONLY, ENOTDIR),
            ("x/", os.O_RDONLY, ENOTDIR),
            ("x", os.O_CREAT | os.O_EXCL, EEXIST),
            ("d", os.O_CREAT | os.O_EXCL, EEXIST),
            ("link", os.O_CREAT | os.O_EXCL, EEXIST),
            ("x", os.O_DIRECTORY, ENOTDIR),
            ("x", os.O_DIRECTORY | os.O_PATH, ENOTDIR),
            ("link", os.O_DIRECTORY | os.O_NOFOLLOW, ENOTDIR),
            ("d", os.O_WRONLY, EISDIR),
            ("d", os.O_RDWR, EISDIR),
            ("d", os.O_RDONLY | os.O_CREAT, EISDIR),
            ("m", os.O_WRONLY, EISDIR),
            ("link", os.O_RDONLY | os.O_NOFOLLOW, ELOOP),
            ("dangling", os.O_RDONLY, ENOENT),
            ("d", os.O_RDONLY | os.O_TRUNC, EISDIR),
            ("d", os.O_ACCMODE, EISDIR),
            ("dangling", os.O_CREAT | os.O_EXCL, EEXIST),
        ],
    )
    async def test_refused(self, path: str, flags: int, errno: int) -> None:
        """
        What the VFS refuses before procfs is asked; no handler is called.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open"), mode=0o666)
            proc.mkdir("d")
            proc.create_mount_point("m")
            proc.symlink("link", "x")
            proc.symlink("dangling", "nowhere")
            with unchanged(proc), refused(errno):
                await proc.open(path, flags)
            assert handlers.log == []

    @pytest.mark.parametrize(
        ("path", "flags"),
        [
            ("x", os.O_RDWR | os.O_CREAT | os.O_TRUNC),
            ("x", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK),
            ("x", os.O_PATH | os.O_WRONLY),
            ("link", os.O_RDWR),
            ("d", os.O_RDONLY | os.O_DIRECTORY),
            ("d", os.O_PATH),
            ("dlink", os.O_DIRECTORY),
            ("link", os.O_PATH | os.O_NOFOLLOW),
        ],
    )
    async def test_allowed(self, path: str, flags: int) -> None:
        """
        Flags that fit what is there.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps())
            proc.mkdir("d")
            proc.symlink("link", "x")
            proc.symlink("dlink", "d")
            with unchanged(proc):
                async with await proc.open(path, flags) as file:
                    follow = not flags & os.O_NOFOLLOW
                    assert file.entry is proc.lookup(path, follow_symlinks=follow)

    async def test_o_path_takes_no_other_flags(self) -> None:
        """
        With O_PATH, what else the flags ask for does not count, as in Linux.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps())
            flags = os.O_PATH | os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_RDWR
            async with await proc.open("x", flags, cred=stranger):
                pass

    @pytest.mark.parametrize(
        ("flags", "wanted"),
        [
            (os.O_RDONLY, 4),
            (os.O_WRONLY, 2),
            (os.O_RDWR, 6),
            (os.O_RDONLY | os.O_TRUNC, 6),
            (os.O_WRONLY | os.O_TRUNC, 2),
            (os.O_ACCMODE, 6),
        ],
    )
    async def test_rights(self, flags: int, wanted: int) -> None:
        """
        The mode bits must allow what the flags ask for: the owner's, the group's or the others'.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            entry.uid, entry.gid = OWNER, GROUP
            for cred, shift in ((owner, 6), (member, 3), (stranger, 0)):
                for bits in range(8):
                    entry.mode = bits << shift
                    if bits & wanted == wanted:
                        async with await proc.open("x", flags, cred=cred):
                            pass
                    else:
                        with refused(EACCES):
                            await proc.open("x", flags, cred=cred)

    async def test_root_may_open_anything(self) -> None:
        """
        The superuser may open a 0444 file for writing; the write then says EIO.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps(), mode=0o444)
            async with await proc.open("x", os.O_RDWR) as file:
                with refused(EIO):
                    await file.write(b"")

    @pytest.mark.parametrize("path", ["x", "d"])
    async def test_nothing_is_read_directly(self, path: str) -> None:
        """
        O_DIRECT is refused, after the open handler: so what that opened is released.
        """
        calls: list[str] = []
        ops = ProcOps(
            open=lambda file: calls.append("open"), release=lambda file: calls.append("release")
        )
        async with ProcFS() as proc:
            entry = proc.create("x", ops)
            proc.mkdir("d")
            with refused(EINVAL):
                await proc.open(path, os.O_RDONLY | os.O_DIRECT)
            assert calls == (["open", "release"] if path == "x" else [])
            assert entry.statistics().open_files == 0
            async with await proc.open(path, os.O_PATH | os.O_DIRECT):
                pass

    async def test_a_path_descriptor_needs_no_rights(self) -> None:
        """
        O_PATH asks for the way to it only.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps()).mode = 0
            async with await proc.open("x", os.O_PATH, cred=stranger):
                pass

    async def test_a_directory_must_be_readable(self) -> None:
        """
        Opening a directory takes the right to read it.
        """
        async with ProcFS() as proc:
            proc.mkdir("d", 0o711)
            with refused(EACCES):
                await proc.open("d", cred=stranger)

    async def test_by_entry(self) -> None:
        """
        An entry can be passed for the path; its own mode bits are checked, and no others.
        """
        async with ProcFS() as proc:
            proc.mkdir("d", 0o700)
            entry = proc.create("d/x", Handlers(b"content").ops("read"), mode=0o604)
            async with await proc.open(entry, cred=stranger) as file:
                assert await file.read() == b"content"
            with refused(EACCES):
                await proc.open(entry, os.O_RDWR, cred=stranger)
            with refused(ELOOP):
                await proc.open(proc.symlink("link", "d/x"))
            with refused(ENOTDIR):
                await proc.open(entry, os.O_DIRECTORY)

    async def test_below_an_open_directory(self) -> None:
        """
        With dir_fd a relative path begins there (openat), also without a name to it.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            proc.create("d/x", Handlers(b"content").ops("read"))
            async with await proc.open("d") as here:
                async with await proc.open("x", dir_fd=here) as file:
                    assert await file.read() == b"content"
                await directory.remove()
                with refused(ENOENT):
                    await proc.open("x", dir_fd=here)

    async def test_the_path_is_looked_up_after_the_checkpoint(self) -> None:
        """
        What is opened is what has the name when the call goes on, not when it was made.
        """
        async with ProcFS() as proc:
            proc.create("x", Handlers(b"old").ops("read"))
            new: list[ProcDirEntry] = []

            async def replace() -> None:
                await proc.remove("x")
                new.append(proc.create("x", Handlers(b"new").ops("read")))

            async with create_task_group() as tg:
                with CancelScope() as scope:
                    scope.cancel()
                    await proc.open("x")
                await start(tg, replace)
                async with await proc.open("x") as file:
                    assert file.entry is new[0]


class TestLeaving:
    async def test_removes_all_that_is_left(self) -> None:
        """
        At the end of the block everything is gone, permanent entries too.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            entries = [
                proc.create("d/x", ProcOps()),
                proc.create("permanent", ProcOps(permanent=True)),
                proc.symlink("link", "d"),
                proc.create_mount_point("m"),
                proc.lookup("d"),
                proc.root,
            ]
        assert [state(entry) for entry in entries] == ["gone"] * 6
        assert proc.root.nlink == 2

    async def test_children_first(self) -> None:
        """
        Open files are released in the order of a subtree removal.
        """
        released: list[str] = []
        async with ProcFS() as proc:
            ops = ProcOps(release=lambda file: released.append(file.entry.path))
            proc.mkdir("d")
            for name in ("zz", "a", "d/x", "d/y"):
                proc.create(name, ops)
                await proc.open(name)
        assert released == ["/proc/a", "/proc/d/x", "/proc/d/y", "/proc/zz"]

    async def test_files_left_open_are_dead(self) -> None:
        """
        A file outlives its tree: calls on it are refused, and it can be closed.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            proc.create("x", handlers.ops("open", "read", "release"))
            file, root = await proc.open("x"), await proc.open("")
        with refused(EIO):
            await file.read()
        assert file.stat().st_nlink == 1
        assert [name.name for name in await root.getdents()] == [".", ".."]
        await file.aclose()
        await root.aclose()
        assert handlers.log == ["open 1", "release 1"]
        with refused(ENOENT):
            await proc.open("x")

    async def test_waits_for_the_calls_inside(self) -> None:
        """
        The block ends when nobody is inside any more; meanwhile nothing can be registered.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with create_task_group() as tg:
            may_leave = Event()
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    proc.create("x", handlers.ops("read"))
                    await may_leave.wait()

            server = await start(tg, serve)
            reader = await start(tg, (await proc.open("x")).read)
            may_leave.set()
            await all_blocked()
            assert (server.done, proc.listdir()) == (False, [])
            with refused(ENOENT):
                proc.lookup("x")
            with pytest.raises(RuntimeError, match="takes no entries"):
                proc.create("y", ProcOps())
            handlers.let_go("read")
            await all_blocked()
            assert (server.done, reader.result) == (True, b"content")

    async def test_an_error_in_the_block_passes_as_it_is(self) -> None:
        """
        The exception that ends the block reaches the outside unwrapped, after all is removed.
        """
        exc, proc = KeyError("mine"), ProcFS()
        with pytest.raises(KeyError) as caught:  # noqa: PT012  its end raises
            async with proc:
                proc.create("x", ProcOps())
                raise exc
        assert caught.value is exc
        assert (state(proc.root), list(tree(proc))) == ("gone", ["/proc"])

    async def test_cancellation_does_not_cut_it_short(self) -> None:
        """
        A cancelled block ends cancelled, after all is removed: calls inside and releases too.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        handlers.hold_up("release")
        async with create_task_group() as tg:
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    proc.create("x", handlers.ops("open", "read", "release"))
                    await Event().wait()

            server = await start(tg, serve)
            reader = await start(tg, (await proc.open("x")).read)
            server.cancel()
            await all_blocked()
            assert (server.done, state(proc.root)) == (False, "releasing")
            handlers.let_go("read")
            await all_blocked()
            assert (server.done, reader.result) == (False, b"content")
            assert handlers.log[-1] == "release 1"
            handlers.let_go("release")
            await all_blocked()
            assert (server.cancelled, state(proc.root)) == (True, "gone")

    @pytest.mark.parametrize(
        "anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]
    )
    @pytest.mark.parametrize("ends_by_itself", [False, True])
    async def test_nor_does_asyncios_own_cancellation(self, *, ends_by_itself: bool) -> None:
        """
        A ``task.cancel()``, as Ctrl-C makes it, knows no shields; the removal ends all the same.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with create_task_group() as tg:
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    proc.create("x", handlers.ops("open", "read", "release"))
                    await may_leave.wait()

            may_leave = Event()
            server = asyncio.create_task(serve())
            await all_blocked()
            reader = await start(tg, (await proc.open("x")).read)
            if ends_by_itself:
                may_leave.set()
                await all_blocked()
            for _ in range(2):  # the first one may end the block; others disturb the leaving
                server.cancel()
                await all_blocked()
            assert (server.done(), state(proc.root)) == (False, "releasing")
            handlers.let_go("read")
            with pytest.raises(asyncio.CancelledError):
                await server
            assert (reader.result, state(proc.root)) == (b"content", "gone")
            assert handlers.log[-1] == "release 1"

    @pytest.mark.parametrize("cancelled", [False, True])
    @pytest.mark.parametrize("fails", [False, True])
    async def test_waits_for_removals_that_go_on(self, *, cancelled: bool, fails: bool) -> None:
        """
        A removal whose caller was cancelled ends before the tree does, however the block ends.
        """
        released: list[str] = []

        async def release(file: File) -> None:
            await checkpoint()
            released.append(file.entry.name)

        exc, proc = KeyError("mine"), ProcFS()
        caught: list[BaseException] = []
        with CancelScope() as outer:
            try:
                async with proc:
                    entry = proc.create("x", ProcOps(release=release))
                    await proc.open("x")
                    with CancelScope() as scope:
                        scope.cancel()
                        await entry.remove()
                    if cancelled:
                        outer.cancel()
                    if fails:
                        raise exc
                    await checkpoint()
            except KeyError as raised:
                caught.append(raised)
        assert (released, state(proc.root)) == (["x"], "gone")
        assert caught == ([exc] if fails else [])
        assert outer.cancelled_caught == (cancelled and not fails)

    async def test_waits_for_removals_by_others(self) -> None:
        """
        So does one that a task from elsewhere has begun, and begins meanwhile.
        """
        handlers = Handlers()
        handlers.hold_up("read")
        async with create_task_group() as tg:
            may_leave = Event()
            proc = ProcFS()

            async def serve() -> None:
                async with proc:
                    for name in ("one", "two"):
                        proc.create(name, handlers.ops("read"))
                    await may_leave.wait()

            server = await start(tg, serve)
            entries = [proc.lookup("one"), proc.lookup("two")]
            for name in ("one", "two"):
                await start(tg, (await proc.open(name)).read)
            removers = [await start(tg, entries[0].remove)]
            may_leave.set()
            await all_blocked()
            removers.append(await start(tg, entries[1].remove))
            removers[1].cancel()
            await all_blocked()
            assert [removers[0].done, removers[1].cancelled, server.done] == [False, True, False]
            handlers.let_go("read")
            await all_blocked()
            assert (removers[0].done, server.done) == (True, True)
            assert [state(entry) for entry in entries] == ["gone", "gone"]

    async def test_removes_what_was_registered_in_what_is_gone(self) -> None:
        """
        Entries in a directory that was removed before them are removed and released too.
        """
        handlers = Handlers()
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            await directory.remove()
            sub = proc.mkdir("sub", parent=directory)
            ghosts = [
                proc.create(name, handlers.ops("open", "release"), parent=parent)
                for name, parent in (("a", directory), ("b", sub), ("c", directory))
            ]
            for ghost in ghosts:
                await proc.open(ghost)
            await ghosts[2].remove()
        assert [state(ghost) for ghost in ghosts] == ["gone"] * 3
        assert sorted(handlers.log[3:]) == ["release 1", "release 2", "release 3"]

    async def test_of_an_empty_tree(self) -> None:
        """
        A tree that was never used is left without a trace.
        """
        before = len(anyio.get_running_tasks())
        async with ProcFS() as proc:
            assert len(anyio.get_running_tasks()) == before
        assert state(proc.root) == "gone"

    async def test_waits_in_no_task_of_its_own(self) -> None:
        """
        Only removals whose callers are gone have a task; leaving has none.
        """
        handlers = Handlers()
        handlers.hold_up("release")
        async with create_task_group() as tg:

            async def serve() -> None:
                async with ProcFS() as proc:
                    proc.create("x", handlers.ops("release"))
                    await proc.open("x")

            before = len(anyio.get_running_tasks())
            await start(tg, serve)
            assert len(anyio.get_running_tasks()) == before + 1
            handlers.let_go("release")

    @pytest.mark.parametrize("loop", BACKENDS)
    def test_the_end_of_the_program_does_not_cut_it_short(self, loop: str) -> None:
        """
        A SystemExit or KeyboardInterrupt while it is left passes, after all is removed.
        """
        released: list[str] = []

        def release(file: File) -> None:
            released.append(file.entry.name)
            if file.entry.name == "a":
                raise SystemExit

        async def main() -> None:
            proc = ProcFS()
            with pytest.raises(SystemExit):  # noqa: PT012  its end raises
                async with proc:
                    for name in "ab":
                        proc.create(name, ProcOps(release=release))
                        await proc.open(name)
            assert (released, state(proc.root)) == (["a", "b"], "gone")

        backend, options = BACKENDS[loop]
        anyio.run(main, backend=backend, backend_options=options)


class TestErrorsAtTheEnd:
    """What release handlers raised, and nobody was told of."""

    async def test_of_its_own_releases(self) -> None:
        """
        Errors of the releases at the end come in a group, after everything is released.
        """
        released: list[str] = []

        def release(file: File) -> None:
            released.append(file.entry.name)
            raise OSError(EIO, file.entry.name)

        proc = ProcFS()
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with proc:
                for name in "ab":
                    proc.create(name, ProcOps(release=release))
                    await proc.open(name)
        assert [str(exc) for exc in caught.value.exceptions] == ["[Errno 5] a", "[Errno 5] b"]
        assert (released, state(proc.root)) == (["a", "b"], "gone")

    @pytest.mark.parametrize("plain", [False, True])
    async def test_of_a_removal_that_nobody_awaited(self, *, plain: bool) -> None:
        """
        So do those of a removal whose caller was cancelled, and which nobody joined.
        """
        exc = OSError(EIO, "cannot")

        async def release(file: File) -> None:
            await checkpoint()
            raise exc

        def plain_release(file: File) -> None:
            raise exc

        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                entry = proc.create("x", ProcOps(release=plain_release if plain else release))
                await proc.open("x")
                with CancelScope() as scope:
                    scope.cancel()
                    await entry.remove()
        assert caught.value.exceptions == (exc,)

    async def test_are_told_once(self) -> None:
        """
        What a remover was told of is not told again.
        """
        async with ProcFS() as proc:
            proc.mkdir("d")
            for name in ("x", "d/y"):
                proc.create(name, ProcOps(release=lambda file: 1 // 0))
                await proc.open(name)
            for remove in (proc.lookup("x").remove, proc.lookup("d").remove):
                with pytest.raises(ExceptionGroup):
                    await remove()

    async def test_come_after_the_blocks_own(self) -> None:
        """
        If the block failed too, its exception is the first in the group.
        """
        exc = KeyError("mine")
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                proc.create("x", ProcOps(release=lambda file: 1 // 0))
                await proc.open("x")
                raise exc
        assert caught.value.exceptions[0] is exc
        assert isinstance(caught.value.exceptions[1], ZeroDivisionError)
        assert len(caught.value.exceptions) == 2

    async def test_of_a_block_that_was_cancelled(self) -> None:
        """
        Errors come out of a cancelled block too; the cancellation is not lost to the loop.
        """
        with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  its end raises
            with CancelScope() as scope:
                async with ProcFS() as proc:
                    proc.create("x", ProcOps(release=lambda file: 1 // 0))
                    await proc.open("x")
                    scope.cancel()
                    await checkpoint()
        assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
        await checkpoint()

    async def test_of_a_program_that_ends(self) -> None:
        """
        What is no error but the end of a program is not swallowed by errors of releases.
        """
        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012  its end raises
            async with ProcFS() as proc:
                proc.create("x", ProcOps(release=lambda file: 1 // 0))
                await proc.open("x")
                raise SystemExit
        assert {type(exc) for exc in caught.value.exceptions} == {SystemExit, ZeroDivisionError}


# -- checkpoints --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One thing of each kind that has coroutine methods."""

    handlers: Handlers
    proc: ProcFS
    entry: ProcDirEntry
    idle: ProcDirEntry
    file: ProcFile
    directory: ProcFile
    mapping: Mapping
    count: UseCount


@asynccontextmanager
async def stage(*, fast: bool) -> AsyncGenerator[Stage]:
    handlers = Handlers()
    async with ProcFS(fast_acquire=fast) as proc:
        entry = proc.create("x", ProcOps.of(handlers))
        plain = ProcOps(read=lambda file, size, pos: b"", write=lambda file, data, pos: 0)
        proc.create("plain", plain)
        file = await proc.open("x", os.O_RDWR)
        mapping, directory = await file.mmap(1), await proc.open("")
        # What can be removed without waiting, though a file is open.
        idle = proc.create("idle", ProcOps(release=lambda file: None))
        await proc.open("idle")
        handlers.log.clear()
        count = UseCount(fast_acquire=fast)
        yield Stage(handlers, proc, entry, idle, file, directory, mapping, count)


Acts = dict[str, "Callable[[Stage], Awaitable[object]]"]

# Every public coroutine. Those that do not wait for a handler do what they do before they
# yield: what began to go never comes back, and what is closed is closed.
ACTS_AFTER_THE_CHECKPOINT: Acts = {
    "ProcFS.open": lambda s: s.proc.open("x"),
    "ProcFS.read_bytes": lambda s: s.proc.read_bytes("x"),
    "ProcFS.read_text": lambda s: s.proc.read_text("x"),
    "ProcFS.write_bytes": lambda s: s.proc.write_bytes("x", b"!"),
    "ProcFS.write_text": lambda s: s.proc.write_text("x", "!"),
    "ProcFile.read": lambda s: s.file.read(),
    "ProcFile.pread": lambda s: s.file.pread(1, 0),
    "ProcFile.readv": lambda s: s.file.readv([1]),
    "ProcFile.write": lambda s: s.file.write(b"!"),
    "ProcFile.pwrite": lambda s: s.file.pwrite(b"!", 0),
    "ProcFile.lseek": lambda s: s.file.lseek(1),
    "ProcFile.poll": lambda s: s.file.poll(),
    "ProcFile.ioctl": lambda s: s.file.ioctl(3),
    "ProcFile.compat_ioctl": lambda s: s.file.compat_ioctl(3),
    "ProcFile.mmap": lambda s: s.file.mmap(1),
    "ProcFile.getdents": lambda s: s.directory.getdents(),
    "UseCount.__aenter__": lambda s: s.count.__aenter__(),
}
ACTS_BEFORE_THE_CHECKPOINT: Acts = {
    "ProcFS.remove": lambda s: s.proc.remove("idle"),
    "ProcFS.remove_subtree": lambda s: s.proc.remove_subtree("idle"),
    "ProcFS.remove_entry": lambda s: s.proc.remove_entry(s.idle, None),
    "ProcDirEntry.remove": lambda s: s.idle.remove(),
    "ProcDirEntry.aclose": lambda s: s.idle.aclose(),
    "ProcDirEntry.rundown": lambda s: s.entry.rundown(),
    "ProcFile.aclose": lambda s: s.file.aclose(),
    "Mapping.aclose": lambda s: s.mapping.aclose(),
    "UseCount.rundown": lambda s: s.count.rundown(),
}
# The same methods where other code serves them.
VARIANTS: Acts = {
    "open of an entry": lambda s: s.proc.open(s.entry),
    "open of a directory": lambda s: s.proc.open(""),
    "open with O_PATH": lambda s: s.proc.open("x", os.O_PATH),
    "read_bytes of an entry": lambda s: s.proc.read_bytes(s.entry),
    "readv of nothing": lambda s: s.file.readv([]),
    "poll of a directory": lambda s: s.directory.poll(),
    "lseek of a directory": lambda s: s.directory.lseek(1),
    "ioctl answered by the VFS": lambda s: s.file.ioctl(0x5451),
}
ACTS = ACTS_AFTER_THE_CHECKPOINT | ACTS_BEFORE_THE_CHECKPOINT
ALL = ACTS | VARIANTS
acts = pytest.mark.parametrize("act", ALL.values(), ids=list(ALL))
waiting = pytest.mark.parametrize("fast", [False, True], ids=["default", "fast_acquire"])


async def module(kernel: Kernel) -> AsyncIterator[None]:
    device = kernel.dev.register("device", ProcOps(), owner=None)
    yield
    await device.remove()


# Modules live in tasks of their own: these calls always wait, and always yield.
OF_MODULES: dict[str, Callable[[Kernel], Awaitable[object]]] = {
    "Kernel.insmod": lambda kernel: kernel.insmod(module, "other"),
    "Kernel.modprobe": lambda kernel: kernel.modprobe("other"),
    "Kernel.reload": lambda kernel: kernel.reload("module"),
    "Kernel.rmmod": lambda kernel: kernel.rmmod("module"),
    "DevFS.open": lambda kernel: kernel.dev.open("device"),
    "DevFS.remove_entry": lambda kernel: kernel.dev.remove_entry(kernel.dev.lookup("device"), None),
}

# Called inside the package only. Of File, which is the other side of what descriptors call,
# handlers see one, that waits for something or does nothing.
NOT_CALLED_BY_USERS = {"File", "Module"}


def public_coroutines() -> set[str]:
    """Every coroutine function that a class of the package has, by the class that defines it."""
    found: set[str] = set()
    for class_name in set(aiopde.__all__) - NOT_CALLED_BY_USERS:
        thing = getattr(aiopde, class_name)
        if inspect.isclass(thing):
            above = [base for base in thing.__mro__[1:] if base.__name__ in aiopde.__all__]
            inherited = {name for base in above for name in dir(base)}
            for name, _ in inspect.getmembers(thing, inspect.iscoroutinefunction):
                if not name.startswith("_") and name not in inherited:
                    found.add(f"{class_name}.{name}")
    return found | {"UseCount.__aenter__"}


class TestCheckpoints:
    def test_none_is_forgotten(self) -> None:
        """
        Whoever adds a public coroutine says here how it is called.
        """
        assert public_coroutines() == set(ACTS) | set(OF_MODULES)

    def test_these_are_all(self) -> None:
        """
        A coroutine is always a method of a class: no function of the package is one.
        """
        functions = [getattr(aiopde, name) for name in aiopde.__all__]
        assert not [thing for thing in functions if inspect.iscoroutinefunction(thing)]

    @waiting
    @acts
    async def test_a_cancellation_is_noticed(
        self, act: Callable[[Stage], Awaitable[object]], *, fast: bool
    ) -> None:
        """
        Every call is a checkpoint by default, and none that need not wait is with fast_acquire.
        """
        async with stage(fast=fast) as s:
            with CancelScope() as scope:
                scope.cancel()
                await act(s)
            assert scope.cancelled_caught == (not fast)

    @pytest.mark.parametrize("act", OF_MODULES.values(), ids=list(OF_MODULES))
    async def test_those_of_modules(self, act: Callable[[Kernel], Awaitable[object]]) -> None:
        """
        Loading and unloading begin with a checkpoint too, before anything happens.
        """
        async with Kernel(modules={"other": module}) as kernel:
            await kernel.insmod(module)
            device = kernel.dev.lookup("device")
            before = [kernel.find_module("module")]
            with CancelScope() as scope:
                scope.cancel()
                await act(kernel)
            assert scope.cancelled_caught
            assert [kernel.find_module(info.name) for info in kernel.lsmod()] == before
            assert kernel.dev.lookup("device") is device

    async def test_that_of_a_module_that_is_gone(self) -> None:
        """
        Waiting for what is over is one as well.
        """
        async with Kernel() as kernel:
            loaded = await kernel.insmod(module)
            await kernel.rmmod("module")
            with CancelScope() as scope:
                scope.cancel()
                await loaded.wait_gone()
            assert scope.cancelled_caught

    @pytest.mark.parametrize(
        "act", ACTS_AFTER_THE_CHECKPOINT.values(), ids=list(ACTS_AFTER_THE_CHECKPOINT)
    )
    async def test_comes_before_anything_happens(
        self, act: Callable[[Stage], Awaitable[object]]
    ) -> None:
        """
        A call that was cancelled in its checkpoint did nothing, and is not inside.
        """
        async with stage(fast=False) as s:
            with CancelScope() as scope:
                scope.cancel()
                await act(s)
            assert (s.handlers.log, s.file.tell(), s.directory.tell()) == ([], 0, 0)
            assert (s.entry.in_use, s.count.in_use) == (0, 0)
            assert s.entry.statistics().open_files == 1

    @pytest.mark.parametrize(
        "anyio_backend", [BACKENDS["asyncio"], BACKENDS["uvloop"]], ids=["asyncio", "uvloop"]
    )
    @waiting
    @acts
    async def test_others_get_their_turn(
        self, act: Callable[[Stage], Awaitable[object]], *, fast: bool
    ) -> None:
        """
        A task that is ready runs before the call ends; with fast_acquire none does.
        """
        ran: list[bool] = []

        async def other() -> None:
            ran.append(True)

        async with stage(fast=fast) as s, create_task_group() as tg:
            tg.start_soon(other)
            await act(s)
            assert ran == ([] if fast else [True])

    @pytest.mark.trio
    @waiting
    @acts
    async def test_trio_sees_it_so_too(
        self, act: Callable[[Stage], Awaitable[object]], *, fast: bool
    ) -> None:
        """
        Trio's own idea of a checkpoint, which is a cancellation and a turn for others, is met.
        """
        async with stage(fast=fast) as s:
            with assert_no_checkpoints() if fast else assert_checkpoints():
                await act(s)

    @waiting
    async def test_refusals_are_checkpoints_too(self, *, fast: bool) -> None:
        """
        A read or write that is refused yields like one that is not.
        """
        async with stage(fast=fast) as s:
            entry = s.proc.create("absent", ProcOps())
            files = [
                await s.proc.open("absent", os.O_RDWR),
                await s.proc.open("x", os.O_PATH),
                await s.proc.open("", os.O_RDONLY),
            ]
            await entry.remove()
            for file in files:
                for call in (file.read, lambda file=file: file.write(b"")):
                    with CancelScope() as scope:
                        scope.cancel()
                        if fast:
                            with pytest.raises(OSError):
                                await call()
                        else:
                            await call()
                    assert scope.cancelled_caught == (not fast)

    @pytest.mark.parametrize("path", ["x", "plain"])
    async def test_plain_handlers_make_no_difference(self, path: str) -> None:
        """
        A call is a checkpoint whether its handler is async or not.
        """
        async with stage(fast=False) as s:
            for flags, call in ((os.O_RDONLY, "read"), (os.O_WRONLY, "write")):
                file = await s.proc.open(path, flags)
                with CancelScope() as scope:
                    scope.cancel()
                    await getattr(file, call)(*([b""] if call == "write" else []))
                assert scope.cancelled_caught

    @pytest.mark.parametrize("tree_is_fast", [False, True])
    async def test_an_entry_may_differ_from_its_tree(self, *, tree_is_fast: bool) -> None:
        """
        fast_acquire of an entry counts for calls on it, whatever the tree's default is.
        """
        async with ProcFS(fast_acquire=tree_is_fast) as proc:
            ops = Handlers().ops("read")
            fast = proc.create("fast", ops, fast_acquire=True)
            slow = proc.create("slow", ops, fast_acquire=False)
            default = proc.create_single("default", lambda: "text")
            assert (fast.fast_acquire, slow.fast_acquire) == (True, False)
            assert default.fast_acquire == tree_is_fast
            for entry in (fast, slow, default):
                file = await proc.open(entry)
                for act in (
                    lambda entry=entry: proc.open(entry),
                    lambda entry=entry: proc.open(entry.name),
                    lambda entry=entry: proc.read_bytes(entry.name),
                    file.read,
                    file.aclose,
                    entry.remove,
                ):
                    with CancelScope() as scope:
                        scope.cancel()
                        await act()
                    assert scope.cancelled_caught == (not entry.fast_acquire)

    @waiting
    async def test_so_is_one_that_finds_nothing(self, *, fast: bool) -> None:
        """
        A path that leads nowhere, or an entry that is gone, is told after the checkpoint too.
        """
        async with stage(fast=fast) as s:
            await s.idle.remove()
            with CancelScope() as scope:
                scope.cancel()
                await s.idle.remove()
            assert scope.cancelled_caught == (not fast)
            with CancelScope() as scope:
                scope.cancel()
                if fast:
                    with refused(ENOENT):
                        await s.proc.open("idle")
                else:
                    await s.proc.open("idle")
            assert scope.cancelled_caught == (not fast)

    @waiting
    async def test_a_call_that_waits_is_one_in_any_case(self, *, fast: bool) -> None:
        """
        With fast_acquire too, who waits for the position can be cancelled.
        """
        async with stage(fast=fast) as s, create_task_group() as tg:
            s.handlers.hold_up("read_iter")
            reader = await start(tg, s.file.read)
            waiter = await start(tg, s.file.read)
            waiter.cancel()
            await all_blocked()
            assert (waiter.cancelled, reader.done) == (True, False)
            s.handlers.let_go("read_iter")
