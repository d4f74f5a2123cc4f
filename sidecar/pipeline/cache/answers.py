"""Responses made from stored answers, and the cache's own lines on every response."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from sidecar.core.cache.conditional import not_modified, not_modified_head
from sidecar.core.cache.ranges import answer_range
from sidecar.core.cache.status import (
    COLLAPSED,
    HIT,
    HIT_STALE,
    Forward,
    Forwarded,
    detail_parameter,
    forwarded_line,
    hit_lines_format,
    key_parameter,
)
from sidecar.pipeline.exchange import Response, Source

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Draft, StoredResponse
    from sidecar.core.http import RequestHead
    from sidecar.pipeline.cache.route import CachedRoute
    from sidecar.pipeline.stats import RouteStats

SHAPING = frozenset({b"if-none-match", b"if-modified-since", b"range"})
"""Request fields that may make the answer another one than the whole representation."""


class CacheAnswers:
    """Makes them for one route, and counts them."""

    __slots__ = ("_debug", "_hit_lines", "_lines", "_name", "_passed", "_stats")

    def __init__(self, route: CachedRoute, stats: RouteStats) -> None:
        self._name = route.cache_name
        self._lines: dict[Forwarded, bytes] = {}
        self._passed = {reason: forwarded_line(route.cache_name, Forwarded(reason)) for reason in Forward}
        self._hit_lines = hit_lines_format(route.cache_name)
        self._debug = route.rules.settings.debug
        self._stats = stats

    def whole(self, stored: StoredResponse, now: float, detail: bytes = b"") -> Response:
        """All of `stored`, without asking the upstream; `detail` as `detail_parameter` makes it."""
        age = int(now - stored.born)
        lines = self._hit_lines % (age, floor(stored.expires_at - now), detail)
        fresh = now < stored.expires_at
        self._stats.count_hit(HIT if fresh else HIT_STALE, age)
        source = Source.CACHE if fresh else Source.STALE
        return Response(stored.head, stored.body, source=source, extra=lines, prepared=stored.prepared)

    def hit(self, head: RequestHead, stored: StoredResponse, now: float, detail: str = "") -> Response:
        """`stored` as the answer to `head`, without asking the upstream. `detail` says why, when it is stale."""
        parameters = detail_parameter(detail) + (key_parameter(stored.key) if self._debug else b"")
        response = self.whole(stored, now, parameters)
        return shaped(head, stored, response) if needs_shape(head) else response

    def validated(self, head: RequestHead, stored: StoredResponse, now: float, member: Forwarded) -> Response:
        """`stored`, which the upstream has just confirmed or made, as the answer to `head`."""
        lines = self.validated_lines(stored, now, member)
        response = Response(stored.head, stored.body, extra=lines, prepared=stored.prepared)
        return shaped(head, stored, response) if needs_shape(head) else response

    def validated_lines(self, stored: StoredResponse | Draft, now: float, member: Forwarded) -> bytes:
        """The cache's lines of an answer that is in the store now, or will be."""
        return b"Age: %d\r\n%b" % (max(0, int(now - stored.born)), self.line(member, stored.key))

    def forwarded(self, response: Response, member: Forwarded, key: bytes | None = None) -> Response:
        """`response`, which came from upstream, with the cache's line."""
        response.extra += self.line(member, key)
        return response

    def passed(self, response: Response, reason: Forward, why: str, key: bytes) -> Response:
        """`response`, which came from upstream and is not to be stored, with the cache's line; `why` shows in debug."""
        if self._debug:
            return self.forwarded(response, Forwarded(reason, detail=why), key)
        self._stats.count_result(reason)
        response.extra += self._passed[reason]
        return response

    def line(self, member: Forwarded, key: bytes | None) -> bytes:
        """The Cache-Status line of a forwarded request; counted."""
        self._stats.count_result(COLLAPSED if member.collapsed else member.reason)
        if self._debug or member.detail:
            return forwarded_line(self._name, member, key if self._debug else None)
        line = self._lines.get(member)
        if line is None:
            line = self._lines[member] = forwarded_line(self._name, member)
        return line


def needs_shape(head: RequestHead) -> bool:
    """Whether `head` may ask for another thing than the whole representation."""
    return head.method == "HEAD" or not SHAPING.isdisjoint(head.headers.index)


def shaped(head: RequestHead, stored: StoredResponse, whole: Response) -> Response:
    """`whole` as HEAD, the client's own precondition or a range asks for it (RFC 9110 §13.2.2)."""
    if not_modified(head.headers, stored):
        return Response(not_modified_head(stored), b"", source=whole.source, extra=whole.extra)
    if head.method == "HEAD":
        whole.body = b""
        return whole
    part = answer_range(head.headers, stored) if b"range" in head.headers.index else None
    return whole if part is None else Response(part.head, part.body, source=whole.source, extra=whole.extra)
