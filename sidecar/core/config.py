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
    CONTENT_FILE,
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
    TEXT,
    VIA_NAME,
    KeyType,
    block,
    blocks_of,
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
from sidecar.core.fleet_settings import FleetSettings, RedisSettings

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
    deadline_header: str | None = key(
        "x-request-timeout-ms", FIELD_NAME, "field with the milliseconds left, in and out; the smaller wins; null: none"
    )


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


CONNECTIONS = "callers at once, at most a quarter of the descriptors; beyond, the oldest idle one is closed"
HEAD_TIMEOUT = "time to send a complete request head"


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The control listener: mutations, so loopback unless told otherwise."""

    listen: tuple[Address, ...] = key(
        (Address("127.0.0.1", 4101),), ADDRESSES, "address, or a list; keep it on loopback"
    )
    token_file: str | None = key(None, FILE, "file with a bearer token that every call must show; null: none")
    allowed_hosts: tuple[str, ...] = key((), tuple_of(HOST), "further values of Host that are answered")
    connections: int = key(512, whole(1), CONNECTIONS)
    head_timeout: float = key(10.0, duration(), HEAD_TIMEOUT)
    quitquitquit: bool = key(False, bool, "POST /quitquitquit ends the sidecar as SIGTERM does: for Jobs")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """The read-only listener that kubelet and Prometheus reach."""

    listen: tuple[Address, ...] = key(
        (Address("0.0.0.0", 4102),),  # noqa: S104 - scrapes come from outside the pod
        ADDRESSES,
        "address, or a list",
    )
    connections: int = key(512, whole(1), CONNECTIONS)
    head_timeout: float = key(10.0, duration(), HEAD_TIMEOUT)


@dataclass(frozen=True, slots=True)
class ReloadSettings:
    """When the configuration file is read anew without being told to; seconds."""

    watch: bool = key(True, bool, "look at the file now and then, and use it when it has changed")
    interval: float = key(2.0, duration(), "how often")


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


class CacheStoreKind(Enum):
    """memory: each sidecar's own. redis: the fleet's, with memory in front."""

    MEMORY = "memory"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class CacheStoreSettings:
    """The store; sizes in bytes."""

    store: CacheStoreKind = key(
        CacheStoreKind.MEMORY, CacheStoreKind, "memory: this sidecar's own; redis: the fleet's, with memory in front"
    )
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


class RetryCause(Enum):
    """connect: no connection was made. reset: it ended before the first octet of an answer. timeout: no answer came in
    time.
    """

    CONNECT = "connect"
    RESET = "reset"
    TIMEOUT = "timeout"


RetryOn: TypeAlias = frozenset[RetryCause | int]
"""Causes and statuses of answers."""
RETRY_ON: KeyType[RetryOn] = KeyType("retry causes")
RETRY_METHOD: KeyType[str] = KeyType("method or idempotent")
IDEMPOTENT = "idempotent"
"""Stands for every idempotent method (RFC 9110 §9.2.2)."""


class Measured(Enum):
    """A delay that follows what is measured: p95 of the upstream's attempts."""

    P95 = "p95"


HedgeDelay: TypeAlias = float | Measured
HEDGE_DELAY: KeyType[HedgeDelay] = KeyType("hedge delay")


@dataclass(frozen=True, slots=True)
class RetryBackoff:
    """How long to wait before a retry, in seconds: a random time below a limit that doubles (full jitter)."""

    base: float = key(0.025, duration(zero=True), "the first wait is shorter than this, the next than twice this, …")
    max: float = key(0.25, duration(zero=True), "and none is longer than this")
    max_wait: float = key(
        1.0, duration(zero=True), "an upstream's Retry-After is waited for up to this; beyond: no retry"
    )


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """How many retries and hedges all routes of an upstream together may make."""

    share: float = key(0.2, percentage(zero=True), "retries per request of the upstream's last 10 s")
    floor: int = key(3, whole(0), "and so many per second in any case")
    observe: bool = key(False, bool, "only report what would have been refused")


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """A second attempt beside a slow first one."""

    after: HedgeDelay = field(metadata=no_default(HEDGE_DELAY, "how long the first may take: a duration, or p95"))


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Which requests are sent again, and how often. `attempts` includes the first; sizes in bytes."""

    attempts: int = key(2, whole(1, 10), "with the first; 1: none")
    on: RetryOn = key(
        frozenset({RetryCause.CONNECT, RetryCause.RESET, 502, 503, 504}),
        RETRY_ON,
        "connect, reset, timeout and statuses",
    )
    methods: frozenset[str] = key(frozenset({IDEMPOTENT}), set_of(RETRY_METHOD), "idempotent, or a list")
    idempotency_key: bool = key(False, bool, "a POST with Idempotency-Key counts as idempotent")
    max_body: int = key(64 * 1024, size(), "a longer request body is not kept, and its request not sent again")
    backoff: RetryBackoff = block(RetryBackoff, "how long to wait before a retry")
    budget: BudgetSettings | None = key(
        BudgetSettings(), BudgetSettings, "how many retries there may be; null: no limit"
    )
    hedge: HedgeSettings | None = key(
        None, HedgeSettings, "a second attempt of a GET or HEAD whose first is slow; null: none"
    )


@dataclass(frozen=True, slots=True)
class Priority:
    """Which requests are of the class `low`; all others are `normal`."""

    header: str = field(metadata=no_default(FIELD_NAME, "field that says what kind of request it is"))
    low: frozenset[str] = field(
        metadata=no_default(set_of(FIELD_VALUE, may_be_empty=False), "its values that wait longest and go first")
    )


@dataclass(frozen=True, slots=True)
class Fallback:
    """What answers in the place of an upstream that cannot: another upstream, a file, or, with neither, `body`."""

    status: int = key(200, whole(200, 599), "of a fixed answer")
    headers: tuple[tuple[str, str | None], ...] = key(
        (), map_of(FIELD_NAME, FIELD_VALUE), "fields of a fixed answer; null takes Content-Type or Cache-Control away"
    )
    body: str = key("", TEXT, "content of a fixed answer")
    file: str | None = key(
        None, CONTENT_FILE, "file with the content instead, at most 1MiB; read at the start and on a reload"
    )
    upstream: str | None = key(None, IDENTIFIER, "another upstream that is asked instead, through a circuit of its own")

    @property
    def kind(self) -> str:
        """The `kind` label of its metric."""
        return "upstream" if self.upstream is not None else "static" if self.file is None else "file"

    @property
    def shown(self) -> str:
        """What X-Sidecar-Fallback says of it."""
        return self.upstream or self.kind


ALL = 1.0


@dataclass(frozen=True, slots=True)
class Abort:
    """An answer of the sidecar's own in the place of the real one."""

    status: int = key(503, whole(400, 599), "of the answer")
    share: float = key(ALL, percentage(), "of the matching requests")


