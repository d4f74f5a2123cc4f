from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sidecar.core.config import (
    Abort,
    BreakerSettings,
    BulkheadSettings,
    CacheMode,
    CacheSettings,
    Endpoint,
    Fallback,
    Fault,
    Match,
    Rate,
    RateLimit,
    RouteConfig,
    UpstreamConfig,
)
from sidecar.pipeline import errors
from sidecar.pipeline.possible_series import (
    ATTEMPT_RESULTS,
    CACHE_RESULTS,
    HEDGE_RESULTS,
    RETRY_RESULTS,
    UPSTREAM_ERRORS,
    begin_route,
    begin_upstream,
)
from sidecar.pipeline.stats import RouteStats, UpstreamStats

if TYPE_CHECKING:
    from collections.abc import Iterator

UPSTREAM = UpstreamConfig("shop", (Endpoint("http", "127.0.0.1", 80),))
UNCACHED = CacheSettings(mode=CacheMode.OFF)
OWN = {(500, "error"), (502, "error"), (503, "error"), (504, "error"), (503, "circuit")}
FROM_UPSTREAM = {(status, "upstream") for status in (200, 500, 502, 503, 504)}
FROM_CACHE = {(200, "cache"), (200, "stale"), (504, "cache")}


def route(
    *, methods: frozenset[str] | None = None, failures: frozenset[int] | None = None, cache: CacheSettings = UNCACHED
) -> RouteConfig:
    breaker = BreakerSettings() if failures is None else BreakerSettings(failures=failures)
    return RouteConfig("shop", Match(prefix="/", methods=methods), UPSTREAM, breaker=breaker, cache=cache)


def begun(config: RouteConfig) -> RouteStats:
    stats = RouteStats("shop")
    begin_route(stats, config)
    return stats


CASES = {
    "no cache": (route(), {"GET", "POST"}, OWN | FROM_UPSTREAM),
    "a cache": (route(cache=CacheSettings()), {"GET", "POST"}, OWN | FROM_UPSTREAM | FROM_CACHE),
    "own methods": (route(methods=frozenset({"PUT", "HEAD"})), {"PUT", "HEAD"}, OWN | FROM_UPSTREAM),
    "methods outside the standard": (
        route(methods=frozenset({"PUT", "LIST", "PURGE"})),
        {"PUT", "_OTHER"},
        OWN | FROM_UPSTREAM,
    ),
    "own failures": (
        route(failures=frozenset({429, 599})),
        {"GET", "POST"},
        OWN | {(200, "upstream"), (429, "upstream"), (599, "upstream")},
    ),
}


LIMITED = replace(
    route(), bulkhead=BulkheadSettings(max_concurrent=5), rate_limit=RateLimit(Rate(1.0, 1.0), observe=False)
)
OBSERVED = replace(
    route(),
    bulkhead=BulkheadSettings(max_concurrent=5, observe=True),
    rate_limit=RateLimit(Rate(1.0, 1.0), observe=True),
)


def test_limits_begin_with_what_they_refuse_and_those_that_observe_with_what_they_would() -> None:
    classes = {"low": 0, "normal": 0}
    for config, refusals in ((LIMITED, {(503, "bulkhead"), (429, "rate_limit")}), (OBSERVED, set[tuple[int, str]]())):
        stats = begun(config)
        expected = {(method, *answer) for method in ("GET", "POST") for answer in OWN | FROM_UPSTREAM | refusals}
        assert stats.requests.keys() == expected
        assert stats.bulkhead_rejected == stats.bulkhead_observed == classes
    assert begun(route()).bulkhead_rejected == {}


@pytest.mark.parametrize(("config", "methods", "answers"), CASES.values(), ids=CASES)
def test_a_route_begins_with_what_its_configuration_allows(
    config: RouteConfig, methods: set[str], answers: set[tuple[int, str]]
) -> None:
    assert dict(begun(config).requests) == {(method, *answer): 0 for method in methods for answer in answers}


def test_of_a_wide_range_of_failures_only_statuses_that_exist_are_shown() -> None:
    shown = {
        status for _, status, source in begun(route(failures=frozenset(range(500, 600)))).requests if source != "x"
    }

    assert shown == {200, *range(500, 509), 510, 511}


def test_cache_results_belong_to_routes_with_a_cache() -> None:
    assert dict(begun(route()).cache_results) == {}
    assert dict(begun(route(cache=CacheSettings())).cache_results) == dict.fromkeys(CACHE_RESULTS, 0)


def test_what_was_counted_stays_when_the_configuration_changes() -> None:
    stats = begun(route())
    stats.requests["GET", 502, "error"] += 3
    upstream = UpstreamStats("shop")
    upstream.attempts["success"] += 2

    begin_route(stats, route(cache=CacheSettings()))
    begin_upstream(upstream)

    assert stats.requests["GET", 502, "error"] == 3
    assert stats.requests["GET", 200, "cache"] == 0
    assert dict(upstream.attempts) == {**dict.fromkeys(ATTEMPT_RESULTS, 0), "success": 2}
    assert upstream.retries == dict.fromkeys(RETRY_RESULTS, 0)
    assert upstream.hedges == dict.fromkeys(HEDGE_RESULTS, 0)


def test_every_route_may_be_given_a_fault_and_only_one_with_fallbacks_falls_back() -> None:
    assert dict(begun(route()).faults) == {"abort": 0, "delay": 0, "reset": 0, "slow_body": 0}
    assert dict(begun(route()).fallbacks) == {}


def test_fallbacks_and_an_abort_are_counted_from_the_start() -> None:
    config = replace(
        route(methods=frozenset({"GET"})),
        fallback=(Fallback(upstream="other"), Fallback(status=410)),
        fault=Fault(60.0, abort=Abort(418)),
    )
    stats = begun(config)
    assert dict(stats.fallbacks) == {"upstream": 0, "static": 0}
    for labels in ((200, "fallback"), (410, "fallback"), (418, "fault")):
        assert stats.requests.get(("GET", *labels)) == 0


def kinds(error: type[errors.ProxyError]) -> Iterator[type[errors.ProxyError]]:
    for kind in error.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_no_kind_of_upstream_error_is_forgotten() -> None:
    abstract = {errors.UpstreamTimeout}

    assert {kind.reason for kind in kinds(errors.UpstreamError) if kind not in abstract} == {
        kind.reason for kind in UPSTREAM_ERRORS
    }
