"""The stage that sends a failed request again, or a slow one twice, so that the client sees one answer.

It stands around the circuit: each attempt asks for a permit and is an outcome of its own. When the circuit opens
between two attempts, the next one meets its refusal, and that is the answer.

Never sent again: what was the circuit's probe (breaker.md 13) or was refused; an upgrade; what another sidecar repeats
already; a request that may not be sent twice, unless nothing of it was sent; one whose body is not there any more; and
whatever has an answer that the client may have seen part of, for this stage is through with a request at its head.

Why it is cheap: a request that succeeds at the first attempt meets two comparisons and a counter. What a retry needs is
made when there is one, but for a body that is still arriving, which has to be kept from its first octet on.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sidecar.core.circuit.open import parse_retry_after
from sidecar.core.config import Measured, RetryCause
from sidecar.core.retry import ATTEMPT_KEY, HEDGED_METHODS, RetryRules, is_repeated
from sidecar.pipeline.errors import (
    CircuitOpen,
    StaleConnection,
    TotalTimeout,
    Unanswered,
    UpstreamError,
    UpstreamTimeout,
    forget_frames,
)
from sidecar.pipeline.hedging import Race, discard
from sidecar.pipeline.kept_body import KeptBody
from sidecar.pipeline.message import FIRST_ATTEMPT, ONLY_ATTEMPT, Body, Repeat, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.core.config import RetrySettings
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.ports import Clock, Handler, Spawn
    from sidecar.pipeline.stage import Parts, RouteParts
    from sidecar.pipeline.stats import UpstreamStats

Failure: TypeAlias = Response | UpstreamError
"""What may be worth another attempt: an answer with one of the configured statuses, or none."""


@dataclass(frozen=True, slots=True)
class RetryParts:
    """What the stage goes by. `total` is `timeouts.total`: neither a wait nor an attempt begins after it."""

    settings: RetrySettings
    total: float | None
    upstream: UpstreamStats
    clock: Clock
    spawn: Spawn
    random: Callable[[], float] = random.random


class RetryStage:
    """A `Handler` that makes up to `attempts` of `inner`."""

    __slots__ = (
        "_budget", "_clock", "_first", "_inner", "_monotonic", "_parts", "_race", "_rules", "_settings", "_stats",
        "_statuses",
    )  # fmt: skip

    def __init__(self, inner: Handler, parts: RetryParts) -> None:
        self._inner = inner
        self._parts = parts
        self._settings = parts.settings
        self._rules = RetryRules(parts.settings)
        self._statuses = self._rules.statuses
        self._stats = parts.upstream
        self._budget = parts.upstream.retry_budget
        self._clock = parts.clock
        self._monotonic = parts.clock.monotonic
        several = parts.settings.attempts > 1 and RetryCause.RESET in self._rules.causes
        self._first = FIRST_ATTEMPT if several else ONLY_ATTEMPT
        self._race: Race | None = None
        if parts.settings.hedge is not None:
            self._race = Race(inner, parts.upstream, parts.spawn, self._monotonic, self._is_good)

    async def handle(self, request: Request) -> Response:
        """The answer to the last attempt. Raises what the inner handler raises then."""
        budget = self._budget
        if request.started >= budget.turns_at:
            budget.turn(request.started)
        budget.requests += 1
        head, rules = request.head, self._rules
        may_follow = head.method in rules.methods or (rules.keyed and rules.repeats(head))
        if not may_follow or request.upgrade or ATTEMPT_KEY in head.headers.index:
            request.repeat = ONLY_ATTEMPT
        else:
            request.repeat = self._first
        if not isinstance(request.body, bytes):
            return await self._keeping(request, request.body)
        if len(request.body) > self._settings.max_body:
            request.repeat = ONLY_ATTEMPT
        if self._race is not None and (delay := self._hedge_delay(request)) is not None:
            return await self._racing(request, self._race, delay)
        try:
            response = await self._inner.handle(request)
        except UpstreamError as error:
            return await self._again(request, error)
        if response.head.status in self._statuses:
            return await self._again(request, response)
        return response

    async def _keeping(self, request: Request, body: Body) -> Response:
        """The answer to a request whose body is still arriving."""
        if (body.length or 0) > self._settings.max_body:
            request.repeat = ONLY_ATTEMPT
        kept = KeptBody(body, self._settings.max_body if self._rules.repeats(request.head) else 0)
        request.body = kept.from_start()
        try:
            try:
                response = await self._inner.handle(request)
            except UpstreamError as error:
                return await self._again(request, error, kept)
            if response.head.status in self._statuses:
                return await self._again(request, response, kept)
            return response
        finally:
            kept.settle()

    async def _racing(self, request: Request, race: Race, delay: float) -> Response:
        answer = await race.run(request, delay, self._may_hedge)
        if isinstance(answer, UpstreamError) or (isinstance(answer, Response) and not self._is_good(answer)):
            return await self._again(request, answer)
        if isinstance(answer, Response):
            return answer
        try:
            raise answer
        finally:
            # Its traceback holds this frame.
            del answer

    async def _again(self, request: Request, failed: Failure, kept: KeptBody | None = None) -> Response:
        """The answer after `failed`, which is it where there is no retry."""
        try:
            while (wait := self._wait(request, failed, kept)) is not None:
                _prepare(request, failed, kept, self._settings.attempts)
                await asyncio.sleep(wait)
                failed = await self._retry(request)
                if isinstance(failed, Response) and self._is_good(failed):
                    break
            if isinstance(failed, Response):
                return failed
            raise failed
        finally:
            # Where it is raised, its traceback holds this frame.
            del failed

    async def _retry(self, request: Request) -> Failure:
        """What one more attempt brings, a good answer or not. Raises what is no upstream's failure."""
        result = "failure"
        try:
            response = await self._inner.handle(request)
            if self._is_good(response):
                result = "success"
        except UpstreamError as error:
            forget_frames(error)
            return error
        except CircuitOpen:
            # Nothing was sent.
            result = ""
            raise
        else:
            return response
        finally:
            if result:
                self._stats.retries[result] += 1

    # Deciding

    def _is_good(self, response: Response) -> bool:
        return response.head.status not in self._statuses

    def _wait(self, request: Request, failed: Failure, kept: KeptBody | None) -> float | None:
        """Seconds until the next attempt, which is paid for; None when there is none."""
        number = request.repeat.number
        if number >= self._settings.attempts or not self._may_repeat(request, failed):
            return None
        retries, now = self._stats.retries, self._monotonic()
        if not self._is_body_whole(request, failed, kept):
            retries["body_too_large"] += 1
            return None
        wait = self._rules.wait(number, self._asked_to_wait(failed), self._parts.random())
        if wait is None or now + wait >= self._deadline(request):
            retries["too_late"] += 1
            return None
        if not self._spend(now):
            retries["budget"] += 1
            return None
        return wait

    def _may_repeat(self, request: Request, failed: Failure) -> bool:
        if request.is_probe or request.upgrade or is_repeated(request.head):
            return False
        if isinstance(failed, Response):
            return self._rules.repeats(request.head)
        if failed.unsent:
            return RetryCause.CONNECT in self._rules.causes
        cause = _cause(failed)
        return cause in self._rules.causes and self._rules.repeats(request.head)

    def _is_body_whole(self, request: Request, failed: Failure, kept: KeptBody | None) -> bool:
        if kept is not None:
            return kept.replayable
        unsent = isinstance(failed, UpstreamError) and failed.unsent
        return unsent or not isinstance(request.body, bytes) or len(request.body) <= self._settings.max_body

    def _asked_to_wait(self, failed: Failure) -> float | None:
        value = failed.head.headers.get(b"retry-after") if isinstance(failed, Response) else None
        return None if value is None else parse_retry_after(value, self._clock.wall())

    def _deadline(self, request: Request) -> float:
        total = self._parts.total
        return request.deadline if total is None else min(request.deadline, request.started + total)

    def _spend(self, now: float) -> bool:
        """Whether the budget has a retry left, which is taken; or only observes."""
        settings, stats = self._settings.budget, self._stats
        if settings is None or self._budget.spend(settings, now):
            return True
        stats.budget_observed += settings.observe
        stats.budget_exhausted += not settings.observe
        return settings.observe

    # Hedging

    def _hedge_delay(self, request: Request) -> float | None:
        """Seconds after which a second attempt may be made; None where there is none."""
        hedge, head, pins = self._settings.hedge, request.head, request.pins
        if hedge is None or head.method not in HEDGED_METHODS or request.body or request.upgrade or is_repeated(head):
            return None
        if pins is not None and pins.connections:
            return None
        delay, now = hedge.after, self._monotonic()
        if isinstance(delay, Measured):
            durations = self._stats.attempt_durations
            measured = self._stats.recent_durations.p95(durations.bounds, durations.counts, now)
            if measured is None:
                return None
            delay = measured
        return delay if now + delay < self._deadline(request) else None

    def _may_hedge(self, request: Request) -> bool:
        return not request.is_probe and self._spend(self._monotonic())


