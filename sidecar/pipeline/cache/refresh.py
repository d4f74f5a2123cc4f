"""Fetching a new answer behind one that was served stale (RFC 5861 §3; cache.md 20, 21)."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

from sidecar.core.cache.conditional import validators
from sidecar.pipeline.cache.answers import CacheAnswers
from sidecar.pipeline.cache.collect import drain
from sidecar.pipeline.cache.fetch import Fetcher, UpstreamFetch, conditional
from sidecar.pipeline.errors import ProxyError
from sidecar.pipeline.stats import RouteStats

if TYPE_CHECKING:
    from sidecar.pipeline.cache.route import CachedRoute, CacheParts, CircuitView
    from sidecar.pipeline.message import Request
    from sidecar.pipeline.ports import Handler


class BackgroundRefresh:
    """At most one refresh per key at a time; nobody waits for it, and nobody hears of its failure but the circuit."""

    __slots__ = ("_circuit", "_clock", "_fetcher", "_limit", "_spawn", "_timeouts", "_under_way")

    def __init__(self, inner: Handler, route: CachedRoute, circuit: CircuitView, shared: CacheParts) -> None:
        self._circuit = circuit
        self._clock = shared.clock
        self._spawn = shared.spawn
        self._timeouts = route.timeouts
        self._limit = route.rules.settings.max_entry_size
        # No client asked for this, so it is not among the results that are counted per request.
        self._fetcher = Fetcher(inner, route, shared, CacheAnswers(route, RouteStats(route.name)))
        self._under_way: set[bytes] = set()

    def start(self, fetch: UpstreamFetch) -> None:
        """Refresh what `fetch` is about, which is served stale, unless the circuit refuses now."""
        key, stored = fetch.keyed.key, fetch.stored
        if key in self._under_way:
            return
        if self._circuit.peek(self._clock.monotonic(), safe=True) is not None:
            # The stale answer has been served for exactly this reason.
            return
        preconditions = [] if stored is None else validators(stored)
        copy = conditional(fetch.request, preconditions)
        copy.on_interim = copy.pins = None
        copy.started = self._clock.monotonic()
        self._set_deadline(copy)
        self._under_way.add(key)
        keyed = replace(fetch.keyed, head=copy.head)
        refresh = replace(fetch, request=copy, keyed=keyed, preconditions=preconditions, shareable=False)
        self._spawn(self._run(refresh), name="cache refresh")

    def _set_deadline(self, copy: Request) -> None:
        """The route's own: the client does not wait for this."""
        total, field = self._timeouts.total, self._timeouts.deadline_header
        copy.deadline = inf if total is None else copy.started + total
        if field is not None:
            copy.head = replace(copy.head, headers=copy.head.headers.without({field.encode()}))

    async def _run(self, fetch: UpstreamFetch) -> None:
        try:
            response = self._fetcher.collected(await self._fetcher.fetch(fetch))
            await drain(response.body, self._limit)
        except ProxyError:
            # The circuit has heard of it; what is stored stays as it was.
            return
        finally:
            self._under_way.discard(fetch.keyed.key)
