"""What the URL, or the beginning of URLs, in a purge means: the upstream's, or the client's as its routes rewrite it.

A path, and a URL whose authority is no upstream's, are the client's: they take the way of a GET through the route
table, whatever its Host where none is said, and whatever its fields. A URL with an upstream's authority is the
upstream's, which is also how clients of a forward proxy name it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from sidecar.core.cache.key import key_space
from sidecar.core.config import DEFAULT_PORTS, CacheMode, ForwardedMode
from sidecar.core.http.forwarding import rewrite_target
from sidecar.core.http.heads import Headers, RequestHead
from sidecar.core.routing import RouteTable, authorities, host_names, segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.core.cache.key import KeySpace
    from sidecar.core.config import Config, RouteConfig
    from sidecar.core.routing import RouteMatch

URL = re.compile(r"(?:(?P<scheme>https?)://(?P<authority>[^/?#\s]+))?(?P<target>[/?][^#\s]*)?", re.IGNORECASE)


class Meant(Enum):
    """Whose URL it was taken for."""

    CLIENT = "client"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class PurgeTarget:
    """`url`, or URLs that begin with it, as the upstream knows them; of one `route`, or of all where that is None."""

    meant: Meant
    url: bytes
    route: str | None = None


class UnclearUrl(ValueError):
    """Not a URL of which it is known what it means."""


def purge_urls(config: Config, text: str) -> list[PurgeTarget]:
    """What the URL `text` means; empty when no route with a cache takes it. Raises UnclearUrl."""
    scheme, authority, target = _parts(text)
    found: list[PurgeTarget] = []
    if authority in _upstreams(config):
        found += _as_stored(config, scheme + b"://" + authority + target)
    if authority in _client_hosts(config) or not found:
        found += _taken(config, authority, target)
        if authority and any(space.authority_varies for _, space in _spaces(config)):
            found.append(PurgeTarget(Meant.UPSTREAM, scheme + b"://" + authority + target))
    return list(dict.fromkeys(found))


def purge_prefixes(config: Config, text: str) -> list[PurgeTarget]:
    """What the beginning of URLs `text` means; empty when no route with a cache takes such a URL. Raises UnclearUrl."""
    whole = URL.fullmatch(text)
    if not text.startswith("/") and (whole is None or not whole["target"]):
        # As far as it goes, it may begin with an upstream's authority.
        return [PurgeTarget(Meant.UPSTREAM, text.encode())]
    scheme, authority, target = _parts(text)
    found: list[PurgeTarget] = []
    if authority in _upstreams(config):
        found.append(PurgeTarget(Meant.UPSTREAM, scheme + b"://" + authority + target))
    if authority in _client_hosts(config) or not found:
        found += [
            PurgeTarget(Meant.CLIENT, _url(space, rewritten, authority), _owner(route))
            for route, space in _spaces(config)
            if not authority or route.match.host is None or route.match.host.encode() in host_names(authority)
            for rewritten in _beginnings(route, target)
        ]
    return list(dict.fromkeys(found))


def client_url(config: Config, route: RouteConfig, url: bytes) -> bytes | None:
    """What a client asks `route` for to get the upstream's `url`: a path, after the host where there is one to be
    named; None where the route's rewriting cannot be turned round.
    """
    space = _space(config, route)
    scheme, _, rest = url.partition(b"://")
    authority = rest.partition(b"/")[0] if space.authority_varies else (route.match.host or "").encode()
    base = space.base_for(rest.partition(b"/")[0])
    added = route.rewrite.add_prefix.rstrip("/").encode()
    if not url.startswith(base + added):
        return None
    target = route.rewrite.strip_prefix.rstrip("/").encode() + url[len(base + added) :]
    if rewrite_target(target, route.rewrite) != url[len(base) :]:
        return None
    return (scheme if space.authority_varies else b"http") + b"://" + authority + target if authority else target


def _parts(text: str) -> tuple[bytes, bytes, bytes]:
    """Scheme, authority and target, each b"" where it is not said; a scheme's own port is left out."""
    found = URL.fullmatch(text)
    if found is None or not text:
        raise UnclearUrl(f"{text!r} is neither a path such as /catalog/1 nor a URL without fragment")
    scheme, authority = (found["scheme"] or "").lower(), (found["authority"] or "").lower()
    target = (found["target"] or "/").encode()
    authority = authority.removesuffix(f":{DEFAULT_PORTS.get(scheme)}")
    return scheme.encode(), authority.encode(), target if target.startswith(b"/") else b"/" + target


