"""Findings of every lint module, through `lint` itself: what is said, where, and what to write instead."""

from dataclasses import replace
from typing import Any

import pytest

from sidecar.config.lint import lint
from sidecar.config.problem import Finding, Severity
from sidecar.core.config import (
    Address,
    AdminSettings,
    Backoff,
    BreakerMode,
    BreakerSettings,
    BulkheadSettings,
    CacheMode,
    CacheSettings,
    CacheStoreSettings,
    Config,
    CountWindow,
    Endpoint,
    HedgeSettings,
    LogSettings,
    Measured,
    Priority,
    ProxySettings,
    QueryKey,
    Rate,
    RateLimit,
    RetryBackoff,
    RetrySettings,
    Rewrite,
    RouteConfig,
    TelemetrySettings,
    Timeouts,
    TimeWindow,
    TracingSettings,
    UpstreamConfig,
    UpstreamTls,
)
from tests.support.routes import UPSTREAM, route

PRIORITY = Priority("x-priority", frozenset({"batch"}))


def config(*routes: RouteConfig, upstreams: tuple[UpstreamConfig, ...] = (UPSTREAM,), **parts: Any) -> Config:
    return Config(upstreams, routes or (route(prefix="/a/"),), **parts)


def findings(*routes: RouteConfig, **parts: Any) -> list[Finding]:
    return list(lint(config(*routes, **parts)))


