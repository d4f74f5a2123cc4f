import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adapters.config_file import load, load_text
from sidecar.config.load import Loaded
from sidecar.config.problem import Severity
from sidecar.core.config import (
    Address,
    Backoff,
    BreakerMode,
    BreakerSettings,
    CacheMode,
    Config,
    CountWindow,
    Endpoint,
    ForwardedMode,
    HealthCheck,
    Match,
    RouteConfig,
    StalePolicy,
    Timeouts,
    TimeWindow,
)
from tests.support.pem import PEM

ONE = "upstreams: {a: {url: http://a}}\n"


def configured(text: str, **environ: str) -> Config:
    loaded = load_text(text, environ, "f.yaml")
    assert loaded.config is not None, loaded.problems
    return loaded.config


def only_route(text: str, **environ: str) -> RouteConfig:
    routes = configured(text, **environ).routes
    assert len(routes) == 1
    return routes[0]


def errors(text: str | bytes, **environ: str) -> list[tuple[int, int, str]]:
    loaded = load_text(text, environ, "f.yaml")
    assert loaded.config is None
    return [(each.line, each.column, each.message) for each in loaded.errors]


def breaker(block: str, **environ: str) -> BreakerSettings:
    return only_route(f"upstreams: {{a: {{url: 'http://a', breaker: {block}}}}}", **environ).breaker


# What comes out


def test_an_upstream_without_a_route_gets_its_name_as_a_prefix_and_strips_it() -> None:
    own = only_route(ONE)
    assert (own.name, own.match, own.rewrite.strip_prefix, own.implicit) == ("a", Match(prefix="/a/"), "/a", True)
    assert own.upstream.endpoints == (Endpoint("http", "a", 80),)


def test_a_match_without_a_path_condition_takes_every_path() -> None:
    for said in ("{host: shop.local}", "{host: shop.local, prefix: null}"):
        assert only_route(f"{ONE}routes: [{{match: {said}, upstream: a}}]").match == Match(
            prefix="/", host="shop.local"
        )


def test_everything_left_out_has_the_default_of_its_dataclass() -> None:
    config = configured(ONE)
    expected = Config(config.upstreams, config.routes, source="f.yaml", refs={"upstreams": "f.yaml:1"})
    assert config == expected
    assert (config.routes[0].breaker, config.routes[0].timeouts) == (BreakerSettings(), Timeouts())


def test_null_in_an_upper_layer_switches_off_what_a_lower_one_has() -> None:
    text = (
        "defaults: {health: {path: /h}, timeouts: {total: 5s}}\n"
        "upstreams: {a: {url: http://a, health: null, timeouts: {total: null}}, b: {url: http://b}, "
        "c: {url: http://c, health: {interval: 1s}}}\n"
    )
    a, b, c = configured(text).upstreams
    assert (a.health, a.timeouts.total) == (None, None)
    assert (b.health, b.timeouts.total) == (HealthCheck("/h"), 5.0)
    assert c.health == HealthCheck("/h", interval=1.0)


def test_routes_that_say_nothing_new_share_the_settings_of_their_upstream() -> None:
    own = only_route(ONE)
    assert own.breaker is own.upstream.breaker
    assert own.refs is own.upstream.refs


FULL = """\
proxy:
  listen: ["127.0.0.1:4100", "[::1]:4100", unix:/run/p.sock]
  tls: {cert_file: A_FILE, key_file: A_FILE}
  limits: {body_size: 10MB, keep_alive: 0s, requests_per_connection: 5}
  via: shop-1
  forwarded: both
  access_log: false
admin: {token_file: A_FILE, allowed_hosts: Admin.local}
telemetry: {listen: 127.0.0.1:0}
cache: {max_size: 1GiB, max_variants: 4}
state_dir: /var/lib/sidecar
defaults:
  timeouts: {connect: 250ms, total: 1m30s}
  breaker: {failure_rate: 0.25, backoff: {multiplier: 3}}
upstreams:
  catalog:
    endpoints: ["http://10.0.0.1:8080", "https://b/base/"]
    tls: {ca_file: A_FILE, server_name: catalog}
    pool: {max_age: 1h, warm: 2}
    health: {path: /healthz, expect: [200, 204]}
    preserve_host: true
    timeouts: {connect: 2s}
    breaker: {window: 100, backoff: {max: 1m}, failures: [500-502, 599], ignore: 404}
    cache: {mode: fallback, stale_policy: larger, targeted: [CDN-Cache-Control], query: {exclude: [utm]}}
routes:
  - name: reads
    match: {prefix: /catalog/, methods: [GET, HEAD], host: Shop.local, headers: {X-Env: on, x-any: null}}
    upstream: catalog
    rewrite: {strip_prefix: /catalog/, add_prefix: /v2, host: other:81}
    timeouts: {first_byte: 3s}
    breaker: {mode: observe, backoff: {jitter: 0}}
    cache: {mode: off}
  - name: exact
    match: {path: /x}
    upstream: catalog
  - {name: pattern, match: {regex: "^/y[0-9]+$"}, upstream: catalog}
  - {name: hosted, match: {host: h}, upstream: catalog}
""".replace("A_FILE", PEM)


