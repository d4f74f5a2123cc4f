"""Fetching a new answer behind one that was served stale (RFC 5861 §3; cache.md 20, 21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.core.cache.conditional import validators
from sidecar.pipeline.cache.answers import CacheAnswers
from sidecar.pipeline.cache.collect import Collector, drain
from sidecar.pipeline.cache.fetch import Arriving, CacheFetch, Trip, conditional
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.stats import RouteStats

if TYPE_CHECKING:
    from sidecar.pipeline.cache.route import CachedRoute, Surroundings
    from sidecar.pipeline.ports import CacheStore, Handler


class CacheRefresh:
    """At most one refresh per key at a time; nobody waits for it, and nobody hears of its failure but the circuit."""

    __slots__ = ("_fetch", "_limit", "_store", "_surroundings", "_under_way")

    def __init__(self, inner: Handler, store: CacheStore, route: CachedRoute, surroundings: Surroundings) -> None:
        self._store = store
        self._surroundings = surroundings
        self._limit = route.rules.settings.max_entry_size
        # No client asked for this, so it is not among the results that are counted per request.
        self._fetch = CacheFetch(inner, store, route, surroundings, CacheAnswers(route, RouteStats(route.name)))
        self._under_way: set[bytes] = set()

    def behind(self, trip: Trip) -> None:
        """Start refreshing what `trip` is about, which is served stale, unless the circuit refuses now."""
        asked = trip.asked
        if asked.key in self._under_way:
            return
        if self._surroundings.circuit.refusal(self._surroundings.clock.monotonic(), safe=True) is not None:
            # The stale answer has been served for exactly this reason.
            return
        copy = conditional(trip.request, [] if trip.stored is None else validators(trip.stored))
        copy.on_interim = copy.pins = None
        copy.started = self._surroundings.clock.monotonic()
        self._under_way.add(asked.key)
        refresh = Trip(copy, asked._replace(head=copy.head), trip.reason, trip.stored)
        self._surroundings.spawn(self._run(refresh), name="cache refresh")

    async def _run(self, trip: Trip) -> None:
        try:
            fetched = await self._fetch.fetch(trip)
            if isinstance(fetched, Arriving):
                Collector(self._store, fetched.storing, self._limit).watch(fetched.body)
            await drain(fetched.response.body, self._limit)
        except ProxyError:
            # The circuit has heard of it; what is stored stays as it was.
            return
        finally:
            self._under_way.discard(trip.asked.key)