def _spaces(config: Config) -> Iterator[tuple[RouteConfig, KeySpace]]:
    for route in config.routes:
        if route.cache.mode is not CacheMode.OFF:
            yield route, _space(config, route)


def _space(config: Config, route: RouteConfig) -> KeySpace:
    return key_space(route, client_forwarded=config.proxy.forwarded is not ForwardedMode.OFF)


def _upstreams(config: Config) -> set[bytes]:
    """The authorities by which upstreams are addressed."""
    named = {name for route in config.routes for name in authorities(route)}
    return named | {space.base.partition(b"://")[2].partition(b"/")[0] for _, space in _spaces(config)}


def _client_hosts(config: Config) -> set[bytes]:
    """The hosts that routes ask clients for."""
    return {route.match.host.encode() for route in config.routes if route.match.host is not None}


def _as_stored(config: Config, url: bytes) -> Iterator[PurgeTarget]:
    """The upstream's `url`, in the forms that routes know it by, which leave out or sort parts of its query."""
    yield PurgeTarget(Meant.UPSTREAM, url)
    for _, space in _spaces(config):
        if url.startswith(space.base):
            yield PurgeTarget(Meant.UPSTREAM, space.named(url))


def _taken(config: Config, authority: bytes, target: bytes) -> Iterator[PurgeTarget]:
    """Where GETs for `target` go: with the fields that some route asks for, and by any name where none is said."""
    table = RouteTable(config.routes)
    asked: dict[tuple[bytes, tuple[tuple[str, str | None], ...]], None] = {(authority, ()): None}
    for route in config.routes:
        host = authority or (route.match.host or "").encode()
        asked |= {(host, ()): None, (host, route.match.headers): None}
    for host, conditions in asked:
        fields = Headers([(name.encode(), (value or "any").encode()) for name, value in conditions])
        match = table.match(RequestHead("GET", target, fields, authority=host))
        if match is not None and match.route.cache.mode is not CacheMode.OFF:
            yield _of_match(config, match, target, authority)


def _of_match(config: Config, match: RouteMatch, target: bytes, authority: bytes) -> PurgeTarget:
    space = _space(config, match.route)
    url = space.named(_url(space, rewrite_target(target, match.rewrite), authority))
    return PurgeTarget(Meant.CLIENT, url, _owner(match.route))


def _url(space: KeySpace, rewritten: bytes, authority: bytes) -> bytes:
    if space.authority_varies and not authority:
        raise UnclearUrl("what is stored depends on the Host that clients send: give the whole URL")
    return space.base_for(authority) + rewritten


def _owner(route: RouteConfig) -> str | None:
    """Whose entries are meant: the route's, unless it shares them."""
    return route.name if route.cache.share is None else None


def _beginnings(route: RouteConfig, target: bytes) -> Iterator[bytes]:
    """How the upstream's targets begin for the clients' that begin with `target` and may take `route`."""
    if route.match.regex is None:
        own = segments(route.match.prefix) if route.match.prefix is not None else (route.match.path or "").encode()
        below = (own + b"/", own + b"?") if route.match.prefix is not None else (own + b"?",)
        if own.startswith(target):
            target = own
        elif not target.startswith(below):
            return
    yield rewrite_target(target, route.rewrite)
    stripped = route.rewrite.strip_prefix.encode()
    if stripped.startswith(target) and stripped != target:
        yield rewrite_target(stripped, route.rewrite)
