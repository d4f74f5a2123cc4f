"""Responses made from stored answers, and the cache's own lines on every response."""

from __future__ import annotations

from bisect import bisect_left
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
from sidecar.pipeline.message import Response
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from sidecar.core.cache.stored import Draft, StoredResponse
    from sidecar.core.http.heads import RequestHead
    from sidecar.pipeline.cache.route import CachedRoute
    from sidecar.pipeline.stats import RouteStats

SHAPING = frozenset({b"if-none-match", b"if-modified-since", b"range"})
"""Request fields that may make the answer another one than the whole representation."""


class CacheAnswers:
    """Makes them for one route, and counts what the cache made of each request.

    The lines of a request that went upstream are the same for all of them but for a few words: each is made once.
    """

    __slots__ = ("_ages", "_debug", "_details", "_hit_lines", "_lines", "_name", "_passed", "_results")

    def __init__(self, route: CachedRoute, stats: RouteStats) -> None:
        self._name = route.cache_name
        self._lines: dict[Forwarded, bytes] = {}
        self._passed = {reason: forwarded_line(route.cache_name, Forwarded(reason)) for reason in Forward}
        self._hit_lines = hit_lines_format(route.cache_name)
        self._details = {"": b""}
        self._debug = route.rules.settings.debug
        self._results = stats.cache_results
        self._ages = stats.served_age

    def whole(self, stored: StoredResponse, now: float, parameters: bytes = b"") -> Response:
        """All of `stored`, without asking the upstream. `parameters` are further ones for Cache-Status."""
        age, fresh, ages = int(now - stored.born), now < stored.expires_at, self._ages
        self._results[HIT if fresh else HIT_STALE] += 1
        ages.counts[bisect_left(ages.bounds, age)] += 1
        ages.sum += age
        return Response(
            stored.head,
            stored.body,
            source=Source.CACHE if fresh else Source.STALE,
            extra=self._hit_lines % (age, floor(stored.expires_at - now), parameters),
            prepared=stored.prepared,
        )

    def hit(self, head: RequestHead, stored: StoredResponse, now: float, detail: str = "") -> Response:
        """`stored` as the answer to `head`, without asking the upstream. `detail` says why, when it is stale."""
        parameters = self._details.get(detail)
        if parameters is None:
            parameters = self._details[detail] = detail_parameter(detail)
        if self._debug:
            parameters += key_parameter(stored.key)
        response = self.whole(stored, now, parameters)
        if head.method == "GET" and SHAPING.isdisjoint(head.headers.index):
            return response
        return shaped(head, stored, response)

    def validated(self, head: RequestHead, stored: StoredResponse, now: float, member: Forwarded) -> Response:
        """`stored`, which the upstream has just confirmed or made, as the answer to `head`."""
        lines = self.validated_lines(stored, now, member)
        return shaped(head, stored, Response(stored.head, stored.body, extra=lines, prepared=stored.prepared))

    def validated_lines(self, stored: StoredResponse | Draft, now: float, member: Forwarded) -> bytes:
        """The cache's lines of an answer that is in the store now, or will be."""
        return b"Age: %d\r\n%b" % (max(0, int(now - stored.born)), self.line(member, stored.key))

    def passed(self, response: Response, reason: Forward, why: str, key: bytes | None = None) -> Response:
        """`response`, which came from upstream and is not to be stored, with the cache's line; `why` shows in debug."""
        if self._debug:
            return self.forwarded(response, Forwarded(reason, detail=why), key)
        self._results[reason] += 1
        response.extra += self._passed[reason]
        return response

    def forwarded(self, response: Response, member: Forwarded, key: bytes | None = None) -> Response:
        """`response`, which came from upstream, with the cache's line."""
        response.extra += self.line(member, key)
        return response

    def line(self, member: Forwarded, key: bytes | None) -> bytes:
        """The Cache-Status line of a forwarded request; counted."""
        self._results[COLLAPSED if member.collapsed else member.reason] += 1
        if self._debug or member.detail:
            return forwarded_line(self._name, member, key if self._debug else None)
        line = self._lines.get(member)
        if line is None:
            line = self._lines[member] = forwarded_line(self._name, member)
        return line


def shaped(head: RequestHead, stored: StoredResponse, whole: Response) -> Response:
    """`whole` as HEAD, the client's own precondition or a range asks for it (RFC 9110 §13.2.2)."""
    if not_modified(head.headers, stored):
        return Response(not_modified_head(stored), b"", source=whole.source, extra=whole.extra)
    if head.method == "HEAD":
        whole.body = b""
        return whole
    part = answer_range(head.headers, stored) if b"range" in head.headers.index else None
    return whole if part is None else Response(part.head, part.body, source=whole.source, extra=whole.extra)
