"""What the blocks `redis` and `fleet` say that cannot be meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.config.problem import Finding, Severity
from sidecar.config.units import show_duration
from sidecar.core.config import CacheStoreKind
from sidecar.core.fleet_settings import FleetSettings, RedisKind, RedisTls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.config import Config
from sidecar.core.fleet_settings import RedisSettings


def fleet_findings(config: Config) -> Iterator[Finding]:
    """A fleet without Redis, one password too many, a lease that is waited for longer than the fleet is looked at."""
    redis = config.redis
    if redis is None:
        if config.cache.store is CacheStoreKind.REDIS:
            message, hint = "cache.store is redis, and there is no redis", "add redis: {url: redis://host}"
            yield Finding("", "", "cache.store", message, hint, Severity.ERROR)
        if config.fleet != FleetSettings():
            yield Finding("", "", "fleet", "fleet has no effect: there is no redis", "add redis: {url: redis://host}")
        return
    yield from _secret_findings(redis)
    yield from _tls_findings(redis)
    if redis.probe_lease_timeout > redis.sync_interval:
        most = show_duration(redis.sync_interval)
        message = f"a probe may wait longer for its lease than the fleet is looked at ({most})"
        yield Finding("", "", "redis.probe_lease_timeout", message, f"write probe_lease_timeout: {most} or less")


def _secret_findings(redis: RedisSettings) -> Iterator[Finding]:
    for name, given, in_url in (
        ("username", redis.username, redis.url.username),
        ("password_file", redis.password_file, redis.url.password),
    ):
        if given and in_url:
            message = f"both the URL and {name} say it"
            yield Finding("", "", f"redis.{name}", message, "keep one of them", Severity.ERROR)
    if redis.url.password and not redis.password_file:
        message = "the URL has a password in it: whoever may read this file knows it"
        yield Finding("", "", "redis.url", message, "put it into a file, and name that as password_file")


def _tls_findings(redis: RedisSettings) -> Iterator[Finding]:
    tls = redis.tls
    if bool(tls.cert_file) != bool(tls.key_file):
        missing = "key_file" if tls.cert_file else "cert_file"
        message = f"a client certificate needs both files: {missing} is missing"
        yield Finding("", "", "redis.tls", message, f"add {missing}", Severity.ERROR)
    if tls != RedisTls() and not redis.url.tls:
        scheme = "rediss+" if redis.url.kind is not RedisKind.SINGLE else "rediss"
        yield Finding("", "", "redis.tls", "tls has no effect", f"write {scheme}… in the URL, or remove tls")
    if not tls.verify:
        message = "the certificate of Redis is not checked: anyone on the path can answer"
        yield Finding("", "", "redis.tls.verify", message, "remove verify: false, and name a ca_file")
