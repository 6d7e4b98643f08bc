"""Credentials: which of the mode bits count for whom."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, strategies as st

from aiopde import ROOT, Credentials
from aiopde._credentials import MAY_EXEC, MAY_READ, MAY_WRITE

OWNER, GROUP = 1000, 100
owner = Credentials(uid=OWNER, gid=1)
both = Credentials(uid=OWNER, gid=GROUP)
member = Credentials(uid=7, gid=GROUP)
also_member = Credentials(uid=7, gid=1, groups=frozenset({2, GROUP}))
stranger = Credentials(uid=7, gid=1)

modes = st.integers(0, 0o7777)
masks = st.integers(0, MAY_READ | MAY_WRITE | MAY_EXEC)


class TestIdentity:
    def test_is_the_superuser_by_default(self) -> None:
        """
        Who says nothing is root, in root's group and no other.
        """
        assert Credentials() == ROOT == Credentials(uid=0, gid=0, groups=frozenset())

    def test_cannot_change(self) -> None:
        """
        Credentials are a value: equal if they say the same, hashable, and fixed.
        """
        assert hash(Credentials(7, 1)) == hash(stranger)
        with pytest.raises(dataclasses.FrozenInstanceError):
            stranger.uid = 0  # type: ignore[misc]

    def test_any_iterable_of_groups_will_do(self) -> None:
        """
        Groups may come as os.getgroups() returns them; they stay hashable.
        """
        made = Credentials(7, 1, groups=[2, GROUP])  # type: ignore[arg-type]
        assert made == also_member
        assert hash(made) == hash(also_member)

    @pytest.mark.parametrize("name", ["uid", "gid"])
    @pytest.mark.parametrize(
        ("given_", "error"),
        [("root", TypeError), (None, TypeError), (-1, ValueError), (2**32 - 1, ValueError)],
    )
    def test_an_id_is_a_number(self, name: str, given_: Any, error: type[Exception]) -> None:
        """
        A user's name is no id, and what never fits any file would refuse all without a word.
        """
        with pytest.raises(error, match=rf"^{name}, as os.get{name}.* is .*, not {given_!r}$"):
            Credentials(**{name: given_})

    @pytest.mark.parametrize(
        ("groups", "error"),
        [("wheel", TypeError), (10, TypeError), (["wheel"], TypeError), ([-1], ValueError)],
    )
    def test_groups_are_numbers(self, groups: Any, error: type[Exception]) -> None:
        """
        A group's name is no id, and its letters are no list of them.
        """
        with pytest.raises(error, match=r"groups .*, not "):
            Credentials(groups=groups)

    def test_groups(self) -> None:
        """
        One's groups are the primary one and the supplementary ones.
        """
        assert [gid for gid in range(200) if also_member.in_group(gid)] == [1, 2, GROUP]


class TestAllows:
    @given(mode=modes, mask=masks)
    def test_root_may_do_anything(self, mode: int, mask: int) -> None:
        """
        No mode bits stop the superuser.
        """
        assert ROOT.allows(mode, OWNER, GROUP, mask)

    @given(mode=modes, mask=masks)
    @pytest.mark.parametrize(
        ("cred", "shift"),
        [(owner, 6), (both, 6), (member, 3), (also_member, 3), (stranger, 0)],
        ids=["owner", "owner in the group", "primary group", "supplementary group", "others"],
    )
    def test_the_first_class_that_fits_decides(
        self, cred: Credentials, shift: int, mode: int, mask: int
    ) -> None:
        """
        The owner's bits count for the owner alone, then the group's, then the others'.
        """
        bits = mode >> shift & 0o7
        assert cred.allows(mode, OWNER, GROUP, mask) == (bits | mask == bits)

    def test_an_owner_may_be_worse_off_than_everybody(self) -> None:
        """
        Whoever owns a 0066 file is refused what all the others may, as in Linux.
        """
        assert not owner.allows(0o066, OWNER, GROUP, MAY_READ)
        assert member.allows(0o066, OWNER, GROUP, MAY_READ | MAY_WRITE)
        assert stranger.allows(0o066, OWNER, GROUP, MAY_READ | MAY_WRITE)
