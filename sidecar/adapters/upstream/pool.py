"""The connections to one address: who carries an exchange, who is idle, who waits for a slot.

Where a connection is, from the pool's side (its own states are in `state`):

    connect ──► in flight ──► idle ──► in flight ──► …   `take`, or the head of the queue, makes it in flight again
                in flight ──► idle and pinned ──► …      only `take_pinned` with its client's `Pins` gets it back
                in flight, idle, pinned ──► closed       it failed, is too old, was idle too long, or is not wanted

What happens in which order. `take` pops the connection that was used last, so that the others grow old and close.
Where none is idle, `acquire` opens one if a slot is free, else waits in the queue, which is bounded in length and in
time; there the pinned connection that has been idle for longest gives up its slot. `exchange_ended` brings each
connection back, once per exchange, and wakes who waits longest. `connection_closed` frees the slot, whoever closed it.

What must never happen. A slot is never lost: connecting counts until it ends, cancelled or not, and a waiter that is
woken and cancelled wakes the next one. A connection is never in flight twice, and a pinned one never serves another
client. Nothing that was idle for longer than the upstream keeps it is used: its end may be on its way.

Failures. Connecting raises a ProxyError (`failure`), and the address is avoided for a while that doubles
(`cools_until`, which `endpoints` heeds). Whether another address or another connection is tried, `handler` decides:
the pool repeats nothing.

Why it is cheap. For a request that finds an idle connection, `take` and `exchange_ended` are all there is: a pop and
an append, the counters, and one write of the deadline until which the connection may be idle.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from sidecar.adapters.upstream.connecting import open_transport
from sidecar.adapters.upstream.connection import UpstreamConnection
from sidecar.adapters.upstream.failure import connect_failure
from sidecar.adapters.upstream.keep_alive import KeepAlive
from sidecar.adapters.upstream.pinned import IdlePinned
from sidecar.adapters.upstream.state import CLOSED
from sidecar.pipeline.errors import ConnectTimeout, PoolExhausted

if TYPE_CHECKING:
    from sidecar.adapters.upstream.connecting import Target
    from sidecar.core.config import PoolSettings
    from sidecar.pipeline.pins import Pins
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stats import UpstreamStats

MAX_COOLDOWN = 30.0


class EndpointPool:
    """Keeps at most `max_connections` to one target; idle ones are used last in, first out. Times are monotonic.

    A connection that authenticates a user (`dedicated`) counts among them, but no other client connection ever uses it:
    between its requests it idles in `_idle_pinned`, not in `_idle`, and it closes when its client connection has ended.
    """

    __slots__ = (
        "_connecting",
        "_connections",
        "_cooldown",
        "_idle",
        "_idle_pinned",
        "_keep_alive",
        "_max_age",
        "_queue",
        "_retired",
        "_settings",
        "_stats",
        "address",
        "clock",
        "cools_until",
        "in_flight",
        "spawn",
        "target",
        "upstream",
        "wheel",
    )

    def __init__(self, target: Target, runtime: Runtime, stats: UpstreamStats, settings: PoolSettings) -> None:
        self.target = target
        self.address = str(target)
        self.clock = runtime.clock
        self.wheel = runtime.wheel
        self.spawn = runtime.spawn
        self.upstream = stats.name
        self._stats = stats
        self._settings = settings
        self._max_age = settings.max_age
        self._idle: deque[UpstreamConnection] = deque()
        self._idle_pinned = IdlePinned(stats)
        self._queue: deque[asyncio.Future[None]] = deque()
        self._connections: set[UpstreamConnection] = set()
        self._connecting = 0
        self._keep_alive = KeepAlive(settings.keep_alive)
        self._cooldown = settings.cooldown
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
                now - connection.idle_since < self._keep_alive.seconds
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
        connection = self._idle_pinned.take(pins)
        if connection is None:
            return None
        if now - connection.idle_since < self._keep_alive.seconds and connection.usable:
            self._now_in_flight()
            return connection
        connection.close()
        return None

    async def acquire(self, connect_timeout: float, until: float = inf) -> UpstreamConnection:
        """A connection, now in flight: an idle one, a new one, or the next that comes free within `queue_timeout`.

        Raises ProxyError when there is none in time, at the latest at `until`.
        """
        if (connection := self.take(self.clock.monotonic())) is not None:
            return connection
        if not self._has_slot:
            connection = await self._next_free(until)
        return connection or await self.connect(min(connect_timeout, until - self.clock.monotonic()))

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

    def add_idle(self, connection: UpstreamConnection) -> None:
        """Keep a connection that was opened ahead of need."""
        self.exchange_ended(connection, reusable=True)

    def retire(self) -> None:
        """The address has vanished: no idle connection stays, and those in flight close after their exchange."""
        self._retired = True
        for connection in [*self._idle, *self._idle_pinned.all()]:
            connection.close()

    # Owner of its connections

    def exchange_ended(self, connection: UpstreamConnection, *, reusable: bool) -> None:
        """Take the connection back, or end it where it is not reusable, too old, or nobody's any more."""
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
            deadline = now + self._keep_alive.seconds
            if deadline < connection.looked_at:
                self.wheel.set(connection, deadline)
            else:
                connection.deadline = deadline
            self._idle.append(connection)
            self._stats.idle += 1
            if self._queue:
                self._wake_next()

    def keep_alive_hinted(self, value: bytes) -> None:
        """Believe what the upstream says of its idle connections."""
        self._keep_alive.announced(value)

    def connection_opened(self, connection: UpstreamConnection) -> None:
        """The connection takes a slot."""
        self._connections.add(connection)

    def connection_closed(self, connection: UpstreamConnection, *, by_upstream: bool) -> None:
        """Free the connection's slot for who waits, and learn from an idle one that the upstream closed."""
        self._connections.discard(connection)
        if connection.dedicated:
            self._idle_pinned.discard(connection)
        else:
            self._discard_idle(connection, by_upstream=by_upstream)
        self._wake_next()

    # Details

    async def _connect(self) -> UpstreamConnection:
        connection = UpstreamConnection(self)
        try:
            await open_transport(self.target, connection)
        except BaseException:
            connection.connecting_failed()
            raise
        if connection.state is CLOSED:
            raise ConnectionResetError("it ended as soon as it stood")
        return connection

    def _discard_idle(self, connection: UpstreamConnection, *, by_upstream: bool) -> None:
        try:
            self._idle.remove(connection)
        except ValueError:
            return
        self._stats.idle -= 1
        if by_upstream:
            self._keep_alive.closed_by_upstream(self.clock.monotonic(), connection.idle_since)

    def _now_in_flight(self) -> None:
        self.in_flight += 1
        self._stats.active += 1

    def _rest_pinned(self, connection: UpstreamConnection, now: float) -> None:
        if self._retired or connection.pins is None or not connection.pinned:
            connection.close()
            return
        connection.idle_since = now
        self.wheel.set(connection, now + self._keep_alive.seconds)
        self._idle_pinned.add(connection.pins, connection)

    def _close_longest_pinned(self) -> None:
        """Give the slot of the longest idle pinned connection to who waits: its client authenticates anew."""
        connection = self._idle_pinned.take_longest_idle()
        if connection is not None:
            connection.abort()

    def _connect_failed(self) -> None:
        self.cools_until = self.clock.monotonic() + self._cooldown
        self._cooldown = min(self._cooldown * 2, MAX_COOLDOWN)

    @property
    def _has_slot(self) -> bool:
        return len(self._connections) + self._connecting < self._settings.max_connections

    async def _next_free(self, until: float) -> UpstreamConnection | None:
        """Wait for an idle connection, or (None) for room to open one."""
        if len(self._queue) >= self._settings.max_queue:
            raise PoolExhausted(f"every connection to {self.target} is in use and the queue is full")
        self._close_longest_pinned()
        try:
            async with asyncio.timeout(min(self._settings.queue_timeout, until - self.clock.monotonic())):
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
                # Unless `_wake_next` met it before this task came to run.
                with suppress(ValueError):
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
