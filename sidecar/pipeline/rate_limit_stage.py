"""The rate limit of a route: one token for each request that the cache did not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.core.rate_limit import TokenBucket
from sidecar.pipeline.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.core.config import RateLimit
    from sidecar.pipeline.message import Request, Response
    from sidecar.pipeline.ports import Clock, Handler
    from sidecar.pipeline.stage import RouteParts
    from sidecar.pipeline.stats import RouteStats


class RateLimitStage:
    """Refuses a request for which there is no token."""

    __slots__ = ("_bucket", "_inner", "_monotonic", "_observe", "_stats")

    def __init__(self, inner: Handler, limit: RateLimit, bucket: TokenBucket, stats: RouteStats, clock: Clock) -> None:
        self._inner = inner
        self._bucket = bucket
        self._observe = limit.observe
        self._stats = stats
        self._monotonic = clock.monotonic

    def handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """What the stage within answers. Raises RateLimited at once, and what that raises."""
        seconds = self._bucket.take(self._monotonic())
        if seconds > 0:
            if not self._observe:
                self._stats.rate_limited += 1
                raise RateLimited("the route has had as many requests as its rate_limit lets pass", retry_after=seconds)
            self._stats.rate_limited_observed += 1
        # Nothing is to be done afterwards, so it goes on without a frame of this stage around it.
        return self._inner.handle(request)


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The rate limit of the route around `inner`, if it has one. Its tokens outlive a reload."""
    limit, stats, clock = parts.route.rate_limit, parts.stats, parts.shared.clock
    if limit is None:
        stats.bucket = None
        return inner
    now = clock.monotonic()
    if stats.bucket is None:
        stats.bucket = TokenBucket(limit, now)
    else:
        stats.bucket.configure(limit, now)
    return RateLimitStage(inner, limit, stats.bucket, stats, clock)
