"""An origin served by plain functions on blocking sockets, for what an asyncio transport does not let a test do."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from tests.support.messages import take_head
from tests.support.wire import PATIENCE, RESET_ON_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable


class Peer:
    """A connection of the sidecar."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def recv(self) -> bytes:
        """Some octets; b"" at the end."""
        data = self.socket.recv(65536)
        self.received += data
        return data

    def say_bye(self) -> None:
        """End this side in good order, and no more than this side."""
        self.socket.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Send a FIN, without a word of TLS."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST, which ends the function that serves it, too."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        raise ConnectionAbortedError

    def read_head(self) -> None:
        """Read up to the end of a request's head, a single octet at a time, so that what follows stays unread."""
        while take_head(self.received) is None:
            data = self.socket.recv(1)
            if not data:
                raise ConnectionResetError
            self.received += data

    def read_to_end(self) -> bytes:
        """All that comes, up to the end of the other side."""
        start = len(self.received)
        while self.recv():
            pass
        return self.received[start:]


class TlsPeer(Peer):
    """The same over TLS, where each message of TLS is under control."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.heard_bye = False
        while not self._shook_hands():
            self._feed()

    def _shook_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._flush()
        return True

    def send(self, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            sent += self._tls.write(memoryview(data)[sent:])
        self._flush()

    def recv(self) -> bytes:
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                if not self._feed():
                    return b""
                continue
            except ssl.SSLZeroReturnError:
                data = b""
            self.heard_bye = not data
            self.received += data
            return data

    def read_head(self) -> None:
        while take_head(self.received) is None:
            if not self.recv():
                raise ConnectionResetError

    def say_bye(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self._outgoing.read())

    def _feed(self) -> bool:
        data = self.socket.recv(65536)
        self._incoming.write(data)
        return bool(data)


Serve: TypeAlias = "Callable[[Peer], None]"


class BlockingOrigin:
    """Each connection is served by `serve` in a thread of its own, and closed when that returns."""

    def __init__(self, serve: Serve, *, tls: ssl.SSLContext | None = None, unix_path: str = "") -> None:
        self._serve = serve
        self._tls = tls
        if unix_path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(unix_path)
            self._listener.listen(128)
            self.url = f"unix:{unix_path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
            port = self._listener.getsockname()[1]
            self.url = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.failures: list[BaseException] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            if connection.family != socket.AF_UNIX:
                # A reset drops what still waits for an acknowledgement before it is sent.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: socket.socket) -> None:
        self._open.add(connection)
        try:
            self._serve(Peer(connection) if self._tls is None else TlsPeer(connection, self._tls))
        except (ConnectionError, ssl.SSLError):
            pass  # the sidecar left, as it may
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failures.append(error)
        finally:
            self._open.discard(connection)
            connection.close()

    async def stop(self) -> None:
        """End all connections; raises what went wrong in one of them."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._acceptor, *self._threads]:
            await asyncio.to_thread(thread.join, PATIENCE)
        if self.failures:
            raise self.failures[0]
