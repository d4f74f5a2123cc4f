"""Which counts there can be under a configuration: they are there at 0 before anything happens.

Prometheus takes the first value of a series for its beginning. A count that appears as 1 therefore never increased,
and the first outage of a new process would not show in `increase()` or `rate()`.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.core.bulkhead import CLASSES
from sidecar.core.cache.status import COLLAPSED, HIT, HIT_STALE, Forward
from sidecar.core.circuit.transitions import possible_transitions
from sidecar.core.config import CacheMode
from sidecar.core.fault import KINDS
from sidecar.core.http.heads import STANDARD_METHODS
from sidecar.pipeline import errors
from sidecar.pipeline.source import Source
from sidecar.pipeline.stats import OTHER_METHOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.config import BreakerSettings, Fault, RouteConfig
    from sidecar.pipeline.stats import ListenerStats, RouteStats, SharedStoreStats, StoreStats, UpstreamStats

K = TypeVar("K", bound="str | tuple[Any, ...]")

USUAL_METHODS = frozenset({"GET", "POST"})
"""Methods that are counted from the start on a route that takes all."""
OWN_FAILURES = (500, 502, 503, 504)
"""Statuses that the sidecar answers for its own reasons or in the place of an upstream that gave no answer."""
FEW_STATUSES = 16
STANDARD_STATUSES = frozenset(HTTPStatus)
CACHE_RESULTS = (HIT, HIT_STALE, COLLAPSED, *map(str, Forward))
SHARED_READS = ("hit", "miss", "timeout", "error", "behind", "skipped", "damaged")
SHARED_WRITES = ("stored", "refused", "failed", "dropped")
EVICTION_REASONS = ("size", "variants", "replaced", "invalidated", "purged")
UPSTREAM_ERRORS: tuple[type[errors.ProxyError], ...] = (
    errors.ConnectionRefused,
    errors.ConnectionLost,
    errors.EarlyAnswerCut,
    errors.DnsFailed,
    errors.TlsFailed,
    errors.ConnectTimeout,
    errors.FirstByteTimeout,
    errors.IdleTimeout,
    errors.TotalTimeout,
    errors.ProtocolError,
)
BEFORE_AN_ANSWER: tuple[type[errors.ProxyError], ...] = (
    *UPSTREAM_ERRORS,
    errors.PoolExhausted,
    errors.ClientGone,
    errors.ClientTooSlow,
)
STALE_CONNECTION = "stale_connection"
"""A kept-alive connection that died before its answer began: whether the request may be repeated is the route's."""
RETRY_RESULTS = ("success", "failure", "budget", "too_late", "body_too_large")
HEDGE_RESULTS = ("success", "failure", "cancelled")
ATTEMPT_RESULTS = ("success", "cancelled", STALE_CONNECTION, *(error.reason for error in BEFORE_AN_ANSWER))
OF_A_CLIENT: tuple[type[errors.ProxyError], ...] = (
    errors.BadRequest,
    errors.NoRoute,
    errors.MethodUnknown,
    errors.CodingUnknown,
    errors.VersionUnsupported,
    errors.TargetTooLong,
    errors.HeadTooLarge,
    errors.BodyTooLarge,
    errors.ClientTooSlow,
    errors.ExpectationFailed,
    errors.LoopDetected,
    errors.TooManyConnections,
    errors.AnswerUnread,
)
REJECTIONS = tuple(error.reason for error in OF_A_CLIENT)


def begin_route(stats: RouteStats, route: RouteConfig) -> None:
    """What can be counted of requests for `route`."""
    cached = route.cache.mode is not CacheMode.OFF
    methods = route.match.methods or USUAL_METHODS
    _begin(stats.requests, _requests(methods, route.breaker.failures, cached, tuple(_limits(route))))
    if route.bulkhead is not None and route.bulkhead.max_concurrent is not None:
        _begin(stats.bulkhead_rejected, CLASSES)
        _begin(stats.bulkhead_observed, CLASSES)
    _begin(stats.faults, KINDS)
    if route.fallback:
        _begin(stats.fallbacks, (each.kind for each in route.fallback))
        _begin(stats.requests, _labelled(methods, ((each.status, Source.FALLBACK) for each in route.fallback)))
    if route.fault is not None:
        begin_fault(stats, route, route.fault)
    if cached:
        _begin(stats.cache_results, CACHE_RESULTS)