def _cause(error: UpstreamError) -> RetryCause | None:
    """Which of the configured causes an attempt failed for that was made."""
    if isinstance(error, Unanswered):
        return RetryCause.RESET
    timeout = isinstance(error, UpstreamTimeout) and not isinstance(error, TotalTimeout)
    return RetryCause.TIMEOUT if timeout else None


def _prepare(request: Request, failed: Failure, kept: KeptBody | None, attempts: int) -> None:
    """Let go of what an attempt left, and make the request ready for the next."""
    number, avoid, _, final = request.repeat
    if request.endpoint is not None:
        avoid |= {request.endpoint}
    request.repeat = Repeat(number + 1, avoid, isinstance(failed, StaleConnection), final or number + 1 >= attempts)
    if isinstance(failed, Response):
        discard(failed)
    if kept is not None:
        request.body = kept.from_start()


def around(inner: Handler, parts: RouteParts) -> Handler:
    """Retries and hedges around `inner`, unless the route has none."""
    return retrying(inner, parts.route.retry, parts.route.timeouts.total, parts.upstream, parts.shared)


def retrying(
    inner: Handler, settings: RetrySettings | None, total: float | None, upstream: UpstreamStats, shared: Parts
) -> Handler:
    """`inner`, and around it what `settings` ask for."""
    if settings is None or (settings.attempts == 1 and settings.hedge is None):
        return inner
    return RetryStage(inner, RetryParts(settings, total, upstream, shared.clock, shared.spawn))
