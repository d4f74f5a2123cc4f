"""The blocks `redis` and `fleet`: what they take, what they refuse, and what they warn of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sidecar.adapters.admin.effective import plain
from sidecar.adapters.config_file import load_text
from sidecar.config.change import compare, in_force
from sidecar.config.redis_url import redis_url
from sidecar.config.units import BadValue
from sidecar.core.config import CacheStoreKind
from sidecar.core.fleet_settings import (
    FleetSettings,
    FleetTrip,
    RedisKind,
    RedisSettings,
    RedisTls,
    RedisUrl,
    Scope,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.core.config import Config

ONE = "upstreams: {a: {url: http://a}}\n"


def configured(text: str) -> Config:
    loaded = load_text(ONE + text, {})
    assert loaded.config is not None, loaded.problems
    return loaded.config


def warnings(text: str) -> list[str]:
    return [problem.message for problem in load_text(ONE + text, {}).problems]


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("redis://r", RedisUrl(RedisKind.SINGLE, (("r", 6379),)), "redis://r:6379"),
        ("rediss://r:7/3", RedisUrl(RedisKind.SINGLE, (("r", 7),), db=3, tls=True), "rediss://r:7/3"),
        ("unix:/run/redis.sock", RedisUrl(RedisKind.SINGLE, unix_path="/run/redis.sock"), "unix:/run/redis.sock"),
        (
            "redis://app:p%40ss@r",
            RedisUrl(RedisKind.SINGLE, (("r", 6379),), username="app", password="p@ss"),
            "redis://app:***@r:6379",
        ),
        ("redis://:secret@r", RedisUrl(RedisKind.SINGLE, (("r", 6379),), password="secret"), "redis://:***@r:6379"),
        (
            "redis+sentinel://a,b:7/shop/2",
            RedisUrl(RedisKind.SENTINEL, (("a", 26379), ("b", 7)), master="shop", db=2),
            "redis+sentinel://a:26379,b:7/shop/2",
        ),
        (
            "rediss+cluster://a,[::1]:7",
            RedisUrl(RedisKind.CLUSTER, (("a", 6379), ("::1", 7)), tls=True),
            "rediss+cluster://a:6379,[::1]:7",
        ),
    ],
)
def test_a_url_is_read_and_shown_without_its_password(text: str, url: RedisUrl, shown: str) -> None:
    assert redis_url(text) == url
    assert str(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        "r:6379",
        "http://r",
        "redis://",
        "redis://r:0",
        "redis://r:x",
        "redis://r/one",
        "redis://r/0/1",
        "redis://r?db=1",
        "redis+sentinel://a",
        "redis+cluster://a/1",
        "unix:relative",
    ],
)
def test_what_is_no_url_of_redis_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        redis_url(text)


def test_the_defaults_are_those_of_the_contract() -> None:
    config = configured("redis: {url: redis://r}")
    assert config.redis == RedisSettings(RedisUrl(RedisKind.SINGLE, (("r", 6379),)))
    assert (config.redis.namespace, config.redis.sync_interval, config.redis.probe_lease_timeout) == (
        "sidecar",
        0.25,
        0.05,
    )
    assert (config.redis.read_timeout, config.redis.username, config.redis.password_file) == (0.02, None, None)
    assert config.redis.tls == RedisTls()
    assert config.fleet == FleetSettings(FleetTrip.QUORUM, 2, Scope.FLEET, None)
    assert configured("redis: null").redis is None
    assert config.cache.store is CacheStoreKind.MEMORY
    assert configured("redis: {url: redis://r}\ncache: {store: redis}").cache.store is CacheStoreKind.REDIS


def test_every_key_is_taken(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("x")
    text = f"""
redis: {{url: "rediss://r", namespace: "shop:eu", username: app, password_file: {secret}, sync_interval: 1s,
         probe_lease_timeout: 10ms, read_timeout: 5ms, tls: {{ca_file: {secret}}}}}
fleet: {{trip: any, quorum: 3, overrides: pod, pod_id: pod-1}}
"""
    config = configured(text)
    url = RedisUrl(RedisKind.SINGLE, (("r", 6379),), tls=True)
    tls = RedisTls(ca_file=str(secret))
    assert config.redis == RedisSettings(url, "shop:eu", "app", str(secret), tls, 1.0, 0.01, 0.005)
    assert config.fleet == FleetSettings(FleetTrip.ANY, 3, Scope.POD, "pod-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("redis: {}", "redis needs url"),
        ("redis: {url: redis://r, namespace: 'a{b'}", "namespace: 'a{b' is not a namespace"),
        ("redis: {url: redis://r, password_file: /none}", "password_file: '/none'"),
        ("redis: {url: 'redis://u:p@r', username: v}", "both the URL and username say it"),
        ("redis: {url: rediss://r, tls: {cert_file: /dev/null}}", "tls.cert_file"),
        ("redis: {url: redis://r}\nfleet: {quorum: 0}", "quorum: 0 is out of range"),
        ("cache: {store: redis}", "cache.store is redis, and there is no redis"),
        ("cache: {store: disk}", "store: 'disk' is not one of memory, redis"),
        ("redis: {url: redis://r}\nfleet: {trip: most}", "trip: 'most' is not one of quorum, any, local"),
    ],
)
def test_what_cannot_be_is_an_error(text: str, message: str) -> None:
    loaded = load_text(ONE + text, {})
    assert loaded.config is None
    found = loaded.errors[0].message
    assert message in found or found.startswith(message.split(".", maxsplit=1)[-1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fleet: {quorum: 3}", "fleet has no effect: there is no redis"),
        ("redis: {url: 'redis://:p@r'}", "the URL has a password in it: whoever may read this file knows it"),
        ("redis: {url: redis://r, tls: {verify: false}}", "tls has no effect"),
        ("redis: {url: rediss://r, tls: {verify: false}}", "the certificate of Redis is not checked"),
        ("redis: {url: redis://r, probe_lease_timeout: 1s}", "a probe may wait longer for its lease"),
    ],
)
def test_what_can_hardly_be_meant_is_a_warning(text: str, message: str) -> None:
    assert any(found.startswith(message) for found in warnings(text))
    configured(text)


def test_the_admin_api_shows_no_password() -> None:
    redis = configured("redis: {url: 'redis://app:hunter2@r'}").redis
    assert plain(redis)["url"] == "redis://app:***@r:6379"  # type: ignore[index]  # a block is an object
    assert "hunter2" not in repr(redis)


def test_a_change_of_redis_waits_for_a_restart() -> None:
    running = configured("redis: {url: redis://r}")
    wanted = replace(configured("redis: {url: redis://s}"), fleet=FleetSettings(quorum=5))
    assert in_force(running, wanted).redis == running.redis
    assert compare(running, wanted).needs_restart == ("redis.url.hosts", "fleet.quorum")