def test_every_block_arrives() -> None:
    config = configured(FULL)
    assert config.proxy.listen[1:] == (Address("::1", 4100), Address(unix_path="/run/p.sock"))
    assert config.proxy.tls is not None
    assert (config.proxy.limits.body_size, config.proxy.limits.keep_alive) == (10_000_000, 0.0)
    assert (config.proxy.via, config.proxy.forwarded, config.proxy.access_log) == ("shop-1", ForwardedMode.BOTH, False)
    assert (config.admin.token_file, config.admin.allowed_hosts) == (PEM, ("admin.local",))
    assert (config.cache.max_size, config.cache.max_variants, config.state_dir) == (1 << 30, 4, "/var/lib/sidecar")
    (upstream,) = config.upstreams
    assert upstream.endpoints[1] == Endpoint("https", "b", 443, base_path="/base")
    assert (upstream.tls.ca_file, upstream.pool.warm, upstream.preserve_host) == (PEM, 2, True)
    assert upstream.health == HealthCheck("/healthz", expect=frozenset({200, 204}))
    assert upstream.cache.mode is CacheMode.FALLBACK
    assert upstream.cache.stale_policy is StalePolicy.LARGER
    assert (upstream.cache.targeted, upstream.cache.query.exclude) == (("cdn-cache-control",), frozenset({"utm"}))


def test_layers_are_merged_key_by_key_and_block_by_block() -> None:
    reads, exact, *_ = configured(FULL).routes
    assert exact.timeouts == Timeouts(connect=2.0, total=90.0)
    assert reads.timeouts == Timeouts(connect=2.0, first_byte=3.0, total=90.0)
    assert exact.breaker.backoff == Backoff(multiplier=3.0, max=60.0)
    assert reads.breaker.backoff == Backoff(multiplier=3.0, max=60.0, jitter=0.0)
    assert (reads.breaker.mode, exact.breaker.mode) == (BreakerMode.OBSERVE, BreakerMode.ENFORCE)
    assert (reads.breaker.failure_rate, reads.breaker.window) == (0.25, CountWindow(100))
    assert reads.breaker.failures == {500, 501, 502, 599}
    assert (reads.cache.mode, exact.cache.mode) == (CacheMode.OFF, CacheMode.FALLBACK)


def test_conditions_and_rewrites_arrive() -> None:
    reads, exact, pattern, hosted = configured(FULL).routes
    assert reads.match == Match(
        prefix="/catalog/",
        methods=frozenset({"GET", "HEAD"}),
        host="shop.local",
        headers=(("x-env", "on"), ("x-any", None)),
    )
    assert (reads.rewrite.strip_prefix, reads.rewrite.add_prefix, reads.rewrite.host) == ("/catalog", "/v2", "other:81")
    assert exact.match == Match(path="/x")
    assert pattern.match.regex is not None
    assert pattern.match.regex.pattern == b"^/y[0-9]+$"
    assert hosted.match == Match(prefix="/", host="h")


@pytest.mark.parametrize(
    ("setting", "ref"),
    [
        ("", "f.yaml:26"),
        ("timeouts.connect", "f.yaml:22"),
        ("timeouts.total", "f.yaml:13"),
        ("timeouts.first_byte", "f.yaml:30"),
        ("breaker", "f.yaml:31"),
        ("breaker.failure_rate", "f.yaml:14"),
        ("breaker.window", "f.yaml:23"),
        ("breaker.backoff.multiplier", "f.yaml:14"),
        ("breaker.backoff.max", "f.yaml:23"),
        ("breaker.backoff.jitter", "f.yaml:31"),
        ("cache.mode", "f.yaml:32"),
        ("cache.targeted", "f.yaml:24"),
        ("match", "f.yaml:27"),
        ("breaker.slow_rate", None),
    ],
)
def test_each_setting_knows_the_line_that_decides_it(setting: str, ref: str | None) -> None:
    assert configured(FULL).routes[0].refs.get(setting) == ref


