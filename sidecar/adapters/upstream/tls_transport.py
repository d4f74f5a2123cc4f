"""TLS between a TCP connection and the protocol that speaks HTTP, which sees an ordinary transport.

The loop's own TLS transport hides what an HTTP client has to know, and loses what it must not lose. So this one keeps
these rules:

- `eof_received` means close_notify and nothing else does. A FIN without it, which anybody on the way can send, loses
  the connection with `Truncated` (RFC 9112 §9.8, RFC 8446 §6.1).
- Pausing stops the reading of the TCP connection. All that was read is decrypted and passed on at once, so nothing is
  left behind when the connection ends meanwhile.
- Each direction ends on its own, as on TCP (RFC 8446 §6.1). Before TLS 1.3, who hears close_notify has to close at
  once (RFC 5246 §7.2.1).
- When writing fails, what had arrived before is still read and passed on.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from sidecar.adapters.upstream.tcp import read_unread

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORD = 16 * 1024
"""The most octets that a record holds (RFC 8446 §5.1): each read takes one."""
IN_HANDSHAKE = "the connection ended in the handshake"


class Truncated(ConnectionError):
    """The connection ended without close_notify: whether more should have come cannot be known."""


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """A client's transport for `protocol`, and the protocol of the TCP connection beneath it.

    `protocol` hears of the connection when the handshake is over; so does who awaits `ready`.
    """

    __slots__ = (
        "_bye_heard",
        "_bye_said",
        "_closing",
        "_error",
        "_established",
        "_incoming",
        "_outgoing",
        "_protocol",
        "_tcp",
        "_tls",
        "ready",
    )

    _tcp: asyncio.Transport

    def __init__(self, protocol: asyncio.Protocol, context: ssl.SSLContext, server_name: str | None) -> None:
        super().__init__()
        self._protocol: asyncio.Protocol | None = protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._established = self._closing = self._bye_heard = self._bye_said = False
        self._error: Exception | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def abandon(self) -> None:
        """Nobody wants the connection any more: it ends, and nobody hears of it."""
        self._protocol = None
        if self.ready.done() and not self.ready.cancelled():
            self.ready.exception()
        self.ready.cancel()
        if hasattr(self, "_tcp"):
            self.abort()
            # A transport whose end is not told keeps its protocol.
            del self._tcp

    # The transport that `protocol` uses

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if data and not self._closing:
            self._encrypt(data)
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send all in as few records as possible."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Say close_notify, and go on reading."""
        if not self._closing:
            self._say_bye()

    def close(self) -> None:
        """Say close_notify and close; the peer's need not be waited for (RFC 8446 §6.1)."""
        if self._closing:
            return
        self._closing = True
        self._say_bye()
        self._tcp.close()

    def abort(self) -> None:
        """Close without a word."""
        self._closing = True
        self._tcp.abort()

    def is_closing(self) -> bool:
        """Whether it is closing or closed."""
        return self._closing or self._tcp.is_closing()

    def pause_reading(self) -> None:
        """Stop reading."""
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._tcp.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Octets that wait to be sent."""
        return self._tcp.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the TCP transport says, and the `ssl_object`; no `socket`, since its octets are not the protocol's."""
        if name == "ssl_object":
            return self._tls
        return default if name == "socket" else self._tcp.get_extra_info(name, default)

    # The protocol of the TCP connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands."""
        self._tcp = cast("asyncio.Transport", transport)
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Encrypted octets."""
        self._incoming.write(data)
        if self._established:
            self._read()
        else:
            self._shake_hands()

    def eof_received(self) -> bool:
        """A FIN. It means nothing after close_notify; before it, it could be anybody's."""
        if not self._bye_heard:
            self._break(Truncated("no close_notify came") if self._established else ConnectionResetError(IN_HANDSHAKE))
        return self._bye_heard

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        if exc is not None and self._established and not self._bye_heard and self._protocol is not None:
            read_unread(self._tcp, exc, self.data_received)
        self._closing = True
        protocol, self._protocol = self._protocol, None
        error = self._error or exc
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError(IN_HANDSHAKE))
        elif self._established and protocol is not None:
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        """The peer takes no more for now."""
        if self._established and self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """The peer takes more again."""
        if self._established and self._protocol is not None:
            self._protocol.resume_writing()

    # TLS

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._error = error
            self._closing = True
            self._flush()  # the alert that tells the peer why
            self._tcp.close()
        else:
            self._flush()
            if self._protocol is not None and not self.ready.done():
                self._established = True
                self._protocol.connection_made(self)
                self.ready.set_result(None)
                self._read()

    def _read(self) -> None:
        """Pass on what is whole."""
        if not self._readable():
            return
        pieces: list[bytes] = []
        error = self._decrypt(pieces)
        if self._outgoing.pending:
            self._flush()
        if pieces and self._protocol is not None:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if error is not None:
            self._break(error)
        elif self._bye_heard:
            self._end()

    def _readable(self) -> bool:
        return not self._bye_heard and not self._closing

    def _decrypt(self, pieces: list[bytes]) -> ssl.SSLError | None:
        try:
            while self._incoming.pending and not self._bye_heard:
                piece = self._tls.read(RECORD)
                if piece:
                    pieces.append(piece)
                else:
                    self._bye_heard = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._bye_heard = True
        except ssl.SSLError as error:
            return error
        return None

    def _end(self) -> None:
        """close_notify has come."""
        if self._closing:
            return
        keep = self._protocol is not None and self._protocol.eof_received()
        if not keep or self._tls.version() != "TLSv1.3":
            self.close()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        size = len(data)
        try:
            sent = self._tls.write(data)
            while sent < size:
                sent += self._tls.write(memoryview(data)[sent:])
        except ssl.SSLError as error:
            self._break(error)

    def _say_bye(self) -> None:
        if not self._bye_said and self._established:
            self._bye_said = True
            with suppress(ssl.SSLError):  # the peer's own has not come yet
                self._tls.unwrap()
            self._flush()

    def _flush(self) -> None:
        self._tcp.write(self._outgoing.read())

    def _break(self, error: Exception) -> None:
        """The connection is of no use any more."""
        if self._error is None:
            self._error = error
        self.abort()
