"""What a configuration says that is allowed but certainly a mistake, and what does not fit together.

Each finding says what to write instead. Rules are plain functions from a part of the configuration to findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.lint_breaker import breaker_findings
from sidecar.config.lint_fallback import fallback_findings
from sidecar.config.lint_fleet import fleet_findings
from sidecar.config.lint_limits import limit_findings
from sidecar.config.lint_listeners import listener_findings
from sidecar.config.lint_log import log_findings
from sidecar.config.lint_routing import routing_findings
from sidecar.config.lint_tracing import tracing_findings
from sidecar.config.problem import Finding, Severity
from sidecar.config.units import show_duration, show_size, show_statuses
from sidecar.core.config import CacheMode, UpstreamTls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import CacheStoreSettings, Config, RouteConfig, UpstreamConfig

BAD_REQUEST = 400


def lint(config: Config) -> Iterator[Finding]:
    """Every finding."""
    yield from listener_findings(config)
    yield from fleet_findings(config)
    yield from log_findings(config)
    yield from tracing_findings(config)
    # Settings that stand in `defaults` have an effect when any upstream that inherits them uses TLS.
    effective = {each.tls for each in config.upstreams if any(end.scheme == "https" for end in each.endpoints)}
    for upstream in config.upstreams:
        yield from _tls_findings(upstream, used=upstream.tls in effective)
    for route in config.routes:
        yield from breaker_findings(route)
        yield from _timeout_findings(route)
        yield from limit_findings(route)
        yield from _retry_findings(route)
        yield from _cache_findings(route, config.cache)
    yield from routing_findings(config.routes)
    yield from fallback_findings(config)


def _tls_findings(upstream: UpstreamConfig, *, used: bool) -> Iterator[Finding]:
    tls = upstream.tls
    if bool(tls.cert_file) != bool(tls.key_file):
        missing = "key_file" if tls.cert_file else "cert_file"
        message = f"a client certificate needs both files: {missing} is missing"
        yield Finding("upstream", upstream.name, "tls", message, f"add {missing}", Severity.ERROR)
    if tls != UpstreamTls() and not used:
        hint = "write https:// in the URL, or remove tls"
        yield Finding("upstream", upstream.name, "tls", "tls has no effect: no endpoint is https://", hint)
    if not tls.verify:
        message = "the upstream's certificate is not checked: anyone on the path can answer"
        yield Finding("upstream", upstream.name, "tls.verify", message, "remove verify: false, and name a ca_file")


def _timeout_findings(route: RouteConfig) -> Iterator[Finding]:
    total = route.timeouts.total
    for name in ("connect", "first_byte"):
        part = getattr(route.timeouts, name)
        if total is not None and part > total:
            message = f"timeouts.{name} {show_duration(part)} is never reached: total is {show_duration(total)}"
            hint = f"write {name}: {show_duration(total)} or less"
            yield Finding("route", route.name, f"timeouts.{name}", message, hint)


def _retry_findings(route: RouteConfig) -> Iterator[Finding]:
    retry = route.retry
    if retry is None:
        return
    if retry.backoff.base > retry.backoff.max:
        base, longest = show_duration(retry.backoff.base), show_duration(retry.backoff.max)
        message = f"backoff.base {base} is never reached: max is {longest}"
        yield Finding("route", route.name, "retry.backoff.base", message, f"write base: {longest} or less")
    if healthy := frozenset(cause for cause in retry.on if isinstance(cause, int) and cause < BAD_REQUEST):
        listed = ", ".join(show_statuses(healthy))
        message = f"on contains {listed}: a healthy upstream would be asked again and again"
        yield Finding("route", route.name, "retry.on", message, "write statuses of failures, such as 502-504")
    first_byte = route.timeouts.first_byte
    if retry.hedge is not None and isinstance(retry.hedge.after, float) and retry.hedge.after >= first_byte:
        message = f"no hedge is ever sent: the first attempt ends after {show_duration(first_byte)} (first_byte)"
        hint = f"write less than {show_duration(first_byte)}, or p95"
        yield Finding("route", route.name, "retry.hedge.after", message, hint)


def _cache_findings(route: RouteConfig, store: CacheStoreSettings) -> Iterator[Finding]:
    cache = route.cache
    if cache.mode is CacheMode.OFF:
        return
    if cache.mode is CacheMode.FALLBACK and cache.stale_ttl == 0:
        message = "mode fallback with stale_ttl 0s stores answers that may never stand in"
        yield Finding("route", route.name, "cache.stale_ttl", message, "write stale_ttl: 1h, or mode: off")
    if cache.max_entry_size > store.max_size:
        message = f"entries of {show_size(cache.max_entry_size)} do not fit the store of {show_size(store.max_size)}"
        hint = f"write max_entry_size: {show_size(store.max_size // 64)} or less, or a larger cache.max_size"
        yield Finding("route", route.name, "cache.max_entry_size", message, hint)
    if cache.query.include is not None and cache.query.exclude:
        message = "query.exclude adds nothing to query.include, which keeps only what it names"
        yield Finding("route", route.name, "cache.query.exclude", message, "keep one of them")