def test_a_route_is_called_as_its_upstream_unless_named() -> None:
    own = only_route(ONE + "routes: [{match: {prefix: /x}, upstream: a}]")
    assert (own.name, own.implicit) == ("a", False)


# YAML 1.1 guesses never leak


@pytest.mark.parametrize(
    ("block", "attribute", "value"),
    [
        ("{mode: off}", "mode", BreakerMode.OFF),
        ('{mode: "off"}', "mode", BreakerMode.OFF),
        ("{failure_threshold: 010}", "failure_threshold", 10),
        ('{failure_threshold: "5"}', "failure_threshold", 5),
        ("{failure_threshold: ~}", "failure_threshold", None),
        ("{failure_threshold: }", "failure_threshold", None),
        ("{window: 60}", "window", CountWindow(60)),
        ("{window: 60s}", "window", TimeWindow(60.0)),
        ("{failure_rate: 1.0}", "failure_rate", 1.0),
        ("{failures: 500-599}", "failures", frozenset(range(500, 600))),
        ("{failures: []}", "failures", frozenset()),
        ("{backoff: }", "backoff", Backoff()),
    ],
)
def test_a_scalar_is_read_as_the_type_of_its_key(block: str, attribute: str, value: object) -> None:
    assert getattr(breaker(block), attribute) == value


@pytest.mark.parametrize(
    "text", ["on", "NO", "yes", "010", "1:30", "1_000", ".inf", "=", "2001-01-01", "1e3", "0x10", "!"]
)
def test_text_stays_text(text: str) -> None:
    if text in {"=", "!"}:
        text = f"'{text}'"
    own = only_route(ONE + f"routes: [{{match: {{prefix: /x, headers: {{h: {text}}}}}, upstream: a}}]")
    assert own.match.headers == (("h", text.strip("'")),)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("failure_threshold: 1_000", "failure_threshold: '1_000' is not a whole number"),
        ("failure_threshold: 0x10", "failure_threshold: '0x10' is not a whole number"),
        ("failure_threshold: 1:30", "failure_threshold: '1:30' is not a whole number"),
        ("failure_threshold: on", "failure_threshold: 'on' is not a whole number"),
        ("failure_threshold: .inf", "failure_threshold: '.inf' is not a whole number"),
        ("failure_threshold: '~'", "failure_threshold: '~' is not a whole number"),
        ("open_duration: 15", "open_duration: '15' is not a duration"),
        ("open_duration: 1:30", "open_duration: '1:30' is not a duration"),
        ("open_duration: 2001-01-01", "open_duration: '2001-01-01' is not a duration"),
        ("open_duration: 0s", "open_duration: a duration of zero makes no sense here"),
        ("open_duration: null", "open_duration needs a value"),
        ("open_duration: [1s]", "open_duration must be a duration such as 250ms, 2s or 1h30m, not a list"),
        ("window: null", "window needs a value"),
        ("window: 0", "window: a window of 0 requests is out of range"),
        ("window: 1ms", "window: '1ms' is too short a window"),
        ("mode: on", "mode: 'on' is not one of enforce, observe, off"),
        ("failure_rate: 50", "failure_rate: '50' is more than all"),
        ("failure_rate: 0%", "failure_rate: a share of nothing has no effect"),
        ("failures: [500, six]", "failures: 'six' is not a status code 100–599 or a range of them"),
        ("failures: {a: b}", "failures must be a status code or a range such as 500-599, not a mapping"),
        ("failures: [null]", "failures needs a value"),
        ("backoff: 2", "backoff must be a mapping, not a single value"),
        ("backoff: {multiplier: 0.5}", "multiplier: '0.5' is too small"),
    ],
)
def test_a_value_of_the_wrong_kind_is_an_error_at_its_place(setting: str, message: str) -> None:
    found = errors(f"upstreams:\n  a:\n    url: http://a\n    breaker:\n      {setting}\n")
    assert [(line, text) for line, _, text in found] == [(5, message)]


