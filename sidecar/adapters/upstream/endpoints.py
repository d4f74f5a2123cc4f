"""Which address a request goes to: names resolved on a timer, and the less loaded of two random addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from math import inf
from typing import TYPE_CHECKING

from sidecar.adapters.upstream.connecting import Target
from sidecar.adapters.upstream.failure import connect_failure
from sidecar.adapters.upstream.pool import EndpointPool
from sidecar.adapters.upstream.tls import ClientTls
from sidecar.pipeline.errors import DnsFailed, ProxyError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from sidecar.adapters.upstream.connection import UpstreamConnection
    from sidecar.core.config import Endpoint, UpstreamConfig
    from sidecar.pipeline.pins import Pins
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stats import UpstreamStats

log = logging.getLogger(__name__)


class NamedEndpoint:
    """One configured endpoint and a pool per address that its name stands for."""

    __slots__ = (
        "_endpoint",
        "_runtime",
        "_server_name",
        "_settings",
        "_stats",
        "_tls",
        "base_path",
        "host_line",
        "pools",
        "resolves_at",
    )

    def __init__(
        self, endpoint: Endpoint, config: UpstreamConfig, runtime: Runtime, stats: UpstreamStats, tls: ClientTls | None
    ) -> None:
        self._endpoint = endpoint
        self._runtime = runtime
        self._stats = stats
        self._settings = config.pool
        self._tls = tls
        self._server_name = (config.tls.server_name or endpoint.host) if tls is not None else None
        self.host_line = b"Host: %b\r\n" % endpoint.authority.encode()
        self.base_path = endpoint.base_path.rstrip("/").encode()
        self.pools: dict[str, EndpointPool] = {}
        self.resolves_at = 0.0
        """When the name wants to be looked up next, monotonic seconds; `inf` for an address."""
        if (address := self._literal()) is not None:
            self._use([address])
            self.resolves_at = inf

    async def resolve(self) -> None:
        """Look the name up, open pools for new addresses, retire those that vanished. Raises ProxyError."""
        endpoint = self._endpoint
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise connect_failure(error, endpoint.host) from error
        self.resolves_at = self._runtime.clock.monotonic() + self._settings.dns_refresh
        self._use(list(dict.fromkeys(str(address[0]) for *_, address in found)))

    async def refresh(self) -> None:
        """Resolve in the background: a failure leaves the known addresses in use."""
        try:
            await self.resolve()
        except Exception as error:  # noqa: BLE001 - the edge of a background task: a resolver may raise anything
            log.warning("name not resolved, keeping the known addresses: %s", error)

    def _literal(self) -> str | None:
        if self._endpoint.unix_path:
            return self._endpoint.unix_path
        try:
            return str(ipaddress.ip_address(self._endpoint.host))
        except ValueError:
            return None

    def _use(self, addresses: list[str]) -> None:
        for address in addresses:
            if address not in self.pools:
                self.pools[address] = EndpointPool(self._target(address), self._runtime, self._stats, self._settings)
        for vanished in self.pools.keys() - addresses:
            self.pools.pop(vanished).retire()

    def _target(self, address: str) -> Target:
        port = None if self._endpoint.unix_path else self._endpoint.port
        return Target(address, port, self._server_name, self._tls)


class EndpointSet:
    """Every address of one upstream. Choosing costs the same however many there are."""

    __slots__ = (
        "_choices",
        "_clock",
        "_dns_refresh",
        "_failure",
        "_first_look",
        "_next_resolve",
        "_spawn",
        "endpoints",
        "tls",
    )

    def __init__(self, config: UpstreamConfig, runtime: Runtime, stats: UpstreamStats) -> None:
        self.tls = tls = (
            ClientTls(config.tls) if any(endpoint.scheme == "https" for endpoint in config.endpoints) else None
        )
        """What connections to https endpoints are made with, if there are any."""
        self._spawn = runtime.spawn
        self._clock = runtime.clock
        self._dns_refresh = config.pool.dns_refresh
        self.endpoints = [
            NamedEndpoint(endpoint, config, runtime, stats, tls if endpoint.scheme == "https" else None)
            for endpoint in config.endpoints
        ]
        self._choices: list[tuple[NamedEndpoint, EndpointPool]] = []
        self._next_resolve = 0.0
        self._first_look: asyncio.Task[None] | None = None
        self._failure: ProxyError = DnsFailed("no name has been resolved yet")
        self._collect()

    def pools(self) -> Iterable[EndpointPool]:
        """All pools, for counting and closing."""
        return [pool for _, pool in self._choices]

    def at_hand(self, now: float, pins: Pins | None) -> tuple[NamedEndpoint, UpstreamConnection] | None:
        """An idle connection to the only address there is, when no name has to be looked up: the common case.

        Or to any, when it is pinned to the client connection of `pins`.
        """
        if pins is not None and pins.connections and (own := self.pinned(pins, now)) is not None:
            return own
        if len(self._choices) != 1 or self._next_resolve <= now:
            return None
        endpoint, pool = self._choices[0]
        connection = pool.take(now)
        return None if connection is None else (endpoint, connection)

    def pinned(self, pins: Pins, now: float) -> tuple[NamedEndpoint, UpstreamConnection] | None:
        """The idle connection that belongs to the client connection of `pins` alone, to an address still in use."""
        for endpoint, pool in self._choices:
            if (connection := pool.take_pinned(pins, now)) is not None:
                return endpoint, connection
        return None

    async def choose(self, avoid: frozenset[object] = frozenset()) -> tuple[NamedEndpoint, EndpointPool]:
        """Where the next attempt goes: to none of the pools to `avoid`, unless there are no others. Raises ProxyError
        when no name has ever resolved.
        """
        if self._next_resolve <= self._clock.monotonic():
            await self._resolve_due()
        if not self._choices:
            raise self._failure.again()
        return self.prefer((self.others(avoid) if avoid else None) or self._choices)

    def others(self, tried: AbstractSet[object]) -> list[tuple[NamedEndpoint, EndpointPool]]:
        """The choices that have not been tried."""
        return [choice for choice in self._choices if choice[1] not in tried]

    def prefer(self, choices: list[tuple[NamedEndpoint, EndpointPool]]) -> tuple[NamedEndpoint, EndpointPool]:
        """The one with fewer requests in flight of two random ones; one that refused lately only if all did."""
        now = self._clock.monotonic()
        if self._any_cools(now):
            choices = [choice for choice in choices if choice[1].cools_until <= now] or choices
        if len(choices) == 1:
            return choices[0]
        one, other = random.sample(choices, 2)
        return one if one[1].in_flight <= other[1].in_flight else other

    def close(self) -> None:
        """Let go of every connection; those in flight end with their exchange."""
        for pool in self.pools():
            pool.retire()

    def _any_cools(self, now: float) -> bool:
        return any(pool.cools_until > now for _, pool in self._choices)

    async def _resolve_due(self) -> None:
        """Look up what is due: in the background where addresses are known, else once for all who wait."""
        now = self._clock.monotonic()
        for endpoint in self.endpoints:
            if self._choices and endpoint.resolves_at <= now:
                endpoint.resolves_at = now + self._dns_refresh
                self._spawn(self._refresh(endpoint), name="resolve")
        self._collect()
        if not self._choices:
            if self._first_look is None:
                self._first_look = self._spawn(self._resolve_unknown(), name="resolve")
            await asyncio.shield(self._first_look)

    async def _resolve_unknown(self) -> None:
        for endpoint in self.endpoints:
            if not endpoint.pools:
                try:
                    await endpoint.resolve()
                except ProxyError as error:
                    self._failure = error
        self._first_look = None
        self._collect()

    async def _refresh(self, endpoint: NamedEndpoint) -> None:
        await endpoint.refresh()
        self._collect()

    def _collect(self) -> None:
        self._choices = [(endpoint, pool) for endpoint in self.endpoints for pool in endpoint.pools.values()]
        self._next_resolve = min(endpoint.resolves_at for endpoint in self.endpoints)
