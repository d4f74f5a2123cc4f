"""What a client has sent ahead: requests that wait for their turn, and octets that wait to be parsed.

What belongs here: how much of what has arrived is parsed, and when the client has to wait. Which request begins when is
the connection's business; the grammar is `RequestReader`'s.

At most `proxy.limits.pipeline_depth` requests wait. What comes after them stays unparsed, and reading is paused, so one
client holds no more than that and one read in memory. The same holds while a switch of protocols is not decided: until
then nobody knows whether what follows is HTTP (RFC 9110 §7.8).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sidecar.adapters.server.phases import ClientSide, Phase
from sidecar.adapters.server.request import RequestReader

if TYPE_CHECKING:
    from sidecar.adapters.server.arriving import ArrivingRequest
    from sidecar.adapters.server.connection import ClientConnection
    from sidecar.core.config import ClientLimits
    from sidecar.pipeline.errors import ProxyError

PARSED_AT_ONCE = 16 * 1024
"""Octets parsed at a time, so that one read cannot become thousands of pipelined requests."""


class PipelinedRequests:
    """The requests of one connection that have arrived. `queue`: oldest first; `unparsed`: what came after them."""

    __slots__ = ("_connection", "_depth", "queue", "reader", "unparsed")

    def __init__(self, limits: ClientLimits, connection: ClientConnection) -> None:
        self._connection: ClientConnection | None = connection
        self._depth = limits.pipeline_depth
        self.reader = RequestReader(limits)
        self.queue: deque[ArrivingRequest] = deque()
        self.unparsed = b""

    def close(self, error: ProxyError) -> None:
        """The connection is gone. The two held each other, and only reference counts free at once."""
        self._connection = None
        self.queue.clear()
        self.reader.eof(error)

    def read(self, data: bytes) -> None:
        """Parse what has arrived, as far as may be parsed ahead."""
        connection, reader = self._connection, self.reader
        if connection is None:
            return
        received = len(data)
        while data:
            if self.unparsed or reader.switching or len(self.queue) >= self._depth:
                self._hold(connection, data)
                return
            if len(data) > PARSED_AT_ONCE and not reader.counting:
                part, data = data[:PARSED_AT_ONCE], data[PARSED_AT_ONCE:]
            else:
                part, data = data, b""
            reader.feed(part)
            self.take_arrived(connection)
            if connection.phase is Phase.LINGERING:
                return
        connection.deadlines.set_next(received)

    def take_arrived(self, connection: ClientConnection) -> None:
        """Queue what the reader has read, and begin with it where nothing else is under way."""
        arrived = self.reader.arrived
        if not arrived:
            return
        self.queue.extend(arrived)
        arrived.clear()
        if connection.phase is Phase.WAITING or connection.phase is Phase.HEAD:
            connection.phase = Phase.QUEUED
        connection.answering.begin_next(connection)

    def release(self) -> bool:
        """Go on with what waits to be parsed, if there is room now. False when there is nothing or no room."""
        connection = self._connection
        if connection is None or not self.unparsed or self.reader.switching or len(self.queue) >= self._depth:
            return False
        unparsed, self.unparsed = self.unparsed, b""
        self.resume_reading()
        self.read(unparsed)
        return True

    def take_unparsed(self) -> bytes:
        """The octets after a request that switched protocols: they belong to the new one."""
        reader = self.reader
        early, reader.early = reader.early + self.unparsed, b""
        self.unparsed = b""
        self.resume_reading()
        return early

    def drop_unparsed(self) -> None:
        """No further request is read: what arrives from now on is dropped, so that the client can go on sending."""
        self.unparsed = b""
        self.resume_reading()

    def switch_refused(self) -> None:
        """What followed the request that asked to switch protocols is HTTP after all."""
        reader = self.reader
        reader.resume()
        self.queue.extend(reader.arrived)
        reader.arrived.clear()

    def resume_reading(self) -> None:
        """Let the client send on, unless it has said that it will not."""
        connection = self._connection
        if connection is None or connection.client_side is not ClientSide.OPEN or connection.transport.is_closing():
            return
        connection.transport.resume_reading()

    def _hold(self, connection: ClientConnection, data: bytes) -> None:
        """More than may be parsed ahead: the client has to wait."""
        self.unparsed += data
        if not connection.transport.is_closing():
            connection.transport.pause_reading()