# Errors, each at its place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("proxi: 1\n" + ONE, [(1, 1, "unknown key 'proxi' in configuration")], id="unknown key"),
        pytest.param(
            ONE + "cache: {max_size: 1MiB, max_size: 2MiB}", [(2, 25, "duplicate key 'max_size'")], id="duplicate"
        ),
        pytest.param(
            ONE + "upstreams: {b: {url: http://b}}", [(2, 1, "duplicate key 'upstreams'")], id="duplicate block"
        ),
        pytest.param("", [(1, 1, "the configuration is empty")], id="empty"),
        pytest.param("# nothing\n", [(1, 1, "the configuration is empty")], id="only a comment"),
        pytest.param("---\n", [(2, 1, "no upstream is configured")], id="null document"),
        pytest.param("[]", [(1, 1, "configuration must be a mapping, not a list")], id="list"),
        pytest.param("hello", [(1, 1, "configuration must be a mapping, not a single value")], id="scalar"),
        pytest.param("upstreams: {}", [(1, 12, "no upstream is configured")], id="no upstream"),
        pytest.param("upstreams: [a]", [(1, 12, "upstreams must be a mapping, not a list")], id="list of upstreams"),
        pytest.param("upstreams: {a: {}}", [(1, 13, "upstream a has no url")], id="no url"),
        pytest.param("upstreams: {a: }", [(1, 13, "upstream a has no url")], id="null upstream"),
        pytest.param("upstreams: {a: 1}", [(1, 16, "upstream must be a mapping, not a single value")], id="no mapping"),
        pytest.param(
            "upstreams: {a: {url: http://a, endpoints: [http://b]}}",
            [(1, 32, "upstream a has both url and endpoints")],
            id="url and endpoints",
        ),
        pytest.param("upstreams: {a: {endpoints: []}}", [(1, 28, "endpoints must not be empty")], id="no endpoints"),
        pytest.param(
            'upstreams: {"a b": {url: http://a}}',
            [(1, 13, "upstreams: 'a b' is not a name (letters, digits, . _ -; a letter or digit first)")],
            id="bad name",
        ),
        pytest.param(ONE + "a: 1\n---\nb: 1", [(3, 1, "a second document starts here")], id="two documents"),
        pytest.param("x-a: !!python/object:os.system x\n" + ONE, [(1, 6, "YAML tags are not supported")], id="tag"),
        pytest.param("x-a: !!int 5\n" + ONE, [(1, 6, "YAML tags are not supported")], id="core tag"),
        pytest.param("? [a]\n: b\n" + ONE, [(1, 3, "a key must be a single value")], id="complex key"),
        pytest.param("a: *b\n" + ONE, [(1, 4, "the alias *b has no anchor before it")], id="unknown alias"),
        pytest.param("x-a: &a [*a]\n" + ONE, [(1, 10, "the alias *a has no anchor before it")], id="recursive alias"),
        pytest.param(
            "x-a: {<<: 1}\n" + ONE, [(1, 11, "<< takes an alias of a mapping, or a list of them")], id="merge"
        ),
        pytest.param(
            "upstreams:\n\ta: 1", [(2, 1, "not valid YAML: found character that cannot start any token")], id="tab"
        ),
        pytest.param("a: b: c", [(1, 5, "not valid YAML: mapping values are not allowed in this context")], id="colon"),
        pytest.param(b"a: \xff", [(1, 4, "the text is not UTF-8")], id="not UTF-8"),
        pytest.param("a: \0", [(1, 4, "the character U+0000 is not allowed")], id="NUL"),
        pytest.param("[" * 100, [(1, 51, "nested deeper than 50 levels")], id="deep"),
        pytest.param(ONE + "routes: {}", [(2, 9, "routes must be a list, not a mapping")], id="routes"),
        pytest.param(ONE + "routes: [1]", [(2, 10, "route must be a mapping, not a single value")], id="route"),
        pytest.param(
            ONE + "routes: [{}]", [(2, 10, "route needs upstream"), (2, 10, "route needs match")], id="empty route"
        ),
        pytest.param(
            ONE + "routes: [{match: {methods: null}, upstream: a}]", [(2, 10, "route needs match")], id="empty match"
        ),
        pytest.param(
            ONE + "routes: [{match: {prefix: /, path: /, regex: /}, upstream: a}]",
            [(2, 30, "match has both prefix and path"), (2, 39, "match has both prefix and regex")],
            id="too many paths",
        ),
        pytest.param(
            ONE + "routes: [{match: {prefix: /}, upstream: b}]",
            [(2, 41, "there is no upstream 'b'")],
            id="no such upstream",
        ),
        pytest.param(
            ONE + "routes: [{name: r, match: {path: /1}, upstream: a}, {name: r, match: {path: /2}, upstream: a}]",
            [(2, 60, "a second route is called 'r'")],
            id="same name",
        ),
        pytest.param(
            "upstreams: {a: {url: http://a}, b: {url: http://b}}\nroutes: [{name: b, match: {prefix: /}, upstream: a}]",
            [(2, 17, "'b' is the name of that upstream's own route")],
            id="name of an implicit route",
        ),
        pytest.param(
            ONE + "routes: [{match: {prefix: catalog}, upstream: a}]",
            [(2, 27, "prefix: 'catalog' does not start with /")],
            id="relative prefix",
        ),
        pytest.param(
            ONE + 'routes: [{match: {prefix: "/a\\r\\nX: y"}, upstream: a}]',
            [(2, 27, "prefix: '\\r' cannot occur in a path")],
            id="injection through a prefix",
        ),
        pytest.param(
            ONE + 'routes: [{match: {prefix: /}, upstream: a, rewrite: {host: "h\\r\\nX: y"}}]',
            [(2, 60, "host: 'h\\r\\nX' is not a host name or address")],
            id="injection through a host",
        ),
        pytest.param(
            ONE + 'routes: [{match: {prefix: /, headers: {x: "a\\nb"}}, upstream: a}]',
            [(2, 43, "headers: 'a\\nb' is not a header value (visible ASCII characters)")],
            id="injection through a header",
        ),
        pytest.param(
            ONE + 'proxy: {via: "a, b"}',
            [(2, 14, "via: 'a, b' is not a pseudonym (letters, digits, . _ -; a letter first)")],
            id="via",
        ),
        pytest.param(
            ONE + "routes: [{match: {regex: '('}, upstream: a}]",
            [(2, 26, "regex: not a regular expression: missing ), unterminated subpattern at position 0")],
            id="regex",
        ),
        pytest.param(
            ONE + "routes: [{match: {prefix: /, methods: g(t}, upstream: a}]",
            [(2, 39, "methods: 'g(t' is not a method")],
            id="malformed method",
        ),
        pytest.param(
            ONE + "routes: [{match: {prefix: /, methods: [CONNECT]}, upstream: a}]",
            [(2, 40, "methods: CONNECT is never forwarded")],
            id="CONNECT",
        ),
        pytest.param(
            ONE + f"proxy: {{tls: {{cert_file: {__file__}}}}}", [(2, 9, "tls needs key_file")], id="missing key"
        ),
        pytest.param(
            ONE + "proxy: {listen: '127.0.0.1:4101'}",
            [(1, 1, "admin.listen 127.0.0.1:4101 collides with proxy.listen 127.0.0.1:4101")],
            id="port conflict with a default",
        ),
        pytest.param(ONE + "proxy: {listen: []}", [(2, 17, "listen must not be empty")], id="no listener"),
    ],
)
def test_an_error_is_reported_where_it_is(text: str | bytes, expected: list[tuple[int, int, str]]) -> None:
    assert errors(text) == expected


