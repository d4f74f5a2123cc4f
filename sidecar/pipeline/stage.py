"""What a stage is made from, and the form of the function that puts one around the stages within."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import random
from typing import TYPE_CHECKING, Protocol

from sidecar.core.fault import RouteFault
from sidecar.core.redaction import NOTHING_REDACTED
from sidecar.pipeline.fallback_sources import FallbackSources

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.config import ProxySettings, RouteConfig
    from sidecar.core.redaction import Redaction
    from sidecar.pipeline.ports import CacheStore, Clock, Handler, ProbeLeases, SharedLook, Spawn
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.stats import RouteStats, UpstreamStats


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stacks of all routes share. `access_log` is told of each finished request; None: nobody is. `leases`
    are those of a fleet; None: this sidecar is alone. `shared_store` is the fleet's behind `store`, if there is one.
    `redaction` is for whatever is kept of a request's target;
    `traced`: somebody makes spans of requests.
    """

    proxy: ProxySettings
    clock: Clock
    spawn: Spawn
    store: CacheStore
    access_log: AccessLog | None
    fallbacks: FallbackSources = field(default_factory=FallbackSources)
    random: Callable[[], float] = random
    leases: ProbeLeases | None = None
    shared_store: SharedLook | None = None
    redaction: Redaction = NOTHING_REDACTED
    traced: bool = False


@dataclass(frozen=True, slots=True)
class RouteParts:
    """What the stages of one route are made from."""

    route: RouteConfig
    circuit: Circuit
    stats: RouteStats
    upstream: UpstreamStats
    shared: Parts
    fault: RouteFault = field(default_factory=lambda: RouteFault("", lambda _: None))


class Wrap(Protocol):
    """Puts one stage around `inner`; gives `inner` itself back where the route's configuration has no use for it."""

    def __call__(self, inner: Handler, parts: RouteParts) -> Handler:
        """The handler that the next stage is put around."""
