"""What a reload changes, and what it cannot change (breaker.md 25).

Routes and upstreams are taken over while requests flow. Listeners and stores are made once, at the start: what the new
file says of them is told, and waits for a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING

from sidecar.core.config import PerRoute, RouteConfig, UpstreamConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import DataclassInstance

    from sidecar.config.load import Loaded
    from sidecar.core.config import Config


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """The difference that another configuration makes: routes by name (`changed` holds new and removed ones too), and
    in `needs_restart` each dotted setting that keeps its value until the process starts anew.
    """

    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    needs_restart: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What came of a text: what was read, and what it changes. `change` is None when it cannot be used."""

    loaded: Loaded
    change: ConfigChange | None


def in_force(running: Config, wanted: Config) -> Config:
    """What a process that runs on `running` uses once it was told `wanted`."""
    proxy = replace(running.proxy, drain_timeout=wanted.proxy.drain_timeout)
    return replace(
        wanted,
        proxy=proxy,
        admin=running.admin,
        telemetry=running.telemetry,
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
    changed = (before.keys() | now.keys()) - set(unchanged)
    return ConfigChange(
        tuple(sorted(changed)), unchanged, tuple(_differences(in_force(running, wanted), wanted, prefix=""))
    )


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
