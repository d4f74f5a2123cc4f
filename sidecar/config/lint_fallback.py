"""Fallbacks that lead back to where they come from, or are never reached."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sidecar.config.problem import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from sidecar.core.config import Config, RouteConfig, UpstreamConfig


def fallback_findings(config: Config) -> Iterator[Finding]:
    """What is wrong with the fallbacks of all routes together."""
    targets: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for route in config.routes:
        targets[route.upstream.name].update(dict.fromkeys(stand_in_upstreams(route)))
    upstreams = {upstream.name: upstream for upstream in config.upstreams}
    for route in config.routes:
        yield from _loops(route, targets)
        yield from _order(route)
        yield from _same_address(route, upstreams)


def stand_in_upstreams(route: RouteConfig) -> list[str]:
    """The upstreams that the route falls back on, by name."""
    return [each.upstream for each in route.fallback or () if each.upstream is not None]


def _loops(route: RouteConfig, targets: Mapping[str, Iterable[str]]) -> Iterator[Finding]:
    start = route.upstream.name
    for first in stand_in_upstreams(route):
        way = _way(first, start, targets)
        if way is not None:
            message = f"fallbacks lead round in a circle: {' → '.join([start, *way])}"
            hint = f"take one of them away; upstream {first} may say fallback: null"
            yield Finding("route", route.name, "fallback", message, hint, Severity.ERROR)


def _way(first: str, last: str, targets: Mapping[str, Iterable[str]]) -> list[str] | None:
    """The upstreams from `first` to `last`, each a fallback of the one before; None when there is no way."""
    ways, seen = [[first]], {first}
    for way in ways:
        if way[-1] == last:
            return way
        for target in targets.get(way[-1], ()):
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return None


def _order(route: RouteConfig) -> Iterator[Finding]:
    fallbacks = route.fallback or ()
    fixed = next((each for each in fallbacks if each.upstream is None), None)
    if fixed is not None and fallbacks[-1] is not fixed:
        message = f"fallbacks behind the {fixed.kind} one are never tried: it always answers"
        yield Finding("route", route.name, "fallback", message, "put it last")


def _same_address(route: RouteConfig, upstreams: Mapping[str, UpstreamConfig]) -> Iterator[Finding]:
    for name in stand_in_upstreams(route):
        other = upstreams.get(name)
        if other is not None and name != route.upstream.name and {*other.endpoints} <= {*route.upstream.endpoints}:
            message = f"upstream {name} has no address but those of {route.upstream.name}: it fails when that fails"
            yield Finding("route", route.name, "fallback", message, f"give upstream {name} an address of its own")
