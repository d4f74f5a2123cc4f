"""What went through the sidecar in the last ten minutes, in buckets of ten seconds: what the dashboard draws.

It is made of counters that are there anyway and that somebody reads every few seconds (`take`): a request knows nothing
of it. The newest bucket is told while it fills. The memory is bounded by the number of routes: a route that nobody asks
has no counts, one that is asked has an array of small integers, and one that is gone is forgotten.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from sidecar.core.report import window_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sidecar.core.circuit.explanation import WindowView
    from sidecar.core.report import Json

BUCKET = 10.0
"""Seconds."""
KEPT = 60
"""Buckets."""
LATELY = 3
"""Buckets that say what clients get at present: the newest, which still fills, and the two before it."""
PERCENTILES = (50, 90, 99)
NONE = -1


class RouteCounts(NamedTuple):
    """What a route has counted since it began.

    `sources`: requests by who answered them; `judged`: calls that its circuit took for successes or failures;
    `durations`: requests by the histogram's bounds; `window`: what the circuit's window holds now.
    """

    name: str
    sources: Mapping[str, int]
    judged: int
    failures: int
    durations: Sequence[int]
    cache_requests: int
    cache_hits: int
    window: WindowView


class TrafficHistory:
    """The last ten minutes. `sources` are the words for who answers, `bounds` those of the duration histograms,
    seconds; `monotonic` seconds appear as `now`.

    A reading is `begin`, `note` for each route, and `finish`; before that it is not told.
    """

    def __init__(self, sources: Sequence[str], bounds: Sequence[float]) -> None:
        self._sources = tuple(sources)
        self._bounds = tuple(bounds)
        # Of a circuit: judged, failures; requests by source. Of the total also: cache requests, cache hits; durations.
        self._of_route = 2 + len(self._sources)
        self._total = _Buckets(self._of_route + 2 + len(self._bounds) + 1)
        self._routes: dict[str, _Buckets] = {}
        self._seen: dict[str, array[int]] = {}
        self._seeing: dict[str, array[int]] = {}
        self._windows: dict[str, WindowView] = {}
        self._coming: dict[str, WindowView] = {}
        self._number = self._first = NONE
        self._now = 0.0
        self._lengths = [0.0] * KEPT
        self._listeners: list[Callable[[], None]] = []
        self.taken = 0
        """How many readings were finished."""

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each reading; returns what ends that. It must not raise."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def is_watched(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def begin(self, now: float) -> None:
        """A reading begins, made of what was counted since the one before. That belongs to one bucket, as does the time
        it took: the one with the middle of that time, or, should nobody have read for long, of its last ten seconds.
        """
        passed = 0.0 if self._number == NONE else now - self._now
        number = int((now - min(passed, BUCKET) / 2) // BUCKET)
        if self._number == NONE:
            self._number = self._first = number
        for skipped in range(max(self._number + 1, number - KEPT + 1), number + 1):
            self._lengths[skipped % KEPT] = 0.0
            for buckets in (self._total, *self._routes.values()):
                buckets.clear(skipped)
        self._now, self._number = now, number
        self._lengths[number % KEPT] += passed
        self._seeing, self._coming = {}, {}

    def note(self, route: RouteCounts) -> None:
        """Add a route's counts."""
        by_source = (route.sources.get(source, 0) for source in self._sources)
        cache = (route.cache_requests, route.cache_hits)
        counts = array("Q", (route.judged, route.failures, *by_source, *cache, *route.durations))
        self._seeing[route.name] = counts
        self._coming[route.name] = route.window
        before = self._seen.get(route.name)
        if counts != before:
            self._add(route.name, _since(counts, before))

    def finish(self) -> None:
        """The reading is whole."""
        self._seen, self._windows = self._seeing, self._coming
        self._routes = {name: kept for name, kept in self._routes.items() if name in self._seen}
        self.taken += 1
        for listener in tuple(self._listeners):
            listener()

    def _add(self, name: str, counts: Sequence[int]) -> None:
        self._total.add(self._number, counts)
        if name not in self._routes:
            self._routes[name] = _Buckets(self._of_route)
        self._routes[name].add(self._number, counts[: self._of_route])

    # Telling

    def overview(self, date: Callable[[float], str]) -> Json:
        """All circuits together: every bucket, oldest first, and lately; `date` writes a monotonic time."""
        return {
            "at": date(self._now),
            "bucket_seconds": BUCKET,
            "sources": list(self._sources),
            "buckets": [self._bucket(number, date) for number in self._numbers()],
            "lately": self._of_late(),
        }

    def circuits(self) -> Iterator[Json]:
        """What was counted of each circuit, by bucket."""
        numbers = self._numbers()
        return (self._of_circuit(name, window, numbers) for name, window in self._windows.items())

    def latest(self, date: Callable[[float], str]) -> Json:
        """The newest bucket of all circuits together, and lately."""
        return {
            "at": date(self._now),
            "bucket": self._bucket(self._number, date),
            "lately": self._of_late(),
        }

    def busy_circuits(self) -> Iterator[Json]:
        """What was counted in the newest bucket of each circuit with requests lately or in its window."""
        newest = self._numbers()[-1:]
        windows = self._windows.items()
        return (self._of_circuit(name, window, newest) for name, window in windows if self._busy(name, window))

    def _busy(self, name: str, window: WindowView) -> bool:
        if window.requests or window.consecutive_failures:
            return True
        buckets = self._routes.get(name)
        return buckets is not None and any(buckets.sum(self._numbers()[-LATELY:]))

    def _numbers(self) -> range:
        return range(max(self._first, self._number - KEPT + 1), self._number + 1) if self.taken else range(0)

    def _bucket(self, number: int, date: Callable[[float], str]) -> Json:
        return {
            "at": date(number * BUCKET),
            "seconds": self._seconds(range(number, number + 1)),
            **self._counted(self._total.row(number)),
        }

    def _of_late(self) -> Json:
        numbers = self._numbers()[-LATELY:]
        return {"seconds": self._seconds(numbers), **self._counted(self._total.sum(numbers))}

    def _seconds(self, numbers: range) -> float:
        """For how long what these buckets hold was counted."""
        return round(sum(self._lengths[number % KEPT] for number in numbers), 3)

    def _counted(self, row: Sequence[int]) -> Json:
        requests, hits, *durations = row[self._of_route :]
        return {
            "sources": self._by_source(row),
            "latency": {f"p{each}": percentile(self._bounds, durations, each / 100) for each in PERCENTILES},
            "cache": {"requests": requests, "hits": hits},
        }

    def _by_source(self, row: Sequence[int]) -> dict[str, int]:
        return {source: count for source, count in zip(self._sources, row[2:], strict=False) if count}

    def _of_circuit(self, name: str, window: WindowView, numbers: range) -> Json:
        buckets = self._routes.get(name, NOTHING)
        rows = [buckets.row(number) for number in numbers]
        return {
            "name": name,
            "requests": [sum(row[2:]) for row in rows],
            "judged": [row[0] for row in rows],
            "failures": [row[1] for row in rows],
            "lately": self._by_source(buckets.sum(self._numbers()[-LATELY:])),
            "window": window_report(window),
        }


