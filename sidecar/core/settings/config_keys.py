"""Every key of the configuration file, once: its type and its meaning.

The loader reads by this table, `sidecar schema` is generated from it, and the tests walk it. Defaults stand in the
dataclasses of `config.py` that the blocks name.
"""

from __future__ import annotations

from sidecar.core import config as c
from sidecar.core.settings import config_types as t
from sidecar.core.settings.config_schema import Block, Key, Later, Listed, Named
from sidecar.core.settings.listener_keys import ADMIN, PROXY, STORE, TELEMETRY

TIMEOUTS = Block(
    "timeouts",
    c.Timeouts,
    "How long an upstream may take.",
    (
        Key("connect", t.duration(), "to a connection, TLS included; beyond: 504"),
        Key("first_byte", t.duration(), "from the request to a complete response head; beyond: 504"),
        Key("idle", t.duration(), "longest silence within a body"),
        Key("total", t.duration(), "for everything, retries and body included", nullable=True),
    ),
)
BACKOFF = Block(
    "backoff",
    c.Backoff,
    "How the open period grows.",
    (
        Key("multiplier", t.number(1), "the period grows by this at every reopening"),
        Key("max", t.duration(), "and no further than this"),
        Key("jitter", t.share(zero=True), "random share added or taken off, so that sidecars do not probe together"),
    ),
)
BREAKER = Block(
    "breaker",
    c.BreakerSettings,
    "When a route's circuit opens and closes.",
    (
        Key("mode", t.choice(c.BreakerMode), "enforce; observe: never refuse, report what would have been; off"),
        Key("failure_threshold", t.integer(1), "consecutive failures that open; null: off", nullable=True),
        Key("failure_rate", t.share(), "share of failures in the window that opens; null: off", nullable=True),
        Key("slow_rate", t.share(), "share of slow requests in the window that opens; null: off", nullable=True),
        Key("slow_after", t.duration(), "what slow means: time from the request's last octet to the head"),
        Key("window", t.WINDOW, "what the rates look back on: a duration, or a number of requests"),
        Key("minimum_requests", t.integer(1), "with fewer in the window a rate decides nothing"),
        Key("open_duration", t.duration(), "the first open period"),
        Key("backoff", BACKOFF, "how the open period grows"),
        Key("half_open_probes", t.integer(0, 10_000), "probes in flight at once"),
        Key("success_threshold", t.integer(1), "successful probes that close"),
        Key("probe_timeout", t.duration(), "then a probe is judged by its head, or given up without one"),
        Key("failures", t.STATUSES, "statuses that count as failures"),
        Key("ignore", t.STATUSES, "statuses that count neither way"),
        Key(
            "ramp", t.duration(), "after closing, admit a growing share for this long; null: all at once", nullable=True
        ),
    ),
)
QUERY = Block(
    "query",
    c.QueryKey,
    "How the query takes part in the cache key.",
    (
        Key("include", t.set_of(t.PARAMETER), "only these parameters; null: all", nullable=True),
        Key("exclude", t.set_of(t.PARAMETER), "all but these"),
        Key("sort", t.BOOLEAN, "order does not matter"),
    ),
)
CACHE = Block(
    "cache",
    c.CacheSettings,
    "What is stored, and when a stored answer stands in.",
    (
        Key("mode", t.choice(c.CacheMode), "standard: RFC 9111; fallback: only when the upstream cannot answer; off"),
        Key("ttl", t.duration(zero=True), "freshness of a response that gives none", nullable=True),
        Key("stale_ttl", t.duration(zero=True), "how long past freshness it may stand in for a failing upstream"),
        Key(
            "stale_policy", t.choice(c.StalePolicy), "whose word counts: origin's stale-if-error, larger, route, always"
        ),
        Key("max_entry_size", t.size(1), "larger bodies pass through and are not stored"),
        Key("honor_request_directives", t.BOOLEAN, "obey Cache-Control in requests"),
        Key("targeted", t.tuple_of(t.FIELD_NAME), "fields that win over Cache-Control, such as CDN-Cache-Control"),
        Key("background_refresh", t.BOOLEAN, "answer stale at once and refresh behind it"),
        Key("store_set_cookie", t.BOOLEAN, "store responses with Set-Cookie, without the cookie"),
        Key("query", QUERY, "how the query takes part in the key"),
        Key("key_headers", t.tuple_of(t.FIELD_NAME), "request headers that take part in the key"),
        Key("share", t.IDENTIFIER, "name of a key space shared with other routes; null: its own", nullable=True),
        Key("collapse", t.BOOLEAN, "concurrent misses for one key make one upstream request"),
        Key("debug", t.BOOLEAN, "show the key in Cache-Status"),
    ),
)
UPSTREAM_TLS = Block(
    "tls",
    c.UpstreamTls,
    "How https:// is verified.",
    (
        Key("verify", t.BOOLEAN, "check the certificate; false is for tests only"),
        Key("ca_file", t.FILE, "PEM file with the authorities to trust; null: the system's", nullable=True),
        Key("cert_file", t.FILE, "PEM file with a client certificate", nullable=True),
        Key("key_file", t.FILE, "PEM file with its private key", nullable=True),
        Key("server_name", t.HOST, "name to send and to verify; null: the URL's host", nullable=True),
    ),
)
POOL = Block(
    "pool",
    c.PoolSettings,
    "Connections to each endpoint.",
    (
        Key("max_connections", t.integer(1), "open at once, per endpoint"),
        Key("queue_timeout", t.duration(zero=True), "how long a request waits for a slot; beyond: 503"),
        Key("max_queue", t.integer(0), "requests that may wait"),
        Key("keep_alive", t.duration(zero=True), "how long an idle connection is kept"),
        Key("max_age", t.duration(), "a connection is replaced after this; null: never", nullable=True),
        Key("warm", t.integer(0, 1000), "connections opened ahead of requests"),
        Key("dns_refresh", t.duration(), "how often a name is resolved again"),
        Key("cooldown", t.duration(zero=True), "how long an endpoint that refused is passed over"),
    ),
)
HEALTH = Block(
    "health",
    c.HealthCheck,
    "An active probe that can close a circuit without traffic.",
    (
        Key("path", t.PATH, "what to GET"),
        Key("interval", t.duration(), "how often"),
        Key("timeout", t.duration(), "how long an answer may take"),
        Key("expect", t.STATUSES, "statuses of a healthy upstream"),
    ),
)
LATER = (
    Key("retry", Later("retries"), "attempts and retry budget"),
    Key("bulkhead", Later("bulkheads"), "concurrency limit with a queue"),
    Key("fallback", Later("fallbacks"), "a fixed answer, or another upstream"),
    Key("hedge", Later("hedged requests"), "a second attempt when the first is slow"),
    Key("faults", Later("fault injection"), "delays and aborts for tests"),
)
PER_ROUTE = (
    Key("timeouts", TIMEOUTS, "how long the upstream may take"),
    Key("breaker", BREAKER, "when the circuit opens and closes"),
    Key("cache", CACHE, "what is stored, and when it stands in"),
)
PER_UPSTREAM = (
    Key("tls", UPSTREAM_TLS, "how https:// is verified"),
    Key("pool", POOL, "connections to each endpoint"),
    Key("health", HEALTH, "active health probe; null: none", nullable=True),
    Key("preserve_host", t.BOOLEAN, "send the client's Host instead of the upstream's"),
)
DEFAULTS = Block(
    "defaults",
    c.UpstreamConfig,
    "Merged under every upstream, key by key.",
    (*PER_UPSTREAM, *PER_ROUTE, *LATER),
)
UPSTREAM = Block(
    "upstream",
    c.UpstreamConfig,
    "A service behind the sidecar.",
    (
        Key("url", t.ENDPOINT, "its one address: http://host:port, https://host or unix:/path.sock"),
        Key("endpoints", t.tuple_of(t.ENDPOINT, may_be_empty=False), "its addresses, instead of url"),
        *DEFAULTS.keys,
    ),
    optional=frozenset({"endpoints"}),
)
MATCH = Block(
    "match",
    c.Match,
    "What a request must look like: all that is given.",
    (
        Key("prefix", t.PATH, "whole leading segments of the path; /a/ and /a are the same", nullable=True),
        Key("path", t.PATH, "the whole path", nullable=True),
        Key("regex", t.REGEX, "matched against the path from its start; tried after prefixes and paths", nullable=True),
        Key("methods", t.set_of(t.METHOD, may_be_empty=False), "any of these; null: all", nullable=True),
        Key("host", t.HOST, "Host, or the host of an absolute-form target; a port only if meant", nullable=True),
        Key("headers", t.MapType(t.FIELD_NAME, t.FIELD_VALUE), "exact values; null: present at all"),
    ),
)
REWRITE = Block(
    "rewrite",
    c.Rewrite,
    "Changes to the request before it is forwarded.",
    (
        Key("strip_prefix", t.SEGMENTS, "taken off the path"),
        Key("add_prefix", t.SEGMENTS, "then put before it"),
        Key("host", t.HOST, "sent as Host; null: the upstream's own", nullable=True),
    ),
)
ROUTE = Block(
    "route",
    c.RouteConfig,
    "Which requests go where, through a circuit of their own.",
    (
        Key("name", t.IDENTIFIER, "name of the route and its circuit; default: the upstream's"),
        Key("match", MATCH, "what a request must look like"),
        Key("upstream", t.IDENTIFIER, "where it goes"),
        Key("rewrite", REWRITE, "changes to the request"),
        *PER_ROUTE,
        *LATER,
    ),
    optional=frozenset({"name"}),
)
ROOT = Block(
    "configuration",
    c.Config,
    "Configuration of circuit-sidecar. Top-level keys that start with x- are free, for anchors.",
    (
        Key("proxy", PROXY, "the listener that the application's clients use"),
        Key("admin", ADMIN, "the control API and the dashboard"),
        Key("telemetry", TELEMETRY, "metrics and health, read only"),
        Key("cache", STORE, "the store that all routes share"),
        Key(
            "state_dir",
            t.DIRECTORY,
            "directory where overrides, open circuits and the cache outlive a restart; made when missing",
            nullable=True,
        ),
        Key("redis", Later("fleet sharing over Redis"), "state shared with other sidecars"),
        Key("defaults", DEFAULTS, "merged under every upstream, key by key"),
        Key("upstreams", Named(UPSTREAM), "services behind the sidecar, by name"),
        Key("routes", Listed(ROUTE), "which requests go where; an upstream without one gets /<name>/, stripped"),
    ),
    optional=frozenset({"routes"}),
)
