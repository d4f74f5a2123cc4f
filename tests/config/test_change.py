from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.config.change import compare, in_force
from sidecar.core.config import (
    Address,
    AdminSettings,
    BreakerSettings,
    CacheStoreSettings,
    ClientLimits,
    Config,
    Endpoint,
    HealthCheck,
    LogLevel,
    LogSettings,
    Match,
    PoolSettings,
    ProxySettings,
    ReloadSettings,
    RouteConfig,
    ServerTls,
    TelemetrySettings,
    Timeouts,
    TracingSettings,
    UpstreamConfig,
)

SHOP = UpstreamConfig("shop", (Endpoint("http", "shop.svc", 80),))
CATALOG = RouteConfig("catalog", Match(prefix="/catalog/"), SHOP)
ORDERS = RouteConfig("orders", Match(prefix="/orders/"), SHOP)
RUNNING = Config((SHOP,), (CATALOG, ORDERS))
ELSEWHERE = (Address("127.0.0.1", 9999),)

CHANGES = {
    "threshold": replace(CATALOG, breaker=BreakerSettings(failure_threshold=9)),
    "match": replace(CATALOG, match=Match(prefix="/c/")),
    "timeouts": replace(CATALOG, timeouts=Timeouts(total=1.0)),
    "endpoint": replace(CATALOG, upstream=replace(SHOP, endpoints=(Endpoint("http", "shop.svc", 81),))),
    "pool": replace(CATALOG, upstream=replace(SHOP, pool=PoolSettings(warm=1))),
    "health": replace(CATALOG, upstream=replace(SHOP, health=HealthCheck("/"))),
    "upstream": replace(CATALOG, upstream=replace(SHOP, name="store")),
}


@pytest.mark.parametrize("catalog", CHANGES.values(), ids=CHANGES.keys())
def test_a_route_whose_settings_differ_is_changed(catalog: RouteConfig) -> None:
    change = compare(RUNNING, replace(RUNNING, routes=(catalog, ORDERS)))
    assert (change.changed, change.unchanged, change.needs_restart) == (("catalog",), ("orders",), ())


def test_new_and_removed_routes_are_changed() -> None:
    change = compare(RUNNING, replace(RUNNING, routes=(ORDERS, replace(CATALOG, name="new"))))
    assert (change.changed, change.unchanged) == (("catalog", "new"), ("orders",))


def test_a_route_that_only_moved_in_the_file_is_unchanged() -> None:
    moved = replace(CATALOG, refs={"": "sidecar.yaml:70"}, upstream=replace(SHOP, refs={"": "sidecar.yaml:60"}))
    change = compare(RUNNING, replace(RUNNING, routes=(moved, ORDERS)))
    assert (change.changed, change.unchanged) == ((), ("catalog", "orders"))


def test_what_the_upstream_gives_and_the_route_overrides_makes_no_difference() -> None:
    upstream = replace(SHOP, breaker=BreakerSettings(failure_threshold=9))
    assert compare(RUNNING, replace(RUNNING, routes=(replace(CATALOG, upstream=upstream), ORDERS))).changed == ()


RESTARTS = {
    "proxy.via": replace(RUNNING, proxy=ProxySettings(via="other")),
    "proxy.access_log": replace(RUNNING, proxy=ProxySettings(access_log=False)),
    "proxy.limits.keep_alive": replace(RUNNING, proxy=ProxySettings(limits=ClientLimits(keep_alive=1.0))),
    "admin.token_file": replace(RUNNING, admin=AdminSettings(token_file="token")),
    "telemetry.connections": replace(RUNNING, telemetry=TelemetrySettings(connections=7)),
    "cache.max_size": replace(RUNNING, cache=CacheStoreSettings(max_size=65536)),
    "state_dir": replace(RUNNING, state_dir="state"),
    "log.level": replace(RUNNING, log=LogSettings(level=LogLevel.DEBUG)),
    "log.redact_query": replace(RUNNING, log=LogSettings(redact_query=frozenset({"token"}))),
    "tracing": replace(RUNNING, tracing=TracingSettings(Endpoint("http", "collector", 4318))),
}


