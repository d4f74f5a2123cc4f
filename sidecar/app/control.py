"""What the control listeners are given: the admin API's context, and the telemetry's instruments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.adapters.admin import AdminContext, build_admin
from sidecar.adapters.metrics import Instruments, Metrics
from sidecar.adapters.telemetry import TelemetryState, build_telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import web

    from sidecar.adapters.admin import Reloading
    from sidecar.adapters.memory_store import MemoryStore
    from sidecar.app.routes import RouteSet
    from sidecar.core.config import Config
    from sidecar.core.events import EventRing
    from sidecar.core.report import Moment
    from sidecar.pipeline.stats import ListenerStats, ProcessStats


@dataclass(frozen=True, slots=True)
class Inside:
    """A process as its control listeners see it. `started`: it listens."""

    config: Callable[[], Config]
    routes: RouteSet
    store: MemoryStore
    events: EventRing
    process: ProcessStats
    listener: ListenerStats
    reloading: Reloading
    moment: Callable[[], Moment]
    started: Callable[[], bool]
    info: Callable[[], Mapping[str, object]]
    log_lines_dropped: Callable[[], int]


def admin_application(inside: Inside) -> web.Application:
    """The application of the admin listener."""
    settings = inside.config().admin
    context = AdminContext(
        config=inside.config,
        circuits=lambda: inside.routes.circuits,
        route_stats=inside.routes.all_stats,
        store=inside.store,
        events=inside.events,
        moment=inside.moment,
        info=inside.info,
        reloading=inside.reloading,
        hosts=(*settings.allowed_hosts, *(address.host for address in settings.listen if address.host)),
        token_file=settings.token_file,
    )
    return build_admin(context)


def telemetry_application(inside: Inside) -> web.Application:
    """The application of the telemetry listener."""
    metrics = Metrics(
        Instruments(
            version=__version__,
            monotonic=lambda: inside.moment().monotonic,
            process=inside.process,
            listener=inside.listener,
            store=inside.store.stats,
            routes=inside.routes.all_stats,
            upstreams=inside.routes.upstream_stats,
            circuits=inside.routes.all_circuits,
            log_lines_dropped=inside.log_lines_dropped,
        )
    )

    def unready() -> str | None:
        if inside.process.draining:
            return "draining"
        return None if inside.started() else "starting"

    return build_telemetry(TelemetryState(inside.started, unready, metrics.page))
