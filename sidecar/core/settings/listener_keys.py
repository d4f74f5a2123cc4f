"""Keys of what the process has once: its three listeners and its store. `config_keys.py` has the rest."""

from __future__ import annotations

from sidecar.core import config as c
from sidecar.core.settings import config_types as t
from sidecar.core.settings.config_schema import Block, Key

SERVER_TLS = Block(
    "tls",
    c.ServerTls,
    "Serve TLS.",
    (
        Key("cert_file", t.FILE, "PEM file with the certificate chain"),
        Key("key_file", t.FILE, "PEM file with its private key"),
        Key("client_ca_file", t.FILE, "PEM file; clients must show a certificate that it signs", nullable=True),
    ),
)
LIMITS = Block(
    "limits",
    c.ClientLimits,
    "What one client may ask for.",
    (
        Key("head_size", t.size(1024), "request line and fields together; beyond: 431"),
        Key("header_count", t.integer(1), "fields in a request; beyond: 431"),
        Key("target_size", t.size(16), "length of the request target; beyond: 414"),
        Key("body_size", t.size(), "length of a request body; beyond: 413; null: no limit", nullable=True),
        Key("pipeline_depth", t.integer(1), "requests read ahead on one connection"),
        Key("connections", t.integer(1), "client connections in total; beyond, the oldest idle one is closed"),
        Key("requests_per_connection", t.integer(1), "after so many a connection is closed", nullable=True),
        Key("head_timeout", t.duration(), "time to send a complete request head; beyond: 408"),
        Key("body_timeout", t.duration(), "longest silence within a body; it must also average 500 bytes/s; else 408"),
        Key("write_timeout", t.duration(), "longest time that a client may not read its answer"),
        Key("keep_alive", t.duration(zero=True), "how long an idle connection is kept; 0s: not at all"),
        Key("tunnel_idle", t.duration(), "longest silence in an upgraded connection (WebSocket)"),
        Key(
            "half_close",
            t.duration(zero=True),
            "how long a client that sent FIN may wait for more of its answer; 0s: not",
        ),
    ),
)
PROXY = Block(
    "proxy",
    c.ProxySettings,
    "The listener that the application's clients use.",
    (
        Key("listen", t.tuple_of(t.LISTEN, may_be_empty=False), "host:port, [::1]:port or unix:/path.sock; or a list"),
        Key("tls", SERVER_TLS, "serve TLS; null: plain", nullable=True),
        Key("limits", LIMITS, "what one client may ask for"),
        Key("via", t.VIA_NAME, "this sidecar's name in Via, Cache-Status and Proxy-Status"),
        Key("forwarded", t.choice(c.ForwardedMode), "request fields that tell the upstream about the client"),
        Key("access_log", t.BOOLEAN, "one JSON line per request on standard output"),
        Key("drain_timeout", t.duration(zero=True), "how long requests in flight may take after SIGTERM"),
    ),
)
ADMIN = Block(
    "admin",
    c.AdminSettings,
    "The control API and the dashboard.",
    (
        Key("listen", t.tuple_of(t.LISTEN, may_be_empty=False), "address, or a list; keep it on loopback"),
        Key("token_file", t.FILE, "file with a bearer token that every call must show; null: none", nullable=True),
        Key("allowed_hosts", t.tuple_of(t.HOST), "further values of Host that are answered"),
    ),
)
TELEMETRY = Block(
    "telemetry",
    c.TelemetrySettings,
    "Read only: /metrics /livez /readyz /startupz.",
    (Key("listen", t.tuple_of(t.LISTEN, may_be_empty=False), "address, or a list"),),
)
STORE = Block(
    "cache",
    c.CacheStoreSettings,
    "The store that all routes share.",
    (
        Key("max_size", t.size(64 * 1024), "memory for stored answers, with their heads and keys"),
        Key("max_variants", t.integer(1, 10_000), "stored answers per URL that differ by Vary"),
    ),
)