def test_all_errors_come_at_once_in_order() -> None:
    found = errors(
        "proxy: {lisen: 1}\nupstreams:\n  a: {url: ftp://a, breaker: {window: x, mode: y}}\n  b: {}\nbad: 1\n"
    )
    assert [(line, column) for line, column, _ in found] == [(1, 9), (3, 12), (3, 39), (3, 48), (4, 3), (5, 1)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("upstream: 1\n" + ONE, "did you mean 'upstreams'?"),
        ("upstreams: {a: {url: http://a, failure_threshold: 3}}", "it goes under 'breaker'"),
        ("upstreams: {a: {url: http://a, timeout: 3s}}", "did you mean 'timeouts'?"),
        ("upstreams: {a: {url: http://a, ttl: 3s}}", "it goes under 'cache'"),
        ("upstreams: {a: {url: http://a, time-outs: {}}}", "did you mean 'timeouts'?"),
        (ONE + "routes: [{match: {prefix: /}, upstream: aa}]", "did you mean 'a'?"),
        ("a: {b: ${X}}\n" + ONE, "a value with ${…} inside { } or [ ] goes in quotes"),
        ("proxy: {listen: [::1]:80}\n" + ONE, "an IPv6 address goes in quotes: '[::1]:4100'"),
        ("proxy: {listen: *:80}\n" + ONE, "an address with * goes in quotes; for every interface write 0.0.0.0"),
        ("a:\n\tb: 1\n", "indent with spaces: YAML allows no tabs there"),
        ("a: b: c\n", "a value with ': ' in it goes in quotes"),
        ("upstreams: {a: {url: a:8080}}", "write http://host:port, https://host or unix:/path.sock"),
    ],
)
def test_the_first_error_says_what_to_write(text: str, hint: str) -> None:
    assert load_text(text, {}).errors[0].hint == hint


