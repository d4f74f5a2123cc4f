"""Routes that can never be reached, and rewrites and patterns that cannot be meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sidecar.config.problem import Finding, Severity
from sidecar.config.suggest import closest
from sidecar.core.http.heads import STANDARD_METHODS
from sidecar.core.routing import routed_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.core.config import Match, RouteConfig

PIECE = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:[:=!>]|<[=!]|P<\w+>))?|\)|[*+]|\{\d*,\d*\}|.", re.DOTALL)
"""An escape, a character class, a group's start or end, an unbounded or variable repeat, any other character."""


def routing_findings(routes: Iterable[RouteConfig]) -> Iterator[Finding]:
    """What is wrong with the routes, each by itself and all together."""
    routes = list(routes)
    yield from _unreachable(routes)
    yield from _without_a_path(routes)
    for route in routes:
        yield from _rewrite(route)
        yield from _methods(route)
        if route.match.regex is not None and backtracks(route.match.regex.pattern.decode()):
            message = "a repeated group that itself repeats can take exponential time on a hostile path"
            hint = "let no * or + stand inside a group that is itself repeated"
            yield Finding("route", route.name, "match.regex", message, hint)


def _unreachable(routes: list[RouteConfig]) -> Iterator[Finding]:
    first: dict[object, RouteConfig] = {}
    for route in routes:
        other = first.setdefault(_identity(route.match), route)
        if other is not route:
            yield _repeated(route, other)
    catch_all = first.get(_CATCH_ALL)
    for route in routes:
        if catch_all and route.match.regex is not None:
            message = f"regex route {route.name} can never match: prefix / of route {catch_all.name} is tried before it"
            hint = f"give {catch_all.name} a regex too (regex: /), after this route"
            yield Finding("route", route.name, "match.regex", message, hint)


def _without_a_path(routes: list[RouteConfig]) -> Iterator[Finding]:
    """Upstreams that would have /<name>/, had no route named them, and now have no path that any client can ask for."""
    naming: dict[str, list[RouteConfig]] = {}
    for route in routes:
        naming.setdefault(route.upstream.name, []).append(route)
    for name, its in naming.items():
        if any(_has_a_path(route.match, f"/{name}/") for route in its):
            continue
        named = f"route {its[0].name} names" if len(its) == 1 else f"routes {', '.join(e.name for e in its)} name"
        message = f"/{name}/ does not lead to upstream {name}: {named} it, and match by host or regex only"
        lines = f"match: {{prefix: /{name}/}}, rewrite: {{strip_prefix: /{name}}}"
        hint = f"if clients use that path, add a route: {lines}"
        yield Finding("route", its[0].name, "match", message, hint)


def _has_a_path(match: Match, implicit: str) -> bool:
    """Whether it takes requests by their path alone: its own, or the `implicit` one if its pattern fits that."""
    if match.host is not None:
        return False
    if match.regex is None:
        return True
    return not backtracks(match.regex.pattern.decode()) and match.regex.match(implicit.encode()) is not None


def _repeated(route: RouteConfig, other: RouteConfig) -> Finding:
    if route.implicit:
        message = f"upstream {route.name} is not reached under its own name: route {other.name} takes its path"
        hint = f"give upstream {route.name} a route"
        return Finding("route", route.name, "", message, hint)
    message = f"route {route.name} can never match: route {other.name} matches exactly the same requests"
    hint = f"change its match, or merge it with {other.name}"
    return Finding("route", route.name, "match", message, hint, Severity.ERROR)


def _identity(match: Match) -> object:
    prefix = None if match.prefix is None else match.prefix.removesuffix("/")
    regex = match.regex.pattern if match.regex else None
    host = None if match.host is None else routed_name(match.host.encode())
    return prefix, match.path, regex, match.methods, host, frozenset(match.headers)


def _methods(route: RouteConfig) -> Iterator[Finding]:
    """Any token is a method, but one that is a standard one in another case or order is hardly meant."""
    told = {
        "match.methods": route.match.methods or (),
        "retry.methods": () if route.retry is None else route.retry.methods,
        "fault.match.methods": () if route.fault is None else route.fault.match.methods,
    }
    for setting, names in told.items():
        for name in sorted(frozenset(names) - STANDARD_METHODS):
            meant = closest(name, STANDARD_METHODS)
            if meant is not None and sorted(meant) == sorted(name.upper()):
                message = f"{name} is not {meant}: methods are compared with their case (RFC 9110 §9.1)"
                yield Finding("route", route.name, setting, message, f"did you mean {meant}?")


_CATCH_ALL: object = ("", None, None, None, None, frozenset())


def _rewrite(route: RouteConfig) -> Iterator[Finding]:
    strip, match = route.rewrite.strip_prefix, route.match
    path = match.prefix or match.path
    if strip and path and not f"{path.removesuffix('/')}/".startswith(f"{strip}/") and not strip.startswith(path):
        message = f"strip_prefix {strip} is not part of {path}: nothing is ever stripped"
        hint = f"write strip_prefix: {path.removesuffix('/')}"
        yield Finding("route", route.name, "rewrite.strip_prefix", message, hint)
    if route.rewrite.host is not None and route.upstream.preserve_host:
        message = "rewrite.host wins over the upstream's preserve_host"
        yield Finding("route", route.name, "rewrite.host", message, "keep one of them")


def backtracks(pattern: str) -> bool:
    """Whether a group that contains a repeat is itself repeated: `(a+)+`, `(.*,)*`, `(\\d{1,9}x?)*`.

    A rule of thumb on the text: it may blame a harmless pattern, and it does not see overlapping alternatives.
    """
    repeats_inside = [False]
    closed_repeating = False
    for piece in PIECE.findall(pattern):
        is_repeat = piece in "*+" or (piece[0] == "{" and len(piece) > 1)
        if is_repeat and closed_repeating:
            return True
        closed_repeating = False
        if piece[0] == "(":
            repeats_inside.append(False)
        elif piece == ")" and len(repeats_inside) > 1:
            closed_repeating = repeats_inside.pop()
            repeats_inside[-1] |= closed_repeating
        elif is_repeat:
            repeats_inside[-1] = True
    return False
