"""How long a request may take, by its client's word and by the route's: the smaller counts (`Request.deadline`).

The route's own `total` is the upstream's to keep: its connection ends the exchange with TotalTimeout, which counts
against the circuit, and stages that wait look at the deadline. The client's is kept here, as if the client left when it
has passed: what is under way within is cancelled, which counts against nobody, and the client, which has not left, is
told. Of an answer that has begun the rest is cut off.
"""

from __future__ import annotations

import asyncio
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from sidecar.pipeline.errors import DeadlineExceeded, InjectedDelay, ProxyError, TotalTimeout

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.core.config import Timeouts
    from sidecar.pipeline.message import Body, End, Request, Response
    from sidecar.pipeline.ports import Clock, Handler
    from sidecar.pipeline.stage import RouteParts
    from sidecar.pipeline.stats import RouteStats

LEAST = 2
"""Milliseconds with which an upstream can be asked: it is told less, and 0 would mean that it is too late."""
LONGEST = 12
"""Digits of a number of milliseconds; who allows more sets no deadline."""


class DeadlineStage:
    """Sets the deadline of a request, and refuses one whose time is up when it comes."""

    __slots__ = ("_field", "_inner", "_monotonic", "_stats", "_total")

    def __init__(self, inner: Handler, timeouts: Timeouts, stats: RouteStats, clock: Clock) -> None:
        self._inner = inner
        self._field = (timeouts.deadline_header or "").encode()
        self._total = inf if timeouts.total is None else timeouts.total
        self._stats = stats
        self._monotonic = clock.monotonic

    def handle(self, request: Request) -> Coroutine[Any, Any, Response]:
        """What the stage within answers. Raises DeadlineExceeded, and what that raises."""
        if self._field in request.head.headers.index:
            return self._bounded(request)
        if self._total == inf:
            # As nearly all requests do, it goes on without a frame of this stage around it.
            return self._inner.handle(request)
        request.deadline = request.started + self._total
        return self._within_total(request)

    async def _bounded(self, request: Request) -> Response:
        given = milliseconds(request.head.headers.index.get(self._field))
        seconds = self._total if given is None else given / 1000
        if given is not None and given < LEAST:
            self._stats.deadline_exceeded += 1
            raise DeadlineExceeded(f"there is no time to ask the upstream in ({self._field.decode()}: {given})")
        if seconds >= self._total:
            # Where both are the same the route's counts.
            seconds = self._total
        if seconds == inf:
            return await self._inner.handle(request)
        request.deadline = request.started + seconds
        if seconds == self._total:
            return await self._within_total(request)
        timer = asyncio.timeout(request.deadline - self._monotonic())
        try:
            async with timer:
                response = await self._within_total(request)
        except TimeoutError:
            if not timer.expired():
                raise
            self._stats.deadline_exceeded += 1
            raise self._exceeded(request) from None
        body = response.body
        if not isinstance(body, bytes):
            left = max(0.0, request.deadline - self._monotonic())
            cut = asyncio.get_running_loop().call_later(left, self._cut, request, body)
            body.on_end(lambda _: cut.cancel())
        return response

    async def _within_total(self, request: Request) -> Response:
        """The answer, and it is counted where the deadline has passed before it is whole."""
        try:
            response = await self._inner.handle(request)
        except ProxyError as error:
            self._count(request, error)
            raise
        body = response.body
        if not isinstance(body, bytes):
            body.on_end(partial(self._count, request))
        elif self._monotonic() >= request.deadline:
            self._stats.deadline_exceeded += 1
        return response

    def _cut(self, request: Request, body: Body) -> None:
        """Nobody waits for the rest of the answer."""
        request.cut = self._exceeded(request)
        body.close()

    def _count(self, request: Request, end: End) -> None:
        """A request is over. Timers may be a moment early by the clock."""
        ended_by_it = isinstance(end, DeadlineExceeded | TotalTimeout | InjectedDelay) or isinstance(
            request.cut, DeadlineExceeded
        )
        if ended_by_it or self._monotonic() >= request.deadline:
            self._stats.deadline_exceeded += 1

    def _exceeded(self, request: Request) -> DeadlineExceeded:
        seconds = request.deadline - request.started
        return DeadlineExceeded(f"not complete within the client's {seconds:.3g} s ({self._field.decode()})")


def milliseconds(value: bytes | None) -> int | None:
    """The number that a deadline's field holds: ASCII digits only. None for what is none, or longer than any wait."""
    if value is None or not value.isdigit():
        return None
    digits = value.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= LONGEST else None


def to_pass_on(deadline: float, now: float) -> int:
    """The whole milliseconds until `deadline` for the next hop: at least one, and always less than the client gave."""
    return max(1, int((deadline - now) * 1000 - 0.001))


def clients_deadline(request: Request, total: float | None) -> bool:
    """Whether the client has set the deadline, and not the route, which allows `total` seconds."""
    return request.deadline < request.started + (inf if total is None else total)


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The deadlines around `inner`, where the route has a `total` or looks at the client's."""
    timeouts = parts.route.timeouts
    if timeouts.total is None and timeouts.deadline_header is None:
        return inner
    return DeadlineStage(inner, timeouts, parts.stats, parts.shared.clock)
