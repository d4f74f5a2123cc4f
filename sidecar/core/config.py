"""The configuration as frozen values: every setting with its default, the values it takes and what it means.

Values are in seconds, bytes and shares 0–1. `sidecar/config` makes these from a file; nothing else does. Inheritance
(defaults → upstream → route) is already resolved here: a `RouteConfig` holds what is in force.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.address import host_port, host_text, unix_text
from sidecar.core.config_key import (
    DIRECTORY,
    FIELD_NAME,
    FIELD_VALUE,
    FILE,
    HOST,
    IDENTIFIER,
    METHOD,
    PARAMETER,
    PATH,
    REGEX,
    SEGMENTS,
    STATUSES,
    VIA_NAME,
    KeyType,
    block,
    duration,
    key,
    map_of,
    no_default,
    number,
    percentage,
    set_of,
    size,
    tuple_of,
    whole,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

NO_REFS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Address:
    """Where a listener binds: a TCP host and port (0: any free one), or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    unix_path: str = ""

    def __str__(self) -> str:
        return unix_text(self.unix_path) if self.unix_path else host_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of an upstream. `base_path` is a URL path put before every forwarded path, usually empty."""

    scheme: str
    host: str
    port: int
    unix_path: str = ""
    base_path: str = ""

    @property
    def authority(self) -> str:
        """What goes into Host: without the port when it is the scheme's default."""
        if self.unix_path:
            return "localhost"
        usual = self.port == DEFAULT_PORTS[self.scheme]
        return host_text(self.host) if usual else host_port(self.host, self.port)

    def __str__(self) -> str:
        return unix_text(self.unix_path) if self.unix_path else f"{self.scheme}://{self.authority}{self.base_path}"


DEFAULT_PORTS = {"http": 80, "https": 443}

LISTEN: KeyType[Address] = KeyType("address to listen on")
ADDRESSES = tuple_of(LISTEN, may_be_empty=False)
ENDPOINT: KeyType[Endpoint] = KeyType("URL of an upstream")


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a listener."""

    cert_file: str = field(metadata=no_default(FILE, "PEM file with the certificate chain"))
    key_file: str = field(metadata=no_default(FILE, "PEM file with its private key"))
    client_ca_file: str | None = key(None, FILE, "PEM file; clients must show a certificate that it signs")


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How an `https://` upstream is verified, and what it is shown."""

    verify: bool = key(True, bool, "check the certificate; false is for tests only")
    ca_file: str | None = key(None, FILE, "PEM file with the authorities to trust; null: the system's")
    cert_file: str | None = key(None, FILE, "PEM file with a client certificate")
    key_file: str | None = key(None, FILE, "PEM file with its private key")
    server_name: str | None = key(None, HOST, "name to send and to verify; null: the URL's host")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, per attempt except `total`; None is no limit."""

    connect: float = key(1.0, duration(), "to a connection, TLS included; beyond: 504")
    first_byte: float = key(15.0, duration(), "from the request to a complete response head; beyond: 504")
    idle: float = key(60.0, duration(), "longest silence within a body")
    total: float | None = key(None, duration(), "for the whole exchange, body included")


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a client of the proxy listener may ask for; sizes in bytes, times in seconds."""

    head_size: int = key(64 * 1024, size(1024), "request line and fields together; beyond: 431")
    header_count: int = key(100, whole(1), "fields in a request; beyond: 431")
    target_size: int = key(16 * 1024, size(16), "length of the request target; beyond: 414")
    body_size: int | None = key(None, size(), "length of a request body; beyond: 413; null: no limit")
    pipeline_depth: int = key(32, whole(1), "requests read ahead on one connection")
    connections: int = key(10_000, whole(1), "client connections in total; beyond, the oldest idle one is closed")
    requests_per_connection: int | None = key(None, whole(1), "after so many a connection is closed")
    head_timeout: float = key(10.0, duration(), "time to send a complete request head; beyond: 408")
    body_timeout: float = key(
        30.0, duration(), "longest silence within a body; it must also average 500 bytes/s; else 408"
    )
    write_timeout: float = key(30.0, duration(), "longest time that a client may not read its answer")
    keep_alive: float = key(75.0, duration(zero=True), "how long an idle connection is kept; 0s: not at all")
    tunnel_idle: float = key(3600.0, duration(), "longest silence in an upgraded connection (WebSocket)")
    half_close: float = key(
        0.5, duration(zero=True), "how long a client that sent FIN may wait for more of its answer; 0s: not"
    )


