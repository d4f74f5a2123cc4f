"""What the connections of a listener share."""

from __future__ import annotations

import asyncio
import os
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING

from sidecar.pipeline.record import ExchangeRecord

if TYPE_CHECKING:
    from sidecar.adapters.server.connection import ClientConnection
    from sidecar.core.config import ClientLimits
    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Handler, Spawn
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stats import ListenerStats


class ServerContext:
    """The shared state of a proxy listener: settings, counters, every open connection.

    `start` begins a task that its starter looks after itself. `access_log` is told of requests that never reach a
    route; None: nobody is. `via` is the pseudonym in Via.
    """

    __slots__ = (
        "_access_log",
        "_connections",
        "_crowded",
        "_date",
        "_date_second",
        "_ids",
        "_run",
        "clock",
        "draining",
        "empty",
        "handler",
        "limits",
        "monotonic",
        "spawn",
        "start",
        "stats",
        "via",
        "wheel",
    )

    def __init__(
        self,
        handler: Handler,
        limits: ClientLimits,
        stats: ListenerStats,
        runtime: Runtime,
        *,
        start: Spawn,
        access_log: AccessLog | None,
        via: str,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.stats = stats
        self.clock = runtime.clock
        self.monotonic = runtime.clock.monotonic
        self.wheel = runtime.wheel
        self.spawn = runtime.spawn
        self.start = start
        self.via = via
        self.draining = False
        self._crowded = False
        """Whether more than half of the permitted connections are open."""
        self.empty = asyncio.Event()
        """Set while no client is connected; in a drain, while none is that has asked for anything."""
        self.empty.set()
        self._access_log = access_log
        self._connections: dict[ClientConnection, None] = {}
        self._run = os.urandom(6).hex().encode()
        self._ids = count(1)
        self._date = b""
        self._date_second = -1

    def drain(self) -> None:
        """From now on each answer is its connection's last.

        Who connects is served for as long as anything is in flight: an application that drains needs its sidecar.
        """
        self.draining = True

    def request_id(self) -> bytes:
        """A new one: unique in this process, and random enough across processes."""
        return b"%b-%x" % (self._run, next(self._ids))

    def date_line(self) -> bytes:
        """The Date field for a response that lacks one (RFC 9110 §6.6.1)."""
        second = int(self.clock.wall())
        if second != self._date_second:
            self._date_second = second
            self._date = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
        return self._date

    def admit(self, connection: ClientConnection) -> bool:
        """Take a new connection in; at the limit the one that has been idle longest makes room."""
        if len(self._connections) >= self.limits.connections and not self._shed():
            return False
        self._connections[connection] = None
        self._count()
        self.stats.connections += 1
        if not self.draining:
            self.empty.clear()
        return True

    def dismiss(self, connection: ClientConnection) -> None:
        """The connection is gone."""
        if connection in self._connections:
            del self._connections[connection]
            self._count()
            self.stats.connections -= 1
            if not self._connections or (self.draining and all(each.silent for each in self._connections)):
                self.empty.set()

    def rested(self, connection: ClientConnection) -> None:
        """The connection waits for its next request: it is the youngest of the idle ones.

        Their order is kept only once it may soon be needed.
        """
        if self._crowded and connection in self._connections:
            del self._connections[connection]
            self._connections[connection] = None

    def connections(self) -> list[ClientConnection]:
        """Every open connection."""
        return list(self._connections)

    def refused(self, record: ExchangeRecord) -> None:
        """Count and log what no route has seen: a request without one, or octets that are no request."""
        self.stats.rejected[record.reason] += 1
        if self._access_log is not None:
            self._access_log(record)

    def answered_here(self, request: Request, response: Response) -> None:
        """Log an answer that the sidecar has made itself, although nothing is amiss. Such answers have no content."""
        if self._access_log is None:
            return
        self._access_log(
            ExchangeRecord(
                route=request.route_name or "",
                method=request.head.method,
                target=request.head.target,
                status=response.head.status,
                source=response.source.label,
                duration=self.monotonic() - request.started,
                bytes_sent=0,
                request_id=request.request_id,
                client=request.client,
                headers=request.head.headers,
                answered=response.head.headers,
            )
        )

    def _count(self) -> None:
        self._crowded = len(self._connections) * 2 > self.limits.connections

    def _shed(self) -> bool:
        for connection in self._connections:
            if connection.idle:
                self.stats.shed += 1
                self.dismiss(connection)
                connection.reset()
                return True
        return False
