"""What the flags of an open ask for."""

import errno
import os

import pytest

from aiopde import ProcFS, ProcOps
from aiopde._credentials import MAY_READ, MAY_WRITE
from aiopde._flags import check_flags, readable, wanted, writable

from .helpers import refused

NEITHER = os.O_ACCMODE
BOTH = MAY_READ | MAY_WRITE


@pytest.mark.parametrize(
    ("flags", "may", "needs"),
    [
        (os.O_RDONLY, (True, False), MAY_READ),
        (os.O_WRONLY, (False, True), MAY_WRITE),
        (os.O_RDWR, (True, True), BOTH),
        (NEITHER, (False, False), BOTH),
        (os.O_RDONLY | os.O_TRUNC, (True, False), BOTH),
        (os.O_WRONLY | os.O_APPEND, (False, True), MAY_WRITE),
    ],
)
def test_access_modes(flags: int, may: tuple[bool, bool], needs: int) -> None:
    """
    The mode says what may be done; the fourth needs both rights and allows nothing (ioctl only).
    """
    assert (readable(flags), writable(flags)) == may
    assert wanted(flags) == needs


def test_a_mode_is_none() -> None:
    """
    Who passes the mode of Python's own open() is told what is wanted.
    """
    with pytest.raises(TypeError, match=r"^flags are os.O_.* 'r': open\(\) has no mode$"):
        check_flags("r")


@pytest.mark.parametrize("flags", [-1, 1 << 31, 1 << 32, -(1 << 70)])
async def test_more_than_an_int_of_c_has(flags: int) -> None:
    """
    What would meet the marks that an open file keeps above its flags is refused: with them, a
    removal waited for ever for a release that nobody had begun.
    """
    async with ProcFS() as proc:
        proc.create("x", ProcOps())
        with refused(errno.EINVAL):
            await proc.open("x", flags)
