"""The upstream's half of a switched protocol (RFC 9110 §7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sidecar.pipeline.errors import ConnectionLost
from sidecar.pipeline.message import BodyEnd, Duplex
from sidecar.pipeline.streams import StreamBody, Valve

if TYPE_CHECKING:
    import asyncio


class Connection(Valve, Protocol):
    """What a tunnel needs of its connection."""

    transport: asyncio.Transport

    async def writable(self) -> None:
        """Wait until the write buffer has room."""

    def tunnel_closed(self, tunnel: TunnelBody) -> None:
        """Nobody uses the tunnel any more. Called once."""


class TunnelBody(StreamBody, Duplex):
    """The upstream's half of a switched protocol. Each direction ends on its own; `close` ends what is left of both."""

    __slots__ = ("_closed", "_connection", "whole")

    def __init__(self, connection: Connection) -> None:
        super().__init__(None, connection)
        self._connection = connection
        self._closed = False
        self.whole = False
        """Whether the client has said all that it had to say."""

    async def send(self, data: bytes) -> None:
        """Send to the upstream, and wait until it takes more. Raises ConnectionLost when it cannot."""
        connection = self._connection
        if connection.transport.is_closing():
            raise ConnectionLost("the upstream closed the tunnel")
        connection.transport.write(data)
        await connection.writable()

    def send_eof(self) -> None:
        """The client has said all: say so to the upstream, which may go on."""
        self.whole = True
        transport = self._connection.transport
        if not transport.is_closing():
            transport.write_eof()

    def close(self, end: BodyEnd = BodyEnd.ABANDONED) -> None:
        """Nobody reads the upstream's half any more: the tunnel ends in both directions. Idempotent."""
        super().close(end)
        if not self._closed:
            self._closed = True
            self._connection.tunnel_closed(self)
