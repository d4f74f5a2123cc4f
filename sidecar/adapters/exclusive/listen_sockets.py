"""The addresses that a listener takes, and the socket files that it makes and removes.

A socket file outlives a process that was killed, so whoever finds one connects to it: if nobody accepts there it is
stale and is replaced; every other answer means that it is in use. Looking, removing and binding happen under a lock
beside the file, together with listening: a socket that is bound and does not listen yet looks stale.

A process removes only the file that it made itself: the one with the device and inode of its own socket. This is
compared while that socket is open, since the kernel gives the number of a closed one to the next file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.adapters.exclusive.file_lock import FileLock
from sidecar.core.address import unix_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.core.config import Address

BACKLOG = 1024
LOCK_PATIENCE = 1.0
"""Seconds to wait for another process that takes or leaves the same path; that is a matter of microseconds."""


@dataclass(frozen=True, slots=True)
class _SocketFile:
    path: Path
    made: os.stat_result


class ListenSockets:
    """The sockets of one listener, on one or more addresses."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._wanted = tuple(addresses)
        self._files: list[_SocketFile] = []
        self.sockets: list[socket.socket] = []
        """What is bound; it listens, so that clients wait until somebody accepts them."""

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Host and port of each address that is bound, or `unix:` and a path."""
        return [_name(bound) for bound in self.sockets]

    def bind(self) -> None:
        """Take all addresses. Raises OSError with the address in its message, and then keeps none. Blocks shortly."""
        try:
            for address in self._wanted:
                self._bind(address)
        except BaseException:
            self.close()
            raise

    def remove_files(self) -> None:
        """Remove the socket files that `bind` made, unless another process has replaced them. Before the sockets are
        closed, by whomever.
        """
        files, self._files = self._files, []
        for file in files:
            # A folder that is gone or has become read-only; at worst a stale file stays, which the next start replaces.
            with contextlib.suppress(OSError):
                _remove(file)

    def close(self) -> None:
        """Give the addresses up, with their socket files. Sockets that a server has taken over are closed by it."""
        self.remove_files()
        for bound in self.sockets:
            bound.close()
        self.sockets.clear()

    def _bind(self, address: Address) -> None:
        try:
            if address.unix_path:
                self._bind_unix(Path(address.unix_path))
            else:
                self._bind_tcp(address)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from error

    def _bind_tcp(self, address: Address) -> None:
        family, where = _resolved(address)
        bound = self._open(family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        # At once: with SO_REUSEADDR two processes may bind the same port, and only listening tells them apart.
        bound.listen(BACKLOG)

    def _bind_unix(self, path: Path) -> None:
        with _locked(path):
            _remove_stale(path)
            bound = self._open(socket.AF_UNIX)
            bound.bind(str(path))
            self._files.append(_SocketFile(path, path.lstat()))
            bound.listen(BACKLOG)

    def _open(self, family: int) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_STREAM)
        self.sockets.append(opened)
        opened.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        return opened


def _resolved(address: Address) -> tuple[int, tuple[object, ...]]:
    """Family and socket address; of a name that has several, an IPv4 one."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, where


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else takes or leaves `path` meanwhile."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    if not lock.acquire(LOCK_PATIENCE):
        raise OSError(errno.EADDRINUSE, "another process is about to take or leave it")
    try:
        yield
    finally:
        lock.release()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "what is there is no socket")
    if _nobody_accepts(path):
        path.unlink()


def _nobody_accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A server that is behind with accepting would otherwise make this wait.
        probe.setblocking(False)  # noqa: FBT003 - the socket module's own signature
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False  # a full backlog, another type of socket, no permission: somebody's
    return False


def _remove(file: _SocketFile) -> None:
    with _locked(file.path):
        if os.path.samestat(file.made, file.path.lstat()):
            file.path.unlink()


def _name(bound: socket.socket) -> tuple[str, int] | str:
    name = bound.getsockname()
    return unix_text(name) if isinstance(name, str) else (name[0], name[1])
