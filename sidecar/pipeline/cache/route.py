"""What the cache of one route is made of: its part of the configuration, and what it shares with other routes'."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sidecar.core.cache.key import KeySpace, key_space
from sidecar.core.cache.rules import RouteRules
from sidecar.core.config import ForwardedMode

if TYPE_CHECKING:
    from sidecar.core.circuit.permit import Refusal
    from sidecar.core.config import ProxySettings, RouteConfig, Timeouts
    from sidecar.pipeline.ports import CacheStore, Clock, SharedLook, Spawn


class CircuitView(Protocol):
    """What the cache wants to know of the circuit."""

    def probing(self, now: float) -> bool:
        """Whether the next admitted request would be a probe; changes nothing. `now`: monotonic seconds."""

    def peek(self, now: float, *, safe: bool) -> Refusal | None:
        """What a request would certainly be refused with; changes and counts nothing."""


@dataclass(frozen=True, slots=True)
class CachedRoute:
    """The cache's part of one route's configuration. `cache_name` is this sidecar's in Cache-Status; `timeouts` are for
    what it asks the upstream of itself.
    """

    name: str
    upstream: str
    rules: RouteRules
    space: KeySpace
    cache_name: bytes
    timeouts: Timeouts


@dataclass(frozen=True, slots=True)
class CacheParts:
    """What the caches of all routes work with. `shared` is the fleet's store behind `store`, if there is one."""

    store: CacheStore
    clock: Clock
    spawn: Spawn
    shared: SharedLook | None = None


def cached_route(route: RouteConfig, proxy: ProxySettings) -> CachedRoute:
    """The cache's part of `route`, behind the listener `proxy`."""
    space = key_space(route, client_forwarded=proxy.forwarded is not ForwardedMode.OFF)
    rules = RouteRules(
        settings=route.cache,
        failures=route.breaker.failures,
        targeted=tuple(name.lower().encode() for name in route.cache.targeted),
        foreign_fields=space.foreign_fields,
        credentials_keyed=space.credentials_keyed,
    )
    return CachedRoute(route.name, route.upstream.name, rules, space, proxy.via.encode(), route.timeouts)