def test_the_defaults_are_beyond_reproach() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("breaker", "setting", "message", "hint"),
    [
        (
            {"open_duration": 5.0},
            "open_duration",
            "open_duration 5s is shorter than the request timeout",
            "open_duration: 15s",
        ),
        (
            {"window": CountWindow(10), "minimum_requests": 20},
            "minimum_requests",
            "failure_rate can never trip: a window of 10 requests never holds minimum_requests 20",
            "write minimum_requests: 10 or less",
        ),
        (
            {"half_open_probes": 0},
            "half_open_probes",
            "success_threshold 2 would never be reached",
            "half_open_probes: 1",
        ),
        (
            {"failure_threshold": None, "failure_rate": None},
            "",
            "this circuit can never open",
            "write failure_threshold: 5, or mode: off",
        ),
        ({"failures": frozenset({404, 500})}, "failures", "failures contains 404", "write failures: [500]"),
        ({"failures": frozenset(range(400, 600))}, "failures", "failures contains 400-407", "429, 500-599]"),
        ({"failures": frozenset({404})}, "failures", "failures contains 404", "write failures: [500-599]"),
        ({"failures": frozenset({302, 503})}, "failures", "failures contains 302: a healthy", "write failures: [503]"),
        ({"failures": frozenset({200})}, "failures", "failures contains 200: a healthy", "write failures: [500-599]"),
        ({"ignore": frozenset({503})}, "ignore", "503 is in failures and in ignore", "keep it in one"),
        (
            {"slow_rate": 0.5, "slow_after": 15.0},
            "slow_after",
            "slow_rate counts timeouts only",
            "write slow_after: 3.75s",
        ),
        (
            {"backoff": Backoff(max=10.0)},
            "backoff.max",
            "backoff.max 10s is shorter than open_duration 15s",
            "max: 15s",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_breaker_settings_that_defeat_themselves_are_found(
    breaker: dict[str, Any], setting: str, message: str, hint: str
) -> None:
    found = findings(route(prefix="/a/", breaker=BreakerSettings(**breaker)))
    assert [each.setting for each in found] == [f"breaker.{setting}".removesuffix(".")]
    assert message in found[0].message
    assert hint in found[0].hint
    assert found[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    "breaker",
    [
        {"mode": BreakerMode.OFF, "half_open_probes": 0, "failure_threshold": None, "failure_rate": None},
        {"failures": frozenset({408, 425, 429, 500})},
        {"failure_rate": None, "window": CountWindow(5)},
        {"window": TimeWindow(1.0), "minimum_requests": 10_000},
        {"open_duration": 15.0},
        {"slow_after": 100.0},
    ],
)
def test_breaker_settings_that_can_be_meant_are_left_alone(breaker: dict[str, Any]) -> None:
    assert findings(route(prefix="/a/", breaker=BreakerSettings(**breaker))) == []


def test_the_total_timeout_is_what_the_open_period_is_measured_against() -> None:
    assert findings(route(prefix="/a/", timeouts=Timeouts(total=15.0))) == []
    found = findings(route(prefix="/a/", timeouts=Timeouts(total=60.0)))
    assert "timeouts.total 1m" in found[0].message


@pytest.mark.parametrize(
    ("retry", "setting"),
    [
        ({"backoff": RetryBackoff(base=0.5, max=0.25)}, "retry.backoff.base"),
        ({"hedge": HedgeSettings(15.0)}, "retry.hedge.after"),
        ({"methods": frozenset({"get"})}, "retry.methods"),
        ({"on": frozenset({200, 503})}, "retry.on"),
    ],
)
def test_what_never_comes_in_a_retry_is_found(retry: dict[str, Any], setting: str) -> None:
    found = findings(replace(route(prefix="/a/"), retry=RetrySettings(**retry)))
    assert [each.setting for each in found] == [setting]


@pytest.mark.parametrize(
    "retry",
    [None, RetrySettings(hedge=HedgeSettings(14.9)), RetrySettings(hedge=HedgeSettings(Measured.P95))],
    ids=["none", "in time", "p95"],
)
def test_other_retries_are_beyond_reproach(retry: RetrySettings | None) -> None:
    assert findings(replace(route(prefix="/a/"), retry=retry)) == []


@pytest.mark.parametrize(
    ("timeouts", "setting"), [({"connect": 20.0}, "connect"), ({"first_byte": 20.0}, "first_byte")]
)
def test_a_timeout_beyond_the_total_is_found(timeouts: dict[str, Any], setting: str) -> None:
    found = findings(route(prefix="/a/", timeouts=Timeouts(**{"total": 15.0, **timeouts})))
    assert [each.setting for each in found] == [f"timeouts.{setting}"]


@pytest.mark.parametrize(
    ("bulkhead", "total", "setting", "hint"),
    [
        ({"max_queue": 5}, None, "max_queue", "write max_concurrent: 100"),
        ({"adaptive": True}, None, "adaptive", "write max_concurrent: 100"),
        ({"observe": True}, None, "observe", "write max_concurrent: 100"),
        ({"priority": PRIORITY}, None, "priority", "write max_concurrent: 100"),
        ({"max_concurrent": 9, "priority": PRIORITY}, None, "priority", "write max_queue: 50"),
        ({"max_concurrent": 9, "max_queue": 5, "queue_timeout": 20.0}, 20.0, "queue_timeout", "queue_timeout: 5s"),
        ({"max_concurrent": 1, "adaptive": True}, None, "adaptive", "raise one of them"),
    ],
)
def test_limits_that_can_do_nothing_are_found(
    bulkhead: dict[str, Any], total: float | None, setting: str, hint: str
) -> None:
    timeouts = Timeouts(total=total)
    breaker = BreakerSettings(open_duration=60.0)
    found = findings(route(prefix="/a/", bulkhead=BulkheadSettings(**bulkhead), timeouts=timeouts, breaker=breaker))
    assert [each.setting for each in found] == [f"bulkhead.{setting}"]
    assert hint in found[0].hint
    assert found[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    "bulkhead",
    [
        None,
        BulkheadSettings(max_concurrent=5, max_queue=5, priority=PRIORITY, adaptive=True, observe=True),
        BulkheadSettings(max_concurrent=5, queue_timeout=99.0),
    ],
)
def test_limits_that_can_be_meant_are_left_alone(bulkhead: BulkheadSettings | None) -> None:
    limit = RateLimit(Rate(5.0, 1.0))
    timeouts, breaker = Timeouts(total=30.0), BreakerSettings(open_duration=60.0)
    config = route(prefix="/a/", bulkhead=bulkhead, rate_limit=limit, timeouts=timeouts, breaker=breaker)
    assert findings(config) == []


@pytest.mark.parametrize(
    "field", ["content-length", "host", "connection", "cookie", "x-sidecar-attempt", "x-request-id"]
)
def test_a_field_with_another_meaning_cannot_carry_a_deadline(field: str) -> None:
    (found,) = findings(route(prefix="/a/", timeouts=Timeouts(deadline_header=field)))
    assert (found.setting, found.severity) == ("timeouts.deadline_header", Severity.ERROR)


@pytest.mark.parametrize(
    ("cache", "setting"),
    [
        (CacheSettings(mode=CacheMode.FALLBACK, stale_ttl=0.0), "cache.stale_ttl"),
        (CacheSettings(max_entry_size=1 << 30), "cache.max_entry_size"),
        (CacheSettings(query=QueryKey(include=frozenset({"a"}), exclude=frozenset({"b"}))), "cache.query.exclude"),
    ],
)
def test_cache_settings_that_do_nothing_are_found(cache: CacheSettings, setting: str) -> None:
    assert [each.setting for each in findings(route(prefix="/a/", cache=cache))] == [setting]
    off = replace(cache, mode=CacheMode.OFF)
    assert findings(route(prefix="/a/", cache=off)) == []


def test_an_entry_limit_within_the_store_is_fine() -> None:
    assert findings(cache=CacheStoreSettings(max_size=1 << 20)) == []


SECURE = Endpoint("https", "secure", 443)


@pytest.mark.parametrize(
    ("tls", "endpoint", "severity", "message"),
    [
        (UpstreamTls(ca_file="/ca.pem"), UPSTREAM.endpoints[0], Severity.WARNING, "tls has no effect"),
        (UpstreamTls(cert_file="/c.pem"), SECURE, Severity.ERROR, "key_file is missing"),
        (UpstreamTls(key_file="/k.pem"), SECURE, Severity.ERROR, "cert_file is missing"),
        (UpstreamTls(verify=False), SECURE, Severity.WARNING, "certificate is not checked"),
    ],
)
def test_tls_that_is_incomplete_or_idle_is_found(
    tls: UpstreamTls, endpoint: Endpoint, severity: Severity, message: str
) -> None:
    upstream = UpstreamConfig("up", (endpoint,), tls=tls)
    found = findings(upstreams=(upstream,))
    assert [(each.kind, each.name, each.severity) for each in found] == [("upstream", "up", severity)]
    assert message in found[0].message


def test_tls_defaults_that_one_upstream_uses_are_fine_for_the_others() -> None:
    tls = UpstreamTls(ca_file="/ca.pem")
    assert findings(upstreams=(UpstreamConfig("a", (SECURE,), tls=tls), replace(UPSTREAM, tls=tls))) == []


@pytest.mark.parametrize(
    ("proxy", "telemetry"),
    [
        (Address("127.0.0.1", 4102), Address("127.0.0.1", 4102)),
        (Address("127.0.0.1", 4102), Address("0.0.0.0", 4102)),
        (Address("LOCALHOST", 4102), Address("localhost", 4102)),
        (Address("::1", 4102), Address("::", 4102)),
        (Address(unix_path="/a.sock"), Address(unix_path="/a.sock")),
    ],
)
def test_listeners_that_collide_are_an_error(proxy: Address, telemetry: Address) -> None:
    found = findings(proxy=ProxySettings((proxy,)), telemetry=TelemetrySettings((telemetry,)))
    assert [(each.setting, each.severity) for each in found] == [("telemetry.listen", Severity.ERROR)]
    assert "collides with proxy.listen" in found[0].message


@pytest.mark.parametrize(
    ("proxy", "telemetry"),
    [
        (Address("127.0.0.1", 0), Address("127.0.0.1", 0)),
        (Address("127.0.0.1", 4102), Address("127.0.0.2", 4102)),
        (Address(unix_path="/a.sock"), Address(unix_path="/b.sock")),
        (Address(unix_path="/a.sock"), Address("127.0.0.1", 0)),
    ],
)
def test_listeners_apart_are_fine(proxy: Address, telemetry: Address) -> None:
    assert findings(proxy=ProxySettings((proxy,)), telemetry=TelemetrySettings((telemetry,))) == []


@pytest.mark.parametrize(
    ("host", "token_file", "warned"),
    [("0.0.0.0", None, True), ("10.0.0.1", None, True), ("0.0.0.0", "/token", False), ("127.0.0.9", None, False)],
)
def test_an_admin_listener_in_the_open_wants_a_token(host: str, token_file: str | None, *, warned: bool) -> None:
    found = findings(admin=AdminSettings((Address(host, 4101),), token_file=token_file))
    assert [each.setting for each in found] == ["admin.listen"] * warned


@pytest.mark.parametrize(
    ("endpoint", "listen"),
    [
        (Endpoint("http", "localhost", 4100), Address("127.0.0.1", 4100)),
        (Endpoint("http", "127.0.0.1", 4100), Address("0.0.0.0", 4100)),
        (Endpoint("http", "", 0, unix_path="/p.sock"), Address(unix_path="/p.sock")),
    ],
)
def test_an_upstream_that_is_the_sidecar_itself_is_an_error(endpoint: Endpoint, listen: Address) -> None:
    upstream = UpstreamConfig("self", (endpoint,))
    found = findings(upstreams=(upstream,), proxy=ProxySettings((listen,)))
    assert [(each.name, each.severity) for each in found] == [("self", Severity.ERROR)]


def test_an_upstream_elsewhere_on_the_same_port_is_fine() -> None:
    upstream = UpstreamConfig("up", (Endpoint("http", "other", 4100), Endpoint("http", "127.0.0.1", 4200)))
    assert findings(upstreams=(upstream,)) == []


@pytest.mark.parametrize(
    ("method", "hint"),
    [("get", "did you mean GET?"), ("GTE", "did you mean GET?"), ("LIST", None), ("list", None), ("PUSH", None)],
)
def test_a_method_that_is_nearly_a_standard_one_is_found(method: str, hint: str | None) -> None:
    found = findings(route("r", prefix="/", methods=frozenset({method, "HEAD"})))
    assert [(each.setting, each.hint) for each in found] == ([] if hint is None else [("match.methods", hint)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"prefix": "/a/"}, {"prefix": "/a"}),
        ({"prefix": "/a/", "host": "a.example:80"}, {"prefix": "/a/", "host": "a.example.:80"}),
        ({"path": "/a"}, {"path": "/a"}),
        ({"regex": "/.*"}, {"regex": "/.*"}),
        (
            {"prefix": "/", "headers": (("a", "1"), ("b", None))},
            {"prefix": "/", "headers": (("b", None), ("a", "1"))},
        ),
    ],
)
def test_a_route_that_repeats_another_is_an_error(first: dict[str, Any], second: dict[str, Any]) -> None:
    found = findings(route("one", **first), route("two", **second), route("plain", path="/plain"))
    assert [(each.name, each.setting, each.severity) for each in found] == [("two", "match", Severity.ERROR)]


