"""The control plane: whatever tells about the data plane, steers it, and remembers it across a restart."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from sidecar import __version__
from sidecar.adapters.admin import AdminContext, build_admin
from sidecar.adapters.dashboard import pages
from sidecar.adapters.exclusive import ListenSockets
from sidecar.adapters.health import HealthMonitor
from sidecar.adapters.logs import TransitionLog
from sidecar.adapters.metrics import Metrics
from sidecar.adapters.telemetry import TelemetryState, build_telemetry
from sidecar.adapters.traffic import TrafficSampler
from sidecar.adapters.web import CallerLimits, WebListener
from sidecar.app.monitors import Monitors, Work
from sidecar.app.persistence import Persistence
from sidecar.app.readiness import Readiness, Standing
from sidecar.app.reload import Reloader, ReloadRecord, unusable
from sidecar.config.change import Reviewed, in_force
from sidecar.core.address import bound_text
from sidecar.core.events import EventRing, record_transition
from sidecar.core.redaction import Redaction
from sidecar.core.report import Moment, fault_change_report, rfc3339
from sidecar.pipeline.data_plane import Unusable, UnusableListener
from sidecar.pipeline.stats import ProcessStats

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from sidecar.adapters.exclusive.listen_sockets import ProtocolFactory
    from sidecar.adapters.file_stamp import Stamp
    from sidecar.config.change import ConfigChange
    from sidecar.core.circuit.explanation import Transition
    from sidecar.core.config import Address, AdminSettings, Config, TelemetrySettings
    from sidecar.core.fault import FaultChange
    from sidecar.pipeline.data_plane import DataPlanePort
    from sidecar.pipeline.runtime import Runtime

log = logging.getLogger("sidecar.fault")

Addresses: TypeAlias = "dict[str, list[tuple[str, int] | str]]"


class ControlPlane:
    """Admin API, telemetry, events, health probes, saved state and reloads, for the data plane behind `plane`.

    `probe_tls` gives the context with which the https endpoints of an upstream are probed, `seen` is the stamp of the
    configuration file from before it was read.
    """

    def __init__(
        self,
        config: Config,
        runtime: Runtime,
        plane: DataPlanePort,
        probe_tls: Callable[[str], ssl.SSLContext | None],
        seen: Stamp = None,
    ) -> None:
        self.config = config
        """The configuration in force."""
        self.started = False
        self.ended = asyncio.Event()
        """Set when somebody wants the process to drain and end."""
        self.addresses: Addresses = {}
        """Where each listener is reached; a drain changes nothing about that."""
        self.events = EventRing(first_id=int(runtime.clock.wall() * 1000), redaction=Redaction(config.log.redact_query))
        self.reloader = Reloader(self._take_up, lambda: self.config, runtime.spawn, seen)
        self._runtime = runtime
        self._plane = plane
        self._probe_tls = probe_tls
        self._began = runtime.clock.wall()
        self._stats = ProcessStats()
        self._needs_restart: tuple[str, ...] = ()
        self._transition_log = TransitionLog(self.moment)
        self._reloads = ReloadRecord(self._stats, self.events, runtime.clock)
        self._monitors = Monitors(runtime.spawn)
        self._traffic = TrafficSampler(plane, runtime.clock.monotonic)
        self._watching: asyncio.Task[None] | None = None
        self._persistence = self._make_persistence()
        self._sockets = {name: ListenSockets(addresses) for name, addresses in _own_addresses(config).items()}
        self._web = {
            "admin": WebListener(build_admin(self._admin_context()), _caller_limits(config.admin)),
            "telemetry": WebListener(build_telemetry(self._telemetry_state()), _caller_limits(config.telemetry)),
        }
        self._protocols: dict[str, ProtocolFactory] = {}

    def moment(self) -> Moment:
        """Now, on both clocks."""
        return Moment(self._runtime.clock.monotonic(), self._runtime.clock.wall())

    def note_transition(self, transition: Transition) -> None:
        """Save, record and log what happened to a circuit."""
        if self._persistence is not None:
            self._persistence.circuits_changed()
        record_transition(self.events, transition, self.moment())
        self._transition_log(transition)

    def note_fault(self, change: FaultChange) -> None:
        """Record and log that a fault began or ended."""
        details = fault_change_report(change)
        log.log(logging.WARNING if change.action == "set" else logging.INFO, change.sentence, extra=details)
        self.events.append(self._runtime.clock.wall(), "fault", change.sentence, circuit=change.route, details=details)

    # Life

    def bind(self) -> None:
        """Take the addresses of both listeners. Raises OSError."""
        for sockets in self._sockets.values():
            sockets.bind()

    async def open(self) -> None:
        """Answer probes, take up what an earlier process left, and answer the admin API. Raises OSError.

        After every address has been taken, so that a second process that is started by mistake leaves the files alone.
        """
        await self._serve("telemetry")
        if self._persistence is not None:
            await self._persistence.open()
            await self._persistence.restore()
        await self._serve("admin")

    def begin(self, proxy: list[tuple[str, int] | str]) -> None:
        """The data plane serves, on `proxy`: say so, and start what runs beside it."""
        self._note_addresses(proxy)
        self._tend()
        self._watching = self._runtime.spawn(self.reloader.watch(), name="watch the configuration file")
        if self._persistence is not None:
            self._persistence.begin()
        self.started = True

    def drain(self) -> None:
        """Tell everybody that the end has begun. Nothing is reloaded any more unless somebody asks."""
        self._stats.draining = True
        if self._watching is not None:
            self._watching.cancel()

    async def end_orders(self) -> None:
        """Take no more orders, and send no more health probes."""
        await self._close("admin")
        self._monitors.close()

    async def save(self, hurry: asyncio.Event) -> None:
        """Save for the last time, and then end the telemetry. It takes no long time once `hurry` is set."""
        if self._persistence is not None and self.started:
            await self._persistence.close(hurry)
        await self._close("telemetry")

    def release(self) -> None:
        """Let another process have the state."""
        if self._persistence is not None:
            self._persistence.release()

    async def _serve(self, name: str) -> None:
        self._protocols[name] = await self._web[name].start()
        await self._sockets[name].serve(self._protocols[name])

    async def _close(self, name: str) -> None:
        self._sockets[name].remove_files()
        self._sockets[name].end_servers()
        await self._web[name].stop()
        self._sockets[name].close()

    def _note_addresses(self, proxy: list[tuple[str, int] | str]) -> None:
        self.addresses = {"proxy": proxy, **{name: sockets.addresses for name, sockets in self._sockets.items()}}

    # The configuration

    async def _take_up(self, reviewed: Reviewed) -> Reviewed:
        """Use a configuration that was read anew; one that cannot be used changes nothing (breaker.md 26)."""
        wanted, change = reviewed.loaded.config, reviewed.change
        if wanted is not None and change is not None:
            try:
                await self._use(wanted, change)
            except Unusable as error:
                reviewed = Reviewed(unusable(reviewed.loaded, error), None)
        self._reloads.note(reviewed)
        return reviewed

    async def _use(self, wanted: Config, change: ConfigChange) -> None:
        config = in_force(self.config, wanted)
        following = self._following_sockets(config)
        try:
            proxy = await self._plane.use(config, frozenset(change.unchanged))
        except BaseException:
            for name, sockets in following.items():
                sockets.close(but=self._sockets[name])
            raise
        self.config = config
        await self._move_to(following)
        self._note_addresses(proxy)
        self._needs_restart = change.needs_restart
        self._tend()
        if self._persistence is not None:
            self._persistence.circuits_changed()

    def _following_sockets(self, config: Config) -> dict[str, ListenSockets]:
        following: dict[str, ListenSockets] = {}
        for name, addresses in _own_addresses(config).items():
            try:
                following[name] = self._sockets[name].successor(addresses)
            except OSError as error:
                for taken, sockets in following.items():
                    sockets.close(but=self._sockets[taken])
                raise UnusableListener(config, f"{name}.listen", error) from error
        return following

    async def _move_to(self, following: dict[str, ListenSockets]) -> None:
        before, self._sockets = self._sockets, following
        for name, sockets in following.items():
            await sockets.serve(self._protocols[name])
            await before[name].retire(sockets)

    def _tend(self) -> None:
        self._monitors.follow([Work("traffic", (), self._traffic.run), *self._health_probes()])

    def _health_probes(self) -> Iterator[Work]:
        for upstream in self.config.upstreams:
            if upstream.health is not None:
                tls = partial(self._probe_tls, upstream.name)
                monitor = HealthMonitor(upstream, upstream.health, self._plane.probes, self._runtime.clock, tls)
                depends_on = (upstream.health, upstream.endpoints, upstream.tls)
                yield Work(f"health of {upstream.name}", depends_on, monitor.run)

    # What it is made of

    def _make_persistence(self) -> Persistence | None:
        path, snapshots = self.config.state_dir, self._plane.snapshots
        if path is None or snapshots is None:
            return None
        return Persistence(path, self._runtime, self._plane.circuits, snapshots)

    def _admin_context(self) -> AdminContext:
        settings = self.config.admin
        return AdminContext(
            config=lambda: self.config,
            plane=self._plane,
            events=self.events,
            traffic=self._traffic.history,
            read_traffic=self._traffic.read,
            moment=self.moment,
            info=self._info,
            reloading=self.reloader,
            pages=pages(),
            hosts=self._admin_hosts,
            end=self.ended.set if settings.quitquitquit else None,
            token_file=settings.token_file,
        )

    def _admin_hosts(self) -> Iterator[str]:
        yield from self.config.admin.allowed_hosts
        yield from (address.host for address in self.config.admin.listen if address.host)

    def _telemetry_state(self) -> TelemetryState:
        metrics = Metrics(__version__, self._stats, self._plane, self.moment)
        readiness = Readiness(
            self._plane,
            self._stats,
            lambda: Standing(self.config.source, self.started, self.addresses),
            self.moment,
        )
        return TelemetryState(lambda: self.started, readiness.unready, readiness.report, metrics.page)

    def _info(self) -> Mapping[str, object]:
        return {
            "name": "circuit-sidecar",
            "version": __version__,
            "pid": os.getpid(),
            "started_at": rfc3339(self._began),
            "config": self.config.source,
            "needs_restart": list(self._needs_restart),
            "listeners": {name: [bound_text(one) for one in bound] for name, bound in self.addresses.items()},
            "draining": self._stats.draining,
        }


def _caller_limits(settings: AdminSettings | TelemetrySettings) -> CallerLimits:
    return CallerLimits(settings.connections, settings.head_timeout)


def _own_addresses(config: Config) -> dict[str, tuple[Address, ...]]:
    return {"admin": config.admin.listen, "telemetry": config.telemetry.listen}
