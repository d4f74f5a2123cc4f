"""What stands behind the gateway: circuits, upstreams and stacks, kept over a reload where nothing changed."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sidecar.adapters.fallback_files import read_files
from sidecar.adapters.upstream.handler import Upstream, UpstreamHandler
from sidecar.core.circuit.circuit import Circuit
from sidecar.core.fallback import circuit_name
from sidecar.core.fault import RouteFault
from sidecar.core.fleet_settings import FleetTrip
from sidecar.core.http.forwarding import RequestForwarder
from sidecar.core.routing import RouteTable
from sidecar.pipeline.breaker_stage import BreakerStage
from sidecar.pipeline.data_plane import UnusableUpstream
from sidecar.pipeline.fallback_sources import StandInUpstream
from sidecar.pipeline.local_control import FaultyRoute
from sidecar.pipeline.possible_series import begin_circuit, begin_route, begin_upstream
from sidecar.pipeline.retry_stage import retrying
from sidecar.pipeline.stack import build_stack
from sidecar.pipeline.stage import RouteParts
from sidecar.pipeline.stats import RouteStats, UpstreamStats
from sidecar.pipeline.trace_stage import tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from sidecar.core.circuit.hooks import Hooks
    from sidecar.core.config import Config, PerRoute, RouteConfig, UpstreamConfig
    from sidecar.core.fault import FaultChange
    from sidecar.pipeline.ports import Handler
    from sidecar.pipeline.runtime import Runtime
    from sidecar.pipeline.stage import Parts


class RouteSet:
    """Every route of the configuration in force. `apply` brings in another one.

    `parts` is what the stacks share, `circuit_hooks` what the circuits do; `fault_changed` hears of the faults.
    """

    def __init__(
        self, runtime: Runtime, parts: Parts, circuit_hooks: Hooks, fault_changed: Callable[[FaultChange], None]
    ) -> None:
        self._runtime = runtime
        self._parts = parts
        self._circuit_hooks = circuit_hooks
        self._fault_changed = fault_changed
        self._forwarder = RequestForwarder(parts.proxy.forwarded, parts.proxy.via)
        self.configs: dict[str, RouteConfig] = {}
        self.circuits: dict[str, Circuit] = {}
        self.stats: dict[str, RouteStats] = {}
        self.upstreams: dict[str, Upstream] = {}
        self.stacks: dict[str, Handler] = {}
        self.faults: dict[str, RouteFault] = {}
        self._fallback_circuits: dict[str, str] = {}
        """The circuit of each upstream that is a fallback."""
        self.table = RouteTable(())

    def apply(self, config: Config, unchanged: Collection[str] = ()) -> None:
        """Use `config` from now on. What did not change is the same object as before (breaker.md 25); `unchanged`
        names the routes whose settings are those in force.

        Raises Unusable, and then nothing has changed.
        """
        files = read_files(config.routes)
        upstreams = {upstream.name: self._upstream(upstream) for upstream in config.upstreams}
        self.table = RouteTable(config.routes)
        self.stats = {route.name: self.stats.get(route.name) or RouteStats(route.name) for route in config.routes}
        self.circuits = self._all_circuits(config)
        self.faults = {route.name: self._fault(route.name) for route in config.routes}
        self._take_up_fallbacks(config.upstreams, upstreams, files)
        self.stacks = {route.name: self._stack(route, upstreams, unchanged) for route in config.routes}
        self.configs = {route.name: route for route in config.routes}
        before, self.upstreams = self.upstreams, upstreams
        shared = config.redis is not None and config.fleet.trip is not FleetTrip.LOCAL
        self._begin_series(restorable=config.state_dir is not None, shared=shared)
        _close_replaced(before, upstreams)

    def configure_faults(self) -> None:
        """Inject what the configuration in force says. Not before there is somebody to hear of it."""
        now = self._runtime.clock.monotonic()
        for name, route in self.configs.items():
            self.faults[name].configure(route.fault, now)

    def faulty(self) -> dict[str, FaultyRoute]:
        """Every route as far as faults are concerned."""
        return {
            name: FaultyRoute(route, self.faults[name], self.circuits[name], self.stats[name])
            for name, route in self.configs.items()
        }

    def circuits_of(self, upstream: str) -> list[Circuit]:
        """The circuits of the routes to `upstream`."""
        own = [self.circuits[name] for name, route in self.configs.items() if route.upstream.name == upstream]
        fallback = self._fallback_circuits.get(upstream)
        return own if fallback is None or fallback in self.configs else [*own, self.circuits[fallback]]

    def upstream_stats(self, now: float) -> list[UpstreamStats]:
        """Every upstream's counters, and what its budget holds at `now`."""
        for upstream in self.upstreams.values():
            upstream.stats.look_at_budget(now)
        return [upstream.stats for upstream in self.upstreams.values()]

    def close(self) -> None:
        """Let go of every upstream connection."""
        for upstream in self.upstreams.values():
            upstream.close()

    def _begin_series(self, *, restorable: bool, shared: bool) -> None:
        for name, route in self.configs.items():
            begin_route(self.stats[name], route)
        for circuit in self.circuits.values():
            begin_circuit(circuit, restorable=restorable, shared=shared)
        for name, upstream in self.upstreams.items():
            retries = [route.retry for route in self.configs.values() if route.upstream.name == name]
            budgets = (retry.budget for retry in retries if retry is not None and retry.budget is not None)
            upstream.stats.budgets = tuple(dict.fromkeys(budgets))

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

    def _all_circuits(self, config: Config) -> dict[str, Circuit]:
        """Those of the routes, and of the upstreams that are only fallbacks."""
        circuits = {route.name: self._circuit(route.name, route) for route in config.routes}
        implicit = {route.name for route in config.routes if route.implicit}
        named = {each.upstream for route in config.routes for each in route.fallback or ()}
        self._fallback_circuits = {}
        for upstream in config.upstreams:
            if upstream.name in named:
                name = self._fallback_circuits[upstream.name] = circuit_name(upstream.name, implicit)
                if name not in circuits:
                    circuits[name] = self._circuit(name, upstream)
        return circuits

    def _circuit(self, name: str, settings: PerRoute) -> Circuit:
        known = self.circuits.get(name)
        now = self._runtime.clock.monotonic()
        if known is None:
            return Circuit(name, settings.breaker, self._circuit_hooks, now, settings.refs)
        known.reconfigure(settings.breaker, settings.refs, now)
        return known

    def _fault(self, route: str) -> RouteFault:
        return self.faults.get(route) or RouteFault(route, self._fault_changed)

    def _take_up_fallbacks(
        self, configs: Iterable[UpstreamConfig], upstreams: Mapping[str, Upstream], files: Mapping[str, bytes]
    ) -> None:
        """Stacks that stay find the new ones in the place of the old."""
        sources = self._parts.fallbacks
        sources.clear()
        sources.files.update(files)
        for config in configs:
            name, total = config.name, config.timeouts.total
            circuit = self._fallback_circuits.get(name)
            if circuit is None:
                continue
            # One whose connections stay is the object of before, with the settings of then.
            upstream = upstreams[name]
            handler = UpstreamHandler(upstream, self._forwarder, config.timeouts)
            shared = self._parts
            noted = tracing(handler, config, shared)
            behind = BreakerStage(noted, self.circuits[circuit], shared.clock, total, shared.redaction)
            repeating = retrying(behind, config.retry, total, upstream.stats, shared)
            failures = self.circuits[circuit].settings.failures
            sources.upstreams[name] = StandInUpstream(repeating, failures, inf if total is None else total)

    def _stack(self, route: RouteConfig, upstreams: Mapping[str, Upstream], unchanged: Collection[str]) -> Handler:
        name, upstream = route.name, upstreams[route.upstream.name]
        if name in unchanged and self.upstreams.get(upstream.config.name) is upstream:
            # What its stages know goes on too: which misses are under way, and what is not worth waiting for.
            return self.stacks[name]
        innermost = UpstreamHandler(upstream, self._forwarder, route.timeouts, route.rewrite.host)
        parts = RouteParts(route, self.circuits[name], self.stats[name], upstream.stats, self._parts, self.faults[name])
        return build_stack(innermost, parts)


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