def begin_fault(stats: RouteStats, route: RouteConfig, fault: Fault) -> None:
    """What can be counted while `fault` is in force."""
    statuses = [] if fault.abort is None else [fault.abort.status]
    if fault.delay is not None and route.timeouts.total is not None:
        statuses.append(errors.InjectedDelay.status)
    if statuses:
        methods = route.match.methods or USUAL_METHODS
        _begin(stats.requests, _labelled(methods, ((status, Source.FAULT) for status in statuses)))


def begin_circuit(circuit: Circuit, *, restorable: bool, shared: bool = False) -> None:
    """What can happen to `circuit`; `restorable`: there is a state file; `shared`: there is a fleet."""
    _begin(circuit.counters.transitions, _transitions(circuit.settings, restorable, shared))


def begin_upstream(stats: UpstreamStats) -> None:
    """How attempts at an upstream can end, with what is made of failures."""
    _begin(stats.attempts, ATTEMPT_RESULTS)
    _begin(stats.retries, RETRY_RESULTS)
    _begin(stats.hedges, HEDGE_RESULTS)


def begin_listener(stats: ListenerStats) -> None:
    """Why a client can be refused before a route is known."""
    _begin(stats.rejected, REJECTIONS)


def begin_store(stats: StoreStats) -> None:
    """Why a stored answer can go."""
    _begin(stats.evictions, EVICTION_REASONS)


def begin_shared_store(stats: SharedStoreStats) -> None:
    """What can come of looks into the fleet's store, and of writes to it."""
    _begin(stats.reads, SHARED_READS)
    _begin(stats.writes, SHARED_WRITES)


def _begin(counts: MutableMapping[K, int], possible: Iterable[K]) -> None:
    """Let what is not counted yet stand at 0."""
    for labels in possible:
        counts.setdefault(labels, 0)


@lru_cache(maxsize=64)
def _transitions(
    settings: BreakerSettings,
    restorable: bool,  # noqa: FBT001 - a key
    shared: bool,  # noqa: FBT001 - a key
) -> tuple[tuple[str, str], ...]:
    """One object for all circuits with the same settings, like the next: a thousand routes have very many counts."""
    possible = possible_transitions(settings, restorable=restorable, shared=shared)
    return tuple((target.value, cause.value) for target, cause in possible)


@lru_cache(maxsize=64)
def _requests(
    methods: frozenset[str],
    failures: frozenset[int],
    cached: bool,  # noqa: FBT001 - a key
    limits: tuple[tuple[int, Source], ...],
) -> tuple[tuple[str, int, str], ...]:
    return tuple(_labelled(methods, (*_answers(failures, cached=cached), *limits)))


def _labelled(methods: frozenset[str], answers: Iterable[tuple[int, Source]]) -> Iterator[tuple[str, int, str]]:
    known = tuple(answers)
    labels = sorted({method if method in STANDARD_METHODS else OTHER_METHOD for method in methods})
    return ((method, status, source.label) for method in labels for status, source in known)


def _limits(route: RouteConfig) -> Iterator[tuple[int, Source]]:
    """What the limits of `route` refuse with."""
    bulkhead, rate_limit = route.bulkhead, route.rate_limit
    if bulkhead is not None and bulkhead.max_concurrent is not None and not bulkhead.observe:
        yield 503, Source.BULKHEAD
    if rate_limit is not None and not rate_limit.observe:
        yield 429, Source.RATE_LIMIT


def _answers(failures: frozenset[int], *, cached: bool) -> Iterator[tuple[int, Source]]:
    yield 200, Source.UPSTREAM
    for status in sorted(failures if len(failures) <= FEW_STATUSES else failures & STANDARD_STATUSES):
        yield status, Source.UPSTREAM
    for status in OWN_FAILURES:
        yield status, Source.ERROR
    yield 503, Source.CIRCUIT
    if cached:
        yield 200, Source.CACHE
        yield 200, Source.STALE
        yield 504, Source.CACHE
