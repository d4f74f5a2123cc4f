"""The running sidecar: three listeners, the routes behind them, and what ties them together."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, TypeAlias

from sidecar import __version__
from sidecar.adapters.admin import AdminContext, build_admin
from sidecar.adapters.logs import AccessLog, TransitionLog
from sidecar.adapters.loop_lag import LoopLag
from sidecar.adapters.memory_store import MemoryStore
from sidecar.adapters.metrics import Instruments, Metrics
from sidecar.adapters.server.context import ServerContext, Surroundings
from sidecar.adapters.server.listener import Listener
from sidecar.adapters.telemetry import TelemetryState, build_telemetry
from sidecar.adapters.web import WebListener
from sidecar.app.routes import Change, Environment, RouteSet
from sidecar.core.events import EventRing, record_transition
from sidecar.core.report import Moment, rfc3339
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.gateway import Gateway
from sidecar.pipeline.stack import Parts
from sidecar.pipeline.stats import ListenerStats, ProcessStats
from sidecar.pipeline.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.adapters.logs import Write
    from sidecar.core.config import Config
    from sidecar.core.config_load import Loaded
    from sidecar.core.explanation import Transition
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.exchange import Request
    from sidecar.pipeline.ports import Clock

log = logging.getLogger(__name__)

Addresses: TypeAlias = "dict[str, list[tuple[str, int] | str]]"
TICK = 1.0
"""Seconds between rounds of what no request triggers: overrides that expire, requests that hang, changed files."""


def build(config: Config, clock: Clock, write_log: Write | None = None) -> App:
    """Everything, connected and not yet started. `write_log` takes the access log's lines; None: there is none."""
    return App(config, clock, write_log)


