"""What a page shows, and how the samples of a family are written from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.metrics.exposition import NO_EXEMPLARS, buckets, by_key, escape, exemplar, one_hot
from sidecar.core.circuit.explanation import OverrideMode, State
from sidecar.core.http.trace_context import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sidecar.core.bulkhead import Bulkhead
    from sidecar.core.report import Moment
    from sidecar.pipeline.data_plane import CircuitReading, PlaneStats
    from sidecar.pipeline.stats import FleetStats, ProcessStats, RouteStats, SharedStoreStats, UpstreamStats

STATES = tuple(state.value for state in State)
MODES = tuple(mode.value for mode in OverrideMode)


class Scrape:
    """The objects there were when a page was begun, each with its name escaped for a label. `moment` is when that was,
    for a page with exemplars, else None.
    """

    __slots__ = ("circuits", "moment", "process", "routes", "stats", "upstreams", "version")

    def __init__(
        self,
        version: str,
        process: ProcessStats,
        stats: PlaneStats,
        circuits: Sequence[CircuitReading],
        moment: Moment | None = None,
    ) -> None:
        self.moment = moment
        self.version = version
        self.process = process
        self.stats = stats
        self.routes = [(escape(route.name), route) for route in stats.routes]
        self.upstreams = [(escape(upstream.name), upstream) for upstream in stats.upstreams]
        self.circuits = [(escape(circuit.snapshot.name), circuit) for circuit in circuits]


Lines: TypeAlias = "Callable[[str, Scrape], Iterable[str]]"
"""A family's samples, some ended lines at a time, from its name and the scrape."""


def single(value: Callable[[Scrape], float]) -> Lines:
    """The one sample of a family without labels."""
    return lambda name, scrape: [f"{name} {value(scrape)}\n"]


def keyed(key: str, counts: Callable[[Scrape], Mapping[str, int]]) -> Lines:
    """One sample for each key of a mapping."""
    return lambda name, scrape: [by_key(name, "", key, counts(scrape))]


def of_fleet(value: Callable[[FleetStats], float]) -> Lines:
    """The one sample of a fleet's family; none where there is no fleet."""
    return lambda name, scrape: [] if (fleet := scrape.stats.fleet) is None else [f"{name} {value(fleet)}\n"]


def of_shared_store(value: Callable[[SharedStoreStats], float]) -> Lines:
    """The one sample of a family of the fleet's store; none where memory is all."""
    return lambda name, scrape: [] if (shared := scrape.stats.shared_store) is None else [f"{name} {value(shared)}\n"]


def shared_store_keyed(key: str, counts: Callable[[SharedStoreStats], Mapping[str, int]]) -> Lines:
    """One sample for each key of a mapping of the fleet's store."""
    return lambda name, scrape: (
        [] if (shared := scrape.stats.shared_store) is None else [by_key(name, "", key, counts(shared))]
    )


def redis_commands(name: str, scrape: Scrape) -> list[str]:
    """What Redis was asked, for the circuits and for the cache."""
    asked = _asked_of_redis(scrape)
    return [f"{name} {sum(each.commands for each in asked)}\n"] if asked else []


def redis_errors(name: str, scrape: Scrape) -> list[str]:
    """What went wrong with Redis."""
    asked = _asked_of_redis(scrape)
    kinds = {kind: sum(each.errors.get(kind, 0) for each in asked) for each in asked for kind in each.errors}
    return [by_key(name, "", "kind", kinds)] if asked else []


def _asked_of_redis(scrape: Scrape) -> list[FleetStats]:
    fleet, shared = scrape.stats.fleet, scrape.stats.shared_store
    return [each for each in (fleet, None if shared is None else shared.redis) if each is not None]


def per_route(value: Callable[[RouteStats], float]) -> Lines:
    """One sample for each route."""
    return lambda name, scrape: (f'{name}{{route="{label}"}} {value(route)}\n' for label, route in scrape.routes)


def requests(name: str, scrape: Scrape) -> Iterator[str]:
    """The requests of each route, by method, status and who answered."""
    for label, route in scrape.routes:
        yield "".join(
            [
                f'{name}{{route="{label}",method="{method}",code="{code}",source="{source}"}} {count}\n'
                for (method, code, source), count in route.requests.items()
            ]
        )


