"""The bulkhead of a route: how many of its requests may be under way at a time, and who waits for a slot.

A slot is taken before the stage within is asked and given back when there is no answer, or when the body of the answer
has ended; all attempts at an upstream happen in one slot. `core/bulkhead.py` decides who has one, here is waited.

With `observe` everybody goes on at once, while the bulkhead keeps the books as if it refused: who would have waited has
a place in its queue until it is admitted there or its time is over.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.bulkhead import LOW, NORMAL, Bulkhead, Waiting
from sidecar.pipeline.errors import BulkheadFull, DeadlineExceeded, UpstreamTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.adaptive_limit import AdaptiveLimit
    from sidecar.core.config import BulkheadSettings
    from sidecar.pipeline.message import End, Request, Response
    from sidecar.pipeline.ports import Clock, Handler
    from sidecar.pipeline.stage import RouteParts
    from sidecar.pipeline.stats import RouteStats

GiveBack: TypeAlias = "Callable[[End | None], None]"
"""Ends what a request has of the bulkhead. Called once."""


class BulkheadStage:
    """Lets a request pass when it has a slot; refuses one that gets none in time."""

    __slots__ = (
        "_bulkhead",
        "_failures",
        "_inner",
        "_low",
        "_monotonic",
        "_observe",
        "_priority",
        "_settings",
        "_stats",
        "_timer",
    )

    def __init__(self, inner: Handler, bulkhead: Bulkhead, settings: BulkheadSettings, parts: RouteParts) -> None:
        self._inner = inner
        self._bulkhead = bulkhead
        self._settings = settings
        self._timer: asyncio.TimerHandle | None = None
        """Set while the limit adapts."""
        self._observe = settings.observe
        self._stats: RouteStats = parts.stats
        clock: Clock = parts.shared.clock
        self._monotonic = clock.monotonic
        self._failures = parts.route.breaker.failures
        priority = settings.priority
        self._priority = b"" if priority is None else priority.header.encode()
        self._low = frozenset() if priority is None else frozenset(value.encode() for value in priority.low)

    async def handle(self, request: Request) -> Response:
        """What the stage within answers. Raises BulkheadFull and DeadlineExceeded, and what that raises."""
        bulkhead = self._bulkhead
        adaptive = bulkhead.adaptive
        if adaptive is not None and self._timer is None:
            self._adapt(adaptive)
        on_paper: GiveBack | None = None
        if not bulkhead.take():
            if self._observe:
                on_paper = self._enter_on_paper(request)
            else:
                await self._wait(request)
        began = self._monotonic()
        if adaptive is not None:
            adaptive.begun(request)
        try:
            response = await self._inner.handle(request)
        except BaseException as error:
            (on_paper or self._free)(None)
            self._learn_of(error, request, adaptive)
            raise
        now, body = self._monotonic(), response.body
        if adaptive is not None:
            # From when the request was sent to the answer's head.
            if response.head.status in self._failures:
                adaptive.failed(request)
            else:
                adaptive.answered(request, began, now)
        if not isinstance(body, bytes):
            body.on_end(on_paper or self._free)
        elif on_paper is None:
            bulkhead.free(now)
        else:
            on_paper(None)
        return response

    def _free(self, _end: End | None) -> None:
        self._bulkhead.free(self._monotonic())

    # Waiting

    async def _wait(self, request: Request) -> None:
        """Return with a slot. Raises BulkheadFull, or DeadlineExceeded where the request's own time is over before."""
        now, priority = self._monotonic(), self._class_of(request)
        until = min(now + self._settings.queue_timeout, request.deadline)
        decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = Waiting(priority, until, partial(_tell, decided))
        if not self._bulkhead.wait(waiting, now):
            raise self._refusal(priority, f"{self._bulkhead.in_use} requests are under way, and no more may wait")
        timer = asyncio.timeout(until - now)
        try:
            async with timer:
                admitted = await decided
        except TimeoutError:
            # It may have been admitted in the same turn of the loop.
            admitted = waiting.admitted
        except BaseException:
            if waiting.admitted:
                self._free(None)
            raise
        finally:
            self._bulkhead.give_up(waiting)
        if admitted:
            return
        if not timer.expired() and self._monotonic() < until:
            raise self._refusal(priority, "another request took its place in the queue")
        if until == request.deadline:
            raise DeadlineExceeded("the deadline passed while the request waited for a slot of the bulkhead")
        raise self._refusal(priority, "no slot came free in time (bulkhead.queue_timeout)")

    def _refusal(self, priority: str, why: str) -> BulkheadFull:
        self._stats.bulkhead_rejected[priority] += 1
        return BulkheadFull(f"the bulkhead is full: {why}")

    def _class_of(self, request: Request) -> str:
        """`low` or `normal`, by the configuration; never the client's own word."""
        return LOW if request.head.headers.index.get(self._priority) in self._low else NORMAL

    # Observing

    def _enter_on_paper(self, request: Request) -> GiveBack:
        """What a request that goes on without a slot has to end later."""
        now, priority = self._monotonic(), self._class_of(request)
        refused = partial(self._would_refuse, priority)
        waiting = Waiting(priority, now + self._settings.queue_timeout, refused)
        if not self._bulkhead.wait(waiting, now):
            self._stats.bulkhead_observed[priority] += 1
            return _keep_nothing
        return partial(self._leave_paper, waiting)

    def _would_refuse(self, priority: str, admitted: bool) -> None:  # noqa: FBT001 - as a Waiting is told
        if not admitted:
            self._stats.bulkhead_observed[priority] += 1

    def _leave_paper(self, waiting: Waiting, _end: End | None) -> None:
        now = self._monotonic()
        if waiting.admitted:
            self._bulkhead.free(now)
        else:
            self._bulkhead.drop_late(now)
            self._bulkhead.give_up(waiting)

    # Adapting

    def _adapt(self, adaptive: AdaptiveLimit) -> None:
        """Judge now, and again and again while something is under way: it may be that nothing comes or ends."""
        now = self._monotonic()
        if adaptive.judge(now):
            self._bulkhead.resize(adaptive.limit, now)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(adaptive.INTERVAL, self._adapt_on, adaptive)

    def _adapt_on(self, adaptive: AdaptiveLimit) -> None:
        self._timer = None
        if adaptive.busy and self._bulkhead.adaptive is adaptive:
            self._adapt(adaptive)

    def _learn_of(self, error: BaseException, request: Request, adaptive: AdaptiveLimit | None) -> None:
        if adaptive is None:
            return
        if isinstance(error, UpstreamTimeout | DeadlineExceeded | asyncio.CancelledError):
            adaptive.unanswered(request, self._monotonic())
        else:
            adaptive.failed(request)


def _tell(decided: asyncio.Future[bool], admitted: bool) -> None:  # noqa: FBT001 - as a Waiting is told
    if not decided.done():
        decided.set_result(admitted)


def _keep_nothing(_end: End | None) -> None:
    """It had no place."""


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The bulkhead of the route around `inner`, if it has one. Slots that are in use stay so over a reload."""
    settings, stats = parts.route.bulkhead, parts.stats
    most = None if settings is None else settings.max_concurrent
    now = parts.shared.clock.monotonic()
    if settings is None or most is None:
        if stats.bulkhead is not None:
            # Whoever waits in one that is taken away goes on, and nothing sets its limit any more.
            stats.bulkhead.adaptive = None
            stats.bulkhead.resize(sys.maxsize, now)
        stats.bulkhead = None
        return inner
    if stats.bulkhead is None:
        stats.bulkhead = Bulkhead(settings, most, now)
    else:
        stats.bulkhead.configure(settings, most, now)
    return BulkheadStage(inner, stats.bulkhead, settings, parts)
