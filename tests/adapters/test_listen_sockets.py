"""Who may take an address, and who removes a socket file."""

from __future__ import annotations

import errno
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.exclusive import FileLock, ListenSockets, listen_sockets
from sidecar.core.config import Address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANY_PORT = Address("127.0.0.1", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.sock"


def at(path: Path) -> Address:
    return Address(unix_path=str(path))


def bound(*addresses: Address) -> ListenSockets:
    sockets = ListenSockets(addresses)
    sockets.bind()
    return sockets


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def leave_stale(path: Path, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(socket.AF_UNIX, kind) as left:
        left.bind(str(path))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture(params=[socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET], ids=["stream", "dgram", "seq"])
def live(request: pytest.FixtureRequest, path: Path) -> Iterator[Path]:
    """A socket of somebody else who is there."""
    with socket.socket(socket.AF_UNIX, request.param) as theirs:
        theirs.bind(str(path))
        if request.param != socket.SOCK_DGRAM:
            theirs.listen()
        yield path


def test_clients_are_queued_as_soon_as_an_address_is_taken(path: Path) -> None:
    sockets = bound(ANY_PORT, at(path), Address("::1", 0))
    try:
        tcp, unix, tcp6 = sockets.addresses
        assert unix == f"unix:{path}"
        for where in (tcp, tcp6):
            assert not isinstance(where, str)
            socket.create_connection(where).close()
        assert accepts(path)
    finally:
        sockets.close()
    assert sockets.addresses == []
    assert not path.exists()


def test_a_name_is_resolved() -> None:
    sockets = bound(Address("localhost", 0))
    assert sockets.addresses[0][0] in {"127.0.0.1", "::1"}
    sockets.close()


def test_a_live_socket_is_an_error_and_stays(live: Path) -> None:
    before = live.stat()

    with pytest.raises(OSError, match=f"cannot listen on unix:{live}: Address already in use"):
        bound(at(live))

    assert os.path.samestat(live.stat(), before)
    assert names(live.parent) == ["x.sock"]


def test_a_server_that_is_behind_with_accepting_is_alive(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as waiting:
        theirs.bind(str(path))
        theirs.listen(0)
        waiting.connect(str(path))

        with pytest.raises(OSError, match="Address already in use"):
            bound(at(path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_stale_socket_file_is_replaced(path: Path, kind: int) -> None:
    leave_stale(path, kind)

    sockets = bound(at(path))

    assert accepts(path)
    sockets.close()
    assert names(path.parent) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link", "link to a stale socket", "pipe"])
def test_what_is_no_socket_is_never_removed(path: Path, tmp_path: Path, kind: str) -> None:
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(tmp_path / "nothing")
        case _:
            leave_stale(tmp_path / "other")
            path.symlink_to(tmp_path / "other")
    before = path.lstat()

    with pytest.raises(OSError, match=f"cannot listen on unix:{path}: what is there is no socket"):
        bound(at(path))

    assert os.path.samestat(path.lstat(), before)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_the_umask_says_who_may_connect(path: Path, umask: int) -> None:
    leave_stale(path)
    before = os.umask(umask)
    try:
        sockets = bound(at(path))
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    sockets.close()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_of_several_addresses_of_which_one_is_taken_none_is_kept(tmp_path: Path, position: int) -> None:
    paths = [tmp_path / f"{number}.sock" for number in range(3)]
    theirs = bound(at(paths[position]))
    leave_stale(paths[position - 1])

    with pytest.raises(OSError, match=f"unix:{paths[position]}: Address already in use"):
        bound(*map(at, paths))

    assert accepts(paths[position])
    # Addresses after the taken one were not looked at, so a stale file there is still there.
    assert set(names(tmp_path)) - {paths[position - 1].name} == {paths[position].name}
    theirs.close()


def test_an_address_that_is_given_twice_is_taken(path: Path) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        bound(at(path), at(path))
    assert not path.exists()


@pytest.mark.parametrize("address", [Address("192.0.2.1", 1), Address("nowhere.invalid", 1), at("/no/folder/x.sock")])  # type: ignore[arg-type]
def test_an_address_that_cannot_be_had_is_named(address: Address) -> None:
    with pytest.raises(OSError, match=r"^\[Errno -?\d+\] cannot listen on ") as told:
        bound(address)
    assert str(address) in str(told.value)


def test_two_may_not_bind_one_port_before_either_serves() -> None:
    first = bound(ANY_PORT)
    (address,) = first.addresses
    assert not isinstance(address, str)
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{address[1]}: Address already in use"):
        bound(Address(*address))
    first.close()


def test_the_file_of_a_successor_stays(path: Path) -> None:
    ours = bound(at(path))
    ours.remove_files()
    theirs = bound(at(path))

    ours.remove_files()
    ours.close()

    assert accepts(path)
    theirs.close()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["socket", "file", "nothing"])
def test_a_file_that_was_replaced_is_not_ours_any_more(path: Path, kind: str) -> None:
    """The kernel gives the inode number of a file that is gone to the next one, but not while our socket is open."""
    ours = bound(at(path))
    path.unlink()
    if kind == "socket":
        leave_stale(path)
    elif kind == "file":
        path.write_text("precious")

    ours.close()

    assert path.exists() == (kind != "nothing")


def test_a_folder_that_is_gone_does_not_stop_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    ours = bound(at(folder / "x.sock"))
    (folder / "x.sock").unlink()
    folder.rmdir()

    ours.close()


def test_of_many_who_see_a_stale_file_one_gets_the_address(path: Path) -> None:
    refusals: set[int | None] = set()

    def start(together: Barrier) -> ListenSockets | None:
        sockets = ListenSockets([at(path)])
        together.wait(10)
        try:
            sockets.bind()
        except OSError as error:
            refusals.add(error.errno)
            return None
        return sockets

    with ThreadPoolExecutor(8) as pool:
        for _ in range(25):
            if not path.exists():
                leave_stale(path)
            together = Barrier(8)
            won = [each for each in pool.map(start, [together] * 8) if each is not None]
            assert len(won) == 1
            assert accepts(path)
            won[0].close()
    assert refusals == {errno.EADDRINUSE}
    assert names(path.parent) == []


def test_a_process_that_never_lets_go_of_the_path_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen_sockets, "LOCK_PATIENCE", 0.02)
    ours = bound(at(path))
    stuck = FileLock(path.with_name("x.sock.lock"))
    assert stuck.acquire()

    with pytest.raises(OSError, match="another process is about to take or leave it"):
        bound(at(path))
    ours.close()

    assert path.exists(), "a stale file, which the next start replaces"
    stuck.release()
    bound(at(path)).close()
    assert not path.exists()
