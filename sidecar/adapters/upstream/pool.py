"""The connections to one address: who carries an exchange, who is idle, who waits for a slot."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sidecar.adapters.upstream.connection import UpstreamConnection
from sidecar.adapters.upstream.failure import connect_failure
from sidecar.adapters.upstream.tls_transport import TlsTransport
from sidecar.core.address import host_port, unix_text
from sidecar.pipeline.errors import ConnectTimeout, PoolExhausted

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext

    from sidecar.core.config import PoolSettings
    from sidecar.pipeline.deadlines import DeadlineWheel
    from sidecar.pipeline.pins import Pins
    from sidecar.pipeline.ports import Clock, Spawn
    from sidecar.pipeline.stats import UpstreamStats

MAX_COOLDOWN = 30.0
_TIMEOUT = re.compile(rb"(?i)\btimeout=([0-9]{1,9})\b")
ALIKE = 0.2
"""Share by which two ages may differ and still be the same time limit."""
SHORTEST_KEEP_ALIVE = 0.5
SAFETY = 0.9
"""Share of an upstream's own keep-alive time after which its idle connections are no longer trusted."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every pool of an upstream works with."""

    clock: Clock
    wheel: DeadlineWheel
    spawn: Spawn
    stats: UpstreamStats
    settings: PoolSettings


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to: `address` is an IP address, or a Unix socket's path when `port` is None."""

    address: str
    port: int | None
    server_name: str | None = None
    tls: Callable[[], SSLContext] | None = None

    def __str__(self) -> str:
        return unix_text(self.address) if self.port is None else host_port(self.address, self.port)


