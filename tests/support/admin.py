"""An admin API around real circuits, a real event ring and a fake store, for tests to call."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sidecar.adapters.admin import AdminContext, build_admin
from sidecar.adapters.config_file import load_text
from sidecar.adapters.traffic import TrafficSampler
from sidecar.config.change import Reviewed, judge
from sidecar.core.circuit.circuit import Circuit
from sidecar.core.circuit.explanation import Sample
from sidecar.core.circuit.hooks import Hooks
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit
from sidecar.core.config import Config, Endpoint, Match, RouteConfig, UpstreamConfig
from sidecar.core.events import EventRing, record_transition
from sidecar.core.report import Moment
from sidecar.pipeline.data_plane import PlaneStats
from sidecar.pipeline.local_control import LocalCircuits
from sidecar.pipeline.ports import Purged
from sidecar.pipeline.stats import ListenerStats, RouteStats
from tests.support.fake_plane import FakePlane
from tests.support.fake_store import FakeStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from sidecar.core.circuit.explanation import Transition
    from sidecar.pipeline.ports import RouteEntries

NOON = 1_764_000_000.0
"""Wall time at which these tests take place: 2025-11-24T16:00:00Z."""


class PurgeableStore(FakeStore):
    """A store that only notes what it is told to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.purges: list[dict[str, str | bytes | None]] = []
        self.held: list[RouteEntries] = []

    def purge(self, **selectors: Any) -> Purged:
        self.purges.append({name: value for name, value in selectors.items() if value is not None})
        return Purged(3, (b"http://shop.svc:8080/a",))

    def summarize(self) -> Sequence[RouteEntries]:
        return self.held


class FakeReloading:
    """Reads `file`, a text, instead of a file; counts the reloads."""

    def __init__(self, running: Config) -> None:
        self.running = running
        self.file = ""
        self.reloads = 0

    async def check(self, text: str | None) -> Reviewed:
        return judge(self.running, load_text(self.file if text is None else text, {}))

    async def reload(self) -> Reviewed:
        self.reloads += 1
        return await self.check(None)


class Administered:
    """A process with two routes, as the admin API sees it; `now` is its monotonic time."""

    def __init__(self) -> None:
        upstream = UpstreamConfig("shop", (Endpoint("http", "shop.svc", 8080),))
        self.now = 1000.0
        self.config = Config(
            (upstream,),
            tuple(RouteConfig(name, Match(prefix=f"/{name}/"), upstream) for name in ("catalog", "orders")),
        )
        self.events = EventRing()
        self.store = PurgeableStore()
        self.reloading = FakeReloading(self.config)
        self.route_stats = [RouteStats("catalog"), RouteStats("orders")]
        hooks = Hooks(random=lambda: 0.5, listener=self._note, listener_failed=self._fail)
        self.circuits = {
            route.name: Circuit(route.name, route.breaker, hooks, self.now, {"breaker": "sidecar.yaml:7"})
            for route in self.config.routes
        }

    def _note(self, transition: Transition) -> None:
        record_transition(self.events, transition, self.moment())

    def _fail(self, error: Exception) -> None:
        raise error

    def moment(self) -> Moment:
        """Both clocks; they run alike."""
        return Moment(self.now, NOON + self.now - 1000.0)

    def app(self, **changes: Any) -> web.Application:
        """The application; `changes` replace parts of its context."""
        plane = FakePlane(
            LocalCircuits(lambda: self.circuits, lambda: self.now),
            lambda: PlaneStats(ListenerStats(), self.store.stats, self.route_stats, (), 0.0, 0),
            self.store,
        )
        traffic = TrafficSampler(plane, lambda: self.now)
        context = AdminContext(
            config=lambda: self.config,
            plane=plane,
            events=self.events,
            traffic=traffic.history,
            read_traffic=traffic.read,
            moment=self.moment,
            info=lambda: {"version": "1.2.3", "uptime_seconds": self.now},
            reloading=self.reloading,
        )
        return build_admin(replace(context, **changes))

    def fail(self, name: str, times: int = 5) -> None:
        """Let requests through a circuit fail."""
        for number in range(times):
            permit = self.circuits[name].ask(self.now, safe=True)
            assert isinstance(permit, Permit)
            describe = partial(Sample, self.moment().wall, f"id-{number}", "GET", "/items", 503, None, 0.025)
            self.circuits[name].settle(permit, Outcome.FAILURE, self.now, describe=describe)

    def admits(self, name: str) -> bool:
        """Whether a request to the circuit would pass."""
        return self.circuits[name].peek(self.now, safe=True) is None
