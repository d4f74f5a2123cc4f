from __future__ import annotations

import pytest

from sidecar.pipeline.stats import (
    BOUNDS,
    MOST_UNFORESEEN,
    Histogram,
    ListenerStats,
    ProcessStats,
    RouteStats,
    StoreStats,
    UpstreamStats,
)

TRACED = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
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
    one.count("GET", 200, "upstream", 0.1, 1.0, TRACED)
    assert sum(other.durations.counts) == sum(other.served_age.counts) == 0
    assert len(other.requests) == len(other.exemplars) == 0


def test_a_method_outside_the_standard_ones_is_counted_as_another() -> None:
    stats = RouteStats("one")
    stats.count("BREW", 418, "upstream", 0.1)
    assert dict(stats.requests) == {("_OTHER", 418, "upstream"): 1}


def test_ever_new_statuses_make_no_ever_more_series() -> None:
    stats = RouteStats("one")
    stats.requests["GET", 200, "upstream"] = 0
    for status in range(100, 1000):
        stats.count("GET", status, "upstream", 0.1)
        stats.count("PUT", status, "error", 0.1)
    stats.count("GET", 200, "upstream", 0.1)
    stats.count("GET", 100, "upstream", 0.1)

    assert len(stats.requests) == 1 + MOST_UNFORESEEN + 2
    assert sum(stats.requests.values()) == 1802
    assert (stats.requests["GET", 200, "upstream"], stats.requests["GET", 100, "upstream"]) == (2, 2)
    others = stats.requests["GET", "_OTHER", "upstream"], stats.requests["PUT", "_OTHER", "error"]
    assert others == (899 - 50, 900 - 50)


@pytest.mark.parametrize(
    ("field", "kept"), [(TRACED, True), (TRACED[:-1] + b"f", True), (TRACED[:-1] + b"0", False), (None, False)]
)
def test_the_latest_recorded_trace_stands_for_its_bucket(field: bytes | None, *, kept: bool) -> None:
    stats = RouteStats("one")
    stats.count("GET", 200, "upstream", 0.3, 7.0, field)
    assert stats.exemplars == ({6: (field, 0.3, 7.0)} if kept else {})


def test_an_exemplar_stands_for_a_while_in_its_bucket_only() -> None:
    stats = RouteStats("one")
    for number, duration, at in ((1, 0.3, 7.0), (2, 0.3, 7.01), (3, 0.2, 7.02), (4, 0.3, 7.05)):
        stats.count("GET", 200, "upstream", duration, at, b"%d%b" % (number, TRACED[1:]))
    assert [(kept[0][:1], at) for at, kept in stats.exemplars.items()] == [(b"4", 6), (b"3", 5)]
