"""Every metric's name, type and meaning (contract.md §5). Labels come from the configuration, never from clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.adapters.metrics.exposition import Kind, buckets, by_key, escape, one_hot
from sidecar.core.circuit.explanation import OverrideMode, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.circuit.explanation import CircuitSnapshot
    from sidecar.pipeline.stats import Histogram, ListenerStats, ProcessStats, RouteStats, StoreStats, UpstreamStats

STATES = tuple(state.value for state in State)
MODES = tuple(mode.value for mode in OverrideMode)


@dataclass(frozen=True, slots=True)
class Instruments:
    """Where the numbers are. The callables are asked at each scrape, so that a reload changes what is shown."""

    version: str
    monotonic: Callable[[], float]
    process: ProcessStats
    listener: ListenerStats
    store: StoreStats
    routes: Callable[[], Iterable[RouteStats]]
    upstreams: Callable[[], Iterable[UpstreamStats]]
    circuits: Callable[[], Iterable[Circuit]]
    log_lines_dropped: Callable[[], int]


class Scrape:
    """What one page shows: the objects there were when it began, each with its name escaped for a label."""

    __slots__ = ("circuits", "instruments", "routes", "snapshots", "upstreams")

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self.routes = [(escape(route.name), route) for route in instruments.routes()]
        self.upstreams = [(escape(upstream.name), upstream) for upstream in instruments.upstreams()]
        self.circuits = [(escape(circuit.name), circuit) for circuit in instruments.circuits()]
        self.snapshots: list[tuple[str, CircuitSnapshot]] = []

    def take_snapshots(self) -> Iterator[None]:
        """Look at one circuit after the other."""
        for label, circuit in self.circuits:
            self.snapshots.append((label, circuit.snapshot(self.instruments.monotonic())))
            yield


Lines: TypeAlias = "Callable[[str, Scrape], Iterable[str]]"
"""A family's samples, some ended lines at a time, from its name and the scrape."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, named as its samples are."""

    name: str
    kind: Kind
    meaning: str
    lines: Lines


def _single(value: Callable[[Instruments], float]) -> Lines:
    return lambda name, scrape: [f"{name} {value(scrape.instruments)}\n"]


def _keyed(key: str, counts: Callable[[Instruments], Mapping[str, int]]) -> Lines:
    return lambda name, scrape: [by_key(name, "", key, counts(scrape.instruments))]


def _route(value: Callable[[RouteStats], float]) -> Lines:
    return lambda name, scrape: (f'{name}{{route="{label}"}} {value(route)}\n' for label, route in scrape.routes)


def _requests(name: str, scrape: Scrape) -> Iterator[str]:
    for label, route in scrape.routes:
        yield "".join(
            [
                f'{name}{{route="{label}",method="{method}",code="{code}",source="{source}"}} {count}\n'
                for (method, code, source), count in route.requests.items()
            ]
        )


def _route_histogram(histogram: Callable[[RouteStats], Histogram]) -> Lines:
    return lambda name, scrape: (buckets(name, f'route="{label}"', histogram(it)) for label, it in scrape.routes)


def _served_age(name: str, scrape: Scrape) -> Iterator[str]:
    # A route without a cache has no ages, and a histogram is fifteen lines.
    return (buckets(name, f'route="{label}"', it.served_age) for label, it in scrape.routes if it.cache_results)


def _cache_results(name: str, scrape: Scrape) -> Iterator[str]:
    return (by_key(name, f'route="{label}",', "result", route.cache_results) for label, route in scrape.routes)


def _upstream(value: Callable[[UpstreamStats], float]) -> Lines:
    return lambda name, scrape: (f'{name}{{upstream="{label}"}} {value(it)}\n' for label, it in scrape.upstreams)


def _upstream_keyed(key: str, counts: Callable[[UpstreamStats], Mapping[str, int]]) -> Lines:
    return lambda name, scrape: (by_key(name, f'upstream="{it}",', key, counts(of)) for it, of in scrape.upstreams)


def _attempt_durations(name: str, scrape: Scrape) -> Iterator[str]:
    return (buckets(name, f'upstream="{label}"', it.attempt_durations) for label, it in scrape.upstreams)


def _circuit(value: Callable[[Circuit], float]) -> Lines:
    return lambda name, scrape: (f'{name}{{circuit="{label}"}} {value(it)}\n' for label, it in scrape.circuits)


def _circuit_calls(name: str, scrape: Scrape) -> Iterator[str]:
    return (
        by_key(name, f'circuit="{label}",', "outcome", circuit.counters.calls) for label, circuit in scrape.circuits
    )


def _transitions(name: str, scrape: Scrape) -> Iterator[str]:
    for label, circuit in scrape.circuits:
        yield "".join(
            [
                f'{name}{{circuit="{label}",to="{to}",cause="{cause}"}} {count}\n'
                for (to, cause), count in circuit.counters.transitions.items()
            ]
        )


def _snapshot(value: Callable[[CircuitSnapshot], float]) -> Lines:
    return lambda name, scrape: (f'{name}{{circuit="{label}"}} {value(it)}\n' for label, it in scrape.snapshots)


def _states(name: str, scrape: Scrape) -> Iterator[str]:
    return (one_hot(name, f'circuit="{it}",', "state", STATES, shot.state.value) for it, shot in scrape.snapshots)


def _overrides(name: str, scrape: Scrape) -> Iterator[str]:
    for label, snapshot in scrape.snapshots:
        mode = snapshot.override.mode.value if snapshot.override is not None else None
        yield one_hot(name, f'circuit="{label}",', "mode", MODES, mode)


