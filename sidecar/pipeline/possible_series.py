"""Which counts there can be under a configuration: they are there at 0 before anything happens.

Prometheus takes the first value of a series for its beginning. A count that appears as 1 therefore never increased,
and the first outage of a new process would not show in `increase()` or `rate()`.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from sidecar.core.cache.status import COLLAPSED, HIT, HIT_STALE, Forward
from sidecar.core.circuit.transitions import possible_transitions
from sidecar.core.config import CacheMode
from sidecar.core.http.heads import STANDARD_METHODS
from sidecar.pipeline import errors
from sidecar.pipeline.source import Source
from sidecar.pipeline.stats import OTHER_METHOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

    from sidecar.core.circuit.circuit import Circuit
    from sidecar.core.config import BreakerSettings, RouteConfig
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
ATTEMPT_RESULTS = ("success", "cancelled", *(error.reason for error in BEFORE_AN_ANSWER))
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
    _begin(stats.requests, _requests(route.match.methods or USUAL_METHODS, route.breaker.failures, cached))
    if cached:
        _begin(stats.cache_results, CACHE_RESULTS)


def begin_circuit(circuit: Circuit, *, restorable: bool, shared: bool = False) -> None:
    """What can happen to `circuit`; `restorable`: there is a state file; `shared`: there is a fleet."""
    _begin(circuit.counters.transitions, _transitions(circuit.settings, restorable, shared))


def begin_upstream(stats: UpstreamStats) -> None:
    """How attempts at an upstream can end."""
    _begin(stats.attempts, ATTEMPT_RESULTS)


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
) -> tuple[tuple[str, int, str], ...]:
    answers = tuple(_answers(failures, cached=cached))
    labels = sorted({method if method in STANDARD_METHODS else OTHER_METHOD for method in methods})
    return tuple((method, status, source.label) for method in labels for status, source in answers)


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