def test_a_route_that_takes_the_path_of_an_implicit_one_is_found() -> None:
    own = replace(route("b", prefix="/b/"), implicit=True)
    found = findings(route("r", prefix="/b"), own)
    assert [(each.name, each.setting, each.severity) for each in found] == [("b", "", Severity.WARNING)]


def test_a_pattern_behind_a_catch_all_is_found() -> None:
    found = findings(route("pattern", regex="/a"), route("all", prefix="/"))
    assert [(each.name, each.setting) for each in found] == [("pattern", "match.regex")]
    assert findings(route("pattern", regex="/a"), route("reads", prefix="/", methods=frozenset({"GET"}))) == []


def test_a_pattern_that_backtracks_is_found() -> None:
    assert "exponential" in findings(route("own", prefix="/a"), route(regex="/(a+)+$"))[0].message


@pytest.mark.parametrize(
    ("match", "strip", "warned"),
    [
        ({"prefix": "/catalog/"}, "/catalog", False),
        ({"prefix": "/catalog/v1/"}, "/catalog", False),
        ({"prefix": "/"}, "/catalog", False),
        ({"prefix": "/catalog/"}, "/cat", True),
        ({"prefix": "/catalog/"}, "/shop", True),
        ({"prefix": "/catalog/"}, "/catalog/v1", False),
        ({"path": "/catalog"}, "/shop", True),
        ({"regex": "/.*"}, "/shop", False),
    ],
)
def test_a_prefix_that_can_never_be_stripped_is_found(match: dict[str, Any], strip: str, *, warned: bool) -> None:
    found = findings(route(**match, rewrite=Rewrite(strip_prefix=strip)))
    assert [each.setting for each in found] == ["rewrite.strip_prefix"] * warned


