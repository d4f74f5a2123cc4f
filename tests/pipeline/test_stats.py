from __future__ import annotations

import pytest

from sidecar.pipeline.stats import BOUNDS, Histogram, ListenerStats, ProcessStats, RouteStats, StoreStats, UpstreamStats

ANSWERS = [
    ("GET", 200, "cache", "hit", 7, 0.001),
    ("GET", 200, "cache", "hit", 7, 0.002),
    ("GET", 200, "stale", "hit-stale", 90, 0.005),
    ("GET", 404, "cache", "hit", 0, 0.3),
    ("GET", 200, "cache", "hit", 86_401, 11.0),
]
"""Method, status, source, result, age, duration."""


@pytest.mark.parametrize(
    ("value", "bucket"),
    [(0.0, 0), (0.005, 0), (0.0051, 1), (0.9, 7), (1.0, 7), (10.0, 10), (10.1, 11), (1e9, 11)],
)
def test_a_value_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed(value: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(value)
    assert histogram.counts.index(1) == bucket
    assert sum(histogram.counts) == 1
    assert histogram.sum == value


def test_the_bounds_are_those_of_the_contract() -> None:
    assert list(BOUNDS) == [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]
    assert len(Histogram().counts) == len(BOUNDS) + 1


def test_everything_starts_at_nothing() -> None:
    route, upstream = RouteStats("catalog"), UpstreamStats("catalog")
    listener, store, process = ListenerStats(), StoreStats(), ProcessStats()
    assert (route.name, route.in_flight, dict(route.requests), dict(route.cache_results)) == ("catalog", 0, {}, {})
    assert (upstream.name, upstream.active, upstream.idle, upstream.opened) == ("catalog", 0, 0, 0)
    assert (listener.connections, listener.tunnels, listener.shed) == (0, 0, 0)
    assert (store.entries, store.bytes, dict(store.evictions)) == (0, 0, {})
    assert (process.draining, process.last_reload_ok) == (False, True)


def test_histograms_of_two_routes_share_nothing() -> None:
    one, other = RouteStats("one"), RouteStats("other")
    one.durations.observe(1.0)
    one.served_age.observe(1.0)
    one.requests["GET", 200, "upstream"] += 1
    assert sum(other.durations.counts) == sum(other.served_age.counts) == len(other.requests) == 0


def test_a_method_outside_the_standard_ones_is_counted_as_another() -> None:
    stats = RouteStats("one")
    stats.count("BREW", 418, "upstream", 0.1)
    assert dict(stats.requests) == {("_OTHER", 418, "upstream"): 1}
