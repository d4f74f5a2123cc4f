"""Asking the upstream for something that may be stored, and what becomes of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from sidecar.core.cache.conditional import OUR_PRECONDITIONS
from sidecar.core.cache.freshness import Arrival
from sidecar.core.cache.request_policy import stands_in
from sidecar.core.cache.response_policy import (
    Mismatch,
    Pass,
    Refresh,
    never_stored,
    on_head,
    on_response,
    on_validation,
    outdated,
)
from sidecar.core.cache.sharing import may_use
from sidecar.core.cache.status import Forward, Forwarded
from sidecar.core.cache.superseding import FIRST_REDIRECTION, replaces
from sidecar.core.cache.vary import select
from sidecar.core.http.connection_auth import WHY
from sidecar.core.http.heads import RequestHead
from sidecar.pipeline.cache.collect import Collector, Storing, drain_quietly
from sidecar.pipeline.cache.invalidation import put_instead, renewed, withdraw
from sidecar.pipeline.message import Request, Response, StandIn
from sidecar.pipeline.source import Source
from sidecar.pipeline.store_decisions import REFUSED, STORED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.request_policy import KeyedRequest
    from sidecar.core.cache.response_policy import ValidationDecision
    from sidecar.core.cache.rules import RouteRules
    from sidecar.core.cache.stored import StoredResponse
    from sidecar.core.http.heads import Field
    from sidecar.pipeline.cache.answers import CacheAnswers
    from sidecar.pipeline.cache.route import CachedRoute, CacheParts
    from sidecar.pipeline.message import Body
    from sidecar.pipeline.ports import CacheStore, Handler, WriteToken

NOT_MODIFIED = 304
UPSTREAM_ERROR = "upstream_error"
"""Cache-Status detail: why a stale answer was served."""
FAILURE_BODY_LIMIT = 64 * 1024
"""Octets of a failing answer's body that are read for the circuit's sake when a stored answer stands in for it."""


@dataclass(slots=True)
class UpstreamFetch:
    """A request that the upstream is asked, why, and what is in hand for it.

    `stored` may be confirmed by the answer, or stand in for it. `preconditions` ask whether it is still good, in the
    place of the client's own; empty: the client's request is sent as it is. `shareable`: others who want the same may
    have the answer as well, or this one theirs.

    Since when, by the store's clocks: `token` is what the store gave when it was begun, `puts` how many answers had
    been put by then, and `began_at` is monotonic seconds.
    """

    request: Request
    keyed: KeyedRequest
    reason: Forward
    stored: StoredResponse | None
    token: WriteToken
    puts: int
    began_at: float
    preconditions: Sequence[Field] = ()
    shareable: bool = False

    def begin(self, store: CacheStore, now: float) -> None:
        """The upstream is asked now, and not when this was made."""
        self.token, self.puts, self.began_at = store.begin(self.keyed.key), store.puts, now


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


class Fetcher:
    """Asks the upstream and carries out what is decided about its answer, except for bodies that still arrive."""

    __slots__ = ("_answers", "_clock", "_inner", "_name", "_note", "_rules", "_spawn", "_store")

    def __init__(self, inner: Handler, route: CachedRoute, shared: CacheParts, answers: CacheAnswers) -> None:
        self._inner = inner
        self._rules = route.rules
        self._name = route.name
        self._store = shared.store
        self._clock = shared.clock
        self._spawn = shared.spawn
        self._note = shared.store.stats.decisions.note
        self._answers = answers

    async def fetch(self, fetch: UpstreamFetch) -> Fetched:
        """The upstream's answer, validated, refreshed, stored or replaced. Raises what the inner handler raises."""
        preconditions = fetch.preconditions
        while True:
            fetch.begin(self._store, self._clock.monotonic())
            request = conditional(fetch.request, preconditions) if preconditions else fetch.request
            try:
                response = await self._inner.handle(request)
            finally:
                if request is not fetch.request:
                    # The log tells of the client's own request.
                    fetch.request.account_for(request)
            if fetch.stored is None or not (preconditions and _validates(response)):
                return self.answered(fetch, response)
            validated = self._validated(fetch, fetch.stored, response)
            if validated is not None:
                return validated
            # The 304 was about something else than what is stored, or about one user: ask for the whole (RFC 9111
            # §4.3.4).
            preconditions = ()

    def received(self, fetch: UpstreamFetch, response: Response) -> Response:
        """What the client gets of an answer to its own request. Kept short for one that says that it is never stored,
        about a key of which nothing is known.
        """
        if fetch.stored is None and response.source is Source.UPSTREAM and fetch.keyed.head.method == "GET":
            why = never_stored(response.head, self._rules)
            if why:
                keyed, reason = fetch.keyed, fetch.reason
                # `_may_be_known`, written out because this is on the way of most requests.
                if (
                    reason is not Forward.URI_MISS
                    or self._store.puts != fetch.puts
                    or keyed.key in self._store.arriving
                    or keyed.key in self._store.unread
                ):
                    withdraw(self._store, keyed, response.head, self._rules)
                self._note(keyed.key, self._name, response.head.status, why, self._clock.wall())
                return self._answers.passed(response, reason, why, keyed.key)
        return self.collected(self.answered(fetch, response))

    def collected(self, fetched: Fetched) -> Response:
        """The response for its one reader; what is still to be stored is, when its body has been read."""
        if isinstance(fetched, Arriving):
            Collector(self._store, fetched.storing, self._rules.settings.max_entry_size).watch(fetched.body)
        return fetched.response

    def answered(self, fetch: UpstreamFetch, response: Response) -> Fetched:
        """What becomes of an answer that validates nothing."""
        key, head = fetch.keyed.key, response.head
        if response.source is not Source.UPSTREAM:
            return Delivered(self._answers.forwarded(response, Forwarded(fetch.reason), key))
        if head.connection_bound:
            self._note(key, self._name, head.status, WHY, self._clock.wall())
            return Delivered(self._answers.passed(response, fetch.reason, WHY, key))
        arrival = Arrival(fetch.began_at, self._clock.monotonic(), self._clock.wall())
        if head.status in self._rules.failures:
            replaced = self._replaced(fetch, response, arrival.received_at)
            if replaced is not None:
                return replaced
        if fetch.keyed.head.method == "HEAD":
            return self._answer_to_head(fetch, response, arrival)
        return self._answer_to_get(fetch, response, arrival)

    def went_past(self, keyed: KeyedRequest, response: Response) -> None:
        """An answer to a request that wants nothing to do with the store, which the store may have to hear of."""
        head = response.head
        if response.source is not Source.UPSTREAM or keyed.head.method != "GET":
            return
        now = self._clock.monotonic()
        decision = on_response(keyed, head, None, Arrival(now, now, self._clock.wall()), self._rules, None)
        if head.status >= FIRST_REDIRECTION or isinstance(decision, Pass):
            withdraw(self._store, keyed, head, self._rules)

    def _replaced(self, fetch: UpstreamFetch, response: Response, now: float) -> Delivered | None:
        """The stored answer in the place of one that says that the upstream failed (cache.md 17)."""
        # Looked up again: what there was may have been withdrawn or purged meanwhile.
        stored = usable(self._store, fetch.keyed, self._rules, now)
        if stored is None:
            return None
        self._spawn(drain_quietly(response.body, FAILURE_BODY_LIMIT), name="drain a failed answer")
        answer = self._answers.hit(fetch.keyed.head, stored, now, UPSTREAM_ERROR)
        status = response.head.status
        answer.stand_in = StandIn(UPSTREAM_ERROR, f"status_{status}", f"the upstream answered {status}")
        return Delivered(answer, stored, stands_in=True)

    def _validated(self, fetch: UpstreamFetch, stored: StoredResponse, response: Response) -> Delivered | None:
        """The answer made of `stored` and a 304; None when that was about something else."""
        arrival = Arrival(fetch.began_at, self._clock.monotonic(), self._clock.wall())
        decision: ValidationDecision = Mismatch()
        if not response.head.connection_bound:
            decision = on_validation(fetch.keyed, response.head, stored, arrival, self._rules)
        if isinstance(decision, Mismatch):
            return None
        kept = self._keep_refreshed(fetch, stored, decision)
        why = decision.why or (STORED if kept else REFUSED)
        self._note(fetch.keyed.key, self._name, NOT_MODIFIED, why, arrival.received_wall)
        member = Forwarded(fetch.reason, status=NOT_MODIFIED, stored=kept, detail=self._why(decision.why))
        answer = self._answers.validated(fetch.keyed.head, decision.stored, arrival.received_at, member)
        answer.extra += b"".join([b"%b: %b\r\n" % line for line in decision.personal])
        return Delivered(answer, decision.stored if kept else None)

    def _keep_refreshed(self, fetch: UpstreamFetch, before: StoredResponse, decision: Refresh) -> bool:
        keyed, stored = fetch.keyed, decision.stored
        if not decision.why:
            return put_instead(self._store, stored, fetch.token, keyed.head.headers, self._store.get(keyed.key))
        withdraw(self._store, keyed, stored.head, self._rules)
        self._store.invalidate(keyed.key, [before.selecting])
        return False

    def _answer_to_head(self, fetch: UpstreamFetch, response: Response, arrival: Arrival) -> Fetched:
        """A HEAD's answer is passed on; what it says about the stored GET answer counts (RFC 9111 §4.3.5): it renews
        that or makes it stale, and withdraws nothing.
        """
        keyed, head = fetch.keyed, response.head
        if fetch.stored is not None and replaces(keyed.head.headers, head.status, fetch.stored, self._rules):
            decision = on_head(keyed, head, fetch.stored, arrival, self._rules)
            if isinstance(decision, Refresh) and not decision.why:
                self._store.put(decision.stored, fetch.token)
            else:
                self._store.put(outdated(fetch.stored, arrival.received_at), fetch.token)
        return Delivered(self._answers.forwarded(response, Forwarded(fetch.reason), keyed.key))

    def _answer_to_get(self, fetch: UpstreamFetch, response: Response, arrival: Arrival) -> Fetched:
        """A GET's answer, which is stored if it may be."""
        keyed, head, body = fetch.keyed, response.head, response.body
        length = len(body) if isinstance(body, bytes) else body.length
        known = self._may_be_known(fetch)
        variants = self._store.get(keyed.key) if known else ()
        standing = select(variants, keyed.head.headers) if variants else None
        decision = on_response(keyed, head, length, arrival, self._rules, standing)
        if isinstance(decision, Pass):
            self._note(keyed.key, self._name, head.status, decision.why, arrival.received_wall)
            if known:
                withdraw(self._store, keyed, head, self._rules)
            member = Forwarded(fetch.reason, detail=self._why(decision.why))
            return Delivered(self._answers.forwarded(response, member, keyed.key))
        token = fetch.token
        if known and head.status >= FIRST_REDIRECTION:
            token = renewed(self._store, decision.draft, token, keyed, self._rules)
        if isinstance(body, bytes):
            entry = decision.draft.complete(body)
            kept = put_instead(self._store, entry, token, keyed.head.headers, variants)
            why = STORED if kept else REFUSED
            self._note(keyed.key, self._name, head.status, why, arrival.received_wall)
            answer = self._answers.forwarded(response, Forwarded(fetch.reason, stored=kept), keyed.key)
            return Delivered(answer, entry if kept else None)
        self._answers.forwarded(response, Forwarded(fetch.reason, stored=True), keyed.key)
        return Arriving(response, body, Storing(decision.draft, token, keyed.head.headers))

    def _may_be_known(self, fetch: UpstreamFetch) -> bool:
        """Whether there may be something under its key now. There is nothing as a rule, and then this is cheap."""
        store, key = self._store, fetch.keyed.key
        return (
            fetch.reason is not Forward.URI_MISS
            or store.puts != fetch.puts
            or key in store.arriving
            or key in store.unread
        )

    def _why(self, why: str) -> str:
        return why if self._rules.settings.debug else ""


