"""What tells one cached resource from another, apart from Vary.

A key names the resource as the upstream knows it: its scheme and authority, and the target after the route's rewriting,
byte-exact. What a client can say about the resource that is not in the key must not reach an upstream's answer: that is
how caches are poisoned. So the request fields that frameworks reflect or route on keep a request away from the store,
unless the route puts them into the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from sidecar.core.config import QueryKey
from sidecar.core.http.forwarding import rewrite_target

if TYPE_CHECKING:
    from sidecar.core.config import CacheSettings, Rewrite, RouteConfig
    from sidecar.core.http.heads import Headers, RequestHead

REFLECTED = frozenset(
    {
        b"forwarded",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-host",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
    }
)
"""Request fields that frameworks build URLs from, route on, or change the method by."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """How one route names what it caches.

    `name` keeps its entries apart from other routes'. `base` is scheme and authority, as in a URL. `authority_varies`:
    the upstream learns which authority the client addressed, so that is part of the key instead of `base`'s.
    `prefix`: where a key is nothing but the target with this before it; None where there is more to it.
    """

    name: bytes
    base: bytes
    rewrite: Rewrite
    query: QueryKey
    key_headers: tuple[bytes, ...] = ()
    authority_varies: bool = False
    prefix: bytes | None = field(init=False)

    def __post_init__(self) -> None:
        rewrites = self.rewrite.strip_prefix or self.rewrite.add_prefix
        plain = self.query == QueryKey() and not self.key_headers and not self.authority_varies and not rewrites
        object.__setattr__(self, "prefix", self.name + b" " + self.base if plain else None)

    @property
    def credentials_keyed(self) -> frozenset[bytes]:
        """Which of the fields that say who asks are in the key."""
        return frozenset(self.key_headers) & {b"authorization", b"cookie"}

    @property
    def foreign_fields(self) -> frozenset[bytes]:
        """Lower-case request fields with which a request must bypass the store."""
        return REFLECTED - frozenset(self.key_headers)

    def url(self, head: RequestHead) -> bytes:
        """The resource's URL as the upstream knows it."""
        return self.base_for(head.authority) + rewrite_target(head.target, self.rewrite)

    def base_for(self, authority: bytes) -> bytes:
        """Scheme and authority of the upstream's URLs when clients address `authority`."""
        if not self.authority_varies:
            return self.base
        return self.base.partition(b"://")[0] + b"://" + authority.lower()

    def named(self, url: bytes) -> bytes:
        """The upstream's `url` with the part of its query that is in the key: what entries are known by."""
        return keyed_url(url, self.query)

    def key(self, head: RequestHead) -> bytes:
        """The primary key of what `head` asks for."""
        if self.prefix is not None:
            return self.prefix + head.target
        return self.key_of(self.url(head), head.headers)

    def key_of(self, url: bytes, headers: Headers) -> bytes:
        """The primary key of `url` when asked for with `headers`."""
        key = self.name + b" " + keyed_url(url, self.query)
        for name in self.key_headers:
            value = headers.index.get(name)
            # A line feed cannot be part of a URL or of a field value.
            key += b"\n-" if value is None else b"\n+" + value
        return key


def key_space(route: RouteConfig, *, client_forwarded: bool) -> KeySpace:
    """The key space of `route`. `client_forwarded`: the upstream is told in Forwarded or X-Forwarded-Host which
    authority the client addressed.
    """
    cache: CacheSettings = route.cache
    endpoint = route.upstream.endpoints[0]
    authority = route.rewrite.host or endpoint.authority
    base = f"{endpoint.scheme}://{authority}{endpoint.base_path.rstrip('/')}"
    return KeySpace(
        name=b"=" + cache.share.encode() if cache.share is not None else route.name.encode(),
        base=base.encode(),
        rewrite=route.rewrite,
        query=cache.query,
        key_headers=tuple(name.lower().encode() for name in cache.key_headers),
        authority_varies=client_forwarded or (route.upstream.preserve_host and route.rewrite.host is None),
    )


def keyed_url(url: bytes, query: QueryKey) -> bytes:
    """`url` with the part of its query that counts."""
    if query.include is None and not query.exclude and not query.sort:
        return url
    path, mark, rest = url.partition(b"?")
    if not mark:
        return url
    parts = [part for part in rest.split(b"&") if _counts(part, query)]
    if query.sort:
        # Stable: the order of repeated names may matter.
        parts.sort(key=_name)
    return path + b"?" + b"&".join(parts)


def _name(part: bytes) -> bytes:
    return part.partition(b"=")[0]


def _counts(part: bytes, query: QueryKey) -> bool:
    """Whether `part` is in the key. What an origin might read as something else always is."""
    name = _name(part)
    if b"%" in name or b"+" in name or b";" in part:
        return True
    text = name.decode("latin-1")
    if query.include is not None and text not in query.include:
        return False
    return text not in query.exclude


def same_origin_url(url: bytes, reference: bytes, authority: bytes) -> bytes | None:
    """The URL that a Location or Content-Location of an answer from `url` means, if it is of the same origin.

    `authority` is the name by which the client addressed us: an origin may well use it (RFC 9111 §4.4).
    """
    try:
        here = urlsplit(url.decode("latin-1"))
        there = urlsplit(urljoin(url.decode("latin-1"), reference.decode("latin-1")))
    except ValueError:
        return None
    if there.netloc.lower() not in (here.netloc.lower(), authority.decode("latin-1").lower()):
        return None
    path = (there.path or "/") + (f"?{there.query}" if there.query else "")
    return f"{here.scheme}://{here.netloc}{path}".encode("latin-1")
