"""The cache around an upstream and its circuit: answers from the store, and lets a stored answer stand in.

What is decided is in `core.cache`; here it is carried out. A request takes one of these ways, looked for in this order:

1. Bypass. It has no business with the store: its method, a body, an upgrade, a field that nobody keys, a client
   connection that authenticates its user. The stage within answers; a successful unsafe request then invalidates.
2. From the store. One stored answer is selected by Vary and may be used: fresh, or stale where somebody allows that
   (then a refresh may start behind it), or while a half-open circuit probes behind it.
3. Direct. Nothing of use is stored, and nobody else may share the answer; or the circuit will refuse anyway. The stage
   within is asked with the client's own request.
4. Shared. Others who want the same at the same time wait for one fetch, which runs in a task of its own (`collapse`).
5. Conditional. What is stored is stale and has a validator: the upstream is asked whether it is still good (`fetch`).

Where a fleet shares its stored answers, what finds nothing of use in memory on way 2 looks into the fleet's store
before it takes another (`_look_behind`).

When 3 to 5 raise because the upstream cannot answer, what is stored stands in, if it may; else the error goes on.

What must never happen:

- An answer is stored that was asked for before its key was invalidated or purged. Each fetch takes a token from the
  store before the stage within is asked, and a store refuses what comes with one that is too old.
- The stage within is passed over because the circuit will refuse. It is the circuit that refuses and counts it; here
  one only saves the trouble of sharing or validating.
- A body is stored that did not end complete, or a stored answer is changed: a refresh makes a new one.
- Something stored stands in for an error that is neither a failure of the upstream nor a refusal to ask it, or for a
  request whose own directives exclude it.

Why it is cheap: nearly every request is a GET that asks for nothing special, which one pass over the names of its
fields tells. For such a one the store is looked at once; a fresh answer has its head prepared; a request that goes on
directly is awaited in `handle` itself, and an answer that says `no-store` or `private` of itself is passed on without
a decision being made of it. All that is rare goes by way of the decision objects in `core.cache`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from sidecar.core.cache.conditional import validators
from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES, request_directives
from sidecar.core.cache.request_policy import (
    BY_METHOD,
    SERVED_METHODS,
    Bypass,
    Fetch,
    KeyedRequest,
    Revalidate,
    Serve,
    Unavailable,
    bypass,
    exceptional_fields,
    on_request,
    on_selected,
    stands_in,
)
from sidecar.core.cache.sharing import CREDENTIALS, may_use
from sidecar.core.cache.status import Forward
from sidecar.core.cache.vary import select
from sidecar.core.config import CacheMode
from sidecar.core.http.connection_auth import WHY, of_a_request
from sidecar.core.http.heads import SAFE_METHODS
from sidecar.pipeline.cache.answers import CacheAnswers
from sidecar.pipeline.cache.collapse import Collapser, leads
from sidecar.pipeline.cache.fetch import UPSTREAM_ERROR, Fetcher, UpstreamFetch, usable
from sidecar.pipeline.cache.invalidation import invalidate_changed
from sidecar.pipeline.cache.refresh import BackgroundRefresh
from sidecar.pipeline.cache.route import CacheParts, cached_route
from sidecar.pipeline.errors import (
    BulkheadFull,
    CircuitOpen,
    GatewayTimeoutByDirective,
    ProxyError,
    UpstreamError,
    UpstreamTimeout,
    forget_frames,
)
from sidecar.pipeline.message import NO_REWRITE, Response, StandIn
from sidecar.pipeline.source import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.core.cache.key import KeySpace
    from sidecar.core.cache.request_policy import RequestDecision
    from sidecar.core.cache.stored import StoredResponse
    from sidecar.pipeline.cache.route import CachedRoute, CircuitView
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.ports import Handler, SharedLook
    from sidecar.pipeline.stage import RouteParts
    from sidecar.pipeline.stats import RouteStats

CIRCUIT_OPEN = "circuit_open"
UPSTREAM_TIMEOUT = "upstream_timeout"
PROBED_BEHIND = StandIn(CIRCUIT_OPEN, detail="the circuit is half-open and probes behind this answer")
REFRESHING = StandIn("stale_while_revalidate")
ACCEPTED = StandIn("max_stale")
"""The client's own Cache-Control takes it stale."""
_KEEP_ALIVE = b"keep-alive"


