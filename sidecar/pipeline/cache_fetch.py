"""One trip upstream for something that may be stored, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sidecar.core.cache_policy import stands_in
from sidecar.core.cache_status import Forward, Forwarded
from sidecar.core.cacheability import (
    Mismatch,
    Pass,
    Refresh,
    on_head,
    on_response,
    on_validation,
    outdated,
)
from sidecar.core.conditional import OUR_PRECONDITIONS, validators
from sidecar.core.freshness import Arrival
from sidecar.core.http import RequestHead
from sidecar.pipeline.collect import drain
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.exchange import Request, Response, Source
from sidecar.pipeline.store_decisions import REFUSED, STORED

if TYPE_CHECKING:
    from sidecar.core.cache_policy import Asked
    from sidecar.core.cacheability import ValidationDecision
    from sidecar.core.http import Field
    from sidecar.core.stored import Draft, StoredResponse
    from sidecar.pipeline.cache_answers import CacheAnswers
    from sidecar.pipeline.cached_route import CachedRoute, Surroundings
    from sidecar.pipeline.exchange import Body
    from sidecar.pipeline.ports import CacheStore, Handler, WriteToken

NOT_MODIFIED = 304
UPSTREAM_ERROR = "upstream_error"
"""Cache-Status detail: why a stale answer was served."""
FAILURE_BODY_LIMIT = 64 * 1024
"""Octets of a failing answer's body that are read for the circuit's sake when a stored answer stands in for it."""


class Trip(NamedTuple):
    """Why and with what in hand the upstream is asked. `stored`: what it may confirm or what may stand in for it."""

    request: Request
    asked: Asked
    reason: Forward
    stored: StoredResponse | None = None


class Delivered(NamedTuple):
    """An answer for the asker. `entry`: the stored answer that it is made of, which others may have as well, if any;
    `stands_in`: that is an older one in the place of a failure.
    """

    response: Response
    entry: StoredResponse | None = None
    stands_in: bool = False


class Arriving(NamedTuple):
    """An answer that is to be stored once `body` is complete."""

    response: Response
    body: Body
    draft: Draft
    token: WriteToken


Fetched: TypeAlias = Delivered | Arriving


class CacheFetch:
    """Asks the upstream and carries out what is decided about its answer, except for bodies that still arrive."""

    __slots__ = ("_answers", "_inner", "_name", "_note", "_rules", "_store", "_surroundings")

    def __init__(
        self, inner: Handler, store: CacheStore, route: CachedRoute, surroundings: Surroundings, answers: CacheAnswers
    ) -> None:
        self._inner = inner
        self._store = store
        self._rules = route.rules
        self._name = route.name
        self._note = store.stats.decisions.note
        self._surroundings = surroundings
        self._answers = answers

    async def fetch(self, trip: Trip) -> Fetched:
        """The upstream's answer, validated, refreshed, stored or replaced. Raises what the inner handler raises."""
        clock = self._surroundings.clock
        preconditions = _preconditions(trip)
        while True:
            token = self._store.begin(trip.asked.key)
            asked_at = clock.monotonic()
            request = conditional(trip.request, preconditions) if preconditions else trip.request
            response = await self._inner.answer(request)
            if trip.stored is None or not (preconditions and _validates(response)):
                return self.answered(trip, response, asked_at, token)
            arrival = Arrival(asked_at, clock.monotonic(), clock.wall())
            decision = on_validation(trip.asked, response.head, trip.stored, arrival, self._rules)
            validated = self._validated(trip, decision, arrival, token)
            if validated is not None:
                return validated
            # The 304 was about something else than what is stored: ask for the whole (RFC 9111 §4.3.4).
            preconditions = []

    def passed(self, trip: Trip, response: Response, why: str) -> Response:
        """An answer that is not to be stored, and why; nothing stored is touched."""
        key = trip.asked.key
        self._note(key, self._name, response.head.status, why, self._surroundings.clock.wall())
        return self._answers.passed(response, trip.reason, why, key)

    def answered(self, trip: Trip, response: Response, asked_at: float, token: WriteToken) -> Fetched:
        """What becomes of an answer that validates nothing; it was asked for at `asked_at`, under `token`."""
        if response.source is not Source.UPSTREAM:
            return Delivered(self._answers.forwarded(response, Forwarded(trip.reason), trip.asked.key))
        clock = self._surroundings.clock
        arrival = Arrival(asked_at, clock.monotonic(), clock.wall())
        if response.head.status in self._rules.failures:
            replaced = self._replaced(trip, response, arrival.received_at)
            if replaced is not None:
                return replaced
        if trip.asked.head.method == "HEAD":
            return self._head(trip, response, arrival, token)
        return self._received(trip, response, arrival, token)

    def _replaced(self, trip: Trip, response: Response, now: float) -> Delivered | None:
        """The stored answer in the place of one that says that the upstream failed (cache.md 17)."""
        stored = trip.stored
        if stored is None or not stands_in(stored, trip.asked.directives, self._rules, now):
            return None
        self._surroundings.spawn(_drain_quietly(response.body), name="drain a failed answer")
        answer = self._answers.hit(trip.asked.head, stored, now, UPSTREAM_ERROR)
        return Delivered(answer, stored, stands_in=True)

    def _validated(
        self, trip: Trip, decision: ValidationDecision, arrival: Arrival, token: WriteToken
    ) -> Delivered | None:
        if isinstance(decision, Mismatch):
            return None
        kept = self._keep_refreshed(trip, decision, token)
        why = decision.why or (STORED if kept else REFUSED)
        self._note(trip.asked.key, self._name, NOT_MODIFIED, why, arrival.received_wall)
        member = Forwarded(trip.reason, status=NOT_MODIFIED, stored=kept, detail=self._why(decision.why))
        answer = self._answers.validated(trip.asked.head, decision.stored, arrival.received_at, member)
        return Delivered(answer, decision.stored if kept else None)

    def _keep_refreshed(self, trip: Trip, decision: Refresh, token: WriteToken) -> bool:
        if not decision.why:
            return self._store.put(decision.stored, token)
        self._store.invalidate(trip.asked.key)
        return False

    def _head(self, trip: Trip, response: Response, arrival: Arrival, token: WriteToken) -> Fetched:
        """A HEAD's answer is passed on; what it says about the stored GET answer counts (RFC 9111 §4.3.5)."""
        if trip.stored is not None and response.head.status not in self._rules.failures:
            decision = on_head(trip.asked, response.head, trip.stored, arrival, self._rules)
            if isinstance(decision, Refresh) and not decision.why:
                self._store.put(decision.stored, token)
            else:
                self._store.put(outdated(trip.stored, arrival.received_at), token)
        return Delivered(self._answers.forwarded(response, Forwarded(trip.reason), trip.asked.key))

    def _received(self, trip: Trip, response: Response, arrival: Arrival, token: WriteToken) -> Fetched:
        body = response.body
        length = len(body) if isinstance(body, bytes) else body.length
        decision = on_response(trip.asked, response.head, length, arrival, self._rules, trip.stored)
        if isinstance(decision, Pass):
            self._note(trip.asked.key, self._name, response.head.status, decision.why, arrival.received_wall)
            return self._passed(trip, response, decision)
        if isinstance(body, bytes):
            entry = decision.draft.complete(body)
            kept = self._store.put(entry, token)
            why = STORED if kept else REFUSED
            self._note(trip.asked.key, self._name, response.head.status, why, arrival.received_wall)
            member = Forwarded(trip.reason, stored=kept)
            answer = self._answers.forwarded(response, member, trip.asked.key)
            return Delivered(answer, entry if kept else None)
        self._answers.forwarded(response, Forwarded(trip.reason, stored=True), trip.asked.key)
        return Arriving(response, body, decision.draft, token)

    def _passed(self, trip: Trip, response: Response, decision: Pass) -> Delivered:
        if decision.outdates and trip.stored is not None:
            self._store.invalidate(trip.asked.key)
        member = Forwarded(trip.reason, detail=self._why(decision.why))
        return Delivered(self._answers.forwarded(response, member, trip.asked.key))

    def _why(self, why: str) -> str:
        return why if self._rules.settings.debug else ""


def _validates(response: Response) -> bool:
    return response.head.status == NOT_MODIFIED and response.source is Source.UPSTREAM


def _preconditions(trip: Trip) -> list[Field]:
    return validators(trip.stored) if trip.stored is not None and trip.asked.head.method == "GET" else []


def conditional(request: Request, preconditions: list[Field]) -> Request:
    """A GET for the whole of what `request` asks for, with `preconditions` in place of the client's own."""
    head = request.head
    headers = head.headers.without(OUR_PRECONDITIONS).plus(*preconditions)
    asking = RequestHead("GET", head.target, headers, head.authority, head.minor_version, head.absolute_form)
    copy = Request(asking, b"", request_id=request.request_id, started=request.started, client=request.client)
    copy.route_name = request.route_name
    copy.rewrite = request.rewrite
    copy.on_interim = request.on_interim
    copy.half_closed = request.half_closed
    request.on_half_close = copy.half_close
    return copy


async def _drain_quietly(body: bytes | Body) -> None:
    try:
        await drain(body, FAILURE_BODY_LIMIT)
    except ProxyError:
        # The circuit has heard of it; the client has its answer.
        return
