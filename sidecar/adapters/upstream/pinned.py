"""The idle connections of a pool that belong to one client connection each (`core.connection_auth`).

Belongs here: who gets such a connection between two requests of its client. That it is pinned at all is decided by
`connection`, and its slot, its deadline and its place in the statistics are the pool's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.adapters.upstream.connection import UpstreamConnection
    from sidecar.pipeline.pins import Pins
    from sidecar.pipeline.stats import UpstreamStats


class IdlePinned:
    """By whose they are; the longest idle first. Each counts as idle while it is here."""

    __slots__ = ("_connections", "_stats")

    def __init__(self, stats: UpstreamStats) -> None:
        self._connections: dict[Pins, UpstreamConnection] = {}
        self._stats = stats

    def all(self) -> list[UpstreamConnection]:
        """All of them."""
        return list(self._connections.values())

    def add(self, pins: Pins, connection: UpstreamConnection) -> None:
        """`connection` is idle from now on, and the client's of `pins`."""
        self._connections[pins] = connection
        self._stats.idle += 1

    def take(self, pins: Pins) -> UpstreamConnection | None:
        """The one that belongs to the client connection of `pins`, if it is idle."""
        connection = self._connections.pop(pins, None)
        if connection is not None:
            self._stats.idle -= 1
        return connection

    def discard(self, connection: UpstreamConnection) -> None:
        """`connection` has ended; it may have been in use."""
        pins = connection.pins
        if pins is not None and self._connections.get(pins) is connection:
            self.take(pins)

    def take_longest_idle(self) -> UpstreamConnection | None:
        """The one that has been idle for longest."""
        return self.take(next(iter(self._connections))) if self._connections else None
