"""Entries of a kind of their own: the root, files whose calls may be killed, mount points."""

from errno import EINVAL, ENOENT, EPERM

from aiopde import ProcFS, ProcOps
from tests.helpers import refused, unchanged


async def test_mount_point() -> None:
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


async def test_the_root_is_its_own_parent() -> None:
    """
    Its name is the mount point, whatever that is; it belongs to the tree, and cannot be removed.
    """
    async with ProcFS(mountpoint="/x/y") as proc:
        assert (proc.root.parent, proc.root.path, proc.root._tree) == (proc.root, "/x/y", proc)
        with refused(EINVAL):
            await proc.root.remove()
        assert not proc.root.removing


async def test_killable_is_said_at_creation() -> None:
    """
    Whether calls may be killed is fixed, and seen from outside.
    """
    async with ProcFS() as proc:
        assert proc.create("x", ProcOps(), killable=True).killable
        assert not proc.create("y", ProcOps()).killable
        assert not proc.mkdir("d").killable
