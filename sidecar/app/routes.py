"""What stands behind the gateway: circuits, upstreams and stacks, kept over a reload where nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.adapters.upstream.handler import Upstream, UpstreamHandler
from sidecar.core.circuit.circuit import Circuit
from sidecar.core.fleet_settings import FleetTrip
from sidecar.core.http.forwarding import RequestForwarder
from sidecar.core.routing import RouteTable
from sidecar.pipeline.data_plane import UnusableUpstream
from sidecar.pipeline.possible_series import begin_circuit, begin_route, begin_upstream
from sidecar.pipeline.stack import build_stack
from sidecar.pipeline.stage import RouteParts
from sidecar.pipeline.stats import RouteStats, UpstreamStats

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sidecar.core.circuit.hooks import Hooks
    from sidecar.core.config import Config, RouteConfig, UpstreamConfig
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stage import Parts


class RouteSet:
    """Every route of the configuration in force. `apply` brings in another one.

    `parts` is what the stacks share, `circuit_hooks` what the circuits do.
    """

    def __init__(self, runtime: Runtime, parts: Parts, circuit_hooks: Hooks) -> None:
        self._runtime = runtime
        self._parts = parts
        self._circuit_hooks = circuit_hooks
        self._forwarder = RequestForwarder(parts.proxy.forwarded, parts.proxy.via)
        self.configs: dict[str, RouteConfig] = {}
        self.circuits: dict[str, Circuit] = {}
        self.stats: dict[str, RouteStats] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.stacks: dict[str, Handler] = {}
        self.table = RouteTable(())

    def apply(self, config: Config, unchanged: Collection[str] = ()) -> None:
        """Use `config` from now on. What did not change is the same object as before (breaker.md 25); `unchanged`
        names the routes whose settings are those in force.

        Raises UnusableUpstream, and then nothing has changed.
        """
        upstreams = {upstream.name: self._upstream(upstream) for upstream in config.upstreams}
        self.table = RouteTable(config.routes)
        self.stats = {route.name: self.stats.get(route.name) or RouteStats(route.name) for route in config.routes}
        self.circuits = {route.name: self._circuit(route) for route in config.routes}
        self.stacks = {route.name: self._stack(route, upstreams, unchanged) for route in config.routes}
        self.configs = {route.name: route for route in config.routes}
        shared = config.redis is not None and config.fleet.trip is not FleetTrip.LOCAL
        self._begin_series(restorable=config.state_dir is not None, shared=shared)
        before, self.upstreams = self.upstreams, upstreams
        _close_replaced(before, upstreams)

    def circuits_of(self, upstream: str) -> list[Circuit]:
        """The circuits of the routes to `upstream`."""
        return [self.circuits[name] for name, route in self.configs.items() if route.upstream.name == upstream]

    def upstream_stats(self) -> list[UpstreamStats]:
        """Every upstream's counters."""
        return [upstream.stats for upstream in self.upstreams.values()]

    def close(self) -> None:
        """Let go of every upstream connection."""
        for upstream in self.upstreams.values():
            upstream.close()

    def _begin_series(self, *, restorable: bool, shared: bool) -> None:
        for name, route in self.configs.items():
            begin_route(self.stats[name], route)
            begin_circuit(self.circuits[name], restorable=restorable, shared=shared)

    def _upstream(self, config: UpstreamConfig) -> Upstream:
        known = self.upstreams.get(config.name)
        if known is not None and _connects_alike(known.config, config):
            return known
        runtime = self._runtime
        stats = UpstreamStats(config.name) if known is None else known.stats
        begin_upstream(stats)
        try:
            return Upstream(config, runtime, stats)
        except (OSError, ValueError) as error:
            raise UnusableUpstream(config, error) from error

    def _circuit(self, route: RouteConfig) -> Circuit:
        known = self.circuits.get(route.name)
        now = self._runtime.clock.monotonic()
        if known is None:
            return Circuit(route.name, route.breaker, self._circuit_hooks, now, route.refs)
        known.reconfigure(route.breaker, route.refs, now)
        return known

    def _stack(self, route: RouteConfig, upstreams: Mapping[str, Upstream], unchanged: Collection[str]) -> Handler:
        name, upstream = route.name, upstreams[route.upstream.name]
        if name in unchanged and self.upstreams.get(upstream.config.name) is upstream:
            # What its stages know goes on too: which misses are under way, and what is not worth waiting for.
            return self.stacks[name]
        innermost = UpstreamHandler(upstream, self._forwarder, route.timeouts, route.rewrite.host)
        return build_stack(innermost, RouteParts(route, self.circuits[name], self.stats[name], self._parts))


def _connects_alike(one: UpstreamConfig, other: UpstreamConfig) -> bool:
    """Whether connections made for one serve the other."""
    return (one.endpoints, one.tls, one.pool, one.preserve_host, one.timeouts.connect) == (
        other.endpoints,
        other.tls,
        other.pool,
        other.preserve_host,
        other.timeouts.connect,
    )


def _close_replaced(before: Mapping[str, Upstream], now: Mapping[str, Upstream]) -> None:
    for name, upstream in before.items():
        if now.get(name) is not upstream:
            upstream.close()