class ForwardedMode(Enum):
    """Which request fields tell the upstream about the client."""

    OFF = "off"
    FORWARDED = "forwarded"
    X_FORWARDED = "x-forwarded"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The data plane's listener."""

    listen: tuple[Address, ...] = key(
        (Address("127.0.0.1", 4100),), ADDRESSES, "host:port, [::1]:port or unix:/path.sock; or a list"
    )
    tls: ServerTls | None = key(None, ServerTls, "serve TLS; null: plain")
    limits: ClientLimits = block(ClientLimits, "what one client may ask for")
    via: str = key("sidecar", VIA_NAME, "this sidecar's name in Via, Cache-Status and Proxy-Status")
    forwarded: ForwardedMode = key(
        ForwardedMode.OFF, ForwardedMode, "request fields that tell the upstream about the client"
    )
    access_log: bool = key(True, bool, "one JSON line per request on standard output")
    drain_timeout: float = key(25.0, duration(zero=True), "how long requests in flight may take after SIGTERM")


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The control listener: mutations, so loopback unless told otherwise."""

    listen: tuple[Address, ...] = key(
        (Address("127.0.0.1", 4101),), ADDRESSES, "address, or a list; keep it on loopback"
    )
    token_file: str | None = key(None, FILE, "file with a bearer token that every call must show; null: none")
    allowed_hosts: tuple[str, ...] = key((), tuple_of(HOST), "further values of Host that are answered")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """The read-only listener that kubelet and Prometheus reach."""

    listen: tuple[Address, ...] = key(
        (Address("0.0.0.0", 4102),),  # noqa: S104 - scrapes come from outside the pod
        ADDRESSES,
        "address, or a list",
    )


class LogFormat(Enum):
    """How a line is written."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class LogLevel(Enum):
    """How severe a line must be at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What is written on standard output, field names in lower case."""

    format: LogFormat = key(
        LogFormat.AUTO, LogFormat, "json; text: short lines for people; auto: text on a terminal, else json"
    )
    level: LogLevel = key(LogLevel.INFO, LogLevel, "less severe lines are left out; access decides about requests")
    access: bool = key(True, bool, "a line per request, unless proxy.access_log is false")
    sample: float = key(1.0, percentage(zero=True), "share of the requests with a line; what went wrong always has one")
    headers: tuple[str, ...] = key((), tuple_of(FIELD_NAME), "request and response fields that JSON lines show")
    redact: tuple[str, ...] = key(
        ("authorization", "cookie", "set-cookie"), tuple_of(FIELD_NAME), "of these the name is shown, but no value"
    )
    redact_query: frozenset[str] = key(
        frozenset(), set_of(PARAMETER), "parameters whose value no line, event or sample shows"
    )


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where spans go."""

    endpoint: Endpoint = field(
        metadata=no_default(ENDPOINT, "a collector that speaks OTLP over HTTP; without a path /v1/traces is added")
    )
    service_name: str | None = key(None, IDENTIFIER, "service.name; null: OTEL_SERVICE_NAME, or circuit-sidecar")
    timeout: float = key(5.0, duration(), "how long sending may take, repeats included")
    max_queue: int = key(2048, whole(1), "traced requests that may wait to be sent; beyond, they are dropped")


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A rolling window of the last `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CountWindow:
    """A rolling window of the last `requests` calls."""

    requests: int


Window: TypeAlias = TimeWindow | CountWindow
WINDOW: KeyType[Window] = KeyType("window")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growth of the open period: × `multiplier` per reopening, at most `max` seconds, ± `jitter` share."""

    multiplier: float = key(
        2.0,
        number(1),
        "the period grows by this when the circuit opens again too soon",
    )
    max: float = key(300.0, duration(), "and no further than this")
    jitter: float = key(
        0.2, percentage(zero=True), "random share added or taken off, so that sidecars do not probe together"
    )


