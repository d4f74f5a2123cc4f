"""What the control plane may ask of the data plane, and order it to do.

The data plane has the clients, the circuits, the stored answers and the upstreams; the control plane has the admin
API, the metrics page, the events, the health probes and the saved state. The second knows the first by this module
only: names and values go in, values come out, and whoever asks awaits the answer. No object that requests work on is
handed out, so that the two need not stay in one process. What is counted may be the counters themselves: whoever
gets them reads them and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sidecar.core.circuit.counters import Counters
    from sidecar.core.circuit.explanation import CircuitSnapshot, OverrideMode, Sample, SavedCircuit, State
    from sidecar.core.config import Config, Fault, UpstreamConfig
    from sidecar.core.fault import ActiveFault
    from sidecar.core.fleet.messages import FleetView
    from sidecar.core.fleet_settings import Scope
    from sidecar.core.storage.purging import PurgeRule
    from sidecar.pipeline.ports import AnswerList, Purged, RouteEntries
    from sidecar.pipeline.stats import (
        FleetStats,
        ListenerStats,
        RouteStats,
        SharedStoreStats,
        StoreStats,
        UpstreamStats,
    )


class UnknownCircuit(LookupError):
    """No circuit has this name; `known` are those there are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(name)
        self.name = name
        self.known = tuple(known)


class UnknownRoute(LookupError):
    """No route has this name; `known` are those there are."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(name)
        self.name = name
        self.known = tuple(known)


class CircuitNotClosed(RuntimeError):
    """What is asked for would fall on a route whose circuit is in this `state` by its own judgement."""

    def __init__(self, name: str, state: State) -> None:
        super().__init__(name)
        self.name = name
        self.state = state


class Unusable(ValueError):
    """A setting that turned out to be of no use when it was to be used; `ref` is where it stands, `file:line`."""

    def __init__(self, what: str, error: Exception, ref: str | None, hint: str) -> None:
        super().__init__(f"{what}: {(error.strerror if isinstance(error, OSError) else None) or error}")
        self.ref = ref or ""
        self.hint = hint


class UnusableFallback(Unusable):
    """A fallback whose file cannot be read."""

    def __init__(self, file: str, why: str, ref: str) -> None:
        what = f"the file of a fallback cannot be used: {file!r}"
        super().__init__(what, ValueError(why), ref, "name a file that the sidecar can read")


class UnusableUpstream(Unusable):
    """An upstream that cannot be built from what its files hold."""

    def __init__(self, config: UpstreamConfig, error: Exception) -> None:
        ref = config.refs.get("tls") or config.refs.get("")
        what = f"the TLS files of upstream {config.name} cannot be used"
        super().__init__(what, error, ref, "name files that the sidecar can read")


class UnusableListener(Unusable):
    """A listener whose address, or whose certificate, cannot be had. `setting` is `proxy.listen` and the like."""

    def __init__(self, config: Config, setting: str, error: Exception) -> None:
        ref = config.refs.get(setting) or config.refs.get(setting.partition(".")[0])
        super().__init__(setting, error, ref, "what listened before still does; name what can be had")


@dataclass(frozen=True, slots=True)
class CircuitReading:
    """A circuit at one moment, and what it has counted since it was made."""

    snapshot: CircuitSnapshot
    counters: Counters


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a health probe of an upstream found. `retry_after`: seconds that the answer asks to wait."""

    healthy: bool
    sample: Sample
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class PlaneStats:
    """What a data plane has counted so far. `loop_lag`: the longest delay of its event loop in the last ten seconds,
    in seconds; `log_lines_dropped`: lines of its log that nobody took in time; `fleet`: None for one that is alone;
    `shared_store`: the same.
    `traces_dropped`: requests whose spans nobody took.
    """

    listener: ListenerStats
    store: StoreStats
    routes: Sequence[RouteStats]
    upstreams: Sequence[UpstreamStats]
    loop_lag: float
    log_lines_dropped: int
    fleet: FleetStats | None = None
    shared_store: SharedStoreStats | None = None
    traces_dropped: int = 0


