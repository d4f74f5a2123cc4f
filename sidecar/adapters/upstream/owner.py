"""What a connection knows of the pool that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.adapters.upstream.connection import UpstreamConnection
    from sidecar.pipeline.deadlines import DeadlineWheel
    from sidecar.pipeline.ports import Clock, Spawn


class Owner(Protocol):
    """The pool that a connection belongs to."""

    clock: Clock
    wheel: DeadlineWheel
    spawn: Spawn
    upstream: str
    """The name of the upstream that it leads to."""
    address: str
    """Where its connections go, `host:port`."""

    def exchange_ended(self, connection: UpstreamConnection, *, reusable: bool) -> None:
        """The connection carries no exchange any more. Called once per exchange."""

    def keep_alive_hinted(self, value: bytes) -> None:
        """The upstream said in a Keep-Alive field how long it keeps idle connections."""

    def connection_opened(self, connection: UpstreamConnection) -> None:
        """The connection stands. Called once per connection."""

    def connection_closed(self, connection: UpstreamConnection, *, by_upstream: bool) -> None:
        """The connection is gone, or could not be made. `by_upstream`: it was idle, and not closed by this side."""