class EndpointPool:
    """Keeps at most `max_connections` to one target; idle ones are used last in, first out. Times are monotonic.

    A connection that authenticates a user (`dedicated`) counts among them, but no other client connection ever uses it:
    between its requests it idles in `_pinned`, not in `_idle`, and it closes when its client connection has ended.
    """

    __slots__ = (
        "_connecting",
        "_connections",
        "_cooldown",
        "_idle",
        "_keep_alive",
        "_last_close",
        "_max_age",
        "_pinned",
        "_queue",
        "_retired",
        "_settings",
        "_stats",
        "clock",
        "cools_until",
        "in_flight",
        "spawn",
        "target",
        "upstream",
        "wheel",
    )

    def __init__(self, target: Target, around: Surroundings) -> None:
        self.target = target
        self.clock = around.clock
        self.wheel = around.wheel
        self.spawn = around.spawn
        self.upstream = around.stats.name
        self._stats = around.stats
        self._settings = around.settings
        self._max_age = around.settings.max_age
        self._idle: deque[UpstreamConnection] = deque()
        self._pinned: dict[Pins, UpstreamConnection] = {}
        """Idle ones that belong to one client connection, by whose they are; the longest idle first."""
        self._queue: deque[asyncio.Future[None]] = deque()
        self._connections: set[UpstreamConnection] = set()
        self._connecting = 0
        self._keep_alive = around.settings.keep_alive
        self._cooldown = around.settings.cooldown
        self._last_close = (inf, -inf)
        """How long the connection had been idle that the upstream closed last, and when that was."""
        self._retired = False
        self.in_flight = 0
        self.cools_until = 0.0

    @property
    def idle(self) -> int:
        """Connections that wait for work of any client."""
        return len(self._idle)

    def take(self, now: float) -> UpstreamConnection | None:
        """An idle connection that may still be trusted, now in flight."""
        idle = self._idle
        stats = self._stats
        while idle:
            connection = idle.pop()
            stats.idle -= 1
            if (
                now - connection.idle_since < self._keep_alive
                and not connection.closed
                and not connection.transport.is_closing()
                and (self._max_age is None or now - connection.opened_at <= self._max_age)
            ):
                self.in_flight += 1
                stats.active += 1
                return connection
            connection.close()
        return None

    def take_pinned(self, pins: Pins, now: float) -> UpstreamConnection | None:
        """The idle connection that belongs to the client connection of `pins` alone, now in flight.

        Its age counts for nothing: replaced in the middle of a handshake, it would fail that.
        """
        connection = self._pinned.pop(pins, None)
        if connection is None:
            return None
        self._stats.idle -= 1
        if now - connection.idle_since < self._keep_alive and connection.usable:
            self._now_in_flight()
            return connection
        connection.close()
        return None

    async def acquire(self, connect_timeout: float) -> UpstreamConnection:
        """A connection, now in flight: an idle one, a new one, or the next that comes free within `queue_timeout`.

        Raises ProxyError when there is none in time.
        """
        if (connection := self.take(self.clock.monotonic())) is not None:
            return connection
        if not self._has_slot:
            connection = await self._next_free()
        return connection or await self.connect(connect_timeout)

    async def connect(self, limit: float) -> UpstreamConnection:
        """A new connection, now in flight, within `limit` seconds. Raises ProxyError."""
        self._connecting += 1
        try:
            async with asyncio.timeout(limit):
                connection = await self._connect()
        except TimeoutError:
            self._connect_failed()
            raise ConnectTimeout.after(limit) from None
        except (OSError, UnicodeError, ValueError) as error:
            self._connect_failed()
            raise connect_failure(error, str(self.target)) from error
        finally:
            self._connecting -= 1
            self._wake_next()
        self._cooldown = self._settings.cooldown
        self._stats.opened += 1
        self._now_in_flight()
        return connection

    def warm(self, connection: UpstreamConnection) -> None:
        """Hand back a connection that was opened ahead of need."""
        self.exchange_ended(connection, reusable=True)

    def retire(self) -> None:
        """The address has vanished: no idle connection stays, and those in flight close after their exchange."""
        self._retired = True
        for connection in [*self._idle, *self._pinned.values()]:
            connection.close()

    # Owner of its connections

    def exchange_ended(self, connection: UpstreamConnection, *, reusable: bool) -> None:
        """See `Owner`."""
        self.in_flight -= 1
        self._stats.active -= 1
        if not reusable:
            connection.abort()
            return
        now = self.clock.monotonic()
        if connection.dedicated:
            self._rest_pinned(connection, now)
        elif self._retired or (self._max_age is not None and now - connection.opened_at > self._max_age):
            connection.close()
        else:
            connection.idle_since = now
            deadline = now + self._keep_alive
            if deadline < connection.looked_at:
                self.wheel.set(connection, deadline)
            else:
                connection.deadline = deadline
            self._idle.append(connection)
            self._stats.idle += 1
            if self._queue:
                self._wake_next()

    def keep_alive_hinted(self, value: bytes) -> None:
        """See `Owner`."""
        announced = _TIMEOUT.search(value)
        if announced is not None:
            self._learn(float(announced[1]))

    def connection_opened(self, connection: UpstreamConnection) -> None:
        """See `Owner`."""
        self._connections.add(connection)

    def connection_closed(self, connection: UpstreamConnection) -> None:
        """See `Owner`."""
        self._connections.discard(connection)
        if connection.dedicated:
            self._forget_pinned(connection)
            self._wake_next()
            return
        try:
            self._idle.remove(connection)
        except ValueError:
            pass
        else:
            self._stats.idle -= 1
            if not connection.let_go:
                self._closed_by_upstream(self.clock.monotonic(), connection.idle_since)
        self._wake_next()

    # Details

    async def _connect(self) -> UpstreamConnection:
        connection = UpstreamConnection(self)
        try:
            await self._open(connection)
        except BaseException:
            connection.given_up()
            raise
        return connection

    async def _open(self, connection: UpstreamConnection) -> None:
        tls = self.target.tls
        if tls is None:
            await self._open_tcp(connection)
            return
        transport = TlsTransport(connection, tls(), self.target.server_name)
        try:
            await self._open_tcp(transport)
            await transport.ready
        except BaseException:
            transport.give_up()
            raise

    async def _open_tcp(self, protocol: asyncio.Protocol) -> None:
        loop, target = asyncio.get_running_loop(), self.target
        if target.port is None:
            await loop.create_unix_connection(lambda: protocol, target.address)
        else:
            await loop.create_connection(lambda: protocol, target.address, target.port)

    def _now_in_flight(self) -> None:
        self.in_flight += 1
        self._stats.active += 1

    def _rest_pinned(self, connection: UpstreamConnection, now: float) -> None:
        if self._retired or connection.pins is None or not connection.pinned:
            connection.close()
            return
        connection.idle_since = now
        self.wheel.set(connection, now + self._keep_alive)
        self._pinned[connection.pins] = connection
        self._stats.idle += 1

    def _forget_pinned(self, connection: UpstreamConnection) -> None:
        pins = connection.pins
        if pins is not None and self._pinned.get(pins) is connection:
            del self._pinned[pins]
            self._stats.idle -= 1

    def _close_longest_pinned(self) -> None:
        """Give the slot of the longest idle pinned connection to who waits: its client authenticates anew."""
        connection = next(iter(self._pinned.values()), None)
        if connection is not None:
            self._forget_pinned(connection)
            connection.abort()

    def _closed_by_upstream(self, now: float, idle_since: float) -> None:
        """Twice closed at the same age is a habit; once may be a restart."""
        age = now - idle_since
        before, at = self._last_close
        self._last_close = (age, now)
        if now - at >= age and abs(age - before) < ALIKE * age:
            self._learn(min(age, before))

    def _learn(self, idle_for: float) -> None:
        """The upstream closes connections that are idle for so long: from now on let go before it does."""
        self._keep_alive = min(self._keep_alive, max(idle_for * SAFETY, SHORTEST_KEEP_ALIVE))

    def _connect_failed(self) -> None:
        self.cools_until = self.clock.monotonic() + self._cooldown
        self._cooldown = min(self._cooldown * 2, MAX_COOLDOWN)

    @property
    def _has_slot(self) -> bool:
        return len(self._connections) + self._connecting < self._settings.max_connections

    async def _next_free(self) -> UpstreamConnection | None:
        """Wait for an idle connection, or (None) for room to open one."""
        if len(self._queue) >= self._settings.max_queue:
            raise PoolExhausted(f"every connection to {self.target} is in use and the queue is full")
        self._close_longest_pinned()
        try:
            async with asyncio.timeout(self._settings.queue_timeout):
                while True:
                    await self._wait_in_queue()
                    if (connection := self.take(self.clock.monotonic())) is not None or self._has_slot:
                        return connection
        except TimeoutError:
            raise PoolExhausted(f"no connection to {self.target} came free in time") from None

    async def _wait_in_queue(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._queue.remove(waiter)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
