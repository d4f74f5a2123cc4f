from __future__ import annotations

import pytest

from sidecar.config.keys import PER_ROUTE, Block, Listed, block_of
from sidecar.config.request_explanation import written
from sidecar.config.settings_view import SettingView, route_settings, shown
from sidecar.core.config import (
    BreakerSettings,
    BulkheadSettings,
    CacheSettings,
    CountWindow,
    Fallback,
    QueryKey,
    Rate,
    RateLimit,
    Timeouts,
)
from tests.support.routes import route

ROUTE = route(
    "catalog",
    timeouts=Timeouts(first_byte=0.25, total=90.0),
    breaker=BreakerSettings(
        failure_threshold=None, failure_rate=0.25, window=CountWindow(100), failures=frozenset(range(500, 600))
    ),
    cache=CacheSettings(max_entry_size=2048, targeted=("cdn-cache-control",), query=QueryKey(sort=True)),
    bulkhead=BulkheadSettings(max_concurrent=50),
    rate_limit=RateLimit(Rate(5.0, 60.0)),
    refs={"": "sidecar.yaml:3", "breaker.failure_rate": "sidecar.yaml:7", "breaker": "sidecar.yaml:6"},
)
VIEWS = {view.name: view for view in route_settings(ROUTE)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeouts.connect", "1s"),
        ("timeouts.first_byte", "250ms"),
        ("timeouts.total", "90s"),
        ("breaker.failure_threshold", None),
        ("breaker.failure_rate", "25%"),
        ("breaker.window", 100),
        ("breaker.backoff.max", "5m"),
        ("breaker.mode", "enforce"),
        ("breaker.failures", ["500-599"]),
        ("cache.max_entry_size", "2KiB"),
        ("cache.query.sort", True),
        ("cache.targeted", ["cdn-cache-control"]),
        ("cache.stale_ttl", "1h"),
        ("timeouts.deadline_header", "x-request-timeout-ms"),
        ("bulkhead.max_concurrent", 50),
        ("bulkhead.queue_timeout", "100ms"),
        ("bulkhead.priority", None),
        ("rate_limit.rate", "5/m"),
        ("rate_limit.burst", None),
    ],
)
def test_a_setting_is_shown_as_it_would_be_written(name: str, value: object) -> None:
    assert VIEWS[name].value == value


def test_a_setting_says_which_line_decides_it_and_a_default_says_none() -> None:
    assert VIEWS["breaker.failure_rate"] == SettingView("breaker.failure_rate", "25%", "sidecar.yaml:7")
    assert VIEWS["breaker.slow_after"].ref is None


def test_every_scalar_of_the_per_route_blocks_is_there_once() -> None:
    names = [view.name for view in route_settings(ROUTE)]
    assert len(names) == len(set(names))
    assert {name.partition(".")[0] for name in names} == {
        key.name for key in PER_ROUTE if isinstance(key.type, Block | Listed)
    }  # fmt: skip


def test_fallbacks_are_shown_each_with_what_it_says() -> None:
    fallbacks = (Fallback(upstream="other"), Fallback(status=503, headers=(("retry-after", "9"),), body="down"))
    views = {view.name: view.value for view in route_settings(route("a", fallback=fallbacks))}
    assert views["fallback"] == [
        {"upstream": "other"},
        {"status": 503, "headers": {"retry-after": "9"}, "body": "down"},
    ]
    assert written(views["fallback"]) == "[{upstream: other}, {status: 503, headers: {retry-after: 9}, body: down}]"
    assert VIEWS["fallback"].value is None
    assert VIEWS["fault"].value is None


def test_what_is_no_scalar_has_nothing_to_show() -> None:
    assert shown(block_of(BreakerSettings, "breaker").by_name["backoff"], BreakerSettings().backoff) is None