def test_a_hint_names_only_what_is_supported() -> None:
    for text in ("nothing: 1\n" + ONE, "retries: 1\n" + ONE, "upstreams: {a: {url: http://a, retries: {}}}"):
        (problem,) = load_text(text, {}).errors
        assert problem.hint == "" or not re.search(r"\bfaults\b", problem.hint)


def test_the_caret_covers_the_value() -> None:
    (problem,) = load_text("upstreams: {a: {url: 'http://', }}", {}).errors
    assert (problem.column, problem.length) == (22, len("'http://'"))


def test_columns_count_characters_beyond_the_basic_plane_once() -> None:
    assert errors("'😀ä': {}\n" + ONE)[0][:2] == (1, 1)
    assert errors("x-a: '😀ä'\n" + ONE.replace("url", "'😀': 1, url"))[0][:2] == (2, 17)


def test_line_numbers_follow_every_kind_of_line_break() -> None:
    assert errors("# a\r\n# b\r# c\n\x85bad: 1")[0][0] == 5


# Aliases, merges, variables


def test_aliases_and_merge_keys_work() -> None:
    text = """
x-common: &common {window: 10, minimum_requests: 5, mode: observe}
x-more: &more {failure_threshold: 7, window: 11}
upstreams:
  a: &a {url: http://a, breaker: {<<: *common, mode: enforce}}
  b: {<<: *a, url: http://b}
  c: {url: http://c, breaker: {<<: [*common, *more]}}
  d: *a
"""
    a, b, c, d = configured(text).routes
    assert (a.breaker.window, a.breaker.mode) == (CountWindow(10), BreakerMode.ENFORCE)
    assert (b.breaker, b.upstream.endpoints[0].host) == (a.breaker, "b")
    assert (c.breaker.window, c.breaker.failure_threshold) == (CountWindow(10), 7)
    assert a.refs["breaker.window"] == "f.yaml:2"
    assert d.upstream.endpoints == a.upstream.endpoints


def bomb(levels: int, width: int = 10) -> str:
    rows = ["x-0: &a0 [x]"]
    rows += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(rows)


def merge_bomb(levels: int) -> str:
    rows = ["x-0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}"]
    rows += [f"x-{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, levels)]
    return "\n".join(rows)


@pytest.mark.parametrize("text", [bomb(30), merge_bomb(30)], ids=["lists", "merges"])
def test_an_alias_bomb_is_defused(text: str) -> None:
    started = time.process_time()
    ((line, _, message),) = errors(text + "\n" + ONE)
    assert message == "more than 1000000 values"
    assert line < 30
    assert time.process_time() - started < 5


def test_a_long_chain_of_aliases_is_no_deep_recursion() -> None:
    chain = "x-0: &a0 {k: 1}\n" + "".join(f"x-{n}: &a{n} {{k: *a{n - 1}}}\n" for n in range(1, 300))
    assert configured(chain + ONE).routes


def test_a_hopeless_file_is_given_up_in_bounded_time() -> None:
    loaded = load_text("upstreams:\n" + "".join(f"  a{n}: {{url: x, b{n}: 1}}\n" for n in range(20_000)), {})
    assert len(loaded.problems) == 201
    assert "there may be more" in loaded.problems[-1].message


def test_variables_are_replaced_after_parsing() -> None:
    environ = {"HOST": "b: {c: d}", "PORT": "8080", "MODE": "off"}
    assert breaker("{mode: '${MODE}', open_duration: '${UNSET:-45s}'}", **environ).open_duration == 45.0
    own = only_route("upstreams:\n  a:\n    url: http://h:${PORT}/${UNSET:-x}", **environ)
    assert str(own.upstream.endpoints[0]) == "http://h:8080/x"
    assert errors("upstreams:\n  a:\n    url: http://${HOST}", **environ)[0][:2] == (3, 10)


def test_a_variable_that_is_empty_says_nothing() -> None:
    text = "state_dir: ${DIR:-}\n" + ONE
    assert configured(text).state_dir is None
    assert configured(text, DIR="/d").state_dir == "/d"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("${NOPE}", "the environment variable NOPE is not set"),
        ("${NOPE:?set it}", "NOPE: set it"),
        ("${NOPE", "not a variable reference: write ${NAME}, ${NAME:-default} or ${NAME:?message}"),
        ("${BAD}", "open_duration: 'soon' is not a duration (from ${BAD})"),
    ],
)
def test_a_variable_without_a_usable_value_is_an_error_at_its_place(value: str, message: str) -> None:
    text = f"upstreams: {{a: {{url: http://a}}}}\ndefaults:\n  breaker:\n    open_duration: {value}"
    assert errors(text, BAD="soon") == [(4, 20, message)]