class CacheStage:
    """The shared cache of one route (RFC 9111)."""

    __slots__ = (
        "_answers",
        "_asks_always",
        "_circuit",
        "_collapser",
        "_credentials",
        "_exceptional",
        "_fetcher",
        "_inner",
        "_is_plain",
        "_key_prefix",
        "_monotonic",
        "_name",
        "_refresh",
        "_rewrite",
        "_route",
        "_rules",
        "_shared",
        "_shares_no_credentials",
        "_space",
        "_store",
        "_untouched",
    )

    def __init__(
        self, inner: Handler, route: CachedRoute, circuit: CircuitView, stats: RouteStats, cache_parts: CacheParts
    ) -> None:
        self._inner = inner
        self._route = route
        self._name = route.name
        self._rules = route.rules
        self._space = route.space
        self._rewrite = route.space.rewrite
        self._key_prefix = route.space.prefix
        self._untouched = replace(route.space, rewrite=NO_REWRITE)
        self._circuit = circuit
        self._store = cache_parts.store
        self._shared = cache_parts.shared
        self._monotonic = cache_parts.clock.monotonic
        self._answers = CacheAnswers(route, stats)
        self._fetcher = Fetcher(inner, route, cache_parts, self._answers)
        self._collapser = Collapser(self._fetcher, route, cache_parts, self._answers)
        self._refresh = BackgroundRefresh(inner, route, circuit, cache_parts)
        self._exceptional = exceptional_fields(route.rules)
        self._credentials = CREDENTIALS - route.rules.credentials_keyed
        self._shares_no_credentials = b"authorization" in self._credentials
        settings = route.rules.settings
        self._asks_always = settings.mode is CacheMode.FALLBACK
        self._is_plain = settings.mode is CacheMode.STANDARD and not settings.debug

    async def handle(self, request: Request) -> Response:
        """The answer, stored or from upstream. Raises what the inner handler raises when nothing stored stands in, and
        GatewayTimeoutByDirective.
        """
        found = self._look_up(request) if self._shared is None else await self._look_behind(self._shared, request)
        if isinstance(found, Response):
            return found
        if isinstance(found, Bypass):
            return self._bypassed(request, found, await self._inner.handle(request))
        try:
            if found.shareable or found.preconditions:
                return await self._share_or_validate(found)
            response = await self._inner.handle(request)
        except ProxyError as error:
            return self._stand_in_or_raise(found, error)
        answer = self._fetcher.received(found, response)
        if self._shared is not None and self._asks_always and not self._is_known(found):
            self._collapser.remember(found.keyed.key)
        return answer

    def _is_known(self, fetch: UpstreamFetch) -> bool:
        """Whether there is an answer to its key in memory, or on its way there."""
        return fetch.keyed.key in self._store.arriving or bool(self._store.get(fetch.keyed.key))

    # Looking at the store

    def _look_up(self, request: Request) -> Response | UpstreamFetch | Bypass:
        """What is stored, or how to ask for it. Raises GatewayTimeoutByDirective.

        Decided here is only what is common: a GET without content or fields that ask for anything but the whole.
        """
        head, pins = request.head, request.pins
        if head.method not in SERVED_METHODS:
            return BY_METHOD
        index = head.headers.index
        credentials = index.get(b"authorization")
        if (
            head.method == "HEAD"
            or request.body
            or request.upgrade
            or request.rewrite is not self._rewrite
            or (pins is not None and pins.connections)
            or index.get(b"connection", _KEEP_ALIVE) != _KEEP_ALIVE
            or not self._exceptional.isdisjoint(index)
            or (credentials is not None and not of_a_request(credentials))
            or not self._is_plain
        ):
            return self._look_up_exception(request)
        prefix, store, monotonic = self._key_prefix, self._store, self._monotonic
        key = self._space.key(head) if prefix is None else prefix + head.target
        variants = store.get(key)
        if variants:
            return self._answer_from(request, key, variants)
        keyed = KeyedRequest(head, NO_REQUEST_DIRECTIVES, key, self._space, self._name)
        if credentials is not None and self._shares_no_credentials:
            return UpstreamFetch(request, keyed, Forward.URI_MISS, None, store.begin(key), store.puts, monotonic())
        return self._to_fetch(request, keyed, Forward.URI_MISS)

    async def _look_behind(self, shared: SharedLook, request: Request) -> Response | UpstreamFetch | Bypass:
        """What is stored here or in the fleet's store, or how to ask for it. That store is waited for where memory has
        nothing of use, and brings into memory what it has. Raises GatewayTimeoutByDirective.
        """
        try:
            found = self._look_up(request)
        except GatewayTimeoutByDirective:
            if not await shared.look(self._space_of(request).key(request.head)):
                raise
            return self._look_up(request)
        if isinstance(found, Response):
            return found
        if isinstance(found, Bypass):
            if found.reason is Forward.REQUEST:
                shared.unknown(self._space_of(request).key(request.head))
            return found
        if self._may_be_behind(found):
            if await shared.look(found.keyed.key) or found.stored is not None:
                # Memory has something else by now, or what it had may have been purged meanwhile.
                return self._look_up(request)
            found.begin(self._store, self._monotonic())
        return found

    def _may_be_behind(self, fetch: UpstreamFetch) -> bool:
        """Whether a look is worth its while: not where another request fetches the same, not for what nobody else may
        have, not for something younger than what the circuit lets nobody ask for.
        """
        keyed, stored = fetch.keyed, fetch.stored
        if self._collapser.is_not_shared(keyed.key) or (fetch.shareable and self._collapser.is_fetching(keyed)):
            return False
        if stored is None:
            return True
        if self._asks_always:
            return False
        return not stored.rules.always_validate and self._circuit.peek(self._monotonic(), safe=True) is None

    def _answer_from(
        self, request: Request, key: bytes, variants: Sequence[StoredResponse]
    ) -> Response | UpstreamFetch:
        """A fresh one of `variants`, or how to ask for another."""
        headers, now = request.head.headers, self._monotonic()
        stored = select(variants, headers)
        if (
            stored is not None
            and now < stored.expires_at
            and not stored.rules.always_validate
            and (self._credentials.isdisjoint(headers.index) or may_use(stored, headers, self._rules))
        ):
            return self._answers.whole(stored, now)
        keyed = KeyedRequest(request.head, NO_REQUEST_DIRECTIVES, key, self._space, self._name)
        if stored is None:
            return self._to_fetch(request, keyed, Forward.VARY_MISS)
        decision = on_selected(headers, NO_REQUEST_DIRECTIVES, stored, self._rules, now)
        return self._carry_out(decision, request, keyed, now)

    def _look_up_exception(self, request: Request) -> Response | UpstreamFetch | Bypass:
        """What is stored, or how to ask for it, whatever the request. Raises GatewayTimeoutByDirective."""
        head, rules, space = request.head, self._rules, self._space_of(request)
        directives = NO_REQUEST_DIRECTIVES
        if rules.settings.honor_request_directives:
            directives = request_directives(head.headers)
        bypassed = bypass(head, directives, rules, has_content=bool(request.body), upgrades=bool(request.upgrade))
        if bypassed is not None:
            return bypassed
        if self._is_pinned(request):
            return Bypass(Forward.BYPASS, WHY)
        keyed = KeyedRequest(head, directives, space.key(head), space, self._route.name)
        now = self._monotonic()
        decision = on_request(head.headers, directives, self._store.get(keyed.key), rules, now)
        return self._carry_out(decision, request, keyed, now)

    def _space_of(self, request: Request) -> KeySpace:
        """Keys are about what the upstream is asked for: a forward-proxy request's path goes there untouched."""
        return self._space if request.rewrite == self._rewrite else self._untouched

    def _is_pinned(self, request: Request) -> bool:
        """Whether its client connection has authenticated a connection to this route's upstream: that answers then."""
        pins = request.pins
        return pins is not None and self._route.upstream in pins.connections

    def _carry_out(
        self, decision: RequestDecision, request: Request, keyed: KeyedRequest, now: float
    ) -> Response | UpstreamFetch:
        """Act on a decision taken `now`. Raises GatewayTimeoutByDirective."""
        match decision:
            case Revalidate(stored, reason):
                if self._circuit.probing(now) and stands_in(stored, keyed.directives, self._rules, now):
                    return self._serve_while_probing(self._to_fetch(request, keyed, reason, stored), stored, now)
                return self._to_fetch(request, keyed, reason, stored)
            case Fetch(reason):
                return self._to_fetch(request, keyed, reason)
            case Serve(stored, refresh):
                if refresh:
                    self._refresh.start(self._to_fetch(request, keyed, Forward.STALE, stored))
                answer = self._answers.hit(keyed.head, stored, now)
                if answer.source is Source.STALE:
                    answer.stand_in = REFRESHING if refresh else ACCEPTED
                return answer
            case Unavailable():
                raise GatewayTimeoutByDirective("nothing stored is of use, and the client wants nothing else")
            case _:
                assert_never(decision)

    def _serve_while_probing(self, fetch: UpstreamFetch, stored: StoredResponse, now: float) -> Response:
        """The stale answer at once, while a half-open circuit probes behind it (cache.md 21)."""
        self._refresh.start(fetch)
        answer = self._answers.hit(fetch.keyed.head, stored, now, CIRCUIT_OPEN)
        answer.stand_in = PROBED_BEHIND
        return answer

    def _to_fetch(
        self, request: Request, keyed: KeyedRequest, reason: Forward, stored: StoredResponse | None = None
    ) -> UpstreamFetch:
        """How the upstream is asked: shared with others, conditionally, or directly with the client's own request."""
        store, now = self._store, self._monotonic()
        fetch = UpstreamFetch(request, keyed, reason, stored, store.begin(keyed.key), store.puts, now)
        if keyed.head.method == "GET" and self._circuit.peek(now, safe=True) is None:
            # Where the circuit will refuse there is no fetch to share, and no validation to prepare.
            fetch.shareable = self._collapser.collapses(keyed)
            if stored is not None:
                fetch.preconditions = validators(stored)
        return fetch

    # What comes of it

    async def _share_or_validate(self, fetch: UpstreamFetch) -> Response:
        """The upstream's answer, shared with others who want the same at the same time where that can be."""
        if fetch.shareable and self._collapser.is_fetching(fetch.keyed):
            shared = await self._collapser.join(fetch)
            if shared is not None:
                return shared
        elif fetch.shareable and leads(fetch):
            return await self._collapser.lead(fetch)
        return self._fetcher.collected(await self._fetcher.fetch(fetch))

    def _stand_in_or_raise(self, fetch: UpstreamFetch, error: ProxyError) -> Response:
        """The stored answer in the place of `error`, if there is one and it may (cache.md 17, 18); else `error`."""
        keyed, rules, stored = fetch.keyed, self._rules, fetch.stored
        now = self._monotonic()
        refused = isinstance(error, CircuitOpen)
        if refused:
            if stored is not None and not stands_in(stored, keyed.directives, rules, now):
                stored = None
        else:
            # The failure took its time: what is stored may be another answer by now, or none.
            stored = usable(self._store, keyed, rules, now) if error.stale_instead else None
        if stored is None:
            raise error
        # Whoever shares the error holds it; its traceback would hold what waited for it.
        forget_frames(error)
        because = CIRCUIT_OPEN if refused else _detail(error)
        answer = self._answers.hit(keyed.head, stored, now, because)
        answer.stand_in = StandIn(because, error.reason if isinstance(error, UpstreamError) else "", error.detail)
        return answer

    def _bypassed(self, request: Request, bypassed: Bypass, response: Response) -> Response:
        """The answer to a request that had no business with the store, with what it changes there."""
        head = request.head
        space = self._space if request.rewrite is self._rewrite else self._space_of(request)
        if head.method not in SAFE_METHODS:
            invalidate_changed(self._store, space, head, response)
        elif bypassed.reason is Forward.REQUEST:
            keyed = KeyedRequest(head, NO_REQUEST_DIRECTIVES, space.key(head), space, self._name)
            self._fetcher.went_past(keyed, response)
        return self._answers.passed(response, bypassed.reason, bypassed.why)


def _detail(error: ProxyError) -> str:
    """Cache-Status detail: why a stored answer stands in."""
    if isinstance(error, BulkheadFull):
        return error.reason
    return UPSTREAM_TIMEOUT if isinstance(error, UpstreamTimeout) else UPSTREAM_ERROR


def around(inner: Handler, parts: RouteParts) -> Handler:
    """The cache of the route around `inner`, unless the route has none."""
    shared, route = parts.shared, parts.route
    if route.cache.mode is CacheMode.OFF:
        return inner
    cache_parts = CacheParts(shared.store, shared.clock, shared.spawn, shared.shared_store)
    return CacheStage(inner, cached_route(route, shared.proxy), parts.circuit, parts.stats, cache_parts)
