"""Collapsed forwarding: requests for one key that come while it is being fetched share that fetch (cache.md 23).

Each of them judges for itself whether it may have the answer, by Vary and by its credentials. A key whose answer could
not be shared is remembered for a while as not worth waiting for (hit-for-miss).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from sidecar.core.cache.conditional import OUR_PRECONDITIONS, validators
from sidecar.core.cache.directives import NO_REQUEST_DIRECTIVES
from sidecar.core.cache.request_policy import may_use
from sidecar.core.cache.shared_failure import may_share, shared_failure
from sidecar.core.cache.status import Forwarded
from sidecar.core.cache.vary import matches, normalized
from sidecar.core.config import CacheMode
from sidecar.pipeline.cache.collect import Collector, announce, store_body
from sidecar.pipeline.cache.fetch import UPSTREAM_ERROR, Arriving, Delivered
from sidecar.pipeline.cache.shared_fetch import Alone, Failed, Flight, Landed, Landing, Share, decline
from sidecar.pipeline.cache.shared_stream import SharedStream
from sidecar.pipeline.errors import Draining, InternalError, ProxyError
from sidecar.pipeline.exchange import BodyEnd, Response

if TYPE_CHECKING:
    from sidecar.core.cache.request_policy import Asked
    from sidecar.core.cache.stored import Draft, StoredResponse
    from sidecar.pipeline.cache.answers import CacheAnswers
    from sidecar.pipeline.cache.fetch import CacheFetch, Fetched, Trip
    from sidecar.pipeline.cache.route import CachedRoute, Surroundings
    from sidecar.pipeline.ports import CacheStore

HIT_FOR_MISS = 30.0
"""Seconds for which a key whose answer could not be shared is fetched without collapsing."""
REMEMBERED_KEYS = 4096
PERSONAL = frozenset({b"authorization"})
"""Credentials with which a request neither shares a fetch nor waits for one, unless they are in the key."""


class Collapser:
    """The flights of one route."""

    __slots__ = (
        "_answers",
        "_enabled",
        "_fetch",
        "_flights",
        "_not_shared",
        "_personal",
        "_rules",
        "_store",
        "_surroundings",
    )

    def __init__(
        self,
        fetch: CacheFetch,
        store: CacheStore,
        route: CachedRoute,
        surroundings: Surroundings,
        answers: CacheAnswers,
    ) -> None:
        self._fetch = fetch
        self._store = store
        self._rules = route.rules
        self._surroundings = surroundings
        self._answers = answers
        settings = route.rules.settings
        self._enabled = settings.collapse and settings.mode is CacheMode.STANDARD
        self._personal = PERSONAL - route.rules.credentials_keyed
        self._flights: dict[bytes, Flight] = {}
        self._not_shared: OrderedDict[bytes, float] = OrderedDict()

    def collapses(self, asked: Asked) -> bool:
        """Whether a request may wait for another's fetch, and it is worth it."""
        if not self._enabled or asked.head.method != "GET" or asked.directives is not NO_REQUEST_DIRECTIVES:
            return False
        until = self._not_shared.get(asked.key)
        if until is not None and self._surroundings.clock.monotonic() < until:
            return False
        return self._personal.isdisjoint(asked.head.headers.index)

    def boards(self, asked: Asked) -> bool:
        """Whether there is a fetch under way that `asked` could share."""
        return self._under_way(asked.key) is not None

    async def follow(self, trip: Trip) -> Response | None:
        """The answer of the fetch under way, or None when there is none that this request may have.

        An answer for another variant teaches which fields select: requests for this variant collapse among themselves.
        Raises ProxyError when the fetch failed.
        """
        share: Share = Alone()
        flight = self._under_way(trip.asked.key)
        if flight is not None:
            share = await flight.join()
        key = self._other_variant(trip.asked, share)
        if key is not None:
            decline(share)
            sibling = self._under_way(key)
            if sibling is None:
                return await self._start(key, trip).lead() if leads(trip) else None
            share = await sibling.join()
        return self._shared(trip, share)

    async def lead(self, trip: Trip) -> Response:
        """The answer of a new fetch, which others may share. Raises ProxyError."""
        return await self._start(trip.asked.key, trip).lead()

    def _under_way(self, key: bytes) -> Flight | None:
        flight = self._flights.get(key)
        return flight if flight is not None and flight.joinable else None

    def _start(self, key: bytes, trip: Trip) -> Flight:
        flight = Flight()
        if trip.request.on_interim is not None:
            trip.request.on_interim = partial(flight.interim, trip.request.on_interim)
        self._flights[key] = flight
        flight.task = self._surroundings.spawn(self._fly(key, flight, trip), name="cache fetch")
        return flight

    # What a passenger gets

    def _shared(self, trip: Trip, share: Share) -> Response | None:
        """What of `share` this request may have; None when it must ask for itself."""
        request = trip.asked.head.headers
        if isinstance(share, Failed) and may_share(share.selecting, request, self._rules):
            return self._answers.forwarded(Response(share.head, share.body), Forwarded(trip.reason, collapsed=True))
        if not isinstance(share, (Landed, Landing)):
            return None
        stored = share.entry if isinstance(share, Landed) else share.draft
        if not matches(stored.selecting, request) or not may_use(stored, request, self._rules):
            decline(share)
            return None
        now = self._surroundings.clock.monotonic()
        member = Forwarded(trip.reason, collapsed=True)
        if isinstance(share, Landing):
            lines = self._answers.validated_lines(stored, now, member)
            return Response(stored.head, share.reader, extra=lines)
        entry = share.entry
        if share.stands_in is not None:
            answer = self._answers.hit(trip.asked.head, entry, now, UPSTREAM_ERROR)
            answer.stand_in = share.stands_in
            return answer
        return self._answers.validated(trip.asked.head, entry, now, member)

    def _other_variant(self, asked: Asked, share: Share) -> bytes | None:
        """Under which key requests like `asked` collapse, when `share` is an answer for other selecting values."""
        stored = share.entry if isinstance(share, Landed) else share.draft if isinstance(share, Landing) else None
        if stored is None or matches(stored.selecting, asked.head.headers):
            return None
        index = asked.head.headers.index
        values = [(name, normalized(name, index.get(name))) for name, _ in stored.selecting]
        return asked.key + b"\n" + repr(values).encode()

    # The fetch

    async def _fly(self, key: bytes, flight: Flight, trip: Trip) -> None:
        try:
            await self._land(key, flight, trip, await self._fetch.fetch(trip))
        except ProxyError as error:
            flight.fail(error)
        except asyncio.CancelledError:
            flight.fail(Draining("the fetch was given up"))
            raise
        except BaseException:
            flight.fail(InternalError("the fetch failed in the sidecar"))
            raise
        finally:
            self._take_off_board(key, flight)

    async def _land(self, key: bytes, flight: Flight, trip: Trip, fetched: Fetched) -> None:
        if isinstance(fetched, Delivered):
            self._take_off_board(key, flight)
            flight.land(fetched.response, self._share(key, trip, fetched))
        elif self._sharable(fetched.storing.draft):
            await self._land_stream(key, flight, fetched)
        else:
            self._take_off_board(key, flight)
            self._remember(key)
            Collector(self._store, fetched.storing, self._rules.settings.max_entry_size).watch(fetched.body)
            flight.land(fetched.response, Alone())

    def _share(self, key: bytes, trip: Trip, delivered: Delivered) -> Share:
        """What others may have of an answer that is all there."""
        entry, response = delivered.entry, delivered.response
        if entry is not None and (delivered.stands_in or self._sharable(entry)):
            self._not_shared.pop(key, None)
            return Landed(entry, response.stand_in)
        if response.head.connection_bound or response.head.status not in self._rules.failures:
            self._remember(key)
            return Alone()
        selecting = shared_failure(trip.asked, response.head, self._rules)
        if selecting is None or not isinstance(response.body, bytes):
            return Alone()
        return Failed(response.head, response.body, selecting)

    async def _land_stream(self, key: bytes, flight: Flight, arriving: Arriving) -> None:
        stream = SharedStream(arriving.body, self._rules.settings.max_entry_size, flight.desert)
        storing = arriving.storing
        announce(self._store, storing)
        flight.land_stream(arriving.response, storing.draft, stream)
        try:
            body = await stream.pump()
        except asyncio.CancelledError:
            store_body(self._store, storing, None, BodyEnd.ABANDONED)
            raise
        store_body(self._store, storing, body, stream.end)
        if body is None and not stream.joinable:
            self._remember(key)

    def _sharable(self, entry: StoredResponse | Draft) -> bool:
        """Whether one who asked before `entry` was there may have it without asking again (RFC 9111 §4)."""
        return self._surroundings.clock.monotonic() < entry.expires_at and not entry.rules.always_validate

    def _remember(self, key: bytes) -> None:
        self._not_shared[key] = self._surroundings.clock.monotonic() + HIT_FOR_MISS
        self._not_shared.move_to_end(key)
        if len(self._not_shared) > REMEMBERED_KEYS:
            self._not_shared.popitem(last=False)

    def _take_off_board(self, key: bytes, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def leads(trip: Trip) -> bool:
    """Whether the answer to this request is one for others too: it asks for the whole, without own preconditions.

    A revalidation replaces the client's preconditions by the stored validators.
    """
    if trip.stored is not None and validators(trip.stored):
        return True
    return OUR_PRECONDITIONS.isdisjoint(trip.asked.head.headers.index)