class BreakerMode(Enum):
    """enforce: refuse when open. observe: only report what it would have done. off: no circuit work at all."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Thresholds of one circuit (breaker.md); times in seconds, rates 0–1, None switches a trip off."""

    mode: BreakerMode = key(
        BreakerMode.ENFORCE, BreakerMode, "enforce; observe: never refuse, report what would have been; off"
    )
    failure_threshold: int | None = key(5, whole(1), "consecutive failures that open; null: off")
    failure_rate: float | None = key(0.5, percentage(), "share of failures in the window that opens; null: off")
    slow_rate: float | None = key(None, percentage(), "share of slow requests in the window that opens; null: off")
    slow_after: float = key(2.0, duration(), "what slow means: time from the request's last octet to the head")
    window: Window = key(TimeWindow(30.0), WINDOW, "what the rates look back on: a duration, or a number of requests")
    minimum_requests: int = key(20, whole(1), "with fewer in the window a rate decides nothing")
    open_duration: float = key(15.0, duration(), "the first open period")
    backoff: Backoff = block(Backoff, "how the open period grows")
    half_open_probes: int = key(1, whole(0, 10_000), "probes in flight at once")
    success_threshold: int = key(2, whole(1), "successful probes that close")
    probe_timeout: float = key(10.0, duration(), "then a probe is judged by its head, or given up without one")
    failures: frozenset[int] = key(frozenset({500, 502, 503, 504}), STATUSES, "statuses that count as failures")
    ignore: frozenset[int] = key(frozenset(), STATUSES, "statuses that count neither way")
    ramp: float | None = key(None, duration(), "after closing, admit a growing share for this long; null: all at once")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """An active probe of an upstream, which can close a circuit without traffic; times in seconds."""

    path: str = field(metadata=no_default(PATH, "what to GET"))
    interval: float = key(5.0, duration(), "how often")
    timeout: float = key(2.0, duration(), "how long an answer may take")
    expect: frozenset[int] = key(frozenset(range(200, 400)), STATUSES, "statuses of a healthy upstream")


class CacheMode(Enum):
    """standard: as RFC 9111 says. fallback: the upstream is always asked, and the store answers only where it cannot.
    off: nothing is stored (cache.md §1)."""

    STANDARD = "standard"
    FALLBACK = "fallback"
    OFF = "off"


class StalePolicy(Enum):
    """Whose word counts for how long a stored answer may stand in, and whether prohibitions do (cache.md 17, 18)."""

    ORIGIN = "origin"
    LARGER = "larger"
    ROUTE = "route"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class QueryKey:
    """How the query takes part in the cache key: as sent, unless `sort`."""

    include: frozenset[str] | None = key(None, set_of(PARAMETER), "only these parameters; null: all")
    exclude: frozenset[str] = key(frozenset(), set_of(PARAMETER), "all but these")
    sort: bool = key(False, bool, "order does not matter")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """A route's cache (cache.md); times in seconds, sizes in bytes, field names in lower case."""

    mode: CacheMode = key(
        CacheMode.STANDARD, CacheMode, "standard: RFC 9111; fallback: only when the upstream cannot answer; off"
    )
    ttl: float | None = key(None, duration(zero=True), "freshness of a response that gives none")
    stale_ttl: float = key(
        3600.0, duration(zero=True), "how long past freshness it may stand in for a failing upstream"
    )
    stale_policy: StalePolicy = key(
        StalePolicy.ORIGIN, StalePolicy, "whose word counts: origin's stale-if-error, larger, route, always"
    )
    max_entry_size: int = key(1024 * 1024, size(1), "larger bodies pass through and are not stored")
    honor_request_directives: bool = key(True, bool, "obey Cache-Control in requests")
    targeted: tuple[str, ...] = key(
        (), tuple_of(FIELD_NAME), "fields that win over Cache-Control, such as CDN-Cache-Control"
    )
    background_refresh: bool = key(False, bool, "answer stale at once and refresh behind it")
    store_set_cookie: bool = key(False, bool, "store responses with Set-Cookie, without the cookie")
    query: QueryKey = block(QueryKey, "how the query takes part in the key")
    key_headers: tuple[str, ...] = key((), tuple_of(FIELD_NAME), "request headers that take part in the key")
    share: str | None = key(None, IDENTIFIER, "name of a key space shared with other routes; null: its own")
    collapse: bool = key(True, bool, "concurrent misses for one key make one upstream request")
    debug: bool = key(False, bool, "show the key in Cache-Status")


