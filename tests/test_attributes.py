"""What stat tells of an entry: who may change it, and what that changes with it."""

import stat
from errno import EPERM

import pytest
from anyio import create_task_group

from aiopde import Credentials, ProcFS, ProcOps
from tests.helpers import refused, start, unchanged

OWNER, GROUP = 1000, 100
owner = Credentials(uid=OWNER, gid=1, groups=frozenset({GROUP}))
stranger = Credentials(uid=7, gid=7)


class TestAttributes:
    async def test_mode(self) -> None:
        """
        The permission bits can be changed, and only those; stat shows them with the type.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d", 0o700)
            entry.mode = 0o1750
            assert (entry.mode, proc.stat("d").st_mode) == (0o1750, stat.S_IFDIR | 0o1750)

    async def test_owner_and_size(self) -> None:
        """
        Owner, group and size can be changed; stat shows them (proc_set_user, proc_set_size).
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            entry.uid, entry.gid, entry.size = 1, 2, 3
            found = proc.stat("x")
            assert (found.st_uid, found.st_gid, found.st_size) == (1, 2, 3)
            assert (entry.uid, entry.gid, entry.size) == (1, 2, 3)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("mode", -1),
            ("mode", 0o10000),
            ("uid", -1),
            ("uid", 2**32 - 1),
            ("gid", -1),
            ("gid", 2**32 - 1),
            ("size", -1),
            ("size", 2**63),
        ],
    )
    async def test_values_that_cannot_be(self, name: str, value: int) -> None:
        """
        A number that no kernel has room for, or a mode with type bits, is a ValueError that names
        the attribute.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            with unchanged(proc), pytest.raises(ValueError, match=f"{name} (is|must be) .*, not "):
                setattr(entry, name, value)

    async def test_a_new_entry_takes_the_owner_of_its_parent(self) -> None:
        """
        Owner and group are the parent's at that moment; earlier children keep theirs.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            early = proc.create("d/early", ProcOps())
            directory.uid, directory.gid = OWNER, GROUP
            late = proc.create("d/late", ProcOps())
            assert [(entry.uid, entry.gid) for entry in (early, late)] == [(0, 0), (OWNER, GROUP)]

    async def test_data(self) -> None:
        """
        Data is anything; handlers see what is set at that moment (pde_data).
        """

        async def read(file: object, size: int, pos: int) -> bytes:
            return str(entry.data).encode()[pos:]

        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(read=read), data="first")
            assert await proc.read_text("x") == "first"
            entry.data = "second"
            assert await proc.read_text("x") == "second"

    async def test_nlink_counts_directories(self) -> None:
        """
        A directory has 2 links and one more for each directory in it; files do not count.
        """
        async with ProcFS() as proc:
            parent = proc.mkdir("d")
            links = [
                parent.nlink,
                proc.create("d/file", ProcOps()).parent.nlink,
                proc.symlink("d/link", "file").parent.nlink,
                proc.mkdir("d/sub").parent.nlink,
                proc.create_mount_point("d/mount").parent.nlink,
            ]
            for name in ("file", "link", "sub", "mount"):
                await proc.remove(name, parent=parent)
                links.append(parent.nlink)
            assert links == [2, 2, 2, 3, 4, 4, 4, 3, 2]
            assert (proc.create("f", ProcOps()).nlink, proc.symlink("l", "f").nlink) == (1, 1)

    async def test_nlink_of_the_parent_falls_at_once(self) -> None:
        """
        A directory is no link of its parent any more when its removal begins.
        """
        async with ProcFS() as proc:
            directory = proc.mkdir("d")
            assert proc.root.nlink == 3
            directory.use()
            async with create_task_group() as tg:
                await start(tg, directory.remove)
                assert proc.root.nlink == 2
                directory.unuse()


