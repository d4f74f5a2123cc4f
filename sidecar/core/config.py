"""The configuration as frozen values: every effective setting with its default, in seconds, bytes and shares 0–1.

The loader (`adapters/config_file.py`) makes these from YAML; nothing else does. Inheritance (defaults → upstream →
route) is already resolved here: a `RouteConfig` holds what is in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.address import host_port, host_text, unix_text

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


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Certificate chain and key (PEM files) of a TLS listener; `client_ca_file` asks clients for a certificate."""

    cert_file: str
    key_file: str
    client_ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How an `https://` upstream is verified, and what it is shown. `verify: false` is for tests only."""

    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, per attempt except `total`; None is no limit."""

    connect: float = 1.0
    first_byte: float = 15.0
    idle: float = 60.0
    total: float | None = None


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a client of the proxy listener may ask for; sizes in bytes, times in seconds."""

    head_size: int = 64 * 1024
    header_count: int = 100
    target_size: int = 16 * 1024
    body_size: int | None = None
    pipeline_depth: int = 32
    connections: int = 10_000
    requests_per_connection: int | None = None
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 30.0
    keep_alive: float = 75.0
    tunnel_idle: float = 3600.0


class ForwardedMode(Enum):
    """Which request fields tell the upstream about the client."""

    OFF = "off"
    FORWARDED = "forwarded"
    X_FORWARDED = "x-forwarded"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The data plane's listener. `via` is the pseudonym in Via, Cache-Status and Proxy-Status."""

    listen: tuple[Address, ...] = (Address("127.0.0.1", 4100),)
    tls: ServerTls | None = None
    limits: ClientLimits = field(default_factory=ClientLimits)
    via: str = "sidecar"
    forwarded: ForwardedMode = ForwardedMode.OFF
    access_log: bool = True
    drain_timeout: float = 25.0


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The control listener: mutations, so loopback unless told otherwise."""

    listen: tuple[Address, ...] = (Address("127.0.0.1", 4101),)
    token_file: str | None = None
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """The read-only listener that kubelet and Prometheus reach."""

    listen: tuple[Address, ...] = (Address("0.0.0.0", 4102),)  # noqa: S104 - scrapes come from outside the pod


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A rolling window of the last `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CountWindow:
    """A rolling window of the last `requests` calls."""

    requests: int


Window: TypeAlias = TimeWindow | CountWindow


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growth of the open period: × `multiplier` per reopening, at most `max` seconds, ± `jitter` share."""

    multiplier: float = 2.0
    max: float = 300.0
    jitter: float = 0.2


class BreakerMode(Enum):
    """enforce: refuse when open. observe: only report what it would have done. off: no circuit work at all."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Thresholds of one circuit (breaker.md); times in seconds, rates 0–1, None switches a trip off.

    `ramp`: seconds after closing over which the admitted share of requests grows from none to all.
    """

    mode: BreakerMode = BreakerMode.ENFORCE
    failure_threshold: int | None = 5
    failure_rate: float | None = 0.5
    slow_rate: float | None = None
    slow_after: float = 2.0
    window: Window = TimeWindow(30.0)
    minimum_requests: int = 20
    open_duration: float = 15.0
    backoff: Backoff = field(default_factory=Backoff)
    half_open_probes: int = 1
    success_threshold: int = 2
    probe_timeout: float = 10.0
    failures: frozenset[int] = frozenset({500, 502, 503, 504})
    ignore: frozenset[int] = frozenset()
    ramp: float | None = None


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """An active probe of an upstream: GET `path` every `interval` s; healthy when the status is in `expect`."""

    path: str
    interval: float = 5.0
    timeout: float = 2.0
    expect: frozenset[int] = frozenset(range(200, 400))


class CacheMode(Enum):
    """See cache.md §1."""

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
    """How the query takes part in the cache key: only `include`, all but `exclude`, and sorted by name or as sent."""

    include: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    sort: bool = False


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """A route's cache (cache.md); times in seconds, sizes in bytes.

    `key_headers`: lower-case request field names that take part in the key. `share`: name of a key space that several
    routes may share; None keeps this route's entries its own.
    """

    mode: CacheMode = CacheMode.STANDARD
    ttl: float | None = None
    stale_ttl: float = 3600.0
    stale_policy: StalePolicy = StalePolicy.ORIGIN
    max_entry_size: int = 1024 * 1024
    honor_request_directives: bool = True
    targeted: tuple[str, ...] = ()
    background_refresh: bool = False
    store_set_cookie: bool = False
    query: QueryKey = field(default_factory=QueryKey)
    key_headers: tuple[str, ...] = ()
    share: str | None = None
    collapse: bool = True
    debug: bool = False


@dataclass(frozen=True, slots=True)
class CacheStoreSettings:
    """The embedded store: at most `max_size` bytes and `max_variants` stored answers per key."""

    max_size: int = 64 * 1024 * 1024
    max_variants: int = 32


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Connections per endpoint. A request waits at most `queue_timeout` s for a slot; times in seconds, None no
    limit.
    """

    max_connections: int = 1024
    queue_timeout: float = 1.0
    max_queue: int = 1024
    keep_alive: float = 60.0
    max_age: float | None = None
    warm: int = 0
    dns_refresh: float = 30.0
    cooldown: float = 1.0


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """A service behind the sidecar. The per-route blocks here are what its routes inherit."""

    name: str
    endpoints: tuple[Endpoint, ...]
    tls: UpstreamTls = field(default_factory=UpstreamTls)
    pool: PoolSettings = field(default_factory=PoolSettings)
    health: HealthCheck | None = None
    preserve_host: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    refs: Mapping[str, str] = field(default_factory=lambda: NO_REFS)


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must look like; exactly one of `prefix`, `path` and `regex` is set. Hosts are lower-case,
    without port unless one is meant; `headers` are lower-case names with the exact value wanted, or None for mere
    presence."""

    prefix: str | None = None
    path: str | None = None
    regex: re.Pattern[bytes] | None = None
    methods: frozenset[str] | None = None
    host: str | None = None
    headers: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Changes to the path before forwarding: `strip_prefix` goes, then `add_prefix` comes. Hosts: `host` replaces
    Host.
    """

    strip_prefix: str = ""
    add_prefix: str = ""
    host: str | None = None


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """One route with its effective settings. `refs` maps a dotted setting (`breaker.failure_rate`, or `` for the
    route itself) to the `file:line` that decides it; a setting that no file names is absent. `implicit`: made for an
    upstream that no route names."""

    name: str
    match: Match
    upstream: UpstreamConfig
    rewrite: Rewrite = field(default_factory=Rewrite)
    timeouts: Timeouts = field(default_factory=Timeouts)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    refs: Mapping[str, str] = field(default_factory=lambda: NO_REFS)
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """Everything one process was told, defaults filled in."""

    upstreams: tuple[UpstreamConfig, ...]
    routes: tuple[RouteConfig, ...]
    proxy: ProxySettings = field(default_factory=ProxySettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    cache: CacheStoreSettings = field(default_factory=CacheStoreSettings)
    state_dir: str | None = None
    source: str = "<config>"
