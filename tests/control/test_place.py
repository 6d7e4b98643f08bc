"""Where the socket is: in nobody else's reach, and never two kernels at one place."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from errno import EADDRINUSE, EAGAIN, EEXIST, ENAMETOOLONG, ENOENT, EPERM
from pathlib import Path

import pytest

from aiopde.control import default_socket
from aiopde.control._place import (
    Peer,
    check_private,
    listen,
    listening,
    make_private,
    peer_of,
    refuse_stranger,
)
from tests.helpers import refused


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


class TestDefault:
    def test_in_the_runtime_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Where the system gives each user a private folder, it is in there.
        """
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        assert default_socket() == f"{tmp_path}/aiopde/control.sock"

    @pytest.mark.parametrize("value", ["", "relative", "/does/not/exist"])
    def test_elsewhere_in_tmp(self, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without one, or with one that is not there, it is in a folder of this user's in /tmp.
        """
        monkeypatch.setenv("XDG_RUNTIME_DIR", value)
        assert default_socket() == f"/tmp/aiopde-{os.geteuid()}/control.sock"  # noqa: S108


class TestPrivateFolder:
    def test_it_is_made(self, path: str) -> None:
        """
        Nobody else may enter it, whatever the umask; to find it there again is fine.
        """
        make_private(path)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        make_private(path)

    @pytest.mark.parametrize("mode", [0o710, 0o707, 0o777, 0o750])
    def test_others_may_not_enter(self, path: str, mode: int) -> None:
        """
        A folder that others may look into, or change, is refused.
        """
        os.mkdir(path)
        os.chmod(path, mode)
        with refused(EPERM):
            make_private(path)

    def test_it_is_ours(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A folder that somebody else made under this name is refused.
        """
        os.mkdir(path, 0o700)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with refused(EPERM) as caught:
            check_private(path)
        assert f"uid {os.getuid()}" in str(caught.value)

    def test_a_link_leads_nowhere(self, path: str, tmp_path: Path) -> None:
        """
        A symlink is no folder, even one that leads to a private folder: it can be moved.
        """
        make_private(f"{tmp_path}/real")
        os.symlink(f"{tmp_path}/real", path)
        with refused(EPERM):
            make_private(path)

    def test_none(self, path: str) -> None:
        """
        To look where nothing is says so.
        """
        with refused(ENOENT):
            check_private(path)


class TestListening:
    def test_nobody_else_may_connect(self, path: str) -> None:
        """
        The socket has the mode 0600 from the first moment, and the umask is as before.
        """
        before = os.umask(0o000)
        try:
            with listen(path):
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
                assert os.umask(0o000) == 0o000
        finally:
            os.umask(before)

    def test_it_is_gone_afterwards(self, path: str) -> None:
        """
        After the block there is no socket.
        """
        with listening(path):
            assert os.path.exists(path)
        assert not os.path.exists(path)

    @pytest.mark.parametrize("replace", [False, True])
    def test_nobody_elses_is_removed(self, path: str, replace: bool) -> None:
        """
        What was put in its place meanwhile stays, and so does nothing.
        """
        with listening(path):
            os.unlink(path)
            if replace:
                Path(path).write_text("mine")
        assert os.path.exists(path) == replace

    def test_a_stale_one_is_replaced(self, path: str) -> None:
        """
        A socket that a killed kernel has left does not keep the next one away.
        """
        listen(path).close()
        assert os.path.exists(path)
        with listen(path) as listener:
            assert connects(path)
            listener.accept()[0].close()

    def test_a_live_one_is_not(self, path: str) -> None:
        """
        Where a kernel listens no other can, and the first one goes on.
        """
        with listen(path):
            with refused(EADDRINUSE) as caught:
                listen(path)
            assert "a kernel is running there" in str(caught.value)
            assert connects(path)

    def test_nor_one_that_is_busy(self, path: str) -> None:
        """
        A kernel that has not the time to accept is not taken for a dead one.
        """
        with socket.socket(socket.AF_UNIX) as busy:
            busy.bind(path)
            busy.listen(0)
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(path)
            with refused(EADDRINUSE):
                listen(path)
            for each in waiting:
                each.close()

    def test_what_is_no_socket_stays(self, path: str) -> None:
        """
        A file that happens to be there is not removed.
        """
        Path(path).write_text("mine")
        with refused(EEXIST):
            listen(path)
        assert Path(path).read_text() == "mine"

    def test_only_one_starts_at_a_time(self, path: str) -> None:
        """
        Of two that find a stale socket, the second cannot remove the first one's new one.
        """
        listen(path).close()
        outcomes: list[str] = []
        barrier = threading.Barrier(8)

        def start() -> None:
            barrier.wait()
            try:
                listeners.append(listen(path))
                outcomes.append("listens")
            except OSError as exc:
                outcomes.append("refused" if exc.errno in {EADDRINUSE, EAGAIN} else repr(exc))

        listeners: list[socket.socket] = []
        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for listener in listeners:
            listener.close()
        assert sorted(outcomes) == ["listens"] + ["refused"] * 7

    def test_a_start_under_way_is_told(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Who comes while another one makes sure of the place is asked to try again.
        """
        from aiopde.control import _place

        bind = _place._bind
        errors: list[OSError] = []

        def bind_late(place: str) -> socket.socket:
            with refused(EAGAIN) as caught:
                listen(place)
            errors.append(caught.value)
            return bind(place)

        monkeypatch.setattr(_place, "_bind", bind_late)
        listen(path).close()
        assert "just starting" in str(errors[0])

    def test_a_path_too_long_is_told(self, tmp_path: Path) -> None:
        """
        The operating system has room for 107 bytes; that is said, with the path.
        """
        with refused(ENAMETOOLONG) as caught:
            listen(str(tmp_path / ("x" * 200)))
        assert "107" in str(caught.value)

    def test_nowhere(self, tmp_path: Path) -> None:
        """
        A folder that is not there is an error of the operating system's, about that folder.
        """
        with refused(ENOENT):
            listen(f"{tmp_path}/nowhere/s")

    def test_a_bind_that_fails_leaves_nothing(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The umask is as before, and no socket is left open.
        """
        os.umask(before := os.umask(0o022))

        class Failing(socket.socket):
            def bind(self, address: object, /) -> None:
                raise OSError(EPERM, "no", address)

        monkeypatch.setattr(socket, "socket", Failing)
        with refused(EPERM):
            listen(path)
        assert os.umask(before) == before


def connects(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


class TestPeer:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            yield ours, theirs

    def test_who_it_is(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """
        The operating system tells process, user and group of the other end.
        """
        assert peer_of(pair[0]) == Peer(os.getpid(), os.geteuid(), os.getegid())

    @pytest.mark.parametrize(
        ("user", "peer", "allowed"),
        [(1000, 1000, True), (1000, 0, True), (1000, 1001, False), (0, 0, True), (0, 1, False)],
    )
    def test_who_is_let_in(
        self, user: int, peer: int, allowed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        The user himself and root; nobody else, not even by root.
        """
        monkeypatch.setattr(os, "geteuid", lambda: user)
        if allowed:
            refuse_stranger(Peer(1, peer, peer))
            return
        with refused(EPERM):
            refuse_stranger(Peer(1, peer, peer))
