"""The cache around an upstream and its circuit: answers from the store, and lets a stored answer stand in.

What is decided is in `core.cache.request_policy` and `core.cache.response_policy`; here it is carried out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from sidecar.core.cache.conditional import ORIGIN_PRECONDITIONS
from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES, request_directives
from sidecar.core.cache.request_policy import (
    Asked,
    Bypass,
    Fetch,
    Revalidate,
    Serve,
    Unavailable,
    bypass,
    on_request,
    stands_in,
)
from sidecar.core.cache.response_policy import never_stored
from sidecar.core.cache.status import Forward, Forwarded
from sidecar.core.config import CacheMode
from sidecar.core.connection_auth import WHY
from sidecar.core.forwarding import withheld
from sidecar.core.outcome import Outcome
from sidecar.pipeline.cache.answers import SHAPING, CacheAnswers
from sidecar.pipeline.cache.collapse import Collapser, leads
from sidecar.pipeline.cache.collect import Collector
from sidecar.pipeline.cache.fetch import UPSTREAM_ERROR, Arriving, CacheFetch, Fetched, Trip, usable
from sidecar.pipeline.cache.invalidation import invalidate_changed
from sidecar.pipeline.cache.refresh import CacheRefresh
from sidecar.pipeline.cache.route import Surroundings, cached_route
from sidecar.pipeline.errors import CircuitOpen, GatewayTimeoutByDirective, ProxyError, UpstreamTimeout
from sidecar.pipeline.exchange import NO_REWRITE, Response, Source, StandIn

if TYPE_CHECKING:
    from sidecar.core.cache.key import KeySpace
    from sidecar.pipeline.cache.route import CachedRoute
    from sidecar.pipeline.exchange import Request
    from sidecar.pipeline.ports import CacheStore, Handler
    from sidecar.pipeline.stage import RouteParts

NEEDS_THOUGHT = ORIGIN_PRECONDITIONS | {b"authorization", b"cache-control", b"cookie", b"pragma"}
"""Request fields with which a fresh answer may not do, besides those that keep a request away from the store."""
CIRCUIT_OPEN = "circuit_open"
UPSTREAM_TIMEOUT = "upstream_timeout"
PROBED_BEHIND = StandIn(CIRCUIT_OPEN, detail="the circuit is half-open and probes behind this answer")
REFRESHING = StandIn("stale_while_revalidate")
ACCEPTED = StandIn("max_stale")
"""The client's own Cache-Control takes it stale."""


