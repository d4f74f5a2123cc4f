"""What outlives a request on its client connection: the upstream connections that it shares with no other.

An upstream connection on which NTLM or Negotiate was spoken is pinned to the client connection that it was spoken for
(`core.connection_auth`). It carries that client's requests only, is never pooled, and ends when either of the two does.
"""

from __future__ import annotations

from typing import Protocol


class Pinned(Protocol):
    """A connection to an upstream that belongs to one client connection."""

    def release(self) -> None:
        """Its client connection is gone: close, or do so when the exchange under way has ended."""


class Pins:
    """The pinned connections of one client connection, at most one to each upstream: `connections`, by its name."""

    __slots__ = ("connections", "ended")

    def __init__(self) -> None:
        self.connections: dict[str, Pinned] = {}
        self.ended = False

    def add(self, upstream: str, connection: Pinned) -> None:
        """`connection` is this client's from now on, unless the client has gone meanwhile."""
        if not self.ended:
            self.connections[upstream] = connection

    def remove(self, upstream: str, connection: Pinned) -> None:
        """`connection` has ended."""
        if self.holds(upstream, connection):
            del self.connections[upstream]

    def holds(self, upstream: str, connection: Pinned) -> bool:
        """Whether `connection` is this client's."""
        return self.connections.get(upstream) is connection

    def end(self) -> None:
        """The client connection has ended."""
        self.ended = True
        connections, self.connections = self.connections, {}
        for connection in connections.values():
            connection.release()