@dataclass(frozen=True, slots=True)
class CacheStoreSettings:
    """The embedded store; sizes in bytes."""

    max_size: int = key(64 * 1024 * 1024, size(64 * 1024), "memory for stored answers, with their heads and keys")
    max_variants: int = key(32, whole(1, 10_000), "stored answers per URL that differ by Vary")


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Connections per endpoint; times in seconds, None no limit."""

    max_connections: int = key(1024, whole(1), "open at once, per endpoint")
    queue_timeout: float = key(1.0, duration(zero=True), "how long a request waits for a slot; beyond: 503")
    max_queue: int = key(1024, whole(0), "requests that may wait")
    keep_alive: float = key(60.0, duration(zero=True), "how long an idle connection is kept")
    max_age: float | None = key(None, duration(), "a connection is replaced after this; null: never")
    warm: int = key(0, whole(0, 1000), "connections opened ahead of requests")
    dns_refresh: float = key(30.0, duration(), "how often a name is resolved again")
    cooldown: float = key(1.0, duration(zero=True), "how long an endpoint that refused is passed over")


@dataclass(frozen=True, slots=True)
class PerRoute:
    """What a route inherits from its upstream, and may override key by key."""

    name: str
    _: KW_ONLY
    timeouts: Timeouts = block(Timeouts, "how long the upstream may take")
    breaker: BreakerSettings = block(BreakerSettings, "when the circuit opens and closes")
    cache: CacheSettings = block(CacheSettings, "what is stored, and when it stands in")
    refs: Mapping[str, str] = field(default_factory=lambda: NO_REFS)
    """The `file:line` that decides each dotted setting (`breaker.failure_rate`, or `` for the whole); a setting that
    no file names is absent."""


@dataclass(frozen=True, slots=True)
class UpstreamConfig(PerRoute):
    """A service behind the sidecar. The per-route blocks here are what its routes inherit."""

    endpoints: tuple[Endpoint, ...] = field(
        metadata=no_default(tuple_of(ENDPOINT, may_be_empty=False), "its addresses, instead of url", required=False)
    )
    tls: UpstreamTls = block(UpstreamTls, "how https:// is verified")
    pool: PoolSettings = block(PoolSettings, "connections to each endpoint")
    health: HealthCheck | None = key(None, HealthCheck, "active health probe; null: none")
    preserve_host: bool = key(False, bool, "send the client's Host instead of the upstream's")


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must look like; exactly one of `prefix`, `path` and `regex` is set. Hosts and field names are in
    lower case."""

    prefix: str | None = key(None, PATH, "whole leading segments of the path; /a/ and /a are the same")
    path: str | None = key(None, PATH, "the whole path")
    regex: re.Pattern[bytes] | None = key(
        None, REGEX, "matched against the path from its start; tried after prefixes and paths"
    )
    methods: frozenset[str] | None = key(None, set_of(METHOD, may_be_empty=False), "any of these; null: all")
    host: str | None = key(None, HOST, "Host, or the host of an absolute-form target; a port only if meant")
    headers: tuple[tuple[str, str | None], ...] = key(
        (), map_of(FIELD_NAME, FIELD_VALUE), "exact values; null: present at all"
    )


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Changes to the request before it is forwarded."""

    strip_prefix: str = key("", SEGMENTS, "taken off the path")
    add_prefix: str = key("", SEGMENTS, "then put before it")
    host: str | None = key(None, HOST, "sent as Host; null: the upstream's own")


@dataclass(frozen=True, slots=True)
class RouteConfig(PerRoute):
    """One route with its effective settings. `implicit`: made for an upstream that no route names."""

    name: str = field(
        metadata=no_default(IDENTIFIER, "name of the route and its circuit; default: the upstream's", required=False)
    )
    match: Match = field(
        metadata=no_default(Match, "all that is given must hold; one of prefix, path and regex (default: prefix /)")
    )
    upstream: UpstreamConfig = field(metadata=no_default(IDENTIFIER, "where it goes"))
    rewrite: Rewrite = block(Rewrite, "changes to the request")
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """Everything one process was told, defaults filled in."""

    upstreams: tuple[UpstreamConfig, ...]
    routes: tuple[RouteConfig, ...]
    proxy: ProxySettings = block(ProxySettings, "the listener that the application's clients use")
    admin: AdminSettings = block(AdminSettings, "the control API")
    telemetry: TelemetrySettings = block(TelemetrySettings, "metrics and health, read only")
    cache: CacheStoreSettings = block(CacheStoreSettings, "the store that all routes share")
    state_dir: str | None = key(
        None, DIRECTORY, "directory where overrides, open circuits and the cache outlive a restart; made when missing"
    )
    log: LogSettings = block(LogSettings, "what is written on standard output")
    tracing: TracingSettings | None = key(None, TracingSettings, "spans of recorded traces; null: none")
    source: str = "<config>"
