"""What stands behind the gateway: circuits, upstreams and stacks, kept over a reload where nothing changed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.adapters.upstream.handler import Upstream, UpstreamHandler
from sidecar.adapters.upstream.pool import Surroundings
from sidecar.core.breaker import Circuit
from sidecar.core.breaker import Surroundings as CircuitSurroundings
from sidecar.core.forwarding import RequestForwarder
from sidecar.core.routing import RouteTable
from sidecar.pipeline.stack import build_stack
from sidecar.pipeline.stats import RouteStats, UpstreamStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sidecar.core.config import Config, RouteConfig, UpstreamConfig
    from sidecar.core.explanation import Transition
    from sidecar.pipeline.deadlines import DeadlineWheel
    from sidecar.pipeline.ports import Clock, Handler, Spawn
    from sidecar.pipeline.stack import Parts


@dataclass(frozen=True, slots=True)
class Environment:
    """What routes and upstreams are built with. `transition` hears of every circuit's transitions."""

    clock: Clock
    spawn: Spawn
    wheel: DeadlineWheel
    transition: Callable[[Transition], None]
    listener_failed: Callable[[Exception], None]


@dataclass(slots=True)
class Change:
    """What a reload did, by route name."""

    changed: list[str]
    unchanged: list[str]


class RouteSet:
    """Every route of the configuration in force. `apply` brings in another one."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._circuit_surroundings = CircuitSurroundings(
            random.random, environment.transition, environment.listener_failed
        )
        self.configs: dict[str, RouteConfig] = {}
        self.circuits: dict[str, Circuit] = {}
        self.stats: dict[str, RouteStats] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.stacks: dict[str, Handler] = {}
        self.table = RouteTable(())

    def apply(self, config: Config, parts: Parts) -> Change:
        """Use `config` from now on. What did not change is the same object as before (breaker.md 25)."""
        upstreams = {upstream.name: self._upstream(upstream) for upstream in config.upstreams}
        self._close_replaced(upstreams)
        before = self.configs
        self.configs = {route.name: route for route in config.routes}
        self.stats = {name: self.stats.get(name) or RouteStats(name) for name in self.configs}
        self.circuits = {route.name: self._circuit(route) for route in config.routes}
        self.stacks = {route.name: self._stack(route, upstreams, parts) for route in config.routes}
        self.upstreams = upstreams
        self.table = RouteTable(config.routes)
        unchanged = [name for name, route in self.configs.items() if _same(before.get(name), route)]
        changed = sorted((self.configs.keys() | before.keys()) - set(unchanged))
        return Change(changed, unchanged)

    def all_stats(self) -> Iterable[RouteStats]:
        """Every route's counters."""
        return self.stats.values()

    def all_circuits(self) -> Iterable[Circuit]:
        """Every route's circuit."""
        return self.circuits.values()

    def upstream_stats(self) -> Iterable[UpstreamStats]:
        """Every upstream's counters."""
        return [upstream.stats for upstream in self.upstreams.values()]

    def close(self) -> None:
        """Let go of every upstream connection."""
        for upstream in self.upstreams.values():
            upstream.close()

    def _close_replaced(self, upstreams: dict[str, Upstream]) -> None:
        for name, upstream in self.upstreams.items():
            if upstreams.get(name) is not upstream:
                upstream.close()

    def _upstream(self, config: UpstreamConfig) -> Upstream:
        known = self.upstreams.get(config.name)
        if known is not None and _connects_alike(known.config, config):
            return known
        env = self._environment
        stats = UpstreamStats(config.name) if known is None else known.stats
        return Upstream(config, Surroundings(env.clock, env.wheel, env.spawn, stats, config.pool))

    def _circuit(self, route: RouteConfig) -> Circuit:
        known = self.circuits.get(route.name)
        now = self._environment.clock.monotonic()
        if known is None:
            return Circuit(route.name, route.breaker, self._circuit_surroundings, now, route.refs)
        known.reconfigure(route.breaker, route.refs, now)
        return known

    def _stack(self, route: RouteConfig, upstreams: dict[str, Upstream], parts: Parts) -> Handler:
        forwarder = RequestForwarder(parts.proxy.forwarded, parts.proxy.via)
        innermost = UpstreamHandler(upstreams[route.upstream.name], forwarder, route.timeouts, route.rewrite.host)
        return build_stack(route, innermost, self.circuits[route.name], self.stats[route.name], parts)


def _connects_alike(one: UpstreamConfig, other: UpstreamConfig) -> bool:
    """Whether connections made for one serve the other."""
    return (one.endpoints, one.tls, one.pool, one.preserve_host, one.timeouts.connect) == (
        other.endpoints,
        other.tls,
        other.pool,
        other.preserve_host,
        other.timeouts.connect,
    )


def _same(before: RouteConfig | None, now: RouteConfig) -> bool:
    """Whether a route's effective settings are what they were, wherever in the file they stand."""
    return before is not None and _settings(before) == _settings(now)


def _settings(route: RouteConfig) -> tuple[object, ...]:
    upstream = route.upstream
    return (
        route.match,
        route.rewrite,
        route.timeouts,
        route.breaker,
        route.cache,
        upstream.name,
        upstream.endpoints,
        upstream.tls,
        upstream.pool,
        upstream.preserve_host,
    )