class CircuitControl(Protocol):
    """The circuits, by name. Whoever names one that there is not gets UnknownCircuit."""

    async def readings(self) -> Sequence[CircuitReading]:
        """Every circuit; the loop has its turns while thousands are looked at."""

    async def snapshot(self, name: str) -> CircuitSnapshot:
        """One circuit."""

    async def override(
        self, name: str, mode: OverrideMode, reason: str, actor: str, ttl: float | None, scope: Scope | None = None
    ) -> None:
        """Force it for `ttl` seconds; afterwards every request meets the override. `scope`: whether those of the whole
        fleet are meant; None: as configured.
        """

    async def release_override(self, name: str, scope: Scope | None = None) -> None:
        """Back to the automatic state. `scope` None: where the override in force is."""

    async def reset(self, name: str, actor: str, reason: str) -> None:
        """Closed, with an empty window."""

    async def export(self) -> Mapping[str, SavedCircuit]:
        """What is to be saved of each circuit that is open or overridden."""

    async def restore(self, saved: Mapping[str, SavedCircuit]) -> Collection[str]:
        """Tell each circuit what was saved of it; the names that no circuit has."""


class FaultControl(Protocol):
    """The faults that are injected on purpose, by route. Whoever names a route that there is not gets UnknownRoute."""

    async def listed(self) -> Mapping[str, ActiveFault]:
        """Those in force."""

    async def inject(self, route: str, fault: Fault, actor: str, reason: str, *, force: bool) -> ActiveFault:
        """Let `fault` hold, in place of another; afterwards every request meets it. Raises CircuitNotClosed, unless
        `force`: nobody rehearses in the middle of an outage.
        """

    async def end(self, route: str, actor: str, reason: str) -> bool:
        """Take the route's fault away; False when it has none."""


class ProbeControl(Protocol):
    """The health probes that circuits want."""

    async def due(self, upstream: str) -> bool:
        """Whether a circuit before `upstream` waits for a probe, and has a permit for it."""

    async def settle(self, upstream: str, result: ProbeResult) -> None:
        """Tell those that still wait: while the answer was awaited, live requests had precedence."""


class FleetControl(Protocol):
    """The fleet that this sidecar belongs to."""

    async def view(self, circuit: str | None) -> FleetView:
        """The fleet and `circuit` in it; with None every circuit, as far as it is known here."""


class CacheControl(Protocol):
    """The stored answers."""

    async def summarize(self) -> Sequence[RouteEntries]:
        """What each route with entries holds, by route name."""

    async def list_answers(self, rules: Sequence[PurgeRule], start: int, limit: int) -> AnswerList:
        """Some of what one of `rules` covers, from the place `start` on; 0 is the first."""

    async def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> Purged:
        """Forget what all the given selectors cover. Afterwards no request is answered with it."""


class CacheSnapshots(Protocol):
    """The file that stored answers outlive the process in."""

    async def restore(self) -> None:
        """Take up what an earlier process left. Nobody else may use the store meanwhile."""

    async def run(self) -> None:
        """Save now and then, for as long as the task lives."""

    async def save(self) -> None:
        """Write the file, in place of the one before."""

    def hurry(self) -> None:
        """End a save that is under way with what it has, and begin no other."""


class DataPlanePort(Protocol):
    """A data plane as its control plane knows it. `snapshots`: None without a `state_dir`; `fleet`: without `redis`."""

    @property
    def fleet(self) -> FleetControl | None:
        """The other sidecars."""

    @property
    def circuits(self) -> CircuitControl:
        """The circuits."""

    @property
    def faults(self) -> FaultControl:
        """What is injected on purpose."""

    @property
    def probes(self) -> ProbeControl:
        """The health probes that the circuits want."""

    @property
    def cache(self) -> CacheControl:
        """The stored answers."""

    @property
    def snapshots(self) -> CacheSnapshots | None:
        """The file of stored answers."""

    async def stats(self) -> PlaneStats:
        """What has been counted."""

    async def use(self, config: Config, unchanged: Collection[str]) -> list[tuple[str, int] | str]:
        """Route by `config` from now on; `unchanged` names the routes whose settings are those in force. Where the
        proxy listener is reached then.

        Raises Unusable, and then nothing has changed.
        """
