"""The upstream's half of a switched protocol (RFC 9110 §7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sidecar.pipeline.errors import ConnectionLost
from sidecar.pipeline.exchange import Duplex
from sidecar.pipeline.streams import StreamBody, Valve

if TYPE_CHECKING:
    import asyncio


class Connection(Valve, Protocol):
    """What a tunnel needs of its connection."""

    transport: asyncio.Transport
    closed: bool

    async def writable(self) -> None:
        """Wait until the write buffer has room."""


class TunnelBody(StreamBody, Duplex):
    """The upstream's half of a switched protocol. It ends when either side closes."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        super().__init__(None, connection)
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """See `Duplex.send`."""
        connection = self._connection
        if connection.closed or connection.transport.is_closing():
            raise ConnectionLost("the upstream closed the tunnel")
        connection.transport.write(data)
        await connection.writable()

    def send_eof(self) -> None:
        """See `Duplex.send_eof`; without half-close (TLS) the whole connection ends when its reader stops."""
        transport = self._connection.transport
        if not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()
