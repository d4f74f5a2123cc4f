"""The data plane: everything that a request meets, from the proxy listener to the upstreams."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.adapters.exclusive import ListenSockets
from sidecar.adapters.logs import AccessLog, form_of
from sidecar.adapters.loop_lag import LoopLag
from sidecar.adapters.memory_store import MemoryStore
from sidecar.adapters.server.context import ServerContext
from sidecar.adapters.server.listener import Listener
from sidecar.adapters.tracing import Surface, trace_exporter
from sidecar.app.fleet import join_fleet
from sidecar.app.monitors import Monitors
from sidecar.app.routes import RouteSet
from sidecar.app.shared_store import share_store
from sidecar.app.snapshots import cache_keeper
from sidecar.app.warm import warm_connections
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.fault import CONFIGURED_BY
from sidecar.core.redaction import Redaction
from sidecar.pipeline.data_plane import PlaneStats, UnusableListener
from sidecar.pipeline.errors import Draining
from sidecar.pipeline.fleet.control import FleetCircuits
from sidecar.pipeline.gateway import Gateway
from sidecar.pipeline.local_control import LocalCache, LocalCircuits, LocalFaults, LocalProbes
from sidecar.pipeline.possible_series import begin_listener, begin_store
from sidecar.pipeline.record import Listeners, unrouted_record
from sidecar.pipeline.shared_store.control import SharedCache
from sidecar.pipeline.stage import Parts
from sidecar.pipeline.stats import ListenerStats

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection

    from sidecar.adapters.logs import LineSink
    from sidecar.adapters.tracing import TraceExporter
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.config import Config
    from sidecar.core.fault import FaultChange
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Spawn
    from sidecar.pipeline.record import AccessLog as RecordListener
    from sidecar.pipeline.runtime import Runtime

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between rounds of what no request triggers: overrides that expire, certificate files that change."""