class _Buckets:
    """Counts in `columns`, for each of the last buckets."""

    __slots__ = ("_cells", "_columns")

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._cells = array("I", [0]) * (columns * KEPT)

    def row(self, number: int) -> Sequence[int]:
        """The counts of one bucket."""
        start = number % KEPT * self._columns
        return self._cells[start : start + self._columns]

    def sum(self, numbers: range) -> list[int]:
        """The counts of several buckets."""
        return [sum(column) for column in zip(*map(self.row, numbers), strict=True)] or [0] * self._columns

    def clear(self, number: int) -> None:
        """Use the place of the oldest bucket for the newest."""
        for at in range(number % KEPT * self._columns, (number % KEPT + 1) * self._columns):
            self._cells[at] = 0

    def add(self, number: int, counts: Iterable[int]) -> None:
        """Count more in one bucket."""
        for at, count in enumerate(counts, number % KEPT * self._columns):
            self._cells[at] += count


NOTHING = _Buckets(2)
"""What a circuit has that nobody asked."""


def _since(counts: Sequence[int], before: Sequence[int] | None) -> Sequence[int]:
    """What was counted in between. A count that fell belongs to a route that began anew."""
    if before is None:
        return counts
    return [count - old if count >= old else count for count, old in zip(counts, before, strict=True)]


def percentile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value, in the unit of `bounds`, that `share` (0-1) of what a histogram counted does not exceed, as if values
    were spread evenly between two bounds; beyond the last bound it is that bound. None when nothing was counted.
    """
    totals = list(accumulate(counts))
    if not totals or not totals[-1]:
        return None
    wanted = share * totals[-1]
    at = bisect_left(totals, wanted)
    if at >= len(bounds):
        return bounds[-1]
    low = bounds[at - 1] if at else 0.0
    below = totals[at - 1] if at else 0
    return low + (bounds[at] - low) * (wanted - below) / counts[at]
