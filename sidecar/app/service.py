"""The running sidecar: three listeners, the routes behind them, and what ties them together."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, TypeAlias

from sidecar import __version__
from sidecar.adapters.exclusive import ListenSockets
from sidecar.adapters.logs import AccessLog, TransitionLog
from sidecar.adapters.loop_lag import LoopLag
from sidecar.adapters.memory_store import MemoryStore
from sidecar.adapters.server.context import ServerContext, Surroundings
from sidecar.adapters.server.listener import Listener
from sidecar.adapters.web import WebListener
from sidecar.app.control import Inside, admin_application, telemetry_application
from sidecar.app.monitors import Monitors
from sidecar.app.persistence import Persistence
from sidecar.app.reload import Reloader, ReloadRecord, unusable
from sidecar.app.routes import Environment, RouteSet, UnusableUpstream
from sidecar.core.events import EventRing, record_transition
from sidecar.core.report import Moment, rfc3339
from sidecar.core.settings.config_change import Verdict, in_force, judge
from sidecar.pipeline.deadlines import DeadlineWheel
from sidecar.pipeline.errors import Draining
from sidecar.pipeline.gateway import Gateway
from sidecar.pipeline.possible_series import begin_listener, begin_store
from sidecar.pipeline.record import unrouted_record
from sidecar.pipeline.stage import Parts
from sidecar.pipeline.stats import ListenerStats, ProcessStats
from sidecar.pipeline.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.adapters.logs import LineSink
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.config import Config
    from sidecar.core.settings.config_change import ConfigChange
    from sidecar.core.settings.config_load import Loaded
    from sidecar.pipeline.errors import ProxyError
    from sidecar.pipeline.exchange import Request, Response
    from sidecar.pipeline.ports import Clock

log = logging.getLogger(__name__)

Addresses: TypeAlias = "dict[str, list[tuple[str, int] | str]]"
TICK = 1.0
"""Seconds between rounds of what no request triggers: overrides that expire, requests that hang, changed files."""


def build(config: Config, clock: Clock, sink: LineSink | None = None) -> App:
    """Everything, connected and not yet started. `sink` takes the access log's lines; None: there is none.

    Raises UnusableUpstream when the files that an upstream names cannot be used.
    """
    return App(config, clock, sink)


class App:
    """One sidecar: `start`, then perhaps `reload`, `drain`, and `stop`."""

    def __init__(self, config: Config, clock: Clock, sink: LineSink | None) -> None:
        self.config = config
        self.clock = clock
        self.events = EventRing(first_id=int(clock.wall() * 1000))
        self.started = False
        self.addresses: Addresses = {}
        """Where each listener was reached when it was started; a drain changes nothing about that."""
        self._began = clock.wall()
        self._sink = sink
        self._tasks = Tasks()
        self._wheel = DeadlineWheel(clock)
        self._stats = ProcessStats()
        self._listener_stats = ListenerStats()
        self._store = MemoryStore(config.cache, clock)
        begin_listener(self._listener_stats)
        begin_store(self._store.stats)
        self._transition_log = TransitionLog(self.moment)
        self._access_log = self._make_access_log()
        self._lag: LoopLag | None = None
        self._needs_restart: tuple[str, ...] = ()
        self._cut_off_by = "at once"
        self._gateway = Gateway(config.proxy.via, self._unrouted, self._answered_here)
        around = Surroundings(clock, self._wheel, self._tasks.spawn, self._tasks.start, self._access_log)
        self._context = ServerContext(
            self._gateway, config.proxy.limits, self._listener_stats, around, config.proxy.via
        )
        self._sockets = {
            "proxy": ListenSockets(config.proxy.listen),
            "admin": ListenSockets(config.admin.listen),
            "telemetry": ListenSockets(config.telemetry.listen),
        }
        self._proxy = Listener(self._context, config.proxy.tls)
        self.routes = self._make_routes()
        self._persistence = self._make_persistence()
        self._monitors = Monitors(clock, self._tasks.spawn)
        self._record = ReloadRecord(self._stats, self.events, clock)
        self.reloader = Reloader(self._take_up, lambda: self.config, self._tasks.spawn)
        inside = self._inside()
        self._admin = WebListener(admin_application(inside))
        self._telemetry = WebListener(telemetry_application(inside))

    def moment(self) -> Moment:
        """Now, on both clocks."""
        return Moment(self.clock.monotonic(), self.clock.wall())

    # Life

    async def start(self) -> None:
        """Listen. Raises OSError when an address or a directory cannot be had, and then leaves nothing behind."""
        try:
            self._proxy.load_tls()
            for sockets in self._sockets.values():
                sockets.bind()
            await self._telemetry.start(self._sockets["telemetry"].sockets)
            if self._persistence is not None:
                # After `bind`, so that a second process that is started by mistake leaves the files alone.
                await self._persistence.open()
                await self._persistence.restore()
            await self._admin.start(self._sockets["admin"].sockets)
            await self._proxy.serve(self._sockets["proxy"].sockets)
            self.addresses = {name: sockets.addresses for name, sockets in self._sockets.items()}
        except BaseException:
            await self.stop()
            raise
        self._begin()

    def _begin(self) -> None:
        """Start what runs beside the requests."""
        self._lag = LoopLag(asyncio.get_running_loop().call_later, self.clock.monotonic, self._tell_lag)
        self._lag.start()
        self._tasks.spawn(self._housekeeping(), name="housekeeping")
        self._monitors.follow(self.config, self.routes)
        if self._persistence is not None:
            self._persistence.begin()
        self.started = True

    async def drain(self, hurry: asyncio.Event) -> bool:
        """Accept nobody new and let what is under way end, for `drain_timeout` or until `hurry`; whether all did."""
        self._stats.draining = True
        self._sockets["proxy"].remove_files()
        self._proxy.drain()
        emptied = self._tasks.spawn(self._proxy.emptied(), name="drain")
        hurried = self._tasks.spawn(_set(hurry), name="hurry")
        limit = self.config.proxy.drain_timeout
        await asyncio.wait({emptied, hurried}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not emptied.done():
            emptied.cancel()
            self._cut_off_by = "by a second signal" if hurry.is_set() else f"after drain_timeout ({limit:g} s)"
            log.warning("the requests still under way are cut off")
            return False
        return True

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """End everything that is left. What takes long is left out once `hurry` is set."""
        self._stats.draining = True
        self._sockets["proxy"].remove_files()
        self._proxy.drain()
        self._proxy.abort(Draining(f"the sidecar was shut down and cut the request off {self._cut_off_by}"))
        if self._lag is not None:
            self._lag.stop()
        await self._stop_web("admin", self._admin)
        self._monitors.close()
        self.routes.close()
        if self._persistence is not None and self.started:
            await self._persistence.close(hurry or asyncio.Event())
        await self._stop_web("telemetry", self._telemetry)
        self._sockets["proxy"].close()
        await self._tasks.cancel_all()
        if self._persistence is not None:
            self._persistence.release()
        self._wheel.close()
        if isinstance(self._access_log, AccessLog):
            self._access_log.flush()

    async def _stop_web(self, name: str, listener: WebListener) -> None:
        self._sockets[name].remove_files()
        await listener.stop()
        self._sockets[name].close()

    # The configuration

    def reload(self, loaded: Loaded) -> Verdict:
        """Use a configuration that was read anew; one that cannot be used changes nothing (breaker.md 26)."""
        return self._take_up(judge(self.config, loaded))

    def _take_up(self, verdict: Verdict) -> Verdict:
        wanted, change = verdict.loaded.config, verdict.change
        if wanted is not None and change is not None:
            try:
                self._use(wanted, change)
            except UnusableUpstream as error:
                verdict = Verdict(unusable(verdict.loaded, error), None)
        self._record.note(verdict)
        return verdict

    def _use(self, wanted: Config, change: ConfigChange) -> None:
        """Route by `wanted` from now on. Raises UnusableUpstream, and then nothing has changed."""
        self.routes.apply(wanted, frozenset(change.unchanged))
        self.config = in_force(self.config, wanted)
        self._needs_restart = change.needs_restart
        self._gateway.use(self.routes.table, self.routes.stacks)
        self._monitors.follow(self.config, self.routes)
        if self._persistence is not None:
            self._persistence.circuits_changed()

    # What happens meanwhile

    def _on_transition(self, transition: Transition) -> None:
        if self._persistence is not None:
            self._persistence.circuits_changed()
        record_transition(self.events, transition, self.moment())
        self._transition_log(transition)

    def _listener_failed(self, error: Exception) -> None:
        log.error("a transition could not be recorded", exc_info=error)

    def _unrouted(self, error: ProxyError, request: Request, response: Response) -> None:
        duration = self.clock.monotonic() - request.started
        self._context.refused(unrouted_record(error, request, response, duration))

    def _answered_here(self, request: Request, response: Response) -> None:
        stats = self.routes.stats.get(request.route_name or "")
        if stats is not None:
            duration = self.clock.monotonic() - request.started
            stats.count(request.head.method, response.head.status, response.source.label, duration)
        self._context.answered_here(request, response)

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

    # What it is made of

    def _make_routes(self) -> RouteSet:
        environment = Environment(
            self.clock, self._tasks.spawn, self._wheel, self._on_transition, self._listener_failed
        )
        parts = Parts(self.config.proxy, self.clock, self._tasks.spawn, self._store, self._access_log)
        routes = RouteSet(environment, parts)
        routes.apply(self.config)
        self._gateway.use(routes.table, routes.stacks)
        return routes

    def _make_persistence(self) -> Persistence | None:
        path = self.config.state_dir
        if path is None:
            return None
        return Persistence(path, self.clock, self._store, lambda: self.routes.circuits, self._tasks.spawn)

    def _make_access_log(self) -> AccessLog | None:
        if self._sink is None or not self.config.proxy.access_log:
            return None
        return AccessLog(
            self._sink.write, lambda delay, call: asyncio.get_running_loop().call_later(delay, call), self.clock.wall
        )

    def _inside(self) -> Inside:
        return Inside(
            config=lambda: self.config,
            routes=self.routes,
            store=self._store,
            events=self.events,
            process=self._stats,
            listener=self._listener_stats,
            reloading=self.reloader,
            moment=self.moment,
            started=lambda: self.started,
            info=self._info,
            log_lines_dropped=lambda: 0 if self._sink is None else self._sink.dropped,
        )

    def _info(self) -> Mapping[str, object]:
        return {
            "name": "circuit-sidecar",
            "version": __version__,
            "pid": os.getpid(),
            "started_at": rfc3339(self._began),
            "config": self.config.source,
            "needs_restart": list(self._needs_restart),
            "listeners": {name: [shown(one) for one in bound] for name, bound in self.addresses.items()},
            "draining": self._stats.draining,
        }


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def shown(address: tuple[str, int] | str) -> str:
    """An address as people write it."""
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
