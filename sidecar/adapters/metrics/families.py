"""Every metric's name, type and meaning (contract.md §5). Labels come from the configuration, never from clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.adapters.metrics import samples
from sidecar.adapters.metrics.exposition import Kind

if TYPE_CHECKING:
    from sidecar.adapters.metrics.samples import Lines


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, named as its samples are."""

    name: str
    kind: Kind
    meaning: str
    lines: Lines


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

FAMILIES = (
    Family("sidecar_requests_total", COUNTER, "Finished requests, by who made the answer.", samples.requests),
    Family(
        "sidecar_request_duration_seconds",
        HISTOGRAM,
        "Time from a request's head to the end of its response body.",
        samples.request_durations,
    ),
    Family(
        "sidecar_requests_in_flight", GAUGE, "Requests under way.", samples.per_route(lambda route: route.in_flight)
    ),
    Family(
        "sidecar_deadline_exceeded_total",
        COUNTER,
        "Requests whose deadline, the client's or timeouts.total, passed before their answer was complete.",
        samples.per_route(lambda route: route.deadline_exceeded),
    ),
    Family(
        "sidecar_bulkhead_in_use",
        GAUGE,
        "Slots of a bulkhead that are taken.",
        samples.per_bulkhead(lambda bulkhead: bulkhead.in_use),
    ),
    Family(
        "sidecar_bulkhead_limit",
        GAUGE,
        "Slots that a bulkhead has now: max_concurrent, or what it has adapted to.",
        samples.per_bulkhead(lambda bulkhead: bulkhead.limit),
    ),
    Family(
        "sidecar_bulkhead_queued",
        GAUGE,
        "Requests that wait for a slot of a bulkhead.",
        samples.per_bulkhead(lambda bulkhead: bulkhead.queued),
    ),
    Family(
        "sidecar_bulkhead_rejected_total",
        COUNTER,
        "Requests that a bulkhead refused, by class.",
        samples.route_keyed("class", lambda route: route.bulkhead_rejected),
    ),
    Family(
        "sidecar_bulkhead_rejected_observed_total",
        COUNTER,
        "Requests that a bulkhead which only observes would have refused, by class.",
        samples.route_keyed("class", lambda route: route.bulkhead_observed),
    ),
    Family(
        "sidecar_rate_limited_total",
        COUNTER,
        "Requests that a rate limit refused.",
        samples.per_rate_limit(lambda route: route.rate_limited),
    ),
    Family(
        "sidecar_rate_limited_observed_total",
        COUNTER,
        "Requests that a rate limit which only observes would have refused.",
        samples.per_rate_limit(lambda route: route.rate_limited_observed),
    ),
    Family(
        "sidecar_upstream_attempts_total",
        COUNTER,
        "Attempts at an upstream, by how they ended.",
        samples.upstream_keyed("result", lambda upstream: upstream.attempts),
    ),
    Family("sidecar_upstream_attempt_duration_seconds", HISTOGRAM, "Time an attempt took.", samples.attempt_durations),
    Family(
        "sidecar_upstream_connections",
        GAUGE,
        "Open connections to an upstream.",
        samples.upstream_keyed("state", lambda upstream: {"active": upstream.active, "idle": upstream.idle}),
    ),
    Family(
        "sidecar_upstream_connections_opened_total",
        COUNTER,
        "Connections opened to an upstream.",
        samples.per_upstream(lambda upstream: upstream.opened),
    ),
    Family(
        "sidecar_retries_total",
        COUNTER,
        "Retries by how they ended, and requests that were not retried by why.",
        samples.upstream_keyed("result", lambda upstream: upstream.retries),
    ),
    Family(
        "sidecar_retry_budget_available",
        GAUGE,
        "Retries that are left at the moment.",
        samples.per_upstream(lambda upstream: upstream.budget_available),
    ),
    Family(
        "sidecar_retry_budget_exhausted_total",
        COUNTER,
        "Retries and hedges that the budget refused.",
        samples.per_upstream(lambda upstream: upstream.budget_exhausted),
    ),
    Family(
        "sidecar_retry_budget_observed_total",
        COUNTER,
        "Retries and hedges that a budget which only observes would have refused.",
        samples.per_upstream(lambda upstream: upstream.budget_observed),
    ),
    Family(
        "sidecar_hedges_total",
        COUNTER,
        "Second attempts beside a slow first one, by how they ended.",
        samples.upstream_keyed("result", lambda upstream: upstream.hedges),
    ),
    Family("sidecar_circuit_state", GAUGE, "1 for the automatic state a circuit is in, else 0.", samples.states),
    Family("sidecar_circuit_override", GAUGE, "1 for the override in force on a circuit, else 0.", samples.overrides),
    Family("sidecar_circuit_transitions_total", COUNTER, "What happened to a circuit, and why.", samples.transitions),
    Family(
        "sidecar_circuit_calls_total",
        COUNTER,
        "Admitted requests by outcome; slow ones count twice.",
        samples.circuit_calls,
    ),
    Family(
        "sidecar_circuit_rejected_total",
        COUNTER,
        "Requests that a circuit refused.",
        samples.per_circuit(lambda it: it.counters.rejected),
    ),
    Family(
        "sidecar_circuit_failure_rate",
        GAUGE,
        "Share of failures in a circuit's window, 0 to 1.",
        samples.per_circuit(lambda it: it.snapshot.window.failure_rate),
    ),
    Family(
        "sidecar_circuit_slow_rate",
        GAUGE,
        "Share of slow requests in a circuit's window, 0 to 1.",
        samples.per_circuit(lambda it: it.snapshot.window.slow_rate),
    ),
    Family(
        "sidecar_circuit_would_have_opened_total",
        COUNTER,
        "Times that a circuit which only observes would have opened.",
        samples.per_circuit(lambda it: it.snapshot.would_have.opened),
    ),
    Family(
        "sidecar_circuit_would_have_rejected_total",
        COUNTER,
        "Requests that a circuit which only observes would have refused.",
        samples.per_circuit(lambda it: it.snapshot.would_have.refused),
    ),
    Family(
        "sidecar_circuit_would_have_avoided_failures_total",
        COUNTER,
        "Those of the requests it would have refused that then failed.",
        samples.per_circuit(lambda it: it.snapshot.would_have.avoided_failures),
    ),
    Family(
        "sidecar_cache_requests_total",
        COUNTER,
        "Requests on a route with a cache, by result: hit, or why the upstream was asked (fwd of Cache-Status).",
        samples.route_keyed("result", lambda route: route.cache_results),
    ),
    Family("sidecar_cache_entries", GAUGE, "Stored answers.", samples.single(lambda it: it.stats.store.entries)),
    Family(
        "sidecar_cache_bytes",
        GAUGE,
        "Memory that stored answers take.",
        samples.single(lambda it: it.stats.store.bytes),
    ),
    Family(
        "sidecar_cache_evictions_total",
        COUNTER,
        "Stored answers dropped.",
        samples.keyed("reason", lambda it: it.stats.store.evictions),
    ),
    Family(
        "sidecar_shared_cache_reads_total",
        COUNTER,
        "Looks of requests into the fleet's store, by what they brought.",
        samples.shared_store_keyed("result", lambda it: it.reads),
    ),
    Family(
        "sidecar_shared_cache_writes_total",
        COUNTER,
        "Answers for the fleet's store, by what became of them.",
        samples.shared_store_keyed("result", lambda it: it.writes),
    ),
    Family(
        "sidecar_shared_cache_queue",
        GAUGE,
        "Keys and purges that the fleet's store is still to be told of.",
        samples.of_shared_store(lambda it: it.queued),
    ),
    Family("sidecar_cache_served_age_seconds", HISTOGRAM, "Age of answers from the cache.", samples.served_age),
    Family(
        "sidecar_fallbacks_total",
        COUNTER,
        "Requests that a fallback answered.",
        samples.route_keyed("kind", lambda route: route.fallbacks),
    ),
    Family(
        "sidecar_faults_injected_total",
        COUNTER,
        "What was done to requests on purpose.",
        samples.route_keyed("kind", lambda route: route.faults),
    ),
    Family(
        "sidecar_client_connections",
        GAUGE,
        "Open client connections.",
        samples.single(lambda it: it.stats.listener.connections),
    ),
    Family(
        "sidecar_client_tunnels",
        GAUGE,
        "Those upgraded to a tunnel.",
        samples.single(lambda it: it.stats.listener.tunnels),
    ),
    Family(
        "sidecar_client_connections_shed_total",
        COUNTER,
        "Idle client connections closed to make room.",
        samples.single(lambda it: it.stats.listener.shed),
    ),
    Family(
        "sidecar_client_rejected_total",
        COUNTER,
        "Requests and connections refused before any route was known.",
        samples.keyed("reason", lambda it: it.stats.listener.rejected),
    ),
    Family(
        "sidecar_redis_up",
        GAUGE,
        "1 while Redis answers.",
        samples.of_fleet(lambda it: int(it.up)),
    ),
    Family(
        "sidecar_redis_commands_total",
        COUNTER,
        "Commands sent to Redis.",
        samples.redis_commands,
    ),
    Family(
        "sidecar_redis_errors_total",
        COUNTER,
        "Commands and subscriptions that failed, by kind.",
        samples.redis_errors,
    ),
    Family(
        "sidecar_fleet_members",
        GAUGE,
        "Sidecars of this fleet, as Redis last told.",
        samples.of_fleet(lambda it: it.members),
    ),
    Family(
        "sidecar_config_reloads_total",
        COUNTER,
        "Reloads of the configuration.",
        samples.keyed("result", lambda it: {"success": 0, "error": 0, **it.process.reloads}),
    ),
    Family(
        "sidecar_config_last_reload_successful",
        GAUGE,
        "1 unless the latest reload failed.",
        samples.single(lambda it: int(it.process.last_reload_ok)),
    ),
    Family(
        "sidecar_event_loop_lag_seconds",
        GAUGE,
        "Longest delay of the event loop in the last ten seconds.",
        samples.single(lambda it: it.stats.loop_lag),
    ),
    Family("sidecar_draining", GAUGE, "1 while shutting down.", samples.single(lambda it: int(it.process.draining))),
    Family(
        "sidecar_log_lines_dropped_total",
        COUNTER,
        "Log lines lost because standard output was not read.",
        samples.single(lambda it: it.stats.log_lines_dropped),
    ),
    Family(
        "sidecar_traces_dropped_total",
        COUNTER,
        "Requests with a recorded trace whose spans were lost because no collector took them.",
        samples.single(lambda it: it.stats.traces_dropped),
    ),
    Family("sidecar_build_info", GAUGE, "1; the version is the label.", samples.build_info),
)
