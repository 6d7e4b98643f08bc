"""What a user does in a tree: look up, stat, change, open."""

from __future__ import annotations

import os
from errno import EACCES, EEXIST, EINVAL, EIO, EISDIR, ELOOP, ENOENT, ENOTDIR

import pytest
from anyio import CancelScope, create_task_group

from aiopde import Credentials, ProcDirEntry, ProcFS, ProcOps
from tests.helpers import Handlers, refused, start, unchanged

OWNER, GROUP = 1000, 100
owner = Credentials(uid=OWNER, gid=1)
member = Credentials(uid=7, gid=GROUP)
stranger = Credentials(uid=7, gid=7)


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
            proc.access("x", os.R_OK | os.W_OK)
            proc.access("link", os.F_OK, cred=stranger)
            for how in (os.R_OK, os.W_OK, os.X_OK, os.R_OK | os.W_OK):
                with refused(EACCES):
                    proc.access("link", how, cred=stranger)
            with refused(ENOENT):
                proc.access("nope", os.F_OK)
            for how in (-1, 8):
                with refused(EINVAL):
                    proc.access("x", how)

    @pytest.mark.parametrize("mode", [0o1, 0o10, 0o100])
    async def test_access_to_execute(self, mode: int) -> None:
        """
        The superuser searches every directory, and executes a file that anybody may execute.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps(), mode=0o666)
            proc.mkdir("d").mode = 0
            proc.access("d", os.X_OK)
            with refused(EACCES):
                proc.access("x", os.X_OK)
            proc.chmod("x", mode)
            proc.access("x", os.X_OK)

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


class TestText:
    async def test_that_is_none(self) -> None:
        """
        What cannot be UTF-8 is told, with what to do instead; nothing was opened or lost.
        """
        handlers = Handlers(b"\xff")
        async with ProcFS() as proc:
            proc.create("x", ProcOps.of(handlers), mode=0o666)
            with pytest.raises(UnicodeEncodeError, match=r"and use write_bytes\(\)"):
                await proc.write_text("x", "a\udc80")
            assert handlers.log == []
            with pytest.raises(UnicodeDecodeError, match=r"text, read_bytes\(\) returns"):
                await proc.read_text("x")
            assert await proc.read_bytes("x") == b"\xff"