def test_two_words_about_the_host_are_one_too_many() -> None:
    upstream = replace(UPSTREAM, preserve_host=True)
    found = findings(route(prefix="/a/", upstream=upstream, rewrite=Rewrite(host="other")))
    assert [each.setting for each in found] == ["rewrite.host"]


PATHLESS = {
    "by host": ({"host": "shop.local"},),
    "by host and prefix": ({"host": "shop.local", "prefix": "/catalog/"},),
    "by regex": ({"regex": "/v[0-9]+/"},),
    "by both": ({"host": "shop.local"}, {"regex": "/v[0-9]+/"}),
}


@pytest.mark.parametrize("matches", PATHLESS.values(), ids=PATHLESS.keys())
def test_an_upstream_that_lost_its_path_to_routes_by_host_or_regex(matches: tuple[dict[str, Any], ...]) -> None:
    (found,) = findings(*(route(f"r{number}", **match) for number, match in enumerate(matches)))

    assert (found.kind, found.name, found.setting, found.severity) == ("route", "r0", "match", Severity.WARNING)
    assert found.message.startswith("/catalog/ does not lead to upstream catalog: route")
    assert "match: {prefix: /catalog/}, rewrite: {strip_prefix: /catalog}" in found.hint


@pytest.mark.parametrize(
    "match",
    [
        {"prefix": "/catalog/"},
        {"prefix": "/shop/"},
        {"regex": "/[a-z]+/"},
        {"path": "/x"},
        {"prefix": "/", "methods": frozenset({"GET"})},
    ],
    ids=str,
)
def test_an_upstream_with_any_path_of_its_own_has_lost_nothing(match: dict[str, Any]) -> None:
    assert findings(route("other", host="shop.local"), route("own", **match)) == []