def request_durations(name: str, scrape: Scrape) -> Iterator[str]:
    """How long the requests of each route took, with the latest trace in each bucket."""
    for label, route in scrape.routes:
        exemplars = NO_EXEMPLARS if scrape.moment is None else _exemplars(route, scrape.moment)
        yield buckets(name, f'route="{label}"', route.durations, exemplars)


def _exemplars(route: RouteStats, moment: Moment) -> dict[int, str]:
    """By bucket. A client may send anything as `traceparent`: here only what is a trace's id passes."""
    shown = {}
    for bucket, (traceparent, duration, at) in route.exemplars.items():
        if found := TRACEPARENT.match(traceparent):
            shown[bucket] = exemplar(found["trace"], duration, moment.wall + at - moment.monotonic)
    return shown


def served_age(name: str, scrape: Scrape) -> Iterator[str]:
    """How old the answers were that a cache gave."""
    # A route without a cache has no ages, and a histogram is fifteen lines.
    return (buckets(name, f'route="{label}"', it.served_age) for label, it in scrape.routes if it.cache_results)


def route_keyed(key: str, counts: Callable[[RouteStats], Mapping[str, int]]) -> Lines:
    """One sample for each route and key of a mapping."""
    return lambda name, scrape: (by_key(name, f'route="{it}",', key, counts(of)) for it, of in scrape.routes)


def per_bulkhead(value: Callable[[Bulkhead], float]) -> Lines:
    """One sample for each route with a bulkhead."""
    return lambda name, scrape: (
        f'{name}{{route="{label}"}} {value(route.bulkhead)}\n' for label, route in scrape.routes if route.bulkhead
    )


def per_rate_limit(value: Callable[[RouteStats], float]) -> Lines:
    """One sample for each route with a rate limit."""
    return lambda name, scrape: (
        f'{name}{{route="{label}"}} {value(route)}\n' for label, route in scrape.routes if route.bucket
    )


def per_upstream(value: Callable[[UpstreamStats], float]) -> Lines:
    """One sample for each upstream."""
    return lambda name, scrape: (f'{name}{{upstream="{label}"}} {value(it)}\n' for label, it in scrape.upstreams)


def upstream_keyed(key: str, counts: Callable[[UpstreamStats], Mapping[str, int]]) -> Lines:
    """One sample for each upstream and key of a mapping."""
    return lambda name, scrape: (by_key(name, f'upstream="{it}",', key, counts(of)) for it, of in scrape.upstreams)


def attempt_durations(name: str, scrape: Scrape) -> Iterator[str]:
    """How long attempts at each upstream took."""
    return (buckets(name, f'upstream="{label}"', it.attempt_durations) for label, it in scrape.upstreams)


def per_circuit(value: Callable[[CircuitReading], float]) -> Lines:
    """One sample for each circuit."""
    return lambda name, scrape: (f'{name}{{circuit="{label}"}} {value(it)}\n' for label, it in scrape.circuits)


def circuit_calls(name: str, scrape: Scrape) -> Iterator[str]:
    """Settled requests of each circuit, by outcome."""
    return (
        by_key(name, f'circuit="{label}",', "outcome", circuit.counters.calls) for label, circuit in scrape.circuits
    )


def transitions(name: str, scrape: Scrape) -> Iterator[str]:
    """What happened to each circuit, by where it went and why."""
    for label, circuit in scrape.circuits:
        yield "".join(
            [
                f'{name}{{circuit="{label}",to="{to}",cause="{cause}"}} {count}\n'
                for (to, cause), count in circuit.counters.transitions.items()
            ]
        )


def states(name: str, scrape: Scrape) -> Iterator[str]:
    """Which automatic state each circuit is in."""
    return (one_hot(name, f'circuit="{it}",', "state", STATES, of.snapshot.state.value) for it, of in scrape.circuits)


def overrides(name: str, scrape: Scrape) -> Iterator[str]:
    """Which override is in force on each circuit."""
    for label, circuit in scrape.circuits:
        override = circuit.snapshot.override
        mode = override.mode.value if override is not None else None
        yield one_hot(name, f'circuit="{label}",', "mode", MODES, mode)


def build_info(name: str, scrape: Scrape) -> list[str]:
    """The version."""
    return [f'{name}{{version="{escape(scrape.version)}"}} 1\n']