class App:
    """One sidecar: `start`, then perhaps `reload`, `drain`, and `stop`."""

    def __init__(self, config: Config, clock: Clock, write_log: Write | None) -> None:
        self.config = config
        self.clock = clock
        self.events = EventRing(first_id=int(clock.wall() * 1000))
        self.started = False
        self._began = clock.wall()
        self._write_log = write_log
        self._tasks = Tasks()
        self._wheel = DeadlineWheel(clock)
        self._stats = ProcessStats()
        self._listener_stats = ListenerStats()
        self._store = MemoryStore(config.cache, clock)
        self._transition_log = TransitionLog(self.moment)
        self._access_log = self._make_access_log()
        self._lag: LoopLag | None = None
        self._gateway = Gateway(config.proxy.via, self._unrouted)
        around = Surroundings(clock, self._wheel, self._tasks.spawn, self._access_log)
        self._context = ServerContext(
            self._gateway, config.proxy.limits, self._listener_stats, around, config.proxy.via
        )
        self._proxy = Listener(self._context, config.proxy.listen, config.proxy.tls)
        environment = Environment(clock, self._tasks.spawn, self._wheel, self._on_transition, self._listener_failed)
        self.routes = RouteSet(environment)
        self.use(config)
        self._admin = WebListener(build_admin(self._admin_context()), config.admin.listen)
        self._telemetry = WebListener(build_telemetry(self._telemetry_state()), config.telemetry.listen)

    @property
    def addresses(self) -> Addresses:
        """Where each listener is reached."""
        return {
            "proxy": self._proxy.addresses,
            "admin": self._admin.addresses,
            "telemetry": self._telemetry.addresses,
        }

    def moment(self) -> Moment:
        """Now, on both clocks."""
        return Moment(self.clock.monotonic(), self.clock.wall())

    # Life

    async def start(self) -> None:
        """Listen. Raises OSError when an address cannot be had, and then leaves nothing behind."""
        try:
            self._proxy.bind()
            await self._admin.start()
            await self._telemetry.start()
            await self._proxy.serve()
        except BaseException:
            self._proxy.unbind()
            await self.stop()
            raise
        loop = asyncio.get_running_loop()
        self._lag = LoopLag(loop.call_later, self.clock.monotonic, self._tell_lag)
        self._lag.start()
        self._tasks.spawn(self._housekeeping(), name="housekeeping")
        self.started = True

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Accept nobody new and let what is under way end, for `drain_timeout` or until `hurry`; whether all did."""
        self._stats.draining = True
        self._proxy.drain()
        waits = [asyncio.ensure_future(self._proxy.emptied()), asyncio.ensure_future(hurry.wait())]
        await asyncio.wait(waits, timeout=self.config.proxy.drain_timeout, return_when=asyncio.FIRST_COMPLETED)
        emptied = waits[0].done()
        for wait in waits:
            wait.cancel()
        if not emptied:
            log.warning("the requests still under way are cut off")
        return emptied

    async def stop(self) -> None:
        """End everything that is left."""
        self._stats.draining = True
        self._proxy.drain()
        self._proxy.abort()
        if self._lag is not None:
            self._lag.stop()
        self.routes.close()
        await self._admin.stop()
        await self._telemetry.stop()
        await self._tasks.cancel_all()
        self._wheel.close()
        if isinstance(self._access_log, AccessLog):
            self._access_log.flush()

    def use(self, config: Config) -> Change:
        """Route by `config` from now on; its listeners, limits and store sizes take effect at the next start."""
        parts = Parts(config.proxy, self.clock, self._tasks.spawn, self._store, self._access_log)
        change = self.routes.apply(config, parts)
        self._gateway.use(self.routes.table, self.routes.stacks)
        self.config = config
        return change

    def reload(self, loaded: Loaded) -> Change | None:
        """Use a configuration that was read anew; an invalid one changes nothing (breaker.md 26)."""
        if loaded.config is None:
            self._stats.reloads["error"] += 1
            self._stats.last_reload_ok = False
            message = f"{loaded.source} is invalid and was not loaded: {len(loaded.errors)} errors"
            log.error(message, extra={"errors": [problem.message for problem in loaded.errors]})
            self.events.append(self.clock.wall(), "reload_failed", message)
            return None
        change = self.use(loaded.config)
        self._stats.reloads["success"] += 1
        self._stats.last_reload_ok = True
        message = f"{loaded.source} was loaded: {len(change.changed)} routes changed"
        log.info(message, extra={"changed": change.changed})
        self.events.append(self.clock.wall(), "reload", message, details={"changed": change.changed})
        return change

    # What happens meanwhile

    def _on_transition(self, transition: Transition) -> None:
        record_transition(self.events, transition, self.moment())
        self._transition_log(transition)

    def _listener_failed(self, error: Exception) -> None:
        log.error("a transition could not be recorded", exc_info=error)

    def _unrouted(self, error: ProxyError, request: Request) -> None:
        self._context.refused(error, request.client, request)

    def _tell_lag(self, seconds: float) -> None:
        self._stats.loop_lag = seconds

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            now = self.clock.monotonic()
            for circuit in self.routes.circuits.values():
                if circuit.needs_tick:
                    circuit.tick(now)
            try:
                self._proxy.reload_tls()
            except (OSError, ValueError) as error:
                log.warning("changed certificate files cannot be used, keeping the last good ones: %s", error)

    # What the control listeners are given

    def _make_access_log(self) -> AccessLog | None:
        if self._write_log is None or not self.config.proxy.access_log:
            return None
        return AccessLog(
            self._write_log, lambda delay, call: asyncio.get_running_loop().call_later(delay, call), self.clock.wall
        )

    def _telemetry_state(self) -> TelemetryState:
        metrics = Metrics(
            Instruments(
                version=__version__,
                monotonic=self.clock.monotonic,
                process=self._stats,
                listener=self._listener_stats,
                store=self._store.stats,
                routes=self.routes.all_stats,
                upstreams=self.routes.upstream_stats,
                circuits=self.routes.all_circuits,
                log_lines_dropped=lambda: 0,
            )
        )
        return TelemetryState(lambda: self.started, self._unready, metrics.page)

    def _unready(self) -> str | None:
        if self._stats.draining:
            return "draining"
        return None if self.started else "starting"

    def _admin_context(self) -> AdminContext:
        settings = self.config.admin
        return AdminContext(
            config=lambda: self.config,
            circuits=lambda: self.routes.circuits,
            route_stats=self.routes.all_stats,
            store=self._store,
            events=self.events,
            moment=self.moment,
            info=self._info,
            hosts=(*settings.allowed_hosts, *(address.host for address in settings.listen if address.host)),
            token_file=settings.token_file,
        )

    def _info(self) -> Mapping[str, object]:
        return {
            "name": "circuit-sidecar",
            "version": __version__,
            "pid": os.getpid(),
            "started_at": rfc3339(self._began),
            "config": self.config.source,
            "listeners": {name: [shown(one) for one in bound] for name, bound in self.addresses.items()},
            "draining": self._stats.draining,
        }


def shown(address: tuple[str, int] | str) -> str:
    """An address as people write it."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