def _build_info(name: str, scrape: Scrape) -> list[str]:
    return [f'{name}{{version="{escape(scrape.instruments.version)}"}} 1\n']


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

FAMILIES = (
    Family("sidecar_requests_total", COUNTER, "Finished requests, by who made the answer.", _requests),
    Family(
        "sidecar_request_duration_seconds",
        HISTOGRAM,
        "Time from a request's head to the end of its response body.",
        _route_histogram(lambda route: route.durations),
    ),
    Family("sidecar_requests_in_flight", GAUGE, "Requests under way.", _route(lambda route: route.in_flight)),
    Family(
        "sidecar_upstream_attempts_total",
        COUNTER,
        "Attempts at an upstream, by how they ended.",
        _upstream_keyed("result", lambda upstream: upstream.attempts),
    ),
    Family("sidecar_upstream_attempt_duration_seconds", HISTOGRAM, "Time an attempt took.", _attempt_durations),
    Family(
        "sidecar_upstream_connections",
        GAUGE,
        "Open connections to an upstream.",
        _upstream_keyed("state", lambda upstream: {"active": upstream.active, "idle": upstream.idle}),
    ),
    Family(
        "sidecar_upstream_connections_opened_total",
        COUNTER,
        "Connections opened to an upstream.",
        _upstream(lambda upstream: upstream.opened),
    ),
    Family("sidecar_circuit_state", GAUGE, "1 for the automatic state a circuit is in, else 0.", _states),
    Family("sidecar_circuit_override", GAUGE, "1 for the override in force on a circuit, else 0.", _overrides),
    Family("sidecar_circuit_transitions_total", COUNTER, "What happened to a circuit, and why.", _transitions),
    Family(
        "sidecar_circuit_calls_total", COUNTER, "Admitted requests by outcome; slow ones count twice.", _circuit_calls
    ),
    Family(
        "sidecar_circuit_rejected_total",
        COUNTER,
        "Requests that a circuit refused.",
        _circuit(lambda it: it.counters.rejected),
    ),
    Family(
        "sidecar_circuit_failure_rate",
        GAUGE,
        "Share of failures in a circuit's window, 0 to 1.",
        _snapshot(lambda snapshot: snapshot.window.failure_rate),
    ),
    Family(
        "sidecar_circuit_slow_rate",
        GAUGE,
        "Share of slow requests in a circuit's window, 0 to 1.",
        _snapshot(lambda snapshot: snapshot.window.slow_rate),
    ),
    Family(
        "sidecar_circuit_would_have_opened_total",
        COUNTER,
        "Times that a circuit which only observes would have opened.",
        _snapshot(lambda snapshot: snapshot.would_have.opened),
    ),
    Family(
        "sidecar_circuit_would_have_rejected_total",
        COUNTER,
        "Requests that a circuit which only observes would have refused.",
        _snapshot(lambda snapshot: snapshot.would_have.refused),
    ),
    Family(
        "sidecar_circuit_would_have_avoided_failures_total",
        COUNTER,
        "Those of the requests it would have refused that then failed.",
        _snapshot(lambda snapshot: snapshot.would_have.avoided_failures),
    ),
    Family("sidecar_cache_requests_total", COUNTER, "Requests on a route with a cache, by result.", _cache_results),
    Family("sidecar_cache_entries", GAUGE, "Stored answers.", _single(lambda it: it.store.entries)),
    Family("sidecar_cache_bytes", GAUGE, "Memory that stored answers take.", _single(lambda it: it.store.bytes)),
    Family(
        "sidecar_cache_evictions_total",
        COUNTER,
        "Stored answers dropped.",
        _keyed("reason", lambda it: it.store.evictions),
    ),
    Family("sidecar_cache_served_age_seconds", HISTOGRAM, "Age of answers from the cache.", _served_age),
    Family(
        "sidecar_client_connections", GAUGE, "Open client connections.", _single(lambda it: it.listener.connections)
    ),
    Family("sidecar_client_tunnels", GAUGE, "Those upgraded to a tunnel.", _single(lambda it: it.listener.tunnels)),
    Family(
        "sidecar_client_connections_shed_total",
        COUNTER,
        "Idle client connections closed to make room.",
        _single(lambda it: it.listener.shed),
    ),
    Family(
        "sidecar_client_rejected_total",
        COUNTER,
        "Requests and connections refused before any route was known.",
        _keyed("reason", lambda it: it.listener.rejected),
    ),
    Family(
        "sidecar_config_reloads_total",
        COUNTER,
        "Reloads of the configuration.",
        _keyed("result", lambda it: {"success": 0, "error": 0, **it.process.reloads}),
    ),
    Family(
        "sidecar_config_last_reload_successful",
        GAUGE,
        "1 unless the latest reload failed.",
        _single(lambda it: int(it.process.last_reload_ok)),
    ),
    Family(
        "sidecar_event_loop_lag_seconds",
        GAUGE,
        "Longest delay of the event loop in the last ten seconds.",
        _single(lambda it: it.process.loop_lag),
    ),
    Family("sidecar_draining", GAUGE, "1 while shutting down.", _single(lambda it: int(it.process.draining))),
    Family(
        "sidecar_log_lines_dropped_total",
        COUNTER,
        "Log lines lost because standard output was not read.",
        _single(lambda it: it.log_lines_dropped()),
    ),
    Family("sidecar_build_info", GAUGE, "1; the version is the label.", _build_info),
)