def usable(store: CacheStore, keyed: KeyedRequest, rules: RouteRules, now: float) -> StoredResponse | None:
    """The stored answer that may stand in for an upstream that cannot answer, if there is one (cache.md 17, 18)."""
    stored = select(store.get(keyed.key), keyed.head.headers)
    if stored is None or not may_use(stored, keyed.head.headers, rules):
        return None
    return stored if stands_in(stored, keyed.directives, rules, now) else None


def _validates(response: Response) -> bool:
    return response.head.status == NOT_MODIFIED and response.source is Source.UPSTREAM


def conditional(request: Request, preconditions: Sequence[Field]) -> Request:
    """A GET for the whole of what `request` asks for, with `preconditions` in place of the client's own."""
    head = request.head
    headers = head.headers.without(OUR_PRECONDITIONS).plus(*preconditions)
    asking = RequestHead("GET", head.target, headers, head.authority, head.minor_version, head.absolute_form)
    copy = Request(asking, b"", request_id=request.request_id, started=request.started, client=request.client)
    copy.route_name = request.route_name
    copy.rewrite = request.rewrite
    copy.deadline = request.deadline
    copy.on_interim = request.on_interim
    copy.pins = request.pins
    copy.half_closed = request.half_closed
    request.on_half_close = copy.half_close
    return copy