@pytest.mark.parametrize(("setting", "wanted"), RESTARTS.items(), ids=RESTARTS.keys())
def test_what_is_made_once_waits_for_a_restart(setting: str, wanted: Config) -> None:
    assert compare(RUNNING, wanted).needs_restart == (setting,)
    assert in_force(RUNNING, wanted) == RUNNING


def test_several_settings_that_wait_are_all_named() -> None:
    limits = ClientLimits(keep_alive=1.0, head_size=1024)
    wanted = replace(RUNNING, proxy=ProxySettings(limits=limits, via="other"), state_dir="state")
    assert set(compare(RUNNING, wanted).needs_restart) == {
        "proxy.limits.keep_alive",
        "proxy.limits.head_size",
        "proxy.via",
        "state_dir",
    }


def test_the_time_to_drain_changes_at_once() -> None:
    wanted = replace(RUNNING, proxy=ProxySettings(drain_timeout=3.0))
    assert compare(RUNNING, wanted).needs_restart == ()
    assert in_force(RUNNING, wanted).proxy.drain_timeout == 3.0


def test_routes_and_upstreams_change_at_once() -> None:
    wanted = replace(RUNNING, routes=(ORDERS,), state_dir="state")
    assert in_force(RUNNING, wanted) == replace(RUNNING, routes=(ORDERS,))


def test_what_waits_is_named_at_every_reload_until_the_restart() -> None:
    wanted = replace(RUNNING, state_dir="state")
    assert compare(in_force(RUNNING, wanted), wanted).needs_restart == ("state_dir",)


LISTENERS = {
    "proxy.listen": replace(RUNNING, proxy=ProxySettings(listen=ELSEWHERE)),
    "proxy.tls": replace(RUNNING, proxy=ProxySettings(tls=ServerTls("a", "b"))),
    "admin.listen": replace(RUNNING, admin=AdminSettings(listen=ELSEWHERE)),
    "telemetry.listen": replace(RUNNING, telemetry=TelemetrySettings(listen=ELSEWHERE)),
    "reload.interval": replace(RUNNING, reload=ReloadSettings(interval=5.0)),
}


@pytest.mark.parametrize(("setting", "wanted"), LISTENERS.items(), ids=LISTENERS.keys())
def test_where_it_listens_changes_at_once_and_is_told(setting: str, wanted: Config) -> None:
    change = compare(RUNNING, wanted)
    assert change.needs_restart == ()
    assert in_force(RUNNING, wanted) == wanted
    assert change.difference
    assert all(line.startswith(setting) for line in change.difference)


def test_the_difference_names_each_setting_with_its_values() -> None:
    slower = replace(SHOP, timeouts=Timeouts(connect=2.0))
    catalog = replace(CATALOG, breaker=BreakerSettings(failure_threshold=None), upstream=slower)
    wanted = replace(RUNNING, routes=(catalog,), upstreams=(slower,), proxy=ProxySettings(drain_timeout=3.0))
    assert compare(RUNNING, wanted).difference == (
        'proxy.drain_timeout: "25s" → "3s"',
        "route catalog: breaker.failure_threshold: 5 → null",
        "route orders: removed",
    )


def test_what_waits_for_a_restart_is_no_difference() -> None:
    assert compare(RUNNING, replace(RUNNING, state_dir="state")).difference == ()


def test_values_that_may_be_secret_are_not_told() -> None:
    match = replace(CATALOG.match, headers=(("x-token", "hunter2"),))
    wanted = replace(RUNNING, routes=(replace(CATALOG, match=match), ORDERS))
    assert compare(RUNNING, wanted).difference == ("route catalog: match.headers changed",)