def test_an_escaped_reference_is_literal() -> None:
    own = only_route(ONE + "routes: [{match: {prefix: /, headers: {h: '$${X}'}}, upstream: a}]")
    assert own.match.headers == (("h", "${X}"),)


# Findings that are no errors


def test_a_warning_stands_at_the_setting_that_causes_it() -> None:
    loaded = load_text(
        "defaults:\n  breaker:\n    open_duration: 1s\n" + ONE.replace("a}", "a}, b: {url: http://b}"), {}
    )
    assert loaded.config is not None
    (warning,) = loaded.problems
    assert (warning.severity, warning.line, warning.column) == (Severity.WARNING, 3, 5)
    assert warning.hint.startswith("write open_duration: 15s or more")


# Files


def test_a_file_is_loaded_and_named_in_references(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + ONE.encode())
    loaded = load(file, {})
    assert loaded.config is not None
    assert loaded.config.routes[0].refs["url"] == f"{file}:1"
    assert loaded.config.source == str(file)


def test_a_file_that_cannot_be_read_is_a_problem_not_a_traceback(tmp_path: Path) -> None:
    def reason(path: Path) -> str:
        loaded = load(path, {})
        assert loaded.config is None
        return loaded.problems[0].message

    assert reason(tmp_path / "missing.yaml") == "cannot read the file: No such file or directory"
    assert reason(tmp_path) == "cannot read the file: Is a directory"
    (tmp_path / "file").touch()
    assert reason(tmp_path / "file" / "below") == "cannot read the file: Not a directory"
    assert reason(tmp_path / "nul\0") == "cannot read the file: embedded null byte"


# Anything at all

VOCABULARY = (
    "upstreams routes defaults breaker cache timeouts match prefix regex url name a b http://a / 5 30s 50% null ~ off "
    "${X} ${X:-1} &a *a << !!int - : , { } [ ] ' \" | > # % @ \ufeff 😀 x-a window failures 500-599"
)
WORDS = st.sampled_from([*VOCABULARY.split(), "\t", "\r"])
YAMLISH = st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n", "\n  ", ": ", ""])), max_size=40).map(
    lambda pairs: "".join(word + gap for word, gap in pairs)
)


def is_verdict(loaded: Loaded) -> bool:
    return (loaded.config is None) == bool(loaded.errors)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.binary(), YAMLISH))
def test_any_content_gets_a_verdict(content: str | bytes) -> None:
    assert is_verdict(load_text(content, {"X": "1"}))


JSONISH = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["proxy", "cache", "defaults", "upstreams", "routes", "admin"]), JSONISH))
def test_any_structure_gets_a_verdict(document: dict[str, Any]) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        assert is_verdict(load_text(json.dumps(document), {}))


# Files that it names

TOP = {"admin.token_file": "admin: {token_file: FILE}", "proxy.tls": "proxy: {tls: {cert_file: GOOD, key_file: FILE}}"}
TLS = {
    key: f"upstreams: {{a: {{url: https://a, tls: {{{key}: FILE{more}}}}}}}"
    for key, more in (("ca_file", ""), ("cert_file", ", key_file: GOOD"), ("key_file", ", cert_file: GOOD"))
}
NAMED = {
    **{key: f"{ONE}{text}\n" for key, text in TOP.items()},
    "client_ca_file": f"{ONE}proxy: {{tls: {{cert_file: GOOD, key_file: GOOD, client_ca_file: FILE}}}}\n",
    **{f"upstream {key}": f"x-: 1\n{text}\n" for key, text in TLS.items()},
    "defaults": "upstreams: {a: {url: https://a}, b: {url: https://b}}\ndefaults: {tls: {ca_file: FILE}}\n",
}
FAULTS = {
    "missing": "cannot be read: No such file or directory",
    "directory": "is a directory",
    "empty": "is empty",
    "blank": "is empty",
    "under a file": "cannot be read: Not a directory",
    "pipe": "is no regular file",
    "loop": "cannot be read: Too many levels of symbolic links",
}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good").write_text(Path(PEM).read_text())
    (tmp_path / "directory").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "blank").write_text(" \n")
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def naming(text: str, files: Path, name: str) -> str:
    path = files / "good" / "x" if name == "under a file" else files / name
    return text.replace("FILE", str(path)).replace("GOOD", str(files / "good"))


