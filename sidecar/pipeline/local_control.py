"""The control of circuits, probes and stored answers that are in this very process (`pipeline/data_plane.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.circuit.explanation import State
from sidecar.core.circuit.outcome import Outcome
from sidecar.core.circuit.permit import Permit, Role
from sidecar.pipeline.data_plane import CircuitNotClosed, CircuitReading, UnknownCircuit, UnknownRoute
from sidecar.pipeline.possible_series import begin_fault
from sidecar.pipeline.slices import in_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import CircuitSnapshot, OverrideMode, SavedCircuit
    from sidecar.core.circuit.gate import Lease
    from sidecar.core.config import Fault, RouteConfig
    from sidecar.core.fault import ActiveFault, RouteFault
    from sidecar.core.fleet_settings import Scope
    from sidecar.core.storage.purging import PurgeRule
    from sidecar.pipeline.data_plane import ProbeResult
    from sidecar.pipeline.ports import AnswerList, CacheStore, ProbeLeases, Purged, RouteEntries
    from sidecar.pipeline.stats import RouteStats


class FaultyRoute(NamedTuple):
    """A route as far as faults are concerned."""

    config: RouteConfig
    fault: RouteFault
    circuit: Circuit
    stats: RouteStats


class LocalCircuits:
    """A `CircuitControl`. `circuits` gives those in force by name; `monotonic` is the time they are told."""

    def __init__(self, circuits: Callable[[], Mapping[str, Circuit]], monotonic: Callable[[], float]) -> None:
        self._circuits = circuits
        self._monotonic = monotonic

    async def readings(self) -> list[CircuitReading]:
        """Every circuit, in the order of the configuration."""
        return await in_slices(
            (
                CircuitReading(circuit.snapshot(self._monotonic()), circuit.counters)
                for circuit in tuple(self._circuits().values())
            ),
            self._monotonic,
        )

    async def snapshot(self, name: str) -> CircuitSnapshot:
        """One circuit."""
        return self.named(name).snapshot(self._monotonic())

    async def override(
        self,
        name: str,
        mode: OverrideMode,
        reason: str,
        actor: str,
        ttl: float | None,
        scope: Scope | None = None,  # noqa: ARG002 - one that is alone is its own fleet
    ) -> None:
        """Force it for `ttl` seconds, or until it is released."""
        self.named(name).override(mode, reason, actor, ttl, self._monotonic())

    async def release_override(self, name: str, scope: Scope | None = None) -> None:  # noqa: ARG002 - the same
        """Back to the automatic state."""
        self.named(name).release_override(self._monotonic())

    async def reset(self, name: str, actor: str, reason: str) -> None:
        """Closed, with an empty window."""
        self.named(name).reset(self._monotonic(), actor, reason)

    async def export(self) -> dict[str, SavedCircuit]:
        """What is to be saved, by name."""
        circuits = tuple(self._circuits().items())
        exported = await in_slices(
            ((name, circuit.export(self._monotonic())) for name, circuit in circuits), self._monotonic
        )
        return {name: saved for name, saved in exported if saved is not None}

    async def restore(self, saved: Mapping[str, SavedCircuit]) -> Collection[str]:
        """Tell each circuit what was saved of it; the names that no circuit has."""
        circuits = self._circuits()
        for name in saved.keys() & circuits.keys():
            circuits[name].restore(saved[name], self._monotonic())
        return saved.keys() - circuits.keys()

    def named(self, name: str) -> Circuit:
        """The circuit of that name. Raises UnknownCircuit."""
        circuits = self._circuits()
        if name not in circuits:
            raise UnknownCircuit(name, circuits)
        return circuits[name]


class LocalFaults:
    """A `FaultControl` of the routes that `routes` gives by name."""

    def __init__(self, routes: Callable[[], Mapping[str, FaultyRoute]], monotonic: Callable[[], float]) -> None:
        self._routes = routes
        self._monotonic = monotonic

    async def listed(self) -> dict[str, ActiveFault]:
        """Those in force, in the order of the configuration."""
        found = ((name, route.fault.live(self._monotonic())) for name, route in tuple(self._routes().items()))
        return {name: active for name, active in found if active is not None}

    async def inject(self, route: str, fault: Fault, actor: str, reason: str, *, force: bool) -> ActiveFault:
        """Let `fault` hold, in place of another."""
        target = self._named(route)
        state = target.circuit.state
        if state is not State.CLOSED and not force:
            raise CircuitNotClosed(route, state)
        begin_fault(target.stats, target.config, fault)
        return target.fault.begin(fault, actor, reason, self._monotonic())

    async def end(self, route: str, actor: str, reason: str) -> bool:
        """Take it away; False when there is none."""
        return self._named(route).fault.end(actor, reason, self._monotonic())

    def _named(self, name: str) -> FaultyRoute:
        routes = self._routes()
        if name not in routes:
            raise UnknownRoute(name, routes)
        return routes[name]


class LocalProbes:
    """A `ProbeControl`. `circuits` gives those of the routes to an upstream.

    A closed circuit never hears of a health probe, so that a health endpoint that lies cannot hide, in the window,
    what real requests meet; and an open one is left alone until its time is over.
    """

    def __init__(
        self,
        circuits: Callable[[str], Iterable[Circuit]],
        monotonic: Callable[[], float],
        leases: ProbeLeases | None = None,
    ) -> None:
        self._circuits = circuits
        self._monotonic = monotonic
        self._leases = leases
        self._held: dict[str, Lease] = {}

    async def due(self, upstream: str) -> bool:
        """Whether the next request to one of the circuits would be a probe, and would get a permit."""
        due = self._due(upstream)
        if self._leases is None:
            return bool(due)
        found = [await self._may_probe(circuit, self._leases) for circuit in due]
        return any(found)

    async def settle(self, upstream: str, result: ProbeResult) -> None:
        """Take a probe's permit of each circuit that is due, and settle it at once."""
        for circuit in self._due(upstream):
            lease = self._held.pop(circuit.name, None)
            if lease is not None or circuit.gate is None or not circuit.gate.shut:
                self._settle(circuit, lease, result)

    def _settle(self, circuit: Circuit, lease: Lease | None, result: ProbeResult) -> None:
        now, gate = self._monotonic(), circuit.gate
        if gate is not None and lease is not None:
            gate.lend(lease)
        permit = circuit.ask(now, safe=True)
        if lease is not None and self._leases is not None:
            self._leases.return_unused(circuit, lease)
        if isinstance(permit, Permit):
            found = Outcome.SUCCESS if result.healthy else Outcome.FAILURE
            outcome = found if permit.role is Role.PROBE else Outcome.NOT_SENT
            circuit.settle(permit, outcome, now, describe=lambda: result.sample, retry_after=result.retry_after)

    async def _may_probe(self, circuit: Circuit, leases: ProbeLeases) -> bool:
        """Whether the fleet lets this sidecar probe; its leave is kept for `settle`."""
        if (unused := self._held.pop(circuit.name, None)) is not None:
            leases.give_back(circuit, unused)
        if circuit.gate is None or not circuit.gate.shared:
            return True
        if not circuit.wants_lease(self._monotonic(), safe=True):
            return False
        lease = await leases.acquire(circuit)
        if lease is not None:
            self._held[circuit.name] = lease
        return lease is not None

    def _due(self, upstream: str) -> list[Circuit]:
        now = self._monotonic()
        return [
            circuit
            for circuit in self._circuits(upstream)
            if circuit.probing(now) and circuit.peek(now, safe=True) is None
        ]


class LocalCache:
    """A `CacheControl` of one store."""

    def __init__(self, store: CacheStore) -> None:
        self._store = store

    async def summarize(self) -> Sequence[RouteEntries]:
        """What each route with entries holds, by route name."""
        return self._store.summarize()

    async def list_answers(self, rules: Sequence[PurgeRule], start: int, limit: int) -> AnswerList:
        """Some of what one of `rules` covers, from the place `start` on."""
        return self._store.list_answers(rules, start, limit)

    async def purge(
        self,
        *,
        route: str | None = None,
        url: bytes | None = None,
        prefix: bytes | None = None,
        tag: bytes | None = None,
    ) -> Purged:
        """Forget what all the given selectors cover."""
        return self._store.purge(route=route, url=url, prefix=prefix, tag=tag)
