"""Effective settings as they would be written, each with the `file:line` that decides it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.config.keys import PER_ROUTE, Block, Key
from sidecar.config.value_types import ListType, ScalarType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.core.config import RouteConfig


@dataclass(frozen=True, slots=True)
class SettingView:
    """One effective setting: its dotted name, its value as in a file, and where it is given, None for a default."""

    name: str
    value: object
    ref: str | None


def route_settings(route: RouteConfig) -> Iterator[SettingView]:
    """The timeouts, breaker, cache and retry settings in force on `route`."""
    for name, value in settings(PER_ROUTE, route):
        yield SettingView(name, value, route.refs.get(name))


def settings(keys: Iterable[Key], owner: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The value of each of `keys` that `owner` has, and of those in its blocks, by dotted name."""
    for key in keys:
        name, value = f"{prefix}{key.name}", getattr(owner, key.name, None)
        if isinstance(key.type, Block) and value is not None:
            yield from settings(key.type.keys, value, f"{name}.")
        elif isinstance(key.type, ScalarType | ListType):
            yield name, shown(key, value)


def shown(key: Key, value: Any) -> object:
    """`value` of `key` as it would be written: a string, a number, a list or None."""
    return None if value is None or not isinstance(key.type, ScalarType | ListType) else key.type.show(value)