def test_what_to_write_for_failures_keeps_neither_good_answers_nor_the_clients_mistakes() -> None:
    found = findings(route(prefix="/a/", breaker=BreakerSettings(failures=frozenset(range(200, 600)))))

    assert [each.message.partition(":")[0] for each in found] == [
        "failures contains 200-399",
        "failures contains 400-407, 409-424, 426-428, 430-499",
    ]
    assert {each.hint for each in found} == {"write failures: [408, 425, 429, 500-599]"}


# The log


@pytest.mark.parametrize(
    ("log", "proxy", "setting", "message"),
    [
        (
            LogSettings(headers=("user-agent", "x-api-key", "cookie")),
            ProxySettings(),
            "log.headers",
            "the log shows the value of x-api-key, which is likely a secret",
        ),
        (LogSettings(sample=0.5, access=False), ProxySettings(), "log.sample", "sample has no effect"),
        (
            LogSettings(headers=("user-agent",)),
            ProxySettings(access_log=False),
            "log.headers",
            "headers has no effect: there is no access log",
        ),
    ],
)
def test_a_log_that_tells_too_much_or_nothing_is_found(
    log: LogSettings, proxy: ProxySettings, setting: str, message: str
) -> None:
    (found,) = findings(log=log, proxy=proxy)
    assert (found.setting, found.severity) == (setting, Severity.WARNING)
    assert message in found.message


def test_a_log_that_shows_fields_without_secrets_is_fine() -> None:
    shown = LogSettings(headers=("user-agent", "x-api-key"), redact=("x-api-key",), sample=0.1)
    assert findings(log=shown) == []


# Tracing


@pytest.mark.parametrize(
    ("endpoint", "severity", "message"),
    [
        (Endpoint("http", "collector", 4317), Severity.WARNING, "OTLP over gRPC"),
        (Endpoint("http", "", 0, unix_path="/run/otel.sock"), Severity.ERROR, "cannot be sent through a Unix socket"),
    ],
)
def test_a_collector_that_spans_would_not_reach_is_found(endpoint: Endpoint, severity: Severity, message: str) -> None:
    (found,) = findings(tracing=TracingSettings(endpoint))
    assert (found.setting, found.severity) == ("tracing.endpoint", severity)
    assert message in found.message


def test_a_collector_on_its_usual_port_is_fine() -> None:
    assert findings(tracing=TracingSettings(Endpoint("http", "collector", 4318))) == []
