"""What a reload changes, and what it cannot change (breaker.md 25).

Routes, upstreams and the addresses of listeners are taken over while requests flow. What else a listener does, and
the stores, are made once, at the start: what the new file says of them is told, and waits for a restart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from sidecar.config.keys import PER_ROUTE, PROCESS, ROUTE, UPSTREAM, Key
from sidecar.config.settings_view import settings
from sidecar.core.config import PerRoute, RouteConfig, UpstreamConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from _typeshed import DataclassInstance

    from sidecar.config.load import Loaded
    from sidecar.core.config import Config


T = TypeVar("T")
UPSTREAM_KEYS = tuple(key for key in UPSTREAM.keys if key not in PER_ROUTE)
"""What a route does not have from its upstream; the rest is told of each route."""
ROUTE_KEYS = tuple(key for key in ROUTE.keys if key.name != "upstream")


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """The difference that another configuration makes: routes by name (`changed` holds new and removed ones too), and
    in `needs_restart` each dotted setting that keeps its value until the process starts anew. `difference` says what
    is applied in words, a line for each setting.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    needs_restart: tuple[str, ...]
    difference: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What came of a text: what was read, and what it changes. `change` is None when it cannot be used."""

    loaded: Loaded
    change: ConfigChange | None


def in_force(running: Config, wanted: Config) -> Config:
    """What a process that runs on `running` uses once it was told `wanted`."""
    proxy = wanted.proxy
    return replace(
        wanted,
        proxy=replace(running.proxy, listen=proxy.listen, tls=proxy.tls, drain_timeout=proxy.drain_timeout),
        admin=replace(running.admin, listen=wanted.admin.listen),
        telemetry=replace(running.telemetry, listen=wanted.telemetry.listen),
        cache=running.cache,
        state_dir=running.state_dir,
        redis=running.redis,
        fleet=running.fleet,
        log=running.log,
        tracing=running.tracing,
    )


def compare(running: Config, wanted: Config) -> ConfigChange:
    """What changes when a process that runs on `running` is told `wanted`."""
    before = {route.name: settings_of(route) for route in running.routes}
    now = {route.name: settings_of(route) for route in wanted.routes}
    unchanged = tuple(name for name, settings in now.items() if before.get(name) == settings)
    changed = tuple(sorted((before.keys() | now.keys()) - set(unchanged)))
    following = in_force(running, wanted)
    waiting = tuple(_differences(following, wanted, prefix=""))
    return ConfigChange(changed, unchanged, waiting, tuple(_in_words(running, following, changed)))


def judge(running: Config, loaded: Loaded) -> Reviewed:
    """What becomes of a process that runs on `running` when it is told what was read."""
    return Reviewed(loaded, None if loaded.config is None else compare(running, loaded.config))


ROUTE_FIELDS = tuple(field.name for field in fields(RouteConfig) if field.name not in {"upstream", "refs"})
UPSTREAM_FIELDS = tuple({field.name for field in fields(UpstreamConfig)} - {field.name for field in fields(PerRoute)})


def settings_of(route: RouteConfig) -> tuple[object, ...]:
    """Everything that decides what a route does, wherever in the file it stands. Of the upstream's own timeouts that
    is the one for connecting, which its pool has."""
    upstream = route.upstream
    own = (getattr(route, name) for name in ROUTE_FIELDS)
    shared = (getattr(upstream, name) for name in UPSTREAM_FIELDS)
    return (*own, upstream.name, *shared, upstream.timeouts.connect)


def _in_words(running: Config, following: Config, changed: tuple[str, ...]) -> Iterator[str]:
    """What is applied: settings of the process, then of upstreams, then of routes."""
    yield from _settings_in_words(PROCESS, running, following, "")
    yield from _named_in_words("upstream", UPSTREAM_KEYS, _by_name(running.upstreams), _by_name(following.upstreams))
    before, now = ({one.name: one for one in config.routes if one.name in changed} for config in (running, following))
    yield from _named_in_words("route", ROUTE_KEYS, before, now)


def _by_name(upstreams: tuple[UpstreamConfig, ...]) -> dict[str, UpstreamConfig]:
    return {upstream.name: upstream for upstream in upstreams}


def _named_in_words(kind: str, keys: tuple[Key, ...], before: Mapping[str, T], now: Mapping[str, T]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        if name not in before or name not in now:
            yield f"{kind} {name}: {'added' if name in now else 'removed'}"
        else:
            yield from _settings_in_words(keys, before[name], now[name], f"{kind} {name}: ")
            if isinstance(one := before[name], RouteConfig) and isinstance(other := now[name], RouteConfig):
                yield from _other_upstream(one, other)


def _other_upstream(one: RouteConfig, other: RouteConfig) -> Iterator[str]:
    if one.upstream.name != other.upstream.name:
        yield f"route {one.name}: upstream: {one.upstream.name} → {other.upstream.name}"
    if one.match.headers != other.match.headers:
        yield f"route {one.name}: match.headers changed"  # their values may be secrets


def _settings_in_words(keys: tuple[Key, ...], one: object, other: object, prefix: str) -> Iterator[str]:
    before, now = dict(settings(keys, one)), dict(settings(keys, other))
    for name in (*before, *(now.keys() - before.keys())):
        if before.get(name) != now.get(name):
            yield f"{prefix}{name}: {_shown(before.get(name))} → {_shown(now.get(name))}"


def _shown(value: object) -> str:
    return "null" if value is None else json.dumps(value, ensure_ascii=False)


def _differences(one: DataclassInstance, other: DataclassInstance, prefix: str) -> Iterator[str]:
    """The dotted names of the fields in which two values of one class differ."""
    for field in fields(one):
        value, another = getattr(one, field.name), getattr(other, field.name)
        if value == another:
            continue
        if is_dataclass(value) and not isinstance(value, type) and type(value) is type(another):
            yield from _differences(value, another, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"
