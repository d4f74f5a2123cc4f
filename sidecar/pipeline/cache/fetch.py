"""One trip upstream for something that may be stored, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sidecar.core.cache.conditional import OUR_PRECONDITIONS, validators
from sidecar.core.cache.freshness import Arrival
from sidecar.core.cache.request_policy import may_use, stands_in
from sidecar.core.cache.response_policy import (
    Mismatch,
    Pass,
    Refresh,
    on_head,
    on_response,
    on_validation,
    outdated,
)
from sidecar.core.cache.status import Forward, Forwarded
from sidecar.core.cache.superseding import FIRST_REDIRECTION, replaces
from sidecar.core.cache.vary import select
from sidecar.core.connection_auth import WHY
from sidecar.core.http import RequestHead
from sidecar.pipeline.cache.collect import Storing, drain
from sidecar.pipeline.cache.invalidation import put_instead, renewed, withdraw
from sidecar.pipeline.cache.store_decisions import REFUSED, STORED
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.exchange import Request, Response, Source, StandIn

if TYPE_CHECKING:
    from sidecar.core.cache.request_policy import Asked, RouteRules
    from sidecar.core.cache.response_policy import ValidationDecision
    from sidecar.core.cache.stored import StoredResponse
    from sidecar.core.http import Field
    from sidecar.pipeline.cache.answers import CacheAnswers
    from sidecar.pipeline.cache.route import CachedRoute, Surroundings
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
    storing: Storing


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
            token, puts = self._store.begin(trip.asked.key), self._store.puts
            asked_at = clock.monotonic()
            request = conditional(trip.request, preconditions) if preconditions else trip.request
            response = await self._inner.handle(request)
            if trip.stored is None or not (preconditions and _validates(response)):
                return self.answered(trip, response, asked_at, token, puts)
            arrival = Arrival(asked_at, clock.monotonic(), clock.wall())
            bound = response.head.connection_bound
            decision = (
                Mismatch() if bound else on_validation(trip.asked, response.head, trip.stored, arrival, self._rules)
            )
            validated = self._validated(trip, decision, arrival, token)
            if validated is not None:
                return validated
            # The 304 was about something else than what is stored, or about one user: ask for the whole (RFC 9111
            # §4.3.4).
            preconditions = []

    def passed(self, trip: Trip, response: Response, why: str, puts: int) -> Response:
        """An answer that is not to be stored, and why; `puts` as for `answered`."""
        if self._may_be_known(trip, puts):
            withdraw(self._store, trip.asked, response.head, self._rules)
        return self._pass_on(trip, response, why)

    def _pass_on(self, trip: Trip, response: Response, why: str) -> Response:
        """An answer that has nothing to do with what is stored, and why."""
        key = trip.asked.key
        self._note(key, self._name, response.head.status, why, self._surroundings.clock.wall())
        return self._answers.passed(response, trip.reason, why, key)

    def went_past(self, asked: Asked, response: Response) -> None:
        """An answer to a request that wants nothing to do with the store, which the store may have to hear of."""
        head = response.head
        if response.source is not Source.UPSTREAM or asked.head.method != "GET":
            return
        clock = self._surroundings.clock
        now = clock.monotonic()
        decision = on_response(asked, head, None, Arrival(now, now, clock.wall()), self._rules, None)
        if head.status >= FIRST_REDIRECTION or isinstance(decision, Pass):
            withdraw(self._store, asked, head, self._rules)

    def _may_be_known(self, trip: Trip, puts: int) -> bool:
        """Whether there may be something under its key now. There is nothing as a rule, and then this is cheap."""
        store = self._store
        return trip.reason is not Forward.URI_MISS or store.puts != puts or trip.asked.key in store.arriving

    def answered(self, trip: Trip, response: Response, asked_at: float, token: WriteToken, puts: int) -> Fetched:
        """What becomes of an answer that validates nothing; it was asked for at `asked_at`, under `token`, when so many
        answers had been put.
        """
        if response.source is not Source.UPSTREAM:
            return Delivered(self._answers.forwarded(response, Forwarded(trip.reason), trip.asked.key))
        if response.head.connection_bound:
            return Delivered(self._pass_on(trip, response, WHY))
        clock = self._surroundings.clock
        arrival = Arrival(asked_at, clock.monotonic(), clock.wall())
        if response.head.status in self._rules.failures:
            replaced = self._replaced(trip, response, arrival.received_at)
            if replaced is not None:
                return replaced
        if trip.asked.head.method == "HEAD":
            return self._head(trip, response, arrival, token)
        return self._received(trip, response, arrival, token, known=self._may_be_known(trip, puts))

    def _replaced(self, trip: Trip, response: Response, now: float) -> Delivered | None:
        """The stored answer in the place of one that says that the upstream failed (cache.md 17)."""
        # Looked up again: what there was may have been withdrawn or purged meanwhile.
        stored = usable(self._store, trip.asked, self._rules, now)
        if stored is None:
            return None
        self._surroundings.spawn(_drain_quietly(response.body), name="drain a failed answer")
        answer = self._answers.hit(trip.asked.head, stored, now, UPSTREAM_ERROR)
        status = response.head.status
        answer.stand_in = StandIn(UPSTREAM_ERROR, f"status_{status}", f"the upstream answered {status}")
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
        answer.extra += b"".join([b"%b: %b\r\n" % field for field in decision.personal])
        return Delivered(answer, decision.stored if kept else None)

    def _keep_refreshed(self, trip: Trip, decision: Refresh, token: WriteToken) -> bool:
        asked, stored = trip.asked, decision.stored
        if not decision.why:
            return put_instead(self._store, stored, token, asked.head.headers, self._store.get(asked.key))
        withdraw(self._store, asked, stored.head, self._rules)
        if trip.stored is not None:
            self._store.invalidate(asked.key, [trip.stored.selecting])
        return False

    def _head(self, trip: Trip, response: Response, arrival: Arrival, token: WriteToken) -> Fetched:
        """A HEAD's answer is passed on; what it says about the stored GET answer counts (RFC 9111 §4.3.5): it renews
        that or makes it stale, and withdraws nothing.
        """
        asked, head = trip.asked, response.head
        if trip.stored is not None and replaces(asked.head.headers, head.status, trip.stored, self._rules):
            decision = on_head(asked, head, trip.stored, arrival, self._rules)
            if isinstance(decision, Refresh) and not decision.why:
                self._store.put(decision.stored, token)
            else:
                self._store.put(outdated(trip.stored, arrival.received_at), token)
        return Delivered(self._answers.forwarded(response, Forwarded(trip.reason), asked.key))

    def _received(self, trip: Trip, response: Response, arrival: Arrival, token: WriteToken, *, known: bool) -> Fetched:
        asked, head, body = trip.asked, response.head, response.body
        length = len(body) if isinstance(body, bytes) else body.length
        variants = self._store.get(asked.key) if known else ()
        standing = select(variants, asked.head.headers) if variants else None
        decision = on_response(asked, head, length, arrival, self._rules, standing)
        if isinstance(decision, Pass):
            self._note(asked.key, self._name, head.status, decision.why, arrival.received_wall)
            if known:
                withdraw(self._store, asked, head, self._rules)
            member = Forwarded(trip.reason, detail=self._why(decision.why))
            return Delivered(self._answers.forwarded(response, member, asked.key))
        if known and head.status >= FIRST_REDIRECTION:
            token = renewed(self._store, decision.draft, token, asked, self._rules)
        if isinstance(body, bytes):
            entry = decision.draft.complete(body)
            kept = put_instead(self._store, entry, token, asked.head.headers, variants)
            why = STORED if kept else REFUSED
            self._note(asked.key, self._name, head.status, why, arrival.received_wall)
            member = Forwarded(trip.reason, stored=kept)
            answer = self._answers.forwarded(response, member, asked.key)
            return Delivered(answer, entry if kept else None)
        self._answers.forwarded(response, Forwarded(trip.reason, stored=True), asked.key)
        return Arriving(response, body, Storing(decision.draft, token, asked.head.headers))

    def _why(self, why: str) -> str:
        return why if self._rules.settings.debug else ""


def usable(store: CacheStore, asked: Asked, rules: RouteRules, now: float) -> StoredResponse | None:
    """The stored answer that may stand in for an upstream that cannot answer, if there is one (cache.md 17, 18)."""
    stored = select(store.get(asked.key), asked.head.headers)
    if stored is None or not may_use(stored, asked.head.headers, rules):
        return None
    return stored if stands_in(stored, asked.directives, rules, now) else None


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
    copy.pins = request.pins
    return copy


async def _drain_quietly(body: bytes | Body) -> None:
    try:
        await drain(body, FAILURE_BODY_LIMIT)
    except ProxyError:
        # The circuit has heard of it; the client has its answer.
        return