class TestChmod:
    async def test_is_for_the_owner_and_root(self) -> None:
        """
        Its owner and the superuser may change the mode, others get EPERM.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            entry.uid = OWNER
            proc.chmod("x", 0o600)
            proc.chmod("x", 0o640, cred=owner)
            with unchanged(proc), refused(EPERM):
                proc.chmod("x", 0o777, cred=stranger)
            assert entry.mode == 0o640

    async def test_takes_permission_bits_only(self) -> None:
        """
        The type stays what it is, whatever the mode says.
        """
        async with ProcFS() as proc:
            entry = proc.mkdir("d")
            proc.chmod("d", stat.S_IFREG | 0o1711)
            assert (entry.type, entry.mode) == (stat.S_IFDIR, 0o1711)

    async def test_a_mount_point_stays_as_it_is(self) -> None:
        """
        A mount point cannot be changed, not even by root.
        """
        async with ProcFS() as proc:
            proc.create_mount_point("m")
            with unchanged(proc), refused(EPERM):
                proc.chmod("m", 0o700)
            with unchanged(proc), refused(EPERM):
                proc.chown("m", 1, 1)


class TestChown:
    @pytest.mark.parametrize(
        ("uid", "gid", "then"),
        [(1, 2, (1, 2)), (-1, 2, (OWNER, 2)), (1, -1, (1, GROUP)), (-1, -1, (OWNER, GROUP))],
    )
    async def test_root_may_change_both(self, uid: int, gid: int, then: tuple[int, int]) -> None:
        """
        The superuser may give it to anybody; -1 leaves one of the two as it is.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            entry.uid, entry.gid = OWNER, GROUP
            proc.chown("x", uid, gid)
            assert (entry.uid, entry.gid) == then

    @pytest.mark.parametrize(("uid", "gid"), [(-1, GROUP), (OWNER, GROUP), (OWNER, 1), (-1, -1)])
    async def test_the_owner_may_choose_among_his_groups(self, uid: int, gid: int) -> None:
        """
        The owner may change the group to one of his own, or leave everything as it is.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            entry.uid, entry.gid = OWNER, 55
            proc.chown("x", uid, gid, cred=owner)
            assert (entry.uid, entry.gid) == (OWNER, 55 if gid == -1 else gid)

    @pytest.mark.parametrize(
        ("cred", "uid", "gid"),
        [(owner, 7, -1), (owner, -1, 7), (stranger, 7, -1), (stranger, -1, 7), (stranger, 7, 7)],
    )
    async def test_others_may_not(self, cred: Credentials, uid: int, gid: int) -> None:
        """
        Nobody gives a file away, takes one, or puts it in a group he is not in: EPERM.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps())
            entry.uid, entry.gid = OWNER, GROUP
            with unchanged(proc), refused(EPERM):
                proc.chown("x", uid, gid, cred=cred)

    async def test_a_chown_that_changes_nothing_is_for_everybody(self) -> None:
        """
        With -1 twice there is nothing to forbid, as in Linux.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps())
            with unchanged(proc):
                proc.chown("x", -1, -1, cred=stranger)

    @pytest.mark.parametrize(("uid", "gid"), [(-2, 1), (1, -2)])
    async def test_is_all_or_nothing(self, uid: int, gid: int) -> None:
        """
        If one of the two is no number of a user or group, neither is changed.
        """
        async with ProcFS() as proc:
            proc.create("x", ProcOps(), mode=0o4755)
            with unchanged(proc), pytest.raises(ValueError, match=r"id is 0 to 4294967294, not -2"):
                proc.chown("x", uid, gid)

    @pytest.mark.parametrize(
        ("before", "after"), [(0o6777, 0o777), (0o6767, 0o2767), (0o4644, 0o644), (0o2745, 0o2745)]
    )
    async def test_a_file_that_changes_hands_is_not_setuid(self, before: int, after: int) -> None:
        """
        setuid goes, and so does setgid where the group may execute.
        """
        async with ProcFS() as proc:
            entry = proc.create("x", ProcOps(), mode=before)
            directory = proc.mkdir("d", before)
            proc.chown("x", OWNER, GROUP)
            proc.chown("d", OWNER, GROUP)
            assert (entry.mode, directory.mode) == (after, before)
