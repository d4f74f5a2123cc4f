"""A switched protocol: octets between a client and an upstream, uninterpreted, in both directions.

What belongs here: passing them on, and who may still speak when the other has said all. Each side may end its direction
on its own (a half-close). The tunnel is over when both have, when one of them is gone, or when nothing passed for
`proxy.limits.tunnel_idle`; over TLS a side cannot be ended alone, so there the first end ends both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.adapters.server.client_deadlines import Awaits
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.streams import StreamBody

if TYPE_CHECKING:
    from sidecar.adapters.server.connection import ClientConnection
    from sidecar.pipeline.message import Duplex


class ClientTunnel:
    """The client's end of a tunnel.

    `half_closed`: the upstream has said all, and the client was told so while it may go on.
    """

    __slots__ = ("_connection", "_said", "half_closed")

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._said = StreamBody(None, connection)
        """What the client says."""
        self.half_closed = False

    def feed(self, data: bytes) -> None:
        """The client has said something."""
        self.used()
        self._said.feed(data)

    def feed_end(self, error: ProxyError | None = None) -> None:
        """The client has said all, or is gone for the reason `error`."""
        self._said.feed_end(error)

    def used(self) -> None:
        """Something passed: the idle time begins anew."""
        connection = self._connection
        connection.deadlines.wait_for(Awaits.TUNNEL, connection.context.limits.tunnel_idle)

    async def relay(self, duplex: Duplex) -> None:
        """Pass octets on until the tunnel is over. Raises ProxyError when the upstream breaks off."""
        connection = self._connection
        stats = connection.context.stats
        stats.tunnels += 1
        sender = connection.context.spawn(self._pass_up(duplex), name="tunnel")
        try:
            while piece := await duplex.read():
                self.used()
                connection.transport.write(piece)
                if connection.drained is not None:
                    await connection.drained
            self._end_writing()
            if self.half_closed:
                await sender
        finally:
            stats.tunnels -= 1
            sender.cancel()
            self._said.close()

    async def _pass_up(self, duplex: Duplex) -> None:
        try:
            while piece := await self._said.read():
                await duplex.send(piece)
            duplex.send_eof()
        except ProxyError:
            # One of the two is gone. If it is the upstream, what it said before may still have to be read.
            self._said.close()

    def _end_writing(self) -> None:
        """The upstream has said all: tell the client, unless that would end the other direction, too."""
        transport = self._connection.transport
        self.half_closed = transport.can_write_eof()
        if self.half_closed and not transport.is_closing():
            transport.write_eof()