class CacheStage:
    """The shared cache of one route (RFC 9111)."""

    __slots__ = (
        "_answers",
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
    ) -> None:
        self._inner = inner
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

    async def handle(self, request: Request) -> Response:
        """The answer, stored or from upstream. Raises what the inner handler raises when nothing stored stands in, and
        GatewayTimeoutByDirective.
        """
        found = self._plain(request) or self._look_up(request)
        if isinstance(found, Response):
            return found
        if isinstance(found, Bypass):
            return await self._bypass(request, found)
        try:
            if self._collapser.collapses(found.asked) and not self._refused():
                return await self._together(found)
            if found.asked.head.method == "GET" and (found.stored is None or self._refused()):
                return await self._unconditionally(found)
            return self._landed(await self._fetch.fetch(found))
        except ProxyError as error:
            return self._stand_in_or_raise(found, error)

    def _refused(self) -> bool:
        """Whether the circuit will refuse: then there is no fetch to share and no validation to prepare."""
        return self._circuit.refusal(self._clock.monotonic(), safe=True) is not None

    def _plain(self, request: Request) -> Response | Trip | None:
        """The commonest cases, kept short: a request that asks for nothing special, and one stored answer or none."""
        head = request.head
        if request.body or request.upgrade or head.method != "GET" or not self._is_plain:
            return None
        if not self._needs_thought.isdisjoint(head.headers.index) or withheld(head.headers):
            return None
        pins = request.pins
        if pins is not None and pins.connections:
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
        return self._answers.whole(stored, now) if now < stored.expires_at else None

    def _space_of(self, request: Request) -> KeySpace:
        """Keys are about what the upstream is asked for: a forward-proxy request's path goes there untouched."""
        space = self._route.space
        return space if request.rewrite is space.rewrite or request.rewrite == space.rewrite else self._untouched

    def _is_pinned(self, request: Request) -> bool:
        """Whether its client connection has authenticated a connection to this route's upstream: that answers then."""
        pins = request.pins
        return pins is not None and self._route.upstream in pins.connections

    def _look_up(self, request: Request) -> Response | Trip | Bypass:
        head, rules, space = request.head, self._route.rules, self._space_of(request)
        directives = NO_REQUEST_DIRECTIVES
        if rules.settings.honor_request_directives:
            directives = request_directives(head.headers)
        bypassed = bypass(head, directives, rules, has_content=bool(request.body), upgrades=bool(request.upgrade))
        if bypassed is not None:
            return bypassed
        if self._is_pinned(request):
            return Bypass(Forward.BYPASS, WHY)
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
                answer = self._answers.hit(asked.head, stored, now)
                if answer.source is Source.STALE:
                    answer.stand_in = REFRESHING if refresh else ACCEPTED
                return answer
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
        answer = self._answers.hit(asked.head, stored, now, CIRCUIT_OPEN)
        answer.stand_in = PROBED_BEHIND
        return answer

    async def _together(self, trip: Trip) -> Response:
        """The upstream's answer, shared with others who want the same at the same time."""
        if self._collapser.boards(trip.asked):
            return await self._collapser.follow(trip) or await self._alone(trip)
        # Another request's fetch may have landed since this one looked.
        found = self._act(trip.request, trip.asked)
        if isinstance(found, Response):
            return found
        return await (self._collapser.lead(found) if leads(found) else self._alone(found))

    async def _unconditionally(self, trip: Trip) -> Response:
        """The answer to the client's own request: kept short for what says of itself that it is never stored."""
        token, puts = self._store.begin(trip.asked.key), self._store.puts
        asked_at = self._clock.monotonic()
        response = await self._inner.handle(trip.request)
        if trip.stored is None and response.source is Source.UPSTREAM:
            why = never_stored(response.head, self._route.rules)
            if why:
                return self._fetch.passed(trip, response, why, puts)
        return self._landed(self._fetch.answered(trip, response, asked_at, token, puts))

    async def _alone(self, trip: Trip) -> Response:
        return self._landed(await self._fetch.fetch(trip))

    def _landed(self, fetched: Fetched) -> Response:
        if isinstance(fetched, Arriving):
            limit = self._route.rules.settings.max_entry_size
            Collector(self._store, fetched.storing, limit).watch(fetched.body)
        return fetched.response

    def _stand_in_or_raise(self, trip: Trip, error: ProxyError) -> Response:
        response = self._stand_in(trip, error)
        if response is None:
            raise error
        # Whoever shares the error holds it; its traceback would hold what waited for it.
        error.__traceback__ = None
        return response

    def _stand_in(self, trip: Trip, error: ProxyError) -> Response | None:
        """The stored answer in the place of `error`, if there is one and it may (cache.md 17, 18)."""
        asked, rules = trip.asked, self._route.rules
        now = self._clock.monotonic()
        if isinstance(error, CircuitOpen):
            stored = trip.stored if trip.stored and stands_in(trip.stored, asked.directives, rules, now) else None
        elif error.outcome is Outcome.FAILURE:
            # The failure took its time: what is stored may be another answer by now, or none.
            stored = usable(self._store, asked, rules, now)
        else:
            return None
        if stored is None:
            return None
        because = _detail(error)
        answer = self._answers.hit(asked.head, stored, now, because)
        answer.stand_in = StandIn(because, "" if isinstance(error, CircuitOpen) else error.reason, error.detail)
        return answer

    async def _bypass(self, request: Request, decision: Bypass) -> Response:
        response = await self._inner.handle(request)
        space = self._space_of(request)
        invalidate_changed(self._store, space, request.head, response)
        if decision.reason is Forward.REQUEST:
            key = space.key(request.head)
            asked = Asked(request.head, NO_REQUEST_DIRECTIVES, key, space, self._route.name)
            self._fetch.went_past(asked, response)
        why = decision.why if self._route.rules.settings.debug else ""
        return self._answers.forwarded(response, Forwarded(decision.reason, detail=why))


def _detail(error: ProxyError) -> str:
    """Cache-Status detail: why a stored answer stands in."""
    if isinstance(error, CircuitOpen):
        return CIRCUIT_OPEN
    return UPSTREAM_TIMEOUT if isinstance(error, UpstreamTimeout) else UPSTREAM_ERROR


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The cache of the route around `inner`, unless the route has none."""
    shared, route = parts.shared, parts.route
    if route.cache.mode is CacheMode.OFF:
        return inner
    surroundings = Surroundings(shared.clock, shared.spawn, parts.circuit, parts.stats)
    return CacheStage(inner, shared.store, cached_route(route, shared.proxy), surroundings)
