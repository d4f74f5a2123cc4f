"""The route table: which route a request takes.

Paths are compared octet by octet, without the query and without any normalization. A prefix means whole leading
segments: `/a/` and `/a` both match `/a` and `/a/b`, never `/ab`. Among routes whose conditions all hold, an exact
path beats a prefix, a longer prefix a shorter one; then a host condition beats none, then more conditions beat
fewer, then the order of the file decides. Regular expressions come after all these, in order.

A look-up costs one dictionary access per segment of the path, however many routes there are.

A request that names an upstream's own authority, as a forward proxy's clients do, reaches the implicit route of that
upstream with its path untouched. An upstream that any route names has no implicit one, by path or by authority.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sidecar.core.config import DEFAULT_PORTS, Rewrite
from sidecar.core.http.heads import STANDARD_METHODS
from sidecar.core.http.methods import NEVER_FORWARDED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.core.config import Match, RouteConfig
    from sidecar.core.http.heads import Headers, RequestHead

UNTOUCHED = Rewrite()


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """A route, and the rewrite that applies: the route's own, or none when a forward-proxy request names its path."""

    route: RouteConfig
    rewrite: Rewrite


class Candidate:
    """A route's conditions beyond its path, as octets."""

    __slots__ = ("free", "headers", "host", "match", "methods", "order", "regex")

    def __init__(self, route: RouteConfig, order: int) -> None:
        conditions = route.match
        self.match = RouteMatch(route, route.rewrite)
        self.order = order
        self.regex = conditions.regex
        self.host = routed_name(conditions.host.encode()) if conditions.host else None
        self.methods = conditions.methods
        self.headers = [
            (name.encode(), None if value is None else value.encode()) for name, value in conditions.headers
        ]
        self.free = not (self.methods or self.headers)
        """Whether nothing but path and host is asked."""

    def admits(self, head: RequestHead) -> bool:
        """Whether method and headers fit."""
        if self.methods is not None and head.method not in self.methods:
            return False
        return all(holds(head.headers, name, value) for name, value in self.headers)

    def rank(self) -> tuple[int, int]:
        """Sorts the more demanding first, then by order."""
        return -len(self.headers) - bool(self.methods), self.order


def holds(headers: Headers, name: bytes, value: bytes | None) -> bool:
    """Whether the field is there, and is `value` unless that is None."""
    found = headers.index.get(name)
    return found is not None and (value is None or found == value)


class Site:
    """The candidates of one path or prefix, by host; `only` is set when there is nothing to choose."""

    __slots__ = ("anywhere", "by_host", "only")

    def __init__(self) -> None:
        self.by_host: dict[bytes, list[Candidate]] = {}
        self.anywhere: list[Candidate] = []
        self.only: RouteMatch | None = None

    def add(self, candidate: Candidate) -> None:
        """File `candidate` under its host."""
        known = self.by_host.setdefault(candidate.host, []) if candidate.host else self.anywhere
        known.append(candidate)
        known.sort(key=Candidate.rank)
        self.only = self.anywhere[0].match if not self.by_host and self.anywhere[0].free else None

    def choose(self, head: RequestHead) -> RouteMatch | None:
        """The first candidate that admits `head`."""
        if self.by_host:
            for name in host_names(head.authority):
                for candidate in self.by_host.get(name, ()):
                    if candidate.admits(head):
                        return candidate.match
        for candidate in self.anywhere:
            if candidate.admits(head):
                return candidate.match
        return None