class DataPlane:
    """The `DataPlanePort` of this process: listener, gateway, routes, upstreams, store, access log, spans.

    `start` begins a task that its starter looks after itself; `sink` takes the access log's lines (None: there is
    none); `transition` hears of every circuit's transitions, `fault_changed` of the faults. Raises Unusable,
    MissingExtra and TracingUnavailable.
    """

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        start: Spawn,
        sink: LineSink | None,
        transition: Callable[[Transition], None],
        fault_changed: Callable[[FaultChange], None],
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._sink = sink
        self._redaction = Redaction(config.log.redact_query)
        self._stats = ListenerStats()
        self.fleet = join_fleet(config, runtime)
        self._transition = transition
        self._store = MemoryStore(config.cache, runtime.clock)
        self._shared = share_store(config, self._store, runtime)
        begin_listener(self._stats)
        begin_store(self._store.stats)
        self._access_log = self._make_access_log()
        self._tracer = self._make_tracer()
        listener = _listener(self._access_log, self._tracer)
        self._gateway = Gateway(config.proxy.via, self._unrouted, self._answered_here)
        self._context = ServerContext(
            self._gateway,
            config.proxy.limits,
            self._stats,
            runtime,
            start=start,
            access_log=listener,
            via=config.proxy.via,
        )
        self._sockets = ListenSockets(config.proxy.listen)
        self._proxy = Listener(self._context, config.proxy.tls)
        self.routes = RouteSet(
            runtime,
            Parts(
                config.proxy,
                runtime.clock,
                runtime.spawn,
                self._store,
                listener,
                redaction=self._redaction,
                traced=self._tracer is not None,
                leases=None if self.fleet is None else self.fleet.leases,
                shared_store=self._shared if self._shared is not None and self._shared.shares_answers else None,
            ),
            Hooks(random.random, transition if self.fleet is None else self._tell_all, _transition_failed),
            fault_changed,
        )
        self._route(config)
        self._warm = Monitors(runtime.spawn)
        self._lag: LoopLag | None = None
        self._cut_off_by = "at once"
        self.circuits = self._make_control()
        self.faults = LocalFaults(self.routes.faulty, runtime.clock.monotonic)
        leases = None if self.fleet is None else self.fleet.leases
        self.probes = LocalProbes(self.routes.circuits_of, runtime.clock.monotonic, leases)
        self.cache = LocalCache(self._store) if self._shared is None else SharedCache(self._store, self._shared)
        self.snapshots = (
            None if config.state_dir is None else cache_keeper(config.state_dir, self._store, runtime.clock)
        )

    # What the control plane asks and orders

    async def stats(self) -> PlaneStats:
        """What has been counted."""
        return PlaneStats(
            listener=self._stats,
            store=self._store.stats,
            routes=tuple(self.routes.stats.values()),
            upstreams=self.routes.upstream_stats(self._runtime.clock.monotonic()),
            loop_lag=0.0 if self._lag is None else self._lag.longest,
            log_lines_dropped=0 if self._sink is None else self._sink.dropped,
            fleet=None if self.fleet is None else self.fleet.stats,
            shared_store=None if self._shared is None else self._shared.stats,
            traces_dropped=0 if self._tracer is None else self._tracer.dropped,
        )

    async def use(self, config: Config, unchanged: Collection[str]) -> list[tuple[str, int] | str]:
        """Route by `config` from now on, and listen where it says. Raises Unusable, and then nothing has changed.

        Clients that are connected stay so, also to an address that is given up.
        """
        before, tls_changes, faults = self._sockets, config.proxy.tls != self._config.proxy.tls, self.routes.faults
        try:
            following = before.successor(config.proxy.listen)
        except OSError as error:
            raise UnusableListener(config, "proxy.listen", error) from error
        try:
            use_tls = self._prepare_tls(config) if tls_changes else None
            self._route(config, unchanged)
        except BaseException:
            following.close(but=before)
            raise
        self.routes.configure_faults()
        for name in faults.keys() - self.routes.faults.keys():
            faults[name].end(CONFIGURED_BY, "the route is gone", self._runtime.clock.monotonic())
        self._keep_warm()
        if use_tls is not None:
            use_tls()
            following.end_servers()
        self._sockets = following
        await following.serve(self._proxy.connection, self._proxy.tls)
        await before.retire(following)
        return self.addresses

    def tls_of(self, upstream: str) -> ssl.SSLContext | None:
        """What connections to the https endpoints of `upstream` are made with; None if it has no such endpoint.

        No part of the port: a control plane in a process of its own makes its own contexts.
        """
        tls = self.routes.upstreams[upstream].endpoints.tls
        return None if tls is None else tls()

    # Life

    @property
    def addresses(self) -> list[tuple[str, int] | str]:
        """What the proxy listener is bound to."""
        return self._sockets.addresses

    def bind(self) -> None:
        """Take the listener's addresses. Raises OSError when one, or a certificate file, cannot be had."""
        self._proxy.load_tls()
        self._sockets.bind()

    async def serve(self) -> None:
        """Accept clients, after what the fleet knows has been taken up."""
        joining = [each.join() for each in (self.fleet, self._shared) if each is not None]
        await asyncio.gather(*joining)
        self.routes.configure_faults()
        await self._sockets.serve(self._proxy.connection, self._proxy.tls)

    def begin(self) -> None:
        """Start what runs beside the requests."""
        self._lag = LoopLag(asyncio.get_running_loop().call_later, self._runtime.clock.monotonic)
        self._lag.start()
        self._runtime.spawn(self._housekeeping(), name="housekeeping")
        self._keep_warm()

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Let what is under way end, for `drain_timeout` or until `hurry`, and serve who connects until then; whether
        all did end. The path of a Unix socket is left to a successor at once.
        """
        self._sockets.remove_files()
        self._proxy.drain()
        emptied = self._runtime.spawn(self._proxy.emptied(), name="drain")
        hurried = self._runtime.spawn(_set(hurry), name="hurry")
        limit = self._config.proxy.drain_timeout
        await asyncio.wait({emptied, hurried}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not emptied.done():
            emptied.cancel()
            self._cut_off_by = "by a second signal" if hurry.is_set() else f"after drain_timeout ({limit:g} s)"
            log.warning("the requests still under way are cut off")
            return False
        return True

    def abort(self) -> None:
        """Accept nobody new and cut off what is under way."""
        self._sockets.remove_files()
        self._sockets.end_servers()
        self._proxy.drain()
        self._proxy.abort(Draining(f"the sidecar was shut down and cut the request off {self._cut_off_by}"))
        if self._lag is not None:
            self._lag.stop()

    async def disconnect(self) -> None:
        """Let go of every upstream connection, and of the fleet."""
        self._warm.close()
        self.routes.close()
        leaving = [each.leave() for each in (self.fleet, self._shared) if each is not None]
        await asyncio.gather(*leaving)

    def close(self) -> None:
        """Give the addresses up."""
        self._sockets.close()

    def flush(self) -> None:
        """Hand over what was noted of requests; nothing is logged or traced afterwards."""
        if self._tracer is not None:
            self._tracer.close()
        if self._access_log is not None:
            self._access_log.flush()

    # What happens meanwhile

    def _route(self, config: Config, unchanged: Collection[str] = ()) -> None:
        self.routes.apply(config, unchanged)
        self._config = config
        self._gateway.use(self.routes.table, self.routes.stacks)
        if self.fleet is not None:
            self.fleet.follow(self.routes.circuits.values())

    def _tell_all(self, transition: Transition) -> None:
        assert self.fleet is not None
        self.fleet.note(transition)
        self._transition(transition)

    def _prepare_tls(self, config: Config) -> Callable[[], None]:
        try:
            return self._proxy.prepare_tls(config.proxy.tls)
        except OSError as error:
            raise UnusableListener(config, "proxy.tls", error) from error

    def _keep_warm(self) -> None:
        self._warm.follow(warm_connections(self._config, self.routes.upstreams))

    def _unrouted(self, error: ProxyError, request: Request, response: Response) -> None:
        duration = self._runtime.clock.monotonic() - request.started
        self._context.refused(unrouted_record(error, request, response, duration))

    def _answered_here(self, request: Request, response: Response) -> None:
        stats = self.routes.stats.get(request.route_name or "")
        if stats is not None:
            duration = self._runtime.clock.monotonic() - request.started
            stats.count(request.head.method, response.head.status, response.source.label, duration)
        self._context.answered_here(request, response)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self._runtime.clock.monotonic()
            for circuit in self.routes.circuits.values():
                if circuit.needs_tick:
                    circuit.tick(now)
            for fault in self.routes.faults.values():
                if fault.current is not None:
                    fault.live(now)
            try:
                self._proxy.reload_tls()
            except (OSError, ValueError) as error:
                log.warning("changed certificate files cannot be used, keeping the last good ones: %s", error)

    def _make_control(self) -> LocalCircuits:
        monotonic = self._runtime.clock.monotonic
        if self.fleet is None:
            return LocalCircuits(lambda: self.routes.circuits, monotonic)
        return FleetCircuits(lambda: self.routes.circuits, monotonic, self.fleet)

    def _make_access_log(self) -> AccessLog | None:
        settings = self._config.log
        if self._sink is None or not (settings.access and self._config.proxy.access_log):
            return None
        return AccessLog(
            self._sink.write,
            _call_later,
            self._runtime.clock.wall,
            form_of(settings, terminal=self._sink.terminal),
            sample=settings.sample,
        )

    def _make_tracer(self) -> TraceExporter | None:
        settings = self._config.tracing
        if settings is None:
            return None
        scheme = "https" if self._config.proxy.tls else "http"
        surface = Surface(scheme, self._pattern_of, self._redaction, __version__)
        return trace_exporter(settings, surface, self._runtime.clock, _call_later)

    def _pattern_of(self, route: str) -> str | None:
        known = self.routes.configs.get(route)
        if known is None:
            return None
        match = known.match
        return match.prefix or match.path or (match.regex.pattern.decode() if match.regex else None)


def _listener(access_log: AccessLog | None, tracer: TraceExporter | None) -> RecordListener | None:
    if access_log is None or tracer is None:
        return access_log or tracer
    return Listeners(access_log, tracer)


def _call_later(delay: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay, call)


def _transition_failed(error: Exception) -> None:
    log.error("a transition could not be recorded", exc_info=error)


async def _set(event: asyncio.Event) -> None:
    await event.wait()
