"""The cache around an upstream and its circuit: answers from the store, and lets a stored answer stand in.

What is decided is in `core.cache_policy` and `core.cacheability`; here it is carried out. A fresh hit, and a stale
answer for a circuit that refuses, are given without a task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from sidecar.core.cache_control import NO_REQUEST_DIRECTIVES, request_directives
from sidecar.core.cache_policy import (
    Asked,
    Bypass,
    Fetch,
    Revalidate,
    Serve,
    Unavailable,
    bypass,
    may_use,
    on_request,
    stale_allowance,
    stands_in,
)
from sidecar.core.cache_status import Forward, Forwarded, detail_parameter
from sidecar.core.cacheability import never_stored
from sidecar.core.conditional import ORIGIN_PRECONDITIONS
from sidecar.core.config import CacheMode
from sidecar.core.forwarding import withheld
from sidecar.core.outcome import Outcome
from sidecar.core.vary import select
from sidecar.pipeline.cache_answers import SHAPING, CacheAnswers
from sidecar.pipeline.cache_fetch import UPSTREAM_ERROR, Arriving, CacheFetch, Fetched, Trip
from sidecar.pipeline.cache_refresh import CacheRefresh
from sidecar.pipeline.collapse import Collapser, leads
from sidecar.pipeline.collect import Collector
from sidecar.pipeline.errors import CircuitOpen, GatewayTimeoutByDirective, ProxyError, UpstreamTimeout, forget_frames
from sidecar.pipeline.exchange import NO_REWRITE, Response, Source
from sidecar.pipeline.invalidation import invalidate_changed
from sidecar.pipeline.ready_answer import Grounds

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sidecar.core.cache_key import KeySpace
    from sidecar.core.http import RequestHead
    from sidecar.core.stored import StoredResponse
    from sidecar.pipeline.cached_route import CachedRoute, Surroundings
    from sidecar.pipeline.exchange import Request
    from sidecar.pipeline.ports import CacheStore, Handler, Memory
    from sidecar.pipeline.ready_answer import Recalled, Refused

NEEDS_THOUGHT = ORIGIN_PRECONDITIONS | {b"authorization", b"cache-control", b"cookie", b"pragma"}
"""Request fields with which a fresh answer may not do, besides those that keep a request away from the store."""
CIRCUIT_OPEN = "circuit_open"
CIRCUIT_OPEN_PARAMETER = detail_parameter(CIRCUIT_OPEN)
UPSTREAM_TIMEOUT = "upstream_timeout"


class CacheStage:
    """The shared cache of one route (RFC 9111)."""

    __slots__ = (
        "_answers",
        "_behind",
        "_circuit",
        "_clock",
        "_collapser",
        "_fetch",
        "_inner",
        "_is_plain",
        "_needs_thought",
        "_refresh",
        "_route",
        "_rules",
        "_store",
        "_surroundings",
        "_untouched",
    )

    def __init__(
        self,
        inner: Handler,
        store: CacheStore,
        route: CachedRoute,
        surroundings: Surroundings,
        behind: Memory | None = None,
    ) -> None:
        self._inner = inner
        self._behind = behind
        self._store = store
        self._route = route
        self._rules = route.rules
        self._circuit = surroundings.circuit
        self._untouched = replace(route.space, rewrite=NO_REWRITE)
        self._surroundings = surroundings
        self._clock = surroundings.clock
        self._answers = CacheAnswers(route, surroundings.stats)
        self._fetch = CacheFetch(inner, store, route, surroundings, self._answers)
        self._collapser = Collapser(self._fetch, store, route, surroundings, self._answers)
        self._refresh = CacheRefresh(inner, store, route, surroundings)
        self._needs_thought = NEEDS_THOUGHT | SHAPING | route.rules.foreign_fields
        self._is_plain = route.rules.settings.mode is CacheMode.STANDARD and not route.rules.settings.debug

    def recall(self, head: RequestHead, now: float) -> Recalled | Refused | None:
        """See `Memory`: what `_plain` would answer to a request that is nothing but this head."""
        if head.method != "GET" or not self._is_plain or not self._needs_thought.isdisjoint(head.headers.index):
            return None
        if b"connection" in head.headers.index and withheld(head.headers):
            return None
        key = self._route.space.key(head)
        variants = self._store.get(key)
        if not variants:
            found = None if self._behind is None else self._behind.recall(head, now)
            if found is not None:
                found.grounds.also(self._store, key, variants)
            return found
        stored = variants[0]
        if len(variants) != 1 or stored.selecting or stored.rules.always_validate:
            return None
        if now < stored.expires_at:
            return self._answers.recalled(stored, now, Grounds().also(self._store, key, variants))
        if not self._stands_in(stored, now):
            return None
        until = stored.expires_at + stale_allowance(stored, self._rules)
        grounds = Grounds(self._circuit, until).also(self._store, key, variants)
        return self._answers.recalled(stored, now, grounds, CIRCUIT_OPEN_PARAMETER)

    def answer_now(self, request: Request) -> Response | None:
        """A stored answer, fresh or in the place of what the circuit refuses; None when the upstream is to be asked.

        Raises GatewayTimeoutByDirective, and what the inner handler raises when nothing stored stands in.
        """
        found = self._plain(request) or self._look_up(request)
        if isinstance(found, Response):
            return found
        response = self._refused_or_none(request, found)
        if response is None:
            request.lookup = found
        return response

    def answer(self, request: Request) -> Coroutine[Any, Any, Response]:
        """The answer, whatever it takes. Raises what the inner handler raises when nothing stored stands in."""
        # Taken, not kept: it leads back to the request.
        found, request.lookup = request.lookup, None
        if isinstance(found, Trip):
            if self._collapser.collapses(found.asked):
                return self._instead(found, self._together(found))
            if found.stored is None and found.asked.head.method == "GET":
                return self._missed(request, found)
            return self._instead(found, self._alone(found))
        if isinstance(found, Bypass):
            return self._bypass(request, found)
        return self._afresh(request)

    async def _afresh(self, request: Request) -> Response:
        """The answer to a request that was not looked up yet."""
        found = self._look_up(request)
        if isinstance(found, Response):
            return found
        request.lookup = found
        return await self.answer(request)

    async def _instead(self, trip: Trip, fetching: Coroutine[Any, Any, Response]) -> Response:
        """What `fetching` gives, or what stands in when it fails."""
        try:
            return await fetching
        except ProxyError as error:
            return self._stand_in_or_raise(trip.asked, error)

    def _plain(self, request: Request) -> Response | Trip | None:
        """The commonest cases, kept short: a request that asks for nothing special, and one stored answer or none."""
        head = request.head
        if request.body or request.upgrade or head.method != "GET" or not self._is_plain:
            return None
        if not self._needs_thought.isdisjoint(head.headers.index) or withheld(head.headers):
            return None
        space = self._space_of(request)
        key = space.key(head)
        variants = self._store.get(key)
        if not variants:
            return Trip(request, Asked(head, NO_REQUEST_DIRECTIVES, key, space, self._route.name), Forward.URI_MISS)
        stored = variants[0]
        if len(variants) != 1 or stored.selecting or stored.rules.always_validate:
            return None
        now = self._clock.monotonic()
        return self._answers.whole(stored, now) if now < stored.expires_at else self._plain_stale(stored, now)

    def _space_of(self, request: Request) -> KeySpace:
        """Keys are about what the upstream is asked for: a forward-proxy request's path goes there untouched."""
        space = self._route.space
        return space if request.rewrite is space.rewrite or request.rewrite == space.rewrite else self._untouched

    def _plain_stale(self, stored: StoredResponse, now: float) -> Response | None:
        return self._answers.whole(stored, now, CIRCUIT_OPEN_PARAMETER) if self._stands_in(stored, now) else None

    def _stands_in(self, stored: StoredResponse, now: float) -> bool:
        """Whether the circuit certainly refuses, which counts, and the stale answer may be used then."""
        return stands_in(stored, NO_REQUEST_DIRECTIVES, self._rules, now) and self._circuit.refuses(now, safe=True)

    def _look_up(self, request: Request) -> Response | Trip | Bypass:
        head, rules, space = request.head, self._route.rules, self._space_of(request)
        directives = NO_REQUEST_DIRECTIVES
        if rules.settings.honor_request_directives:
            directives = request_directives(head.headers)
        bypassed = bypass(head, directives, rules, has_content=bool(request.body), upgrades=bool(request.upgrade))
        if bypassed is not None:
            return bypassed
        return self._act(request, Asked(head, directives, space.key(head), space, self._route.name))

    def _act(self, request: Request, asked: Asked) -> Response | Trip:
        """The stored answer if that is decided, or the way upstream. Raises GatewayTimeoutByDirective."""
        now = self._clock.monotonic()
        variants = self._store.get(asked.key)
        decision = on_request(asked.head.headers, asked.directives, variants, self._route.rules, now)
        match decision:
            case Serve(stored, refresh):
                if refresh:
                    self._refresh.behind(Trip(request, asked, Forward.STALE, stored))
                return self._answers.hit(asked.head, stored, now)
            case Unavailable():
                raise GatewayTimeoutByDirective("nothing stored is of use, and the client wants nothing else")
            case Revalidate(stored, reason):
                trip = Trip(request, asked, reason, stored)
                return self._in_the_shadow(trip, now) or trip
            case Fetch(reason):
                return Trip(request, asked, reason)
            case _:
                assert_never(decision)

    def _in_the_shadow(self, trip: Trip, now: float) -> Response | None:
        """The stale answer at once while a half-open circuit probes behind it (cache.md 21)."""
        stored, asked = trip.stored, trip.asked
        if stored is None or not self._surroundings.circuit.probing(now):
            return None
        if not stands_in(stored, asked.directives, self._route.rules, now):
            return None
        self._refresh.behind(trip)
        return self._answers.hit(asked.head, stored, now, CIRCUIT_OPEN)

    def _refused_or_none(self, request: Request, found: Trip | Bypass) -> Response | None:
        """What stands in when the inner handler refuses at once, or what that has at hand; None as a rule."""
        asked = found.asked if isinstance(found, Trip) else None
        try:
            response = self._inner.answer_now(request)
        except ProxyError as error:
            if asked is None:
                raise
            return self._stand_in_or_raise(asked, error)
        if response is None:
            return None
        return self._answers.forwarded(response, Forwarded(found.reason), None if asked is None else asked.key)

    async def _together(self, trip: Trip) -> Response:
        """The upstream's answer, shared with others who want the same at the same time."""
        if self._collapser.boards(trip.asked):
            return await self._collapser.follow(trip) or await self._alone(trip)
        # Another request's fetch may have landed since this one looked.
        found = self._act(trip.request, trip.asked)
        if isinstance(found, Response):
            return found
        return await (self._collapser.lead(found) if leads(found) else self._alone(found))

    async def _missed(self, request: Request, trip: Trip) -> Response:
        """The upstream's answer where nothing is stored: kept short for what says of itself that it never is."""
        token = self._store.begin(trip.asked.key)
        asked_at = self._clock.monotonic()
        try:
            response = await self._inner.answer(request)
        except ProxyError as error:
            return self._stand_in_or_raise(trip.asked, error)
        why = never_stored(response.head, self._route.rules)
        if why and response.source is Source.UPSTREAM:
            return self._fetch.passed(trip, response, why)
        return self._landed(self._fetch.answered(trip, response, asked_at, token))

    async def _alone(self, trip: Trip) -> Response:
        return self._landed(await self._fetch.fetch(trip))

    def _landed(self, fetched: Fetched) -> Response:
        if isinstance(fetched, Arriving):
            limit = self._route.rules.settings.max_entry_size
            Collector(self._store, fetched.draft, fetched.token, limit).watch(fetched.body)
        return fetched.response

    def _stand_in_or_raise(self, asked: Asked, error: ProxyError) -> Response:
        response = self._stand_in(asked, error)
        if response is None:
            raise error
        # Whoever shares the error holds it; its traceback would hold what waited for it.
        forget_frames(error)
        return response

    def _stand_in(self, asked: Asked, error: ProxyError) -> Response | None:
        """The stored answer in the place of `error`, if there is one now and it may (cache.md 17, 18)."""
        if not isinstance(error, CircuitOpen) and error.outcome is not Outcome.FAILURE:
            return None
        stored = select(self._store.get(asked.key), asked.head.headers)
        rules, now = self._route.rules, self._clock.monotonic()
        if stored is None or not may_use(stored, asked.head.headers, rules):
            return None
        if not stands_in(stored, asked.directives, rules, now):
            return None
        return self._answers.hit(asked.head, stored, now, _detail(error))

    async def _bypass(self, request: Request, decision: Bypass) -> Response:
        response = await self._inner.answer(request)
        invalidate_changed(self._store, self._space_of(request), request.head, response)
        why = decision.why if self._route.rules.settings.debug else ""
        return self._answers.forwarded(response, Forwarded(decision.reason, detail=why))


def _detail(error: ProxyError) -> str:
    """Cache-Status detail: why a stored answer stands in."""
    if isinstance(error, CircuitOpen):
        return CIRCUIT_OPEN
    return UPSTREAM_TIMEOUT if isinstance(error, UpstreamTimeout) else UPSTREAM_ERROR