@dataclass(frozen=True, slots=True)
class Delay:
    """A wait before the request goes on; seconds."""

    duration: float = field(metadata=no_default(duration(), "how long a request waits"))
    share: float = key(ALL, percentage(), "of the matching requests")


@dataclass(frozen=True, slots=True)
class Reset:
    """The client's connection ends by a TCP reset, without an answer."""

    share: float = key(ALL, percentage(), "of the matching requests")


@dataclass(frozen=True, slots=True)
class SlowBody:
    """An answer whose content trickles."""

    rate: int = field(metadata=no_default(size(1), "octets of content per second"))
    share: float = key(ALL, percentage(), "of the matching requests")


@dataclass(frozen=True, slots=True)
class FaultMatch:
    """Which requests a fault hits. Field names are in lower case."""

    methods: frozenset[str] = key(frozenset(), set_of(METHOD), "any of these; none: all")
    headers: tuple[tuple[str, str | None], ...] = key(
        (), map_of(FIELD_NAME, FIELD_VALUE), "exact values; null: present at all"
    )


@dataclass(frozen=True, slots=True)
class BulkheadSettings:
    """How many requests of a route may be under way, bodies included; without `max_concurrent` any number."""

    max_concurrent: int | None = key(None, whole(1), "requests under way; null: no limit, and none of the rest")
    max_queue: int = key(0, whole(), "requests that may wait for a slot; beyond: 503")
    queue_timeout: float = key(0.1, duration(), "how long they may wait; beyond: 503")
    adaptive: bool = key(False, bool, "the limit follows the measured latency, up to max_concurrent")
    priority: Priority | None = key(None, Priority, "requests that wait behind all others; null: all are equal")
    observe: bool = key(False, bool, "refuse nothing, report what would have been refused")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per unit of time: `count` per `seconds`."""

    count: float
    seconds: float


RATE: KeyType[Rate] = KeyType("rate")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: `rate` tokens flow in, up to `burst`, and each request takes one."""

    rate: Rate = field(metadata=no_default(RATE, "requests in the long run, such as 100/s; beyond: 429"))
    burst: int | None = key(None, whole(1), "requests at once; null: what the rate gives in a second, at least 1")
    observe: bool = key(False, bool, "refuse nothing, report what would have been refused")


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong on purpose, and for how long, in seconds. Each kind is drawn for by itself."""

    ttl: float = field(metadata=no_default(duration(), "when it ends by itself, from the start or the reload on"))
    abort: Abort | None = key(None, Abort, "answer with an error instead")
    delay: Delay | None = key(None, Delay, "let requests wait first")
    reset: Reset | None = key(None, Reset, "reset the client's connection")
    slow_body: SlowBody | None = key(None, SlowBody, "let the answer's content trickle")
    match: FaultMatch = block(FaultMatch, "which requests it hits")
    in_windows: bool = key(True, bool, "aborts count as failures of the circuit")


@dataclass(frozen=True, slots=True)
class PerRoute:
    """What a route inherits from its upstream, and may override key by key."""

    name: str
    _: KW_ONLY
    timeouts: Timeouts = block(Timeouts, "how long the upstream may take")
    breaker: BreakerSettings = block(BreakerSettings, "when the circuit opens and closes")
    cache: CacheSettings = block(CacheSettings, "what is stored, and when it stands in")
    retry: RetrySettings | None = key(RetrySettings(), RetrySettings, "what is sent again; null: nothing")
    bulkhead: BulkheadSettings | None = key(BulkheadSettings(), BulkheadSettings, "requests under way; null: no limit")
    rate_limit: RateLimit | None = key(None, RateLimit, "requests per time; null: no limit")
    fallback: tuple[Fallback, ...] | None = key(
        None, blocks_of(Fallback), "what answers when nothing else can; or a list, tried in order; null: nothing"
    )
    fault: Fault | None = key(None, Fault, "what goes wrong on purpose; null: nothing")
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
    reload: ReloadSettings = block(ReloadSettings, "when the file is read anew")
    redis: RedisSettings | None = key(
        None, RedisSettings, "the Redis over which sidecars act as one fleet; null: this one is alone"
    )
    fleet: FleetSettings = block(FleetSettings, "what the sidecars of a fleet decide together")
    log: LogSettings = block(LogSettings, "what is written on standard output")
    tracing: TracingSettings | None = key(None, TracingSettings, "spans of recorded traces; null: none")
    source: str = "<config>"
    refs: Mapping[str, str] = field(default_factory=lambda: NO_REFS)
    """The `file:line` of each dotted setting that belongs to no upstream and no route."""
