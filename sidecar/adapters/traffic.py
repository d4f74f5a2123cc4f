"""Reads the data plane's counters now and then into the history that the dashboard draws (`core/traffic.py`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sidecar.core.cache.status import HIT, HIT_STALE
from sidecar.core.traffic import BUCKET, RouteCounts, TrafficHistory
from sidecar.pipeline.slices import in_slices
from sidecar.pipeline.source import Source
from sidecar.pipeline.stats import BOUNDS, RouteStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from sidecar.pipeline.data_plane import CircuitReading, DataPlanePort

INTERVAL = 2.0
"""Seconds between two readings while somebody watches; else there is one for each bucket."""


class TrafficSampler:
    """Reads for as long as `run` does; between two routes the loop serves requests. `monotonic` is the time."""

    def __init__(self, plane: DataPlanePort, monotonic: Callable[[], float]) -> None:
        self._plane = plane
        self._monotonic = monotonic
        self._reading = asyncio.Lock()
        self._due = 0.0
        self.history = TrafficHistory([source.label for source in Source], BOUNDS)

    async def run(self) -> None:
        """Read for as long as the task lives."""
        while True:
            if self.history.is_watched or self._monotonic() >= self._due:
                await self.read()
            await asyncio.sleep(INTERVAL)

    async def read(self) -> None:
        """Read once."""
        async with self._reading:
            readings = {reading.snapshot.name: reading for reading in await self._plane.circuits.readings()}
            stats = await self._plane.stats()
            now = self._monotonic()
            self._due = (now // BUCKET + 1) * BUCKET
            self.history.begin(now)
            await in_slices(self._note(stats.routes, readings), self._monotonic)
            self.history.finish()

    def _note(self, routes: Iterable[RouteStats], readings: Mapping[str, CircuitReading]) -> Iterator[None]:
        by_name = {route.name: route for route in routes}
        for name, reading in readings.items():
            # A circuit may stand before something else than a route: then clients get nothing by its name.
            self.history.note(_counts(by_name.get(name) or RouteStats(name), reading))
            yield


def _counts(route: RouteStats, reading: CircuitReading) -> RouteCounts:
    sources: dict[str, int] = {}
    for (_, _, source), count in route.requests.items():
        sources[source] = sources.get(source, 0) + count
    calls = reading.counters.calls
    results = route.cache_results
    return RouteCounts(
        route.name,
        sources,
        judged=calls["success"] + calls["failure"],
        failures=calls["failure"],
        durations=route.durations.counts,
        cache_requests=sum(results.values()),
        cache_hits=results.get(HIT, 0) + results.get(HIT_STALE, 0),
        window=reading.snapshot.window,
    )
