"""The onion of one route, innermost first: what a request meets, in the reverse order, and why it stands there.

Each stage is a `Handler`: `async def handle(request) -> Response`. Every request is awaited through all of them, from
the outermost in, until one of them answers; there is no other way to an answer. A stage is added here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.core.config import CacheMode
from sidecar.pipeline.breaker_stage import BreakerStage
from sidecar.pipeline.cache_stage import CacheStage
from sidecar.pipeline.cached_route import Surroundings, cached_route
from sidecar.pipeline.observe_stage import Observer, ObserveStage

if TYPE_CHECKING:
    from sidecar.core.breaker import Circuit
    from sidecar.core.config import ProxySettings, RouteConfig
    from sidecar.pipeline.ports import CacheStore, Clock, Handler, Spawn
    from sidecar.pipeline.record import AccessLog
    from sidecar.pipeline.stats import RouteStats


@dataclass(frozen=True, slots=True)
class Parts:
    """What every route's stack is made with."""

    proxy: ProxySettings
    clock: Clock
    spawn: Spawn
    store: CacheStore
    access_log: AccessLog | None


def build_stack(route: RouteConfig, upstream: Handler, circuit: Circuit, stats: RouteStats, parts: Parts) -> Handler:
    """The stack of `route` around `upstream`, which speaks to the network."""
    # The circuit decides whether the upstream is asked at all, and learns from every answer. One that is switched off
    # stands here too, because an operator may force it open (breaker.md 24).
    handler: Handler = BreakerStage(upstream, circuit, parts.clock)
    # The cache comes before the circuit: what it can answer costs no permit, and it stands in when the circuit refuses.
    if route.cache.mode is not CacheMode.OFF:
        around = Surroundings(parts.clock, parts.spawn, circuit, stats)
        handler = CacheStage(handler, parts.store, cached_route(route, parts.proxy), around)
    # Whatever happened inside, it is counted, logged and answered here.
    return ObserveStage(handler, Observer(stats, parts.access_log, parts.clock, parts.proxy.via))