@pytest.mark.parametrize(("name", "fault"), FAULTS.items(), ids=FAULTS)
@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_a_named_file_that_is_of_no_use_is_an_error_at_its_place(files: Path, text: str, name: str, fault: str) -> None:
    text = naming(text, files, name)
    loaded = load_text(text, {})

    (problem,) = loaded.errors
    row = text.splitlines()[1]
    assert problem.message.endswith(f" {fault}")
    assert (problem.line, row[problem.column - 1 :].startswith(str(files))) == (2, True)
    assert loaded.config is None
    assert load_text(text, {}, look_at_files=False).errors == ()


@pytest.mark.parametrize("name", ["good", "link"])
@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
def test_a_named_file_with_something_in_it_is_fine(files: Path, text: str, name: str) -> None:
    assert load_text(naming(text, files, name), {}).errors == ()


def test_a_file_named_by_a_variable_is_looked_at_too(files: Path) -> None:
    (problem,) = load_text(f"{ONE}admin: {{token_file: '${{TOKEN}}'}}", {"TOKEN": str(files / "empty")}).errors

    assert problem.message == f"token_file: {str(files / 'empty')!r} is empty"


def test_a_state_directory_need_not_be_there() -> None:
    assert load_text(f"{ONE}state_dir: /nowhere/state", {}).errors == ()


# All errors in one round

TOGETHER = {
    "listeners": ("proxy: {listen: '127.0.0.1:1'}\nadmin: {listen: '127.0.0.1:1'}\n", ["collides"]),
    "client certificate": (
        "upstreams: {a: {url: https://a, tls: {cert_file: GOOD}}}\n",
        ["a client certificate needs both files: key_file is missing"],
    ),
    "own address": ("upstreams: {a: {url: 'http://127.0.0.1:4100'}}\n", ["is this sidecar's own listener"]),
    "routes": (
        "routes: [{name: r, match: {path: /x}, upstream: a}, {name: s, match: {path: /x}, upstream: a}]\n",
        ["route s can never match"],
    ),
    "names": (
        "routes: [{name: r, match: {path: /x}, upstream: a}, {name: r, match: {path: /y}, upstream: a}]\n",
        ["a second route is called 'r'"],
    ),
    "nothing more": ("routes: [{name: r, match: {path: /x}, upstream: a}]\n", []),
    # What cannot be known because its value is wrong is no second error.
    "a listener that is wrong itself": ("proxy: {listen: nonsense}\nadmin: {listen: '127.0.0.1:4100'}\n", ["listen"]),
    "a key file that is wrong itself": (
        "upstreams: {a: {url: https://a, tls: {cert_file: GOOD, key_file: /nowhere}}}\n",
        ["key_file: '/nowhere' cannot be read"],
    ),
    "a match that is wrong itself": (
        "routes: [{match: {path: /x}, upstream: a}, {name: s, match: {path: /x, methods: g@t}, upstream: a}]\n",
        ["methods: 'g@t'"],
    ),
    "an upstream that is wrong itself": ("upstreams: {a: {url: nonsense}}\n", ["url"]),
}


@pytest.mark.parametrize(("text", "semantic"), TOGETHER.values(), ids=TOGETHER)
def test_errors_of_meaning_come_in_the_same_round_as_typos(files: Path, text: str, semantic: list[str]) -> None:
    text = naming(text if "upstreams" in text else ONE + text, files, "good") + "proxi: {}\ncache: {max_size: 1}\n"
    messages = [problem.message for problem in load_text(text, {}).problems]

    assert [message for message in messages if "proxi" in message or "max_size" in message] == messages[-2:]
    assert len(messages[:-2]) == len(semantic), messages
    for message, part in zip(messages, semantic, strict=False):
        assert part in message
