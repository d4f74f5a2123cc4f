"""The addresses that a listener takes, and the socket files that it makes and removes.

A socket file outlives a process that was killed, so whoever finds one connects to it: if nobody accepts there it is
stale and is replaced; every other answer means that it is in use. Looking, removing and binding happen under a lock
beside the file, together with listening: a socket that is bound and does not listen yet looks stale.

A process removes only the file that it made itself: the one with the device and inode of its own socket. This is
compared while that socket is open, since the kernel gives the number of a closed one to the next file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.exclusive.file_lock import FileLock
from sidecar.core.address import unix_text

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

    from sidecar.core.config import Address

ProtocolFactory: TypeAlias = "Callable[[], asyncio.BaseProtocol]"

BACKLOG = 1024
TURNS = 2
"""Turns of the loop after which it has accepted who was waiting when the first began."""
LOCK_PATIENCE = 1.0
"""Seconds to wait for another process that takes or leaves the same path; that is a matter of microseconds."""


@dataclass(eq=False, slots=True)
class _Bound:
    """One address that is taken. `file` is what `bind` made at the path of a Unix socket."""

    address: Address
    socket: socket.socket
    file: os.stat_result | None = None
    server: asyncio.Server | None = None

    async def serve(self, protocol: ProtocolFactory, tls: ssl.SSLContext | None) -> None:
        """The server gets a descriptor of its own, so that another can take its place while callers wait."""
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if self.address.unix_path else loop.create_server
        self.server = await create(protocol, sock=self.socket.dup(), ssl=tls, backlog=BACKLOG)

    def end_server(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    def close(self) -> None:
        self.remove_file()
        self.end_server()
        self.socket.close()

    def remove_file(self) -> None:
        made, self.file = self.file, None
        if made is not None:
            # A folder that is gone or has become read-only; at worst a stale file stays, which the next start replaces.
            with contextlib.suppress(OSError):
                _remove(Path(self.address.unix_path), made)


class ListenSockets:
    """The sockets of one listener, on one or more addresses, and who serves on them."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._wanted = tuple(addresses)
        self._bound: list[_Bound] = []

    @property
    def sockets(self) -> list[socket.socket]:
        """What is bound; it listens, so that clients wait until somebody accepts them."""
        return [bound.socket for bound in self._bound]

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """Host and port of each address that is bound, or `unix:` and a path."""
        return [_name(bound) for bound in self.sockets]

    def bind(self) -> None:
        """Take all addresses. Raises OSError with the address in its message, and then keeps none. Blocks shortly."""
        self._take(())

    def successor(self, addresses: Iterable[Address]) -> ListenSockets:
        """The sockets of a listener that follows on `addresses`: those that are bound here too are shared, and go on
        serving. Raises OSError, and then nothing has changed.

        Then this one is to `retire`, or the other to be closed but for what this one has.
        """
        following = ListenSockets(addresses)
        following._take(self._bound)
        return following

    async def serve(self, protocol: ProtocolFactory, tls: ssl.SSLContext | None = None) -> None:
        """Accept callers on every socket that nobody serves yet."""
        for bound in self._bound:
            if bound.server is None:
                await bound.serve(protocol, tls)

    def end_servers(self) -> None:
        """Accept nobody until `serve` is called again; who calls waits, and who was accepted stays connected."""
        for bound in self._bound:
            bound.end_server()

    async def retire(self, following: ListenSockets) -> None:
        """Give up what `following` does not have. Who has called there is accepted first: the loop has its turns."""
        if any(bound not in following.sockets for bound in self.sockets):
            for _ in range(TURNS):
                await asyncio.sleep(0)
        self.close(but=following)

    def remove_files(self) -> None:
        """Remove the socket files that `bind` made, unless another process has replaced them. Before the sockets are
        closed, by whomever.
        """
        for bound in self._bound:
            bound.remove_file()

    def close(self, but: ListenSockets | None = None) -> None:
        """Give the addresses up, with their socket files, except those that another one has too."""
        kept = () if but is None else but.sockets
        for bound in self._bound:
            if bound.socket not in kept:
                bound.close()
        self._bound.clear()

    def _take(self, shared: Iterable[_Bound]) -> None:
        before = list(shared)
        free = list(before)
        try:
            for address in self._wanted:
                known = next((bound for bound in free if bound.address == address), None)
                if known is None:
                    self._bind(address, before)
                else:
                    free.remove(known)
                    self._bound.append(known)
        except BaseException:
            for bound in self._bound:
                if bound not in before:
                    bound.close()
            self._bound.clear()
            raise

    def _bind(self, address: Address, before: Iterable[_Bound]) -> None:
        try:
            if address.unix_path:
                self._bind_unix(address)
            else:
                self._bind_tcp(address, before)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from error

    def _bind_tcp(self, address: Address, before: Iterable[_Bound]) -> None:
        family, where = _resolved(address)
        bound = self._open(address, family)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(where)
            # At once: with SO_REUSEADDR two processes may bind the same port, and only listening tells them apart.
            bound.listen(BACKLOG)
        except OSError as error:
            rivals = [one.socket for one in before if one.address.port == address.port != 0]
            if error.errno != errno.EADDRINUSE or not rivals:
                raise
            # Such as 127.0.0.1:80 before 0.0.0.0:80: for a moment both must listen, or callers would be refused.
            for each in (*rivals, bound):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(where)
            bound.listen(BACKLOG)

    def _bind_unix(self, address: Address) -> None:
        path = Path(address.unix_path)
        with _locked(path):
            _remove_stale(path)
            bound = self._open(address, socket.AF_UNIX)
            bound.bind(str(path))
            self._bound[-1].file = path.lstat()
            bound.listen(BACKLOG)

    def _open(self, address: Address, family: int) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_STREAM)
        self._bound.append(_Bound(address, opened))
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


def _remove(path: Path, made: os.stat_result) -> None:
    with _locked(path):
        if os.path.samestat(made, path.lstat()):
            path.unlink()


def _name(bound: socket.socket) -> tuple[str, int] | str:
    name = bound.getsockname()
    return unix_text(name) if isinstance(name, str) else (name[0], name[1])