class RouteTable:
    """All routes, indexed once; `match` is on the hot path."""

    __slots__ = (
        "_authorities", "_claims", "_exact", "_longest", "_methods", "_patterns", "_prefixes", "_sorted", "candidates",
    )  # fmt: skip

    def __init__(self, routes: Iterable[RouteConfig]) -> None:
        self.candidates = [Candidate(route, order) for order, route in enumerate(routes)]
        self._exact: dict[bytes, Site] = {}
        self._prefixes: dict[bytes, Site] = {}
        self._patterns: list[Candidate] = []
        self._authorities: dict[bytes, RouteMatch] = {}
        self._claims: dict[bytes, RouteConfig] = {}
        """By path or authority of an implicit route that there is not: the first route that names its upstream."""
        for candidate in self.candidates:
            self._add(candidate)
        self._longest = max(map(len, self._prefixes), default=0)
        named = (each.methods for each in self.candidates if each.methods is not None)
        self._methods = sorted((STANDARD_METHODS - NEVER_FORWARDED).union(*named))
        self._sorted = sorted((path_shown(each.match.route.match), each.order) for each in self.candidates)

    def _add(self, candidate: Candidate) -> None:
        route = candidate.match.route
        if route.match.path is not None:
            self._exact.setdefault(route.match.path.encode(), Site()).add(candidate)
        elif route.match.prefix is not None:
            self._prefixes.setdefault(segments(route.match.prefix), Site()).add(candidate)
        else:
            self._patterns.append(candidate)
        if route.implicit:
            for authority in authorities(route):
                self._authorities.setdefault(authority, RouteMatch(route, UNTOUCHED))
        else:
            for implicit in (f"/{route.upstream.name}".encode(), *authorities(route)):
                self._claims.setdefault(implicit, route)

    def match(self, head: RequestHead) -> RouteMatch | None:
        """The route of a request, or None."""
        target = head.target
        query = target.find(b"?")
        path = target if query < 0 else target[:query]
        site = self._exact.get(path)
        found = None if site is None else site.only or site.choose(head)
        end = len(path)
        if end > self._longest:
            end = path.rfind(b"/", 0, self._longest + 1)
        while found is None and end >= 0:
            site = self._prefixes.get(path[:end])
            if site is None or (found := site.only or site.choose(head)) is None:
                end = path.rfind(b"/", 0, end)
        if found is None and self._patterns:
            found = self._by_pattern(head, path)
        if found is None or (head.absolute_form and found.route.match.host is None):
            return self._authorities.get(routed_name(head.authority), found)
        return found

    def methods(self, head: RequestHead) -> list[str]:
        """With which methods, of the standard ones and those that routes name, a request like `head` has a route; for
        the target `*`, which means the whole sidecar, all of them.
        """
        if head.target == b"*":
            return self._methods
        return [name for name in self._methods if self.match(replace(head, method=name)) is not None]

    def _by_pattern(self, head: RequestHead, path: bytes) -> RouteMatch | None:
        names = (None, *host_names(head.authority))
        for candidate in self._patterns:
            fits = candidate.regex is not None and candidate.regex.match(path)
            if fits and candidate.host in names and candidate.admits(head):
                return candidate.match
        return None

    def taken_away(self, head: RequestHead, found: RouteMatch | None = None) -> str:
        """If `head` asks for an implicit route that is not there because another route names the upstream: that, in
        words. "" when it does not, or when the route that it has `found` leads to that upstream.
        """
        path = head.target.partition(b"?")[0]
        end = path.find(b"/", 1)
        route = self._claims.get(path if end < 0 else path[:end])
        lost = "" if route is None else f"has no /{route.upstream.name}/ of its own"
        if route is None and head.absolute_form:
            route = self._claims.get(head.authority.lower())
            lost = "is not reached by its own host"
        if route is None or (found is not None and found.route.upstream.name == route.upstream.name):
            return ""
        return f"upstream {route.upstream.name} {lost} because route {route.name} names it"

    def nearest(self, path: bytes, count: int = 3) -> list[str]:
        """Names of the routes whose path begins most like `path`, for the answer to a request that has none.

        Costs the same for a thousand routes: only neighbours in sorted order are looked at.
        """
        at = bisect_left(self._sorted, (path, 0))
        neighbours = self._sorted[max(0, at - count) : at + count]
        neighbours.sort(key=lambda each: -common(each[0], path))
        return [self.candidates[order].match.route.name for _, order in neighbours[:count]]


def segments(prefix: str) -> bytes:
    """The prefix without its final slash; the root is empty."""
    return prefix.removesuffix("/").encode()


def path_shown(match: Match) -> bytes:
    """The path, prefix or pattern of `match`, whichever it has."""
    return match.regex.pattern if match.regex else (match.path or match.prefix or "/").encode()


def routed_name(authority: bytes) -> bytes:
    """`authority` as routes compare it: lower-case, and without the dot that ends an absolute name (RFC 3986 §3.2.2),
    since `name.` and `name` are one host.
    """
    name = authority.lower()
    if name.endswith(b"."):
        return name[:-1]
    dot = name.find(b".:")
    return name if dot < 0 else name[:dot] + name[dot + 1 :]


def host_names(authority: bytes) -> tuple[bytes, ...]:
    """What a host condition may say to match `authority`: it whole, and without its port."""
    authority = routed_name(authority)
    colon = authority.rfind(b":")
    if colon < 0 or authority.endswith(b"]"):
        return (authority,)
    return authority, authority[:colon]


def authorities(route: RouteConfig) -> Iterable[bytes]:
    """How clients of a forward proxy name the upstream of `route`: with and without a default port."""
    for endpoint in route.upstream.endpoints:
        if not endpoint.unix_path:
            name = routed_name(endpoint.authority.encode())
            yield name
            if endpoint.port == DEFAULT_PORTS[endpoint.scheme]:
                yield b"%b:%d" % (name, endpoint.port)


def common(one: bytes, other: bytes) -> int:
    """How many octets both begin with."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
